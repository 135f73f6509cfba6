//! Listening sockets that somebody else has opened: systemd, or the process that is taken over.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use listenfd::ListenFd;
use socket2::Socket;

use super::StartError;
use crate::net;

/// Sockets that wait for the configuration that wants them, which knows them by their addresses.
#[derive(Default)]
pub(super) struct Inherited {
    sockets: Vec<(SocketAddr, Socket)>,
    from_systemd: bool,
}

impl Inherited {
    /// Those of systemd: see sd_listen_fds(3). None without socket activation.
    pub(super) fn from_systemd() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            if let Some(listener) = passed.take_tcp_listener(index)? {
                sockets.push(with_address(listener.into())?);
            }
        }
        Ok(Self {
            from_systemd: !sockets.is_empty(),
            sockets,
        })
    }

    /// Adds those of another process.
    pub(super) fn add(&mut self, sockets: Vec<OwnedFd>) -> io::Result<()> {
        for socket in sockets {
            self.sockets.push(with_address(socket.into())?);
        }
        Ok(())
    }

    /// All sockets that listen at an address. Where the host has no IPv6, `[::]` is `0.0.0.0`.
    pub(super) fn take(&mut self, wanted: SocketAddr) -> io::Result<Vec<Socket>> {
        let mut take = |wanted: SocketAddr| {
            let taken = self
                .sockets
                .extract_if(.., |(address, _)| *address == wanted);
            let sockets = taken.map(|(_, socket)| net::adopt(socket));
            sockets.collect::<io::Result<Vec<Socket>>>()
        };
        let mut sockets = take(wanted)?;
        if sockets.is_empty() && wanted.is_ipv6() && wanted.ip().is_unspecified() {
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            sockets = take(SocketAddr::new(any, wanted.port()))?;
        }
        Ok(sockets)
    }

    /// Closes what nobody wants: of systemd's that is a fault, since clients would wait there for ever.
    pub(super) fn finish(&mut self) -> Result<(), StartError> {
        let left = std::mem::take(&mut self.sockets);
        match left.first() {
            Some(&(address, _)) if self.from_systemd => Err(StartError::Unwanted { address }),
            _ => Ok(()),
        }
    }
}

fn with_address(socket: Socket) -> io::Result<(SocketAddr, Socket)> {
    Ok((TcpListener::from(socket.try_clone()?).local_addr()?, socket))
}
