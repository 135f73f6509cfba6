//! What a connection shares with its worker: counts, the time of the last byte, a verdict.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Limits;
use crate::net::Pool;
use crate::outcome::{ByDirection, Direction, Outcome};

/// What all connections of a worker use one after the other.
#[derive(Debug)]
pub struct Resources {
    /// Takes one read of a pump, or a peeked hello; never held across a wait.
    pub buffer: RefCell<Box<[u8]>>,
    /// Takes the joined message of a hello that came in several records.
    pub scratch: RefCell<Box<[u8]>>,
    /// Pipes for bulk flows.
    pub pipes: Rc<Pool>,
    /// Seconds since the worker began, as of its last turn.
    clock: Cell<u32>,
}

impl Resources {
    /// Bytes of one read.
    const READ: usize = 64 << 10;
    /// A peek may ask for one record header more than the largest hello.
    const RECORD_HEADER: usize = 5;

    /// Allocates the buffers, for hellos up to `max_client_hello`; pipes are made when needed.
    pub fn new(max_client_hello: usize) -> Self {
        let largest = Self::READ.max(max_client_hello + Self::RECORD_HEADER);
        Self {
            buffer: RefCell::new(vec![0; largest].into()),
            scratch: RefCell::new(vec![0; max_client_hello].into()),
            pipes: Rc::default(),
            clock: Cell::new(0),
        }
    }

    /// The worker's coarse clock, in seconds: reading it is no system call.
    pub const fn now(&self) -> u32 {
        self.clock.get()
    }

    /// Turns the clock on, once a second.
    pub fn tick(&self, now: u32) {
        self.clock.set(now);
        self.pipes.retry();
    }
}

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

/// One connection, from accept to its end. The worker looks over its flows once a second: idle,
/// half-close and stall limits and the drain come by one door, and no timer is reset per read.
#[derive(Debug)]
pub struct Flow {
    accepted_at: Instant,
    /// From accept to the backend's first byte.
    first_byte: Cell<Option<Duration>>,
    /// Absent before the relay begins.
    limits: Cell<Option<Seconds>>,
    moved: ByDirection<Cell<u64>>,
    moved_at: Cell<u32>,
    /// Since when the receiver of a direction has taken no byte while bytes wait for it.
    blocked_at: ByDirection<Cell<Option<u32>>>,
    half_closed_at: Cell<Option<u32>>,
    verdict: Cell<Option<Verdict>>,
    waker: RefCell<Option<Waker>>,
}

impl Flow {
    /// A connection that was accepted just now.
    pub fn new(accepted_at: Instant) -> Self {
        Self {
            accepted_at,
            first_byte: Cell::default(),
            limits: Cell::default(),
            moved: ByDirection::default(),
            moved_at: Cell::default(),
            blocked_at: ByDirection::default(),
            half_closed_at: Cell::default(),
            verdict: Cell::default(),
            waker: RefCell::default(),
        }
    }

    /// When the connection was accepted.
    pub const fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    /// The time from accept to the backend's first byte, once it has come.
    pub const fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get()
    }

    /// The relay begins.
    pub(super) fn begin(&self, limits: &Limits, now: u32) {
        self.limits.set(Some(Seconds::new(limits)));
        self.moved_at.set(now);
    }

    /// Bytes handed on in a direction so far.
    pub fn moved(&self, direction: Direction) -> u64 {
        self.moved[direction].get()
    }

    /// Notes that the receiver of a direction took bytes.
    pub(super) fn add(&self, direction: Direction, bytes: u64, now: u32) {
        let moved = &self.moved[direction];
        if direction == Direction::BackendToClient && moved.get() == 0 {
            self.first_byte.set(Some(self.accepted_at.elapsed()));
        }
        moved.set(moved.get() + bytes);
        self.moved_at.set(now);
        self.blocked_at[direction].set(None);
    }

    /// Notes that bytes wait for the receiver of a direction.
    pub(super) fn block(&self, direction: Direction, now: u32) {
        let blocked_at = &self.blocked_at[direction];
        blocked_at.set(blocked_at.get().or(Some(now)));
    }

    /// Notes that one direction has ended.
    pub(super) fn half_close(&self, now: u32) {
        self.half_closed_at.set(Some(now));
    }

    /// Ends the connection if a limit has passed. A limit never comes early, and up to two seconds
    /// late: `moved_at` is a coarse time, and this is called once a second.
    pub fn review(&self, now: u32) {
        let Some(limits) = self.limits.get() else {
            return;
        };
        let over = |since: u32, limit: u32| now.saturating_sub(since) > limit;
        let moved_at = self.moved_at.get();
        let blocked = self.blocked_at.iter().filter_map(Cell::get);
        let half_closed = self.half_closed_at.get().map(|at| at.max(moved_at));
        if blocked.into_iter().any(|since| over(since, limits.stall)) {
            self.end(Verdict::Stalled);
        } else if half_closed.is_some_and(|since| over(since, limits.half_close)) {
            self.end(Verdict::HalfClose);
        } else if over(moved_at, limits.idle) {
            self.end(Verdict::Idle);
        }
    }

    /// Ends the connection; the first verdict holds.
    pub fn end(&self, verdict: Verdict) {
        self.verdict.set(self.verdict.get().or(Some(verdict)));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The verdict, or none, and a promise to wake the task when there is one.
    pub(super) fn poll_verdict(&self, cx: &Context<'_>) -> Option<Verdict> {
        if let Some(verdict) = self.verdict.get() {
            return Some(verdict);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        None
    }

    /// Runs a future unless a verdict comes first.
    pub async fn unless_ended<T>(&self, future: impl Future<Output = T>) -> Result<T, Verdict> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| match self.poll_verdict(cx) {
            Some(verdict) => Poll::Ready(Err(verdict)),
            None => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }
}
