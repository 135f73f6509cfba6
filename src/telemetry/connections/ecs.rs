//! A line of the connection log with the fields of the Elastic Common Schema. Fields that the schema does not have are below the
//! key `portway`, under the name that it has in the other formats.

mod own;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::format::{ClientText, Millis, Time};
use super::{Excess, Line};
use crate::outcome::Outcome;
use crate::telemetry::ecs::{Dataset, Head};
use crate::tls::Version;
use own::Own;

/// A whole line.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(flatten)]
    head: Head,
    event: Event<'a>,
    network: Network,
    /// The schema wants both pairs of names for the two ends.
    source: Source,
    client: Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Destination<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Destination<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls<'a>>,
    portway: Own<'a>,
}

/// Without `event.module`: an index of an integration may accept only the name of the integration there.
#[derive(Serialize)]
struct Event<'a> {
    kind: &'static str,
    category: [&'static str; 1],
    #[serde(rename = "type")]
    types: &'static [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'static str>,
    dataset: Dataset,
    start: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<Time>,
    /// Nanoseconds.
    duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Network {
    transport: &'static str,
    #[serde(rename = "type")]
    family: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// The client.
#[derive(Clone, Copy, Serialize)]
struct Source {
    ip: IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// portway's own end of the leg to the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    nat: Option<Translated>,
}

#[derive(Clone, Copy, Serialize)]
struct Translated {
    ip: IpAddr,
    port: u16,
}

/// The endpoint.
#[derive(Clone, Copy, Serialize)]
struct Destination<'a> {
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct Tls<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<TlsClient<'a>>,
}

#[derive(Serialize)]
struct TlsClient<'a> {
    server_name: ClientText<'a>,
}

impl<'a> Record<'a> {
    /// The fields of this line.
    pub(super) fn new(line: &'a Line<'a>) -> Self {
        let (sent, received) = (line.bytes_client_to_backend, line.bytes_backend_to_client);
        let source = Source::new(line, sent);
        let destination = line
            .endpoint
            .map(|endpoint| Destination::new(endpoint, line.backend_address, received));
        Self {
            head: Head::new(line.time, level(line.outcome), message(line)),
            event: Event::new(line),
            network: Network {
                transport: "tcp",
                family: if line.client.is_ipv4() {
                    "ipv4"
                } else {
                    "ipv6"
                },
                protocol: line.tls_offered.map(|_| "tls"),
                bytes: sent.zip(received).map(|(sent, received)| sent + received),
            },
            source,
            client: source,
            destination,
            server: destination,
            tls: Tls::new(line),
            portway: Own::new(line),
        }
    }
}

impl<'a> Event<'a> {
    fn new(line: &'a Line<'a>) -> Self {
        let (Time(time), Millis(duration)) = (line.time, line.duration_ms);
        Self {
            kind: "event",
            category: ["network"],
            types: types(line.outcome),
            outcome: line.outcome.map(success),
            dataset: Dataset::Connections,
            start: Time(time.checked_sub(duration).unwrap_or(time)),
            end: line.outcome.map(|_| line.time),
            duration: u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX),
            reason: line.detail,
        }
    }
}

impl Source {
    fn new(line: &Line<'_>, bytes: Option<u64>) -> Self {
        Self {
            ip: line.client.ip(),
            port: line.client.port(),
            bytes,
            nat: line.backend_local.map(|local| Translated {
                ip: local.ip(),
                port: local.port(),
            }),
        }
    }
}

impl<'a> Tls<'a> {
    fn new(line: &Line<'a>) -> Option<Self> {
        let version = line.tls_negotiated;
        let client = line
            .server_name
            .map(|server_name| TlsClient { server_name });
        let is_known = version.is_some() || client.is_some();
        is_known.then_some(Self {
            version,
            version_protocol: version.map(|_| "tls"),
            client,
        })
    }
}

impl<'a> Destination<'a> {
    /// An endpoint as in routes.toml, which is `host:port`.
    fn new(endpoint: &'a str, known: Option<SocketAddr>, bytes: Option<u64>) -> Self {
        let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let literal: Option<IpAddr> = host.parse().ok();
        Self {
            address: host,
            domain: literal.is_none().then_some(host),
            ip: known.map(|known| known.ip()).or(literal),
            port: port.parse().ok(),
            bytes,
        }
    }
}

/// Only a fault of portway itself is an error: a client or a server that misbehaves is not one.
fn level(outcome: Option<Outcome>) -> &'static str {
    if outcome == Some(Outcome::Error) {
        "error"
    } else {
        "info"
    }
}

fn success(outcome: Outcome) -> &'static str {
    if outcome == Outcome::Closed {
        "success"
    } else {
        "failure"
    }
}

/// The values of the schema for events of a network.
fn types(outcome: Option<Outcome>) -> &'static [&'static str] {
    match outcome {
        None => &["connection", "info"],
        Some(outcome) if outcome.is_denied() => &["connection", "denied", "end"],
        Some(_) => &["connection", "end"],
    }
}

/// The line in words. Control characters of a client are escaped as everywhere in the line.
fn message(line: &Line<'_>) -> String {
    let mut text = line.outcome.map_or("open", Outcome::name).to_owned();
    // Writing to a `String` cannot fail.
    let _ = write!(text, ": {}", line.client);
    let name = line.server_name.map(|name| name.to_string());
    if let Some(name) = name.as_deref().or(line.target.as_deref()) {
        let _ = write!(text, " asked for {name}");
    }
    if let Some(endpoint) = line.endpoint {
        let _ = write!(text, ", reached {endpoint}");
    }
    if let Some(detail) = line.detail {
        let _ = write!(text, ": {detail}");
    }
    text
}

/// The sum of lines that were left out.
#[derive(Serialize)]
pub(super) struct Sum {
    #[serde(flatten)]
    head: Head,
    event: SumEvent,
    portway: OwnSum,
}

#[derive(Serialize)]
struct SumEvent {
    kind: &'static str,
    dataset: Dataset,
}

#[derive(Serialize)]
struct OwnSum {
    outcome: Outcome,
    suppressed: u32,
}

impl Sum {
    pub(super) fn new(excess: &Excess) -> Self {
        let &Excess {
            time,
            outcome,
            suppressed,
        } = excess;
        let message = format!("{suppressed} more connections ended as {}", outcome.name());
        Self {
            head: Head::new(time, "info", message),
            event: SumEvent {
                kind: "event",
                dataset: Dataset::Connections,
            },
            portway: OwnSum {
                outcome,
                suppressed,
            },
        }
    }
}
