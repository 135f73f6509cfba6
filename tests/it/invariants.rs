//! The invariants that other modules do not test: what is counted, what a client can put into
//! metrics and log, and what idle, slow and stalled peers cost. 1 and 6 are in `transfers`, 2 and 7
//! in `bad_inputs`, 10 in `faults`.

mod chaos;
mod row;
mod soak;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{PATIENCE, Portway, config, pause, route, within};
use super::hello::Builder;
use super::peers::{Backend, End, connect, fill, read_to_end, reset};
use super::process;
use super::random::{Content, Random, count, seed};

#[test]
fn invariant_4_random_names_make_no_series_and_few_lines() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    // One of each kind comes first, in case a series appears only with its first value.
    ask_for(&portway, b"unknown.example");
    ask_for(&portway, b"\x1b[31m\n");
    let before = portway.metrics();
    let begin = Instant::now();
    let mut random = Random::new(seed(), 0);
    for _ in 0..1000 {
        let name = format!("n{}.example", random.next());
        ask_for(&portway, name.as_bytes());
        let bytes: Vec<u8> = (0..=random.below(60))
            .map(|_| random.next().to_le_bytes()[0])
            .collect();
        ask_for(&portway, &bytes);
    }
    let seconds = usize::try_from(begin.elapsed().as_secs()).unwrap() + 2;
    let after = within(PATIENCE, "each is counted", || {
        let metrics = portway.metrics();
        let counted: f64 = metrics.outcomes("agents").values().sum();
        (counted > 2001.5).then_some(metrics)
    });
    assert_eq!(after.names(), before.names());
    let lines = portway.connections.all();
    assert!(
        lines.iter().all(Value::is_object),
        "a line is not JSON: {}",
        portway.connections.tail()
    );
    let most = 2 * 11 * seconds;
    assert!(lines.len() <= most, "{} lines in {seconds} s", lines.len());
    assert_eq!(backend.accepted(), 0);
}

fn ask_for(portway: &Portway, name: &[u8]) {
    let mut client = connect(portway.address("agents"));
    client.write_all(&Builder::new(name).build()).unwrap();
    let (bytes, end) = read_to_end(&mut client);
    assert_eq!((bytes, end), (vec![0x15, 3, 3, 0, 2, 2, 112], End::Fin));
}

#[test]
fn invariant_5_an_idle_connection_holds_two_sockets_and_little_memory_and_wakes_nobody() {
    let many = usize::try_from(count("PORTWAY_IDLE", 4500)).unwrap();
    process::raise_descriptors();
    let backend = Backend::holding();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&format!("workers = 2\n{toml}"));
    let pid = portway.pid();
    let first = portway.client();
    backend.wait_accepted(1);
    reset(first);
    until_active(&portway, 0.0);
    let (descriptors, resident) = (process::descriptors(pid), process::resident(pid));
    let mut clients: Vec<TcpStream> = Vec::with_capacity(many);
    for made in 0..many {
        clients.push(portway.client());
        if made % 64 == 63 {
            backend.wait_accepted(made - 30);
        }
    }
    backend.wait_accepted(many + 1);
    until_active(&portway, f64::from(u32::try_from(many).unwrap()));
    let held = process::descriptors(pid) - descriptors;
    assert!(
        held <= 2 * many + 4,
        "{held} descriptors for {many} connections"
    );
    let bytes = process::resident(pid).saturating_sub(resident) / u64::try_from(many).unwrap();
    assert!(bytes < 3 << 10, "{bytes} bytes for an idle connection");
    let (before, begin) = (process::wake_ups(pid), Instant::now());
    pause(Duration::from_secs(10));
    let woken = process::wake_ups(pid) - before;
    // Each thread ticks once a second, which tokio's timer wheel turns into two wake-ups.
    let seconds = begin.elapsed().as_secs();
    assert!(woken <= 10 * seconds, "{woken} in {seconds} s");
    clients.into_iter().for_each(reset);
    until_active(&portway, 0.0);
    within(PATIENCE, "descriptors are given back", || {
        (process::descriptors(pid) <= descriptors + 4).then_some(())
    });
}

fn until_active(portway: &Portway, count: f64) {
    within(PATIENCE, &format!("{count} connections are active"), || {
        let active = portway.metrics().sum("portway_connections_active", &[]);
        ((active - count).abs() < 0.5).then_some(())
    });
}

#[test]
fn invariant_9_stalled_peers_delay_nobody_else() {
    process::raise_descriptors();
    let echo = Backend::echo();
    let (deaf, chatty) = (Backend::holding(), Backend::flooding());
    let toml = config(&[echo.address()], "client_hello_timeout = \"60s\"", "")
        + &route("deaf", deaf.address(), "")
        + &route("chatty", chatty.address(), "");
    let portway = Portway::start(&toml);
    let (mut stalled, mut filled) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        let mut half = connect(portway.address("agents"));
        half.write_all(&Builder::new("deaf.example").build()[..40])
            .unwrap();
        let mut blocked = connect(portway.address("agents"));
        blocked
            .write_all(&Builder::new("deaf.example").build())
            .unwrap();
        let mut reads_nothing = connect(portway.address("agents"));
        reads_nothing
            .write_all(&Builder::new("chatty.example").build())
            .unwrap();
        stalled.extend([half, reads_nothing]);
        filled.push(blocked);
    }
    std::thread::scope(|scope| {
        for client in &filled {
            scope.spawn(|| fill(client));
        }
    });
    chatty.wait_accepted(50);
    portway.relays_at_once(50);
    assert_eq!(stalled.len() + filled.len(), 150);
}

/// For `PORTWAY_LONG` seconds (5 if not set) a peer reads nothing, and then everything.
#[test]
fn invariant_11_who_is_slow_gets_every_byte() {
    const SIZE: u64 = 32 << 20;
    let silence = Duration::from_secs(count("PORTWAY_LONG", 5));
    let content = Content::new(11);
    let slow = Backend::start(move |mut stream| {
        stream.read_exact(&mut super::fixture::hello()).unwrap();
        pause(silence);
        let received = receive(&mut stream, content);
        drop(stream.write_all(&received.to_be_bytes()));
    });
    let fast = Backend::start(move |mut stream| {
        stream
            .read_exact(&mut Builder::new("fast.example").build())
            .unwrap();
        stream.set_write_timeout(None).unwrap();
        send(&mut stream, content, SIZE);
    });
    let keepalive = "keepalive = \"1s\"";
    let toml = config(&[slow.address()], "", keepalive) + &route("fast", fast.address(), keepalive);
    let portway = Portway::start(&toml);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = connect(portway.address("agents"));
            client
                .write_all(&Builder::new("fast.example").build())
                .unwrap();
            pause(silence);
            assert_eq!(receive(&mut client, content), SIZE, "a slow client");
        });
        let mut client = portway.client();
        client.set_write_timeout(None).unwrap();
        client.set_read_timeout(Some(silence + PATIENCE)).unwrap();
        send(&mut client, content, SIZE);
        client.shutdown(Shutdown::Write).unwrap();
        let (answer, end) = read_to_end(&mut client);
        assert_eq!(
            (answer, end),
            (SIZE.to_be_bytes().to_vec(), End::Fin),
            "a slow backend"
        );
    });
}

fn send(stream: &mut TcpStream, content: Content, size: u64) {
    let mut sent = 0;
    while sent < size {
        let piece = content.at(sent, (64 << 10).min(size - sent));
        stream.write_all(piece).unwrap();
        sent += u64::try_from(piece.len()).unwrap();
    }
}

/// Reads to the end and compares. Returns how many bytes came.
fn receive(stream: &mut TcpStream, content: Content) -> u64 {
    let mut received = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return received;
        }
        let length = u64::try_from(count).unwrap();
        assert_eq!(
            content.at(received, length),
            &buffer[..count],
            "at {received}"
        );
        received += length;
    }
}
