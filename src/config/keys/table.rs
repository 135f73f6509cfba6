//! Every key of routes.toml: its name, values, default or example, and purpose.

use std::ops::RangeInclusive;
use std::time::Duration;

use strum::VariantNames;

use super::Absent::{self, Default, Example, Required, RequiredOrNext};
use super::Kind::{
    self, AddressOrFalse, Boolean, Choice, Count, Endpoints, Ports, Size, Texts, TextsOrFalse,
};
use super::{Key, Table, Text, Under};
use crate::backend::{Balance, Check, EndpointState};
use crate::snapshot::CloseOn;
use crate::telemetry::{Format, Logged};
use crate::wire::{ListenerProtocol, ProxyVersion};

/// The keys outside tables, and the tables.
#[rustfmt::skip]
pub const ROOT: Table = &[
    value("workers", Count(WORKERS), Example("4"),
        "The number of threads that carry connections. Default: the CPUs that the process may use, at most 8."),
    key("admin", Under::Table(ADMIN),
        "The pages for operators and their tools."),
    key("limits", Under::Table(LIMITS),
        "Limits that protect the relay from clients, and the times of a drain."),
    key("log", Under::Table(LOG),
        "Settings of the connection log."),
    key("listeners", Under::Named(LISTENER, "Addresses where connections arrive."),
        "Where connections arrive, by name."),
    key("backends", Under::Named(BACKEND, "Servers, each of which can take any connection that leads here."),
        "Where connections lead, by name."),
    key("routes", Under::Named(ROUTE, "A route takes a connection if one of its server names matches and every other condition holds."),
        "Which connections lead to which backend, by name. Their order does not matter."),
];

#[rustfmt::skip]
const ADMIN: Table = &[
    value("bind", AddressOrFalse, Default("127.0.0.1:9355"),
        "The address that serves /metrics, /livez and /readyz; false turns it off. It asks for no password."),
    value("exposed", Boolean, Default("false"),
        "Acknowledges that other machines can reach the address in bind: check then does not warn about it."),
    value("status_clients", TextsOrFalse(Text::Network), Default("127.0.0.0/8, ::1/128"),
        "The networks that may see /status and /connections, which show the names and addresses of clients; false for nobody."),
    value("hosts", Texts(Text::OneName), Example("portway-1.internal"),
        "The names in the URLs of these pages, beside addresses and localhost. Default: no other name."),
];

#[rustfmt::skip]
const LIMITS: Table = &[
    value("max_connections", Count(CONNECTIONS), Example("20000"),
        "The most connections open at the same time. Default: what descriptors and memory allow, at most 1,000,000."),
    value("max_pending_connections", Count(CONNECTIONS), Example("5000"),
        "The most connections whose client hello is not complete yet. Default: a quarter of max_connections."),
    value("max_pending_per_client", Count(CONNECTIONS), Example("1000"),
        "The most connections of one client address whose client hello is not complete yet. Default: a quarter of \
         max_pending_connections, which applies only while more than half of those are in use; a value that you \
         write always applies."),
    value("max_connections_per_client", Count(CONNECTIONS), Example("2000"),
        "The most connections of one client address. Default: no limit."),
    value("accept_rate", Count(RATE), Example("500"),
        "The most new connections per second, with a burst of the same number. Default: no limit."),
    value("accept_rate_per_client", Count(RATE), Example("100"),
        "The most new connections per second of one client address, with a burst of the same number. Default: no limit."),
    value("client_ipv6_prefix", Count(PREFIX), Default("64"),
        "IPv6 addresses with the same prefix of this length count as one client."),
    value("client_hello_timeout", TIMEOUT, Default("10s"),
        "The longest time from accept to a complete client hello."),
    value("max_client_hello", Size(HELLO_SIZE), Default("64KiB"),
        "The largest client hello in bytes, with its record headers, 1 KiB to 1 MiB."),
    value("drain_delay", DRAIN, Default("0s"),
        "The time from the signal until the listeners close. /readyz fails during this time."),
    value("drain_timeout", DRAIN, Default("20s"),
        "The time from the close of the listeners until portway resets the connections that are left."),
    value("takeover_timeout", DRAIN, Default("15m"),
        "The same after a takeover. It should be longer than an agent's check-in is held, which is 5 minutes unless checkin_max_poll of Fleet Server says more."),
];

#[rustfmt::skip]
const LOG: Table = &[
    value("connections", Choice(Logged::VARIANTS), Default("all"),
        "Logs one line per connection, or only for connections that did not end as closed."),
    value("format", Choice(Format::VARIANTS), Example("ecs"),
        "How both logs are written: JSON, text for people, or JSON with the fields of the Elastic Common Schema (ecs). --log-format wins. Default: text on a terminal, json elsewhere."),
    value("interval", AGE, Example("10m"),
        "Also logs a line for each connection that has been open this long, 1 s to a year, and again after each further interval. Default: none."),
];

#[rustfmt::skip]
const LISTENER: Table = &[
    value("bind", Texts(Text::Bind), Required("[::]:443"),
        "The addresses and ports to listen on. [::] also takes IPv4; with port 0 the kernel chooses a port."),
    value("protocol", Choice(ListenerProtocol::VARIANTS), Default("tls"),
        "The first message of a client: its TLS hello (tls), a CONNECT request as to an HTTP proxy (http_connect), or the messages of SOCKS5 (socks5)."),
    value("credentials_file", Kind::Text(Text::File), Example("agents.htpasswd"),
        "The file of the users that may connect to a proxy, with lines of user:hash as htpasswd -B writes them. Default: everybody, without a password."),
    key("proxy_protocol", Under::Table(PROXY_PROTOCOL),
        "The balancers that say by the PROXY protocol whose connection it is. Default: none."),
    value("freebind", Boolean, Default("false"),
        "Binds addresses that this machine does not have yet, such as a floating address."),
    value("allow_clients", Texts(Text::Network), Example("10.0.0.0/8"),
        "The networks that may connect. Default: all."),
    value("deny_clients", Texts(Text::Network), Example("10.66.0.0/16"),
        "The networks that may not connect. This key wins over allow_clients."),
];

#[rustfmt::skip]
const PROXY_PROTOCOL: Table = &[
    value("trusted", Texts(Text::Network), Required("10.0.0.8/32"),
        "The networks of the balancers: each connection from them must begin with a PROXY header, version 1 or 2. From others portway reads none."),
];

#[rustfmt::skip]
const BACKEND: Table = &[
    value("endpoints", Endpoints(ENDPOINT), Required("fleet-1.internal:8220"),
        "host:port of each server, or a table with its address, weight, state and backup. Names are resolved in the background."),
    key("resolver", Under::Table(RESOLVER),
        "The DNS servers that portway asks for the names of this backend. Default: the system's resolver."),
    value("allow_networks", Texts(Text::Network), Example("10.0.0.0/8"),
        "The networks that the endpoints may lead to. Loopback, link-local and metadata addresses need a network inside their own range. Default: any address of a server; for {server_name}, any public one."),
    value("balance", Choice(Balance::VARIANTS), Default("least_connections"),
        "How portway chooses among the endpoints."),
    value("via", Kind::Text(Text::Via), Example("http://proxy.corp:3128"),
        "The proxy of your site through which portway reaches the endpoints: http:// (CONNECT) or socks5://, with its port. Default: none."),
    value("via_credentials_file", Kind::Text(Text::File), Example("proxy.login"),
        "The file with the user and the password for the proxy in via, in one line of user:password. Default: none."),
    value("send_proxy_protocol", Choice(ProxyVersion::VARIANTS), Example("v2"),
        "The version of the PROXY header that portway sends before the client's hello. Fleet Server and Elasticsearch do not accept one. Default: none."),
    value("max_dials", Count(DIALS), Default("512"),
        "The most dials of one address that are in progress at the same time. The rest wait for their turn until dial_timeout."),
    value("source_addresses", Texts(Text::Source), Example("10.0.0.11"),
        "Addresses of this machine that portway dials from, in turn: each adds as many local ports. Default: the kernel's choice."),
    key("health", Under::Table(HEALTH),
        "Checks of the endpoints. Default: none, and portway learns from failed dials alone."),
    value("close_on", Kind::Choices(CloseOn::VARIANTS), Example("removed"),
        "When the connections of an endpoint end, each between two requests: if checks find it unhealthy and another one is healthy (unhealthy), or if it is gone from routes.toml or DNS (removed). Default: never."),
    value("max_connection_age", AGE, Example("12h"),
        "The age at which a connection ends, between two requests, 1 s to a year; it differs by up to a tenth. Default: none."),
    value("connect_timeout", TIMEOUT, Default("4s"),
        "The time limit of one attempt to connect."),
    value("dial_timeout", TIMEOUT, Default("9s"),
        "The time limit of all attempts together, at least connect_timeout."),
    value("idle_timeout", TIMEOUT, Default("75m"),
        "The longest time without a byte in either direction. Agents are silent for 5 minutes, and for up to an hour in large fleets."),
    value("half_close_timeout", TIMEOUT, Default("60s"),
        "The longest time without a byte in the open direction after the other has closed."),
    value("stall_timeout", TIMEOUT, Default("10m"),
        "The longest time in which a peer takes no byte while bytes wait for it."),
    value("peer_timeout", PEER, Example("2m"),
        "The longest time in which a peer answers nothing of what was sent to it, neither bytes nor probes, 30 s to 1 h. Default: none."),
    value("keepalive", Kind::DurationOr(KEPT, KEEPALIVE), Default("45s"),
        "The idle time before TCP keepalive probes on both legs, 1 s to 9 h, or a table with it and with the probes that follow."),
    value("max_unsent", Size(UNSENT), Default("1MiB"),
        "The most unsent bytes that wait in the kernel for one peer, 16 KiB to 1 GiB."),
];

#[rustfmt::skip]
const ENDPOINT: Table = &[
    value("address", Kind::Text(Text::Endpoint), Required("fleet-1.internal:8220"),
        "host:port of the server."),
    value("weight", Count(WEIGHT), Example("2"),
        "Its part of the connections, all its addresses together. Default: 1 for each address."),
    value("state", Choice(EndpointState::VARIANTS), Default("ready"),
        "With drain it gets no new connections and keeps those that it has."),
    value("backup", Boolean, Default("false"),
        "Uses it only if no other endpoint is available."),
];

#[rustfmt::skip]
const KEEPALIVE: Table = &[
    value("idle", Kind::Duration(KEPT), Default("45s"),
        "The idle time before the first probe, 1 s to 9 h."),
    value("interval", Kind::Duration(KEPT), Default("10s"),
        "The time from one probe to the next, 1 s to 9 h."),
    value("probes", Count(PROBES), Default("3"),
        "The number of probes without an answer after which a peer is gone, 1 to 127."),
];

#[rustfmt::skip]
const RESOLVER: Table = &[
    value("servers", Texts(Text::DnsServer), Required("10.0.0.53:53"),
        "The addresses of the DNS servers, up to 8; without a port, 53."),
];

#[rustfmt::skip]
const HEALTH: Table = &[
    value("check", Choice(Check::VARIANTS), Required("tls"),
        "A check is a connection (tcp), or a client hello and its answer (tls)."),
    value("interval", INTERVAL, Default("60s"),
        "The time between checks, 1 s to 1 h. portway makes none while clients reach the address themselves. From a failure on checks follow at a tenth of it."),
    value("timeout", TIMEOUT, Default("4s"),
        "The time limit to connect, and then to get the answer; at most interval."),
    value("unhealthy_after", Count(IN_A_ROW), Default("3"),
        "The number of checks that must fail in a row until an address is unhealthy."),
    value("healthy_after", Count(IN_A_ROW), Default("2"),
        "The number of checks that must succeed in a row until it is healthy again."),
    value("server_name", Kind::Text(Text::OneName), Example("fleet.example.com"),
        "The server name in the hello of a tls check. Default: the host of the endpoint, if it is a name."),
];

#[rustfmt::skip]
const ROUTE: Table = &[
    value("server_names", Texts(Text::ServerName), RequiredOrNext("fleet.example.com"),
        "The server names that the route takes: a name, *. for one more label, **. for one or more, ** for any."),
    value("no_server_name", Boolean, Default("false"),
        "Takes connections without a server name: agents that dial an IP address send none."),
    value("listeners", Texts(Text::Name), Example("agents"),
        "The names of the listeners that the route is for. Default: any."),
    value("ports", Ports, Example("8220"),
        "The ports of portway at which the client must arrive; at a proxy listener, the port of its URL. Default: any."),
    value("alpn", Texts(Text::Protocol), Example("h2"),
        "The client must offer one of these protocols. Default: any, or none."),
    value("clients", Texts(Text::Network), Example("10.0.0.0/8"),
        "The networks of the clients that the route is for. Default: any."),
    value("backend", Kind::Text(Text::Name), Required("fleet"),
        "The name of the backend that the route leads to."),
];

/// Each worker is a thread; a larger number is a typing error.
const WORKERS: RangeInclusive<i64> = 1..=1024;
/// Far more connections than one machine has descriptors for.
const CONNECTIONS: RangeInclusive<i64> = 1..=100_000_000;
/// Far more than one machine accepts.
const RATE: RangeInclusive<i64> = 1..=1_000_000;
/// As in HAProxy, without 0: `state` has a word for that.
const WEIGHT: RangeInclusive<i64> = 1..=256;
/// More would not hold anything back.
const DIALS: RangeInclusive<i64> = 1..=65_536;
/// The length of a prefix of an IPv6 address.
const PREFIX: RangeInclusive<i64> = 1..=128;
/// From less than any hello needs, to 16 times the size that Go and rustls accept.
const HELLO_SIZE: RangeInclusive<u64> = 1 << 10..=1 << 20;
/// From enough to keep a slow path busy, to more than any socket buffer.
const UNSENT: RangeInclusive<u64> = 16 << 10..=1 << 30;
/// Checks in a row.
const IN_A_ROW: RangeInclusive<i64> = 1..=100;
/// A tenth of it is the shortest pause between checks.
const INTERVAL: Kind = Kind::Duration(Duration::from_secs(1)..=Duration::from_hours(1));
/// The worker looks at its connections once a second: for those that leave, and for those that get another line.
const AGE: Kind = Kind::Duration(Duration::from_secs(1)..=YEAR);
/// No peer can meet a time limit of zero.
const TIMEOUT: Kind = Kind::Duration(Duration::from_millis(1)..=YEAR);
/// Zero means at once.
const DRAIN: Kind = Kind::Duration(Duration::ZERO..=YEAR);
/// The kernel takes whole seconds up to 32,767 for `TCP_KEEPIDLE` and `TCP_KEEPINTVL` (`MAX_TCP_KEEPIDLE`).
const KEPT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);
/// The kernel's range of `TCP_KEEPCNT` (`MAX_TCP_KEEPCNT`).
const PROBES: RangeInclusive<i64> = 1..=127;
/// A path may be bad for some seconds, and TCP repeats a packet after pauses that double: below half a minute a peer
/// would be cut that comes back. After a quarter of an hour the kernel itself gives up.
const PEER: Kind = Kind::Duration(Duration::from_secs(30)..=Duration::from_hours(1));
const YEAR: Duration = Duration::from_hours(8766);

const fn value(name: &'static str, kind: Kind, absent: Absent, about: &'static str) -> Key {
    key(name, Under::Value(kind, absent), about)
}

const fn key(name: &'static str, under: Under, about: &'static str) -> Key {
    Key { name, under, about }
}
