//! The cost of a look at the live connections for a worker.

use std::io::Write;
use std::net::TcpStream;

use super::fixture::{PATIENCE, Portway, config, within};
use super::peers::Backend;
use super::strace::{Traced, is_missing, tally};

const CONNECTIONS: usize = 50;
const LOOKS: u32 = 40;

/// Asks for a page. Returns its text.
fn page(portway: &Portway, path: &str) -> String {
    let mut stream = TcpStream::connect(portway.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    std::io::read_to_string(stream).unwrap()
}

#[test]
fn invariant_15_a_look_costs_the_worker_a_wake_up_and_no_call_for_a_connection() {
    if is_missing() {
        return;
    }
    let backend = Backend::echo();
    let toml = format!("workers = 1\n{}", config(&[backend.address()], "", ""));
    let traced = Traced::start(&[], &toml);
    let worker = traced.thread("portway-0");
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| traced.portway.relayed()).collect();
    // The options of the leg to the backend are set at the first review of each connection.
    within(PATIENCE, "all are there, and reviewed", || {
        let page = page(&traced.portway, "/connections?limit=1");
        let calls = worker.calls();
        let set = calls
            .iter()
            .filter(|call| call.rest.contains("SO_KEEPALIVE"));
        let is_there = page.contains(&format!("\"total\":{CONNECTIONS},"));
        (is_there && set.count() >= CONNECTIONS).then_some(())
    });
    let before = worker.calls().len();
    for _ in 0..LOOKS {
        let page = page(&traced.portway, "/connections?limit=1000&sort=idle");
        assert!(
            page.contains(&format!("\"matching\":{CONNECTIONS},")),
            "{page}"
        );
        self::page(&traced.portway, "/status");
    }
    let calls = worker.calls();
    let seen = tally(calls.iter().skip(before));
    println!("{LOOKS} looks of each kind: {seen:?}");
    // A look wakes the worker, which sleeps again; ticks come in between, and the heap may grow.
    let of_looks = ["epoll_wait", "futex", "write", "read"];
    let of_memory = [
        "brk", "madvise", "mmap", "mprotect", "munmap", "openat", "close", "fcntl",
    ];
    for (name, count) in &seen {
        let is_known = of_looks.contains(name) || of_memory.contains(name);
        assert!(is_known, "{name}: {count}");
        assert!(*count < 10 * LOOKS, "{name}: {count}");
    }
    drop(clients);
}
