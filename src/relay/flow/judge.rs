//! Which limit of a connection has passed.

use strum::VariantArray;

use super::Flow;
use crate::net::GivenUp;
use crate::outcome::Direction;
use crate::relay::gap::Stage;
use crate::relay::seen::Seen;
use crate::relay::small::Mark;
use crate::relay::terms::{Seconds, Terms, Verdict};

impl Flow {
    /// Shows the directions that have stalled, and wakes the relay if a pipe is overdue. Asks the relay
    /// to look at its sockets if a limit seems to have passed or bytes wait. A limit never strikes early,
    /// and at most two seconds late: `moved_at` is a coarse time, and this is called once a second. A pause of the whole
    /// process for more than five seconds does not count.
    pub fn review(&self, now: u32) {
        let Some(Terms { seconds, .. }) = self.terms.get().map(|terms| &**terms) else {
            return;
        };
        let mut asks = self.overstayed(seconds, now).is_some();
        let mut overdue = false;
        for &direction in Direction::VARIANTS {
            asks |= self.is_answer_due(direction, now);
            if let Some(since) = self.waiting[direction].get() {
                self.show_stalled(direction, now.saturating_sub(since) >= Self::LONG);
                asks = true;
            }
            overdue |= self.is_overdue(direction, now);
        }
        if asks {
            self.marks.replace(Mark::Asked, true);
        }
        if !self.marks.replace(Mark::Settled, true) || asks || overdue {
            self.wake();
        }
    }

    /// Whether the kernel has to say what the receiver of a direction has answered, because `peer_timeout` has passed since
    /// something was sent to it.
    pub(in crate::relay) fn is_answer_due(&self, direction: Direction, now: u32) -> bool {
        let limit = self.terms.get().and_then(|terms| terms.seconds.peer);
        limit.is_some_and(|limit| self.answers.is_due(direction, limit, now))
    }

    /// Whether the kernel has given a peer up after `peer_timeout`.
    pub(in crate::relay) fn is_peer_timeout(&self, how: &GivenUp) -> bool {
        let rules = self.terms.get().map(|terms| &terms.rules);
        rules.is_some_and(|rules| {
            let limit = rules.peer_timeout;
            limit.is_some_and(|limit| how.is_after(limit, rules.leg.keepalive.idle))
        })
    }

    /// Seconds since the last byte.
    pub(in crate::relay) fn silence(&self, now: u32) -> u32 {
        now.saturating_sub(self.moved_at.get())
    }

    /// The limit that has passed as far as portway's own calls show, except the stall limit.
    fn overstayed(&self, seconds: &Seconds, now: u32) -> Option<Verdict> {
        let still = self.silence(now);
        if self.marks.get(Mark::HalfClosed) && still > seconds.half_close {
            Some(Verdict::HalfClose)
        } else if still > seconds.idle {
            Some(Verdict::Idle)
        } else {
            let limit = match self.gap.stage() {
                Stage::Not | Stage::InGap => return None,
                Stage::Idle => Self::LONG,
                Stage::Parting => Self::PARTING,
            };
            (still >= limit).then_some(Verdict::Drained)
        }
    }

    /// Whether the relay has been asked to look. Asking resets it.
    pub(in crate::relay) fn is_asked(&self) -> bool {
        self.marks.replace(Mark::Asked, false)
    }

    /// Decides by what the relay has seen at its sockets. While a receiver goes on taking bytes that
    /// wait for it, the connection is neither idle nor stalled, however slow the receiver is: each
    /// limit starts again from the last byte that it took.
    pub(in crate::relay) fn judge(&self, seen: &Seen, now: u32) -> Option<Verdict> {
        let Terms { seconds, .. } = &**self.terms.get()?;
        let mut on_their_way = false;
        let [mut stalled, mut silent] = [false; 2];
        for &direction in Direction::VARIANTS {
            let waiting = &self.waiting[direction];
            let unacknowledged = seen.unacknowledged[direction];
            #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is meant")]
            let acknowledged = self.moved(direction).wrapping_sub(unacknowledged) as u32;
            let took = self.acknowledged[direction].replace(acknowledged) != acknowledged;
            let waits = unacknowledged > 0 || seen.held[direction];
            on_their_way |= waits;
            if waiting.get().is_some() && (took || !waits) {
                self.moved_at.set(now);
                waiting.end();
                self.show_stalled(direction, false);
            }
            if waits {
                waiting.begin(now);
            }
            silent |=
                (seconds.peer).is_some_and(|limit| self.answers.judge(direction, seen, limit, now));
            let since = waiting.get();
            stalled |= since.is_some_and(|since| now.saturating_sub(since) > seconds.stall);
        }
        if silent {
            Some(Verdict::PeerTimeout)
        } else if stalled {
            Some(Verdict::Stalled)
        } else if on_their_way || seen.arrived {
            None
        } else if seen.is_in_gap {
            Some(Verdict::Gap)
        } else {
            self.overstayed(seconds, now)
        }
    }
}
