//! The state that a relay shares with its worker: counts, the time of the last byte, a verdict.
//!
//! The worker sees only what portway's own calls have moved. If a limit seems to have passed, it
//! therefore asks the relay, which looks at its sockets: there may be bytes that the peer has not
//! acknowledged yet, or bytes that have arrived and that nobody has read.

mod judge;
mod watch;

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use enum_map::EnumMap;
use strum::VariantArray;
pub use watch::HandshakeSeen;

use super::answers::Answers;
use super::gap::{Gap, Stage};
use super::hellos::Place;
use super::small::{Mark, Marks, Micros, Moment, Since, low_byte};
use super::terms::{Terms, Verdict};
use crate::net::LegOptions;
use crate::outcome::Direction;

/// The bytes of one connection, from accept to its end. The worker reviews its flows once a second. That
/// covers the idle, half-close and stall limits and the drain, and no read has to reset a timer.
pub struct Flow {
    accepted_at: Moment,
    /// From accept to the backend's first byte.
    first_byte: Cell<Option<Micros>>,
    /// Absent before the relay begins.
    terms: OnceCell<Arc<Terms>>,
    moved: EnumMap<Direction, Cell<u64>>,
    moved_at: Cell<u32>,
    /// Since when the receiver of a direction has taken no byte although bytes wait for it, here or
    /// in the kernel's send queue.
    waiting: EnumMap<Direction, Since>,
    /// The bytes of a direction that its receiver had acknowledged at the last look, modulo 2^32.
    acknowledged: EnumMap<Direction, Cell<u32>>,
    answers: Answers,
    /// The low byte of the second since which a direction has held the same pipe.
    lent: EnumMap<Direction, Cell<u8>>,
    /// The place of the hello, while it waits.
    pub(super) place: Cell<Option<Place>>,
    marks: Marks,
    pub(super) gap: Gap,
    verdict: Cell<Option<Verdict>>,
    waker: Cell<Option<Waker>>,
}

impl Flow {
    /// Seconds without a byte taken after which a receiver is shown as stalled, and after which a held
    /// pipe goes back to the pool. One second could be no time at all on the coarse clock.
    const LONG: u32 = 2;
    /// Seconds that a client has to answer the FIN in a gap.
    const PARTING: u32 = 5;

    /// The flow of a connection that was accepted just now.
    pub fn new(accepted_at: Instant) -> Self {
        Self {
            accepted_at: Moment::new(accepted_at),
            first_byte: Cell::default(),
            terms: OnceCell::default(),
            moved: EnumMap::default(),
            moved_at: Cell::default(),
            waiting: EnumMap::default(),
            acknowledged: EnumMap::default(),
            answers: Answers::default(),
            lent: EnumMap::default(),
            place: Cell::default(),
            marks: Marks::default(),
            gap: Gap::default(),
            verdict: Cell::default(),
            waker: Cell::default(),
        }
    }

    /// When the connection was accepted.
    pub fn accepted_at(&self) -> Instant {
        self.accepted_at.get()
    }

    /// The time from accept to the backend's first byte, once it has come.
    pub fn first_byte(&self) -> Option<Duration> {
        self.first_byte.get().map(Micros::get)
    }

    /// When the backend began to answer with a TLS handshake, if it has since the last call.
    pub fn take_answer(&self) -> Option<Instant> {
        let after = self.first_byte()?;
        let is_new = self.marks.replace(Mark::Answered, false);
        is_new.then(|| self.accepted_at() + after)
    }

    /// Seconds since the last byte, by the worker's clock; `None` before the relay.
    pub fn idle(&self, now: u32) -> Option<u32> {
        self.terms.get().map(|_| self.silence(now))
    }

    /// Whether a direction has ended.
    pub fn is_half_closed(&self) -> bool {
        self.marks.get(Mark::HalfClosed)
    }

    /// Marks the start of the relay.
    pub(super) fn begin(&self, terms: Arc<Terms>, now: u32) {
        self.terms.get_or_init(|| terms);
        self.moved_at.set(now);
    }

    /// The options of the legs, once the connection has lived long enough to need them.
    pub(super) fn leg_options(&self) -> Option<LegOptions> {
        let terms = self.terms.get().filter(|_| self.marks.get(Mark::Settled))?;
        Some(terms.rules.leg)
    }

    /// Bytes of a direction that the kernel has accepted for its receiver so far.
    pub fn moved(&self, direction: Direction) -> u64 {
        self.moved[direction].get()
    }

    /// Counts bytes that the kernel has accepted for the receiver of a direction.
    pub(super) fn add(&self, direction: Direction, bytes: u64, now: u32) {
        let moved = &self.moved[direction];
        if direction == Direction::BackendToClient && moved.get() == 0 {
            let after = Micros::new(self.accepted_at().elapsed());
            self.first_byte.set(Some(after));
        }
        moved.set(moved.get() + bytes);
        self.moved_at.set(now);
        self.answers.expect(direction, now);
        self.waiting[direction].end();
        self.show_stalled(direction, false);
        if let Some(terms) = self.terms.get() {
            terms.stats.bytes(direction).add(bytes);
        }
    }

    /// Follows bytes that have arrived from the sender of a direction, before they are counted.
    pub(super) fn pass(&self, direction: Direction, bytes: &[u8], now: u32) {
        self.follow(|gap| gap.pass(direction, bytes, self.silence(now)));
    }

    /// Notes that the sender of a direction has closed it.
    pub(super) fn close(&self, direction: Direction) {
        self.follow(|gap| gap.close(direction));
    }

    /// Tells the gap what has happened, and counts what that has shown of the handshake.
    fn follow(&self, tell: impl FnOnce(&Gap)) {
        let before = self.gap.talk().watch();
        tell(&self.gap);
        self.count(before);
    }

    /// Notes that bytes wait here for the receiver of a direction.
    pub(super) fn block(&self, direction: Direction, now: u32) {
        self.waiting[direction].begin(now);
    }

    /// Notes that a direction holds a pipe.
    pub(super) fn lend(&self, direction: Direction, now: u32) {
        if !self.marks.replace(Mark::lent(direction), true) {
            self.lent[direction].set(low_byte(now));
        }
        self.follow(|gap| gap.lose(direction));
    }

    /// Notes that a direction no longer holds a pipe.
    pub(super) fn give_back(&self, direction: Direction) {
        self.marks.replace(Mark::lent(direction), false);
    }

    /// Whether a direction has held its pipe for too long.
    pub(super) fn is_overdue(&self, direction: Direction, now: u32) -> bool {
        // A pipe goes back long before 256 s, because a review wakes the relay each second from then on.
        let held = low_byte(now).wrapping_sub(self.lent[direction].get());
        self.marks.get(Mark::lent(direction)) && u32::from(held) >= Self::LONG
    }

    /// Notes that a direction has ended first. The FIN for its receiver counts as movement.
    pub(super) fn half_close(&self, direction: Direction, now: u32) {
        self.marks.replace(Mark::HalfClosed, true);
        self.moved_at.set(now);
        self.answers.expect(direction, now);
    }

    /// Shows in the metrics whether a direction is stalled.
    fn show_stalled(&self, direction: Direction, stalled: bool) {
        if self.marks.replace(Mark::stalled(direction), stalled) != stalled
            && let Some(terms) = self.terms.get()
        {
            terms.stats.stalled(direction, stalled);
        }
    }

    /// Wakes the relay to look at its sockets.
    pub(super) fn ask(&self) {
        self.marks.replace(Mark::Asked, true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Notes that the client gets a FIN, in a gap.
    pub(super) fn part(&self, now: u32) {
        self.gap.enter(Stage::Parting);
        self.moved_at.set(now);
    }

    /// Ends the connection at once, whatever is on its way. The first verdict counts.
    pub fn end(&self, verdict: Verdict) {
        self.verdict.set(self.verdict.get().or(Some(verdict)));
        self.wake();
    }

    /// The verdict if there is one; otherwise the task is woken when one comes.
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

    /// Runs a future unless a verdict comes first. It takes a pinned reference: by value the future
    /// would be in the caller's future twice.
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
        self.count_at_the_end();
        for &direction in Direction::VARIANTS {
            self.show_stalled(direction, false);
        }
    }
}
