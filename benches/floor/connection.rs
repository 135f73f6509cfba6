//! A connection of the floor.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, connect, recv, socket_with, sockopt,
};

use super::side::Side;
use super::way::{Shared, Turn, Way};

/// The content type of a record of the handshake.
const HANDSHAKE: u8 = 22;

pub(super) struct Connection {
    client: Side,
    /// Absent until the hello has arrived.
    backend: Option<Side>,
    up: Way,
    down: Way,
}

impl Connection {
    pub(super) fn new(client: OwnedFd) -> Self {
        Self {
            client: Side::new(client),
            backend: None,
            up: Way::default(),
            down: Way::default(),
        }
    }

    /// Notes what epoll reports about a side.
    pub(super) fn note(&mut self, of_backend: bool, flags: EventFlags) {
        let side = match &mut self.backend {
            Some(backend) if of_backend => backend,
            _ => &mut self.client,
        };
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        side.hung_up |= flags.intersects(ends);
        side.broken |= flags.contains(EventFlags::ERR);
        side.readable |= flags.intersects(ends | EventFlags::IN);
    }

    pub(super) fn advance(
        &mut self,
        key: usize,
        epoll: &OwnedFd,
        address: SocketAddr,
        shared: &mut Shared,
    ) -> rustix::io::Result<Turn> {
        let Some(backend) = &mut self.backend else {
            return self.open(key, epoll, address, shared);
        };
        let up = self.up.pump(&mut self.client, backend, shared)?;
        let down = self.down.pump(backend, &mut self.client, shared)?;
        if self.up.is_done() && self.down.is_done() {
            return Ok(Turn::Over);
        }
        self.up.tell(backend)?;
        self.down.tell(&self.client)?;
        // No read reports a RST after a FIN.
        if (self.up.ended && self.client.broken) || (self.down.ended && backend.broken) {
            return Err(Errno::CONNRESET);
        }
        // The backend has been watched for this since its connect.
        let full = self.down.is_blocked();
        if !self.client.is_watched() || (full && !self.client.watched.contains(EventFlags::OUT)) {
            self.client.watch(epoll, client_data(key), full)?;
        }
        let used_up = up == Turn::UsedUp || down == Turn::UsedUp;
        Ok(if used_up { Turn::UsedUp } else { Turn::Waits })
    }

    /// Connects to the backend once the hello has arrived.
    fn open(
        &mut self,
        key: usize,
        epoll: &OwnedFd,
        address: SocketAddr,
        shared: &mut Shared,
    ) -> rustix::io::Result<Turn> {
        match recv(&self.client.socket, &mut *shared.buffer, RecvFlags::PEEK) {
            Ok((count, _)) => {
                if is_whole(shared.buffer.get(..count).unwrap_or_default())? {
                    self.client.readable = true;
                    let mut backend = Side::new(begin_connect(address)?);
                    backend.watch(epoll, client_data(key) | 1, true)?;
                    self.backend = Some(backend);
                    return Ok(Turn::Waits);
                }
                if count == 0 || self.client.hung_up {
                    return Ok(Turn::Over);
                }
            }
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error),
        }
        // Each further byte is an edge, so the bytes that are there do not wake the thread again.
        if !self.client.is_watched() {
            self.client.watch(epoll, client_data(key), false)?;
        }
        Ok(Turn::Waits)
    }

    /// Closes both sides with a RST.
    pub(super) fn reset(self) {
        for side in [Some(self.client), self.backend].into_iter().flatten() {
            // If this fails, only an ordinary close is left.
            let _: rustix::io::Result<()> =
                sockopt::set_socket_linger(&side.socket, Some(Duration::ZERO));
        }
    }
}

/// Whether the whole first record has arrived. Other protocols are an error.
const fn is_whole(bytes: &[u8]) -> rustix::io::Result<bool> {
    match bytes {
        [HANDSHAKE, _, _, high, low, body @ ..] => {
            Ok(body.len() >= u16::from_be_bytes([*high, *low]) as usize)
        }
        [] | [HANDSHAKE, ..] => Ok(false),
        _ => Err(Errno::PROTO),
    }
}

fn begin_connect(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The ACK that ends the handshake goes with the hello.
    sockopt::set_tcp_quickack(&socket, false)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// The epoll data of the client of a connection. That of the backend is one more.
const fn client_data(key: usize) -> u64 {
    (key as u64) << 1
}
