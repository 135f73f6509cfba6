//! The handshake of a connection, as far as it is known, for metrics and log.

use super::{Flow, Mark};
use crate::outcome::{BackendAnswer, Direction, Handshake};
use crate::relay::end::Side;
use crate::relay::handshake::Watch;
use crate::tls::Version;

/// A handshake, as far as the records that have passed show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandshakeSeen {
    /// The first thing that the backend has said.
    pub answer: BackendAnswer,
    /// How the handshake has ended, if the connection ends now.
    pub result: Handshake,
    /// The version that the backend chose.
    pub version: Option<Version>,
    /// Whether the backend asks for a certificate of the client. It cannot be seen in a session that is resumed, and up to
    /// TLS 1.2 not before the client goes on.
    pub asks_for_certificate: Option<bool>,
    /// The alert in clear with which the client has refused the handshake.
    pub client_alert: Option<u8>,
    /// The same of the backend.
    pub backend_alert: Option<u8>,
}

impl Flow {
    /// The handshake, as far as it has been seen.
    pub fn handshake(&self) -> HandshakeSeen {
        let watch = self.gap.talk().watch();
        HandshakeSeen {
            answer: self.said(watch),
            result: watch.result(),
            version: watch.version(),
            asks_for_certificate: watch.asks_for_certificate(),
            client_alert: watch.alert(Side::Client),
            backend_alert: watch.alert(Side::Backend),
        }
    }

    /// Counts what has become known since an earlier look.
    pub(super) fn count(&self, before: Watch) {
        let watch = self.gap.talk().watch();
        let Some(terms) = self.terms.get().filter(|_| watch != before) else {
            return;
        };
        if let (None, Some(answer)) = (settled(before), settled(watch)) {
            terms.stats.answered(answer);
            if answer == BackendAnswer::ServerHello {
                self.marks.replace(Mark::Answered, true);
            }
        }
        if watch.is_completed() && !before.is_completed() {
            terms.stats.shook_hands(Handshake::Completed);
        }
    }

    /// Counts what has not been counted before the end.
    pub(super) fn count_at_the_end(&self) {
        // A connection that is not relayed has no handshake.
        let Some(terms) = self.terms.get() else {
            return;
        };
        let watch = self.gap.talk().watch();
        if settled(watch).is_none() {
            terms.stats.answered(self.said(watch));
        }
        if !watch.is_completed() {
            terms.stats.shook_hands(watch.result());
        }
    }

    fn said(&self, watch: Watch) -> BackendAnswer {
        watch.said().unwrap_or_else(|| {
            // An alert that only closes is nothing to the watch, nor is what passed unseen.
            if self.moved(Direction::BackendToClient) > 0 {
                BackendAnswer::Alert
            } else {
                BackendAnswer::None
            }
        })
    }
}

/// The first answer of the backend, if nothing that it says later changes that: a hello may follow an alert.
fn settled(watch: Watch) -> Option<BackendAnswer> {
    watch.said().filter(|said| *said != BackendAnswer::Alert)
}
