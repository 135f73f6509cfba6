//! Requests and answers, as far as the records that pass show them, so that portway can end a connection in a gap.
//!
//! Everything in a record is encrypted, so this knows lengths and times only. A mistake must keep a connection for too
//! long, and must not cut one. So an answer counts only if it looks like the answer to a check-in that was held:
//!
//! - The backend was silent for some time behind the request, and then sent a little. A download begins at once, or goes
//!   on beyond that. Session tickets of TLS 1.3 come at once too, behind the client's first flight, although the request
//!   that came with it is still open: the first request of such a connection has no gap behind it.
//! - Both directions are at the end of a record, and the backend has spoken last.
//! - Short records of the backend say nothing: Logstash sends ACKs while it works on a batch, and an HTTP/2 server
//!   answers PINGs while it holds a check-in.
//!
//! A download that keeps its client waiting as long as a check-in, and then pauses within its first bytes, looks the
//! same.

use crate::outcome::Direction;
use crate::tls::{Content, Event, Records};

/// The silence before an answer to a request that was held, in seconds of the worker's clock. A held check-in waits for
/// minutes.
const HELD: u32 = 5;
/// The silence within an answer after which the backend does not finish one answer, but sends a stream.
const PAUSE: u32 = 2;
/// The largest answer to a check-in. An agent gets 0.6 to 9 KB, and more only with a new policy.
const LARGEST: u16 = 16 << 10;

/// The state of a conversation, in twelve bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Talk {
    client: Records,
    backend: Records,
    /// Bytes that the backend has sent since the client spoke.
    answer: u16,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The client has sent no application data.
    #[default]
    Handshake,
    /// The client spoke last.
    Request,
    /// An answer to a request that was held has begun.
    Answer,
    /// It may be complete: a long record of it is.
    Answered,
    /// The backend has sent something else than such an answer.
    Other,
}

impl Talk {
    /// Bytes of a direction pass, after both sides were silent for so many seconds.
    pub(super) fn pass(&mut self, direction: Direction, bytes: &[u8], silence: u32) {
        match direction {
            Direction::ClientToBackend => self.request(bytes, silence),
            Direction::BackendToClient => self.answer(bytes, silence),
        }
    }

    /// Bytes of a direction pass unseen, in a pipe: from now on the connection has no gap.
    pub(super) const fn lose(&mut self, direction: Direction) {
        match direction {
            Direction::ClientToBackend => self.client.lose(),
            Direction::BackendToClient => self.backend.lose(),
        }
    }

    /// Whether no request is open, as far as can be seen.
    pub(super) fn is_answered(self) -> bool {
        let between = self.client.is_between() && self.backend.is_between();
        between && self.state == State::Answered
    }

    /// Whether bytes of the client are more than an alert: it says so when it closes.
    pub(super) fn is_request(&mut self, bytes: &[u8]) -> bool {
        let mut is_request = false;
        self.client.pass(bytes, |event| {
            is_request |= event == Event::Begins(Content::Long);
        });
        is_request
    }

    /// Every byte of the client may begin a request. Behind a pause it may be a second one beside the first, as over
    /// HTTP/2: then nobody can tell whose answer comes.
    fn request(&mut self, bytes: &[u8], silence: u32) {
        let (mut has_data, mut has_long) = (false, false);
        self.client.pass(bytes, |event| {
            if let Event::Begins(content) = event {
                has_data |= content != Content::Other;
                has_long |= content == Content::Long;
            }
        });
        if has_long && silence >= PAUSE && self.state == State::Request {
            self.client.lose();
        }
        if has_data || self.state != State::Handshake {
            self.state = State::Request;
        }
        self.answer = 0;
    }

    fn answer(&mut self, bytes: &[u8], silence: u32) {
        let (mut begins, mut ends) = (false, false);
        self.backend.pass(bytes, |event| match event {
            Event::Begins(content) => begins |= content == Content::Long,
            Event::Ends(content) => ends |= content == Content::Long,
        });
        // In the middle of a long record too.
        let size = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.answer = self.answer.saturating_add(size);
        self.state = match self.state {
            State::Request if !begins && !ends => State::Request,
            State::Request if silence >= HELD && self.answer <= LARGEST => State::Answer,
            State::Answer | State::Answered if silence < PAUSE && self.answer <= LARGEST => {
                self.state
            }
            State::Handshake => State::Handshake,
            State::Request | State::Answer | State::Answered | State::Other => State::Other,
        };
        if ends && self.state == State::Answer {
            self.state = State::Answered;
        }
    }
}

#[cfg(test)]
mod tests;
