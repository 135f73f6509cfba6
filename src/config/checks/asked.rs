//! Faults and warnings of endpoints that are the name that the client asks for, and of the routes to them.

use super::{Read, backends};
use crate::backend::Target;
use crate::config::Backend;
use crate::config::notes::Notes;
use crate::config::path::Path;
use crate::routing::{Pattern, Route};

pub(super) fn names(routes: &[Read], backends: &[Backend], notes: &mut Notes<'_>) {
    for (position, backend) in backends.iter().enumerate() {
        let Some(endpoint) = backend.endpoints.iter().find(|one| one.is_asked()) else {
            continue;
        };
        alone(backend, notes);
        if backend.via.is_none() {
            resolver(backend, endpoint, notes);
        }
        let leads_here = |read: &&Read| read.has_its_names && read.route.backend == position;
        for read in routes.iter().filter(leads_here) {
            patterns(&read.route, (backend, endpoint), notes);
            if read.has_its_conditions {
                ports(&read.route, endpoint, notes);
            }
        }
    }
}

/// It is the only endpoint of its backend: the others would have another name.
fn alone(backend: &Backend, notes: &mut Notes<'_>) {
    let list = Path::of(&["backends", &backend.name, "endpoints"]);
    if let [_, second, ..] = backend.endpoints.as_slice() {
        notes.fault(
            &notes.element(&list, 1),
            format!("{second} is beside an endpoint that is the name that the client asks for"),
            "write an endpoint with {server_name} alone, and a second backend for the others",
        );
    }
}

fn resolver(backend: &Backend, endpoint: &Target, notes: &mut Notes<'_>) {
    if !backends::may_have_resolver(backend, notes) {
        let list = Path::of(&["backends", &backend.name, "endpoints"]);
        notes.fault(
            &notes.element(&list, 0),
            format!(
                "{endpoint} needs a resolver: the DNS of the agents leads these names to portway, and if portway asked \
                 the same DNS, it would dial itself"
            ),
            "write resolver = { servers = [\"10.0.0.53\"] } with DNS servers that know the addresses of the servers",
        );
    }
}

/// The patterns say which names a client may choose.
fn patterns(route: &Route, (backend, endpoint): (&Backend, &Target), notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["routes", &route.name, key]);
    let list = path("server_names");
    for (index, pattern) in route.server_names.iter().enumerate() {
        let at = notes.element(&list, index);
        match pattern {
            Pattern::Any => notes.fault(
                &at,
                format!("** takes every name, and clients would choose where {endpoint} leads"),
                "write the names, or a pattern such as \"*.es.example.com\"",
            ),
            // With a proxy that resolves the names another warning says so.
            Pattern::OneLabel(_) | Pattern::AnyDepth(_) if backend.resolving_proxy().is_some() => {}
            Pattern::OneLabel(_) | Pattern::AnyDepth(_) => notes.warn(
                &at,
                format!("clients choose the name, and {endpoint} leads to every server under {pattern}"),
                "write the names if you know them all; allow_networks limits the addresses that they may lead to",
            ),
            Pattern::Exact(_) => {}
        }
    }
    if route.no_server_name {
        notes.fault(
            &path("no_server_name"),
            format!("{endpoint} needs a name, and a connection without a server name has none"),
            "leave it out, or write a route to another backend",
        );
    }
}

/// The ports say which one a client may choose.
fn ports(route: &Route, endpoint: &Target, notes: &mut Notes<'_>) {
    if endpoint.port().is_none() && route.ports.is_empty() {
        notes.fault(
            &Path::of(&["routes", &route.name]),
            format!("it has no ports, and clients would choose the port of {endpoint}"),
            "write ports = [443, 8220] with the ports that clients may reach",
        );
    }
}
