//! Pipes for splice, and the pool that lends them.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// A pipe smaller than this is not worth its system calls: past `pipe-user-pages-soft` an ordinary
/// user gets pipes of two slots.
const SMALLEST: usize = 64 << 10;

/// Sizes to ask for. The first is the default of `pipe-max-size`.
const SIZES: [usize; 2] = [1 << 20, 256 << 10];

/// Most bytes of one splice. A pipe has slots, not bytes: 16 slots of large segments hold several
/// times its nominal size, so this does not depend on the pipe.
const CHUNK: usize = 1 << 20;

/// A pipe on loan, and the number of bytes in it. When dropped, it goes back to its pool if it is
/// empty. Otherwise it is closed, so that no byte of one connection ever reaches another.
#[derive(Debug)]
pub struct Pipe {
    ends: Rc<Ends>,
    held: usize,
    pool: Rc<PipePool>,
}

#[derive(Debug)]
struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// Moves bytes from a socket into the empty pipe. `Ok(0)` says nothing about the socket: at
    /// urgent data splice returns EAGAIN, or 0 with a FIN behind it, although bytes remain. Only a
    /// receive can tell "empty" from "end". An error belongs to the socket, which reports it once.
    pub fn fill(&mut self, socket: impl AsFd, limit: usize) -> rustix::io::Result<usize> {
        match splice(
            socket,
            None,
            &self.ends.writer,
            None,
            limit.min(CHUNK),
            SpliceFlags::NONBLOCK,
        ) {
            Ok(count) => {
                self.held += count;
                Ok(count)
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::INVAL | Errno::NOMEM) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Moves bytes from the pipe into a socket; EAGAIN means that the socket is full. After a short
    /// move, call it again: a splice that moved something swallows an error of the socket.
    pub fn drain(&mut self, socket: impl AsFd) -> rustix::io::Result<usize> {
        // SPLICE_F_MORE would delay the last chunk by 200 ms.
        let flags = SpliceFlags::NONBLOCK;
        let count = splice(&self.ends.reader, None, socket, None, self.held, flags)?;
        self.held -= count;
        Ok(count)
    }

    /// Bytes in the pipe.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Reads all bytes out of the pipe.
    pub fn take_bytes(&mut self) -> rustix::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(&self.ends.reader, rest) {
                Ok(0) => return Err(Errno::PIPE),
                Ok(count) => read += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.held = 0;
        Ok(bytes)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.held == 0 {
            self.pool.idle.borrow_mut().push(Rc::clone(&self.ends));
        } else {
            self.pool.open.set(self.pool.open.get() - 1);
        }
    }
}

/// The pipes of one worker, lent only while they hold bytes.
#[derive(Debug, Default)]
pub struct PipePool {
    idle: RefCell<Vec<Rc<Ends>>>,
    /// Pipes that exist, lent and idle.
    open: Cell<usize>,
    /// Creating a pipe has failed since the last [`PipePool::retry`]: trying each time costs 13 to 20 % CPU.
    failed: Cell<bool>,
    fallbacks: Cell<u64>,
}

impl PipePool {
    /// Most pipes of a worker. They are scarce for an ordinary user (64 MiB in all), and each takes two
    /// descriptors. With 64 downloads, eight do as well as 16 or 64, and cost 0.8 of what four cost.
    pub const MOST: usize = 8;

    /// Lends an empty pipe. If there is none, copy instead.
    pub fn lend(self: &Rc<Self>) -> Option<Pipe> {
        let idle = self.idle.borrow_mut().pop();
        let ends = idle.or_else(|| self.create().map(Rc::new))?;
        Some(Pipe {
            ends,
            held: 0,
            pool: Rc::clone(self),
        })
    }

    /// Allows another attempt to create pipes; called once a second.
    pub fn retry(&self) {
        self.failed.set(false);
    }

    /// The number of pipes that wait to be lent.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The number of pipes that are lent.
    pub fn lent(&self) -> usize {
        self.open.get() - self.idle()
    }

    /// Counts a read that was copied because there was no pipe to lend.
    pub fn fell_back(&self) {
        self.fallbacks.set(self.fallbacks.get() + 1);
    }

    /// How often a read was copied because there was no pipe to lend.
    pub const fn fallbacks(&self) -> u64 {
        self.fallbacks.get()
    }

    fn create(&self) -> Option<Ends> {
        if self.failed.get() || self.open.get() >= Self::MOST {
            return None;
        }
        let ends = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok();
        let Some((reader, writer)) = ends.filter(|(reader, _)| enlarge(reader)) else {
            self.failed.set(true);
            return None;
        };
        self.open.set(self.open.get() + 1);
        Some(Ends { reader, writer })
    }
}

/// Gives a pipe the largest size that it may have. Returns false if that is too small to be useful.
///
/// With the 4 KiB fragments of a network card a pipe moves its nominal size in one call. Compared with
/// 64 KiB, a pipe of 256 KiB takes 0.69 of the CPU, and one of 1 MiB takes 0.5. All processes of an
/// ordinary user share `pipe-user-pages-soft`, 64 MiB; beyond that the kernel answers EPERM.
fn enlarge(pipe: &OwnedFd) -> bool {
    SIZES
        .into_iter()
        .any(|size| fcntl_setpipe_size(pipe, size).is_ok())
        || fcntl_getpipe_size(pipe).is_ok_and(|size| size >= SMALLEST)
}
