//! Decides whether a connection may exist: limits, rates, permits, per-client counts.

mod bounds;
mod clients;
mod machine;
mod networks;
mod rate;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use crate::outcome::Limit;
pub use bounds::{Bounds, Quotas};
use clients::{Arrival, Clients};
pub use machine::Machine;
pub use networks::Networks;
use rate::{Clock, SECOND};

/// The counts and limits of connections, shared by all workers. It has nothing to do with sockets.
#[derive(Debug)]
pub struct Admission {
    bounds: ArcSwap<Bounds>,
    connections: AtomicUsize,
    pending: AtomicUsize,
    clock: Clock,
    /// The time up to which `accept_rate` is used up.
    used: AtomicU64,
    clients: Clients,
    /// The second in which a worker last called [`Admission::tidy`].
    tidied: AtomicU64,
}

impl Admission {
    /// Applies the limits of routes.toml, with defaults that fit the machine.
    pub fn new(quotas: &Quotas, machine: Machine) -> Self {
        Self {
            bounds: ArcSwap::from_pointee(Bounds::new(quotas, machine)),
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            clock: Clock::start(),
            used: AtomicU64::new(0),
            clients: Clients::new(),
            tidied: AtomicU64::new(0),
        }
    }

    /// Changes the limits, with defaults that fit the machine as it is now. They apply to new connections; existing
    /// connections stay.
    pub fn adopt(&self, quotas: &Quotas, machine: Machine) {
        self.bounds.store(Arc::new(Bounds::new(quotas, machine)));
    }

    /// The limits in force.
    pub fn bounds(&self) -> Guard<Arc<Bounds>> {
        self.bounds.load()
    }

    /// The client in the tables of clients.
    pub fn key(&self, client: IpAddr) -> IpAddr {
        self.bounds().key(client)
    }

    /// The number of connections that hold a permit.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The number of connections without a complete hello.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// The numbers of connections and of pending ones of a client.
    #[cfg(test)]
    fn counts(&self, client: IpAddr) -> (usize, usize) {
        self.clients.counts(self.bounds().key(client))
    }

    /// Admits a connection that was just accepted, or returns the limit that it reached. It counts as
    /// pending until [`Permit::hello_done`].
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Limit> {
        let bounds = self.bounds();
        if !count_one(&self.connections, bounds.max_connections) {
            return Err(Limit::MaxConnections);
        }
        if !count_one(&self.pending, bounds.max_pending_connections) {
            give_back(&self.connections);
            return Err(Limit::MaxPendingConnections);
        }
        Ok(Permit {
            admission: Arc::clone(self),
            client: Cell::new(None),
            pending: Cell::new(true),
        })
    }

    /// Takes one connection out of `accept_rate`.
    fn take_turn(&self, bounds: &Bounds, at: u64) -> Result<(), Limit> {
        let Some(rate) = bounds.accept_rate else {
            return Ok(());
        };
        let take = |used| rate.take(used, at);
        let taken = (self.used).fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).or(Err(Limit::AcceptRate))
    }

    /// Forgets clients of which nothing needs to be known any more; call it once a second. Of all workers that do, only the first one
    /// in a second looks at the clients.
    pub fn tidy(&self, now: Instant) {
        let at = self.clock.at(now);
        let second = at / SECOND;
        if self.tidied.fetch_max(second, Ordering::Relaxed) < second {
            self.clients.tidy(at);
        }
    }
}

/// The permission for one connection to exist. Dropping it frees everything that it holds.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    /// The key in the table of clients.
    client: Cell<Option<IpAddr>>,
    pending: Cell<bool>,
}

impl Permit {
    /// Applies the limits per client and the rates, once the client's real address is known; the connection has arrived
    /// at `at`. After a refusal it still counts in the totals, until the permit is dropped.
    pub fn identify(&self, client: IpAddr, at: Instant) -> Result<(), Limit> {
        self.leave_client();
        let admission = &*self.admission;
        let bounds = admission.bounds();
        let arrival = Arrival {
            key: bounds.key(client),
            at: admission.clock.at(at),
            pending: self.pending.get(),
            most_pending: bounds.pending_share(admission.pending()),
        };
        let all = || admission.take_turn(&bounds, arrival.at);
        admission.clients.enter(&arrival, &bounds, all)?;
        self.client.set(Some(arrival.key));
        Ok(())
    }

    /// Applies `accept_rate` alone, to a connection of a balancer that names no client.
    pub fn arrive(&self, at: Instant) -> Result<(), Limit> {
        let admission = &*self.admission;
        admission.take_turn(&admission.bounds(), admission.clock.at(at))
    }

    /// Ends the pending phase, because the complete hello has arrived.
    pub fn hello_done(&self) {
        if !self.pending.replace(false) {
            return;
        }
        give_back(&self.admission.pending);
        if let Some(client) = self.client.get() {
            self.admission.clients.hello_done(client);
        }
    }

    /// The key of the client among all clients, once it is identified.
    pub fn client(&self) -> Option<IpAddr> {
        self.client.get()
    }

    fn leave_client(&self) {
        if let Some(client) = self.client.take() {
            self.admission.clients.leave(client, self.pending.get());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave_client();
        if self.pending.get() {
            give_back(&self.admission.pending);
        }
        give_back(&self.admission.connections);
    }
}

/// Counts one more, unless that would exceed `max`. Adding first and subtracting on failure would
/// refuse others in between.
fn count_one(count: &AtomicUsize, max: usize) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < max).then(|| count.saturating_add(1))
        })
        .is_ok()
}

fn give_back(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}
