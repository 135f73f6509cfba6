//! Long paths: `cargo bench --bench paths`.
//!
//! How long a transfer and the first byte of an answer take through portway, through other relays and without one, where
//! the agents or the servers are 0, 50 or 200 ms away. The path is a program of the tests that delays packets, so it
//! needs root and iptables, and what counts are the ratios of a row.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a table is what it is for"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the supports of tests fail by a panic, and so does this"
)]
#![expect(
    unreachable_pub,
    reason = "nothing is reachable from outside of a program"
)]

#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/emulator.rs"]
mod emulator;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/far.rs"]
mod far;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/hello.rs"]
mod hello;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/namespace.rs"]
mod namespace;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/it/random.rs"]
mod random;
#[expect(
    dead_code,
    reason = "shared with the other benchmark, which asks for more"
)]
#[path = "../peers/relay.rs"]
mod relay;
#[expect(
    dead_code,
    reason = "shared with the other benchmark, which uses the rest"
)]
#[path = "../peers/relays/mod.rs"]
mod relays;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/required.rs"]
mod required;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::emulator::{Conduct, Emulator, FAR, NEAR, over_a_path};
use crate::far::shell;
use crate::hello::Builder;
use crate::relay::Relay;
use crate::relays::{Kind, Relays};

const KINDS: [Kind; 4] = [Kind::Direct, Kind::Portway, Kind::Haproxy, Kind::Nginx];
const ROUND_TRIPS: [u64; 3] = [0, 50, 200];
const BYTES: usize = 16 << 20;
const ROUNDS: usize = 3;

/// Leads the far clients to a listener on loopback.
const LEAD_IN: &str = "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet && \
     iptables -t nat -A PREROUTING -i near -p tcp -j DNAT --to-destination 127.0.0.1";

/// The peers at the far end of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Agents,
    Servers,
}

/// A measurement: what is sent behind the hello, and what comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    FirstByte,
    Download,
    Upload,
}

impl Work {
    const ALL: [Self; 3] = [Self::FirstByte, Self::Download, Self::Upload];

    const fn sizes(self) -> (usize, usize) {
        match self {
            Self::FirstByte => (1, 1),
            Self::Download => (1, BYTES),
            Self::Upload => (BYTES, 1),
        }
    }
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("paths: nothing is measured without --bench; call cargo bench --bench paths");
        return;
    }
    let kinds: Vec<Kind> = KINDS
        .into_iter()
        .filter(|kind| match kind.version() {
            Ok(version) => {
                println!("{}: {version}", kind.name());
                true
            }
            Err(skipped) => {
                println!("not run: {}: {}", kind.name(), skipped.0);
                false
            }
        })
        .collect();
    for side in [Side::Agents, Side::Servers] {
        for millis in ROUND_TRIPS {
            let conduct = Conduct::round_trip(Duration::from_millis(millis));
            over_a_path(conduct, |path| {
                if side == Side::Agents {
                    shell(LEAD_IN).unwrap();
                }
                for work in Work::ALL {
                    row(path, side, work, millis, &kinds);
                }
            });
        }
    }
}

/// Prints the medians of all relays.
fn row(path: &Emulator, side: Side, work: Work, millis: u64, kinds: &[Kind]) {
    let mut times = vec![Vec::new(); kinds.len()];
    for _ in 0..ROUNDS {
        for (kind, times) in kinds.iter().zip(&mut times) {
            times.push(measure(path, side, work, *kind));
        }
    }
    let cells = kinds.iter().zip(&mut times).map(|(kind, times)| {
        times.sort();
        format!("{} {:.3} s", kind.name(), times[ROUNDS / 2].as_secs_f64())
    });
    let cells: Vec<String> = cells.collect();
    println!("{side:?} {millis} ms away, {work:?}: {}", cells.join(", "));
}

/// The time from the connect to the last byte that comes back.
fn measure(path: &Emulator, side: Side, work: Work, kind: Kind) -> Duration {
    let (request, answer) = work.sizes();
    let hello = Builder::new("fleet.example.com").build();
    let sent = hello.len() + request;
    let serve = |address: &str| {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (
            address,
            thread::spawn(move || serve(&listener, sent, answer)),
        )
    };
    let (backend, serving) = match side {
        Side::Agents => serve("127.0.0.1:0"),
        Side::Servers => path.far.run(|| serve(&format!("{FAR}:0"))),
    };
    let relays = Relays::new(1).unwrap();
    let running = relays.start(kind, backend).unwrap();
    let took = match side {
        Side::Agents => {
            let near = SocketAddr::new(NEAR.parse().unwrap(), running.address().port());
            path.far.run(|| ask(near, &hello, request, answer))
        }
        Side::Servers => ask(running.address(), &hello, request, answer),
    };
    drop(running);
    serving.join().unwrap();
    took
}

fn ask(address: SocketAddr, hello: &[u8], request: usize, answer: usize) -> Duration {
    let begun = Instant::now();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_nodelay(true).unwrap();
    client
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    client.write_all(hello).unwrap();
    client.write_all(&vec![7; request]).unwrap();
    client.read_exact(&mut vec![0; answer]).unwrap();
    begun.elapsed()
}

/// Answers the first connection that sends everything: a relay may have tried the address before.
fn serve(listener: &TcpListener, request: usize, answer: usize) {
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        if stream.read_exact(&mut vec![0; request]).is_ok() {
            stream.set_nodelay(true).unwrap();
            stream.write_all(&vec![7; answer]).unwrap();
            return;
        }
    }
}
