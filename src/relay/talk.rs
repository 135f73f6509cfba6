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

use super::end::Side;
use super::handshake::Watch;
use crate::outcome::Direction;
use crate::tls::{Beginning, Content, Event, Records, may_be_tls};

/// The silence before an answer to a request that was held, in seconds of the worker's clock. A held check-in waits for
/// minutes.
const HELD: u32 = 5;
/// The silence within an answer after which the backend does not finish one answer, but sends a stream.
const PAUSE: u32 = 2;
/// The largest answer to a check-in. An agent gets 0.6 to 9 KB, and more only with a new policy.
const LARGEST: u16 = 16 << 10;

/// A conversation, in 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Talk {
    /// One of TLS, as far as is known.
    Tls(Tls),
    /// The backend does not speak TLS, and this is how it begins.
    Foreign(Beginning),
}

/// The state of a conversation of TLS.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tls {
    client: Records,
    backend: Records,
    watch: Watch,
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

impl Default for Talk {
    fn default() -> Self {
        Self::Tls(Tls::default())
    }
}

impl Talk {
    /// Bytes of a direction pass, after both sides were silent for so many seconds.
    pub(super) fn pass(&mut self, direction: Direction, bytes: &[u8], silence: u32) {
        match (&mut *self, direction) {
            (Self::Tls(tls), Direction::ClientToBackend) => tls.request(bytes, silence),
            (Self::Tls(tls), Direction::BackendToClient) if tls.may_begin(bytes) => {
                tls.answer(bytes, silence);
            }
            (Self::Tls(_), Direction::BackendToClient) => {
                *self = Self::Foreign(Beginning::of(bytes));
            }
            (Self::Foreign(beginning), Direction::BackendToClient) => beginning.extend(bytes),
            (Self::Foreign(_), Direction::ClientToBackend) => {}
        }
    }

    /// A side has closed its direction.
    pub(super) fn close(&mut self, side: Side) {
        if let Self::Tls(tls) = self {
            tls.watch.close(side);
        }
    }

    /// Bytes of a direction pass unseen, in a pipe: from now on the connection has no gap.
    pub(super) fn lose(&mut self, direction: Direction) {
        if let Self::Tls(tls) = self {
            match direction {
                Direction::ClientToBackend => tls.client.lose(),
                Direction::BackendToClient => tls.backend.lose(),
            }
            tls.watch.lose();
        }
    }

    /// Whether no request is open, as far as can be seen.
    pub(super) fn is_answered(self) -> bool {
        match self {
            Self::Tls(tls) => tls.is_answered(),
            Self::Foreign(_) => false,
        }
    }

    /// Whether bytes of the client are more than an alert: it says so when it closes.
    pub(super) fn is_request(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Tls(tls) => tls.is_request(bytes),
            Self::Foreign(_) => true,
        }
    }

    /// The handshake, as far as it has been seen.
    pub(super) const fn watch(self) -> Watch {
        match self {
            Self::Tls(tls) => tls.watch,
            Self::Foreign(_) => Watch::NOT_TLS,
        }
    }

    /// The first bytes of a backend that does not speak TLS.
    pub(super) const fn foreign(self) -> Option<Beginning> {
        match self {
            Self::Tls(_) => None,
            Self::Foreign(beginning) => Some(beginning),
        }
    }
}

impl Tls {
    /// Whether bytes of the backend begin or go on with a stream of TLS.
    fn may_begin(self, bytes: &[u8]) -> bool {
        let is_first = self.watch.is_unanswered() && self.backend.is_between();
        !is_first || bytes.first().is_none_or(|first| may_be_tls(*first))
    }

    fn is_answered(self) -> bool {
        let between = self.client.is_between() && self.backend.is_between();
        between && self.state == State::Answered
    }

    fn is_request(&mut self, bytes: &[u8]) -> bool {
        let mut is_request = false;
        self.client.pass(bytes, |event| {
            is_request |= begun(event) == Some(Content::Long);
        });
        is_request
    }

    /// Every byte of the client may begin a request. Behind a pause it may be a second one beside the first, as over
    /// HTTP/2: then nobody can tell whose answer comes.
    fn request(&mut self, bytes: &[u8], silence: u32) {
        let (mut has_data, mut has_long) = (false, false);
        self.client.pass(bytes, |event| {
            if let Event::Begins(record) = event {
                has_data |= record.content() != Content::Other;
                has_long |= record.content() == Content::Long;
                self.watch.client(&record, silence);
            }
        });
        self.lose_watch();
        if has_long && silence >= PAUSE && self.state == State::Request {
            self.client.lose();
        }
        if has_data || self.state != State::Handshake {
            self.state = State::Request;
        }
        self.answer = 0;
    }

    /// Nothing is claimed about a client whose bytes form no records. The first answer of the backend shows by itself what it is.
    fn lose_watch(&mut self) {
        if self.client.is_lost() && !self.watch.is_unanswered() {
            self.watch.lose();
        }
    }

    fn answer(&mut self, bytes: &[u8], silence: u32) {
        let (mut begins, mut ends) = (false, false);
        self.backend.pass(bytes, |event| match event {
            Event::Begins(record) => {
                begins |= record.content() == Content::Long;
                self.watch.backend(&record, silence);
            }
            Event::Ends(content) => ends |= content == Content::Long,
        });
        if self.backend.is_lost() {
            self.watch.lose_backend();
        }
        self.lose_watch();
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

/// The content of a record that begins.
const fn begun(event: Event<'_>) -> Option<Content> {
    match event {
        Event::Begins(record) => Some(record.content()),
        Event::Ends(_) => None,
    }
}

#[cfg(test)]
mod tests;
