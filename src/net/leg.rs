//! One side of a connection: a socket registered with the worker's epoll.

mod readable;
mod sending;
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

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, Ready};

use super::socket::{register, send_queue};
use super::{LegOptions, Pipe};
pub use readable::Readable;

/// The first error that a socket call reported for a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub Errno);

impl Broken {
    /// Whether the peer reset the connection. Any other error comes from this machine.
    pub const fn is_reset(self) -> bool {
        matches!(self.0, Errno::CONNRESET | Errno::PIPE)
    }
}

/// A socket and the first error that it reported.
///
/// The kernel reports an error of a socket once, to whichever call comes first. If the send of one
/// direction takes the ECONNRESET, the receive of the other then reads a clean end. So every call
/// goes through `fail`, and an end on a failed leg does not count as an end.
///
/// Dropping a leg resets it (SO_LINGER 0) unless [`Leg::close_in_order`] was called. An error, a time
/// limit, a drain, a dropped task and a panic all end this way, so truncation stays visible.
#[derive(Debug)]
pub struct Leg {
    io: Rc<AsyncFd<OwnedFd>>,
    broken: Cell<Option<Broken>>,
    in_order: Cell<bool>,
    /// A FIN has been sent, or waits behind the bytes in the send queue.
    pub(super) shut_down: Cell<bool>,
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

    /// The first error of this leg.
    pub const fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }

    /// Makes the drop of this leg send FIN, after the bytes that the kernel still holds.
    pub fn close_in_order(&self) {
        self.in_order.set(true);
    }

    /// Sets options. If the kernel refuses one, it logs that and keeps the connection.
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

    /// Receives so many bytes, all of which a peek has just shown. Readiness stays: more may wait behind them.
    pub fn receive_peeked(&self, buffer: &mut [u8], count: usize) -> rustix::io::Result<()> {
        let shown = buffer.get_mut(..count).ok_or(Errno::MSGSIZE)?;
        loop {
            match recv(self.fd(), &mut *shown, RecvFlags::empty()) {
                Ok((received, _)) if received == count => return Ok(()),
                Ok(_) => return Err(Errno::CONNRESET),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until a peek may show more.
    pub async fn readable(&self) -> io::Result<Readable<'_>> {
        self.io.readable().await.map(Readable)
    }

    /// Waits until the socket is connected or has failed to connect.
    pub async fn connected(&self) -> io::Result<()> {
        let guard = self.io.writable().await?;
        // A connect that failed raises EPOLLERR and EPOLLHUP; one that succeeded needs no further
        // system call.
        if guard.ready().is_write_closed() {
            self.take_error()?;
        }
        Ok(())
    }

    /// Reads the error of the socket (SO_ERROR), and remembers it.
    fn take_error(&self) -> io::Result<()> {
        let error = sockopt::socket_error(self.fd()).and_then(|result| result);
        error.map_err(|error| io::Error::from(self.fail(error).0))
    }

    /// Waits until the socket has an error, and takes it.
    pub async fn failed(&self) -> Broken {
        // An error of the wait means that the runtime is going away, and with it the connection.
        drop(self.io.ready(Interest::ERROR).await);
        self.error().unwrap_or(Broken(Errno::CONNRESET))
    }

    /// Waits until the peer has closed, also behind bytes, or the socket has an error. The leg stays readable.
    pub async fn closed(&self) -> Option<Broken> {
        while let Ok(mut guard) = self.io.ready(Interest::PRIORITY | Interest::ERROR).await {
            let ready = guard.ready();
            if ready.is_read_closed() || ready.is_error() {
                break;
            }
            // An urgent byte is neither.
            guard.clear_ready_matching(Ready::PRIORITY);
        }
        self.error()
    }

    /// The error of the socket, if it has one.
    pub fn error(&self) -> Option<Broken> {
        drop(self.take_error());
        self.broken.get()
    }

    /// Resolves once the socket has an error. This is the only way to notice a reset on a leg that
    /// nobody reads. It owns what it needs, so that it can be stored beside the leg.
    pub fn watch(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let io = Rc::clone(&self.io);
        Box::pin(async move {
            drop(io.ready(Interest::ERROR).await);
        })
    }

    /// Makes sure that the leg has an error after a watch has reported one. If no call has returned
    /// it, a splice that moved something has swallowed it.
    pub fn fail_watched(&self) {
        if self.broken.get().is_none() && self.take_error().is_ok() {
            self.fail(Errno::CONNRESET);
        }
    }

    /// Receives into `buffer`. An empty result is the end; a broken leg never returns it.
    pub fn poll_receive<'b>(
        &self,
        cx: &mut Context<'_>,
        buffer: &'b mut [u8],
    ) -> Poll<Result<&'b [u8], Broken>> {
        loop {
            if let Some(broken) = self.broken.get() {
                // Nothing more will arrive, so do not wait: return what is queued, then the error.
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
                    // A short receive means that nothing is left, unless it stopped at an urgent byte.
                    // That saves a call. A full receive must not clear readiness.
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

    /// Sends at least one of `bytes`, and returns how many.
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

    /// Splices from the socket into an empty pipe once the socket is readable. 0 has no meaning by
    /// itself: receive to learn more.
    pub fn poll_fill(&self, cx: &mut Context<'_>, pipe: &mut Pipe, limit: usize) -> Poll<usize> {
        drop(ready!(self.io.poll_read_ready(cx)));
        Poll::Ready(pipe.fill(self.fd(), limit).unwrap_or_else(|error| {
            self.fail(error);
            0
        }))
    }

    /// Splices from a pipe that is not empty into the socket. 0 means that splice does not work
    /// here: then take the bytes out of the pipe with [`Leg::reclaim`] and send them.
    pub fn poll_drain(&self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<Result<usize, Broken>> {
        let mut moved = 0;
        loop {
            let Ok(mut guard) = ready!(self.io.poll_write_ready(cx)) else {
                return Poll::Ready(Err(self.fail(Errno::CANCELED)));
            };
            // A splice that moved something swallows an error of the socket. After a short splice the
            // next call returns EAGAIN or that error, so make it now and do not wait for readiness.
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

    /// Takes the bytes out of a pipe that cannot be spliced into this socket.
    pub fn reclaim(&self, pipe: &mut Pipe) -> Result<Vec<u8>, Broken> {
        pipe.take_bytes().map_err(|error| self.fail(error))
    }

    /// Bytes of the send queue that the peer has not acknowledged, sent or not. Acknowledged bytes
    /// are in the peer's kernel, which keeps them for its reader even after a reset (Linux).
    pub fn unacknowledged(&self) -> u64 {
        // On a broken leg they never arrive.
        self.broken.get().map_or_else(|| self.queued(), |_| 0)
    }

    /// The same of a leg that this machine has given up: they were on their way to its peer. The kernel goes on
    /// counting them.
    pub fn abandoned(&self) -> u64 {
        let given_up = self.broken.get().filter(|broken| !broken.is_reset());
        given_up.map_or(0, |_| self.queued())
    }

    pub(super) fn queued(&self) -> u64 {
        // The request fails only on a listening socket (tcp(7)).
        let queued = send_queue(self).unwrap_or(0);
        // The kernel counts a FIN as a byte until it is acknowledged.
        queued.saturating_sub(u64::from(self.shut_down.get()))
    }

    /// Remembers an error if it is the first, and returns the first.
    fn fail(&self, error: Errno) -> Broken {
        let first = self.broken.get().unwrap_or(Broken(error));
        self.broken.set(Some(first));
        first
    }

    /// Whether urgent data has been announced. Once true, it stays true.
    fn has_urgent(&self) -> bool {
        self.io.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    /// The socket with its registration.
    pub(super) fn io(&self) -> Rc<AsyncFd<OwnedFd>> {
        Rc::clone(&self.io)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.io.get_ref().as_fd()
    }
}

/// The part of a buffer that a receive has filled.
#[expect(
    clippy::indexing_slicing,
    reason = "the kernel returns no more bytes than the buffer holds"
)]
fn received(buffer: &[u8], count: usize) -> &[u8] {
    &buffer[..count]
}

impl AsFd for Leg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        if !self.in_order.get() {
            // It fails only on a descriptor that is not a socket, and then the close does not matter.
            _ = sockopt::set_socket_linger(self.fd(), Some(Duration::ZERO));
        }
    }
}
