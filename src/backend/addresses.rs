//! The addresses that an endpoint has, and which of their families is in use.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::Address;
use crate::outcome::AddressState;

/// The addresses of one endpoint. Workers read them while control replaces them.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The origin of the clock of each address.
    origin: Instant,
    /// In the order of the resolver.
    current: ArcSwap<Vec<Arc<Address>>>,
    /// The addresses that the endpoint no longer has.
    left: Mutex<Left>,
}

/// The state of addresses that an endpoint no longer has.
#[derive(Debug, Default)]
struct Left {
    /// Known as long as a connection to them is open.
    all: Vec<Weak<Address>>,
    /// Those that failed. A resolver may give other addresses each time, and a failed one must not come back as healthy.
    failed: Vec<Arc<Address>>,
}

/// The most failed addresses that are remembered.
const MOST_FAILED: usize = 64;

impl Addresses {
    pub(super) fn new(first: Option<SocketAddr>, origin: Instant) -> Self {
        let first = first.map(|at| Arc::new(Address::new(at, origin)));
        Self {
            origin,
            current: ArcSwap::from_pointee(first.into_iter().collect()),
            left: Mutex::default(),
        }
    }

    pub(super) fn current(&self) -> Arc<Vec<Arc<Address>>> {
        self.current.load_full()
    }

    /// Replaces the addresses. An address that is known, because it was in the list or is in use, is kept.
    pub(super) fn set(&self, addresses: &[SocketAddr]) {
        // A panic cannot leave it half changed, so a poisoned lock can be used.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current();
        let known = left.all.iter().filter_map(Weak::upgrade);
        let known = known.chain(current.iter().map(Arc::clone));
        let known: HashMap<SocketAddr, Arc<Address>> =
            known.map(|address| (address.at(), address)).collect();
        let next = addresses.iter().map(|at| match known.get(at) {
            Some(address) => Arc::clone(address),
            None => Arc::new(Address::new(*at, self.origin)),
        });
        self.current.store(Arc::new(next.collect()));
        let stay: HashSet<&SocketAddr> = addresses.iter().collect();
        let gone = || known.iter().filter(|(at, _)| !stay.contains(at));
        left.all = gone().map(|(_, address)| Arc::downgrade(address)).collect();
        let failed = gone().filter(|(_, address)| !address.is_healthy());
        let failed = failed.map(|(_, address)| Arc::clone(address));
        left.failed = failed.take(MOST_FAILED).collect();
        for (at, address) in &known {
            address.listed(stay.contains(at));
        }
    }

    /// Notes that another answer has changed nothing: those that left are still missing.
    pub(super) fn confirm(&self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for address in left.all.iter().filter_map(Weak::upgrade) {
            address.listed(false);
        }
    }
}

/// The families of an endpoint's addresses: whether each is IPv4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Families {
    /// The family of the resolver's first address.
    first: bool,
    /// Whether an address of the first family is healthy.
    is_first_alive: bool,
    /// The family that new connections use.
    in_use: bool,
}

impl Families {
    /// Chooses the family in use: the first one as long as one of its addresses is healthy, and also if no
    /// address of either family is healthy.
    pub(super) fn of(addresses: &[Arc<Address>]) -> Self {
        let first = addresses.first().is_none_or(|first| first.at().is_ipv4());
        let is_alive = |is_ipv4| {
            let mut family = addresses.iter().filter(|it| it.at().is_ipv4() == is_ipv4);
            family.any(|address| address.is_healthy())
        };
        let is_first_alive = is_alive(first);
        Self {
            first,
            is_first_alive,
            in_use: if is_first_alive || !is_alive(!first) {
                first
            } else {
                !first
            },
        }
    }

    /// Whether new connections use the address, if it is healthy.
    pub(super) fn use_now(self, address: &Address) -> bool {
        address.at().is_ipv4() == self.in_use
    }

    /// Whether new connections would use a failed address if it were healthy.
    pub(super) fn want(self, address: &Address) -> bool {
        !self.is_first_alive || address.at().is_ipv4() == self.first
    }

    /// The state of an address. A failure of one that is not wanted is out of date, because no dial tries it again.
    pub(super) fn state(self, address: &Address) -> AddressState {
        if address.is_healthy() && self.use_now(address) {
            AddressState::Healthy
        } else if address.is_healthy() || !self.want(address) {
            AddressState::Standby
        } else {
            AddressState::Failed
        }
    }
}
