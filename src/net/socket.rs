//! Options of connected sockets, and the start of a connect.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a backend sets for both legs of its connections. Short connections do without: five calls are
/// some percent of what one costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegOptions {
    /// Idle time before TCP probes. Then three probes, ten seconds apart: a peer that vanished is
    /// noticed half a minute after the idle time.
    pub keepalive: Duration,
    /// Bytes that may wait in the send queue without having been sent (TCP_NOTSENT_LOWAT): what a
    /// peer that does not read costs in kernel memory, which the whole host shares.
    pub max_unsent: u32,
}

impl LegOptions {
    /// Those of listening sockets, which accepted ones inherit.
    pub const DEFAULT: Self = Self {
        keepalive: Duration::from_mins(1),
        max_unsent: 1 << 20,
    };
    const PROBES: u32 = 3;
    const INTERVAL: Duration = Duration::from_secs(10);

    /// Sets the options on a socket; one that is accepted has those of its listener.
    pub fn apply(self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        sockopt::set_tcp_keepidle(socket, self.keepalive)?;
        sockopt::set_tcp_keepintvl(socket, Self::INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, Self::PROBES)?;
        sockopt::set_socket_keepalive(socket, true)?;
        SockRef::from(&socket).set_tcp_notsent_lowat(self.max_unsent)
    }
}

/// What every leg has: no Nagle, since the relay never holds back a byte that another one would
/// join; urgent bytes in line, since otherwise the kernel takes them out of the stream.
pub(super) fn set_stream_options(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_oobinline(socket, true)
}

/// A socket whose connect to `address` is under way or done; [`Leg::connected`](super::Leg::connected)
/// tells how it went. It must not be registered with epoll before: a socket that is not connecting is
/// hung up to epoll, and tokio would latch that.
pub fn begin_connect(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    set_stream_options(socket.as_fd())?;
    // The ACK that ends the handshake rides on the hello: two segments of twenty less. The kernel
    // goes back to its own judgement by itself.
    sockopt::set_tcp_quickack(&socket, false)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// What owns, alone or with others, one open descriptor as long as it lives.
pub(super) trait Owned: AsRawFd {}
impl Owned for OwnedFd {}
impl Owned for Arc<Socket> {}

/// Registers a socket with the epoll of this thread's runtime.
pub(super) fn register<T: Owned>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `Owned` has an open descriptor, always gives the same one, and keeps it open until
    // it is dropped; the `AsyncFd` owns it, and no caller takes it out.
    #[expect(
        unsafe_code,
        reason = "AsyncFd has no safe constructor that is not deprecated"
    )]
    let registered = unsafe { AsyncFd::register_with_interest(socket, interest) };
    Ok(registered?)
}

/// Our own address of a connected socket.
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    SocketAddr::try_from(address)
        .ok()
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Bytes in the send queue of a connected socket that the peer has not acknowledged, sent or not
/// (SIOCOUTQ, tcp(7)); FIN counts as one.
pub(super) fn send_queue(socket: impl AsFd) -> rustix::io::Result<u64> {
    // TIOCOUTQ is the name of the same request in libc.
    #[expect(clippy::cast_possible_truncation, reason = "a request has 32 bits")]
    const REQUEST: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: the request writes one int through the pointer that the getter gives it, and nothing
    // else; the descriptor is open for the whole call since it is borrowed.
    #[expect(unsafe_code, reason = "neither socket2 nor rustix has SIOCOUTQ")]
    let queued = unsafe { ioctl(socket, Getter::<REQUEST, libc::c_int>::new()) };
    // A count, though of a type with a sign.
    queued.map(|queued| u64::from(queued.max(0).unsigned_abs()))
}

/// Sets SO_RCVLOWAT: a socket is readable from so many queued bytes on (or at its end). Each
/// setting raises an edge, so it is set only when it changes; and it grows the receive buffer, so
/// the caller bounds it. It must be 1 before the relay begins, or the last bytes never wake it.
pub fn set_receive_low_water_mark(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "it is 4")]
    const LENGTH: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open for the whole call since it is borrowed, and the pointer and
    // the length describe `value`, which lives until the call returns.
    #[expect(unsafe_code, reason = "neither socket2 nor rustix sets SO_RCVLOWAT")]
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            LENGTH,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
