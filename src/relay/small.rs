//! Times and marks in few bytes, because an idle connection is kept small.

use std::cell::Cell;
use std::num::NonZero;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::outcome::Direction;

/// Microseconds from accept to a step of the set-up: at least one, so that an `Option` takes no more
/// space, and 71 minutes at most.
#[derive(Clone, Copy, Debug)]
pub struct Micros(NonZero<u32>);

impl Micros {
    /// Converts a duration.
    pub fn new(time: Duration) -> Self {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Self(NonZero::new(micros).unwrap_or(NonZero::<u32>::MIN))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        Duration::from_micros(self.0.get() as u64)
    }
}

/// The time before which no connection of this process was accepted.
static BEGINNING: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    // The first connection may have been accepted a moment before it is noted.
    now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
});

/// An [`Instant`] in half of its size: nanoseconds since the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) fn new(at: Instant) -> Self {
        let since = at.saturating_duration_since(*BEGINNING);
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn get(self) -> Instant {
        *BEGINNING + Duration::from_nanos(self.0)
    }
}

/// The second of the worker's clock at which something began, or none if it is not under way.
#[derive(Debug)]
pub(super) struct Since(Cell<u32>);

impl Since {
    const NEVER: u32 = u32::MAX;

    pub(super) const fn get(&self) -> Option<u32> {
        match self.0.get() {
            Self::NEVER => None,
            second => Some(second),
        }
    }

    /// Notes the start, unless it has started before.
    pub(super) fn begin(&self, now: u32) {
        self.0.set(self.0.get().min(now));
    }

    pub(super) fn end(&self) {
        self.0.set(Self::NEVER);
    }
}

impl Default for Since {
    fn default() -> Self {
        Self(Cell::new(Self::NEVER))
    }
}

/// The low byte of a second of the worker's clock, for times of less than 256 s.
#[expect(clippy::cast_possible_truncation, reason = "modulo 256 is meant")]
pub(super) const fn low_byte(second: u32) -> u8 {
    second as u8
}

/// A mark of a flow; the number is its bit.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Mark {
    /// The worker's first review of the relay is over.
    Settled = 1,
    /// The relay shall look at its sockets.
    Asked = 2,
    /// The metrics show the direction to the backend as stalled.
    StalledToBackend = 4,
    /// The metrics show the direction to the client as stalled.
    StalledToClient = 8,
    /// The backend has begun to answer with a TLS handshake, and nobody has been told yet.
    Answered = 16,
    /// One direction has ended.
    HalfClosed = 32,
    /// The direction to the backend holds a pipe.
    LentToBackend = 64,
    /// The direction to the client holds a pipe.
    LentToClient = 128,
}

impl Mark {
    pub(super) const fn stalled(direction: Direction) -> Self {
        match direction {
            Direction::ClientToBackend => Self::StalledToBackend,
            Direction::BackendToClient => Self::StalledToClient,
        }
    }

    pub(super) const fn lent(direction: Direction) -> Self {
        match direction {
            Direction::ClientToBackend => Self::LentToBackend,
            Direction::BackendToClient => Self::LentToClient,
        }
    }
}

/// A set of marks.
#[derive(Debug, Default)]
pub(super) struct Marks(Cell<u8>);

impl Marks {
    pub(super) const fn get(&self, mark: Mark) -> bool {
        self.0.get() & mark as u8 != 0
    }

    /// Sets or removes a mark; returns whether it was there.
    pub(super) fn replace(&self, mark: Mark, value: bool) -> bool {
        let before = self.0.get();
        let others = before & !(mark as u8);
        self.0.set(if value { others | mark as u8 } else { others });
        before & mark as u8 != 0
    }
}
