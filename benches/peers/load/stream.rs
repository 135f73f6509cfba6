//! How the ends send and receive once a connection is established.

use std::os::fd::OwnedFd;

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::hello::server_hello;

/// Most bytes of a record, with its header. All records of the file of bulk flows have this length, so that a send may
/// begin at its position modulo it.
const RECORD: usize = 16 << 10;

/// The bytes that both ends send. They look like TLS: a relay that reads the headers of records finds them.
pub(crate) struct Content {
    /// The backend begins with a ServerHello.
    answer: Vec<u8>,
    message: Vec<u8>,
}

impl Content {
    /// Creates messages of that size, which is that of a ServerHello and a record at least.
    pub(crate) fn new(size: usize) -> Self {
        let mut answer = server_hello();
        add_records(&mut answer, size);
        let mut message = Vec::new();
        add_records(&mut message, size);
        Self { answer, message }
    }

    /// The first message of the backend.
    pub(crate) fn answer(&self) -> &[u8] {
        &self.answer
    }

    /// Any other message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }
}

/// Fills up to that size with records.
fn add_records(bytes: &mut Vec<u8>, size: usize) {
    const HEADER: usize = 5;
    while bytes.len() < size {
        let length = (size - bytes.len()).clamp(HEADER, RECORD) - HEADER;
        let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        bytes.extend([0x17, 3, 3, high, low]);
        bytes.resize(bytes.len() + length, 0x6b);
    }
}

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
        // One record more than a turn, which may begin anywhere in the first one.
        let mut records = Vec::new();
        add_records(&mut records, Self::TURN + RECORD);
        let mut rest = records.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(Self {
            file,
            sink: vec![0; Self::TURN],
        })
    }

    /// Sends what the socket takes, at most [`Self::TURN`], behind as many bytes as it has sent before. Returns the
    /// number of bytes.
    pub(crate) fn send(&self, socket: &OwnedFd, before: u64) -> Result<u64, Errno> {
        let mut offset = before % RECORD as u64;
        match rustix::fs::sendfile(socket, &self.file, Some(&mut offset), Self::TURN) {
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
    /// Whether the next message that it sends is the first answer of a backend.
    answers: bool,
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
            answers: !sends,
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

    /// Sends or receives until the message is complete, or the socket blocks. `buffer` takes what it receives.
    pub(crate) fn advance(
        &mut self,
        socket: &OwnedFd,
        content: &Content,
        buffer: &mut [u8],
    ) -> Result<Step, Errno> {
        while self.left > 0 {
            let moved = if self.sends {
                let message = if self.answers {
                    content.answer()
                } else {
                    content.message()
                };
                let rest = message.get(self.size - self.left..self.size);
                let rest = rest.ok_or(Errno::INVAL)?;
                rustix::net::send(socket, rest, SendFlags::NOSIGNAL)
            } else {
                let length = self.left.min(buffer.len());
                let part = buffer.get_mut(..length).unwrap_or_default();
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
        self.answers &= !self.sends;
        self.sends = !self.sends;
        Ok(if self.sends {
            Step::Received
        } else {
            Step::Sent
        })
    }
}
