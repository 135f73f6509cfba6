//! Bad input at the proxy listeners: rows b100 to b116 of `tests/ROWS.md`.
//!
//! One portway with both listeners gets the whole table, and then one good request. That one shows what would have been
//! seen by then: its name is the only one that the DNS server was asked for, and its dial the only one.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{PATIENCE, Portway, within};
use super::front_inputs::{Front, Got, Input, Pace, Ports, SECONDS, file, inputs};
use super::hello::Builder;
use super::peers::{Backend, End, connect, error_within, read_to_end};
use super::resolver::free;
use super::resolver::server::Server;

/// An input, and the results that it had.
struct Seen {
    input: Input,
    got: Got,
    /// A RST behind the FIN.
    reset: Option<ErrorKind>,
    took: Duration,
    line: Value,
}

const MARKER: &str = "marker.es.test";

#[test]
fn invariant_7_no_bad_input_at_a_proxy_listener_causes_a_query_or_a_dial() {
    let dns = Server::start();
    let backends = [free("127.0.0.2"), free("127.0.0.3")].map(Backend::echo_at);
    let [names, addresses] = backends.each_ref().map(|it| it.address().port());
    let ports = Ports { names, addresses };
    // Each name could be dialled if it was looked up.
    for name in ["one.es.test", "two.es.test", MARKER] {
        dns.lead(name, &["127.0.0.2"]);
    }
    let portway = Portway::start(&file(ports, "127.0.0.3", &dns.resolver()));
    let seen = all(&portway, inputs(ports));
    let faults: Vec<String> = seen.iter().filter_map(Seen::fault).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    counted(&portway, &seen);
    assert_eq!(backends.each_ref().map(Backend::accepted), [0, 0]);
    good_request(&portway, names);
    assert_eq!(dns.all_asked().into_iter().collect::<Vec<_>>(), [MARKER]);
    assert_eq!(backends.each_ref().map(Backend::accepted), [1, 0]);
}

/// Those that take their time go beside the others.
fn all(portway: &Portway, inputs: Vec<Input>) -> Vec<Seen> {
    let turns = Turns::default();
    thread::scope(|scope| {
        let (slow, quick): (Vec<_>, Vec<_>) = inputs
            .into_iter()
            .partition(|input| input.outcome == "hello_timeout");
        let slow = slow
            .into_iter()
            .map(|input| scope.spawn(|| see(portway, &turns, input)));
        let slow: Vec<_> = slow.collect();
        let quick = quick.into_iter().map(|input| see(portway, &turns, input));
        let mut seen: Vec<_> = quick.collect();
        seen.extend(slow.into_iter().map(|it| it.join().unwrap()));
        seen
    })
}

fn see(portway: &Portway, turns: &Turns, input: Input) -> Seen {
    turns.wait(input.outcome);
    let begun = Instant::now();
    let listener = input.front.listener();
    let mut client = connect(portway.address(listener));
    // The kernel gives the same port again towards another listener.
    let client_address = client.local_addr().unwrap().to_string();
    let is_its = |line: &Value| line["client"] == *client_address && line["listener"] == listener;
    let got = input.send(&mut client);
    let took = begun.elapsed();
    let reset = error_within(&client, Duration::from_millis(10));
    drop(client);
    Seen {
        line: portway.wait_line(is_its),
        input,
        got,
        reset,
        took,
    }
}

/// The log has at most ten lines of an outcome per second.
#[derive(Default)]
struct Turns(Mutex<HashMap<&'static str, Vec<Instant>>>);

impl Turns {
    fn wait(&self, outcome: &'static str) {
        within(PATIENCE, "a turn to be logged", || {
            let mut logged = self.0.lock().unwrap();
            let times = logged.entry(outcome).or_default();
            times.retain(|time| time.elapsed() < Duration::from_secs(1));
            // One more that began before this second may be logged in it.
            (times.len() < 9).then(|| times.push(Instant::now()))
        });
    }
}

impl Seen {
    /// A text about all results, if one is not as in the table.
    fn fault(&self) -> Option<String> {
        let Self {
            input, got, line, ..
        } = self;
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        // The last byte of a slow client may itself be too late.
        let in_time = [got.sent, got.sent.saturating_sub(1)];
        let told = in_time.map(|sent| input.detail.replace("{sent}", &sent.to_string()));
        let detail = line["detail"].as_str().unwrap_or_default();
        let closed_by = match input.pace {
            Pace::ThenFin => "client",
            Pace::AtOnce | Pace::Trickle(_) => "portway",
        };
        let limit = Duration::from_secs(SECONDS);
        let is_late = self.took > limit.mul_f32(0.95) && self.took < 10 * limit;
        let is_as_told = got.answer == input.answer
            && (got.end, self.reset) == (End::Fin, None)
            && line["outcome"] == input.outcome
            && told.contains(&detail.to_owned())
            && line["closed_by"] == closed_by
            && line["listener"] == input.front.listener()
            && (is_late || input.outcome != "hello_timeout")
            && ["attempts", "backend", "endpoint", "dial_ms"]
                .iter()
                .all(|field| line[field].is_null());
        (!is_as_told).then(|| {
            let (sent, took, end) = (&input.sent, self.took, got.end);
            format!(
                "{} at {}, {:?} of \"{}\": \"{}\" and {end:?} after {took:?}, not \"{}\"; {line}, not {} \"{}\"",
                input.row,
                input.front.listener(),
                input.pace,
                text(&sent[..sent.len().min(200)]),
                text(&got.answer),
                text(&input.answer),
                input.outcome,
                input.detail,
            )
        })
    }
}

/// Each input is counted once under its outcome, and nothing else is counted.
fn counted(portway: &Portway, seen: &[Seen]) {
    within(PATIENCE, "all of them have ended", || {
        let active = portway.metrics().sum("portway_connections_active", &[]);
        (active < 0.5).then_some(())
    });
    let metrics = portway.metrics();
    for front in [Front::Http, Front::Socks] {
        let mut wanted = BTreeMap::<String, f64>::new();
        for seen in seen.iter().filter(|seen| seen.input.front == front) {
            *wanted.entry(seen.input.outcome.to_owned()).or_default() += 1.0;
        }
        assert_eq!(metrics.outcomes(front.listener()), wanted, "{front:?}");
    }
    for metric in [
        "portway_dial_failures_total",
        "portway_dial_seconds_count",
        "portway_resolve_failures_total",
    ] {
        let sum = metrics.sum(metric, &[]);
        assert!(sum < 0.5, "{metric} {sum}");
    }
}

/// A client that a route takes.
fn good_request(portway: &Portway, port: u16) {
    let mut client = connect(portway.address(Front::Http.listener()));
    let hello = Builder::new(MARKER).build();
    let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
    write!(client, "CONNECT {MARKER}:{port} HTTP/1.1\r\n\r\n").unwrap();
    client.write_all(&hello).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let echoed = ([&open[..], &hello].concat(), End::Fin);
    assert_eq!(read_to_end(&mut client), echoed);
}

/// A client that is refused is drained, so that it can read why, but not for ever.
#[test]
fn b100_a_flood_that_never_ends_is_cut() {
    let ports = Ports {
        names: 8220,
        addresses: 9200,
    };
    let dns = Server::start();
    let portway = Portway::start(&file(ports, "127.0.0.3", &dns.resolver()));
    for front in [Front::Http, Front::Socks] {
        let mut client = connect(portway.address(front.listener()));
        let address: SocketAddr = client.local_addr().unwrap();
        // More than fits into the buffers of the kernel.
        let mut writes = (0..4096).map(|_| client.write_all(&[b'A'; 16 << 10]));
        let error = writes.find_map(Result::err).expect("it was cut");
        let kinds = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(kinds.contains(&error.kind()), "{error}");
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "invalid_proxy_request", "{line}");
    }
    assert!(dns.all_asked().is_empty());
}
