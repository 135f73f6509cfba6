//! The addresses that an endpoint has, and which of their families is in use.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

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
    /// The family that was faster: whether it is IPv4, and above that bit the end of this preference, in milliseconds
    /// from the origin; 0 if there is none.
    faster: AtomicU64,
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

/// How long the family that was faster comes first. RFC 6555 section 4.2 remembers it for some 10 minutes too.
const PREFERENCE: Duration = Duration::from_mins(10);

impl Addresses {
    pub(super) fn new(first: Option<SocketAddr>, origin: Instant) -> Self {
        let first = first.map(|at| Arc::new(Address::new(at, origin)));
        Self {
            origin,
            current: ArcSwap::from_pointee(first.into_iter().collect()),
            left: Mutex::default(),
            faster: AtomicU64::new(0),
        }
    }

    /// Notes that an address of this family connected while one of the other family had not. Returns whether new
    /// connections used the other one first until now.
    pub(super) fn prefer(&self, is_ipv4: bool, now: Instant) -> bool {
        let before = self.faster(now);
        let until = self.millis(now + PREFERENCE);
        self.faster
            .store(until << 1 | u64::from(is_ipv4), Ordering::Relaxed);
        before != Some(is_ipv4)
    }

    /// The families of the current addresses.
    pub(super) fn families(&self, current: &[Arc<Address>], now: Instant) -> Families {
        Families::of(current, self.faster(now))
    }

    /// The family that was faster lately: whether it is IPv4.
    fn faster(&self, now: Instant) -> Option<bool> {
        let word = self.faster.load(Ordering::Relaxed);
        (word >> 1 > self.millis(now)).then_some(word & 1 == 1)
    }

    fn millis(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX >> 1)
    }

    pub(super) fn current(&self) -> Arc<Vec<Arc<Address>>> {
        self.current.load_full()
    }

    /// Replaces the addresses. An address that is known, because it was in the list or is in use, is kept.
    pub(super) fn set(&self, addresses: &[SocketAddr]) {
        let mut left = self.left();
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
    }

    /// Notes that an answer of the resolver has led to these addresses: those that left are missing in it.
    pub(super) fn answered(&self) {
        let left = self.left();
        for address in left.all.iter().filter_map(Weak::upgrade) {
            address.listed(false);
        }
        for address in self.current().iter() {
            address.listed(true);
        }
    }

    /// Lets each address forget something, also those that left: nothing would clear it when they come back.
    pub(super) fn each_known(&self, forget: impl Fn(&Address)) {
        let left = self.left();
        for address in left.all.iter().filter_map(Weak::upgrade) {
            forget(&address);
        }
        for address in self.current().iter() {
            forget(address);
        }
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        // A panic cannot leave it half changed, so a poisoned lock can be used.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The families of an endpoint's addresses: whether each is IPv4.
#[derive(Clone, Copy, Debug)]
pub(super) struct Families {
    /// The family that was faster lately, if it was noticed; otherwise that of the resolver's first address.
    first: bool,
    /// Whether an address of the first family is healthy.
    is_first_alive: bool,
    /// The family that new connections use.
    in_use: bool,
}

impl Families {
    /// Chooses the family in use: the first one as long as one of its addresses is healthy, and also if no
    /// address of either family is healthy.
    fn of(addresses: &[Arc<Address>], faster: Option<bool>) -> Self {
        let of_resolver = || addresses.first().is_none_or(|first| first.at().is_ipv4());
        let first = faster.unwrap_or_else(of_resolver);
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
