//! The words of the log about a peer that does not acknowledge the bytes that were sent to it.

use std::time::Duration;

use enum_map::EnumMap;
use strum::VariantArray;

use super::Flow;
use super::end::Side;
use super::seen::{Answer, Seen};
use crate::outcome::Direction;

/// The payload of a packet that every path carries: 1280 bytes (RFC 8200 section 5) without the headers of IPv6 and TCP and
/// their options.
const CARRIED: u64 = 1280 - 40 - 32;

/// The peer that has left something unanswered, and of two the one that has been silent for longer.
pub(super) fn unanswered(seen: &Seen) -> Option<Box<str>> {
    let missing =
        Direction::VARIANTS
            .iter()
            .filter_map(|&direction| match seen.answer[direction] {
                Answer::Missing(missing) => Some((missing.silent, direction)),
                Answer::Unknown | Answer::Complete => None,
            });
    let (time, direction) = missing.max_by_key(|(time, _)| *time)?;
    let time = humantime::format_duration(Duration::from_secs(time.as_secs()));
    let peer = receiver(direction);
    Some(format!("the {peer} answers nothing: its last packet came {time} ago").into())
}

/// The bytes that the receivers of both directions have not acknowledged. A client begins with its hello. With more bytes than
/// have moved, a PROXY header of portway is among them, which is a small packet of its own.
pub(super) fn unacknowledged(bytes: &EnumMap<Direction, u64>, flow: &Flow) -> Option<Box<str>> {
    joined(
        [Direction::ClientToBackend, Direction::BackendToClient].map(|direction| {
            let bytes = bytes[direction];
            let peer = receiver(direction);
            if bytes == 0 {
                return None;
            }
            if bytes < flow.moved(direction) {
                return Some(
                    format!("the {peer} has not acknowledged the last {bytes} bytes").into(),
                );
            }
            let what = match direction {
                Direction::ClientToBackend => "the client hello",
                Direction::BackendToClient => "the beginning of the answer",
            };
            let why = if bytes > CARRIED && bytes == flow.moved(direction) {
                "the path to it loses large packets (MTU), or the host is gone"
            } else {
                "the host is gone, or the path to it is dead"
            };
            Some(format!("the {peer} has not acknowledged {what}: {why}").into())
        }),
    )
}

/// Both sentences, as far as there are any.
pub(super) fn joined(sentences: [Option<Box<str>>; 2]) -> Option<Box<str>> {
    let sentences: Vec<Box<str>> = sentences.into_iter().flatten().collect();
    (!sentences.is_empty()).then(|| sentences.join("; ").into())
}

/// The word for the peer that receives a direction.
fn receiver(direction: Direction) -> &'static str {
    Side::of(direction).other().closed_by().name()
}
