//! The mirror of routes.toml: its keys and their types, nothing checked. [`build`](super::build)
//! makes [`Settings`](super::Settings) of it, and [`schema`] tells editors of it: the comments of the
//! keys are what they show.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::build::{BALANCE, CONNECTIONS, LOGGED, PREFIX, WORKERS};
use super::schema;

/// A routes.toml of portway: where it listens, which connections it takes, and where they lead.
/// docs/routes.md is the reference; portway check also finds what takes more than one key to see.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[schemars(title = "routes.toml", extend("required" = ["listeners", "backends", "routes"]))]
pub(super) struct File {
    /// Threads that carry connections. Default: the CPUs that the process may use, at most 8.
    #[schemars(with = "i64", range(min = *WORKERS.start(), max = *WORKERS.end()))]
    pub(super) workers: Option<i64>,
    /// The pages for operators and their tools.
    pub(super) admin: Admin,
    /// Limits that protect the relay from clients, and times of the drain.
    pub(super) limits: Limits,
    /// What is logged.
    pub(super) log: Log,
    /// Where connections arrive, by name.
    #[schemars(schema_with = "schema::named::<Listener>")]
    pub(super) listeners: BTreeMap<String, Listener>,
    /// Where connections lead, by name.
    #[schemars(schema_with = "schema::named::<Backend>")]
    pub(super) backends: BTreeMap<String, Backend>,
    /// Which connections lead to which backend, by name. Their order does not matter.
    #[schemars(schema_with = "schema::named::<Route>")]
    pub(super) routes: BTreeMap<String, Route>,
}

/// The pages for operators and their tools.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Admin {
    /// Where /metrics, /livez and /readyz answer; false is off. Asks for no password.
    #[schemars(
        schema_with = "schema::address_or_false",
        extend("default" = "127.0.0.1:9355"),
    )]
    pub(super) bind: Option<AdminBind>,
}

#[derive(Debug)]
pub(super) enum AdminBind {
    Address(String),
    Switch(bool),
}

/// Limits that protect the relay from clients, and times of the drain.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Limits {
    /// Connections at a time. Default: what descriptors and memory allow, at most 1,000,000.
    #[schemars(with = "i64", range(min = *CONNECTIONS.start(), max = *CONNECTIONS.end()))]
    pub(super) max_connections: Option<i64>,
    /// Connections whose client hello is not whole yet. Default: a quarter of max_connections.
    #[schemars(with = "i64", range(min = *CONNECTIONS.start(), max = *CONNECTIONS.end()))]
    pub(super) max_pending_connections: Option<i64>,
    /// Connections of one client address whose client hello is not whole yet. Default: a quarter of
    /// max_pending_connections, and only while more than half of those are in use; a written value
    /// counts always.
    #[schemars(with = "i64", range(min = *CONNECTIONS.start(), max = *CONNECTIONS.end()))]
    pub(super) max_pending_per_client: Option<i64>,
    /// Connections of one client address. Default: no limit.
    #[schemars(with = "i64", range(min = *CONNECTIONS.start(), max = *CONNECTIONS.end()))]
    pub(super) max_connections_per_client: Option<i64>,
    /// The prefix that makes IPv6 addresses one client.
    #[schemars(
        with = "i64",
        range(min = *PREFIX.start(), max = *PREFIX.end()),
        extend("default" = 64),
    )]
    pub(super) client_ipv6_prefix: Option<i64>,
    /// From accept to a whole client hello.
    #[schemars(schema_with = "schema::duration", extend("default" = "10s"))]
    pub(super) client_hello_timeout: Option<String>,
    /// Bytes of the client hello with its record headers, 1 KiB to 1 MiB.
    #[schemars(schema_with = "schema::size", extend("default" = "64KiB"))]
    pub(super) max_client_hello: Option<String>,
    /// From the signal, with /readyz failing, to the close of the listeners.
    #[schemars(schema_with = "schema::duration", extend("default" = "0s"))]
    pub(super) drain_delay: Option<String>,
    /// From the close of the listeners to the cut of what is left.
    #[schemars(schema_with = "schema::duration", extend("default" = "20s"))]
    pub(super) drain_timeout: Option<String>,
}

/// What is logged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Log {
    /// A line for each connection, or only for those that did not end as closed.
    #[schemars(
        with = "String",
        extend("enum" = schema::words(&LOGGED), "default" = "all"),
    )]
    pub(super) connections: Option<String>,
}

/// Addresses where connections arrive.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[schemars(extend("required" = ["bind"]))]
pub(super) struct Listener {
    /// Addresses with ports. [::] takes IPv4 too; port 0 lets the kernel choose.
    #[schemars(schema_with = "schema::binds", extend("minItems" = 1))]
    pub(super) bind: Vec<String>,
    /// Networks that may connect. Default: all.
    #[schemars(schema_with = "schema::networks", extend("minItems" = 1))]
    pub(super) allow_clients: Option<Vec<String>>,
    /// Networks that may not. Wins over allow_clients.
    #[schemars(schema_with = "schema::networks", extend("minItems" = 1))]
    pub(super) deny_clients: Option<Vec<String>>,
}

/// Servers, each of which can take any connection that leads here.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[schemars(extend("required" = ["endpoints"]))]
pub(super) struct Backend {
    /// host:port of each server. Names are resolved in the background.
    #[schemars(schema_with = "schema::endpoints", extend("minItems" = 1))]
    pub(super) endpoints: Vec<String>,
    /// The choice among the endpoints.
    #[schemars(
        with = "String",
        extend("enum" = schema::words(&BALANCE), "default" = "least_connections"),
    )]
    pub(super) balance: Option<String>,
    /// One attempt to connect.
    #[schemars(schema_with = "schema::duration", extend("default" = "4s"))]
    pub(super) connect_timeout: Option<String>,
    /// All attempts together, at least connect_timeout.
    #[schemars(schema_with = "schema::duration", extend("default" = "9s"))]
    pub(super) dial_timeout: Option<String>,
    /// No byte in either direction. Agents are silent for 5 minutes, and for up to an hour in large
    /// fleets.
    #[schemars(schema_with = "schema::duration", extend("default" = "75m"))]
    pub(super) idle_timeout: Option<String>,
    /// No byte in the open direction once the other has closed.
    #[schemars(schema_with = "schema::duration", extend("default" = "60s"))]
    pub(super) half_close_timeout: Option<String>,
    /// A peer takes no byte while bytes wait for it.
    #[schemars(schema_with = "schema::duration", extend("default" = "10m"))]
    pub(super) stall_timeout: Option<String>,
    /// Idle time before TCP probes on both legs, 1 s to 9 h.
    #[schemars(schema_with = "schema::duration", extend("default" = "60s"))]
    pub(super) keepalive: Option<String>,
    /// Bytes that wait in the kernel for one peer without having been sent, 16 KiB to 1 GiB.
    #[schemars(schema_with = "schema::size", extend("default" = "1MiB"))]
    pub(super) max_unsent: Option<String>,
}

/// It takes a connection if a server name matches and every other condition holds.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[schemars(extend(
    "required" = ["backend"],
    "anyOf" = [{ "required": ["server_names"] }, { "required": ["no_server_name"] }],
))]
pub(super) struct Route {
    /// Names, any of which may match: a name, *. for one label more, **. for one or more, ** for any.
    #[schemars(schema_with = "schema::server_names", extend("minItems" = 1))]
    pub(super) server_names: Option<Vec<String>>,
    /// Takes connections without a server name: agents that dial an address send none.
    #[schemars(with = "bool", extend("default" = false))]
    pub(super) no_server_name: Option<bool>,
    /// Names of listeners. Default: any.
    #[schemars(schema_with = "schema::names", extend("minItems" = 1))]
    pub(super) listeners: Option<Vec<String>>,
    /// Protocols, one of which the client must offer. Default: any, or none.
    #[schemars(schema_with = "schema::protocols", extend("minItems" = 1))]
    pub(super) alpn: Option<Vec<String>>,
    /// Networks of clients. Default: any.
    #[schemars(schema_with = "schema::networks", extend("minItems" = 1))]
    pub(super) clients: Option<Vec<String>>,
    /// The name of a backend.
    #[schemars(schema_with = "schema::name")]
    pub(super) backend: Option<String>,
}

impl<'de> Deserialize<'de> for AdminBind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressOrFalse;
        impl Visitor<'_> for AddressOrFalse {
            type Value = AdminBind;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address in quotes, or false")
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<AdminBind, E> {
                Ok(AdminBind::Switch(value))
            }
            fn visit_str<E: Error>(self, value: &str) -> Result<AdminBind, E> {
                Ok(AdminBind::Address(value.to_owned()))
            }
        }
        deserializer.deserialize_any(AddressOrFalse)
    }
}
