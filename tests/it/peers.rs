//! Stand-ins for clients and backends: plain blocking sockets and threads.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sha2::{Digest, Sha256};
use socket2::{Domain, SockRef, Socket, Type};

use super::fixture::{PATIENCE, within};
use super::namespace::{IPV6, granted_by};

pub(crate) use super::random::ANSWER;

/// The length of a [`digest`].
pub(crate) const DIGEST: usize = ANSWER.len() + 32;

/// The SHA-256 of these bytes, in a record.
pub(crate) fn digest(bytes: &[u8]) -> Vec<u8> {
    [&ANSWER[..], &Sha256::digest(bytes)].concat()
}

/// The fatal alert internal_error.
pub(crate) const ALERT_80: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];

/// How a stream ended for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// An orderly end.
    Fin,
    /// ECONNRESET.
    Reset,
    /// Neither came before the read timeout.
    Silence,
}

/// A backend: accepts on port 0 of 127.0.0.1, each connection in its own thread.
pub(crate) struct Backend {
    listener: Arc<TcpListener>,
    accepted: Arc<AtomicUsize>,
    accepting: Option<JoinHandle<()>>,
}

impl Backend {
    /// Runs `serve` for each connection.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_on(bound(), serve)
    }

    /// The same at an address of a network of one's own.
    pub(crate) fn start_at(
        address: SocketAddr,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        Self::start_on(bound_again(address), serve)
    }

    /// The same on a bound socket.
    fn start_on(listener: Socket, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        // The standard library's 128 overflow when many tests dial at once.
        listener.listen(4096).unwrap();
        let listener = Arc::new(TcpListener::from(listener));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (socket, count, serve) = (
            Arc::clone(&listener),
            Arc::clone(&accepted),
            Arc::new(serve),
        );
        let accepting = thread::spawn(move || {
            // Ends when Drop shuts the socket down.
            while let Ok((stream, _)) = socket.accept() {
                count.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let serve = Arc::clone(&serve);
                let build = thread::Builder::new().stack_size(256 << 10);
                build.spawn(move || serve(stream)).unwrap();
            }
        });
        Self {
            listener,
            accepted,
            accepting: Some(accepting),
        }
    }

    /// Reads to the end, then answers with the digest of what came and closes.
    pub(crate) fn digesting() -> Self {
        Self::start(|mut stream| {
            let (bytes, end) = read_to_end(&mut stream);
            if end == End::Fin {
                // The client may be gone.
                drop(stream.write_all(&digest(&bytes)));
            }
        })
    }

    /// Sends back what it receives.
    pub(crate) fn echo() -> Self {
        Self::start(echo)
    }

    /// The same at an address of a network of one's own.
    pub(crate) fn echo_at(address: SocketAddr) -> Self {
        Self::start_at(address, echo)
    }

    /// Reads nothing, sends nothing, and holds what it accepts until it is dropped.
    pub(crate) fn holding() -> Self {
        let held = Mutex::new(Vec::new());
        Self::start(move |stream| held.lock().unwrap().push(stream))
    }

    /// Sends for ever.
    pub(crate) fn flooding() -> Self {
        Self::start(|mut stream| {
            stream.set_write_timeout(None).unwrap();
            let mut bytes = [0x17; 16 << 10];
            bytes[..ANSWER.len()].copy_from_slice(&ANSWER);
            while stream.write_all(&bytes).is_ok() {}
        })
    }

    /// The address to dial.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Waits for that many connections.
    pub(crate) fn wait_accepted(&self, count: usize) {
        let what = format!("{count} connections at the backend");
        within(PATIENCE, &what, || (self.accepted() >= count).then_some(()));
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Wakes the accept; the socket itself may stay with it for a moment.
        drop(SockRef::from(&*self.listener).shutdown(Shutdown::Both));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

/// Sends back what it receives.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
}

/// An address where connections are refused for as long as the value lives.
pub(crate) struct Refusing(Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        Self(bound())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

/// A listener whose queue is full: a dial gets no answer at all.
pub(crate) struct Unanswering {
    listener: Socket,
    _queue: Vec<Socket>,
}

impl Unanswering {
    pub(crate) fn new() -> Self {
        Self::on(bound())
    }

    /// The same at this address, which [`free`] may have reserved.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self::on(bound_again(address))
    }

    fn on(listener: Socket) -> Self {
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        // Two connections fill it; the third waits in vain. Until the first one is there, the kernel answers each dial.
        within(PATIENCE, "its queue is full", || {
            let socket = Socket::new(address.domain(), Type::STREAM, None).unwrap();
            drop(socket.connect_timeout(&address, Duration::from_millis(100)));
            queue.push(socket);
            let is_full = queue.len() > 2 && has_queued(address.as_socket().unwrap());
            is_full.then_some(())
        });
        Self {
            listener,
            _queue: queue,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

/// Whether a connection waits in the queue of a listener, by the table of this thread's network.
fn has_queued(listener: SocketAddr) -> bool {
    let (table, octets) = match listener.ip() {
        IpAddr::V4(ip) => ("tcp", ip.octets().to_vec()),
        IpAddr::V6(ip) => ("tcp6", ip.octets().to_vec()),
    };
    // Each four bytes are in the byte order of memory.
    let ip = octets.chunks(4).fold(String::new(), |text, word| {
        let word = u32::from_ne_bytes(word.try_into().unwrap());
        text + &format!("{word:08X}")
    });
    let place = format!("{ip}:{:04X}", listener.port());
    let table = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
    table.lines().any(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        // The state of a listener, and nothing to send beside something to receive.
        fields.get(1) == Some(&&*place)
            && fields.get(3) == Some(&"0A")
            && fields
                .get(4)
                .is_some_and(|queues| !queues.ends_with(":00000000"))
    })
}

/// A socket at an address at which there may have been one before.
fn bound_again(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bind(&socket);
    socket
}

fn bind(socket: &Socket) {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&address.into()).unwrap();
}

/// Whether this network has IPv6. A test that needs it did not run otherwise, and fails if
/// `PORTWAY_NAMESPACES=required` is set.
pub(crate) fn has_ipv6() -> bool {
    let bound = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    granted_by(IPV6, bound.map_err(|error| format!("no IPv6: {error}"))).is_some()
}

/// An address for a relay that cannot use port 0. A socket reserves it, without listening, for as long as this
/// process lives: the kernel then gives the port only to processes that ask for it.
pub(crate) fn free() -> SocketAddr {
    free_at(Ipv4Addr::LOCALHOST.into())
}

/// The same at this address of the machine.
pub(crate) fn free_at(ip: IpAddr) -> SocketAddr {
    let address = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket);
    address
}

/// Connects a client, with time limits on its reads and writes.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether nobody listens there.
pub(crate) fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Reads everything up to the end. Returns the bytes and the kind of end.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, End::Fin),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Reset),
            Err(error) if is_timeout(&error) => return (bytes, End::Silence),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
        }
    }
}

pub(crate) fn is_timeout(error: &std::io::Error) -> bool {
    [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind())
}

/// Writes until nothing has been taken for a while, so that every buffer on the way is full.
pub(crate) fn fill(mut stream: &TcpStream) {
    const A_WHILE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 300_000_000,
    };
    let block = vec![0x17; 64 << 10];
    stream.set_nonblocking(true).unwrap();
    while poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&A_WHILE)).unwrap() > 0 {
        while stream.write(&block).is_ok() {}
    }
    stream.set_nonblocking(false).unwrap();
}

/// Waits for the error of a socket that nobody reads: a RST that came after the FIN. `None` if none
/// comes.
pub(crate) fn error_within(stream: &TcpStream, patience: Duration) -> Option<ErrorKind> {
    let mut wanted = [PollFd::new(stream, PollFlags::empty())];
    let patience = Timespec::try_from(patience).unwrap();
    let told = poll(&mut wanted, Some(&patience)).unwrap();
    // POLLHUP alone means both directions ended in order.
    if told == 0 {
        None
    } else {
        stream.take_error().unwrap().map(|error| error.kind())
    }
}

/// Closes with a RST.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// Sends one byte as urgent data.
pub(crate) fn send_urgent(stream: &TcpStream, byte: u8) {
    assert_eq!(SockRef::from(stream).send_out_of_band(&[byte]).unwrap(), 1);
}
