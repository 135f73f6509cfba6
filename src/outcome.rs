//! How a connection ended: one closed list, the same in log, metric, alert and docs.

use std::ops::{Index, IndexMut};

/// How a connection ended. `docs/outcomes.md` explains each one to operators and is tested against
/// this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Both directions closed in order.
    Closed,
    /// Opened and closed without a byte: a balancer's check.
    Probe,
    /// No whole hello within `client_hello_timeout`.
    HelloTimeout,
    /// The client closed before a whole hello.
    HelloEof,
    /// The first bytes are no TLS record.
    NotTls,
    /// A TLS hello that breaks the rules of its encoding.
    MalformedHello,
    /// A hello over `max_client_hello`, or a record over the protocol's limit.
    HelloTooLarge,
    /// `SSLv2` or `SSLv3`.
    UnsupportedVersion,
    /// No server name, and no route with `no_server_name`.
    NoServerName,
    /// A server name that is no host name.
    InvalidServerName,
    /// A valid name without a route.
    NoRoute,
    /// The client's network is not allowed.
    ClientDenied,
    /// A limit of `[limits]`.
    Overloaded,
    /// Every attempt to reach the backend failed.
    BackendUnavailable,
    /// No endpoint of the backend has an address.
    BackendUnresolved,
    /// The relay itself ran out of ports or descriptors.
    LocalExhausted,
    /// The backend closed without sending one byte.
    BackendClosedEarly,
    /// The client reset the connection.
    ClientReset,
    /// The backend reset the connection.
    BackendReset,
    /// No byte in either direction for `idle_timeout`.
    IdleTimeout,
    /// No byte in the open direction for `half_close_timeout`.
    HalfCloseTimeout,
    /// A peer took no byte for `stall_timeout` while bytes waited for it.
    Stalled,
    /// Cut at the end of a drain.
    Drained,
    /// A fault of the relay itself.
    Error,
}

/// Whether connections with an outcome have reached a backend, and so carry its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Ended before a backend was chosen.
    Never,
    /// A backend was chosen.
    Always,
    /// Either: the drain and our own faults come at any time.
    Maybe,
}

impl Outcome {
    /// Every outcome, in the order of the documentation.
    pub const ALL: [Self; 24] = [
        Self::Closed,
        Self::Probe,
        Self::HelloTimeout,
        Self::HelloEof,
        Self::NotTls,
        Self::MalformedHello,
        Self::HelloTooLarge,
        Self::UnsupportedVersion,
        Self::NoServerName,
        Self::InvalidServerName,
        Self::NoRoute,
        Self::ClientDenied,
        Self::Overloaded,
        Self::BackendUnavailable,
        Self::BackendUnresolved,
        Self::LocalExhausted,
        Self::BackendClosedEarly,
        Self::ClientReset,
        Self::BackendReset,
        Self::IdleTimeout,
        Self::HalfCloseTimeout,
        Self::Stalled,
        Self::Drained,
        Self::Error,
    ];

    /// The value of the label and of the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Probe => "probe",
            Self::HelloTimeout => "hello_timeout",
            Self::HelloEof => "hello_eof",
            Self::NotTls => "not_tls",
            Self::MalformedHello => "malformed_hello",
            Self::HelloTooLarge => "hello_too_large",
            Self::UnsupportedVersion => "unsupported_version",
            Self::NoServerName => "no_server_name",
            Self::InvalidServerName => "invalid_server_name",
            Self::NoRoute => "no_route",
            Self::ClientDenied => "client_denied",
            Self::Overloaded => "overloaded",
            Self::BackendUnavailable => "backend_unavailable",
            Self::BackendUnresolved => "backend_unresolved",
            Self::LocalExhausted => "local_exhausted",
            Self::BackendClosedEarly => "backend_closed_early",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfCloseTimeout => "half_close_timeout",
            Self::Stalled => "stalled",
            Self::Drained => "drained",
            Self::Error => "error",
        }
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
            | Self::Overloaded => Reach::Never,
            Self::Closed
            | Self::BackendUnavailable
            | Self::BackendUnresolved
            | Self::LocalExhausted
            | Self::BackendClosedEarly
            | Self::BackendReset
            | Self::IdleTimeout
            | Self::HalfCloseTimeout
            | Self::Stalled => Reach::Always,
            Self::ClientReset | Self::Drained | Self::Error => Reach::Maybe,
        }
    }

    /// The position in [`Outcome::ALL`]: an index for counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The side that ended a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The peer that dialled us.
    Client,
    /// The peer that we dialled.
    Backend,
    /// portway: a refusal, a limit or the drain.
    Portway,
}

impl ClosedBy {
    /// The value of the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Portway => "portway",
        }
    }
}

/// One direction of a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer that dialled us to the peer that we dialled.
    ClientToBackend,
    /// Back.
    BackendToClient,
}

impl Direction {
    /// Both directions, in the order of their index.
    pub const ALL: [Self; 2] = [Self::ClientToBackend, Self::BackendToClient];

    /// The value of the label and the suffix of the log field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClientToBackend => "client_to_backend",
            Self::BackendToClient => "backend_to_client",
        }
    }

    /// The index for counters.
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A value for each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByDirection<T> {
    client_to_backend: T,
    backend_to_client: T,
}

impl<T> ByDirection<T> {
    /// Both values, in the order of [`Direction::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.client_to_backend, &self.backend_to_client].into_iter()
    }
}

impl<T> Index<Direction> for ByDirection<T> {
    type Output = T;

    fn index(&self, direction: Direction) -> &T {
        match direction {
            Direction::ClientToBackend => &self.client_to_backend,
            Direction::BackendToClient => &self.backend_to_client,
        }
    }
}

impl<T> IndexMut<Direction> for ByDirection<T> {
    fn index_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::ClientToBackend => &mut self.client_to_backend,
            Direction::BackendToClient => &mut self.backend_to_client,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Direction, Outcome};

    #[test]
    fn every_outcome_is_documented_once_in_order() {
        let doc = include_str!("../docs/outcomes.md");
        let rows: Vec<Vec<&str>> = doc
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
            .collect();
        let documented: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
        assert_eq!(documented, Outcome::ALL.map(Outcome::name));
        for row in rows {
            assert_eq!(row.len(), 4, "{row:?}");
            assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        }
    }

    #[test]
    fn names_are_unique_and_indexes_are_positions() {
        let names: BTreeSet<&str> = Outcome::ALL.map(Outcome::name).into();
        assert_eq!(names.len(), Outcome::ALL.len());
        assert!(
            (0..)
                .zip(Outcome::ALL)
                .all(|(index, it)| it.index() == index)
        );
        assert!(
            (0..)
                .zip(Direction::ALL)
                .all(|(index, it)| it.index() == index)
        );
    }
}
