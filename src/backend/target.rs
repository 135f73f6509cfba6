//! An endpoint and the choice among several, as routes.toml has them.

use std::fmt;
use std::net::SocketAddr;

use strum::{EnumString, VariantNames};

/// Where an endpoint is: `host:port`, an address, or the name that the client asked for.
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
    /// The name that the client asked for, `{server_name}`.
    Asked {
        /// The port; `None` is the one that the client asked for, `{port}`.
        port: Option<u16>,
    },
}

impl Target {
    /// Whether the client chooses the name.
    pub const fn is_asked(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }

    /// The port of the server; `None` if the client chooses it.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Address(address) => Some(address.port()),
            Self::Name { port, .. } => Some(*port),
            Self::Asked { port } => *port,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Asked { port: Some(port) } => write!(f, "{{server_name}}:{port}"),
            Self::Asked { port: None } => f.write_str("{server_name}:{port}"),
        }
    }
}

/// How an endpoint is chosen among several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
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
