//! What routes.toml says of an endpoint and of the choice among several.

use std::fmt;
use std::net::SocketAddr;

/// Where an endpoint is: `host:port` or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address, which needs no resolver.
    Address(SocketAddr),
    /// A host name, resolved by control.
    Name {
        /// The name for the resolver.
        host: Box<str>,
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// How an endpoint is chosen among several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The endpoint with the fewest connections of this relay, ties at random.
    #[default]
    LeastConnections,
    /// One after the other.
    RoundRobin,
    /// At random.
    Random,
    /// By the client's address, the same endpoint from every relay.
    SourceHash,
}
