//! What a connection shares with its worker: counts, the time of the last byte, a verdict.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Limits;
use crate::net::LegOptions;
use crate::outcome::{ByDirection, Direction, Outcome};
use crate::telemetry::BackendStats;

/// Why the worker ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `idle_timeout`.
    Idle,
    /// `half_close_timeout`.
    HalfClose,
    /// `stall_timeout`.
    Stalled,
    /// The end of a drain.
    Drained,
}

impl Verdict {
    /// The outcome of a connection that ends so.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Idle => Outcome::IdleTimeout,
            Self::HalfClose => Outcome::HalfCloseTimeout,
            Self::Stalled => Outcome::Stalled,
            Self::Drained => Outcome::Drained,
        }
    }
}

/// The limits of a relay in seconds of the worker's clock, rounded up.
#[derive(Clone, Copy, Debug)]
struct Seconds {
    idle: u32,
    half_close: u32,
    stall: u32,
}

impl Seconds {
    fn new(limits: &Limits) -> Self {
        let seconds = |limit: Duration| {
            let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
            u32::try_from(whole).unwrap_or(u32::MAX)
        };
        Self {
            idle: seconds(limits.idle_timeout),
            half_close: seconds(limits.half_close_timeout),
            stall: seconds(limits.stall_timeout),
        }
    }
}

/// What all relays to a backend have in common.
#[derive(Debug)]
pub struct Terms {
    /// The limits.
    pub limits: Limits,
    /// The backend's counters.
    pub stats: Arc<BackendStats>,
    seconds: Seconds,
}

impl Terms {
    /// Limits, and the counters of the backend.
    pub fn new(limits: Limits, stats: Arc<BackendStats>) -> Self {
        Self {
            seconds: Seconds::new(&limits),
            limits,
            stats,
        }
    }
}

/// Microseconds from accept to something in the set-up; 71 minutes at most.
#[derive(Clone, Copy, Debug)]
pub struct Micros(u32);

impl Micros {
    /// Of a time.
    pub fn new(time: Duration) -> Self {
        Self(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))
    }

    /// As a time.
    pub const fn get(self) -> Duration {
        Duration::from_micros(self.0 as u64)
    }
}

/// A second of the worker's clock at which something began that has not ended; or none.
#[derive(Debug)]
struct Since(Cell<u32>);

impl Since {
    const NEVER: u32 = u32::MAX;

    const fn get(&self) -> Option<u32> {
        match self.0.get() {
            Self::NEVER => None,
            second => Some(second),
        }
    }

    /// It begins, unless it has begun before.
    fn begin(&self, now: u32) {
        self.0.set(self.0.get().min(now));
    }

    fn end(&self) {
        self.0.set(Self::NEVER);
    }
}

impl Default for Since {
    fn default() -> Self {
        Self(Cell::new(Self::NEVER))
    }
}

/// One connection, from accept to its end. The worker looks over its flows once a second: idle,
/// half-close and stall limits and the drain come by one door, and no timer is reset per read.
pub struct Flow {
    accepted_at: Instant,
    /// From accept to the backend's first byte.
    first_byte: Cell<Option<Micros>>,
    /// Absent before the relay begins.
    terms: OnceCell<Arc<Terms>>,
    /// The worker has come across it since.
    settled: Cell<bool>,
    moved: ByDirection<Cell<u64>>,
    moved_at: Cell<u32>,
    /// Since when the receiver of a direction has taken no byte while bytes wait for it.
    blocked: ByDirection<Since>,
    /// Since when a direction has held the same pipe.
    lent: ByDirection<Since>,
    half_closed: Since,
    /// Directions that are shown as stalled.
    stalled: ByDirection<Cell<bool>>,
    verdict: Cell<Option<Verdict>>,
    waker: Cell<Option<Waker>>,
}

impl Flow {
    /// A receiver that has taken nothing for so many seconds is shown as stalled, and a pipe that has
    /// been held for so long goes back to those who move. A second less could be no time at all on
    /// the coarse clock.
    const LONG: u32 = 2;

    /// A connection that was accepted just now.
    pub fn new(accepted_at: Instant) -> Self {
        Self {
            accepted_at,
            first_byte: Cell::default(),
            terms: OnceCell::default(),
            settled: Cell::default(),
            moved: ByDirection::default(),
            moved_at: Cell::default(),
            blocked: ByDirection::default(),
            lent: ByDirection::default(),
            half_closed: Since::default(),
            stalled: ByDirection::default(),
            verdict: Cell::default(),
            waker: Cell::default(),
        }
    }

    /// When the connection was accepted.
    pub const fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    /// The time from accept to the backend's first byte, once it has come.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get().map(Micros::get)
    }

    /// The relay begins.
    pub(super) fn begin(&self, terms: Arc<Terms>, now: u32) {
        self.terms.get_or_init(|| terms);
        self.moved_at.set(now);
    }

    /// The options of the legs, once the connection has lived long enough to need them.
    pub(super) fn leg_options(&self) -> Option<LegOptions> {
        let terms = self.terms.get().filter(|_| self.settled.get())?;
        Some(terms.limits.leg)
    }

    /// Bytes handed on in a direction so far.
    pub fn moved(&self, direction: Direction) -> u64 {
        self.moved[direction].get()
    }

    /// Counts bytes that the receiver of a direction took.
    pub(super) fn add(&self, direction: Direction, bytes: u64, now: u32) {
        let moved = &self.moved[direction];
        if direction == Direction::BackendToClient && moved.get() == 0 {
            let after = Micros::new(self.accepted_at.elapsed());
            self.first_byte.set(Some(after));
        }
        moved.set(moved.get() + bytes);
        self.moved_at.set(now);
        self.blocked[direction].end();
        self.show_stalled(direction, false);
        if let Some(terms) = self.terms.get() {
            terms.stats.bytes(direction).add(bytes);
        }
    }

    /// Notes that bytes wait for the receiver of a direction.
    pub(super) fn block(&self, direction: Direction, now: u32) {
        self.blocked[direction].begin(now);
    }

    /// Notes that a direction holds a pipe.
    pub(super) fn lend(&self, direction: Direction, now: u32) {
        self.lent[direction].begin(now);
    }

    /// Notes that a direction holds no pipe any more.
    pub(super) fn give_back(&self, direction: Direction) {
        self.lent[direction].end();
    }

    /// Whether a direction has held its pipe for too long.
    pub(super) fn is_overdue(&self, direction: Direction, now: u32) -> bool {
        let since = self.lent[direction].get();
        since.is_some_and(|since| now.saturating_sub(since) >= Self::LONG)
    }

    /// Notes that one direction has ended.
    pub(super) fn half_close(&self, now: u32) {
        self.half_closed.begin(now);
    }

    /// Whether the relay has moved no byte lately and none waits. In the set-up it is not idle.
    pub fn is_idle(&self, now: u32) -> bool {
        let still = now.saturating_sub(self.moved_at.get()) >= Self::LONG;
        let waits = |direction| self.blocked[direction].get().is_some();
        self.terms.get().is_some() && still && !Direction::ALL.into_iter().any(waits)
    }

    /// Shows the directions that have stalled, asks for pipes that are overdue, and ends the
    /// connection if a limit has passed. A limit never comes early, and up to two seconds late:
    /// `moved_at` is a coarse time, and this is called once a second.
    pub fn review(&self, now: u32) {
        let Some(Terms { seconds, .. }) = self.terms.get().map(|terms| &**terms) else {
            return;
        };
        let over = |since: u32, limit: u32| now.saturating_sub(since) > limit;
        let moved_at = self.moved_at.get();
        let half_closed = self.half_closed.get().map(|at| at.max(moved_at));
        let mut stalled = false;
        let mut overdue = false;
        for direction in Direction::ALL {
            if let Some(since) = self.blocked[direction].get() {
                self.show_stalled(direction, now.saturating_sub(since) >= Self::LONG);
                stalled |= over(since, seconds.stall);
            }
            overdue |= self.is_overdue(direction, now);
        }
        if stalled {
            self.end(Verdict::Stalled);
        } else if half_closed.is_some_and(|since| over(since, seconds.half_close)) {
            self.end(Verdict::HalfClose);
        } else if over(moved_at, seconds.idle) {
            self.end(Verdict::Idle);
        } else if overdue || !self.settled.replace(true) {
            self.wake();
        }
    }

    /// Shows a direction as stalled, or not any more.
    fn show_stalled(&self, direction: Direction, stalled: bool) {
        if self.stalled[direction].replace(stalled) != stalled
            && let Some(terms) = self.terms.get()
        {
            terms.stats.stalled(direction, stalled);
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ends the connection; the first verdict holds.
    pub fn end(&self, verdict: Verdict) {
        self.verdict.set(self.verdict.get().or(Some(verdict)));
        self.wake();
    }

    /// The verdict, or none, and a promise to wake the task when there is one.
    pub(super) fn poll_verdict(&self, cx: &Context<'_>) -> Option<Verdict> {
        if let Some(verdict) = self.verdict.get() {
            return Some(verdict);
        }
        let known = self.waker.take();
        let known = known.filter(|known| known.will_wake(cx.waker()));
        self.waker
            .set(Some(known.unwrap_or_else(|| cx.waker().clone())));
        None
    }

    /// Runs a future unless a verdict comes first. It stays where it is: taken by value it would be in
    /// the caller's future twice.
    pub async fn unless_ended<T>(
        &self,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Verdict> {
        std::future::poll_fn(|cx| match self.poll_verdict(cx) {
            Some(verdict) => Poll::Ready(Err(verdict)),
            None => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        for direction in Direction::ALL {
            self.show_stalled(direction, false);
        }
    }
}
