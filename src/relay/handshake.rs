//! The handshake of TLS as its records pass: who answered what, whether it was completed, and who refused it.
//!
//! This sees what anybody on the way sees: the types and lengths of all records, and the content of those in clear. In TLS 1.2
//! the whole handshake is in clear up to the change of ciphers, alerts too. In TLS 1.3 only the hellos are, and an alert looks
//! like data of 19 bytes, or 35 where the JDK pads it, and so does close_notify. What a record of that length means follows
//! from its place:
//!
//! - The first encrypted record of a client has another length if it goes on. So this is an alert: the client refuses what
//!   the backend has shown, most often its certificate.
//! - A backend that has no alert to send either says something longer behind the client's flight (a session ticket, an
//!   answer), or nothing. So an alert at once behind a flight with a certificate, or with an empty one, is a refusal. Behind
//!   a flight without one there is nothing to refuse, and it is close_notify.
//!
//! A side that goes on after its alert did not mean it; one that only closes behind it did. A client that hides two alerts has
//! given up: user_canceled, and close_notify. One that has seen the other side close does not refuse anything: some servers
//! answer a client that is gone with an alert. A mistake must hide a failure, and must not make one up: where anything was
//! not seen, such as the version in a ServerHello that came in pieces, nothing is claimed.

mod certificate;
mod words;

use std::num::NonZero;

use certificate::ClientCertificate;

pub(super) use words::explain;

use super::end::Side;
use crate::outcome::{BackendAnswer, Handshake};
use crate::tls::{Kind, Record, Version, server_version};

/// The silence before a refusal, in seconds of the worker's clock, from which on it is the end of a connection that nobody
/// used, or of a client's patience.
const LATE: u32 = 5;
/// The silence behind a client's last flight, in the same seconds, from which on a client that sends more was not refused.
const PAUSE: u32 = 2;
/// The version of a hello that was not whole when it passed.
const UNREAD: NonZero<u8> = NonZero::<u8>::MAX;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

// It is a part of each flow.
const _: () = assert!(size_of::<Watch>() == 4);

/// A handshake as far as it has been seen, in four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watch {
    step: Step,
    /// The minor version of the ServerHello, plus one.
    version: Option<NonZero<u8>>,
    certificate: ClientCertificate,
    /// The number of the alert with which a side refused, if it was in clear.
    alert: Option<NonZero<u8>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// The backend has said nothing, or only that it closes.
    #[default]
    Hello,
    /// The same, and the client has closed.
    Left,
    /// The backend has sent its ServerHello.
    Answered,
    /// The client has sent its last flight of the handshake, and the backend has not answered it.
    ClientDone,
    /// Up to TLS 1.2: a backend that resumes a session has sent its last flight, and the client has not answered it.
    BackendDone,
    Completed,
    /// The last record of the client was an alert.
    RefusedByClient,
    /// The last record of the backend was an alert.
    RefusedByBackend,
    /// The backend does not speak TLS.
    NotTls,
    /// A side has closed before the handshake was complete, and refused nothing.
    Gone,
    /// Something passed unseen.
    Unseen,
}

impl Watch {
    /// The backend does not speak TLS.
    pub(super) const NOT_TLS: Self = Self {
        step: Step::NotTls,
        version: None,
        certificate: ClientCertificate::Unknown,
        alert: None,
    };

    /// Whether the backend has not said anything yet, or only that it closes.
    pub(super) fn is_unanswered(self) -> bool {
        matches!(self.step, Step::Hello | Step::Left)
    }

    /// A record of the client begins, after both sides were silent for so many seconds.
    pub(super) fn client(&mut self, record: &Record<'_>, silence: u32) {
        let is_new = self.is_1_3();
        if self.step == Step::RefusedByClient && !is_close(record) {
            self.step = if is_new && record.is_hidden_alert() {
                Step::Gone
            } else {
                Step::Answered
            };
            self.alert = None;
        }
        match (self.step, record.kind) {
            // Early data: the session is resumed, and nobody asks for a certificate.
            (Step::Hello, Kind::Data) => self.certificate.learn(ClientCertificate::NotAsked),
            (Step::Answered | Step::ClientDone | Step::BackendDone, Kind::Alert) => {
                self.refuse(record, Step::RefusedByClient);
            }
            (Step::Answered, Kind::Handshake) if !is_new => {
                let found = ClientCertificate::of_message(record.payload);
                self.certificate.learn(found);
            }
            (Step::Answered, Kind::ChangeCipherSpec) if !is_new => self.step = Step::ClientDone,
            (Step::Answered, Kind::Data) if is_new && record.is_hidden_alert() => {
                self.step = if silence < LATE {
                    Step::RefusedByClient
                } else {
                    Step::Gone
                };
            }
            (Step::Answered, Kind::Data) if is_new => {
                let found = ClientCertificate::of_length(record.length);
                self.certificate.learn(found);
                self.step = Step::ClientDone;
            }
            // It closes, so it is content; or it goes on, so it was not refused at once.
            (Step::ClientDone, Kind::Data)
                if is_new && (record.is_hidden_alert() || silence >= PAUSE) =>
            {
                self.step = Step::Completed;
            }
            (Step::BackendDone, Kind::ChangeCipherSpec | Kind::Data)
            | (Step::Answered, Kind::Data) => self.step = Step::Completed,
            _ => {}
        }
    }

    /// A record of the backend begins, after both sides were silent for so many seconds.
    pub(super) fn backend(&mut self, record: &Record<'_>, silence: u32) {
        if self.step == Step::RefusedByBackend && !is_close(record) {
            self.step = match self.version {
                None => Step::Hello,
                Some(_) if self.is_1_3() && self.has_asked() => Step::Completed,
                Some(_) => Step::Answered,
            };
            self.alert = None;
        }
        let is_new = self.is_1_3();
        match (self.step, record.kind) {
            (Step::Hello, Kind::Handshake) => self.answer(record.payload),
            (Step::Left, Kind::Handshake) => {
                self.answer(record.payload);
                self.step = Step::Gone;
            }
            (Step::Hello | Step::Left, Kind::ChangeCipherSpec | Kind::Data) => {
                self.step = Step::NotTls;
            }
            (Step::Hello | Step::Left | Step::Answered | Step::ClientDone, Kind::Alert) => {
                self.refuse(record, Step::RefusedByBackend);
            }
            (Step::Answered, Kind::Data) if is_new && record.is_hidden_alert() => {
                self.step = Step::RefusedByBackend;
            }
            // A part of its flight.
            (Step::Answered, Kind::Data) if is_new => {}
            (Step::Answered, Kind::ChangeCipherSpec) if !is_new => self.step = Step::BackendDone,
            (Step::ClientDone, Kind::Data) if is_new && record.is_hidden_alert() => {
                let refuses = silence < LATE && self.has_asked();
                self.step = if refuses {
                    Step::RefusedByBackend
                } else {
                    Step::Completed
                };
            }
            (Step::ClientDone, Kind::ChangeCipherSpec) if !is_new => self.step = Step::Completed,
            (Step::Answered | Step::ClientDone | Step::BackendDone, Kind::Data) => {
                self.step = Step::Completed;
            }
            _ => {}
        }
    }

    /// A side closes its direction. Then the other side has nothing to refuse any more, except what it has got already.
    pub(super) fn close(&mut self, side: Side) {
        self.step = match (self.step, side) {
            (Step::Hello, Side::Client) => Step::Left,
            (Step::ClientDone, _) if self.is_1_3() => Step::Completed,
            (Step::Answered | Step::BackendDone, _) | (Step::ClientDone, Side::Backend) => {
                Step::Gone
            }
            (step, _) => step,
        };
    }

    /// Some bytes pass unseen.
    pub(super) fn lose(&mut self) {
        match self.step {
            Step::Completed | Step::NotTls => {}
            // The client has finished, and whoever refused it would have said so by now.
            Step::ClientDone if self.is_1_3() => self.step = Step::Completed,
            Step::Hello
            | Step::Left
            | Step::Gone
            | Step::Answered
            | Step::ClientDone
            | Step::BackendDone
            | Step::RefusedByClient
            | Step::RefusedByBackend
            | Step::Unseen => self.step = Step::Unseen,
        }
    }

    /// The bytes of the backend do not form records.
    pub(super) fn lose_backend(&mut self) {
        if self.is_unanswered() {
            self.step = Step::NotTls;
        } else {
            self.lose();
        }
    }

    fn answer(&mut self, payload: &[u8]) {
        let minor = server_version(payload).and_then(|version| match version.0.to_be_bytes() {
            [3, minor] => NonZero::new(minor.saturating_add(1)),
            _ => None,
        });
        self.version = Some(minor.unwrap_or(UNREAD));
        self.step = match minor {
            Some(_) => Step::Answered,
            None => Step::Unseen,
        };
    }

    /// A side sends an alert. One that only closes, or says that a person has changed their mind, refuses nothing.
    fn refuse(&mut self, record: &Record<'_>, step: Step) {
        if let Some(alert) = record.alert()
            && !matches!(alert, CLOSE_NOTIFY | USER_CANCELED)
        {
            self.step = step;
            self.alert = NonZero::new(alert);
        }
    }

    fn is_1_3(self) -> bool {
        self.version() >= Some(Version::TLS_1_3)
    }

    /// Whether the backend has asked for a certificate of the client.
    const fn has_asked(self) -> bool {
        matches!(
            self.certificate,
            ClientCertificate::Missing | ClientCertificate::Sent
        )
    }

    /// The version of the ServerHello.
    pub(super) fn version(self) -> Option<Version> {
        let minor = self.version.filter(|minor| *minor != UNREAD)?.get() - 1;
        Some(Version(u16::from_be_bytes([3, minor])))
    }

    /// The first thing that the backend has said; `None` if it has said nothing.
    pub(super) const fn said(self) -> Option<BackendAnswer> {
        match (self.step, self.version) {
            (_, Some(_)) => Some(BackendAnswer::ServerHello),
            (Step::NotTls, None) => Some(BackendAnswer::NotTls),
            (Step::RefusedByBackend, None) => Some(BackendAnswer::Alert),
            (_, None) => None,
        }
    }

    /// Whether the backend asks for a certificate of the client, where that can be seen.
    pub(super) const fn asks_for_certificate(self) -> Option<bool> {
        match self.certificate {
            ClientCertificate::Unknown | ClientCertificate::Unread => None,
            ClientCertificate::NotAsked => Some(false),
            ClientCertificate::Missing | ClientCertificate::Sent => Some(true),
        }
    }

    /// The side that has refused the handshake.
    const fn refused_by(self) -> Option<Side> {
        match self.step {
            Step::RefusedByClient => Some(Side::Client),
            Step::RefusedByBackend => Some(Side::Backend),
            Step::Hello
            | Step::Left
            | Step::Answered
            | Step::ClientDone
            | Step::BackendDone
            | Step::Completed
            | Step::NotTls
            | Step::Gone
            | Step::Unseen => None,
        }
    }

    /// The alert in clear with which a side has refused the handshake.
    pub(super) fn alert(self, side: Side) -> Option<u8> {
        let alert = self.alert.filter(|_| self.refused_by() == Some(side))?;
        Some(alert.get())
    }

    pub(super) fn is_completed(self) -> bool {
        self.step == Step::Completed
    }

    /// How the handshake of a connection has ended that ends now.
    pub(super) fn result(self) -> Handshake {
        match self.step {
            Step::Completed => Handshake::Completed,
            // The client of TLS 1.3 has finished, and its backend has had nothing to say yet.
            Step::ClientDone if self.is_1_3() => Handshake::Completed,
            Step::RefusedByClient | Step::RefusedByBackend => Handshake::Failed,
            Step::NotTls => Handshake::NotTls,
            Step::Unseen => Handshake::Unseen,
            Step::Hello
            | Step::Left
            | Step::Gone
            | Step::Answered
            | Step::ClientDone
            | Step::BackendDone => Handshake::Abandoned,
        }
    }
}

/// Whether a record in clear says that its side closes.
fn is_close(record: &Record<'_>) -> bool {
    record.alert() == Some(CLOSE_NOTIFY)
}

#[cfg(test)]
mod tests;
