//! One side of a connection: a socket registered with the worker's epoll.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, sockopt};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::socket::{register, send_queue};
use super::{LegOptions, Pipe};

/// The first error that a leg was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub Errno);

/// A leg that is readable, or whose peer has closed.
#[derive(Debug)]
pub struct Readable<'a>(AsyncFdReadyGuard<'a, OwnedFd>);

impl Readable<'_> {
    /// Whether the peer has closed its direction or reset. Ask before the peek: a peek does not see
    /// a FIN behind bytes. It is never taken back.
    pub fn is_closed(&self) -> bool {
        self.0.ready().is_read_closed()
    }

    /// The peek has shown too little: wait for more. A peek that succeeds does not clear readiness,
    /// so a loop of peeks would spin; and cleared before the bytes are received, nothing would tell
    /// of them.
    pub fn wait_for_more(mut self) {
        self.0.clear_ready();
    }
}

/// A socket with the first error that it was told.
///
/// The kernel reports an error of a socket once, to whichever call comes first: if the send of one
/// direction takes the ECONNRESET, the receive of the other then reads a clean end. So every call
/// goes through `fail`, and an end on a failed leg is none.
///
/// Dropped, a leg is reset (SO_LINGER 0) unless [`Leg::close_in_order`] was called: an error, a time
/// limit, a drain, a dropped task and a panic all end so, and truncation stays visible.
#[derive(Debug)]
pub struct Leg {
    io: Rc<AsyncFd<OwnedFd>>,
    broken: Cell<Option<Broken>>,
    in_order: Cell<bool>,
    /// FIN has been sent, or waits behind the bytes in the send queue.
    shut_down: Cell<bool>,
}

impl Leg {
    /// Registers a connected or connecting socket with the runtime of this thread.
    pub fn register(socket: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY;
        Ok(Self {
            io: Rc::new(register(socket, interest)?),
            broken: Cell::default(),
            in_order: Cell::default(),
            shut_down: Cell::default(),
        })
    }

    /// The first error that this leg was told.
    pub const fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }

    /// Lets the drop of this leg end with FIN, after the bytes that the kernel still holds.
    pub fn close_in_order(&self) {
        self.in_order.set(true);
    }

    /// Sets options; one that the kernel refuses is not worth a connection.
    pub fn set_options(&self, options: LegOptions) {
        if let Err(error) = options.apply(self) {
            tracing::warn!(%error, "cannot set the options of a socket");
        }
    }

    /// Looks at received bytes without taking them, and without waiting.
    pub fn peek<'b>(&self, buffer: &'b mut [u8]) -> rustix::io::Result<&'b [u8]> {
        loop {
            match recv(self.fd(), &mut *buffer, RecvFlags::PEEK) {
                Ok((count, _)) => return Ok(received(buffer, count)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until a peek may show more.
    pub async fn readable(&self) -> io::Result<Readable<'_>> {
        self.io.readable().await.map(Readable)
    }

    /// Waits until the socket is connected or has failed to.
    pub async fn connected(&self) -> io::Result<()> {
        let guard = self.io.writable().await?;
        // A connect that failed raises EPOLLERR and EPOLLHUP; one that did not needs no system call
        // more.
        if guard.ready().is_write_closed() {
            self.take_error()?;
        }
        Ok(())
    }

    /// Asks for the error of the socket, and remembers it.
    fn take_error(&self) -> io::Result<()> {
        let error = sockopt::socket_error(self.fd()).and_then(|result| result);
        error.map_err(|error| io::Error::from(self.fail(error).0))
    }

    /// Waits until the socket has an error.
    pub async fn failed(&self) {
        // An error of the wait means that the runtime is going away, and with it the connection.
        drop(self.io.ready(Interest::ERROR).await);
    }

    /// Resolves once the socket has an error: the only way to hear of a reset on a leg that nobody
    /// reads. It owns what it needs, so that it can be kept beside the leg.
    pub fn watch(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let io = Rc::clone(&self.io);
        Box::pin(async move {
            drop(io.ready(Interest::ERROR).await);
        })
    }

    /// Called when a watch has told of an error: makes sure that the leg knows one. If nobody has
    /// been told it, a splice that moved something has swallowed it.
    pub fn fail_watched(&self) {
        if self.broken.get().is_none() && self.take_error().is_ok() {
            self.fail(Errno::CONNRESET);
        }
    }

    /// Receives into `buffer`; nothing is the end, and never that of a broken leg.
    pub fn poll_receive<'b>(
        &self,
        cx: &mut Context<'_>,
        buffer: &'b mut [u8],
    ) -> Poll<Result<&'b [u8], Broken>> {
        loop {
            if let Some(broken) = self.broken.get() {
                // Nothing more will come, so nothing is waited for: what is queued, then the error.
                let rest = recv(self.fd(), &mut *buffer, RecvFlags::empty());
                return Poll::Ready(match rest {
                    Ok((count @ 1.., _)) => Ok(received(buffer, count)),
                    Ok((0, _)) | Err(_) => Err(broken),
                });
            }
            let Ok(mut guard) = ready!(self.io.poll_read_ready(cx)) else {
                return Poll::Ready(Err(self.fail(Errno::CANCELED)));
            };
            match recv(self.fd(), &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Poll::Ready(Ok(&[])),
                Ok((count, _)) => {
                    // A short receive means that nothing is left, and saves the call that says so;
                    // unless it stopped at an urgent byte. A full one must not clear readiness.
                    if count < buffer.len() && !self.has_urgent() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(received(buffer, count)));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
    }

    /// Sends from `bytes`, at least one.
    pub fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Broken>> {
        loop {
            let Ok(mut guard) = ready!(self.io.poll_write_ready(cx)) else {
                return Poll::Ready(Err(self.fail(Errno::CANCELED)));
            };
            match send(self.fd(), bytes, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    if count < bytes.len() {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
    }

    /// Splices from the socket into an empty pipe once the socket is readable. 0 says nothing:
    /// receive to learn more.
    pub fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe, limit: usize) -> Poll<usize> {
        drop(ready!(self.io.poll_read_ready(cx)));
        Poll::Ready(pipe.fill(self.fd(), limit).unwrap_or_else(|error| {
            self.fail(error);
            0
        }))
    }

    /// Splices from a pipe that is not empty into the socket. 0 means that splice does not work
    /// here: take the bytes out of the pipe with [`Leg::reclaim`] and send them.
    pub fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<usize, Broken>> {
        let mut moved = 0;
        loop {
            let Ok(mut guard) = ready!(self.io.poll_write_ready(cx)) else {
                return Poll::Ready(Err(self.fail(Errno::CANCELED)));
            };
            // A splice that moved something swallows an error of the socket: after a short one the
            // next call says EAGAIN or the error. It must not wait for the runtime's leave.
            while pipe.held() > 0 {
                match pipe.drain(self.fd()) {
                    Ok(count) => moved += count,
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        guard.clear_ready();
                        break;
                    }
                    Err(Errno::INVAL | Errno::NOMEM) => return Poll::Ready(Ok(moved)),
                    Err(error) => {
                        let broken = self.fail(error);
                        return Poll::Ready(if moved > 0 { Ok(moved) } else { Err(broken) });
                    }
                }
            }
            if moved > 0 {
                return Poll::Ready(Ok(moved));
            }
        }
    }

    /// Takes the bytes of a pipe that cannot be spliced into this socket.
    pub fn reclaim(&self, pipe: &mut Pipe) -> Result<Vec<u8>, Broken> {
        pipe.take_bytes().map_err(|error| self.fail(error))
    }

    /// Sends what fits, without waiting: for an alert, which is lost if it does not.
    pub fn send_now(&self, bytes: &[u8]) {
        if let Err(error) = send(self.fd(), bytes, SendFlags::NOSIGNAL) {
            self.fail(error);
        }
    }

    /// Sends FIN behind what was sent, once.
    pub fn shut_down_writing(&self) {
        if self.shut_down.replace(true) {
            return;
        }
        if let Err(error) = rustix::net::shutdown(self.fd(), Shutdown::Write) {
            self.fail(error);
        }
    }

    /// Bytes of the send queue that the peer has not acknowledged, sent or not. What it has
    /// acknowledged its kernel has, and keeps for its reader also after a reset (Linux).
    pub fn unacknowledged(&self) -> u64 {
        if self.broken.get().is_some() {
            // The kernel goes on counting them, and they reach nobody.
            return 0;
        }
        // The request fails on a socket that listens, and on no other (tcp(7)).
        let queued = send_queue(self).unwrap_or(0);
        // The kernel counts FIN as a byte until it is acknowledged.
        queued.saturating_sub(u64::from(self.shut_down.get()))
    }

    /// Remembers an error if it is the first; gives the first.
    fn fail(&self, error: Errno) -> Broken {
        let first = self.broken.get().unwrap_or(Broken(error));
        self.broken.set(Some(first));
        first
    }

    /// Whether urgent data has been announced; once true it stays so.
    fn has_urgent(&self) -> bool {
        self.io.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.io.get_ref().as_fd()
    }
}

/// The part of a buffer that a receive has filled.
#[expect(
    clippy::indexing_slicing,
    reason = "the kernel gives no more bytes than the buffer holds"
)]
fn received(buffer: &[u8], count: usize) -> &[u8] {
    &buffer[..count]
}

/// Whether something has come to any of the legs: bytes, an end or an error. It asks the kernel, where
/// the readiness that the runtime knows may be behind: a process that was paused hears of its timers
/// first.
pub fn any_readable<'a>(legs: impl Iterator<Item = &'a Leg>) -> bool {
    let mut legs: Vec<_> = legs.map(|leg| PollFd::new(leg, PollFlags::IN)).collect();
    poll(&mut legs, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

impl AsFd for Leg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        if !self.in_order.get() {
            // It fails only on a descriptor that is no socket; the close then ends as it may.
            _ = sockopt::set_socket_linger(self.fd(), Some(Duration::ZERO));
        }
    }
}
