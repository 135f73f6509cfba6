//! Closed lists of label values that no other module has.

use std::io;

/// Why an attempt to connect to an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DialFailure {
    /// The endpoint answered with RST: nothing listens there.
    Refused,
    /// No answer within `connect_timeout`.
    Timeout,
    /// The network has no way to the endpoint, or a firewall says so.
    Unreachable,
    /// Reset right after it was connected.
    Reset,
    /// The relay itself has no port or no descriptor left.
    LocalExhausted,
    /// Any other error of the system.
    Other,
}

impl DialFailure {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Timeout,
        Self::Unreachable,
        Self::Reset,
        Self::LocalExhausted,
        Self::Other,
    ];

    /// The value of the label and of the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::LocalExhausted => "local_exhausted",
            Self::Other => "other",
        }
    }

    /// The reason behind an error of `socket`, `bind` or `connect`.
    pub fn from_io(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ETIMEDOUT) => Self::Timeout,
            // EACCES and EPERM: a local firewall rule; EADDRNOTAVAIL is a matter of ports only.
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::EACCES
                | libc::EPERM,
            ) => Self::Unreachable,
            Some(libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE) => Self::Reset,
            Some(
                libc::EADDRNOTAVAIL
                | libc::EADDRINUSE
                | libc::EAGAIN
                | libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM,
            ) => Self::LocalExhausted,
            None if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::Other,
        }
    }
}

/// Why a connection could not be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AcceptFailure {
    /// The process has no descriptor left (EMFILE).
    Descriptors,
    /// The system has no descriptor left (ENFILE).
    SystemDescriptors,
    /// The kernel has no memory for it (ENOBUFS, ENOMEM).
    Memory,
    /// The client was gone before it was accepted, or the network had an error for it.
    Connection,
}

impl AcceptFailure {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 4] = [
        Self::Descriptors,
        Self::SystemDescriptors,
        Self::Memory,
        Self::Connection,
    ];

    /// The value of the label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "descriptors",
            Self::SystemDescriptors => "system_descriptors",
            Self::Memory => "memory",
            Self::Connection => "connection",
        }
    }

    /// The reason behind an error of `accept`.
    pub const fn from_errno(error: i32) -> Self {
        match error {
            libc::EMFILE => Self::Descriptors,
            libc::ENFILE => Self::SystemDescriptors,
            libc::ENOBUFS | libc::ENOMEM => Self::Memory,
            _ => Self::Connection,
        }
    }

    /// What an operator can do, if the next accept fails too; `None` if the reason has gone with the
    /// connection.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::Descriptors => Some(
                "the process has no descriptor left: raise `ulimit -n` or LimitNOFILE= of the unit, or \
                 lower limits.max_connections",
            ),
            Self::SystemDescriptors => {
                Some("the system has no descriptor left: raise the sysctl fs.file-max")
            }
            Self::Memory => Some(
                "the kernel has no memory for sockets: see /proc/net/sockstat, and raise the sysctl \
                 net.ipv4.tcp_mem or the memory limit of the container",
            ),
            Self::Connection => None,
        }
    }
}

/// A limit of `[limits]` that may reject a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// `max_connections`.
    MaxConnections,
    /// `max_pending_connections`.
    MaxPendingConnections,
    /// `max_pending_per_client`.
    MaxPendingPerClient,
    /// `max_connections_per_client`.
    MaxConnectionsPerClient,
}

impl Limit {
    /// Every limit, in the order of the documentation.
    pub const ALL: [Self; 4] = [
        Self::MaxConnections,
        Self::MaxPendingConnections,
        Self::MaxPendingPerClient,
        Self::MaxConnectionsPerClient,
    ];

    /// The key in routes.toml, which is the value of the label and of the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::MaxPendingConnections => "max_pending_connections",
            Self::MaxPendingPerClient => "max_pending_per_client",
            Self::MaxConnectionsPerClient => "max_connections_per_client",
        }
    }
}
