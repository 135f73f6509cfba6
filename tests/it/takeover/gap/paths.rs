//! How many check-ins cross the end of their connection over long paths. `--nocapture` shows the figures.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::{AT_ONCE, Client, EVERY, HELD, REQUEST, Served, server};
use crate::it::emulator::{Conduct, FAR, NEAR, over_a_path};
use crate::it::fixture::{NAME, Over, PATIENCE, Portway, pause};
use crate::it::peers::{Backend, connect};
use crate::it::takeover::with_ports;

const AGENTS: u64 = 24;

/// The ends of the check-ins of all agents.
#[derive(Default)]
struct Fleet {
    /// From an answer to the next check-in.
    rest: Duration,
    /// Agents that came back after their connection had ended in a pause.
    moved: AtomicU64,
    /// Check-ins that were sent on a connection whose end was on the way.
    crossed: AtomicU64,
    /// Agents make no further check-in.
    is_over: AtomicBool,
}

impl Fleet {
    /// Checks in again and again, as Go's client does: on a connection that has ended it sends nothing, and dials anew.
    fn check_in(&self, portway: SocketAddr, tls: &Arc<ClientConfig>) {
        let mut client = enrolled(portway, tls);
        while !self.is_over.load(Ordering::SeqCst) {
            if has_ended(&client) {
                self.moved.fetch_add(1, Ordering::SeqCst);
                client = enrolled(portway, tls);
            }
            let sent = client.write_all(&[b'r'; REQUEST]);
            if sent
                .and_then(|()| client.read_exact(&mut [0; 700]))
                .is_err()
            {
                self.crossed.fetch_add(1, Ordering::SeqCst);
                client = enrolled(portway, tls);
            }
            pause(self.rest);
        }
    }
}

/// A connection with a first request, behind which session tickets may have come.
fn enrolled(portway: SocketAddr, tls: &Arc<ClientConfig>) -> Client {
    let connection = ClientConnection::new(Arc::clone(tls), NAME.try_into().unwrap()).unwrap();
    let mut client = StreamOwned::new(connection, connect(portway));
    client.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&[AT_ONCE; REQUEST]).unwrap();
    client.read_exact(&mut [0; 700]).unwrap();
    client
}

/// The FIN has come, or a RST.
fn has_ended(client: &Client) -> bool {
    client.sock.set_nonblocking(true).unwrap();
    let has_ended = match client.sock.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    };
    client.sock.set_nonblocking(false).unwrap();
    has_ended
}

/// Answers each check-in after a while, at once where it is asked to.
fn fleet_server(mut served: Served) {
    let mut request = [0; REQUEST];
    while served.read_exact(&mut request).is_ok() {
        if request[0] != AT_ONCE {
            pause(HELD);
        }
        if served.write_all(&[b'a'; 700]).is_err() {
            return;
        }
    }
}

/// Takes over beneath agents at the far end of the path, with a server there or near. Returns the counts of moved agents
/// and of check-ins that crossed.
fn take_over(round_trip: Duration, server_is_far: bool) -> (u64, u64) {
    // Agents rest for a second. portway ends a connection half a second behind an answer: where the path takes no time,
    // a delayed machine must not let the next check-in cross that end.
    let rest = Duration::from_secs(if round_trip.is_zero() { 3 } else { 1 });
    let mut counts = (0, 0);
    over_a_path(Conduct::round_trip(round_trip), |path| {
        let start = || -> (Backend, Arc<ClientConfig>) {
            let host = if server_is_far { FAR } else { NEAR };
            server(EVERY[0], format!("{host}:0").parse().unwrap(), fleet_server)
        };
        let (backend, tls) = if server_is_far {
            path.far.run(start)
        } else {
            start()
        };
        // Every agent has a gap long before portway resets connections.
        let toml = with_ports(backend.address(), "takeover_timeout = \"100s\"");
        let (here, near) = ("bind = [\"127.0.0.1", format!("bind = [\"{NEAR}"));
        let mut portway = Portway::start(&toml.replace(here, &near));
        let address = portway.address("agents");
        let fleet = Fleet {
            rest,
            ..Fleet::default()
        };
        // It serves the agents until the last one has got its answer.
        let _next = thread::scope(|scope| {
            for _ in 0..AGENTS {
                scope.spawn(|| path.far.run(|| fleet.check_in(address, &tls)));
            }
            let over = Over(&fleet.is_over);
            backend.wait_accepted(usize::try_from(AGENTS).unwrap());
            let next = portway.start_beside(&["--takeover"]);
            portway.tells("draining");
            assert_eq!(portway.wait_exit().code(), Some(0));
            drop(over);
            next
        });
        let line = portway.tells("the drain has ended");
        let fields = &line["fields"];
        assert_eq!(fields["ended_between_requests"], AGENTS, "{fields}");
        counts = (
            fleet.moved.load(Ordering::SeqCst),
            fleet.crossed.load(Ordering::SeqCst),
        );
        let counted = fields["requests_crossed"].as_u64().unwrap_or(0);
        assert_eq!(counted, counts.1, "{fields}");
    });
    counts
}

#[test]
fn check_ins_over_a_long_path_move_to_the_successor_and_those_that_cross_are_counted() {
    thread::scope(|scope| {
        for (milliseconds, server_is_far) in [(0, false), (50, true), (200, false), (200, true)] {
            scope.spawn(move || {
                let (moved, crossed) = take_over(Duration::from_millis(milliseconds), server_is_far);
                let also = if server_is_far { " and as far to the server" } else { "" };
                eprintln!(
                    "{milliseconds} ms to portway{also}: {moved} agents moved, {crossed} check-ins crossed"
                );
                assert!(crossed == 0 || milliseconds > 0);
            });
        }
    });
}
