//! Faults and warnings about the names of endpoints, and the networks that they may lead to.

use crate::backend::allowed::special;
use crate::backend::{Allowed, Target};
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
    if backend.names.resolver.is_some() && asks_nobody && all_endpoints {
        notes.warn(
            &Path::of(&["backends", &backend.name, "resolver"]),
            "every endpoint of this backend is an address, so no DNS server is asked".to_owned(),
            "leave it out, or write the names of the servers as endpoints",
        );
    }
    if all_networks {
        addresses(backend, &endpoints, notes);
    }
}

/// Endpoints that are addresses outside the networks of their backend.
fn addresses(backend: &Backend, endpoints: &Path, notes: &mut Notes<'_>) {
    let allowed = &backend.names.allowed;
    if *allowed == Allowed::Servers {
        // Each address has been judged as it was read.
        return;
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
