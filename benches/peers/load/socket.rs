//! Sockets and epoll, for both ends.

use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

pub(crate) use rustix::event::epoll::EventFlags;

/// The number of source addresses from 127.0.0.2 on. A client that closes first leaves its port in
/// TIME_WAIT, so one address would soon have no port left.
const SOURCE_ADDRESSES: u32 = 199;

/// The first port of each source: below the ports that the kernel gives to others.
const FIRST_PORT: u16 = 10_000;
const SOURCE_PORTS: u32 = 22_000;

/// How many sources in a row may be in use by others.
const TRIES: usize = 100;

fn next_source() -> SocketAddrV4 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let host = u32::from(Ipv4Addr::LOCALHOST) + 1 + number % SOURCE_ADDRESSES;
    let port = u16::try_from(number / SOURCE_ADDRESSES % SOURCE_PORTS).unwrap_or_default();
    SocketAddrV4::new(host.into(), FIRST_PORT + port)
}

/// Opens a socket without Nagle's algorithm, and begins to connect it to `address` from the next source.
pub(crate) fn connect(address: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    let mut bound = Err(Errno::ADDRINUSE);
    for _ in 0..TRIES {
        bound = rustix::net::bind(&socket, &next_source());
        if bound != Err(Errno::ADDRINUSE) {
            break;
        }
    }
    bound?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Waits until a connect is done, and sends `bytes`, for which a new socket has room.
pub(crate) fn finish(socket: &OwnedFd, bytes: &[u8], deadline: Instant) -> Result<(), Errno> {
    let left = deadline.saturating_duration_since(Instant::now());
    let mut polled = [PollFd::new(socket, PollFlags::OUT)];
    if poll(&mut polled, Some(&timespec(left)))? == 0 {
        return Err(Errno::TIMEDOUT);
    }
    send_whole(socket, bytes)
}

/// Sends a few bytes on a socket that has room for them.
pub(crate) fn send_whole(socket: &OwnedFd, bytes: &[u8]) -> Result<(), Errno> {
    let sent = rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::NOBUFS)
    }
}

/// A listener on a free port of loopback.
pub(crate) fn listen() -> Result<OwnedFd, Errno> {
    /// The kernel uses somaxconn if that is less.
    const BACKLOG: i32 = 4096;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// An epoll set.
pub(crate) struct Poll {
    epoll: OwnedFd,
}

/// A socket with an event.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) key: usize,
    pub(crate) flags: EventFlags,
}

impl Ready {
    /// Whether a receive would return something: bytes, the end or an error.
    pub(crate) fn readable(self) -> bool {
        let flags = EventFlags::IN | EventFlags::HUP | EventFlags::ERR;
        self.flags.intersects(flags)
    }

    /// Whether a send would return something.
    pub(crate) fn writable(self) -> bool {
        let flags = EventFlags::OUT | EventFlags::HUP | EventFlags::ERR;
        self.flags.intersects(flags)
    }
}

impl Poll {
    /// Events taken at once.
    const EVENTS: usize = 256;

    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    pub(crate) fn add(&self, fd: impl AsFd, key: usize, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, data(key), flags)
    }

    pub(crate) fn change(&self, fd: impl AsFd, key: usize, flags: EventFlags) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, data(key), flags)
    }

    /// Removes a socket. Needed only if the socket stays open, because a close removes it too.
    pub(crate) fn remove(&self, fd: impl AsFd) -> Result<(), Errno> {
        epoll::delete(&self.epoll, fd)
    }

    /// Waits for at most `longest`, and replaces the content of `ready` with the sockets that are ready.
    pub(crate) fn wait(&self, longest: Duration, ready: &mut Vec<Ready>) -> Result<(), Errno> {
        ready.clear();
        // Not kept in the set: events may hold pointers, and the set could then not move to another thread.
        let mut events = [const { MaybeUninit::uninit() }; Self::EVENTS];
        match epoll::wait(&self.epoll, &mut events, Some(&timespec(longest))) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| Ready {
                key: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
                flags: event.flags,
            })),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn data(key: usize) -> epoll::EventData {
    epoll::EventData::new_u64(key as u64)
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
