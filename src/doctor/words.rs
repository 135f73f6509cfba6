//! Puts into words how a server has answered, and the remedies.

use std::io;
use std::time::Duration;

use super::examine::ANSWER_TIMEOUT;
use super::finding::Problem;
use crate::backend::Allowed;
use crate::control::probe::{Said, Unreached};
use crate::outcome::{DialFailure, Resource};
use crate::tls::Answer;

/// The deed of a server: a sentence without its subject.
pub(super) fn deed(said: &Said) -> String {
    said.deed(ANSWER_TIMEOUT)
}

/// Why a server was not reached, and the remedy.
pub(super) fn unreached(
    why: &Unreached,
    connect_timeout: Duration,
) -> (Problem, String, &'static str) {
    let timeout = humantime::format_duration(connect_timeout);
    match why {
        Unreached::Server(error) => unconnected(error, connect_timeout, false),
        Unreached::Proxy(error) => unconnected(error, connect_timeout, true),
        Unreached::Refused(words) => (
            Problem::ViaRefused,
            format!("the proxy opens no tunnel: {words}"),
            remedy_of_proxy(words),
        ),
        Unreached::Closed => (
            Problem::Closed,
            "the proxy closes the connection before its answer is complete".to_owned(),
            "look at the log of the proxy, and check that via has the port of a proxy",
        ),
        Unreached::Late => (
            Problem::Silent,
            format!(
                "the proxy is connected, and its answer does not come within {timeout} (connect_timeout)"
            ),
            "look at the log of the proxy: it may wait for the endpoint; check that via has the port of a proxy",
        ),
    }
}

fn unconnected(
    error: &io::Error,
    connect_timeout: Duration,
    is_proxy: bool,
) -> (Problem, String, &'static str) {
    let timeout = humantime::format_duration(connect_timeout);
    let of = |server, proxy| if is_proxy { proxy } else { server };
    match DialFailure::from_io(error) {
        DialFailure::Refused => (
            Problem::Refused,
            "nobody listens there: the connection is refused".to_owned(),
            of(
                "start the server, or correct the port in endpoints",
                "start the proxy, or correct via",
            ),
        ),
        DialFailure::Timeout => (
            Problem::ConnectTimeout,
            format!("nothing answers within {timeout} (connect_timeout)"),
            "check that the host is up, and that no firewall between it and this machine drops the packets",
        ),
        DialFailure::LocalExhausted => {
            let resource = error.raw_os_error().and_then(Resource::behind);
            let remedy = resource.map_or("look at this machine", Resource::remedy);
            (
                Problem::LocalExhausted,
                format!("cannot connect: {error}"),
                remedy,
            )
        }
        // A refusal of a proxy is not an error of the system.
        DialFailure::Unreachable
        | DialFailure::Reset
        | DialFailure::ViaRefused
        | DialFailure::Other => (
            Problem::Unreachable,
            format!("cannot connect: {error}"),
            "check the routes and the firewall rules of this machine, and the address",
        ),
    }
}

/// The remedy for an answer of a proxy.
fn remedy_of_proxy(words: &str) -> &'static str {
    let status = words.strip_prefix("HTTP/1.");
    let status = status.and_then(|rest| rest.split(' ').nth(1));
    let reply = words.strip_prefix("SOCKS5 reply ");
    let reply = reply.and_then(|rest| rest.split(':').next());
    match (status, reply) {
        (Some("401" | "407"), _) => {
            "write the user and the password for the proxy into via_credentials_file of the backend"
        }
        (Some("403"), _) | (_, Some("2")) => {
            "let the rules of the proxy permit this host and port, or correct the endpoint"
        }
        (Some("500" | "502" | "503" | "504"), _) | (_, Some("1" | "3" | "4" | "5" | "6")) => {
            "the proxy itself cannot reach the endpoint: correct the endpoint, or look at the log of the proxy"
        }
        _ if words.starts_with("SOCKS5: ") => {
            "write the user and the password for the proxy into via_credentials_file of the backend, if it asks for them"
        }
        _ => "look at the log of the proxy, and check that via has its scheme and its port",
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

/// The remedy for a certificate whose end came as a surprise, because no check of the backend shows it.
pub(super) const RENEW_AND_WATCH: &str = "renew it at the server; with health = { check = \"tls\" } of the backend, the metric \
     portway_backend_certificate_not_after_timestamp_seconds shows such a date in time";

/// The remedy where a server may refuse only the name that doctor has made up, or the lack of a name.
pub(super) const fn remedy_of_made_up(has_name: bool) -> &'static str {
    if has_name {
        "doctor has made this name up for a wildcard: give one that clients use with --name"
    } else {
        "doctor knows no name that clients use here, and the server may refuse every other hello: with --name, give a \
         name of a route that leads here"
    }
}

/// Added to the remedy where a name leads to an address that cannot be connected.
pub(super) const OLD_ADDRESS: &str =
    "; if the server has another address now, correct its name in DNS (or /etc/hosts)";

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
