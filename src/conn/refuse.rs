//! Refuses a connection: the only writer of alerts, FIN and RST before the relay.

mod plain_http;
mod send;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::dial::Unreached;
use crate::net::{Broken, Leg};
use crate::outcome::{ClosedBy, Limit, Outcome};
use crate::routing::Miss;
use crate::tls::{AlertDescription, InvalidServerName, Protocol, Rejection, Version};
use crate::wire::{
    InvalidHeader, InvalidRequest, InvalidSocks, ListenerProtocol, Reply, SocksReply, Unauthorized,
};
pub(super) use send::refuse;

const CLIENTS_OF_ROUTES: &str = "the clients of the routes for this name exclude this client";
const DRAINING: &str =
    "every endpoint that the connection could take drains: routes.toml says state = \"drain\"";

/// Why a connection ends before its relay.
#[derive(Debug)]
pub struct Refusal {
    /// How the connection ends.
    pub outcome: Outcome,
    pub(super) closed_by: ClosedBy,
    answer: Answer,
    /// The log field `detail`: which rule, which error.
    pub detail: Option<Box<str>>,
    /// The limit that was reached.
    pub(super) limit: Option<Limit>,
    /// An invalid server name, as sent.
    pub(super) invalid_name: Option<Box<[u8]>>,
}

/// The bytes that the client gets, or the way its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Alert(AlertDescription),
    /// To a CONNECT request.
    Reply(Reply),
    /// To a message of SOCKS5.
    Socks(SocksReply),
    UseHttps,
    NotAProxy,
    Fin,
    Reset,
}

impl Answer {
    /// To a client that does not get what it asks for.
    const fn denial(protocol: ListenerProtocol, reply: Reply) -> Self {
        match protocol {
            ListenerProtocol::Tls => Self::Alert(AlertDescription::AccessDenied),
            ListenerProtocol::HttpConnect => Self::Reply(reply),
            ListenerProtocol::Socks5 => Self::Socks(SocksReply::NotAllowed),
        }
    }
}

impl Refusal {
    const fn new(outcome: Outcome, answer: Answer) -> Self {
        let closed_by = ClosedBy::Portway;
        Self {
            outcome,
            closed_by,
            answer,
            detail: None,
            limit: None,
            invalid_name: None,
        }
    }

    /// Adds the log field `detail`.
    #[must_use]
    pub fn because(self, detail: impl Into<Box<str>>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// Ends with FIN.
    pub const fn fin(outcome: Outcome) -> Self {
        Self::new(outcome, Answer::Fin)
    }

    /// The client closed before it sent anything (`probe`), or in the middle of its hello (`hello_eof`).
    pub fn client_closed(outcome: Outcome) -> Self {
        Self {
            closed_by: ClosedBy::Client,
            ..Self::new(outcome, Answer::Fin)
        }
    }

    /// The client had been answered before, so its close is not that of a balancer's check.
    #[must_use]
    pub(super) fn after_an_answer(self) -> Self {
        if self.outcome != Outcome::Probe {
            return self;
        }
        let outcome = Outcome::HelloEof;
        Self { outcome, ..self }
            .because("the client closed after portway had answered its request to the proxy")
    }

    /// The client reset while portway dialled its backend, or stopped answering.
    pub(super) fn client_lost(client: &Leg, broken: Broken) -> Self {
        let lost = Self::new(Outcome::ClientReset, Answer::Reset);
        match client.given_up(broken) {
            Some(given_up) => lost.because(format!("the client {given_up}")),
            None => Self {
                closed_by: ClosedBy::Client,
                ..lost
            },
        }
    }

    /// The listener does not admit the client's network.
    pub fn client_denied(protocol: ListenerProtocol) -> Self {
        let answer = match protocol {
            ListenerProtocol::Tls => Answer::Alert(AlertDescription::AccessDenied),
            ListenerProtocol::HttpConnect => Answer::Reply(Reply::CLIENT_DENIED),
            ListenerProtocol::Socks5 => Answer::Socks(SocksReply::NoAcceptableMethod),
        };
        Self::new(Outcome::ClientDenied, answer)
            .because("allow_clients or deny_clients of the listener exclude this client")
    }

    /// The balancer sent no PROXY header, or a broken one.
    pub fn invalid_header(InvalidHeader(rule): InvalidHeader) -> Self {
        Self::new(Outcome::InvalidProxyHeader, Answer::Reset).because(rule)
    }

    /// The client of a proxy sent no CONNECT request, or a wrong one.
    pub fn invalid_request(invalid: InvalidRequest) -> Self {
        let answer = Answer::Reply(invalid.reply());
        Self::new(Outcome::InvalidProxyRequest, answer).because(invalid.detail())
    }

    /// The client of a proxy sent no SOCKS5, or a wrong message.
    pub fn invalid_socks(invalid: InvalidSocks) -> Self {
        let answer = invalid.reply().map_or(Answer::Fin, Answer::Socks);
        Self::new(Outcome::InvalidProxyRequest, answer).because(invalid.detail())
    }

    /// The client of a proxy sent no user and password, or wrong ones.
    pub fn unauthorized(protocol: ListenerProtocol, why: Unauthorized) -> Self {
        let answer = match protocol {
            ListenerProtocol::Tls => Answer::Fin,
            ListenerProtocol::HttpConnect => Answer::Reply(why.reply()),
            ListenerProtocol::Socks5 => Answer::Socks(why.socks_reply()),
        };
        Self::new(Outcome::ProxyAuthFailed, answer).because(why.detail())
    }

    /// No route takes the target of a proxy's client.
    pub fn target_missed(protocol: ListenerProtocol, miss: Miss) -> Self {
        match miss {
            Miss::ClientDenied => {
                let answer = Answer::denial(protocol, Reply::CLIENT_DENIED);
                Self::new(Outcome::ClientDenied, answer).because(CLIENTS_OF_ROUTES)
            }
            Miss::NoServerName => Self::target_denied(protocol).because(
                "the target is an address, and no route with no_server_name takes its port here",
            ),
            Miss::NoRoute => Self::target_denied(protocol),
        }
    }

    /// The target is an address that the backend of no route has.
    pub fn not_an_address(protocol: ListenerProtocol, target: SocketAddr) -> Self {
        Self::target_denied(protocol).because(format!(
            "{target} is not an address of an endpoint of the route's backend"
        ))
    }

    fn target_denied(protocol: ListenerProtocol) -> Self {
        let answer = Answer::denial(protocol, Reply::TARGET_DENIED);
        Self::new(Outcome::TargetDenied, answer)
    }

    /// The hello is not for the target.
    pub fn name_mismatch() -> Self {
        let answer = Answer::Alert(AlertDescription::AccessDenied);
        Self::new(Outcome::NameMismatch, answer)
    }

    /// A server name that is not a host name. Only a bounded part of it is kept.
    pub fn invalid_name(name: &[u8], error: InvalidServerName) -> Self {
        const MOST: usize = 256;
        let answer = Answer::Alert(AlertDescription::UnrecognizedName);
        let shown = name.iter().copied().take(MOST);
        Self {
            invalid_name: Some(shown.collect()),
            ..Self::new(Outcome::InvalidServerName, answer).because(error.0)
        }
    }

    /// The hello has no route. `version` is the highest that it offers.
    pub fn missed(miss: Miss, version: Version) -> Self {
        let (outcome, alert) = match miss {
            Miss::NoServerName if version >= Version::TLS_1_3 => {
                (Outcome::NoServerName, AlertDescription::MissingExtension)
            }
            Miss::NoServerName => (Outcome::NoServerName, AlertDescription::UnrecognizedName),
            Miss::NoRoute => (Outcome::NoRoute, AlertDescription::UnrecognizedName),
            Miss::ClientDenied => (Outcome::ClientDenied, AlertDescription::AccessDenied),
        };
        let refusal = Self::new(outcome, Answer::Alert(alert));
        if miss == Miss::ClientDenied {
            return refusal.because(CLIENTS_OF_ROUTES);
        }
        refusal
    }

    /// The hello has come back while so many connections with it wait for their backend.
    pub(super) fn looped(waiting: u8) -> Self {
        let answer = Answer::Alert(AlertDescription::InternalError);
        Self::new(Outcome::Looped, answer).because(format!(
            "this client hello has come back to portway, and {waiting} connections with the same hello wait for an answer: \
             the way to the endpoint leads to portway itself. Look for a DNAT rule, a balancer or a Service that sends \
             the address of the endpoint to portway, and for another relay whose backend is portway"
        ))
    }

    /// The number of the alert that the client gets.
    pub const fn alert(&self) -> Option<u8> {
        match self.answer {
            Answer::Alert(alert) => Some(alert as u8),
            Answer::Reply(_)
            | Answer::Socks(_)
            | Answer::UseHttps
            | Answer::NotAProxy
            | Answer::Fin
            | Answer::Reset => None,
        }
    }
}

/// Says in words what the client gets.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.answer {
            Answer::Alert(alert) => write!(f, "TLS alert {} {}", alert as u8, alert.name()),
            Answer::Reply(Reply { status, phrase }) => write!(f, "a {status} that says: {phrase}"),
            Answer::Socks(reply) => write!(f, "the SOCKS5 reply \"{}\"", reply.name()),
            Answer::UseHttps => f.write_str("a 400 that says to use https"),
            Answer::NotAProxy => f.write_str("a 405 that says that portway is not a proxy"),
            Answer::Fin => f.write_str("a close"),
            Answer::Reset => f.write_str("a reset"),
        }
    }
}

impl From<Limit> for Refusal {
    fn from(limit: Limit) -> Self {
        let outcome = match limit {
            Limit::MaxConnections
            | Limit::MaxPendingConnections
            | Limit::MaxPendingPerClient
            | Limit::MaxConnectionsPerClient => Outcome::Overloaded,
            Limit::AcceptRate | Limit::AcceptRatePerClient => Outcome::RateLimited,
        };
        Self {
            limit: Some(limit),
            ..Self::new(outcome, Answer::Reset)
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NotTls(protocol) => {
                let answer = match protocol {
                    Protocol::Http(_) => Answer::UseHttps,
                    Protocol::HttpToProxy(_) => Answer::NotAProxy,
                    Protocol::Http2
                    | Protocol::ProxyV1
                    | Protocol::ProxyV2
                    | Protocol::Socks4
                    | Protocol::Socks5
                    | Protocol::Ssh
                    | Protocol::Lumberjack
                    | Protocol::Transport
                    | Protocol::Syslog
                    | Protocol::Rdp
                    | Protocol::Smb
                    | Protocol::Unknown(_) => Answer::Fin,
                };
                Self::new(Outcome::NotTls, answer).because(protocol.to_string())
            }
            Rejection::UnsupportedVersion => {
                let answer = Answer::Alert(AlertDescription::ProtocolVersion);
                Self::new(Outcome::UnsupportedVersion, answer)
            }
            Rejection::TooLarge(alert) => Self::new(Outcome::HelloTooLarge, Answer::Alert(alert)),
            Rejection::Malformed(alert, rule) => {
                Self::new(Outcome::MalformedHello, Answer::Alert(alert)).because(rule)
            }
        }
    }
}

impl From<Unreached> for Refusal {
    fn from(unreached: Unreached) -> Self {
        let answer = Answer::Alert(AlertDescription::InternalError);
        match unreached {
            Unreached::Unresolved => Self::new(Outcome::BackendUnresolved, answer),
            Unreached::Forbidden => Self::new(Outcome::ForbiddenAddress, answer),
            Unreached::RateLimited(denied) => {
                Self::new(Outcome::RateLimited, answer).because(denied.to_string())
            }
            Unreached::Unavailable => Self::new(Outcome::BackendUnavailable, answer),
            Unreached::Crowded(words) => {
                Self::new(Outcome::BackendUnavailable, answer).because(words)
            }
            Unreached::Draining => Self::new(Outcome::BackendUnavailable, answer).because(DRAINING),
            Unreached::Refused(words) => Self::new(Outcome::ViaRefused, answer).because(words),
            Unreached::LocalExhausted(shortage) => {
                Self::new(Outcome::LocalExhausted, answer).because(shortage.to_string())
            }
        }
    }
}

/// A system call of ours failed.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let answer = Answer::Alert(AlertDescription::InternalError);
        Self::new(Outcome::Error, answer).because(error.to_string())
    }
}
