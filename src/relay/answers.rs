//! Which peers may have left something unanswered, and since when (`peer_timeout`).
//!
//! Only the kernel knows what a peer has answered. It is asked once the limit has passed since something was sent, so a
//! connection on which bytes pass costs two system calls in that time, and one on which nothing is sent costs none.

use std::cell::Cell;

use enum_map::EnumMap;

use super::seen::{Answer, Seen};
use crate::outcome::Direction;

/// For the receiver of each direction, since when it may have left something unanswered: the first bytes that were sent
/// to it after the kernel said for the last time that all was answered.
#[derive(Debug, Default)]
pub(super) struct Answers(EnumMap<Direction, Sent>);

impl Answers {
    /// Notes that bytes or a FIN of a direction are sent.
    pub(super) fn expect(&self, direction: Direction, now: u32) {
        self.0[direction].begin(now);
    }

    /// Whether the limit has passed since something was sent, so that the kernel has to be asked.
    pub(super) fn is_due(&self, direction: Direction, limit: u32, now: u32) -> bool {
        self.0[direction].elapsed(now) > Some(limit)
    }

    /// Takes what the kernel says about the receiver of a direction, if it was asked. Returns whether the receiver has left
    /// something unanswered for longer than the limit.
    pub(super) fn judge(&self, direction: Direction, seen: &Seen, limit: u32, now: u32) -> bool {
        let sent = &self.0[direction];
        match seen.answer[direction] {
            Answer::Unknown => return false,
            // The peer has answered all probes of its closed window.
            Answer::Complete if seen.unacknowledged[direction] > 0 => sent.restart(now),
            Answer::Complete => sent.end(),
            Answer::Missing(time) => {
                let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
                if sent.elapsed(now) > Some(seconds) {
                    sent.restart(now.saturating_sub(seconds));
                }
            }
        }
        self.is_due(direction, limit, now)
    }
}

/// The second at which something was sent, modulo 2^15 (nine hours), or none.
#[derive(Debug, Default)]
struct Sent(Cell<u16>);

impl Sent {
    /// The bit of a second that is there. Without it there is none.
    const THERE: u16 = 1 << 15;

    /// The seconds since then.
    const fn elapsed(&self, now: u32) -> Option<u32> {
        match self.0.get() {
            0 => None,
            second => Some((Self::stamp(now).wrapping_sub(second) & !Self::THERE) as u32),
        }
    }

    /// Notes the second, unless there is one.
    fn begin(&self, now: u32) {
        if self.0.get() == 0 {
            self.restart(now);
        }
    }

    fn restart(&self, now: u32) {
        self.0.set(Self::stamp(now));
    }

    fn end(&self) {
        self.0.set(0);
    }

    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^15 is meant")]
    const fn stamp(second: u32) -> u16 {
        second as u16 | Self::THERE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_remembered_across_the_end_of_its_range() {
        let sent = Sent::default();
        assert_eq!(sent.elapsed(5), None);
        sent.begin((1 << 15) - 10);
        sent.begin(1 << 15);
        assert_eq!(sent.elapsed((1 << 15) + 90), Some(100));
        sent.restart((1 << 15) + 90);
        assert_eq!(sent.elapsed((1 << 15) + 90), Some(0));
        sent.end();
        assert_eq!(sent.elapsed((1 << 15) + 90), None);
    }
}
