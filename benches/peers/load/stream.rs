//! How the ends send and receive once a connection is established.

use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// An end of bulk flows that costs little, so that a run measures the relay. It sends a file in memory
/// with sendfile, in fragments of a page as a network card delivers them, and lets the kernel discard
/// what it receives.
pub(crate) struct BulkEnd {
    file: OwnedFd,
    /// Only its length counts: MSG_TRUNC writes nothing into it.
    sink: Vec<u8>,
}

impl BulkEnd {
    /// Most bytes that one call moves, so that a turn of the loop stays short.
    const TURN: usize = 1 << 20;

    pub(crate) fn new() -> Result<Self, Errno> {
        let file = rustix::fs::memfd_create("peers", MemfdFlags::CLOEXEC)?;
        let page = [0x6b; 4096];
        for _ in 0..Self::TURN / page.len() {
            // A file in memory takes a whole page.
            rustix::io::write(&file, &page)?;
        }
        Ok(Self {
            file,
            sink: vec![0; Self::TURN],
        })
    }

    /// Sends what the socket takes, at most [`Self::TURN`]. Returns the number of bytes.
    pub(crate) fn send(&self, socket: &OwnedFd) -> Result<u64, Errno> {
        match rustix::fs::sendfile(socket, &self.file, Some(&mut 0), Self::TURN) {
            Ok(sent) => Ok(sent as u64),
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Discards what has come. Returns the number of bytes, or `None` at the end.
    pub(crate) fn receive(&mut self, socket: &OwnedFd) -> Result<Option<u64>, Errno> {
        match rustix::net::recv(socket, self.sink.as_mut_slice(), RecvFlags::TRUNC) {
            Ok((_, 0)) => Ok(None),
            Ok((_, received)) => Ok(Some(received as u64)),
            Err(Errno::AGAIN) => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }
}

/// A message and its answer, over and over, as one end sees them. The socket is registered for edges of both
/// directions: the other end sends only when it is its turn, so each part begins with an edge.
#[derive(Debug)]
pub(crate) struct Exchange {
    size: usize,
    sends: bool,
    left: usize,
}

/// How far an [`Exchange`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It waits for the next edge.
    Waits,
    /// A whole message is out.
    Sent,
    /// A whole message is in.
    Received,
}

impl Exchange {
    /// Creates an exchange. If `sends`, this end begins.
    pub(crate) fn new(size: usize, sends: bool) -> Self {
        Self {
            size,
            sends,
            left: size,
        }
    }

    /// Counts bytes of the first message that came with the command.
    pub(crate) fn has_received(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Whether it is this end's turn to send.
    pub(crate) fn sends(&self) -> bool {
        self.sends
    }

    /// Sends or receives until the message is complete, or the socket blocks. `buffer` holds the bytes to
    /// send, and takes received ones.
    pub(crate) fn advance(&mut self, socket: &OwnedFd, buffer: &mut [u8]) -> Result<Step, Errno> {
        while self.left > 0 {
            let length = self.left.min(buffer.len());
            let part = buffer.get_mut(..length).unwrap_or_default();
            let moved = if self.sends {
                rustix::net::send(socket, part, SendFlags::NOSIGNAL)
            } else {
                match rustix::net::recv(socket, part, RecvFlags::empty()) {
                    Ok((_, 0)) => return Err(Errno::PIPE),
                    received => received.map(|(_, length)| length),
                }
            };
            match moved {
                Ok(moved) => self.left -= moved,
                Err(Errno::AGAIN) => return Ok(Step::Waits),
                Err(error) => return Err(error),
            }
        }
        self.left = self.size;
        self.sends = !self.sends;
        Ok(if self.sends {
            Step::Received
        } else {
            Step::Sent
        })
    }
}
