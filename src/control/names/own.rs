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
mod tests;
