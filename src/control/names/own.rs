//! Which addresses are portway's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::backend::allowed::embedded;
use crate::outcome::Resource;

/// The addresses that portway listens on, wildcards included.
#[derive(Debug, PartialEq, Eq)]
pub struct Own(Vec<SocketAddr>);

impl Own {
    /// The addresses that sockets are bound to.
    pub fn new(bound: Vec<SocketAddr>) -> Self {
        Self(
            bound
                .into_iter()
                .map(|bound| canonical(bound, bound.port()))
                .collect(),
        )
    }

    /// Whether a dial of `address` (canonical) would reach one of them; `before` is what was found last, and
    /// stays where nothing can be found out, as without descriptors.
    pub fn contains(&self, address: SocketAddr, before: bool) -> bool {
        let embedded = embedded(address.ip());
        let embedded = embedded.map(|ip| SocketAddr::new(IpAddr::V4(ip), address.port()));
        let mut all = [address].into_iter().chain(embedded).map(reached);
        all.any(|address| self.has(address, before))
    }

    fn has(&self, address: SocketAddr, before: bool) -> bool {
        let is_local = || is_local(address).unwrap_or(before);
        self.0.iter().any(|bound| {
            bound.port() == address.port()
                && match bound.ip() {
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => is_local(),
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.is_ipv4() && is_local(),
                    IpAddr::V4(_) | IpAddr::V6(_) => {
                        bound.ip() == address.ip() && zone(bound) == zone(&address)
                    }
                }
        })
    }
}

/// The address in its canonical form, with `port`.
pub fn canonical(address: SocketAddr, port: u16) -> SocketAddr {
    let mut canonical = address;
    // Only a mapped address changes: others keep their scope.
    if address.ip() != address.ip().to_canonical() {
        canonical = SocketAddr::new(address.ip().to_canonical(), port);
    }
    canonical.set_port(port);
    canonical
}

/// Linux takes a connect to the wildcard as one to loopback.
const fn reached(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    address
}

/// The interface of a link-local address: each may have the same. Linux ignores that of other addresses.
const fn zone(address: &SocketAddr) -> Option<u32> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => Some(v6.scope_id()),
        SocketAddr::V6(_) | SocketAddr::V4(_) => None,
    }
}

/// Whether the address is one of this host; none if this machine lacks what it takes to find out. The kernel
/// is asked how it would reach it: from the address itself, if it is ours. Connecting a UDP socket sends no
/// packet.
fn is_local(address: SocketAddr) -> Option<bool> {
    let ip = address.ip();
    if ip.is_loopback() {
        return Some(true);
    }
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // The port does not matter; 9 is "discard".
    let mut target = address;
    target.set_port(9);
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        socket.local_addr()
    };
    match source() {
        Ok(source) => Some(source.ip() == ip),
        Err(error) if error.raw_os_error().and_then(Resource::behind).is_some() => None,
        // There is no route to it.
        Err(_) => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;

    fn own(bound: &[&str], address: &str) -> bool {
        let bound = bound.iter().map(|bound| bound.parse().unwrap()).collect();
        Own::new(bound).contains(address.parse().unwrap(), false)
    }

    #[test]
    fn a_specific_bind_is_its_own_address_only() {
        assert!(own(&["127.0.0.1:443"], "127.0.0.1:443"));
        assert!(own(&["[::1]:443"], "[::1]:443"));
        assert!(!own(&["127.0.0.1:443"], "127.0.0.2:443"));
        assert!(!own(&["127.0.0.1:443"], "127.0.0.1:444"));
    }

    #[test]
    fn a_wildcard_bind_is_every_local_address_of_its_families() {
        assert!(own(&["[::]:443"], "[::1]:443"));
        assert!(own(&["[::]:443"], "127.0.0.1:443"));
        assert!(own(&["0.0.0.0:443"], "127.9.9.9:443"));
        assert!(!own(&["0.0.0.0:443"], "[::1]:443"));
        // TEST-NET-1 is on no host.
        assert!(!own(&["[::]:443"], "192.0.2.1:443"));
        assert!(!own(&["[::]:443"], "127.0.0.1:444"));
    }

    #[test]
    fn an_address_of_an_interface_is_local_by_the_route_to_it() {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
        // A host with no route to anywhere has only loopback, which is tested above.
        if socket.connect(("192.0.2.1", 9)).is_ok() {
            let ip = socket.local_addr().unwrap().ip();
            assert!(Own::new(vec!["[::]:443".parse().unwrap()]).contains((ip, 443).into(), false));
        }
    }

    #[test]
    fn an_address_that_leads_to_one_by_its_ipv4_address_is_own_too() {
        assert!(own(&["127.0.0.1:443"], "[64:ff9b::127.0.0.1]:443"));
        assert!(own(&["0.0.0.0:443"], "[2002:7f00:1::1]:443"));
        assert!(!own(&["127.0.0.1:443"], "[64:ff9b::127.0.0.1]:444"));
        assert!(!own(&["127.0.0.1:443"], "[64:ff9b::127.0.0.2]:443"));
    }

    /// A link-local address of this host, if it has one, with its interface.
    fn link_local() -> Option<SocketAddrV6> {
        let all = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
        let mut all = all.lines().filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
            let interface = u32::from_str_radix(fields.next()?, 16).ok()?;
            Some(SocketAddrV6::new(ip.into(), 443, 0, interface))
        });
        all.find(|address| address.ip().is_unicast_link_local())
    }

    #[test]
    fn a_link_local_address_of_this_host_is_local_to_a_wildcard_bind() {
        let Some(ours) = link_local() else {
            eprintln!("not tested: this host has no link-local address");
            return;
        };
        let own = Own::new(vec!["[::]:443".parse().unwrap()]);
        assert!(own.contains(ours.into(), false), "{ours}");
        let next = Ipv6Addr::from_bits(ours.ip().to_bits() ^ 1);
        let neighbour = SocketAddrV6::new(next, 443, 0, ours.scope_id());
        assert!(!own.contains(neighbour.into(), false), "{neighbour}");
    }

    #[test]
    fn a_bind_at_a_link_local_address_is_that_of_its_interface_only() {
        assert!(own(&["[fe80::1%2]:443"], "[fe80::1%2]:443"));
        assert!(!own(&["[fe80::1%2]:443"], "[fe80::1%3]:443"));
        // Other addresses are the same on every interface.
        assert!(own(&["[2001:db8::1]:443"], "[2001:db8::1%3]:443"));
    }

    #[test]
    fn the_wildcard_as_a_target_is_loopback() {
        assert!(own(&["127.0.0.1:443"], "0.0.0.0:443"));
        assert!(own(&["[::1]:443"], "[::]:443"));
        assert!(own(&["[::]:443"], "0.0.0.0:443"));
    }

    #[test]
    fn mapped_addresses_are_canonical_and_others_keep_their_scope() {
        let mapped = "[::ffff:192.0.2.1]:0".parse().unwrap();
        assert_eq!(canonical(mapped, 443), "192.0.2.1:443".parse().unwrap());
        let scoped = "[fe80::1%3]:0".parse().unwrap();
        assert_eq!(canonical(scoped, 443), "[fe80::1%3]:443".parse().unwrap());
    }
}
