//! The end of a connection whose leg has failed: its peer reset it, or this machine gave it up.

use enum_map::EnumMap;

use super::end::{End, Side};
use super::{Relay, words};
use crate::net::Broken;
use crate::outcome::{Direction, Outcome};

/// Seconds without a byte after which bytes that a peer has not acknowledged are no longer just on their way.
const LONG: u32 = 5;

impl Relay<'_> {
    /// The end after the leg of a side has failed.
    pub(super) fn failed(&self, side: Side, broken: Broken) -> End {
        let said_close = self.pumps[side.sends()].has_said_close();
        let mut end = self.ended.broken(side, broken, said_close, self.flow);
        let [to_side, to_other] = [side.other().sends(), side.sends()];
        let mut unacknowledged = EnumMap::<Direction, u64>::default();
        unacknowledged[to_side] = self.receiver(to_side).abandoned();
        unacknowledged[to_other] = self.receiver(to_other).unacknowledged();
        end.unacknowledged = unacknowledged.values().sum();
        if end.outcome == Outcome::Closed {
            return end;
        }
        let why = self.given_up(side, broken, &mut end);
        let is_long = self.flow.silence(self.resources.now()) >= LONG;
        let lost =
            (why.is_some() || is_long).then(|| words::unacknowledged(&unacknowledged, self.flow));
        end.detail = words::joined([why, lost.flatten()]);
        end
    }

    /// Says what went wrong on the leg of a side, unless its peer reset it. If the peer has answered nothing for
    /// `peer_timeout`, that is the outcome, although the kernel has counted the time.
    fn given_up(&self, side: Side, broken: Broken, end: &mut End) -> Option<Box<str>> {
        if broken.is_reset() {
            return None;
        }
        let (peer, Broken(error)) = (side.closed_by().name(), broken);
        let Some(how) = self.receiver(side.other().sends()).given_up(broken) else {
            return Some(format!("the connection to the {peer} failed: {error}").into());
        };
        if self.flow.is_peer_timeout(&how) {
            end.outcome = Outcome::PeerTimeout;
        }
        Some(format!("the {peer} {how}").into())
    }
}
