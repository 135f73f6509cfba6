//! The result of a relay's look at its sockets.

use enum_map::EnumMap;

use crate::net::Unanswered;
use crate::outcome::Direction;

/// The state of a relay's two sockets and of its own buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Bytes in the send queue towards the receiver of a direction, sent or not.
    pub(super) unacknowledged: EnumMap<Direction, u64>,
    /// Whether the relay itself holds bytes of a direction.
    pub(super) held: EnumMap<Direction, bool>,
    /// The kernel's word about the answers of the receiver of a direction.
    pub(super) answer: EnumMap<Direction, Answer>,
    /// Something has arrived from a side that is being read: bytes, an end or an error.
    pub(super) arrived: bool,
    /// No request is open, and the connection has been quiet for longer than packets need to come or to come again.
    pub(super) is_in_gap: bool,
}

/// The kernel's word about the answers of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was not asked.
    #[default]
    Unknown,
    /// The peer has answered all that was sent to it.
    Complete,
    /// The peer has left something unanswered.
    Missing(Unanswered),
}

impl Seen {
    pub(super) fn is_any_unacknowledged(&self) -> bool {
        self.unacknowledged.values().any(|bytes| *bytes > 0)
    }
}
