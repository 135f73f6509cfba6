//! Measures what portway itself adds to a connection, without sockets: the hello, the route, the accounts.
//! Run it with `cargo bench --bench micro`. The kernel's share is far larger; `peers` measures the whole.

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use divan::{Bencher, black_box};
use ipnet::IpNet;
use portway::outcome::{BackendAnswer, ClosedBy, Handshake, Outcome};
use portway::routing::{Pattern, Query, Route, Table};
use portway::telemetry::lines::Lines;
use portway::telemetry::{
    ClientText, ConnectionLog, Form, Format, Id, Line, LogRules, Millis, Protocols, Registry, Time,
};
use portway::tls::{Alpn, Progress, ServerName, Version, read_hello};

#[expect(dead_code, reason = "the builder has more than this benchmark needs")]
#[path = "../tests/support/hello.rs"]
mod hello;

#[path = "../tests/support/shapes.rs"]
mod shapes;

/// The default limit of a hello.
const MAX_HELLO: usize = 64 * 1024;

const CLASSIC: &[u8] = include_bytes!("../tests/corpus/go_without_mlkem.bin");
const POST_QUANTUM: &[u8] = include_bytes!("../tests/corpus/go.bin");

fn main() {
    divan::main();
}

/// Reads one hello over and over.
fn read(bencher: Bencher<'_, '_>, bytes: &[u8]) {
    let mut scratch = vec![0; MAX_HELLO];
    let whole = read_hello(bytes, MAX_HELLO, &mut scratch);
    assert!(matches!(whole, Progress::Hello(_)), "{whole:?}");
    bencher.bench_local(|| {
        let progress = read_hello(black_box(bytes), MAX_HELLO, &mut scratch);
        matches!(black_box(progress), Progress::Hello(_))
    });
}

#[divan::bench]
fn hello_classic(bencher: Bencher<'_, '_>) {
    read(bencher, CLASSIC);
}

#[divan::bench]
fn hello_post_quantum(bencher: Bencher<'_, '_>) {
    read(bencher, POST_QUANTUM);
}

/// The worst hello that a client may send: a header of five bytes before every byte.
#[divan::bench]
fn hello_in_records_of_one_byte(bencher: Bencher<'_, '_>) {
    let hello = hello::Builder::new("fleet.example.com").padded_to(1500);
    read(bencher, &hello.records(&[1]).build());
}

/// The cost of a client that sends one byte at a time: a look at every length.
#[divan::bench]
fn hello_seen_at_every_length(bencher: Bencher<'_, '_>) {
    let mut scratch = vec![0; MAX_HELLO];
    bencher.bench_local(|| {
        let looks = (0..=POST_QUANTUM.len()).filter(|end| {
            let peeked = POST_QUANTUM.get(..*end).unwrap_or_default();
            let progress = read_hello(black_box(peeked), MAX_HELLO, &mut scratch);
            matches!(progress, Progress::NeedMore { .. })
        });
        looks.count()
    });
}

/// Half of the routes take one name, the others all names below one.
fn pattern(number: usize) -> Pattern {
    let text = if number.is_multiple_of(2) {
        format!("fleet-{number}.example.com")
    } else {
        format!("*.tenant-{number}.example.com")
    };
    Pattern::parse(&text).unwrap()
}

/// A route of a name each.
fn named(number: usize) -> Route {
    Route {
        name: format!("route-{number}").into(),
        server_names: vec![pattern(number)],
        no_server_name: false,
        listeners: Vec::new(),
        ports: Vec::new(),
        alpn: Vec::new(),
        clients: Vec::new(),
        backend: 0,
    }
}

/// A route of all names, for a network each.
fn for_network(number: usize) -> Route {
    let [.., a, b, c] = number.to_be_bytes();
    let network = IpNet::new(Ipv4Addr::new(10, a, b, c).into(), 32);
    Route {
        server_names: vec![Pattern::Any],
        clients: vec![network.unwrap()],
        ..named(number)
    }
}

/// Finds the route of a name, or none, among these.
fn find(bencher: Bencher<'_, '_>, routes: impl Iterator<Item = Route>, name: &str, is_found: bool) {
    let table = Table::build(routes.collect()).unwrap();
    let name = ServerName::parse(name.as_bytes()).unwrap();
    let query = Query {
        listener: "agents",
        port: 443,
        server_name: Some(&name),
        alpn: Alpn::new(b"\x02h2\x08http/1.1"),
        client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)),
    };
    assert_eq!(table.find(&query).is_ok(), is_found);
    bencher.bench(|| table.find(black_box(&query)));
}

#[divan::bench(args = [10, 1_000, 100_000])]
fn route_by_exact_name(bencher: Bencher<'_, '_>, routes: usize) {
    find(bencher, (0..routes).map(named), "fleet-4.example.com", true);
}

#[divan::bench(args = [10, 1_000, 100_000])]
fn route_by_wildcard(bencher: Bencher<'_, '_>, routes: usize) {
    find(
        bencher,
        (0..routes).map(named),
        "a.tenant-3.example.com",
        true,
    );
}

#[divan::bench(args = [10, 1_000, 100_000])]
fn route_not_found(bencher: Bencher<'_, '_>, routes: usize) {
    find(
        bencher,
        (0..routes).map(named),
        "a.b.nobody.example.org",
        false,
    );
}

#[divan::bench(args = [10, 1_000, 100_000])]
fn route_by_client(bencher: Bencher<'_, '_>, routes: usize) {
    let name = "fleet.example.com";
    find(bencher, (0..routes).map(for_network), name, true);
}

/// An ordinary connection: routed, served, closed.
fn line(id: u64) -> Line<'static> {
    Line {
        time: Time(SystemTime::now()),
        id: Id(id),
        phase: None,
        config: 1,
        client: (Ipv4Addr::new(192, 0, 2, 7), 50_123).into(),
        proxied_by: None,
        listener: "agents",
        server_name: Some(ClientText(b"fleet.example.com")),
        target: None,
        nearest: None,
        alpn: Protocols(Alpn::new(b"\x02h2\x08http/1.1")),
        tls_offered: Some(Version::TLS_1_3),
        tls_negotiated: Some(Version::TLS_1_3),
        route: Some("fleet"),
        backend: Some("fleet"),
        endpoint: Some("fleet-2.internal:8220"),
        backend_address: Some((Ipv4Addr::new(10, 0, 0, 2), 8220).into()),
        via: None,
        backend_local: Some((Ipv4Addr::new(10, 0, 0, 1), 40_000).into()),
        attempts: &[],
        hello_ms: Some(Millis(Duration::from_micros(412))),
        dial_ms: Some(Millis(Duration::from_millis(12))),
        first_byte_ms: Some(Millis(Duration::from_micros(1234))),
        backend_answer: Some(BackendAnswer::ServerHello),
        handshake: Some(Handshake::Completed),
        client_certificate_asked: Some(false),
        backend_alert: None,
        client_alert: None,
        duration_ms: Millis(Duration::from_millis(250)),
        bytes_client_to_backend: Some(2_048),
        bytes_unacknowledged: None,
        client_rtt_ms: Some(Millis(Duration::from_micros(41_250))),
        client_retransmits: Some(0),
        backend_rtt_ms: Some(Millis(Duration::from_micros(310))),
        backend_retransmits: Some(0),
        bytes_backend_to_client: Some(1 << 20),
        outcome: Some(Outcome::Closed),
        closed_by: Some(ClosedBy::Client),
        alert: None,
        detail: None,
        limit: None,
        hello_bytes: None,
        hello_expected: None,
    }
}

/// The counters of a connection: at accept, at the hello, at the connected backend, at its end.
#[divan::bench(sample_size = 1_000)]
fn accounts_counters(bencher: Bencher<'_, '_>) {
    let registry = Registry::new();
    let listener = registry.listener("agents");
    let route = registry.route("fleet");
    let backend = registry.backend("fleet");
    let endings = registry.endings("agents", Some("fleet"));
    let took = Duration::from_micros(412);
    bencher.bench_local(|| {
        listener.accepted.add(1);
        registry.client_hello_seconds.record(black_box(took));
        route.add(1);
        backend.dial_seconds.record(black_box(took));
        endings.count(Outcome::Closed);
    });
}

/// The log line, from its parts to the queue, which has room for all lines.
#[divan::bench(args = ["json", "text", "ecs"], sample_size = 70)]
fn accounts_log_line(bencher: Bencher<'_, '_>, format: &str) {
    let format = match format {
        "json" => Format::Json,
        "ecs" => Format::Ecs,
        _ => Format::Text,
    };
    let dropped = Arc::new(AtomicU64::new(0));
    let lines = Lines::start(Box::new(io::sink()), "log", Arc::clone(&dropped)).unwrap();
    let log = ConnectionLog::new(
        lines,
        Form::always(format),
        LogRules::default(),
        Registry::new(),
    );
    let mut id = 0;
    bencher.bench_local(|| {
        id += 1;
        log.log(black_box(&line(id)));
    });
    // A line for which there is no room costs less.
    assert_eq!(dropped.load(Ordering::Relaxed), 0, "lines were dropped");
}

/// Checks a routes.toml of the largest allowed size, in each shape that could cost more than its size.
#[divan::bench(args = shapes::all(), sample_count = 5, sample_size = 1)]
fn check_file(bencher: Bencher<'_, '_>, shape: &shapes::Shape) {
    bencher.bench(|| {
        let checked = portway::config::parse(black_box(&shape.text), "routes.toml");
        assert_eq!(checked.is_err(), shape.faults > 0);
        checked.map_err(|faults| (faults.render(false), faults.lines().count()))
    });
}
