//! The host and port that the client of a proxy asks for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::tls::{InvalidServerName, ServerName};

/// Where the client of a proxy wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port, which is not 0.
    pub port: u16,
}

/// The host of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, in the form that a hello has: lower case, without the dot of the root.
    Name(ServerName),
    /// A canonical address.
    Address(IpAddr),
}

/// The rule that a target breaks, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTarget(pub &'static str);

impl Target {
    /// Reads `host:port` (RFC 9112 section 3.2.3). An IPv6 address is in brackets, without a zone.
    pub fn parse(authority: &[u8]) -> Result<Self, InvalidTarget> {
        let text = str::from_utf8(authority).map_err(|_not_utf8| NOT_A_PAIR)?;
        let (host, port) = text.rsplit_once(':').ok_or(NOT_A_PAIR)?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number);
        Self::at(Host::parse(host)?, port.ok_or(NOT_A_PORT)?)
    }

    /// An address and a port.
    pub(super) fn of_address(address: IpAddr, port: u16) -> Result<Self, InvalidTarget> {
        let host = Host::Address(address.to_canonical());
        Self::at(host, port)
    }

    /// A host as text, and a port.
    pub(super) fn of_name(host: &[u8], port: u16) -> Result<Self, InvalidTarget> {
        let host =
            str::from_utf8(host).map_err(|_not_utf8| InvalidTarget("the host is not a name"))?;
        Self::at(Host::parse(host)?, port)
    }

    fn at(host: Host, port: u16) -> Result<Self, InvalidTarget> {
        match port {
            0 => Err(NOT_A_PORT),
            port => Ok(Self { host, port }),
        }
    }

    /// The address, if the host is one.
    pub const fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Name(_) => None,
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
        }
    }

    /// The name, if the host is one.
    pub const fn name(&self) -> Option<&ServerName> {
        match &self.host {
            Host::Name(name) => Some(name),
            Host::Address(_) => None,
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if let Some(inner) = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            let address: Result<Ipv6Addr, _> = inner.parse();
            return match address {
                Ok(address) => Ok(Self::Address(IpAddr::V6(address).to_canonical())),
                Err(_) if inner.contains('%') => Err(InvalidTarget("the address has a zone")),
                Err(_) => Err(InvalidTarget("the brackets hold no IPv6 address")),
            };
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        // Go sends the dot of the root in CONNECT, and leaves it out of the hello.
        let name = text.strip_suffix('.').unwrap_or(text);
        let name = ServerName::parse(name.as_bytes());
        name.map(Self::Name).map_err(InvalidTarget::from)
    }
}

impl From<InvalidServerName> for InvalidTarget {
    fn from(InvalidServerName(rule): InvalidServerName) -> Self {
        Self(rule)
    }
}

const NOT_A_PORT: InvalidTarget = InvalidTarget("the port is not a number from 1 to 65535");
const NOT_A_PAIR: InvalidTarget = InvalidTarget("the target is not host:port");

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, &'static str> {
        let target = Target::parse(text.as_bytes());
        target
            .map(|it| it.to_string())
            .map_err(|InvalidTarget(rule)| rule)
    }

    #[test]
    fn a_target_has_the_form_that_a_hello_has() {
        for (text, wanted) in [
            ("Fleet.Example.com:443", "fleet.example.com:443"),
            ("fleet.example.com.:8220", "fleet.example.com:8220"),
            ("10.0.0.7:9200", "10.0.0.7:9200"),
            ("[FD00::7]:1", "[fd00::7]:1"),
            ("[::ffff:10.0.0.7]:65535", "10.0.0.7:65535"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_target_that_could_mean_several_things_is_none() {
        for text in [
            "",
            ":",
            ":443",
            "fleet.example.com",
            "fleet.example.com:",
            "fleet.example.com:0",
            "fleet.example.com:+443",
            "fleet.example.com: 443",
            "fleet.example.com:65536",
            "fleet.example.com:443:443",
            "fleet.example.com..:443",
            "user@fleet.example.com:443",
            "https://fleet.example.com:443",
            "fleet.example.com:443/path",
            "2130706433:443",
            "0x7f.1:443",
            "127.1:443",
            "010.0.0.7:443",
            "::1:443",
            "[::1%eth0]:443",
            "[::1%25eth0]:443",
            "[10.0.0.7]:443",
            "[fleet.example.com]:443",
            "[::1]443",
            "b\u{fc}cher.example:443",
            "fleet\0.example.com:443",
        ] {
            assert!(parsed(text).is_err(), "{text}: {:?}", parsed(text));
        }
        assert!(Target::parse(b"\xff.example:443").is_err());
        let long = format!("{}:443", "a.".repeat(128));
        assert!(parsed(&long).is_err(), "256 bytes");
    }
}
