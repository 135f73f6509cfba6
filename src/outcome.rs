//! Every closed list of the domain: how a connection ended, why a dial or an accept failed, limits, directions.
//! Each value has one name, the same in log, metric, alert and docs.

mod accepting;
mod certificates;
mod endpoints;
mod handshake;
mod shortage;
#[cfg(test)]
mod tests;

use std::io;

use enum_map::Enum;
use strum::{IntoStaticStr, VariantArray};

pub use accepting::AcceptFailure;
pub use certificates::CertificateFlaw;
pub use endpoints::{AddressState, AttemptFailure, CheckResult, ResolveFailure};
pub use handshake::{BackendAnswer, Handshake};
pub use shortage::{Resource, Shortage};

/// How a connection ended. `docs/outcomes.md` explains each one to operators and is tested against
/// this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Both directions closed in order.
    Closed,
    /// The client closed without sending a byte, as a balancer's check does.
    Probe,
    /// No complete hello arrived within `client_hello_timeout`.
    HelloTimeout,
    /// The client closed before it had sent a complete hello.
    HelloEof,
    /// The first bytes are not a TLS record.
    NotTls,
    /// The TLS hello breaks the rules of its encoding.
    MalformedHello,
    /// The hello exceeds `max_client_hello`, or a record exceeds the protocol's limit.
    HelloTooLarge,
    /// The hello is `SSLv2` or `SSLv3`.
    UnsupportedVersion,
    /// The hello has no server name, and no route has `no_server_name`.
    NoServerName,
    /// The server name is not a host name.
    InvalidServerName,
    /// No route takes the name, although it is valid.
    NoRoute,
    /// The client's network is not allowed.
    ClientDenied,
    /// A balancer sent no PROXY header, or a broken one.
    InvalidProxyHeader,
    /// The client of a proxy sent no CONNECT request, or one that breaks the rules.
    InvalidProxyRequest,
    /// The client of a proxy sent no user and password, or wrong ones.
    ProxyAuthFailed,
    /// No route takes the target that the client of a proxy asked for.
    TargetDenied,
    /// The server name of the hello is not the host that the client of a proxy asked for.
    NameMismatch,
    /// A limit of `[limits]` was reached.
    Overloaded,
    /// Every attempt to reach the backend failed.
    BackendUnavailable,
    /// No endpoint of the backend has an address.
    BackendUnresolved,
    /// The client hello has come back, because the way to an endpoint leads to portway itself.
    Looped,
    /// The endpoints of the backend lead only to addresses that it must not be dialled at.
    ForbiddenAddress,
    /// The proxy in `via` refused to open a tunnel to every endpoint that was tried.
    ViaRefused,
    /// The connection exceeds an accept rate; or the name that the client asked for is not known, and the client's share
    /// of look-ups is used up.
    RateLimited,
    /// The relay itself ran out of ports, descriptors or memory.
    LocalExhausted,
    /// The backend closed without sending a byte.
    BackendClosedEarly,
    /// The first bytes of the backend begin no TLS record.
    BackendNotTls,
    /// The client or the backend refused the TLS handshake.
    HandshakeFailed,
    /// The client reset the connection.
    ClientReset,
    /// The backend reset the connection.
    BackendReset,
    /// No byte passed in either direction for `idle_timeout`.
    IdleTimeout,
    /// No byte passed in the open direction for `half_close_timeout`.
    HalfCloseTimeout,
    /// A peer took no byte for `stall_timeout` although bytes waited for it.
    Stalled,
    /// A peer left what was sent to it, bytes or probes, unanswered for `peer_timeout`.
    PeerTimeout,
    /// A drain cut the connection.
    Drained,
    /// An internal error of portway.
    Error,
}

/// Whether a backend had been chosen for connections with an outcome, so that they carry its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They ended before a backend was chosen.
    Never,
    /// A backend was chosen.
    Always,
    /// Both happen: a reset by the client, a drain or an internal error can come at any time, and a client has rates of
    /// connections and of look-ups.
    Maybe,
}

impl Outcome {
    /// The value of the label and of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether a rule or a limit of routes.toml has refused the client.
    pub const fn is_denied(self) -> bool {
        matches!(
            self,
            Self::NoServerName
                | Self::NoRoute
                | Self::ClientDenied
                | Self::ProxyAuthFailed
                | Self::TargetDenied
                | Self::NameMismatch
                | Self::Overloaded
                | Self::ForbiddenAddress
                | Self::RateLimited
        )
    }

    /// Whether the outcome is counted with a backend, without one, or either way.
    pub const fn reach(self) -> Reach {
        match self {
            Self::Probe
            | Self::HelloTimeout
            | Self::HelloEof
            | Self::NotTls
            | Self::MalformedHello
            | Self::HelloTooLarge
            | Self::UnsupportedVersion
            | Self::NoServerName
            | Self::InvalidServerName
            | Self::NoRoute
            | Self::ClientDenied
            | Self::InvalidProxyHeader
            | Self::InvalidProxyRequest
            | Self::ProxyAuthFailed
            | Self::TargetDenied
            | Self::NameMismatch
            | Self::Overloaded => Reach::Never,
            Self::Closed
            | Self::BackendUnavailable
            | Self::BackendUnresolved
            | Self::Looped
            | Self::ForbiddenAddress
            | Self::ViaRefused
            | Self::LocalExhausted
            | Self::BackendClosedEarly
            | Self::BackendNotTls
            | Self::HandshakeFailed
            | Self::BackendReset
            | Self::IdleTimeout
            | Self::HalfCloseTimeout
            | Self::Stalled
            | Self::PeerTimeout => Reach::Always,
            Self::RateLimited | Self::ClientReset | Self::Drained | Self::Error => Reach::Maybe,
        }
    }
}

/// The side that ended a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ClosedBy {
    /// The peer that connected to portway.
    Client,
    /// The peer that portway connected to.
    Backend,
    /// portway: a refusal, a limit or the drain.
    Portway,
}

impl ClosedBy {
    /// The value of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// One direction of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Direction {
    /// From the client to the backend.
    ClientToBackend,
    /// From the backend to the client.
    BackendToClient,
}

impl Direction {
    /// The value of the label and the suffix of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why an attempt to connect to an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DialFailure {
    /// The endpoint answered with RST: nothing listens there.
    Refused,
    /// No answer came within `connect_timeout`.
    Timeout,
    /// The network has no way to the endpoint, or a firewall says so; or the host does not have IPv6.
    Unreachable,
    /// The connection was reset right after it was established.
    Reset,
    /// The proxy in `via` refused to open a tunnel to the endpoint.
    ViaRefused,
    /// The relay itself has no port, descriptor or memory left.
    LocalExhausted,
    /// Any other system error.
    Other,
}

impl DialFailure {
    /// The value of the label and of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The reason for an error of `socket`, `bind` or `connect`.
    pub fn from_io(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            // EACCES and EPERM come from a local firewall rule, and EAFNOSUPPORT from a kernel without IPv6; EADDRNOTAVAIL means
            // only that ports ran out (`net::connect_error`).
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::EACCES
                | libc::EPERM
                | libc::EAFNOSUPPORT,
            ) => Self::Unreachable,
            Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE) => Self::Reset,
            Some(error) if Resource::behind(error).is_some() => Self::LocalExhausted,
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other,
        }
    }
}

/// A limit of `[limits]` that can reject a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Limit {
    /// `max_connections`.
    MaxConnections,
    /// `max_pending_connections`.
    MaxPendingConnections,
    /// `max_pending_per_client`.
    MaxPendingPerClient,
    /// `max_connections_per_client`.
    MaxConnectionsPerClient,
    /// `accept_rate`.
    AcceptRate,
    /// `accept_rate_per_client`.
    AcceptRatePerClient,
}

impl Limit {
    /// The key in routes.toml, which is the value of the label and of the log field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How portway notices changes of routes.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum WatchMode {
    /// Only by SIGHUP and `portway reload`.
    Off,
    /// By inotify.
    Inotify,
    /// By polling every few seconds, because inotify fails.
    Poll,
}

impl WatchMode {
    /// The value of the label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
