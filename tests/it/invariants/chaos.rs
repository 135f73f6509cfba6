//! Invariant 3: one outcome and one step of a counter for each connection, at every scrape.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::it::fixture::{Over, PATIENCE, Portway, config, hello, pause, route, within};
use crate::it::hello::Builder;
use crate::it::metrics::Metrics;
use crate::it::peers::{Backend, Refusing, connect, reset};
use crate::it::process;
use crate::it::random::{Random, count, seed};

/// `PORTWAY_ABORTS` connections end in every possible phase, while the test reads the page ten times
/// a second.
#[test]
fn invariant_3_accepted_is_active_plus_outcomes_at_every_scrape() {
    process::raise_descriptors();
    let many = count("PORTWAY_ABORTS", 1000);
    let seed = seed();
    let backend = Backend::start(move |stream| unreliable(stream, seed));
    let refusing = Refusing::new();
    let toml = config(&[backend.address()], "client_hello_timeout = \"1s\"", "")
        + &route("nobody", refusing.address(), "");
    let portway = Portway::start(&toml);
    let address = portway.address("agents");
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut pages = 0;
            while !over.load(Ordering::Relaxed) {
                pages += u64::from(balanced(&portway.metrics()).is_some());
                pause(Duration::from_millis(100));
            }
            pages
        });
        let ending = Over(&over);
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    while let id @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                        && id < many
                    {
                        end_somewhere(address, &mut Random::new(seed, id));
                    }
                });
            }
        });
        drop(ending);
        assert!(scraper.join().unwrap() > 0);
    });
    let metrics = within(PATIENCE, "nothing is active", || {
        let metrics = portway.metrics();
        balanced(&metrics).filter(|&active| active < 0.5)?;
        Some(metrics)
    });
    let accepted = metrics.sum("portway_connections_accepted_total", &[]);
    assert_eq!(format!("{accepted}"), many.to_string());
    assert!(metrics.sum("portway_endpoint_connections", &[]).abs() < 0.5);
    let outcomes = metrics.outcomes("agents");
    assert!(outcomes.len() >= 9, "too few kinds of end: {outcomes:?}");
    assert!(!outcomes.contains_key("error"), "{outcomes:?}");
}

/// Checks that the equation holds, and returns how many are active. `None` if the page lacks the figures of the
/// predecessor: that process may be too busy to give them in time.
pub(super) fn balanced(metrics: &Metrics) -> Option<f64> {
    metrics.find("portway_predecessor_connections")?;
    let accepted = metrics.sum("portway_connections_accepted_total", &[]);
    let active = metrics.sum("portway_connections_active", &[]);
    let closed = metrics.sum("portway_connections_closed_total", &[]);
    // After a takeover the counters include those of the process before it, which counts its connections for itself.
    let active = active + metrics.sum("portway_predecessor_connections", &[]);
    assert!(active >= 0.0, "{active} active");
    let difference = accepted - active - closed;
    assert!(
        difference.abs() < 0.5,
        "{accepted} accepted, {active} active, {closed} closed"
    );
    Some(active)
}

pub(super) fn end_somewhere(portway: SocketAddr, random: &mut Random) {
    let mut client = connect(portway);
    let hello = hello();
    let phase = random.below(10);
    let bytes = match phase {
        0 => Vec::new(),
        1 => hello[..usize::try_from(1 + random.below(60)).unwrap()].to_vec(),
        2 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        3 => Builder::new("nobody.example").build(),
        4 => Builder::new("unknown.example").build(),
        5 => hello,
        _ => [
            hello,
            vec![0x17; usize::try_from(random.magnitude(200_000)).unwrap()],
        ]
        .concat(),
    };
    // Each of these fails if the other side has ended already.
    drop(client.write_all(&bytes));
    if random.percent(40) {
        pause(Duration::from_millis(random.below(20)));
    }
    match random.below(6) {
        0 | 1 => reset(client),
        2 => drop(client),
        3 if phase != 0 => read_out(client),
        4 => {
            drop(client.shutdown(Shutdown::Write));
            read_out(client);
        }
        _ => {
            drop(client.shutdown(Shutdown::Write));
            drop(client.read(&mut [0; 100]));
            reset(client);
        }
    }
}

/// Reads until the end or an error, for a second and a half at most.
fn read_out(mut client: TcpStream) {
    client
        .set_read_timeout(Some(Duration::from_millis(1500)))
        .unwrap();
    let mut buffer = [0; 4096];
    while let Ok(1..) = client.read(&mut buffer) {}
}

/// A backend that ends a connection in one of several ways.
pub(super) fn unreliable(mut stream: TcpStream, seed: u64) {
    // The peer may be gone by now.
    let Ok(peer) = stream.peer_addr() else { return };
    let mut random = Random::new(seed, u64::from(peer.port()));
    let mut buffer = vec![0; 16 << 10];
    let way = random.below(5);
    if way == 0 {
        return reset(stream);
    }
    if way == 1 {
        return;
    }
    for _ in 0..=random.below(8) {
        match stream.read(&mut buffer) {
            Ok(count @ 1..) if stream.write_all(&buffer[..count]).is_ok() => {}
            Ok(_) | Err(_) => return,
        }
    }
    if way == 2 {
        return reset(stream);
    }
    if way == 3 {
        drop(stream.shutdown(Shutdown::Write));
    }
    read_out(stream);
}
