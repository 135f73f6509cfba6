//! Puts into words how a server has answered.

use super::probe::{ANSWER_TIMEOUT, Said};
use crate::backend::Allowed;
use crate::tls::{Answer, alert_name};

/// The deed of a server: a sentence without its subject.
pub(super) fn deed(said: &Said) -> String {
    match said {
        Said::Answer(Answer::Hello(hello)) => {
            let retry = if hello.is_retry {
                " and asks for another hello"
            } else {
                ""
            };
            format!("speaks TLS {}{retry}", hello.version)
        }
        Said::Answer(Answer::Alert(alert)) => format!("sends alert {}", named(*alert)),
        Said::Answer(Answer::NotTls(foreign)) => match foreign.protocol() {
            Some(protocol) => format!("speaks {protocol}: \"{foreign}\""),
            None => format!("speaks an unknown protocol that begins with \"{foreign}\""),
        },
        Said::Answer(Answer::Malformed(field)) => {
            format!("sends bytes that break the rules of TLS ({field})")
        }
        Said::Answer(Answer::Cut(bytes)) => {
            format!("stops in the middle of an answer, after {bytes} bytes")
        }
        Said::Closed => "closes the connection".to_owned(),
        Said::Reset => "resets the connection".to_owned(),
        Said::Nothing => format!("stays silent for {} s", ANSWER_TIMEOUT.as_secs()),
    }
}

/// The kind of what came back, for programs.
pub(super) const fn kind(said: &Said) -> &'static str {
    match said {
        Said::Answer(Answer::Hello(_)) => "server_hello",
        Said::Answer(Answer::Alert(_)) => "alert",
        Said::Answer(Answer::NotTls(_)) => "not_tls",
        Said::Answer(Answer::Malformed(_)) => "malformed",
        Said::Answer(Answer::Cut(_)) => "cut",
        Said::Closed => "closed",
        Said::Reset => "reset",
        Said::Nothing => "none",
    }
}

fn named(alert: u8) -> String {
    match alert_name(alert) {
        Some(name) => format!("{alert} ({name})"),
        None => alert.to_string(),
    }
}

/// The remedy for a server that speaks only old versions.
pub(super) const TOO_OLD: &str = "let the server speak TLS 1.2 or 1.3: agents offer nothing older";
/// The remedy for an authority whose certificate is not valid: another one of the same key may be (cross-signing).
pub(super) const OTHER_WAY: &str = "clients that trust a valid certificate of this authority, or one before it in the chain, do without this one: \
     replace it at the server, or leave it out there";

/// The remedy where a server may refuse only the name that doctor has made up, or the lack of a name.
pub(super) const fn remedy_of_made_up(has_name: bool) -> &'static str {
    if has_name {
        "doctor has made this name up for a wildcard: give one that clients use with --name"
    } else {
        "doctor knows no name that clients use here, and the server may refuse every other hello: with --name, give a \
         name of a route that leads here"
    }
}

/// A number of days, in a sentence after "in".
pub(super) fn days(count: u64) -> String {
    match count {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        _ => format!("{count} days"),
    }
}

/// Why an address is not dialled, and the remedy.
pub(super) const fn forbidden(allowed: &Allowed) -> (&'static str, &'static str) {
    match allowed {
        Allowed::Servers => (
            "portway does not dial this address: it cannot be that of a server",
            "ask the resolver why it answers so (a filter?), and correct the name in DNS",
        ),
        Allowed::Public => (
            "portway does not dial this address: it is not public, and the endpoint is the name that clients ask for",
            "correct the DNS that was asked, or write the network into allow_networks of the backend",
        ),
        Allowed::Networks(_) => (
            "portway does not dial this address: allow_networks does not permit it",
            "correct the DNS that was asked, or add the network to allow_networks of the backend",
        ),
    }
}

/// The remedy for an alert to an ordinary hello.
pub(super) const fn remedy_of(alert: u8) -> &'static str {
    match alert {
        40 => {
            "compare the cipher suites, groups and certificate of the server with those of current clients; some \
             servers send it if they do not know the name"
        }
        70 => TOO_OLD,
        80 => {
            "look at the log of the server; if it is a relay too, that log says which server it could not reach"
        }
        112 => "add the name at the server, or correct server_names or the backend of the route",
        120 => "correct alpn of the route, or let the server speak these protocols",
        _ => "look at the log of the server, which says why it refuses",
    }
}
