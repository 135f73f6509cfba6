//! Every key of routes.toml: name, values, default or example, and what it is for.

use std::ops::RangeInclusive;
use std::time::Duration;

use strum::VariantNames;

use super::Absent::{self, Default, Example, Required, RequiredOrNext};
use super::Kind::{self, AddressOrFalse, Boolean, Choice, Count, Size, Texts};
use super::{Key, Table, Text, Under};
use crate::backend::Balance;
use crate::telemetry::Logged;

/// The keys outside tables, and the tables.
#[rustfmt::skip]
pub const ROOT: Table = &[
    value("workers", Count(WORKERS), Example("4"),
        "Threads that carry connections. Default: the CPUs that the process may use, at most 8."),
    key("admin", Under::Table(ADMIN),
        "The pages for operators and their tools."),
    key("limits", Under::Table(LIMITS),
        "Limits that protect the relay from clients, and times of the drain."),
    key("log", Under::Table(LOG),
        "What is logged."),
    key("listeners", Under::Named(LISTENER, "Addresses where connections arrive."),
        "Where connections arrive, by name."),
    key("backends", Under::Named(BACKEND, "Servers, each of which can take any connection that leads here."),
        "Where connections lead, by name."),
    key("routes", Under::Named(ROUTE, "It takes a connection if a server name matches and every other condition holds."),
        "Which connections lead to which backend, by name. Their order does not matter."),
];

#[rustfmt::skip]
const ADMIN: Table = &[
    value("bind", AddressOrFalse, Default("127.0.0.1:9355"),
        "Where /metrics, /livez and /readyz answer; false is off. Asks for no password."),
    value("exposed", Boolean, Default("false"),
        "Acknowledges that other machines can reach the address in bind: check then does not warn of it."),
];

#[rustfmt::skip]
const LIMITS: Table = &[
    value("max_connections", Count(CONNECTIONS), Example("20000"),
        "Connections at a time. Default: what descriptors and memory allow, at most 1,000,000."),
    value("max_pending_connections", Count(CONNECTIONS), Example("5000"),
        "Connections whose client hello is not whole yet. Default: a quarter of max_connections."),
    value("max_pending_per_client", Count(CONNECTIONS), Example("1000"),
        "Connections of one client address whose client hello is not whole yet. Default: a quarter of \
         max_pending_connections, and only while more than half of those are in use; a written value counts \
         always."),
    value("max_connections_per_client", Count(CONNECTIONS), Example("2000"),
        "Connections of one client address. Default: no limit."),
    value("client_ipv6_prefix", Count(PREFIX), Default("64"),
        "The prefix that makes IPv6 addresses one client."),
    value("client_hello_timeout", TIMEOUT, Default("10s"),
        "From accept to a whole client hello."),
    value("max_client_hello", Size(HELLO_SIZE), Default("64KiB"),
        "Bytes of the client hello with its record headers, 1 KiB to 1 MiB."),
    value("drain_delay", DRAIN, Default("0s"),
        "From the signal, with /readyz failing, to the close of the listeners."),
    value("drain_timeout", DRAIN, Default("20s"),
        "From the close of the listeners to the cut of what is left."),
];

#[rustfmt::skip]
const LOG: Table = &[
    value("connections", Choice(Logged::VARIANTS), Default("all"),
        "A line for each connection, or only for those that did not end as closed."),
];

#[rustfmt::skip]
const LISTENER: Table = &[
    value("bind", Texts(Text::Bind), Required("[::]:443"),
        "Addresses with ports. [::] takes IPv4 too; port 0 lets the kernel choose."),
    value("allow_clients", Texts(Text::Network), Example("10.0.0.0/8"),
        "Networks that may connect. Default: all."),
    value("deny_clients", Texts(Text::Network), Example("10.66.0.0/16"),
        "Networks that may not. Wins over allow_clients."),
];

#[rustfmt::skip]
const BACKEND: Table = &[
    value("endpoints", Texts(Text::Endpoint), Required("fleet-1.internal:8220"),
        "host:port of each server. Names are resolved in the background."),
    value("balance", Choice(Balance::VARIANTS), Default("least_connections"),
        "The choice among the endpoints."),
    value("connect_timeout", TIMEOUT, Default("4s"),
        "One attempt to connect."),
    value("dial_timeout", TIMEOUT, Default("9s"),
        "All attempts together, at least connect_timeout."),
    value("idle_timeout", TIMEOUT, Default("75m"),
        "No byte in either direction. Agents are silent for 5 minutes, and for up to an hour in large fleets."),
    value("half_close_timeout", TIMEOUT, Default("60s"),
        "No byte in the open direction once the other has closed."),
    value("stall_timeout", TIMEOUT, Default("10m"),
        "A peer takes no byte while bytes wait for it."),
    value("keepalive", KEEPALIVE, Default("45s"),
        "Idle time before TCP probes on both legs, 1 s to 9 h."),
    value("max_unsent", Size(UNSENT), Default("1MiB"),
        "Bytes that wait in the kernel for one peer without having been sent, 16 KiB to 1 GiB."),
];

#[rustfmt::skip]
const ROUTE: Table = &[
    value("server_names", Texts(Text::ServerName), RequiredOrNext("fleet.example.com"),
        "Names, any of which may match: a name, *. for one label more, **. for one or more, ** for any."),
    value("no_server_name", Boolean, Default("false"),
        "Takes connections without a server name: agents that dial an address send none."),
    value("listeners", Texts(Text::Name), Example("agents"),
        "Names of listeners. Default: any."),
    value("alpn", Texts(Text::Protocol), Example("h2"),
        "Protocols, one of which the client must offer. Default: any, or none."),
    value("clients", Texts(Text::Network), Example("10.0.0.0/8"),
        "Networks of clients. Default: any."),
    value("backend", Kind::Text(Text::Name), Required("fleet"),
        "The name of a backend."),
];

/// A thread each; more is a typing error.
const WORKERS: RangeInclusive<i64> = 1..=1024;
/// Far over what one machine has descriptors for.
const CONNECTIONS: RangeInclusive<i64> = 1..=100_000_000;
/// Of an IPv6 address.
const PREFIX: RangeInclusive<i64> = 1..=128;
/// From less than any hello to 16 times what Go and rustls take.
const HELLO_SIZE: RangeInclusive<u64> = 1 << 10..=1 << 20;
/// From what keeps a slow path busy to more than any socket buffer.
const UNSENT: RangeInclusive<u64> = 16 << 10..=1 << 30;
/// Zero is no limit of time that anybody can keep.
const TIMEOUT: Kind = Kind::Duration(Duration::from_millis(1)..=YEAR);
/// Zero means at once.
const DRAIN: Kind = Kind::Duration(Duration::ZERO..=YEAR);
/// The kernel takes whole seconds up to 32,767 for `TCP_KEEPIDLE`.
const KEEPALIVE: Kind = Kind::Duration(Duration::from_secs(1)..=Duration::from_hours(9));
const YEAR: Duration = Duration::from_hours(8766);

const fn value(name: &'static str, kind: Kind, absent: Absent, about: &'static str) -> Key {
    key(name, Under::Value(kind, absent), about)
}

const fn key(name: &'static str, under: Under, about: &'static str) -> Key {
    Key { name, under, about }
}
