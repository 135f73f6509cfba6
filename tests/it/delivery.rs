//! Bytes that one side has sent and a relay has accepted reach the other side, however slowly it reads,
//! even if a limit strikes or the relay drains or is succeeded. HAProxy and nginx run beside it with the
//! same limits.

mod relays;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Barrier, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};

use super::fixture::{PATIENCE, Portway, config, hello, message, pause, within};
use super::others::Program;
use super::peers::{ANSWER, End, read_to_end};
use relays::{Limit, Relay};

/// Bytes after which portway splices.
const BULK: usize = 20 << 20;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

/// How the receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    /// Reads a little all the time.
    Slow,
    /// Reads nothing for a while, then everything.
    Paused,
}

/// One connection of the table.
#[derive(Clone, Copy, Debug)]
struct Cell {
    limit: Limit,
    way: Way,
    /// [`BULK`] bytes go first at full speed, so that portway splices.
    spliced: bool,
    receiver: Receiver,
}

impl Cell {
    fn all(limit: Limit) -> Vec<Self> {
        let mut cells = Vec::new();
        for way in [Way::Down, Way::Up] {
            for spliced in [false, true] {
                for receiver in [Receiver::Slow, Receiver::Paused] {
                    cells.push(Self {
                        limit,
                        way,
                        spliced,
                        receiver,
                    });
                }
            }
        }
        cells
    }

    /// More than fits into the kernel only if portway has to wait for the receiver.
    const fn payload(self) -> usize {
        match self.limit {
            Limit::Stall => 6 << 20,
            Limit::Idle | Limit::HalfClose | Limit::Drain | Limit::Takeover => 900_000,
        }
    }

    /// Opens a connection through a relay; returns sender and receiver. Connections are opened one after the
    /// other: among many at once, one could get no time and meet its limit.
    fn connect(self, backend: &Played, relay: SocketAddr) -> [TcpStream; 2] {
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ends = backend.connect(relay);
        if self.way == Way::Down {
            ends.reverse();
        }
        if self.spliced {
            let [sender, receiver] = &mut ends;
            // If a relay cuts the connection, the bytes received show it.
            thread::scope(|scope| {
                scope.spawn(|| sender.write_all(&vec![0; BULK]));
                drop(receiver.read_exact(&mut vec![0; BULK]));
            });
        }
        ends
    }

    /// Sends the payload and receives it. If the test causes the limit, receiving begins once all have sent.
    fn play(self, [mut sender, mut receiver]: [TcpStream; 2], sent: &Barrier) -> Received {
        thread::scope(|scope| {
            let sending = scope.spawn(move || {
                drop(sender.write_all(&CONTENT[..self.payload()]));
                if self.limit.is_a_deed() {
                    sent.wait();
                }
                if self.limit == Limit::HalfClose {
                    drop(sender.shutdown(Shutdown::Write));
                }
                sender
            });
            if self.limit.is_a_deed() {
                sent.wait();
            }
            let taken = self.receive(&mut receiver);
            // The sender stays open until everything is received: its close is another test.
            drop(sending.join().unwrap());
            taken
        })
    }

    /// Receives for several times as long as the limit. A stall limit is the exception, because it exists to
    /// cut a receiver that pauses for longer.
    fn receive(self, stream: &mut TcpStream) -> Received {
        // Less than what must be read to make room for a write in a full send queue.
        const PIECE: usize = 20_000;
        let slow_for = match self.receiver {
            Receiver::Slow if self.limit == Limit::Stall => 60,
            Receiver::Slow => usize::MAX,
            Receiver::Paused => 0,
        };
        if self.receiver == Receiver::Paused {
            let stalls = self.limit == Limit::Stall;
            pause(Duration::from_millis(if stalls { 500 } else { 12_000 }));
        }
        let mut taken = Received::default();
        let mut buffer = vec![0; PIECE];
        for piece in 0.. {
            let mut left = PIECE.min(self.payload() - taken.bytes);
            // A read with an empty buffer would wait for a byte.
            while left > 0
                && let Ok(count @ 1..) = stream.read(&mut buffer[..left])
            {
                taken.are_others |= buffer[..count] != CONTENT[taken.bytes..][..count];
                taken.bytes += count;
                left -= count;
            }
            if left > 0 || taken.bytes == self.payload() {
                break;
            }
            if piece < slow_for {
                pause(Duration::from_millis(100));
            }
        }
        taken
    }
}

/// The part of a payload that arrived.
#[derive(Debug, Default, PartialEq, Eq)]
struct Received {
    bytes: usize,
    /// Some bytes differ from those that were sent.
    are_others: bool,
}

/// The longest payload; shorter ones are its beginning.
static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let period: Vec<u8> = (0..251).collect();
    let mut content = period.repeat((6 << 20) / period.len() + 1);
    content[..ANSWER.len()].copy_from_slice(&ANSWER);
    content
});

/// A backend whose connections the test serves itself.
struct Played(TcpListener);

impl Played {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        narrow(&SockRef::from(&listener));
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(64).unwrap();
        Self(listener.into())
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Both ends of a connection through a relay, after the hello.
    fn connect(&self, relay: SocketAddr) -> [TcpStream; 2] {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        narrow(&SockRef::from(&client));
        client.connect(&relay.into()).unwrap();
        let mut client = TcpStream::from(client);
        client.write_all(&hello()).unwrap();
        // Connections without a hello come from the check that the relay listens.
        let backend = loop {
            let (mut backend, _) = self.0.accept().unwrap();
            backend.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut received = hello();
            if backend.read_exact(&mut received).is_ok() {
                break backend;
            }
        };
        for stream in [&client, &backend] {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        [client, backend]
    }
}

/// Makes the receive buffer small, so that bytes on their way wait in the relay's send queue and not at the receiver.
/// Segments are smaller than one read: for a larger one the kernel would announce room only at its next probe.
fn narrow(socket: &SockRef<'_>) {
    socket.set_recv_buffer_size(32 << 10).unwrap();
    socket.set_tcp_mss(16 << 10).unwrap();
}

/// Plays the cells of a limit through portway or another relay; returns what each received. `None` if the machine does not
/// have that one.
fn play(other: Option<Program>, limit: Limit) -> Option<Vec<(Cell, Received)>> {
    let backend = Played::new();
    let mut relay = match other {
        None => Relay::portway(limit, backend.address()),
        Some(other) => Relay::other(other, limit, backend.address())?,
    };
    let cells = Cell::all(limit);
    let address = relay.address();
    let sent = Barrier::new(2 * cells.len() + 1);
    let played = thread::scope(|scope| {
        let playing: Vec<_> = cells
            .into_iter()
            .map(|cell| {
                let ends = cell.connect(&backend, address);
                let sent = &sent;
                scope.spawn(move || (cell, cell.play(ends, sent)))
            })
            .collect();
        if limit.is_a_deed() {
            sent.wait();
            relay.strike(limit);
        }
        let played = playing.into_iter().map(|cell| cell.join().unwrap());
        played.collect()
    });
    if let Some(portway) = relay.as_portway() {
        let lost = |line: &Value| line.get("bytes_unacknowledged").is_some();
        assert_eq!(portway.connections.find(lost), None);
    }
    Some(played)
}

/// portway delivers everything, and so at least what the other relays deliver.
#[test]
fn every_byte_that_was_accepted_is_delivered_whatever_limit_strikes() {
    const OTHERS: [Option<Program>; 3] = [None, Some(Program::Haproxy), Some(Program::Nginx)];
    // All run at once, because they wait most of the time.
    let tables = thread::scope(|scope| {
        let all = Limit::ALL
            .into_iter()
            .flat_map(|limit| OTHERS.map(|other| (limit, other)));
        let playing =
            all.map(|(limit, other)| (limit, other, scope.spawn(move || play(other, limit))));
        let playing: Vec<_> = playing.collect();
        let played = playing.into_iter();
        let played = played.map(|(limit, other, table)| (limit, other, table.join().unwrap()));
        played.collect::<Vec<_>>()
    });
    let mut faults = Vec::new();
    for (limit, other, table) in tables {
        let relay = other.map_or("portway".to_owned(), |program| format!("{program:?}"));
        for (cell, received) in table.into_iter().flatten() {
            let whole = Received {
                bytes: cell.payload(),
                are_others: false,
            };
            let text = format!(
                "{limit:?} {:?} spliced={} {:?}: {relay} {} of {}",
                cell.way, cell.spliced, cell.receiver, received.bytes, whole.bytes
            );
            eprintln!("{text}");
            if other.is_none() && received != whole {
                faults.push(text);
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A connection whose receiver has not read what was sent towards it.
struct Waiting {
    portway: Portway,
    client: TcpStream,
    backend: TcpStream,
}

impl Waiting {
    const SENT: usize = 500_000;

    fn start(limits: &str, keys: &str) -> Self {
        let backend = Played::new();
        let portway = Portway::start(&config(&[backend.address()], limits, keys));
        let [client, mut backend] = backend.connect(portway.address("agents"));
        backend.write_all(&CONTENT[..Self::SENT]).unwrap();
        let down = "portway_bytes_total{backend=\"fleet\",direction=\"backend_to_client\"}";
        within(PATIENCE, "portway has passed everything on", || {
            (portway.count(down) == Self::SENT as u64).then_some(())
        });
        Self {
            portway,
            client,
            backend,
        }
    }

    fn gets_everything(&mut self) {
        let (received, end) = read_to_end(&mut self.client);
        assert!(received == CONTENT[..Self::SENT] && end == End::Fin);
        let line = self.portway.line_of(self.client.local_addr().unwrap());
        assert_eq!(line["outcome"], "closed", "{line}");
    }

    /// Checks its line, which must claim no byte that the client did not get. The client got what its kernel
    /// has acknowledged, and perhaps what it was about to acknowledge.
    fn cut(&mut self, outcome: &str) {
        let line = self.portway.line_of(self.client.local_addr().unwrap());
        assert_eq!(line["outcome"], outcome, "{line}");
        let lost = line["bytes_unacknowledged"].as_u64().unwrap();
        let claimed = line["bytes_backend_to_client"].as_u64().unwrap();
        assert!(lost > 0 && claimed == Self::SENT as u64, "{line}");
        let (received, end) = read_to_end(&mut self.client);
        assert_eq!(end, End::Reset);
        assert!(received.len() as u64 >= claimed - lost, "{line}");
        assert!(received.len() < Self::SENT, "{line}");
        assert!(received == CONTENT[..received.len()]);
    }
}

#[test]
fn bytes_on_their_way_at_the_end_of_a_drain_are_reset_and_logged() {
    let mut waiting = Waiting::start("drain_timeout = \"3s\"", "");
    waiting.portway.signal(Signal::TERM);
    waiting.cut("drained");
    assert_eq!(waiting.portway.wait_exit().code(), Some(0));
}

#[test]
fn a_second_signal_waits_for_no_byte() {
    let mut waiting = Waiting::start("drain_timeout = \"600s\"", "");
    waiting.portway.signal(Signal::TERM);
    let draining = |line: &Value| message(line) == "draining";
    waiting.portway.program.wait(PATIENCE, draining);
    waiting.portway.signal(Signal::TERM);
    assert_eq!(waiting.portway.wait_exit().code(), Some(1));
    waiting.cut("drained");
}

/// The kernel has taken everything, so no write of portway can show that the peer takes nothing more.
#[test]
fn a_receiver_that_takes_nothing_more_of_what_the_kernel_holds_stalls() {
    let keys = "idle_timeout = \"1s\"\nstall_timeout = \"2s\"";
    Waiting::start("", keys).cut("stalled");
}

/// A connection that has closed during a drain of `seconds`, and whose client has not read the answer yet.
fn closed_in_a_drain(seconds: u32) -> Waiting {
    let mut waiting = Waiting::start(&format!("drain_timeout = \"{seconds}s\""), "");
    waiting.portway.signal(Signal::TERM);
    let draining = |line: &Value| message(line) == "draining";
    waiting.portway.program.wait(PATIENCE, draining);
    waiting.client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut waiting.backend).1, End::Fin);
    waiting.backend.shutdown(Shutdown::Both).unwrap();
    waiting
}

/// In a container the kernel's queues end with its last process.
#[test]
fn the_process_stays_until_the_last_bytes_of_closed_connections_are_taken() {
    let mut waiting = closed_in_a_drain(600);
    pause(Duration::from_secs(3));
    assert_eq!(waiting.portway.has_exited(), None);
    waiting.gets_everything();
    assert_eq!(waiting.portway.wait_exit().code(), Some(0));
}

/// If the network outlives the process, the kernel still delivers them.
#[test]
fn the_end_of_a_drain_does_not_reset_connections_that_have_closed() {
    let mut waiting = closed_in_a_drain(10);
    assert_eq!(waiting.portway.wait_exit().code(), Some(0));
    waiting.gets_everything();
}
