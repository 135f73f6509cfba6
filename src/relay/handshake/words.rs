//! The end of a connection whose handshake failed: the outcome, and the words of the log.

use super::{ClientCertificate, Watch};
use crate::outcome::{ClosedBy, Handshake, Outcome};
use crate::relay::end::{End, Side};
use crate::relay::talk::Talk;
use crate::relay::words::joined;
use crate::tls::{Beginning, alert_name, remedy, server_protocol};

/// The end of a connection whose peers have ended it: if its handshake was refused, or could not be one, that is why.
pub(in crate::relay) fn explain(mut end: End, talk: Talk) -> End {
    let by_peers = matches!(
        end.outcome,
        Outcome::Closed | Outcome::ClientReset | Outcome::BackendReset
    );
    if !by_peers {
        return end;
    }
    let watch = talk.watch();
    let why = match watch.result() {
        Handshake::Failed => {
            end.outcome = Outcome::HandshakeFailed;
            end.closed_by = match watch.refused_by() {
                Some(Side::Client) => ClosedBy::Client,
                Some(Side::Backend) | None => ClosedBy::Backend,
            };
            refused(watch)
        }
        Handshake::NotTls => {
            end.outcome = Outcome::BackendNotTls;
            not_tls(talk.foreign())
        }
        Handshake::Completed | Handshake::Abandoned | Handshake::Unseen => return end,
    };
    end.detail = joined([Some(why), end.detail]);
    end
}

/// Why the handshake failed, and what to do.
fn refused(watch: Watch) -> Box<str> {
    let alert = watch.alert.map(std::num::NonZero::get);
    let how = match alert {
        Some(alert) => {
            let name = alert_name(alert).unwrap_or("unknown");
            format!("alert {alert} ({name})")
        }
        None => "an alert, which TLS 1.3 encrypts".to_owned(),
    };
    let (who, why) = if watch.refused_by() == Some(Side::Client) {
        ("the client refused the handshake with", by_client(alert))
    } else if watch.version.is_none() {
        let why = alert.map_or("", remedy);
        ("the backend refused the client hello with", why)
    } else {
        of_backend(watch.certificate, alert)
    };
    format!("{who} {how}: {why}").into()
}

/// The refusal of a backend that has sent its hello.
const fn of_backend(
    certificate: ClientCertificate,
    alert: Option<u8>,
) -> (&'static str, &'static str) {
    match certificate {
        ClientCertificate::Missing => (
            "the backend asked for a client certificate, the client sent none, and the backend refused it with",
            "give the client a certificate and its key (ssl.certificate and ssl.key)",
        ),
        ClientCertificate::Sent => (
            "the backend refused the client's certificate with",
            by_backend(alert),
        ),
        ClientCertificate::Unknown | ClientCertificate::Unread | ClientCertificate::NotAsked => (
            "the backend refused the handshake with",
            "its own log says why",
        ),
    }
}

/// The meaning of an alert of a client that has seen the backend's hello or its certificate.
const fn by_client(alert: Option<u8>) -> &'static str {
    match alert {
        Some(42 | 43 | 46) => {
            "it does not accept the backend's certificate: look at its CA, its names and its dates (portway doctor shows them)"
        }
        Some(44) => "the backend's certificate has been revoked: renew it at the server",
        Some(45) => {
            "the backend's certificate has expired, or the client's clock is wrong: renew it at the server"
        }
        Some(51) => {
            "a signature of the backend is not valid for it: the CA that it trusts has the name of the right one and another key, \
             or the backend's key does not belong to its certificate"
        }
        Some(48) => {
            "it does not trust the CA of the backend's certificate: give the client that CA \
             (ssl.certificate_authorities), or correct the route"
        }
        Some(47 | 70 | 71 | 86 | 110) => {
            "it does not accept what the backend chose: compare the versions and cipher suites of both"
        }
        Some(_) => "its own log says why",
        None => {
            "its own log says why; most often it does not trust the CA of the backend's certificate, or the certificate has \
             expired or is for another name (portway doctor shows it if the backend also speaks TLS 1.2)"
        }
    }
}

/// The meaning of an alert of a backend that has got a certificate of the client.
const fn by_backend(alert: Option<u8>) -> &'static str {
    match alert {
        Some(44) => "it has been revoked: give the client a new one",
        Some(45) => "it has expired, or the backend's clock is wrong: renew it at the client",
        Some(48) => {
            "the backend does not trust its CA: correct the client's certificate, or the CAs of the backend"
        }
        Some(_) | None => {
            "the log of the backend says why; most often the certificate has expired, or the backend does not trust its CA"
        }
    }
}

/// Why there was no handshake, with the first bytes of the backend.
fn not_tls(beginning: Option<Beginning>) -> Box<str> {
    const REMEDY: &str = "turn on TLS at the server, or correct the port in endpoints: portway passes TLS on and adds none";
    let Some(beginning) = beginning else {
        return "the backend's answer has the first byte of a TLS record, but does not begin a handshake: correct the port in \
                endpoints, or look at what stands between portway and the server, such as a balancer that has lost the \
                beginning"
            .into();
    };
    let what = match server_protocol(beginning.bytes()) {
        Some(protocol) => format!("speaks {protocol}, which begins"),
        None => "does not speak TLS: its answer begins".to_owned(),
    };
    format!("the backend {what} with \"{beginning}\": {REMEDY}").into()
}
