//! What only the settings as a whole can show.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::faults::Path;
use super::notes::Notes;
use super::{Listener, Settings};
use crate::backend::Target;

/// Agents check in again within 5 minutes by default; 10 minutes is the next step that policies use.
const CHECK_IN: Duration = Duration::from_mins(11);

/// An address that portway listens on.
struct Bound {
    address: SocketAddr,
    path: Path,
}

pub(super) fn settings(settings: &Settings, notes: &mut Notes<'_>) {
    let bound = bound(settings);
    clashes(&bound, notes);
    loops(settings, &bound, notes);
    for listener in &settings.listeners {
        networks(listener, notes);
    }
    unused(settings, notes);
    unwise(settings, notes);
}

fn bound(settings: &Settings) -> Vec<Bound> {
    let admin = settings.admin.map(|address| Bound {
        address,
        path: Path::of(&["admin", "bind"]),
    });
    let listeners = settings.listeners.iter().flat_map(|listener| {
        let path = Path::of(&["listeners", &listener.name, "bind"]);
        (listener.bind.iter().enumerate()).map(move |(index, address)| Bound {
            address: *address,
            path: path.index(index),
        })
    });
    admin.into_iter().chain(listeners).collect()
}

fn clashes(bound: &[Bound], notes: &mut Notes<'_>) {
    for (count, one) in bound.iter().enumerate() {
        for other in bound.iter().take(count) {
            let [a, b] = [one.address, other.address];
            let same = a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip());
            // An address that is twice in one list has been reported with the list.
            let reported = a == b && one.path.keys().eq(other.path.keys());
            if same && a.port() == b.port() && a.port() != 0 && !reported {
                notes.clash(
                    [&one.path, &other.path],
                    format!("{a} is in use by {} = {b}", other.path),
                    "write another port, or addresses that do not overlap",
                );
            }
        }
    }
}

/// Whether a socket bound to the wildcard `one` takes connections to `other`; `[::]` takes IPv4.
fn covers(one: IpAddr, other: IpAddr) -> bool {
    one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

/// An endpoint that is portway itself: the connection would come back until no descriptor is left.
fn loops(settings: &Settings, bound: &[Bound], notes: &mut Notes<'_>) {
    for backend in &settings.backends {
        for (index, endpoint) in backend.endpoints.iter().enumerate() {
            let Target::Address(endpoint) = endpoint else {
                continue;
            };
            let own = bound.iter().find(|own| {
                let ip = own.address.ip();
                let local = endpoint.ip().is_loopback() && covers(ip, endpoint.ip());
                own.address.port() == endpoint.port() && (ip == endpoint.ip() || local)
            });
            if let Some(own) = own {
                let path = Path::of(&["backends", &backend.name, "endpoints"]);
                notes.clash(
                    [&path.index(index), &own.path],
                    format!("{endpoint} is portway itself: {}", own.path),
                    "write the address of the server behind portway",
                );
            }
        }
    }
}

fn networks(listener: &Listener, notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["listeners", &listener.name, key]);
    for allowed in &listener.clients.allow {
        if let Some(denied) = listener
            .clients
            .deny
            .iter()
            .find(|net| net.contains(allowed))
        {
            notes.clash(
                [&path("allow_clients"), &path("deny_clients")],
                format!("{allowed} is allowed, and denied with {denied}, which wins"),
                "leave it out of one of them",
            );
        }
    }
}

fn unused(settings: &Settings, notes: &mut Notes<'_>) {
    let routes = settings.routes.routes();
    if routes.is_empty() {
        return;
    }
    for (index, backend) in settings.backends.iter().enumerate() {
        if !routes.iter().any(|route| route.backend == index) {
            notes.warn(
                &Path::of(&["backends", &backend.name]),
                "no route leads to this backend".to_owned(),
                "write a route to it, or leave it out",
            );
        }
    }
    for listener in &settings.listeners {
        let reaches = |names: &[_]| names.is_empty() || names.contains(&listener.name);
        if !routes.iter().any(|route| reaches(&route.listeners)) {
            notes.warn(
                &Path::of(&["listeners", &listener.name]),
                "no route takes connections of this listener".to_owned(),
                "name it in the listeners of a route, or leave it out",
            );
        }
    }
}

fn unwise(settings: &Settings, notes: &mut Notes<'_>) {
    for backend in &settings.backends {
        if backend.relay.idle_timeout < CHECK_IN {
            notes.warn(
                &Path::of(&["backends", &backend.name, "idle_timeout"]),
                "cuts agents that wait for their next check-in, silent for 5 minutes or more"
                    .to_owned(),
                "write at least \"11m\"; the default is \"75m\"",
            );
        }
    }
    for route in settings.routes.routes() {
        if !route.alpn.is_empty() {
            notes.warn(
                &Path::of(&["routes", &route.name, "alpn"]),
                "an Elastic Agent that connects directly offers no ALPN, and is not taken"
                    .to_owned(),
                "leave it out, or write a second route without it",
            );
        }
    }
    if let Some(admin) = settings.admin
        && !admin.ip().is_loopback()
    {
        notes.warn(
            &Path::of(&["admin", "bind"]),
            format!("{admin} can be reached from other machines, and asks for no password"),
            "bind a loopback address, or keep others away by a firewall",
        );
    }
}
