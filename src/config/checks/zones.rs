//! Faults of link-local addresses: each interface may have the same ones, so the zone has to say which is meant.

use std::net::{SocketAddr, SocketAddrV6};

use crate::backend::Target;
use crate::config::Backend;
use crate::config::notes::Notes;
use crate::config::path::Path;
use crate::config::values::{self, Wrong};

const OTHER_ADDRESS: &str =
    "write an address of the server that is not link-local, without a zone, or leave via out";

/// Addresses that are dialled without a zone that they need, or behind a proxy, where a zone has no meaning.
pub(super) fn dialled(backend: &Backend, notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["backends", &backend.name, key]);
    let [list, via] = [path("endpoints"), path("via")];
    if let Some(proxy) = &backend.via
        && let Some(address) = ipv6(proxy.proxy())
    {
        let scheme = format!("{}://", proxy.protocol().scheme());
        needs_zone(&via, &scheme, address, notes);
    }
    for (index, endpoint) in backend.endpoints.iter().enumerate() {
        let Some(address) = ipv6(endpoint) else {
            continue;
        };
        let element = notes.element(&list, index);
        if backend.via.is_none() {
            needs_zone(&element, "", address, notes);
        } else if address.scope_id() != 0 {
            let message = format!(
                "{address} has a zone, which is a number of this machine's, and the proxy in via dials it"
            );
            notes.fault(&element, message, OTHER_ADDRESS);
        } else if address.ip().is_unicast_link_local() {
            let message = format!(
                "{address} is link-local, and nothing tells the proxy in via by which interface to reach it"
            );
            notes.fault(&element, message, OTHER_ADDRESS);
        }
    }
}

const fn ipv6(target: &Target) -> Option<SocketAddrV6> {
    match target {
        Target::Address(SocketAddr::V6(address)) => Some(*address),
        Target::Address(SocketAddr::V4(_)) | Target::Name { .. } | Target::Asked { .. } => None,
    }
}

fn needs_zone(path: &Path, scheme: &str, address: SocketAddrV6, notes: &mut Notes<'_>) {
    if let Err(Wrong { message, help }) = values::with_zone(scheme, SocketAddr::V6(address)) {
        notes.fault(path, message, help);
    }
}
