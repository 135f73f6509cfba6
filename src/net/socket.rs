//! Options of connected sockets, and the start of a connect.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Socket options that a backend sets for both legs of its connections. Short connections go without
/// them: five calls are a few percent of the cost of such a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegOptions {
    /// Probes of a silent peer.
    pub keepalive: Keepalive,
    /// Unsent bytes that may wait in the send queue (TCP_NOTSENT_LOWAT). It bounds the kernel memory,
    /// shared by the whole host, that a peer costs if it does not read.
    pub max_unsent: u32,
}

impl LegOptions {
    /// The options of listening sockets, which accepted sockets inherit.
    pub const DEFAULT: Self = Self {
        keepalive: Keepalive {
            idle: Duration::from_secs(45),
            interval: Duration::from_secs(10),
            probes: 3,
        },
        max_unsent: 1 << 20,
    };

    /// Sets the options on a socket. An accepted socket has those of its listener.
    pub fn apply(self, socket: impl AsFd) -> io::Result<()> {
        let socket = socket.as_fd();
        sockopt::set_tcp_keepidle(socket, self.keepalive.idle)?;
        sockopt::set_tcp_keepintvl(socket, self.keepalive.interval)?;
        sockopt::set_tcp_keepcnt(socket, self.keepalive.probes)?;
        sockopt::set_socket_keepalive(socket, true)?;
        SockRef::from(&socket).set_tcp_notsent_lowat(self.max_unsent)
    }
}

/// The probes of TCP to a peer from which nothing comes while all that was sent to it is acknowledged. The kernel gives the
/// peer up once `probes` of them in a row have no answer: `idle` and `probes` intervals after the last packet. Times are
/// whole seconds, rounded up, from 1 to 32,767 s; there are 1 to 127 probes (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The silence before the first probe (`TCP_KEEPIDLE`).
    pub idle: Duration,
    /// The time from one probe to the next (`TCP_KEEPINTVL`).
    pub interval: Duration,
    /// The number of probes (`TCP_KEEPCNT`).
    pub probes: u32,
}

impl Keepalive {
    /// The same with no more probes than it takes until the first one has been without an answer for `limit`, and with
    /// no longer interval than that.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        let interval = self.interval.min(limit);
        let mut probes = 1;
        while probes < self.probes && interval * probes < limit {
            probes += 1;
        }
        Self {
            interval,
            probes,
            ..self
        }
    }
}

/// Sets the options that every leg has. Nagle's algorithm is off, because the relay sends everything
/// it has at once. Urgent bytes stay in line, because otherwise the kernel takes them out of the stream.
pub(super) fn set_stream_options(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_oobinline(socket, true)
}

/// Why a connect could not begin.
#[derive(Debug)]
pub enum NotBegun {
    /// The socket could not be bound to its source address.
    Source(io::Error),
    /// Another step failed.
    Other(io::Error),
}

impl From<Errno> for NotBegun {
    fn from(error: Errno) -> Self {
        Self::Other(error.into())
    }
}

/// Opens a socket and begins to connect it to `address`, from an address of this machine that the kernel chooses
/// unless there is a `source`; [`Leg::connected`](super::Leg::connected)
/// waits for the result. The socket must not be registered with epoll before the connect begins: epoll
/// would report it as hung up, and tokio would remember that.
pub fn begin_connect(address: SocketAddr, source: Option<IpAddr>) -> Result<OwnedFd, NotBegun> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family(address), SocketType::STREAM, flags, None)?;
    set_stream_options(socket.as_fd())?;
    // The ACK that ends the handshake goes with the hello, which saves two segments of twenty. The
    // kernel later returns to its own choice by itself.
    sockopt::set_tcp_quickack(&socket, false)?;
    if let Some(source) = source {
        bind_source(socket.as_fd(), source).map_err(NotBegun::Source)?;
    }
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(NotBegun::Other(connect_error(error.into(), address))),
    }
}

/// The error of a connect. Where this machine has no address to reach `address` from, as in a container without IPv6, the kernel
/// says EADDRNOTAVAIL, as it does without a free port. Then this returns ENETUNREACH.
pub fn connect_error(error: io::Error, address: SocketAddr) -> io::Error {
    if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) && !has_way(address) {
        Errno::NETUNREACH.into()
    } else {
        error
    }
}

/// Whether this machine may reach `address`: false if it has no route to it, or one of the types `unreachable`, `prohibit`
/// and `blackhole` (ip-route(8)), no address to reach it from, or not its family at all. If nothing can be found out, as without descriptors, it is true. No packet is sent, so a router that
/// says ENETUNREACH by ICMP does not count.
pub fn has_way(address: SocketAddr) -> bool {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family(address), SocketType::DGRAM, flags, None);
    // The connect of a UDP socket only looks for a route, and takes none of the ports of TCP.
    let connected = socket.and_then(|socket| rustix::net::connect(socket, &address));
    !matches!(
        connected,
        Err(Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::ADDRNOTAVAIL
            | Errno::AFNOSUPPORT)
    )
}

const fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    }
}

/// Binds a socket to an address of this machine. The kernel chooses the port when the socket connects, so that one
/// port serves connections to several addresses; chosen by the bind, it would serve one alone.
fn bind_source(socket: BorrowedFd<'_>, source: IpAddr) -> io::Result<()> {
    // The option is one of IP for sockets of IPv6 too.
    set_int(socket, [libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT], 1)?;
    Ok(rustix::net::bind(socket, &SocketAddr::new(source, 0))?)
}

/// The local ports that the kernel chooses from (`ip_local_port_range`) in the network of this thread.
pub fn local_ports() -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = text.split_ascii_whitespace().map(str::parse);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}

/// A type that owns one open descriptor, alone or with others, as long as it lives.
pub(super) trait Owned: AsRawFd {}
impl Owned for OwnedFd {}
impl Owned for Arc<Socket> {}

/// Registers a socket with the epoll of this thread's runtime.
pub(super) fn register<T: Owned>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `Owned` has an open descriptor, always returns the same one, and keeps it open until
    // it is dropped. The `AsyncFd` owns the `Owned`, and no caller takes it out.
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
/// (SIOCOUTQ, tcp(7)); a FIN counts as one.
pub(super) fn send_queue(socket: impl AsFd) -> rustix::io::Result<u64> {
    // TIOCOUTQ is the name of the same request in libc.
    #[expect(clippy::cast_possible_truncation, reason = "a request has 32 bits")]
    const REQUEST: Opcode = libc::TIOCOUTQ as Opcode;
    // SAFETY: the request writes one int through the pointer that the getter passes, and nothing
    // else. The descriptor is borrowed, so it is open for the whole call.
    #[expect(unsafe_code, reason = "neither socket2 nor rustix has SIOCOUTQ")]
    let queued = unsafe { ioctl(socket, Getter::<REQUEST, libc::c_int>::new()) };
    // The value is a count, although its type is signed.
    queued.map(|queued| u64::from(queued.max(0).unsigned_abs()))
}

/// Sets SO_RCVLOWAT: the socket is readable once that many bytes are queued, or at its end. Each
/// setting raises an edge, so set it only when it changes. It grows the receive buffer, so the caller
/// must bound it. It must be 1 before the relay begins, or the last bytes never wake the relay.
pub fn set_receive_low_water_mark(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_int(socket.as_fd(), [libc::SOL_SOCKET, libc::SO_RCVLOWAT], value)
}

/// Sets an option whose value is an int.
fn set_int(
    socket: BorrowedFd<'_>,
    [level, option]: [libc::c_int; 2],
    value: libc::c_int,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "the size is 4")]
    const LENGTH: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open for the whole call. The pointer and the
    // length describe `value`, which lives until the call returns.
    #[expect(
        unsafe_code,
        reason = "neither socket2 nor rustix sets SO_RCVLOWAT and IP_BIND_ADDRESS_NO_PORT"
    )]
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
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
