//! How a connection ends while the process drains: in a gap if one comes, so that its client loses nothing.

use std::cell::Cell;
use std::ops::Range;
use std::time::Duration;

use super::Flow;
use super::end::Side;
use super::talk::Talk;
use crate::outcome::Direction;

/// Steps of the drain, of 100 ms, without a byte behind an answer that make a gap. The first step may come at once.
const QUIET: u8 = 5;
/// An agent sends its next check-in about a second after an answer, so in these steps it may be on its way. Go's client
/// does not repeat a check-in that crosses a FIN.
const DUE: Range<u8> = 9..39;

/// The end of a connection in a drain, as far as it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The process does not drain, and nothing else asks for its end.
    #[default]
    Not,
    /// It ends in its next gap.
    InGap,
    /// It ends in its next gap, or as soon as it is idle.
    Idle,
    /// It ends in a gap that has come: the client has a FIN.
    Parting,
}

/// The place of a connection between two requests, and what a drain makes of it, in 18 bytes.
#[derive(Debug, Default)]
pub(super) struct Gap {
    talk: Cell<Talk>,
    stage: Cell<Stage>,
    /// Steps of the drain since the last byte.
    quiet: Cell<u8>,
}

impl Gap {
    pub(super) const fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Follows bytes of a direction, which come after so many seconds of silence.
    pub(super) fn pass(&self, direction: Direction, bytes: &[u8], silence: u32) {
        let mut talk = self.talk.get();
        talk.pass(direction, bytes, silence);
        self.talk.set(talk);
        self.quiet.set(0);
    }

    /// The conversation so far.
    pub(super) const fn talk(&self) -> Talk {
        self.talk.get()
    }

    /// Notes that the sender of a direction has closed it.
    pub(super) fn close(&self, direction: Direction) {
        let mut talk = self.talk.get();
        talk.close(Side::of(direction));
        self.talk.set(talk);
    }

    /// Notes that bytes of a direction pass unseen: the connection has no gap any more.
    pub(super) fn lose(&self, direction: Direction) {
        let mut talk = self.talk.get();
        talk.lose(direction);
        self.talk.set(talk);
    }

    /// Whether what the client sends behind the FIN is a request.
    pub(super) fn is_crossed_by(&self, bytes: &[u8]) -> bool {
        let mut talk = self.talk.get();
        let is_crossed = talk.is_request(bytes);
        self.talk.set(talk);
        is_crossed
    }

    /// Goes on to a stage of the drain, if it is not there yet.
    pub(super) fn enter(&self, stage: Stage) {
        if self.stage.get() == Stage::Not {
            // The last byte came at an unknown time before the drain, so a request may be due.
            self.quiet.set(self.quiet.get().max(DUE.start));
        }
        self.stage.set(self.stage.get().max(stage));
    }

    /// Ends the drain, unless the client has a FIN.
    pub(super) fn resume(&self) {
        if self.stage.get() != Stage::Parting {
            self.stage.set(Stage::Not);
        }
    }

    /// Counts a step of the drain. True if a gap seems to have come.
    pub(super) fn step(&self) -> bool {
        self.quiet.set(self.quiet.get().saturating_add(1));
        self.is_now()
    }

    /// Whether a gap has come in which a drain may end the connection, as far as portway's own calls show.
    pub(super) fn is_now(&self) -> bool {
        let may_end = matches!(self.stage.get(), Stage::InGap | Stage::Idle);
        let quiet = self.quiet.get();
        may_end && quiet >= QUIET && !DUE.contains(&quiet) && self.talk.get().is_answered()
    }

    /// How long it has been quiet in a drain.
    pub(super) fn quiet(&self) -> Duration {
        Duration::from_millis(100) * u32::from(self.quiet.get())
    }
}

impl Flow {
    /// Whether it looks for its end already.
    pub fn is_draining(&self) -> bool {
        self.gap.stage() != Stage::Not
    }

    /// Drains this connection: it ends in its next gap.
    pub fn drain_in_gap(&self) {
        self.gap.enter(Stage::InGap);
    }

    /// A step of the drain, every 100 ms: asks the relay to look if a gap seems to have come.
    pub fn step(&self) {
        if self.gap.step() {
            self.ask();
        }
    }

    /// Drains this connection: it ends as soon as no byte passes or is on its way.
    pub fn drain(&self) {
        self.gap.enter(Stage::Idle);
        self.ask();
    }

    /// Ends the drain: the connection goes on, unless its client has a FIN.
    pub fn resume(&self) {
        self.gap.resume();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(length: u8) -> Vec<u8> {
        let mut record = vec![23, 3, 3, 0, length];
        record.resize(5 + usize::from(length), 0xaa);
        record
    }

    fn answered(stage: Stage) -> Gap {
        let gap = Gap::default();
        gap.enter(stage);
        gap.pass(Direction::ClientToBackend, &data(100), 0);
        gap.pass(Direction::BackendToClient, &data(100), 300);
        gap
    }

    #[test]
    fn a_gap_is_used_early_or_not_before_the_next_check_in_is_overdue() {
        let gap = answered(Stage::InGap);
        let used: Vec<u32> = (1..50).filter(|_| gap.step()).collect();
        let expected = (5..9).chain(39..50);
        assert_eq!(used, expected.collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_from_before_the_drain_may_be_of_any_age() {
        let gap = answered(Stage::Not);
        gap.enter(Stage::InGap);
        let used: Vec<u32> = (1..50).filter(|_| gap.step()).collect();
        assert_eq!(
            used,
            (30..50).collect::<Vec<_>>(),
            "3 s after the drain began"
        );
    }

    #[test]
    fn a_gap_begins_anew_with_each_byte() {
        let gap = answered(Stage::InGap);
        assert!(!(0..4).any(|_| gap.step()));
        gap.pass(Direction::BackendToClient, &data(30), 0);
        assert!(!(0..4).any(|_| gap.step()));
        assert!(gap.step());
        assert_eq!(gap.quiet(), Duration::from_millis(500));
    }

    #[test]
    fn without_a_drain_nothing_ends_in_a_gap_and_from_a_fin_there_is_no_way_back() {
        let gap = answered(Stage::Not);
        assert!(!(0..100).any(|_| gap.step()));
        gap.enter(Stage::Parting);
        gap.resume();
        gap.enter(Stage::Idle);
        assert_eq!(gap.stage(), Stage::Parting);
        assert!(!(0..100).any(|_| gap.step()));
    }

    #[test]
    fn an_idle_end_is_not_taken_back_by_the_search_for_a_gap() {
        let gap = answered(Stage::Idle);
        gap.enter(Stage::InGap);
        assert_eq!(gap.stage(), Stage::Idle);
        gap.resume();
        assert_eq!(gap.stage(), Stage::Not);
    }
}
