//! What all names share: the look-up, its limit, our own addresses.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::own::{self, Own};
use crate::backend::{Endpoint, Target};

pub(super) type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// From a host name to its addresses with port 0. The system's resolver, or a test's.
pub(super) type Lookup = Arc<dyn Fn(Box<str>) -> Answer + Send + Sync>;

pub(super) async fn system_lookup(host: Box<str>) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((&*host, 0)).await?.collect())
}

/// What all names share.
pub(super) struct Resolver {
    pub(super) lookup: Lookup,
    pub(super) permits: Semaphore,
    pub(super) own: ArcSwap<Own>,
}

impl Resolver {
    /// Takes addresses away that have become our own since the last look-up.
    pub(super) fn leave_out_own(&self, endpoint: &Endpoint) {
        let own = self.own.load();
        let addresses = endpoint.addresses();
        let usable = addresses.iter().copied();
        set_if_changed(
            endpoint,
            usable.filter(|known| !own.contains(*known)).collect(),
        );
    }

    /// Gives new bearers of a name the addresses that it has, until the next look-up tells.
    pub(super) fn share(&self, known: &[Arc<Endpoint>], new: &[Arc<Endpoint>]) {
        let addresses = known.iter().map(|endpoint| endpoint.addresses());
        let Some(addresses) = addresses.into_iter().find(|known| !known.is_empty()) else {
            return;
        };
        let own = self.own.load();
        for endpoint in new.iter().filter(|new| new.addresses().is_empty()) {
            if let Target::Name { port, .. } = *endpoint.target() {
                let addresses = addresses.iter().map(|known| own::canonical(*known, port));
                endpoint.set_addresses(addresses.filter(|known| !own.contains(*known)).collect());
            }
        }
    }
}

/// Sets new addresses in the order of the resolver. Resolvers turn the order of equal addresses:
/// that alone is no change.
pub(super) fn set_if_changed(endpoint: &Endpoint, addresses: Vec<SocketAddr>) {
    let before = endpoint.addresses();
    let same = before.len() == addresses.len()
        && before.iter().collect::<HashSet<_>>() == addresses.iter().collect();
    if !same {
        endpoint.set_addresses(addresses);
    }
}
