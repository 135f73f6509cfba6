//! A backend that comes and goes (F36).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::it::fixture::{PATIENCE, Portway, config, hello, pause, within};
use crate::it::namespace::in_a_network;
use crate::it::peers::{Backend, Unanswering, connect, free};
use crate::it::process;

const MAX_DIALS: usize = 4;
/// More than may dial at once, so that some wait for their turn.
const CLIENTS: usize = 12;
/// The address that portway dials from, which tells its dials from others.
const SOURCE: &str = "127.0.0.9";
const PHASE: Duration = Duration::from_secs(1);

/// One client: whether its hello has come back, and the time that it took.
struct Tried {
    served: bool,
    from: Instant,
    to: Instant,
}

/// Connects once, and waits for the answer or the end.
fn try_once(portway: &Portway) -> Tried {
    let from = Instant::now();
    let mut client = connect(portway.address("agents"));
    let sent = client.write_all(&hello());
    let echoed = sent.and_then(|()| client.read_exact(&mut hello()));
    let to = Instant::now();
    drop(client.shutdown(Shutdown::Both));
    Tried {
        served: echoed.is_ok(),
        from,
        to,
    }
}

/// Lets the backend come and go, and returns it with the times in which it was away. It refuses connections then, and
/// every second time it does not answer them. Such a time ends when a client has been served again.
fn flap(mut backend: Backend, portway: &Portway) -> (Backend, Vec<(Instant, Instant)>) {
    let address = backend.address();
    let mut down = Vec::new();
    for round in 0..4 {
        pause(PHASE);
        let from = Instant::now();
        drop(backend);
        let silent = (round % 2 == 1).then(|| Unanswering::at(address));
        pause(PHASE);
        drop(silent);
        backend = Backend::echo_at(address);
        within(PATIENCE, "a client is served again", || {
            try_once(portway).served.then_some(())
        });
        down.push((from, Instant::now()));
    }
    pause(PHASE);
    (backend, down)
}

/// Checks that nothing of the clients is left, and that each slot can be had again.
fn nothing_is_left(portway: &Portway, sockets: usize) {
    let gauges = ["portway_endpoint_connections", "portway_connections_active"];
    within(PATIENCE, "nothing is left", || {
        let metrics = portway.metrics();
        let all: f64 = gauges.iter().map(|gauge| metrics.sum(gauge, &[])).sum();
        // The scrape itself has a socket.
        let held = process::kinds(portway.pid())["socket"];
        (all < 0.5 && held <= sockets + 1).then_some(())
    });
    let served = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| try_once(portway)))
            .collect();
        let tried = clients.into_iter().map(|client| client.join().unwrap());
        tried.filter(|tried| tried.served).count()
    });
    assert_eq!(served, CLIENTS, "each slot is free again");
}

/// The dials under way. The kernel's table is not a snapshot: a dial that ends while it is read and one that begins may
/// both be in it. Those that are in it twice were under way together, at the end of the first reading.
fn dials() -> usize {
    let read = || {
        let sockets = process::sockets().into_iter();
        let dials = sockets.filter(|it| it.local.ip().to_string() == SOURCE && it.is_dialling());
        dials
            .map(|it| (it.local, it.remote))
            .collect::<BTreeSet<_>>()
    };
    let first = read();
    first.intersection(&read()).count()
}

#[test]
fn f36_a_backend_that_flaps_is_dialled_by_few_and_answered_for_all() {
    in_a_network(flapping);
}

fn flapping() {
    let backend = Backend::echo_at(free());
    let address = backend.address();
    let limits = format!(
        "max_dials = {MAX_DIALS}\nsource_addresses = [\"{SOURCE}\"]\n\
         connect_timeout = \"300ms\"\ndial_timeout = \"5s\""
    );
    let portway = Portway::start(&config(&[address], "", &limits));
    let before = process::kinds(portway.pid())["socket"];
    let (tried, ended) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let mut most = 0;
    let (backend, down) = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    let one = try_once(&portway);
                    tried
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(one);
                    pause(Duration::from_millis(5));
                }
            });
        }
        let flapping = scope.spawn(|| flap(backend, &portway));
        while !flapping.is_finished() {
            most = most.max(dials());
            pause(Duration::from_millis(10));
        }
        ended.store(true, Ordering::SeqCst);
        flapping.join().unwrap()
    });
    let tried = tried.into_inner().unwrap();
    let (served, failed): (Vec<_>, Vec<_>) = tried.iter().partition(|one| one.served);
    println!(
        "{} served, {} failed, {most} dials at most",
        served.len(),
        failed.len()
    );
    assert!(!served.is_empty() && !failed.is_empty());
    for one in failed {
        let is_down = |(from, to): &(Instant, Instant)| one.from <= *to && one.to >= *from;
        assert!(
            down.iter().any(is_down),
            "a client failed although the backend was there"
        );
    }
    // A machine that is busy may be too slow to see any.
    assert!(most <= MAX_DIALS, "{most} dials at once");
    nothing_is_left(&portway, before);
    drop(backend);
}
