//! Listening sockets that systemd or the predecessor has opened.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::Socket;

use super::StartError;
use crate::net;

/// The variable with the addresses of those sockets of the predecessor that systemd has too. An upgrade sets it.
pub(super) const SYSTEMD_SOCKETS: &str = "PORTWAY_SYSTEMD_SOCKETS";

/// Passed sockets until the configuration takes them, by their addresses.
#[derive(Default)]
pub struct Inherited(Vec<One>);

struct One {
    address: SocketAddr,
    socket: Socket,
    from_systemd: bool,
}

impl Inherited {
    /// Takes the sockets of systemd: see sd_listen_fds(3). Without socket activation there are none.
    pub fn from_systemd() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            if let Some(listener) = passed.take_tcp_listener(index)? {
                sockets.push(One {
                    address: listener.local_addr()?,
                    socket: listener.into(),
                    from_systemd: true,
                });
            }
        }
        Ok(Self(sockets))
    }

    /// Adds the sockets of the predecessor.
    pub(super) fn add(&mut self, sockets: Vec<OwnedFd>) -> io::Result<()> {
        let of_systemd = env::var(SYSTEMD_SOCKETS).unwrap_or_default();
        let of_systemd: Vec<SocketAddr> = of_systemd
            .split(',')
            .filter_map(|address| address.parse().ok())
            .collect();
        for socket in sockets {
            let address = net::local_address(&socket)?;
            self.0.push(One {
                address,
                socket: socket.into(),
                from_systemd: of_systemd.contains(&address),
            });
        }
        Ok(())
    }

    /// The addresses of the sockets that systemd has too.
    pub(super) fn of_systemd(&self) -> Vec<SocketAddr> {
        let of_systemd = self.0.iter().filter(|one| one.from_systemd);
        of_systemd.map(|one| one.address).collect()
    }

    /// Takes all sockets that listen at an address, and tells whether systemd has them too. If the host has
    /// no IPv6, `[::]` is `0.0.0.0`.
    pub fn take_at(&mut self, wanted: SocketAddr) -> io::Result<(Vec<Socket>, bool)> {
        let mut from_systemd = false;
        let mut take = |wanted: SocketAddr| {
            let taken = self.0.extract_if(.., |one| one.address == wanted);
            let sockets = taken.map(|one| {
                from_systemd |= one.from_systemd;
                net::adopt(one.socket)
            });
            sockets.collect::<io::Result<Vec<Socket>>>()
        };
        let mut sockets = take(wanted)?;
        if sockets.is_empty() && wanted.is_ipv6() && wanted.ip().is_unspecified() {
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            sockets = take(SocketAddr::new(any, wanted.port()))?;
        }
        Ok((sockets, from_systemd))
    }

    /// Whether a remaining socket has this port.
    pub(super) fn has_port(&self, port: u16) -> bool {
        self.0.iter().any(|one| one.address.port() == port)
    }

    /// Closes the remaining sockets, and returns their addresses. If one is systemd's, that is an error,
    /// because clients would wait there for ever.
    pub fn finish(&mut self) -> Result<Vec<SocketAddr>, StartError> {
        let left = std::mem::take(&mut self.0);
        match left.iter().find(|one| one.from_systemd) {
            Some(one) => Err(StartError::Unwanted {
                address: one.address,
            }),
            None => Ok(left.iter().map(|one| one.address).collect()),
        }
    }
}
