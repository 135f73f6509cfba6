//! One resolver, and the endpoints that it finds addresses for.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use super::own::{self, Own};
use crate::backend::{DnsServers, Endpoint, NameRules, Target, Unresolved};
use crate::outcome::ResolveFailure;

/// Between two look-ups by the system's resolver, which does not tell how long an answer is fresh.
const REFRESH: Duration = Duration::from_secs(30);
/// Between two look-ups of a name that does not resolve, or that leaves an endpoint without an address.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// The longest time for which a name without an address that can be dialled is not asked for again.
pub(super) const LONGEST_NEGATIVE: Duration = Duration::from_secs(30);

/// A look-up that found addresses, with port 0.
pub(super) struct Found {
    pub(super) addresses: Vec<SocketAddr>,
    /// How long they are fresh.
    pub(super) fresh: Duration,
}

/// A look-up that found none.
pub(super) struct NotFound {
    pub(super) error: io::Error,
    /// When to ask again.
    pub(super) again: Duration,
}

impl NotFound {
    pub(super) const fn failed(error: io::Error) -> Self {
        Self {
            error,
            again: RETRY,
        }
    }

    /// The look-up did not end within its time limit.
    pub(super) fn late() -> Self {
        let late = io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer");
        Self::failed(late)
    }

    /// The answer has no address.
    pub(super) fn empty() -> Self {
        Self::failed(io::Error::other(NO_ADDRESS))
    }
}

/// The error of a look-up whose answer has no address.
pub const NO_ADDRESS: &str = "the name has no address";

pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Found, NotFound>> + Send>>;
/// From a host name to its addresses: the system's resolver, DNS servers, or those of a test.
pub(super) type Lookup = Arc<dyn Fn(Box<str>) -> Answer + Send + Sync>;

pub(super) async fn system_lookup(host: Box<str>) -> Result<Found, NotFound> {
    let addresses = tokio::net::lookup_host((&*host, 0)).await;
    let addresses = addresses.map_err(NotFound::failed)?;
    Ok(Found {
        addresses: addresses.collect(),
        fresh: REFRESH,
    })
}

/// The state that all names of one resolver share.
pub(super) struct Resolver {
    /// The DNS servers; `None` is the system's resolver.
    pub(super) servers: Option<DnsServers>,
    pub(super) lookup: Lookup,
    pub(super) permits: Semaphore,
    /// Our own addresses, the same for every resolver.
    pub(super) own: Arc<ArcSwap<Own>>,
}

/// An endpoint, and the rules of its backend.
#[derive(Clone)]
pub struct Bearer {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// How its name is resolved, and where it may lead.
    pub rules: NameRules,
}

impl Bearer {
    /// Whether both are the same endpoint with the same rules.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint) && self.rules == other.rules
    }

    /// The address of the endpoint in memory, only to tell it from others.
    fn id(&self) -> *const Endpoint {
        Arc::as_ptr(&self.endpoint)
    }

    /// Why the endpoint must not be dialled at an address. `before` is whether it was our own at the last look-up.
    pub(super) fn excludes(
        &self,
        address: SocketAddr,
        own: &Own,
        before: bool,
    ) -> Option<ResolveFailure> {
        if !self.rules.allowed.permits(address.ip()) {
            Some(ResolveFailure::Forbidden)
        } else if own.contains(address, before) {
            Some(ResolveFailure::Loop)
        } else {
            None
        }
    }

    /// Takes addresses away that have become our own since the last look-up, or are not allowed any more.
    pub(super) fn leave_out_excluded(&self, own: &Own) {
        self.leave_out(|address| self.excludes(address, own, false));
    }

    /// Takes the addresses away that are judged to be excluded.
    pub(super) fn leave_out(&self, judge: impl FnMut(SocketAddr) -> Option<ResolveFailure>) {
        self.put_permitted(addresses(&self.endpoint).into_iter(), judge);
    }

    /// Gives the endpoint those of these addresses that it may be dialled at.
    fn put_permitted(
        &self,
        addresses: impl Iterator<Item = SocketAddr>,
        mut judge: impl FnMut(SocketAddr) -> Option<ResolveFailure>,
    ) {
        let (mut usable, mut first_excluded) = (Vec::new(), None);
        for address in addresses {
            match judge(address) {
                None => usable.push(address),
                Some(reason) => {
                    first_excluded.get_or_insert((address, reason));
                }
            }
        }
        put(&self.endpoint, &usable, first_excluded);
    }
}

/// Gives new bearers of a name the addresses that it has, until the next look-up tells. An endpoint that another
/// resolver was asked for is new here.
pub(super) fn share(known: &[Bearer], new: &[Bearer], own: &Own) {
    let before: HashSet<*const Endpoint> = known.iter().map(Bearer::id).collect();
    let known = known.iter().map(|bearer| addresses(&bearer.endpoint));
    let Some(known) = known.into_iter().find(|known| !known.is_empty()) else {
        return;
    };
    let is_new =
        |bearer: &&Bearer| !before.contains(&bearer.id()) || bearer.endpoint.addresses().is_empty();
    for bearer in new.iter().filter(is_new) {
        if let Target::Name { port, .. } = *bearer.endpoint.dialled() {
            let known = known.iter().map(|known| own::canonical(*known, port));
            bearer.put_permitted(known, |address| bearer.excludes(address, own, false));
        }
    }
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
