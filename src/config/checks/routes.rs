//! Warnings about routes, listeners and backends that are probably not meant so.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::{asked, backends};
use crate::backend::{Target, Via};
use crate::config::notes::Notes;
use crate::config::path::Path;
use crate::config::{Backend, Listener};
use crate::routing::{Pattern, Route};

/// A route as far as it could be read.
pub(in crate::config) struct Read {
    pub(in crate::config) route: Route,
    /// Whether it has every condition that it has in the file.
    pub(in crate::config) has_its_conditions: bool,
    /// Whether its backend and its listeners are those of the file.
    pub(in crate::config) has_its_names: bool,
}

/// Adds the warnings, also if there are faults or if routes tie.
pub(in crate::config) fn routes(
    routes: &[Read],
    listeners: &[Listener],
    backends: &[Backend],
    notes: &mut Notes<'_>,
) {
    let are_whole = notes.lost.is_whole(&Path::of(&["routes"]));
    if !routes.is_empty() && are_whole && routes.iter().all(|read| read.has_its_names) {
        unused_backends(routes, backends, notes);
        unused_listeners(routes, listeners, notes);
    }
    for Read { route, .. } in routes {
        if !route.alpn.is_empty() {
            notes.warn(
                &Path::of(&["routes", &route.name, "alpn"]),
                "an Elastic Agent that connects directly offers no ALPN, and is not taken"
                    .to_owned(),
                "leave it out, or write a second route without it",
            );
        }
    }
    unheard_ports(routes, listeners, notes);
    open_to_a_proxy(routes, backends, notes);
    own_names(routes, backends, notes);
    asked::names(routes, backends, notes);
}

fn unused_backends(routes: &[Read], backends: &[Backend], notes: &mut Notes<'_>) {
    let used: HashSet<usize> = routes.iter().map(|read| read.route.backend).collect();
    for (index, backend) in backends.iter().enumerate() {
        if !used.contains(&index) {
            notes.warn(
                &Path::of(&["backends", &backend.name]),
                "no route leads to this backend".to_owned(),
                "write a route to it, or leave it out",
            );
        }
    }
}

fn unused_listeners(routes: &[Read], listeners: &[Listener], notes: &mut Notes<'_>) {
    if routes.iter().any(|read| read.route.listeners.is_empty()) {
        return;
    }
    let reached: HashSet<&str> = (routes.iter().flat_map(|read| &read.route.listeners))
        .map(|name| &**name)
        .collect();
    for listener in listeners {
        if !reached.contains(&*listener.name) {
            notes.warn(
                &Path::of(&["listeners", &listener.name]),
                "no route takes connections of this listener".to_owned(),
                "name it in the listeners of a route, or leave it out",
            );
        }
    }
}

/// A route for names that nobody has listed, to a backend whose names only a proxy knows.
fn open_to_a_proxy(routes: &[Read], backends: &[Backend], notes: &mut Notes<'_>) {
    for Read { route, .. } in routes.iter().filter(|read| read.has_its_names) {
        let backend = backends.get(route.backend);
        if backend.is_none_or(|backend| !backends::is_resolved_by_proxy(backend, notes)) {
            continue;
        }
        let list = Path::of(&["routes", &route.name, "server_names"]);
        let is_wildcard = |pattern: &Pattern| !matches!(pattern, Pattern::Exact(_));
        if let Some(index) = route.server_names.iter().position(is_wildcard) {
            notes.warn(
                &notes.element(&list, index),
                "a wildcard leads through the proxy in via, which alone decides what it reaches: portway \
                 cannot keep clients from what lies behind it"
                    .to_owned(),
                "write the names of the servers one by one",
            );
        }
    }
}

/// Ports of a route at which none of its listeners listens.
fn unheard_ports(routes: &[Read], listeners: &[Listener], notes: &mut Notes<'_>) {
    let known: HashMap<&str, HashSet<u16>> = (listeners.iter())
        .filter_map(|listener| Some((&*listener.name, ports(listener, notes)?)))
        .collect();
    let has_all = notes.lost.is_whole(&Path::of(&["listeners"])) && known.len() == listeners.len();
    let all: Option<HashSet<u16>> = has_all.then(|| known.values().flatten().copied().collect());
    let with_ports = |read: &&Read| read.has_its_names && !read.route.ports.is_empty();
    for Read { route, .. } in routes.iter().filter(with_ports) {
        let heard = if route.listeners.is_empty() {
            all.clone()
        } else {
            let of_each = route.listeners.iter().map(|name| known.get(&**name));
            let of_each: Option<Vec<&HashSet<u16>>> = of_each.collect();
            of_each.map(|ports| ports.into_iter().flatten().copied().collect())
        };
        let Some(heard) = heard else { continue };
        let list = Path::of(&["routes", &route.name, "ports"]);
        for (index, port) in route.ports.iter().enumerate() {
            if !heard.contains(port) {
                notes.warn(
                    &notes.element(&list, index),
                    format!("no listener of this route listens at port {port}"),
                    "add an address with this port to the bind of a listener; where a Service or a \
                     firewall maps ports, write the port of portway's own address",
                );
            }
        }
    }
}

/// The ports of a listener, if the file shows all of them: with port 0 the kernel chooses one, and a balancer may say
/// another one.
fn ports(listener: &Listener, notes: &Notes<'_>) -> Option<HashSet<u16>> {
    let bind = Path::of(&["listeners", &listener.name, "bind"]);
    let ports: HashSet<u16> = listener.bind.iter().map(SocketAddr::port).collect();
    let header = Path::of(&["listeners", &listener.name, "proxy_protocol"]);
    let is_told = !listener.balancers.is_empty() || !notes.lost.is_whole(&header);
    if listener.protocol.is_proxy() || is_told {
        return None;
    }
    let is_whole = !notes.lost.has(&bind) && !notes.left.contains_key(&bind);
    (is_whole && !ports.contains(&0)).then_some(ports)
}

/// An endpoint under the very name that clients use. That name leads clients to portway, and most often it leads
/// portway there too. A name that only a wildcard takes is not such a sign: the nodes of a cluster have names of
/// their own below the one that clients use, and `**` takes every name.
fn own_names(routes: &[Read], backends: &[Backend], notes: &mut Notes<'_>) {
    let mut names: HashMap<&str, Path> = HashMap::new();
    for Read { route, .. } in routes {
        let list = Path::of(&["routes", &route.name, "server_names"]);
        for (index, pattern) in route.server_names.iter().enumerate() {
            if let Pattern::Exact(name) = pattern {
                let place = || notes.element(&list, index);
                names.entry(name.as_str()).or_insert_with(place);
            }
        }
    }
    for backend in backends {
        for (place, dialled) in super::dialled(backend, notes) {
            let Target::Name { host, .. } = dialled else {
                continue;
            };
            let is_proxy = backend.via.as_ref().map(Via::proxy) == Some(dialled);
            let help = if is_proxy {
                "write the address of the proxy, or a name by which portway's host finds it"
            } else if backend.names.resolver.is_some() {
                // Its DNS servers were chosen because they lead to the server.
                continue;
            } else {
                "write the address of the server, a name by which portway's host finds the server, or a \
                 resolver with DNS servers that know it"
            };
            if let Some(name) = names.get(host.strip_suffix('.').unwrap_or(host)) {
                notes.warn_of_both(
                    [&place, name],
                    format!(
                        "clients reach portway by the name {host}: if portway looks it up and finds \
                         itself too, no connection gets further"
                    ),
                    help,
                );
            }
        }
    }
}
