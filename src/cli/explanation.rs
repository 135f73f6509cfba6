//! The findings of `portway explain`, as parts for programs. `report` shows them as text.

mod judge;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::addresses::Addresses;
use super::configuration::Origin;
use super::limits::{self, Limit};
use crate::config::Settings;
use crate::conn::Refusal;
use crate::outcome::Outcome;
use crate::routing::{Candidate, Consideration, Pattern, Route, Unmet};
use crate::status::remedy;
use crate::telemetry::list;
use crate::tls::Alpn;

/// The most values shown of one condition of a route; the rest are counted.
const SHOWN: usize = 100;
/// The most names shown of a route that does not match.
const NAMES: usize = 3;

#[derive(Debug, Serialize)]
pub(super) struct Explanation<'e> {
    pub(super) file: String,
    #[serde(flatten)]
    pub(super) origin: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
    pub(super) listener: &'e str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    pub(super) client: IpAddr,
    /// Where portway gets this address from; none without balancers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_from: Option<String>,
    /// The address that the client of a proxy asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) hello: Option<Hello>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) taken: Option<Taken<'e>>,
    pub(super) passed_over: Vec<PassedOver<'e>>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<Refused>,
}

/// The requests of the hello. Bytes that a client sent are escaped.
#[derive(Debug, Serialize)]
pub(super) struct Hello {
    pub(super) server_name: Option<String>,
    /// The name as written in the arguments, if a hello has it in another form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unicode: Option<String>,
    pub(super) alpn: Vec<String>,
    /// Bytes with the record headers; known only for a captured hello.
    #[serde(rename = "hello_bytes", skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<usize>,
    pub(super) ech: bool,
}

/// Where the connection goes.
#[derive(Debug, Serialize)]
pub(super) struct Taken<'e> {
    pub(super) route: &'e str,
    /// None without a server name.
    pub(super) pattern: Option<String>,
    pub(super) backend: &'e str,
    /// The proxy through which the endpoints are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) via: Option<String>,
    pub(super) endpoints: Vec<String>,
    /// The roles of those that are written as tables with one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) roles: BTreeMap<String, String>,
    /// None before the running portway was asked.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) addresses: Option<Addresses>,
    #[serde(serialize_with = "as_object")]
    pub(super) limits: Vec<Limit>,
    /// The keys of limits that are at their default.
    pub(super) defaults: Vec<&'static str>,
}

/// A route that the connection does not take.
#[derive(Debug, Serialize)]
pub(super) struct PassedOver<'e> {
    pub(super) route: &'e str,
    /// The pattern that matches, or those that do not.
    pub(super) patterns: String,
    pub(super) reason: Reason,
    pub(super) detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    Listener,
    Port,
    Alpn,
    Client,
    Precedence,
    ServerName,
}

/// Why the connection is refused.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) outcome: Outcome,
    pub(super) why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// The name or pattern of a route that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nearest: Option<String>,
    pub(super) client_gets: String,
    /// The remedy, as the status says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alert: Option<u8>,
}

impl Hello {
    pub(super) fn new(server_name: Option<&[u8]>, alpn: Alpn<'_>) -> Self {
        Self {
            server_name: server_name.map(|name| name.escape_ascii().to_string()),
            unicode: None,
            alpn: alpn
                .iter()
                .map(|protocol| protocol.escape_ascii().to_string())
                .collect(),
            size: None,
            ech: false,
        }
    }
}

impl Refused {
    pub(super) fn new(refusal: &Refusal, nearest: Option<&Pattern>) -> Self {
        Self {
            outcome: refusal.outcome,
            why: why(refusal.outcome),
            detail: refusal.detail.as_deref().map(str::to_owned),
            nearest: nearest.map(ToString::to_string),
            client_gets: refusal.to_string(),
            // The end of a remedy may name the command that shows this.
            remedy: remedy(refusal.outcome, None)
                .and_then(|remedy| remedy.split(" `portway explain").next()),
            alert: refusal.alert(),
        }
    }
}

impl<'e> Explanation<'e> {
    /// Adds every route: the one that is taken, and the others with the reason why they are not.
    pub(super) fn look_up(&mut self, seen: &Consideration<'_>, settings: &'e Settings) {
        let routes = settings.routes.routes();
        let route = |candidate: &Candidate<'_>| routes.get(candidate.route);
        let (taken, passed_over): (Vec<_>, Vec<_>) = (seen.candidates.iter())
            .filter_map(|candidate| Some((route(candidate)?, candidate)))
            .partition(|(_, candidate)| seen.taken == Ok(candidate.route));
        // The best pattern of the route; several of its patterns may match the name.
        if let Some((route, candidate)) = taken.first()
            && let Some(backend) = settings.backends.get(route.backend)
        {
            self.note_of_name(backend);
            let limits = limits::limits(settings, backend);
            let defaults = limits.iter().filter(|limit| limit.is_default);
            self.taken = Some(Taken {
                route: &route.name,
                pattern: candidate.precedence.pattern.map(ToString::to_string),
                backend: &backend.name,
                via: backend.via.as_ref().map(ToString::to_string),
                endpoints: backend.endpoints.iter().map(ToString::to_string).collect(),
                roles: (backend.members().filter(|(_, role)| !role.is_plain()))
                    .map(|(endpoint, role)| (endpoint.to_string(), role.to_string()))
                    .collect(),
                addresses: None,
                defaults: defaults.map(|limit| limit.key).collect(),
                limits,
            });
        }
        for (route, candidate) in passed_over {
            let (reason, detail) = reason(route, candidate);
            let pattern = candidate.precedence.pattern;
            self.passed_over.push(PassedOver {
                route: &route.name,
                patterns: pattern.map_or_else(|| NO_NAME.to_owned(), ToString::to_string),
                reason,
                detail,
            });
        }
        let considered: HashSet<usize> = seen.candidates.iter().map(|c| c.route).collect();
        let others = routes.iter().enumerate();
        let others = others.filter(|(position, _)| !considered.contains(position));
        let hello = self.hello.as_ref();
        let has_name = hello.is_some_and(|hello| hello.server_name.is_some());
        self.passed_over.extend(others.map(|(_, route)| PassedOver {
            route: &route.name,
            patterns: names(route),
            reason: Reason::ServerName,
            detail: if route.server_names.is_empty() {
                "only without a server name".to_owned()
            } else if has_name {
                "the name does not match".to_owned()
            } else {
                "only with a server name".to_owned()
            },
        }));
    }
}

const NO_NAME: &str = "no server name";

/// The names that a route takes.
fn names(route: &Route) -> String {
    let without = route.no_server_name.then(|| NO_NAME.to_owned());
    let names = without.into_iter();
    list(
        names.chain(route.server_names.iter().map(ToString::to_string)),
        NAMES,
    )
}

fn reason(route: &Route, candidate: &Candidate<'_>) -> (Reason, String) {
    match candidate.unmet {
        Some(Unmet::Listener) => (
            Reason::Listener,
            format!("only on listener {}", list(&route.listeners, SHOWN)),
        ),
        Some(Unmet::Port) => (
            Reason::Port,
            format!("only at port {}", list(&route.ports, SHOWN)),
        ),
        Some(Unmet::Alpn) => {
            let protocols = route.alpn.iter().map(|protocol| protocol.escape_ascii());
            (
                Reason::Alpn,
                format!("only with ALPN {}", list(protocols, SHOWN)),
            )
        }
        Some(Unmet::Client) => (
            Reason::Client,
            format!("only from {}", list(&route.clients, SHOWN)),
        ),
        None => (Reason::Precedence, "lower precedence".to_owned()),
    }
}

fn as_object<S: Serializer>(limits: &[Limit], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(limits.iter().map(|limit| (limit.key, &limit.value)))
}

/// The meaning of an outcome before the dial.
const fn why(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Probe => "the client sends no byte",
        Outcome::HelloEof => "the hello is incomplete",
        Outcome::NotTls => "the bytes are not a TLS record",
        Outcome::UnsupportedVersion => "the client speaks SSLv2 or SSLv3",
        Outcome::HelloTooLarge => {
            "the hello is larger than max_client_hello, or a record is larger than TLS allows"
        }
        Outcome::MalformedHello => "the hello breaks the rules of its encoding",
        Outcome::InvalidServerName => "the server name is not a host name",
        Outcome::NoServerName => "no route takes connections without a server name here",
        Outcome::NoRoute => "no route takes this server name here",
        Outcome::TargetDenied => "no route takes this host and port here",
        Outcome::ClientDenied => "this client is not admitted",
        Outcome::BackendUnavailable => "no endpoint of the backend takes new connections",
        Outcome::Closed
        | Outcome::InvalidProxyHeader
        | Outcome::InvalidProxyRequest
        | Outcome::ProxyAuthFailed
        | Outcome::NameMismatch
        | Outcome::HelloTimeout
        | Outcome::Overloaded
        | Outcome::BackendUnresolved
        | Outcome::Looped
        | Outcome::ForbiddenAddress
        | Outcome::ViaRefused
        | Outcome::RateLimited
        | Outcome::LocalExhausted
        | Outcome::BackendClosedEarly
        | Outcome::BackendNotTls
        | Outcome::HandshakeFailed
        | Outcome::ClientReset
        | Outcome::BackendReset
        | Outcome::IdleTimeout
        | Outcome::HalfCloseTimeout
        | Outcome::Stalled
        | Outcome::PeerTimeout
        | Outcome::Drained
        | Outcome::Error => "it depends on more than the hello",
    }
}
