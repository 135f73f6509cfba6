//! The header of the PROXY protocol (proxy-protocol.txt of HAProxy, 2020): a balancer sends it before the first byte of
//! a client, and says whose connection it is. portway reads it, and sends one itself.

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

use strum::{EnumString, VariantNames};

pub use write::Introduction;

/// The most bytes of a header that portway takes. A balancer needs less than 1 KiB; the protocol would allow 64 KiB.
pub const MOST_HEADER: usize = 4 << 10;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary, with further fields.
    V2,
}

impl ProxyVersion {
    /// The version of the header that these bytes begin, if they have the whole of its signature.
    pub fn of(peeked: &[u8]) -> Option<Self> {
        if peeked.starts_with(v1::SIGNATURE) {
            Some(Self::V1)
        } else if peeked.starts_with(v2::SIGNATURE) {
            Some(Self::V2)
        } else {
            None
        }
    }
}

/// Both ends of a connection, as the balancer that accepted it saw them. The addresses are canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub client: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// The first bytes of a balancer, as far as they are a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A header whose end has not come yet.
    Partial,
    /// A whole header, which has so many bytes. Without ends the balancer speaks for itself, or for a client that has
    /// no TCP address: the addresses of the socket hold.
    Whole(Option<Ends>, usize),
    /// Anything else.
    Invalid(InvalidHeader),
}

/// The rule that a header breaks, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader(pub &'static str);

/// Reads the header at the beginning of `peeked`, of either version. Bytes behind it are not looked at.
pub fn read_proxy_header(peeked: &[u8]) -> ProxyHeader {
    let begins = |signature: &[u8]| {
        signature
            .iter()
            .zip(peeked)
            .all(|(one, other)| one == other)
    };
    if begins(v1::SIGNATURE) {
        v1::read(peeked)
    } else if begins(v2::SIGNATURE) {
        v2::read(peeked)
    } else {
        ProxyHeader::Invalid(InvalidHeader(
            "a PROXY header is required from this address, and other bytes came: turn the PROXY protocol on at the \
             balancer, or leave the address out of proxy_protocol.trusted",
        ))
    }
}

impl Ends {
    /// The ends with these addresses, in whatever form those are.
    pub fn new(client: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            client: canonical(client),
            destination: canonical(destination),
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
