//! The status of a process. Every list is bounded, and what is left out is counted. Times are RFC 3339 in UTC.
//!
//! A field that is missing gets its default, so that a command can read the answer of an older process.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::outcome::AddressState;

/// Everything about a process except its connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// When this was collected.
    pub time: String,
    /// The version of the program.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// When it started.
    pub started: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Whether it accepts connections.
    pub stage: Stage,
    /// The drain, if one is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
    /// The process whose listeners this one has taken over.
    pub predecessor: Predecessor,
    /// The configuration in force.
    pub configuration: Configuration,
    /// Counts over all listeners.
    pub totals: Totals,
    /// The limits in force, and how much of each is in use.
    pub limits: Vec<LimitUse>,
    /// The clients that were refused or whose connections failed: those seen last come first.
    pub refused: Vec<Refused>,
    /// Connections whose row has made room for another one.
    pub refused_forgotten: u64,
    /// The listeners, in the order of their names.
    pub listeners: Vec<Listener>,
    /// Those that are left out.
    pub listeners_not_shown: usize,
    /// The backends, in the order of their names.
    pub backends: Vec<Backend>,
    /// Those that are left out.
    pub backends_not_shown: usize,
    /// The routes, in the order of their names.
    pub routes: Vec<Route>,
    /// Those that are left out.
    pub routes_not_shown: usize,
    /// Seconds that the rates are about: 60 once the process has run for so long.
    pub rate_window_s: u64,
    /// Workers that did not answer in time. Their part of `refused` is missing.
    pub silent_workers: usize,
}

/// The stages of the program, in the order of its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Listeners do not accept yet.
    #[default]
    Starting,
    /// Listeners accept.
    Ready,
    /// Listeners no longer accept.
    Draining,
}

/// A drain that is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// `stop` or `takeover`.
    pub cause: String,
    /// When it began.
    pub since: String,
    /// When the connections that are left are reset.
    pub until: String,
}

/// Whether another process ran with the same listeners before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predecessor {
    /// There is none.
    #[default]
    None,
    /// It does not know yet that this process accepts.
    Awaited,
    /// It drains.
    Draining,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// The path of its file; absent if the settings came without a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Counts the configurations of the process, from 1.
    pub generation: u64,
    /// CRC-32 of the text, as 8 hexadecimal digits: equal on all instances that run with the same file.
    pub hash: String,
    /// When it came into force.
    pub loaded: String,
    /// The last reload, if it was refused: the file is not what is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_reload: Option<Reload>,
}

/// A reload that was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reload {
    /// When portway first refused it.
    pub time: String,
    /// The first faults, one in a line, bounded.
    pub faults: Vec<String>,
    /// How many more lines there are.
    pub faults_not_shown: usize,
}

/// Counts over all listeners. Those that routes.toml no longer has are not among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Connections that are open.
    pub connections: u64,
    /// Those of them without a whole hello.
    pub pending: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that have ended, by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// The last minute.
    pub rates: Rates,
}

/// Rates per second over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rates {
    /// New connections.
    pub connections_per_s: f64,
    /// Connections that ended with an outcome that has a remedy.
    pub failures_per_s: f64,
    /// Bytes to the backend.
    pub bytes_client_to_backend_per_s: f64,
    /// Bytes to the client.
    pub bytes_backend_to_client_per_s: f64,
}

/// A limit and its use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitUse {
    /// The key in `[limits]`, or `descriptors`.
    pub name: String,
    /// How much is in use; absent for a limit per client and for a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// The limit; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Whether it has rejected a connection within the last minute, or 80 % of it are in use.
    pub near: bool,
    /// Connections that it has rejected.
    pub rejected: u64,
}

/// Connections of one network of clients that failed for one cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refused {
    /// The network of the clients: a /24 of IPv4 or a /64 of IPv6.
    pub clients: String,
    /// The client that was seen last.
    pub client: String,
    /// The server name, or the target at a proxy listener; absent if none was read, or if the row sums up many names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the row sums up names for which there was no row of their own.
    pub many_names: bool,
    /// The outcome.
    pub outcome: String,
    /// The limit that was reached, or why the last attempt to connect failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The listener of the last one.
    pub listener: String,
    /// The backend of the last one, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The `detail` of the last one in the log, bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The name or pattern of a route that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// How many.
    pub count: u64,
    /// When the first one ended.
    pub first_seen: String,
    /// When the last one ended.
    pub last_seen: String,
    /// The remedy, in a sentence or two.
    pub remedy: String,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// The name in routes.toml.
    pub name: String,
    /// The first message of a client.
    pub protocol: String,
    /// The bound addresses.
    pub addresses: Vec<SocketAddr>,
    /// Connections that are open.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// New connections per second over the last minute.
    pub connections_per_s: f64,
    /// Connections that ended before a backend was chosen, by outcome.
    pub outcomes: BTreeMap<String, u64>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// The name in routes.toml.
    pub name: String,
    /// The patterns, bounded, with how many more there are.
    pub server_names: String,
    /// Whether it takes connections without a server name.
    pub no_server_name: bool,
    /// Its backend.
    pub backend: String,
    /// Connections that took it.
    pub connections: u64,
    /// New connections per second over the last minute.
    pub connections_per_s: f64,
}

/// A backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Backend {
    /// The name in routes.toml.
    pub name: String,
    /// The URL of its proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Connections that have chosen it and have not ended.
    pub connections: u64,
    /// Connections that have ended, by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// TLS handshakes that have ended, by result.
    pub handshakes: BTreeMap<String, u64>,
    /// Bytes relayed to it.
    pub bytes_client_to_backend: u64,
    /// Bytes relayed to clients.
    pub bytes_backend_to_client: u64,
    /// The last minute.
    pub rates: Rates,
    /// Its endpoints, in the order of routes.toml, and then its proxy.
    pub endpoints: Vec<Endpoint>,
    /// Those that are left out.
    pub endpoints_not_shown: usize,
}

/// An endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// `host:port` as in routes.toml, or the URL of a proxy.
    pub name: String,
    /// `active`, `backup` or `drain`.
    pub role: String,
    /// Its weight, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The connections of this portway to it, with those that are being dialled.
    pub connections: u32,
    /// Whether its addresses are checked.
    pub is_checked: bool,
    /// Attempts that failed, by reason.
    pub dial_failures: BTreeMap<String, u64>,
    /// Its addresses, in the order of the resolver.
    pub addresses: Vec<Address>,
    /// Those that are left out. The names of an endpoint `{server_name}` are not listed.
    pub addresses_not_shown: usize,
    /// Why it has no address, or why the last look-up of its name failed, if it keeps the addresses of an older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<String>,
}

/// An address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Where portway dials.
    pub address: SocketAddr,
    /// Its state.
    pub state: AddressState,
    /// Whether checks have found it unhealthy.
    #[serde(default)]
    pub unhealthy: bool,
    /// Connections to it, with those that are being dialled.
    #[serde(default)]
    pub connections: u32,
    /// Dials in progress.
    #[serde(default)]
    pub dialling: u32,
    /// Dials that wait for their turn (`max_dials`).
    #[serde(default)]
    pub waiting: u32,
    /// Failures in a row that raised its penalty: 4 at most.
    #[serde(default)]
    pub failures: u8,
    /// Milliseconds until it is no longer ranked last; absent without a failed dial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty_ms: Option<u64>,
    /// The certificates that it has shown to its last check; absent without a check that asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSeen>,
}

/// The certificates that an address has shown to a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateSeen {
    /// `valid`, the flaw of the dates, `encrypted` or `unreadable`.
    pub state: String,
    /// When the first of them expires; absent if none was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// When the check was answered.
    pub seen: String,
}
