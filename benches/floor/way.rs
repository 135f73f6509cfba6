//! One direction of a connection: copying for small reads, pipes for large ones.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::side::Side;

/// A read of this size makes a direction bulk: from this size on a pipe costs less than copying.
const BULK_READ: usize = 16 << 10;

/// Bytes of a pipe.
const PIPE: usize = 1 << 20;

/// Bytes that a direction may move before others get the thread.
const TURN: usize = 1 << 20;

/// Resources that the connections of a thread use one after the other.
pub(super) struct Shared {
    pub(super) buffer: Box<[u8]>,
    /// Pipes without bytes.
    pipes: Vec<Pipe>,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; 64 << 10].into(),
            pipes: Vec::new(),
        }
    }

    fn lend(&mut self) -> rustix::io::Result<Pipe> {
        if let Some(pipe) = self.pipes.pop() {
            return Ok(pipe);
        }
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // The kernel may deny it to an ordinary user; then the pipe stays at 64 KiB.
        let _: rustix::io::Result<usize> = fcntl_setpipe_size(&writer, PIPE);
        Ok(Pipe {
            reader,
            writer,
            held: 0,
        })
    }
}

struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// Bytes in it.
    held: usize,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// An event will come.
    Waits,
    /// There is more to do, but no event will report it.
    UsedUp,
    /// The connection must be closed.
    Over,
}

/// One direction. It has a pipe only while the pipe holds bytes.
#[derive(Default)]
pub(super) struct Way {
    held: Option<Pipe>,
    /// The last read was large.
    bulk: bool,
    /// The sender has ended.
    pub(super) ended: bool,
    /// The end has been passed on to the receiver.
    told: bool,
}

impl Way {
    /// Moves bytes until there are none, the receiver is full, or the turn is used up.
    pub(super) fn pump(
        &mut self,
        from: &mut Side,
        to: &mut Side,
        shared: &mut Shared,
    ) -> rustix::io::Result<Turn> {
        let mut moved = 0;
        loop {
            if let Some(pipe) = &mut self.held {
                let flags = SpliceFlags::NONBLOCK;
                match splice(&pipe.reader, None, &to.socket, None, pipe.held, flags) {
                    Ok(0) => return Err(Errno::PIPE),
                    Ok(count) => pipe.held -= count,
                    Err(Errno::AGAIN) => return Ok(Turn::Waits),
                    Err(error) => return Err(error),
                }
                if pipe.held > 0 {
                    continue;
                }
                shared.pipes.extend(self.held.take());
            }
            if self.ended || !from.readable {
                return Ok(Turn::Waits);
            }
            if moved >= TURN {
                return Ok(Turn::UsedUp);
            }
            moved += if self.bulk {
                self.fill(from, shared)?
            } else {
                self.copy(from, to, shared)?
            };
        }
    }

    /// Splices bytes into a pipe.
    fn fill(&mut self, from: &mut Side, shared: &mut Shared) -> rustix::io::Result<usize> {
        let mut pipe = shared.lend()?;
        let flags = SpliceFlags::NONBLOCK;
        match splice(&from.socket, None, &pipe.writer, None, PIPE, flags) {
            Err(Errno::AGAIN) if !from.hung_up => {
                from.readable = false;
                shared.pipes.push(pipe);
                Ok(0)
            }
            // Only a receive shows whether it has ended.
            Ok(0) | Err(Errno::AGAIN) => {
                self.bulk = false;
                shared.pipes.push(pipe);
                Ok(0)
            }
            Ok(count) => {
                self.bulk = count >= BULK_READ;
                pipe.held = count;
                self.held = Some(pipe);
                Ok(count)
            }
            Err(error) => Err(error),
        }
    }

    /// Receives and sends; what the receiver does not take goes into a pipe.
    fn copy(
        &mut self,
        from: &mut Side,
        to: &Side,
        shared: &mut Shared,
    ) -> rustix::io::Result<usize> {
        let count = match recv(&from.socket, &mut *shared.buffer, RecvFlags::empty()) {
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => {
                from.readable = false;
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        self.ended = count == 0;
        self.bulk = count >= BULK_READ;
        // A short read has emptied the socket; later bytes are a new edge.
        from.readable = from.hung_up || count == shared.buffer.len();
        let bytes = shared.buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(0);
        }
        let sent = match send(&to.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error),
        };
        if sent < count {
            let mut pipe = shared.lend()?;
            let rest = shared.buffer.get(sent..count).unwrap_or_default();
            pipe.held = rustix::io::write(&pipe.writer, rest)?;
            if pipe.held < rest.len() {
                return Err(Errno::NOBUFS);
            }
            self.held = Some(pipe);
        }
        Ok(count)
    }

    pub(super) const fn is_done(&self) -> bool {
        self.ended && self.held.is_none()
    }

    /// Whether bytes wait for the receiver.
    pub(super) const fn is_blocked(&self) -> bool {
        self.held.is_some()
    }

    /// Passes the end on, once.
    pub(super) fn tell(&mut self, to: &Side) -> rustix::io::Result<()> {
        if self.is_done() && !self.told {
            self.told = true;
            shutdown(&to.socket, Shutdown::Write)?;
        }
        Ok(())
    }
}
