//! Faults and warnings about the names of endpoints, and the networks that they may lead to.

use std::net::SocketAddr;

use crate::backend::allowed::special;
use crate::backend::{Allowed, Target, Via};
use crate::config::Backend;
use crate::config::notes::Notes;
use crate::config::path::Path;

pub(super) fn names(backend: &Backend, notes: &mut Notes<'_>) {
    let endpoints = Path::of(&["backends", &backend.name, "endpoints"]);
    let networks = Path::of(&["backends", &backend.name, "allow_networks"]);
    let is_whole = |list: &Path| !notes.lost.has(list) && !notes.left.contains_key(list);
    let [all_endpoints, all_networks] = [is_whole(&endpoints), is_whole(&networks)];
    let is_address = |target: &Target| matches!(target, Target::Address(_));
    let asks_nobody = backend.endpoints.iter().all(is_address) && !backend.endpoints.is_empty();
    // Behind a proxy it also decides that the proxy gets addresses.
    let is_for_names = backend.names.resolver.is_some() && backend.via.is_none();
    if is_for_names && asks_nobody && all_endpoints {
        notes.warn(
            &Path::of(&["backends", &backend.name, "resolver"]),
            "every endpoint of this backend is an address, so no DNS server is asked".to_owned(),
            "leave it out, or write the names of the servers as endpoints",
        );
    }
    if all_networks && backend.resolving_proxy().is_none() {
        addresses(backend, &endpoints, notes);
    }
}

/// Whether the file has a resolver for the backend, or may have had one before parts of it were lost.
pub(super) fn may_have_resolver(backend: &Backend, notes: &Notes<'_>) -> bool {
    let table = Path::of(&["backends", &backend.name]);
    let resolver = table.key("resolver");
    backend.names.resolver.is_some()
        || notes.lost.may_have(&table, &["resolver"])
        || notes.lost.has(&resolver.key("servers"))
        || notes.lost.is_unclear(&resolver)
        || notes
            .table(&["backends", &backend.name, "resolver"])
            .is_some()
}

/// Whether the names of the endpoints go to the proxy in `via`, which resolves them.
pub(super) fn is_resolved_by_proxy(backend: &Backend, notes: &Notes<'_>) -> bool {
    backend.via.is_some() && !may_have_resolver(backend, notes)
}

/// The networks of endpoints that only the proxy in `via` knows the addresses of.
pub(super) fn networks_behind_a_proxy(backend: &Backend, notes: &mut Notes<'_>) {
    if backend.names.allowed != Allowed::Servers && is_resolved_by_proxy(backend, notes) {
        notes.fault(
            &Path::of(&["backends", &backend.name, "allow_networks"]),
            "the proxy in via resolves the names of the endpoints, and portway does not learn their addresses to \
             judge them"
                .to_owned(),
            "write a resolver, so that portway resolves them and gives addresses to the proxy; or leave \
             allow_networks out, and let the rules of the proxy say where it may connect to",
        );
    }
}

/// Checks of endpoints that are the name that the client asks for.
pub(super) fn checks(backend: &Backend, notes: &mut Notes<'_>) {
    let health = Path::of(&["backends", &backend.name, "health"]);
    if let Some(asked) = backend.endpoints.iter().find(|one| one.is_asked())
        && notes
            .table(&["backends", &backend.name, "health"])
            .is_some()
    {
        notes.fault(
            &health,
            format!("{asked} is as many servers as clients ask for, so portway cannot check it"),
            "leave health out, or write the names of the servers as endpoints",
        );
    }
    alone(backend, notes);
}

/// Connections that end for a better place, where there is only one.
fn alone(backend: &Backend, notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["backends", &backend.name, key]);
    let [list, via] = [path("endpoints"), path("via")];
    let is_whole = |key: &Path| !notes.lost.has(key) && !notes.left.contains_key(key);
    if !backend.leaving.if_unhealthy || !is_whole(&list) || !is_whole(&via) {
        return;
    }
    // Behind a proxy that gets its name, an endpoint is at as many places as the proxy has addresses.
    let dialled = |only| backend.resolving_proxy().map_or(only, Via::proxy);
    // One that drains is a place too: its connections end if the other one is healthy.
    if let [only] = &*backend.endpoints
        && !only.is_asked()
        && matches!(dialled(only), Target::Address(_))
    {
        notes.warn(
            &path("close_on"),
            format!("{only} is the only place for connections, so \"unhealthy\" ends none: there is no better one"),
            "add another endpoint, or leave \"unhealthy\" out",
        );
    }
}

/// Endpoints that are addresses outside the networks of their backend.
fn addresses(backend: &Backend, endpoints: &Path, notes: &mut Notes<'_>) {
    let allowed = &backend.names.allowed;
    match allowed {
        // Each address has been judged as it was read, and is not beside a name that the client asks for.
        Allowed::Servers | Allowed::Public => return,
        Allowed::Networks(_) => {}
    }
    for (index, endpoint) in backend.endpoints.iter().enumerate() {
        let Target::Address(address) = endpoint else {
            continue;
        };
        if allowed.permits(address.ip()) {
            continue;
        }
        let help = match special(address.ip()) {
            Some(range) => format!(
                "add a network inside {range} to allow_networks: a wider one does not permit such an address"
            ),
            None => "add its network to allow_networks, or leave the endpoint out".to_owned(),
        };
        notes.fault(
            &notes.element(endpoints, index),
            format!("allow_networks excludes {address}"),
            help,
        );
    }
}

/// A backend that gets no new connections.
pub(super) fn roles(backend: &Backend, notes: &mut Notes<'_>) {
    let list = Path::of(&["backends", &backend.name, "endpoints"]);
    let is_whole = !notes.lost.has(&list) && !notes.left.contains_key(&list);
    let drain = backend.roles.iter().all(|role| role.drains());
    if is_whole && drain && !backend.roles.is_empty() {
        notes.warn(
            &list,
            "every endpoint of this backend drains, so new connections to it end as backend_unavailable".to_owned(),
            "leave state out for one of them, unless you take the backend out of service",
        );
    }
    let are_backups = backend.roles.iter().all(|role| role.is_backup);
    if is_whole && are_backups && !backend.roles.is_empty() {
        notes.warn(
            &list,
            "every endpoint of this backend is a backup, so none is one: portway dials them all"
                .to_owned(),
            "leave backup out for the endpoints that are to be dialled first",
        );
    }
}

/// Source addresses from which nothing, or not every place, can be dialled.
pub(super) fn sources(backend: &Backend, notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["backends", &backend.name, key]);
    let [list, endpoints, via] = [path("source_addresses"), path("endpoints"), path("via")];
    let is_lost = |key: &Path| notes.lost.has(key) || notes.left.contains_key(key);
    if is_lost(&endpoints) || is_lost(&via) {
        return;
    }
    let own = backend.endpoints.iter().filter(|_| backend.via.is_none());
    let dialled: Vec<_> = own.chain(backend.via.iter().map(Via::proxy)).collect();
    let address = |target: &&Target| match target {
        Target::Address(address) => Some(*address),
        // It may have addresses of both families.
        Target::Name { .. } | Target::Asked { .. } => None,
    };
    let addresses: Vec<SocketAddr> = dialled.iter().filter_map(address).collect();
    let are_known = !dialled.is_empty() && addresses.len() == dialled.len();
    for (index, source) in backend.dialling.source_addresses.iter().enumerate() {
        let alike = addresses.iter();
        let mut alike = alike.filter(|address| address.is_ipv4() == source.is_ipv4());
        let far = alike.clone().find(|address| !address.ip().is_loopback());
        if let Some(far) = far.filter(|_| source.is_loopback()) {
            // Linux refuses an IPv4 dial (EINVAL), and no answer comes to an IPv6 one. That looks like a fault of the server.
            notes.warn(
                &notes.element(&list, index),
                format!("from {source} portway can dial {far} only if that is an address of this machine"),
                "write an address of this machine that other machines can reach, or leave it out",
            );
        }
        if !are_known || alike.next().is_some() {
            continue;
        }
        let [family, other] = if source.is_ipv4() {
            ["IPv4", "IPv6"]
        } else {
            ["IPv6", "IPv4"]
        };
        notes.fault(
            &notes.element(&list, index),
            format!(
                "{source} is an address of {family}, and portway dials this backend by {other} only"
            ),
            format!("write an address of {other}, or leave it out"),
        );
    }
}

/// The usual ports of Fleet Server, Elasticsearch and Logstash.
const ELASTIC: [u16; 3] = [8220, 9200, 5044];

/// A PROXY header, which servers of Elastic take for a broken hello.
pub(super) fn header(backend: &Backend, notes: &mut Notes<'_>) {
    let mut ports = backend.endpoints.iter().filter_map(Target::port);
    if backend.send_proxy_protocol.is_some() && ports.any(|port| ELASTIC.contains(&port)) {
        notes.warn(
            &Path::of(&["backends", &backend.name, "send_proxy_protocol"]),
            "Fleet Server, Elasticsearch and Logstash do not accept a PROXY header before TLS: a server that does not \
             expect it ends every connection"
                .to_owned(),
            "leave it out, unless the endpoints are HAProxy, nginx, another portway or a server that you have told to expect it",
        );
    }
}
