//! One endpoint: its addresses, its failures and its connections. It outlives reloads, so that what
//! is known of it is not lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::Target;
use crate::telemetry::EndpointStats;

/// The penalty after the first failed dial. Each further one doubles it.
const FIRST_PENALTY: Duration = Duration::from_secs(10);
/// The longest penalty.
const LONGEST_PENALTY: Duration = Duration::from_mins(1);

/// One endpoint of a backend, shared by all workers and by the snapshots before and after a reload.
#[derive(Debug)]
pub struct Endpoint {
    target: Target,
    name: Arc<str>,
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// When `health` counts from.
    origin: Instant,
    /// A [`Health`], packed.
    health: AtomicU64,
    /// The connections of this relay, shared with who shows them.
    connections: Arc<AtomicU32>,
    stats: Arc<EndpointStats>,
    stale: Notify,
}

impl Endpoint {
    /// An endpoint of which nothing is known. An address is dialled as it is; a name has no address
    /// until control has resolved it. `now` is the origin of its clock.
    pub fn new(target: Target, stats: Arc<EndpointStats>, now: Instant) -> Self {
        let addresses = match &target {
            Target::Address(address) => vec![*address],
            Target::Name { .. } => Vec::new(),
        };
        let connections = Arc::default();
        stats.show_connections(&connections);
        Self {
            name: target.to_string().into(),
            target,
            addresses: ArcSwap::from_pointee(addresses),
            origin: now,
            health: AtomicU64::new(Health::GOOD),
            connections,
            stats,
            stale: Notify::new(),
        }
    }

    /// What routes.toml says.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// `host:port` as in routes.toml: the label, the log value, and half of what identifies the
    /// endpoint over reloads (the backend is the other).
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The addresses in the order in which they are to be tried; empty while unresolved.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.addresses.load_full()
    }

    /// Its counters.
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Takes new addresses from control. Attempts under way keep those they have.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        self.addresses.store(Arc::new(addresses));
    }

    /// Puts an address that was reached before the others, so that one which does not answer is
    /// waited for once and not by every client. An order from control goes before.
    pub fn prefer(&self, address: SocketAddr) {
        self.addresses.rcu(|addresses| {
            let known = addresses.contains(&address).then_some(address);
            let others = addresses.iter().copied().filter(|other| *other != address);
            known.into_iter().chain(others).collect::<Vec<_>>()
        });
    }

    /// Notes that a dial reached the endpoint: it takes its turn again.
    pub fn succeeded(&self) {
        // Most dials succeed on a healthy endpoint: reading leaves the cache line shared.
        if self.health.load(Ordering::Relaxed) != Health::GOOD {
            self.health.store(Health::GOOD, Ordering::Relaxed);
        }
    }

    /// Notes that a dial failed for a reason on the endpoint's side: it goes last for 10 s, doubling
    /// to 60 s, and control is asked for fresh addresses. Not for a want of local ports or
    /// descriptors, which says nothing of the endpoint.
    ///
    /// A failure while the endpoint is penalised already does not count again: a burst of clients
    /// that fail together is one failure.
    pub fn failed(&self, now: Instant) {
        let now = self.millis(now);
        let _unchanged_if_penalised =
            self.health
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                    let health = Health::unpack(word);
                    (health.until <= now).then(|| health.worse(now).pack())
                });
        self.stale.notify_one();
    }

    /// Completes after a failed dial: the addresses may be out of date. One failure wakes one
    /// waiter; a failure while nobody waits is kept for the next.
    pub async fn stale(&self) {
        self.stale.notified().await;
    }

    /// Counts a connection, from before its dial (so that a burst spreads) until the guard is
    /// dropped.
    pub fn enter(self: &Arc<Self>) -> InUse {
        self.connections.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }

    /// The connections of this relay to the endpoint, dials under way included.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many ms the endpoint still goes last; 0 if its penalty is over, but no dial has succeeded
    /// since. `None` if it is in health.
    pub(super) fn penalty(&self, now: Instant) -> Option<u64> {
        let word = self.health.load(Ordering::Relaxed);
        (word != Health::GOOD).then(|| Health::unpack(word).until.saturating_sub(self.millis(now)))
    }

    /// Takes the trial, if it is due and nobody else has it.
    pub(super) fn try_trial(self: &Arc<Self>, now: Instant) -> Option<Trial> {
        let word = self.health.load(Ordering::Relaxed);
        let health = Health::unpack(word);
        if word == Health::GOOD || health.on_trial || health.until > self.millis(now) {
            return None;
        }
        let taken = Health {
            on_trial: true,
            ..health
        }
        .pack();
        self.health
            .compare_exchange(word, taken, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
            .then(|| Trial {
                endpoint: Arc::clone(self),
                taken,
                due: word,
            })
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A connection that counts for [`Endpoint::connections`].
#[derive(Debug)]
pub struct InUse(Arc<Endpoint>);

impl InUse {
    /// The endpoint that it counts for.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to try first an endpoint whose penalty is over. It ends with the result of any dial,
/// or with the guard.
#[derive(Debug)]
pub(super) struct Trial {
    endpoint: Arc<Endpoint>,
    taken: u64,
    due: u64,
}

impl Drop for Trial {
    fn drop(&mut self) {
        // If a result came meanwhile, the word is another one and stays as it is.
        let _changed_by_a_result = self.endpoint.health.compare_exchange(
            self.taken,
            self.due,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}

/// The failure state. It is kept in one word so that no two threads can tear it.
#[derive(Clone, Copy, Debug)]
struct Health {
    /// The end of the penalty, ms from the endpoint's origin.
    until: u64,
    /// A client tries the endpoint first at this moment.
    on_trial: bool,
    /// Failures in a row that were penalised, up to where the penalty no longer grows.
    failures: u8,
}

impl Health {
    /// The word of an endpoint without failures.
    const GOOD: u64 = 0;
    const FAILURES: u64 = 0x7f;
    const ON_TRIAL: u64 = 0x80;
    const UNTIL_SHIFT: u32 = 8;

    const fn unpack(word: u64) -> Self {
        Self {
            until: word >> Self::UNTIL_SHIFT,
            on_trial: word & Self::ON_TRIAL != 0,
            failures: (word & Self::FAILURES) as u8,
        }
    }

    const fn pack(self) -> u64 {
        let on_trial = if self.on_trial { Self::ON_TRIAL } else { 0 };
        (self.until << Self::UNTIL_SHIFT) | on_trial | self.failures as u64
    }

    /// After one more failure at `now`.
    fn worse(self, now: u64) -> Self {
        let doubled = FIRST_PENALTY.saturating_mul(1 << self.failures);
        let grows = doubled < LONGEST_PENALTY;
        let penalty = doubled.min(LONGEST_PENALTY).as_millis();
        Self {
            until: now.saturating_add(u64::try_from(penalty).unwrap_or(u64::MAX)),
            on_trial: false,
            failures: self.failures + u8::from(grows),
        }
    }
}
