//! How a relay ended.

use super::Flow;
use super::seen::Seen;
use super::terms::Verdict;
use super::words;
use crate::net::Broken;
use crate::outcome::{ClosedBy, Direction, Outcome};

/// One of the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The peer that dialled us.
    Client,
    /// The peer that we dialled.
    Backend,
}

impl Side {
    /// The direction of the bytes that this side sends.
    pub(super) const fn sends(self) -> Direction {
        match self {
            Self::Client => Direction::ClientToBackend,
            Self::Backend => Direction::BackendToClient,
        }
    }

    pub(super) const fn of(direction: Direction) -> Self {
        match direction {
            Direction::ClientToBackend => Self::Client,
            Direction::BackendToClient => Self::Backend,
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    pub(super) const fn closed_by(self) -> ClosedBy {
        match self {
            Self::Client => ClosedBy::Client,
            Self::Backend => ClosedBy::Backend,
        }
    }
}

/// The state of a relay's end while it approaches; it gives the outcome at last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ended {
    /// The side whose direction ended first, with all its bytes passed on.
    first: Option<Side>,
    /// Bytes that the other side had sent by then, modulo 2^32, so that the future stays small. A side that
    /// sends exactly a multiple of 4 GiB more before a reset looks as if it had sent nothing more.
    sent_by_other: u32,
    /// Both directions have ended.
    both: bool,
}

/// The outcome of a relay, and who ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The outcome.
    pub outcome: Outcome,
    /// The side that ended it first.
    pub closed_by: ClosedBy,
    /// Says what went wrong, if a leg broke without a reset of its peer.
    pub detail: Option<Box<str>>,
    /// Bytes on their way to a peer that has not acknowledged them: portway's reset has thrown them away, or the peer
    /// was given up.
    pub unacknowledged: u64,
    /// How it ended in a gap, if it did.
    pub parting: Option<Parting>,
}

/// The end of a connection in a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The client sent nothing more.
    Clean,
    /// A request of the client crossed portway's FIN, and was not passed on.
    Crossed,
}

impl End {
    /// The end by a limit or by the drain.
    pub(super) fn cut(verdict: Verdict, seen: &Seen, flow: &Flow) -> Self {
        let unacknowledged = || words::unacknowledged(&seen.unacknowledged, flow);
        Self {
            outcome: verdict.outcome(),
            closed_by: ClosedBy::Portway,
            detail: match verdict {
                Verdict::PeerTimeout => words::joined([words::unanswered(seen), unacknowledged()]),
                Verdict::Stalled => unacknowledged(),
                // The first two strike only when nothing is on its way to a peer.
                Verdict::Idle | Verdict::HalfClose | Verdict::Gap | Verdict::Drained => None,
            },
            unacknowledged: seen.unacknowledged.values().sum(),
            parting: None,
        }
    }

    /// The end in a gap.
    pub(super) fn parted(parting: Parting) -> Self {
        let detail = (parting == Parting::Crossed).then(|| {
            "the client sent a request while portway closed the connection: it was not passed on".into()
        });
        Self {
            outcome: Outcome::Drained,
            closed_by: ClosedBy::Portway,
            detail,
            unacknowledged: 0,
            parting: Some(parting),
        }
    }
}

impl Ended {
    /// Notes that a direction has ended; `true` if its FIN must be passed on now. The second
    /// direction needs no shutdown: closing the socket sends the FIN.
    pub(super) fn direction(&mut self, direction: Direction, flow: &Flow) -> bool {
        let side = Side::of(direction);
        match self.first {
            None => {
                self.first = Some(side);
                self.sent_by_other = low(flow.moved(side.other().sends()));
                true
            }
            Some(first) => {
                self.both |= first != side;
                false
            }
        }
    }

    pub(super) const fn both(self) -> bool {
        self.both
    }

    /// The end after both directions have ended in order.
    pub(super) fn in_order(self, flow: &Flow) -> End {
        let first = self.first.unwrap_or(Side::Client);
        let early = first == Side::Backend && flow.moved(Direction::BackendToClient) == 0;
        let outcome = if early {
            Outcome::BackendClosedEarly
        } else {
            Outcome::Closed
        };
        End {
            outcome,
            closed_by: first.closed_by(),
            detail: None,
            unacknowledged: 0,
            parting: None,
        }
    }

    /// The end after a leg broke. A break is ordinary after an orderly close of TCP or TLS: a Go
    /// client that has closed answers the backend's last bytes with RST, or sends RST instead of FIN
    /// if they came just before. A peer that is gone before our last send is not a failure either.
    pub(super) fn broken(self, side: Side, broken: Broken, said_close: bool, flow: &Flow) -> End {
        let after_a_close = broken.is_reset()
            && self.first.is_some_and(|first| {
                first == side || low(flow.moved(side.sends())) == self.sent_by_other
            });
        let ordinary = said_close || after_a_close;
        // Only a reset comes from the peer. Any other error is the word of our own kernel, which gave it up.
        let closed_by = if ordinary || broken.is_reset() {
            self.first.unwrap_or(side).closed_by()
        } else {
            ClosedBy::Portway
        };
        let outcome = match side {
            Side::Client | Side::Backend if ordinary => Outcome::Closed,
            Side::Client => Outcome::ClientReset,
            Side::Backend if flow.moved(Direction::BackendToClient) == 0 => {
                Outcome::BackendClosedEarly
            }
            Side::Backend => Outcome::BackendReset,
        };
        End {
            outcome,
            closed_by,
            detail: None,
            unacknowledged: 0,
            parting: None,
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is meant")]
const fn low(bytes: u64) -> u32 {
    bytes as u32
}
