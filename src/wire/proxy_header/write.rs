//! The header that portway sends to a backend.

use std::net::{IpAddr, SocketAddr};

use super::{Ends, ProxyVersion, v2};

/// The facts in a header.
#[derive(Clone, Copy, Debug)]
pub struct Introduction<'i> {
    /// Both ends of the client's connection. Without them portway speaks for itself.
    pub ends: Option<Ends>,
    /// The server name in the client's hello. Version 2 only.
    pub server_name: Option<&'i str>,
    /// The list of protocols in the client's hello, as on the wire, without its own length. Version 2 only.
    pub alpn: &'i [u8],
}

impl Introduction<'_> {
    /// That of a check: portway speaks for itself.
    pub const CHECK: Self = Self {
        ends: None,
        server_name: None,
        alpn: &[],
    };
}

impl ProxyVersion {
    /// The whole header: at most 107 bytes, or with a name and a list of 255 bytes each less than 600.
    pub fn header(self, introduction: &Introduction<'_>) -> Vec<u8> {
        match self {
            Self::V1 => line(introduction.ends),
            Self::V2 => binary(introduction),
        }
    }
}

impl Ends {
    /// Both ends in one family, as a header needs them: if one of them is IPv6, the other one is too (RFC 4291
    /// section 2.5.5.2). HAProxy does the same.
    fn in_one_family(self) -> [SocketAddr; 2] {
        let both = [self.client, self.destination];
        if both.iter().all(SocketAddr::is_ipv4) {
            return both;
        }
        both.map(|end| match end.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
            IpAddr::V6(_) => end,
        })
    }
}

fn line(ends: Option<Ends>) -> Vec<u8> {
    let Some(ends) = ends else {
        return b"PROXY UNKNOWN\r\n".to_vec();
    };
    let [client, destination] = ends.in_one_family();
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), destination.ip());
    let [from_port, to_port] = [client.port(), destination.port()];
    let line = format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n");
    line.into_bytes()
}

fn binary(introduction: &Introduction<'_>) -> Vec<u8> {
    let Introduction {
        ends,
        server_name,
        alpn,
    } = *introduction;
    let mut block = Vec::new();
    let (command, family) = match ends.map(Ends::in_one_family) {
        None => (v2::LOCAL, v2::UNSPECIFIED),
        Some(both) => {
            for end in both {
                match end.ip() {
                    IpAddr::V4(ip) => block.extend(ip.octets()),
                    IpAddr::V6(ip) => block.extend(ip.octets()),
                }
            }
            block.extend(both.iter().flat_map(|end| end.port().to_be_bytes()));
            let is_ipv4 = both.iter().all(SocketAddr::is_ipv4);
            (v2::PROXY, if is_ipv4 { v2::TCP4 } else { v2::TCP6 })
        }
    };
    if let Some(name) = server_name {
        field(&mut block, v2::AUTHORITY, name.as_bytes());
    }
    if !alpn.is_empty() {
        // The extension of the hello has the length of the list before it (RFC 7301 section 3.1).
        let extension = [&length(alpn), alpn].concat();
        field(&mut block, v2::ALPN, &extension);
    }
    [v2::SIGNATURE, &[command, family], &length(&block), &block].concat()
}

fn field(block: &mut Vec<u8>, kind: u8, value: &[u8]) {
    block.push(kind);
    block.extend(length(value));
    block.extend(value);
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "every part is below 600 bytes"
)]
const fn length(bytes: &[u8]) -> [u8; 2] {
    (bytes.len() as u16).to_be_bytes()
}
