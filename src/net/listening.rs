//! Listening sockets, and the connections that they accept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::LegOptions;
use super::socket::{local_address, register, set_stream_options};

/// Connections that may wait in the queue. The kernel limits this to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// A new connection, not registered with any runtime yet.
#[derive(Debug)]
pub struct Accepted {
    /// The socket: non-blocking, with the options of its listener.
    pub socket: OwnedFd,
    /// The canonical address of the peer.
    pub client: SocketAddr,
    /// When it was accepted.
    pub at: Instant,
}

/// A listening socket registered with a worker's epoll.
#[derive(Debug)]
pub struct Listening(AsyncFd<Arc<Socket>>);

impl Listening {
    /// Registers a listening socket with the runtime of this thread. It closes when its last owner
    /// drops it.
    pub fn register(socket: Arc<Socket>) -> io::Result<Self> {
        register(socket, Interest::READABLE).map(Self)
    }

    /// Whether it listens on this socket.
    pub fn is_of(&self, socket: &Arc<Socket>) -> bool {
        Arc::ptr_eq(self.0.get_ref(), socket)
    }

    /// Waits for a connection and accepts it.
    pub async fn accept(&self) -> rustix::io::Result<Accepted> {
        loop {
            let mut guard = self.0.readable().await.map_err(|_gone| Errno::CANCELED)?;
            match self.accept_now() {
                Err(Errno::AGAIN) => guard.clear_ready(),
                result => return result,
            }
        }
    }

    /// Accepts a connection that waits in the queue, or fails with EAGAIN.
    pub fn accept_now(&self) -> rustix::io::Result<Accepted> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (socket, address) = rustix::net::acceptfrom_with(self.0.get_ref(), flags)?;
        let client = address.and_then(|address| SocketAddr::try_from(address).ok());
        let client = client.ok_or(Errno::CONNABORTED)?;
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Ok(Accepted {
            socket,
            client,
            at: Instant::now(),
        })
    }
}

/// Binds one listening socket. `[::]` takes IPv4 too; if the host has no IPv6, it becomes `0.0.0.0`.
pub fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = open(address, Bind::default())?;
    listen(&socket)?;
    Ok(socket)
}

/// Binds `count` sockets at one address, which do not [`listen`] yet. The kernel will spread new
/// connections among them.
///
/// SO_REUSEPORT alone would silently share the address with any other process of the same user. So the
/// address is first bound once without it, which fails if any process uses it. `beside_own` skips that,
/// because a socket of our own that is about to close still has the port. With `is_free` the host need not have the
/// address yet.
pub fn bind_group(
    address: SocketAddr,
    count: usize,
    is_free: bool,
    beside_own: bool,
) -> io::Result<Vec<Socket>> {
    let bind = |is_shared| Bind { is_shared, is_free };
    let bound = if beside_own {
        address
    } else {
        local_address(&open(address, bind(false))?)?
    };
    (0..count).map(|_| open(bound, bind(true))).collect()
}

/// How an address is bound.
#[derive(Clone, Copy, Default)]
struct Bind {
    /// Other sockets of the same user may have it too (SO_REUSEPORT).
    is_shared: bool,
    /// The host need not have it (IP_FREEBIND, ip(7)). Connections come once it does.
    is_free: bool,
}

/// Whether another socket has an address that we want to bind.
pub fn is_busy(address: SocketAddr) -> bool {
    try_open(address, Bind::default()).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Adopts a listening socket that another process has opened: sets the options of our own sockets.
pub fn adopt(socket: Socket) -> io::Result<Socket> {
    if !socket.is_listener()? {
        return Err(io::Error::other(
            "the socket that was passed does not listen",
        ));
    }
    set_stream_options(socket.as_fd())?;
    LegOptions::DEFAULT.apply(&socket)?;
    socket.set_nonblocking(true)?;
    listen(&socket)?;
    Ok(socket)
}

/// Makes a bound socket listen.
pub fn listen(socket: &Socket) -> io::Result<()> {
    socket.listen(BACKLOG)
}

fn open(address: SocketAddr, bind: Bind) -> io::Result<Socket> {
    match try_open(address, bind) {
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                && address.is_ipv6()
                && address.ip().is_unspecified() =>
        {
            tracing::warn!(%address, "this host has no IPv6: listening on 0.0.0.0 instead");
            let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            try_open(any, bind)
        }
        result => result,
    }
}

fn try_open(address: SocketAddr, bind: Bind) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // Without SO_REUSEADDR a restart fails for a minute because of connections in TIME_WAIT. It does
    // not let two listening sockets share an address.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if bind.is_shared {
        socket.set_reuse_port(true)?;
    }
    if bind.is_free && address.is_ipv6() {
        socket.set_freebind_v6(true)?;
    } else if bind.is_free {
        socket.set_freebind_v4(true)?;
    }
    set_stream_options(socket.as_fd())?;
    LegOptions::DEFAULT.apply(&socket)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn an_address_in_use_is_an_error_also_when_its_user_would_share_it() {
        let group = bind_group("127.0.0.1:0".parse().unwrap(), 2, false, false).unwrap();
        for socket in &group {
            listen(socket).unwrap();
        }
        let address = local_address(&group[0]).unwrap();
        assert_eq!(local_address(&group[1]).unwrap(), address);
        let taken = bind_group(address, 1, false, false).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_accepted_socket_has_the_options_of_its_listener() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let socket = bind("[::]:0".parse().unwrap()).unwrap();
            let port = local_address(&socket).unwrap().port();
            let peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let accepted = Listening::register(Arc::new(socket))
                .unwrap()
                .accept()
                .await
                .unwrap();
            assert_eq!(accepted.client, peer.local_addr().unwrap(), "canonical");
            let socket = &accepted.socket;
            assert!(sockopt::tcp_nodelay(socket).unwrap());
            assert!(sockopt::socket_oobinline(socket).unwrap());
            assert!(sockopt::socket_keepalive(socket).unwrap());
            assert!(sockopt::tcp_quickack(socket).unwrap());
            assert_eq!(
                sockopt::tcp_keepidle(socket).unwrap(),
                LegOptions::DEFAULT.keepalive.idle
            );
            assert_eq!(sockopt::tcp_keepcnt(socket).unwrap(), 3);
            let unsent = socket2::SockRef::from(socket).tcp_notsent_lowat().unwrap();
            assert_eq!(unsent, LegOptions::DEFAULT.max_unsent);
        });
    }
}
