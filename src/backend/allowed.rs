//! The addresses that the endpoints of a backend may lead to. The judgement is pure: it asks nobody.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

/// The DNS servers of a backend's `resolver`.
pub type DnsServers = Arc<[SocketAddr]>;

/// How the names of a backend's endpoints are resolved, and which addresses they may have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameRules {
    /// The DNS servers that are asked; `None` asks the system's resolver.
    pub resolver: Option<DnsServers>,
    /// The addresses that are dialled.
    pub allowed: Allowed,
}

/// The value of `allow_networks`, or its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Allowed {
    /// Every address that can be that of a server: all but the unspecified ones (Linux treats them as loopback, and
    /// a DNS sink answers with them), multicast and broadcast.
    #[default]
    Servers,
    /// The addresses of servers on the Internet: without special ones, and without those that belong to a site, to a
    /// provider's own network or to nobody.
    Public,
    /// The addresses in these networks.
    Networks(Arc<[IpNet]>),
}

impl Allowed {
    /// Whether a backend may be dialled at the address.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = judged(address);
        match self {
            Self::Servers => !NOBODY.iter().any(|range| range.contains(&address)),
            Self::Public => {
                special(address).is_none()
                    && !NOT_PUBLIC.iter().any(|range| range.contains(&address))
            }
            Self::Networks(networks) => {
                let range = special(address);
                networks.iter().any(|network| {
                    network.contains(&address) && range.is_none_or(|range| range.contains(network))
                })
            }
        }
    }
}

/// The range of special addresses that the address is in. Only a network inside this range permits it.
pub fn special(address: IpAddr) -> Option<IpNet> {
    let address = judged(address);
    let mut ranges = NOBODY.iter().chain(&NEAR);
    ranges.find(|range| range.contains(&address)).copied()
}

/// The prefixes of IPv6 addresses that contain an IPv4 address, by which they are judged.
pub fn embeds(network: IpNet) -> bool {
    let inside = |prefix: &IpNet| prefix.contains(&network);
    [MAPPED, NAT64, SIX_TO_FOUR].iter().any(inside)
}

/// The IPv4 address that an IPv6 address leads to: behind a NAT64 gateway, or by 6to4.
pub fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else {
        return None;
    };
    let [_, first, second, .., last_but_one, last] = v6.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    if NAT64.contains(&address) {
        of(last_but_one, last)
    } else if SIX_TO_FOUR.contains(&address) {
        of(first, second)
    } else {
        None
    }
}

fn judged(address: IpAddr) -> IpAddr {
    embedded(address).map_or_else(|| address.to_canonical(), IpAddr::V4)
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix)
}

const fn v6(first: u16, second: u16, last: u16, prefix: u8) -> IpNet {
    let address = Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, last);
    IpNet::new_assert(IpAddr::V6(address), prefix)
}

/// Addresses that belong to no server.
const NOBODY: [IpNet; 5] = [
    v4(0, 0, 0, 0, 8),
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
    v6(0, 0, 0, 128),
    v6(0xff00, 0, 0, 8),
];

/// Addresses that mean this machine, its link, or a service that tells the machine its own secrets.
const NEAR: [IpNet; 7] = [
    v4(127, 0, 0, 0, 8),
    v6(0, 0, 1, 128),
    v4(169, 254, 0, 0, 16),
    v6(0xfe80, 0, 0, 10),
    // Metadata services outside the link-local range: of AWS, Azure and Alibaba Cloud.
    v6(0xfd00, 0x0ec2, 0, 32),
    v4(168, 63, 129, 16, 32),
    v4(100, 100, 100, 200, 32),
];

/// Other addresses that no server on the Internet has (the registries of special-purpose addresses of IANA).
const NOT_PUBLIC: [IpNet; 20] = [
    // Private networks, and those of a provider behind its NAT.
    v4(10, 0, 0, 0, 8),
    v4(172, 16, 0, 0, 12),
    v4(192, 168, 0, 0, 16),
    v4(100, 64, 0, 0, 10),
    v6(0xfc00, 0, 0, 7),
    v6(0xfec0, 0, 0, 10),
    // Protocols, among them Teredo and the NAT64 of a site, whose IPv4 address is not at a fixed place.
    v4(192, 0, 0, 0, 24),
    v4(192, 88, 99, 0, 24),
    v6(0x2001, 0, 0, 23),
    IpNet::new_assert(
        IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0)),
        48,
    ),
    v6(0, 0, 0, 96),
    v6(0x0100, 0, 0, 64),
    v6(0x5f00, 0, 0, 16),
    // Documentation and benchmarks.
    v4(192, 0, 2, 0, 24),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(198, 18, 0, 0, 15),
    v6(0x2001, 0x0db8, 0, 32),
    v6(0x3fff, 0, 0, 20),
    // Reserved.
    v4(240, 0, 0, 0, 4),
];

/// IPv4-mapped addresses (RFC 4291 section 2.5.5.2).
const MAPPED: IpNet = IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96);
/// The well-known prefix of NAT64 (RFC 6052 section 2.1).
const NAT64: IpNet = v6(0x64, 0xff9b, 0, 96);
/// 6to4 (RFC 3056 section 2).
const SIX_TO_FOUR: IpNet = v6(0x2002, 0, 0, 16);
