//! One check of an address: in the way of a dial, and with the words of a failure.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Address, Check, Checks, Endpoint, Target, Way};
use crate::control::probe::{self, Said, Unreached};
use crate::net;
use crate::outcome::DialFailure;
use crate::tls::offer::{self, Kind, Shape};
use crate::tls::{AlertDescription, Answer, ServerName};

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Passed,
    /// The reason is a sentence about the server or the proxy, with its subject.
    Failed(String),
    /// It says nothing about the address.
    Unknown,
    /// The same, because this machine has no way to its family, and the endpoint has addresses of the other one.
    OutOfReach,
}

/// The answer of a server of TLS 1.3 only to a hello of TLS 1.2.
pub(super) const PROTOCOL_VERSION: u8 = AlertDescription::ProtocolVersion as u8;

/// Checks an address of an endpoint as its rules say, with a hello of this kind if they ask for one, and returns the
/// reaction to it beside the result. An address behind a proxy is checked through the first address of the proxy that takes the connection.
pub(super) async fn check(
    endpoint: &Endpoint,
    address: &Address,
    checks: &Checks,
    kind: Kind,
) -> (Found, Option<Said>) {
    for way in ways(endpoint, address) {
        match ask(&way, endpoint, checks, kind).await {
            // It says nothing about the endpoint.
            Err(Unreached::Proxy(_)) if endpoint.proxy().is_some() => {}
            // A name often has IPv6 addresses where the machine has no way to IPv6: its server has not failed. If it has
            // a way to none of them, nobody can be served, and that must show.
            Err(Unreached::Server(_) | Unreached::Proxy(_))
                if !net::has_way(address.at()) && endpoint.may_use_other_family(address) =>
            {
                return (Found::OutOfReach, None);
            }
            Err(unreached) => return (lost(&unreached, checks.timeout), None),
            Ok(said) => {
                let judged = said.as_ref().map(|said| judge(said, checks.timeout));
                return (judged.unwrap_or(Found::Passed), said);
            }
        }
    }
    (Found::Unknown, None)
}

/// The ways to an address: one, or those through each address of a proxy.
fn ways(endpoint: &Endpoint, address: &Address) -> Vec<probe::Way> {
    let at = address.at();
    match endpoint.way() {
        Way::Direct | Way::ToProxy(_) => vec![probe::Way::Direct(at)],
        Way::ByName(via) => vec![probe::Way::Through {
            proxy: at,
            via: Arc::clone(via),
            end: endpoint.target().clone(),
        }],
        Way::ByAddress(proxy) => {
            let mut addresses: Vec<_> = proxy.endpoint().addresses().to_vec();
            addresses.sort_by_key(|address| !address.is_healthy());
            let through = addresses.iter().map(|address| probe::Way::Through {
                proxy: address.at(),
                via: Arc::clone(proxy.via()),
                end: Target::Address(at),
            });
            through.collect()
        }
    }
}

/// The reaction to a hello; `None` if a connection is enough.
async fn ask(
    way: &probe::Way,
    endpoint: &Endpoint,
    checks: &Checks,
    kind: Kind,
) -> Result<Option<Said>, Unreached> {
    let timeout = checks.timeout;
    match checks.check {
        Check::Tcp => probe::reach(way, timeout).await.map(|()| None),
        Check::Tls => {
            let name = asked_name(endpoint, checks);
            let message = offer::message(kind, name.as_ref(), &[]);
            let parts = offer::parts(&message, Shape::Whole);
            let parts = probe::introduced(checks.header, parts);
            let exchange = probe::ask(way, &parts, timeout, timeout).await?;
            Ok(Some(exchange.said))
        }
    }
}

/// The name in the hello of a check.
pub(super) fn asked_name(endpoint: &Endpoint, checks: &Checks) -> Option<ServerName> {
    let written = checks.server_name.as_ref();
    written.cloned().or_else(|| own_name(endpoint))
}

/// The host of an endpoint, if it is a name that a hello can carry.
fn own_name(endpoint: &Endpoint) -> Option<ServerName> {
    match endpoint.target() {
        Target::Name { host, .. } => {
            let host = host.strip_suffix('.').unwrap_or(host);
            ServerName::parse(host.as_bytes()).ok()
        }
        Target::Address(_) | Target::Asked { .. } => None,
    }
}

/// A server that speaks TLS is healthy, whether it asks for a certificate of the client or has only TLS 1.3.
fn judge(said: &Said, timeout: Duration) -> Found {
    match said {
        Said::Answer(Answer::Hello(_) | Answer::Alert(PROTOCOL_VERSION)) => Found::Passed,
        Said::Answer(_) | Said::Closed | Said::Reset | Said::Nothing => {
            Found::Failed(format!("the server {}", said.deed(timeout)))
        }
    }
}

/// The result without a connection.
fn lost(unreached: &Unreached, timeout: Duration) -> Found {
    let unconnected = |who: &str, error: &io::Error| match DialFailure::from_io(error) {
        DialFailure::LocalExhausted => Found::Unknown,
        DialFailure::Refused => Found::Failed(format!("{who} refuses the connection")),
        DialFailure::Timeout => {
            let timeout = humantime::format_duration(timeout);
            Found::Failed(format!("{who} takes no connection within {timeout}"))
        }
        DialFailure::Unreachable
        | DialFailure::Reset
        | DialFailure::ViaRefused
        | DialFailure::Other => Found::Failed(format!("{who} cannot be connected: {error}")),
    };
    match unreached {
        Unreached::Server(error) => unconnected("the server", error),
        Unreached::Proxy(error) => unconnected("the proxy in via", error),
        Unreached::Refused(_) | Unreached::Closed | Unreached::Late => {
            Found::Failed(unreached.to_string())
        }
    }
}
