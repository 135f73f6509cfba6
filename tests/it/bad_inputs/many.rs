//! Many clients: captured hellos, other names, random bytes, clients that read nothing (B02, B41,
//! B69, B79). `PORTWAY_NAMES` and `PORTWAY_RANDOM` set the counts.

use std::io::Write;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Seen::Alert;
use super::lane::Lane;
use crate::it::corpus::captures;
use crate::it::fixture::{PATIENCE, Portway, config, pause, route, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, End, connect, read_to_end};
use crate::it::process;
use crate::it::random::{Random, count, seed};

/// Takes every name and connections without one, so that random bytes read as a hello would cause a dial.
const FALLBACK: &str = "[routes.any]\nserver_names = [\"**\"]\nbackend = \"fleet\"\n\
     [routes.none]\nno_server_name = true\nbackend = \"fleet\"\n";

/// Runs `each` with the numbers 0 to `many - 1`, a few at a time.
fn side_by_side(many: u64, each: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let id @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && id < many
                {
                    each(id);
                }
            });
        }
    });
}

#[test]
fn b02_every_captured_hello_arrives_unchanged() {
    let lane = Lane::take();
    let captures = captures().unwrap();
    assert!(captures.len() >= 16, "{} captures", captures.len());
    for (client, hello) in captures {
        let logged = lane.open().routes(&[&hello], Duration::ZERO);
        let name = &logged["server_name"];
        assert_eq!(name, "fleet.example.com", "{client}: {logged}");
    }
}

#[test]
fn b41_many_names_make_no_series_and_ten_lines_a_second() {
    let many = count("PORTWAY_NAMES", 20_000);
    let backend = Backend::digesting();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let (before, begin, seed) = (portway.metrics(), Instant::now(), seed());
    side_by_side(many, |id| {
        let name = format!("n{:016x}.example", Random::new(seed, id).next());
        let mut client = connect(portway.address("agents"));
        client.write_all(&Builder::new(name).build()).unwrap();
        let (bytes, end) = read_to_end(&mut client);
        Alert(112).check(&bytes, end);
    });
    let seconds = begin.elapsed().as_secs() + 2;
    let told = || {
        let lines = portway.connections.all();
        let suppressed = lines.iter().filter_map(|line| line["suppressed"].as_u64());
        let sums = suppressed.clone().count();
        let alone = u64::try_from(lines.len() - sums).unwrap();
        (alone + suppressed.sum::<u64>() == many).then_some((lines.len(), alone))
    };
    let (lines, alone) = within(PATIENCE, "every name is in a line or a sum", told);
    assert!(alone <= 10 * seconds, "{alone} lines in {seconds} s");
    assert!(
        u64::try_from(lines).unwrap() <= 11 * seconds,
        "{lines} lines"
    );
    let after = portway.metrics();
    assert_eq!(after.names(), before.names());
    let refused = after.outcomes("agents");
    assert_eq!(
        format!("{refused:?}"),
        format!("{{\"no_route\": {many}.0}}")
    );
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn b69_random_bytes_are_always_refused() {
    const OUTCOMES: [&str; 5] = [
        "not_tls",
        "malformed_hello",
        "hello_too_large",
        "unsupported_version",
        "hello_eof",
    ];
    let many = count("PORTWAY_RANDOM", 3000);
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "") + FALLBACK;
    let (portway, seed) = (Portway::start(&toml), seed());
    side_by_side(many, |id| {
        let bytes = random_bytes(&mut Random::new(seed, id));
        let mut client = connect(portway.address("agents"));
        // The answer may come before the last byte is out.
        drop(client.write_all(&bytes));
        drop(client.shutdown(Shutdown::Write));
        let (answer, end) = read_to_end(&mut client);
        let refused = answer.is_empty() || answer.starts_with(&[0x15, 3, 3, 0, 2, 2]);
        assert!(
            refused && end == End::Fin,
            "{id}: {} bytes from {:?} on: {answer:?}, {end:?}",
            bytes.len(),
            &bytes[..bytes.len().min(16)]
        );
    });
    let outcomes = within(PATIENCE, "each is counted", || {
        let outcomes = portway.metrics().outcomes("agents");
        let counted: f64 = outcomes.values().sum();
        (format!("{counted}") == many.to_string()).then_some(outcomes)
    });
    let refused = |outcome: &String| OUTCOMES.contains(&outcome.as_str());
    assert!(outcomes.keys().all(refused), "{outcomes:?}");
    assert!(outcomes.len() >= 4, "too few kinds: {outcomes:?}");
    assert_eq!(backend.accepted(), 0);
    drop(portway.relayed());
}

/// 1 byte to 64 KiB; half of them begin like TLS, with a true, a short or a long record.
fn random_bytes(random: &mut Random) -> Vec<u8> {
    let length = usize::try_from(1 + random.magnitude((64 << 10) - 1)).unwrap();
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    let mut bytes: Vec<u8> = words.flatten().take(length).collect();
    if random.percent(50) {
        let body = u16::try_from(length.saturating_sub(5).min(1 << 14)).unwrap();
        let start = [&[22, 3, 1][..], &body.to_be_bytes(), &[1, 0]].concat();
        let start = &start[..usize::try_from(1 + random.below(7)).unwrap().min(length)];
        bytes[..start.len()].copy_from_slice(start);
    }
    bytes
}

#[test]
fn b79_a_client_that_reads_nothing_costs_no_memory_and_ends_as_stalled() {
    let (echo, chatty) = (Backend::echo(), Backend::flooding());
    let limits = "stall_timeout = \"10s\"";
    let toml = config(&[echo.address()], "", limits) + &route("chatty", chatty.address(), limits);
    let portway = Portway::start(&toml);
    drop(portway.relayed());
    let before = process::resident(portway.pid());
    // More than ten a second would share a line.
    let mut clients: Vec<_> = (0..8).map(|_| connect(portway.address("agents"))).collect();
    let begin = Instant::now();
    for client in &mut clients {
        let hello = Builder::new("chatty.example").build();
        client.write_all(&hello).unwrap();
    }
    let down = || {
        portway.metrics().sum(
            "portway_bytes_total",
            &[("backend", "chatty"), ("direction", "backend_to_client")],
        )
    };
    let mut moved = 0.0;
    within(PATIENCE, "every buffer on the way is full", || {
        let last = std::mem::replace(&mut moved, down());
        pause(Duration::from_millis(200));
        (moved > 8.0 && moved <= last).then_some(())
    });
    // They end later than that.
    within(
        Duration::from_secs(5),
        "stalled clients take little memory",
        || (process::resident(portway.pid()) < before + (4 << 20)).then_some(()),
    );
    portway.relays_at_once(20);
    for client in &mut clients {
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "stalled", "{line}");
        let ms = line["duration_ms"].as_f64().unwrap();
        assert!((9900.0..60_000.0).contains(&ms), "{line}");
        assert_eq!(
            read_to_end(client).1,
            End::Reset,
            "truncation stays visible"
        );
    }
    assert!(begin.elapsed() > Duration::from_secs(10));
}
