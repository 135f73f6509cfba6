//! An endpoint and the choice among several, as routes.toml has them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use strum::{EnumString, VariantNames};

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

impl Target {
    /// The port of the server.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Whether an address cannot be that of an endpoint, in routes.toml or in an answer of DNS: the
/// unspecified one (Linux treats it as loopback, and a DNS sink answers with it), multicast and
/// broadcast. An IPv4-mapped address is judged by the IPv4 address in it.
pub const fn is_forbidden(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    address.is_unspecified() || address.is_multicast() || is_broadcast
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

#[cfg(test)]
mod tests {
    use super::is_forbidden;

    #[test]
    fn an_address_of_no_server_is_forbidden_in_every_form() {
        let forbidden = |text: &str| is_forbidden(text.parse().unwrap());
        for address in ["0.0.0.0", "224.0.0.1", "239.255.255.255", "255.255.255.255"] {
            assert!(forbidden(address), "{address}");
            assert!(forbidden(&format!("::ffff:{address}")), "{address}");
        }
        for address in ["::", "ff02::1"] {
            assert!(forbidden(address), "{address}");
        }
        for address in [
            "127.0.0.1",
            "10.255.255.255",
            "::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!forbidden(address), "{address}");
        }
    }
}
