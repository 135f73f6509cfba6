//! One address of an endpoint: its failures and its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::Presented;
use super::health::{Check, Checks, Standing};
use super::slots::Slots;

/// The penalty after the first failed dial. Each further one doubles it.
const FIRST_PENALTY: Duration = Duration::from_secs(10);
/// The longest penalty.
const LONGEST_PENALTY: Duration = Duration::from_mins(1);
/// Time until an address that has failed gets all the clients that its few connections would bring it: milliseconds.
const SLOW_START: u64 = 60_000;
/// Answers of the resolver in a row that an address must be missing from before it counts as gone: one alone may be of a
/// server that is behind, or that gives a part of the addresses each time.
const GONE_AFTER: u8 = 3;
/// More than any penalty: milliseconds.
const UNHEALTHY: u64 = 1 << 40;
/// More than any penalty of an address in reach: milliseconds.
const OUT_OF_REACH: u64 = 1 << 41;

/// One address of an endpoint. It keeps its state as long as the endpoint has the address or a connection
/// to it is open.
#[derive(Debug)]
pub struct Address {
    at: SocketAddr,
    /// The address as text, which `source_hash` hashes.
    text: Box<str>,
    /// When `health` counts from.
    origin: Instant,
    /// A [`Health`], packed.
    health: AtomicU64,
    connections: AtomicU32,
    /// The dials in progress, and those that wait.
    pub(super) slots: Slots,
    /// A [`Standing`], packed. Only control writes it.
    standing: AtomicU32,
    /// When a connection to it was last established, and when it last answered a client: milliseconds from the origin,
    /// 0 if never.
    connected_at: AtomicU64,
    answered_at: AtomicU64,
    /// The same for the last time that it became healthy after a failure.
    returned_at: AtomicU64,
    /// The last answers of the resolver, in a row, that did not have it. Only control writes it.
    missing: AtomicU8,
    /// The certificates that it has shown to a check. Only control writes it.
    presented: ArcSwapOption<Presented>,
}

impl Address {
    /// An address without a known state. `origin` is that of its clock.
    pub(super) fn new(at: SocketAddr, origin: Instant) -> Self {
        Self {
            at,
            text: at.to_string().into(),
            origin,
            health: AtomicU64::new(Health::GOOD),
            connections: AtomicU32::new(0),
            slots: Slots::default(),
            standing: AtomicU32::new(Standing::default().pack()),
            connected_at: AtomicU64::new(0),
            answered_at: AtomicU64::new(0),
            returned_at: AtomicU64::new(0),
            missing: AtomicU8::new(0),
            presented: ArcSwapOption::empty(),
        }
    }

    /// Where to dial.
    pub const fn at(&self) -> SocketAddr {
        self.at
    }

    /// The same as text.
    pub(super) const fn text(&self) -> &str {
        &self.text
    }

    /// Whether the other one is of the same family.
    pub(super) const fn is_beside(&self, other: &Self) -> bool {
        self.at.is_ipv4() == other.at.is_ipv4()
    }

    /// The connections of this relay to the address, and its dials in progress.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes whether another answer of the resolver has it.
    pub(super) fn listed(&self, is_listed: bool) {
        let missing = self.missing.load(Ordering::Relaxed).saturating_add(1);
        let missing = if is_listed { 0 } else { missing };
        self.missing.store(missing, Ordering::Relaxed);
    }

    /// Whether the last three answers of the resolver did not have it.
    pub(super) fn is_gone(&self) -> bool {
        self.missing.load(Ordering::Relaxed) >= GONE_AFTER
    }

    /// Notes that a dial reached the address. It is healthy again, unless checks say otherwise.
    pub fn succeeded(&self, now: Instant) {
        // Each dial has changed `connections`, beside it, before.
        self.connected_at.store(self.moment(now), Ordering::Relaxed);
        self.recover(now);
    }

    /// Notes that the address has sent a client its first bytes.
    pub(super) fn answered(&self, now: Instant) {
        self.answered_at
            .fetch_max(self.moment(now), Ordering::Relaxed);
    }

    /// Whether a client has got what `check` asks for since this time, and no dial has failed after it.
    pub fn has_served(&self, check: Check, since: Instant) -> bool {
        let at = match check {
            Check::Tcp => &self.connected_at,
            Check::Tls => &self.answered_at,
        };
        let has_failed = self.health.load(Ordering::Relaxed) != Health::GOOD;
        !has_failed && at.load(Ordering::Relaxed) > self.millis(since)
    }

    /// Whether a connection to it has been established since this time.
    pub fn has_connected(&self, since: Instant) -> bool {
        self.connected_at.load(Ordering::Relaxed) > self.millis(since)
    }

    /// Notes the result of a check, and returns what checks have found so far.
    pub fn checked(&self, has_passed: bool, checks: &Checks, now: Instant) -> Standing {
        let before = self.standing();
        let standing = before.after(has_passed, checks);
        self.standing.store(standing.pack(), Ordering::Relaxed);
        if has_passed && !standing.is_unhealthy() {
            self.recover(now);
            if !before.is_well() {
                self.returned_at.store(self.moment(now), Ordering::Relaxed);
            }
        }
        standing
    }

    /// Notes that this machine had no way to it for a check, and returns what checks have found so far.
    pub fn unreached(&self) -> Standing {
        let standing = self.standing().without_way();
        self.standing.store(standing.pack(), Ordering::Relaxed);
        standing
    }

    /// Forgets what checks have found: it is not checked any more.
    pub(super) fn uncheck(&self) {
        let unknown = Standing::default().pack();
        self.standing.store(unknown, Ordering::Relaxed);
    }

    /// The certificates that it has shown to its last check; `None` if no check has been answered.
    pub fn presented(&self) -> Option<Arc<Presented>> {
        self.presented.load_full()
    }

    /// Replaces the certificates that it has shown.
    pub fn present(&self, presented: Option<Presented>) {
        self.presented.store(presented.map(Arc::new));
    }

    /// The findings of its checks so far.
    pub fn standing(&self) -> Standing {
        Standing::unpack(self.standing.load(Ordering::Relaxed))
    }

    /// Its last dial did not fail any more.
    fn recover(&self, now: Instant) {
        // Most dials succeed at a healthy address. A read leaves the cache line shared between workers.
        let before = self.health.load(Ordering::Relaxed);
        if before != Health::GOOD {
            self.health.store(Health::GOOD, Ordering::Relaxed);
            // A single dial may fail for a lost packet, and the address has its connections still.
            if Health::unpack(before).failures > 1 {
                self.returned_at.store(self.moment(now), Ordering::Relaxed);
            }
        }
    }

    /// Whether a client passes it over because it has become healthy lately: more and more rarely, until it has been
    /// healthy for a minute. It has few connections, and would get all clients at once.
    pub(super) fn is_held_back(&self, now: Instant) -> bool {
        let returned_at = self.returned_at.load(Ordering::Relaxed);
        let since = self.millis(now).saturating_sub(returned_at);
        returned_at > 0 && since < SLOW_START && fastrand::u64(..SLOW_START) >= since
    }

    /// Notes that a dial failed: the address goes last for 10 s, doubling to 60 s.
    ///
    /// A failure during the penalty does not count again: if a burst of clients fails together, that is one
    /// failure.
    pub(super) fn failed(&self, now: Instant) {
        let now = self.millis(now);
        let _unchanged_if_penalised =
            self.health
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                    let health = Health::unpack(word);
                    (health.until <= now).then(|| health.worse(now).pack())
                });
    }

    /// Whether its last dial succeeded, or there was none, and checks have not found it unhealthy or out of reach.
    pub fn is_healthy(&self) -> bool {
        self.health.load(Ordering::Relaxed) == Health::GOOD && self.standing().is_well()
    }

    /// Milliseconds for which the address is still ranked last; 0 once the penalty is over, but before a dial
    /// succeeds. `None` if it is healthy. That of an unhealthy one, or of one out of reach, never ends by itself, and clients
    /// do not try it.
    pub(super) fn penalty(&self, now: Instant) -> Option<u64> {
        let word = self.health.load(Ordering::Relaxed);
        let failed = Health::unpack(word).until.saturating_sub(self.millis(now));
        let standing = self.standing();
        if standing.is_out_of_reach() {
            Some(failed.saturating_add(OUT_OF_REACH))
        } else if standing.is_unhealthy() {
            Some(failed.saturating_add(UNHEALTHY))
        } else {
            (word != Health::GOOD).then_some(failed)
        }
    }

    /// Its failures in a row that raised the penalty, and the milliseconds for which the address is still ranked last by
    /// them; `None` if its last dial succeeded.
    pub fn failures(&self, now: Instant) -> Option<(u8, u64)> {
        let word = self.health.load(Ordering::Relaxed);
        let health = Health::unpack(word);
        let left = health.until.saturating_sub(self.millis(now));
        (word != Health::GOOD).then_some((health.failures, left))
    }

    /// Takes the trial, if it is due and no other client has it.
    pub(super) fn try_trial(self: &Arc<Self>, now: Instant) -> Option<Trial> {
        let due = self.health.load(Ordering::Relaxed);
        let health = Health::unpack(due);
        if due == Health::GOOD || health.on_trial || health.until > self.millis(now) {
            return None;
        }
        self.health
            .compare_exchange(
                due,
                due | Health::ON_TRIAL,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
            .then(|| Trial {
                address: Arc::clone(self),
                due,
            })
    }

    /// The same for a time that has come, which is never 0.
    fn moment(&self, now: Instant) -> u64 {
        self.millis(now).max(1)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The right to try first an address whose penalty is over. It ends with the result of any dial, or
/// with the guard.
#[derive(Debug)]
pub(super) struct Trial {
    address: Arc<Address>,
    due: u64,
}

impl Drop for Trial {
    fn drop(&mut self) {
        // If a dial has stored its result meanwhile, the word has changed, and this leaves it alone.
        let _changed_by_a_result = self.address.health.compare_exchange(
            self.due | Health::ON_TRIAL,
            self.due,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }
}

/// The failure state. It is packed into one word, so that threads always see all of its parts together.
#[derive(Clone, Copy, Debug)]
struct Health {
    /// The end of the penalty, ms from the origin.
    until: u64,
    /// Whether a client is trying the address first now.
    on_trial: bool,
    /// Failures in a row that raised the penalty, up to the longest penalty.
    failures: u8,
}

impl Health {
    /// The word of an address without failures.
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
