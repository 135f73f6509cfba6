//! Which peers may have left something unanswered, and since when (`peer_timeout`).
//!
//! Only the kernel knows what a peer has answered, and it does not say since when. So portway asks once the limit has passed
//! since something was sent, and again once it has passed since the first look that found something unanswered. A
//! connection on which bytes pass is looked at once in that time, and one on which nothing is sent never.

use std::cell::Cell;
use std::time::Duration;

use enum_map::EnumMap;

use super::seen::{Answer, Seen};
use crate::outcome::Direction;

/// For the receiver of each direction, since when it may have left something unanswered.
#[derive(Debug, Default)]
pub(super) struct Answers(EnumMap<Direction, Since>);

impl Answers {
    /// Notes that bytes or a FIN of a direction are sent.
    pub(super) fn expect(&self, direction: Direction, now: u32) {
        self.0[direction].begin(now);
    }

    /// Whether the limit has passed, so that the kernel has to be asked.
    pub(super) fn is_due(&self, direction: Direction, limit: u32, now: u32) -> bool {
        self.0[direction].elapsed(now) > Some(limit)
    }

    /// Takes what the kernel says about the receiver of a direction, if it was asked. Returns whether the receiver has left
    /// something unanswered for longer than the limit.
    pub(super) fn judge(&self, direction: Direction, seen: &Seen, limit: u32, now: u32) -> bool {
        let since = &self.0[direction];
        match seen.answer[direction] {
            Answer::Unknown => return false,
            // The peer has answered what was sent last, such as the probes of its closed window.
            Answer::Complete if seen.unacknowledged[direction] > 0 => since.may_be(now),
            Answer::Complete => since.end(),
            Answer::Missing(missing) => {
                let seconds = |time: Duration| u32::try_from(time.as_secs());
                let [at_least, silent] = [missing.at_least, missing.silent]
                    .map(|time| seconds(time).unwrap_or(u32::MAX));
                // If nothing has come since a look that found something unanswered, that still is.
                if !since.is_certain() || since.elapsed(now) > Some(silent) {
                    since.is(now.saturating_sub(at_least));
                }
            }
        }
        self.is_due(direction, limit, now)
    }
}

/// The second since which something may be unanswered, or is, modulo 2^14 (four hours and a half); or none.
#[derive(Debug, Default)]
struct Since(Cell<u16>);

impl Since {
    /// The bit of a second that is there. Without it there is none.
    const THERE: u16 = 1 << 15;
    /// The bit of a second since which the kernel knows of something unanswered.
    const CERTAIN: u16 = 1 << 14;
    /// The bits of the second.
    const SECOND: u16 = Self::CERTAIN - 1;

    /// The seconds since then.
    const fn elapsed(&self, now: u32) -> Option<u32> {
        match self.0.get() {
            0 => None,
            since => Some((Self::second(now).wrapping_sub(since) & Self::SECOND) as u32),
        }
    }

    const fn is_certain(&self) -> bool {
        self.0.get() & Self::CERTAIN != 0
    }

    /// Notes the second of what is sent, unless there is one.
    fn begin(&self, now: u32) {
        if self.0.get() == 0 {
            self.may_be(now);
        }
    }

    fn may_be(&self, since: u32) {
        self.0.set(Self::second(since) | Self::THERE);
    }

    fn is(&self, since: u32) {
        self.0
            .set(Self::second(since) | Self::THERE | Self::CERTAIN);
    }

    fn end(&self) {
        self.0.set(0);
    }

    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^14 is meant")]
    const fn second(second: u32) -> u16 {
        second as u16 & Self::SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_remembered_across_the_end_of_its_range() {
        let since = Since::default();
        assert_eq!(since.elapsed(5), None);
        since.begin((1 << 14) - 10);
        since.begin(1 << 14);
        assert_eq!(since.elapsed((1 << 14) + 90), Some(100));
        assert!(!since.is_certain());
        since.is((1 << 14) + 90);
        assert_eq!(since.elapsed((1 << 14) + 90), Some(0));
        assert!(since.is_certain());
        since.end();
        assert_eq!(since.elapsed((1 << 14) + 90), None);
    }
}
