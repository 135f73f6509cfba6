//! The state that all names share: the look-up, its limit, our own addresses.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::own::{self, Own};
use crate::backend::{Endpoint, Target, Unresolved};
use crate::outcome::ResolveFailure;

pub(super) type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// From a host name to its addresses with port 0. The system's resolver, or a test's.
pub(super) type Lookup = Arc<dyn Fn(Box<str>) -> Answer + Send + Sync>;

pub(super) async fn system_lookup(host: Box<str>) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((&*host, 0)).await?.collect())
}

/// The state that all names share.
pub(super) struct Resolver {
    pub(super) lookup: Lookup,
    pub(super) permits: Semaphore,
    pub(super) own: ArcSwap<Own>,
}

impl Resolver {
    /// Takes addresses away that have become our own since the last look-up.
    pub(super) fn leave_out_own(&self, endpoint: &Endpoint) {
        let own = self.own.load();
        let known = addresses(endpoint);
        put_others(endpoint, known.into_iter(), &own);
    }

    /// Gives new bearers of a name the addresses that it has, until the next look-up tells.
    pub(super) fn share(&self, known: &[Arc<Endpoint>], new: &[Arc<Endpoint>]) {
        let known = known.iter().map(|endpoint| addresses(endpoint));
        let Some(known) = known.into_iter().find(|known| !known.is_empty()) else {
            return;
        };
        let own = self.own.load();
        for endpoint in new.iter().filter(|new| new.addresses().is_empty()) {
            if let Target::Name { port, .. } = *endpoint.target() {
                let known = known.iter().map(|known| own::canonical(*known, port));
                put_others(endpoint, known, &own);
            }
        }
    }
}

/// Gives an endpoint those of these addresses that are not our own.
fn put_others(endpoint: &Endpoint, addresses: impl Iterator<Item = SocketAddr>, own: &Own) {
    let (ours, usable): (Vec<_>, Vec<_>) =
        addresses.partition(|address| own.contains(*address, false));
    let excluded = ours.first().map(|address| (*address, ResolveFailure::Loop));
    put(endpoint, &usable, excluded);
}

/// Gives an endpoint the addresses that can be dialled. If there are none, it first learns why from one that is
/// excluded: a dial must never find it without addresses and without a reason.
pub(super) fn put(
    endpoint: &Endpoint,
    usable: &[SocketAddr],
    excluded: Option<(SocketAddr, ResolveFailure)>,
) {
    if let (true, Some((address, reason))) = (usable.is_empty(), excluded) {
        endpoint.set_unresolved(Unresolved::excluded(reason, address));
    }
    set_if_changed(endpoint, usable);
}

/// The addresses of an endpoint.
pub(super) fn addresses(endpoint: &Endpoint) -> Vec<SocketAddr> {
    let addresses = endpoint.addresses();
    addresses.iter().map(|address| address.at()).collect()
}

/// Sets new addresses in the order of the resolver. Resolvers rotate equal addresses: that alone is
/// not a change, unless the first one is of the other family.
fn set_if_changed(endpoint: &Endpoint, new: &[SocketAddr]) {
    let before = addresses(endpoint);
    let first = |addresses: &[SocketAddr]| addresses.first().map(SocketAddr::is_ipv4);
    let same = before.len() == new.len()
        && first(&before) == first(new)
        && before.iter().collect::<HashSet<_>>() == new.iter().collect();
    if !same {
        endpoint.set_addresses(new);
    }
}
