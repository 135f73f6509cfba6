use std::io::{self, PipeReader, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use strum::VariantArray;

use super::{
    Attempt, ClientText, ConnectionLog, Id, Line, Millis, Phase, Protocols, Time, ecs, format,
};
use crate::outcome::{
    AttemptFailure, BackendAnswer, ClosedBy, DialFailure, Handshake, Limit, Outcome, ResolveFailure,
};
use crate::telemetry::ecs::tests::{agrees, flat};
use crate::telemetry::lines::Lines;
use crate::telemetry::metrics::Registry;
use crate::telemetry::{Form, Format, LogRules, Logged};
use crate::tls::{Alpn, Version};

const LONG: Duration = Duration::from_secs(20);

fn least(outcome: Outcome) -> Line<'static> {
    Line {
        time: Time(SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_225_600_123)),
        id: Id(0x2a),
        phase: None,
        config: 1,
        client: "192.0.2.7:50123".parse().unwrap(),
        proxied_by: None,
        listener: "agents",
        server_name: None,
        target: None,
        nearest: None,
        alpn: Protocols::default(),
        tls_offered: None,
        tls_negotiated: None,
        route: None,
        backend: None,
        endpoint: None,
        backend_address: None,
        via: None,
        backend_local: None,
        attempts: &[],
        hello_ms: None,
        dial_ms: None,
        first_byte_ms: None,
        backend_answer: None,
        handshake: None,
        client_certificate_asked: None,
        backend_alert: None,
        client_alert: None,
        duration_ms: Millis(Duration::from_micros(1500)),
        bytes_client_to_backend: None,
        bytes_backend_to_client: None,
        bytes_unacknowledged: None,
        client_rtt_ms: None,
        client_retransmits: None,
        backend_rtt_ms: None,
        backend_retransmits: None,
        outcome: Some(outcome),
        closed_by: Some(ClosedBy::Portway),
        alert: None,
        detail: None,
        limit: None,
        hello_bytes: None,
        hello_expected: None,
    }
}

fn full(attempts: &[Attempt]) -> Line<'_> {
    Line {
        proxied_by: Some("10.0.0.8:41234".parse().unwrap()),
        server_name: Some(ClientText(b"fleet.example.com")),
        target: Some("fleet.example.com:8220".to_owned()),
        nearest: Some("*.example.com".to_owned()),
        alpn: Protocols(Alpn::new(b"\x02h2\x08http/1.1")),
        tls_offered: Some(Version(0x0304)),
        tls_negotiated: Some(Version(0x0303)),
        route: Some("fleet"),
        backend: Some("fleet"),
        endpoint: Some("fleet-2.internal:8220"),
        backend_address: Some("10.0.0.2:8220".parse().unwrap()),
        via: Some("http://proxy.corp:3128"),
        backend_local: Some("[2001:db8::1]:40000".parse().unwrap()),
        attempts,
        hello_ms: Some(Millis(Duration::from_micros(412))),
        dial_ms: Some(Millis(Duration::from_millis(12))),
        first_byte_ms: Some(Millis(Duration::from_nanos(1_234_567))),
        backend_answer: Some(BackendAnswer::ServerHello),
        handshake: Some(Handshake::Failed),
        client_certificate_asked: Some(true),
        backend_alert: Some(42),
        client_alert: Some(48),
        bytes_client_to_backend: Some(0),
        bytes_backend_to_client: Some(1 << 40),
        bytes_unacknowledged: Some(7),
        client_rtt_ms: Some(Millis(Duration::from_micros(41_250))),
        client_retransmits: Some(2),
        backend_rtt_ms: Some(Millis(Duration::from_micros(310))),
        backend_retransmits: Some(0),
        alert: Some(112),
        detail: Some("two words"),
        limit: Some(Limit::MaxPendingPerClient),
        hello_bytes: Some(1200),
        hello_expected: Some(1562),
        ..least(Outcome::Closed)
    }
}

fn attempts() -> [Attempt; 2] {
    let failed = |host: u8, reason, took| Attempt {
        endpoint: format!("fleet-{host}.internal:8220").into(),
        via: None,
        address: Some(SocketAddr::from(([10, 0, 0, host], 8220))),
        reason: AttemptFailure::Dial(reason),
        error: None,
        took: Some(Millis(took)),
    };
    [
        failed(1, DialFailure::Refused, Duration::from_micros(300)),
        failed(3, DialFailure::Timeout, Duration::from_secs(4)),
    ]
}

#[test]
fn an_endpoint_without_an_address_tells_why_in_its_place_among_the_attempts() {
    let none = |reason, address: Option<&str>, error: Option<&str>| Attempt {
        endpoint: "es:9200".into(),
        via: None,
        address: address.map(|address| address.parse().unwrap()),
        reason: AttemptFailure::Resolve(reason),
        error: error.map(Into::into),
        took: None,
    };
    let attempts = [
        none(ResolveFailure::Unresolved, None, Some("no such host")),
        none(ResolveFailure::Loop, Some("127.0.0.1:9200"), None),
    ];
    let line = Line {
        attempts: &attempts,
        ..least(Outcome::BackendUnresolved)
    };
    let json = concat!(
        r#""attempts":[{"endpoint":"es:9200","reason":"unresolved","error":"no such host"},"#,
        r#"{"endpoint":"es:9200","address":"127.0.0.1:9200","reason":"loop"}],"#,
    );
    assert!(written(Format::Json, &line).contains(json));
    let text = concat!(
        r#" attempts="es:9200 unresolved no such host, "#,
        r#"es:9200 127.0.0.1:9200 loop" "#,
    );
    assert!(written(Format::Text, &line).contains(text));
}

#[test]
fn an_attempt_at_a_proxy_names_it_and_has_its_words() {
    let [attempt, _] = attempts();
    let refused = [Attempt {
        via: Some("http://proxy.corp:3128".into()),
        reason: AttemptFailure::Dial(DialFailure::ViaRefused),
        error: Some("HTTP/1.1 403 Forbidden".into()),
        ..attempt
    }];
    let line = Line {
        attempts: &refused,
        ..least(Outcome::ViaRefused)
    };
    let text = concat!(
        r#" attempts="fleet-1.internal:8220 http://proxy.corp:3128 10.0.0.1:8220 via_refused "#,
        r#"HTTP/1.1 403 Forbidden 0.3 ms" "#,
    );
    assert!(written(Format::Text, &line).contains(text));
}

fn written(form: Format, line: &Line<'_>) -> String {
    String::from_utf8(format::line(form, line, || ecs::Record::new(line))).unwrap()
}

#[test]
fn a_json_line_has_the_fields_in_order() {
    let expected = concat!(
        r#"{"time":"2026-01-01T00:00:00.123Z","id":"000000000000002a","config":1,"#,
        r#""client":"192.0.2.7:50123","proxied_by":"10.0.0.8:41234","listener":"agents","target":"fleet.example.com:8220","server_name":"fleet.example.com","nearest":"*.example.com","#,
        r#""alpn":["h2","http/1.1"],"tls_offered":"1.3","tls_negotiated":"1.2","route":"fleet","backend":"fleet","#,
        r#""endpoint":"fleet-2.internal:8220","via":"http://proxy.corp:3128","backend_local":"[2001:db8::1]:40000","#,
        r#""attempts":[{"endpoint":"fleet-1.internal:8220","address":"10.0.0.1:8220","#,
        r#""reason":"refused","ms":0.3},"#,
        r#"{"endpoint":"fleet-3.internal:8220","address":"10.0.0.3:8220","reason":"timeout","ms":4000.0}],"#,
        r#""hello_ms":0.412,"dial_ms":12.0,"first_byte_ms":1.235,"backend_answer":"server_hello","handshake":"failed","#,
        r#""client_certificate_asked":true,"backend_alert":42,"client_alert":48,"duration_ms":1.5,"#,
        r#""bytes_client_to_backend":0,"bytes_backend_to_client":1099511627776,"#,
        r#""bytes_unacknowledged":7,"client_rtt_ms":41.25,"client_retransmits":2,"#,
        r#""backend_rtt_ms":0.31,"backend_retransmits":0,"#,
        r#""outcome":"closed","closed_by":"portway","alert":112,"detail":"two words","#,
        r#""limit":"max_pending_per_client","hello_bytes":1200,"hello_expected":1562}"#,
        "\n",
    );
    assert_eq!(written(Format::Json, &full(&attempts())), expected);
}

#[test]
fn a_field_without_a_value_is_left_out() {
    let expected = concat!(
        r#"{"time":"2026-01-01T00:00:00.123Z","id":"000000000000002a","config":1,"#,
        r#""client":"192.0.2.7:50123","listener":"agents","duration_ms":1.5,"#,
        r#""outcome":"hello_eof","closed_by":"portway"}"#,
        "\n",
    );
    assert_eq!(written(Format::Json, &least(Outcome::HelloEof)), expected);
}

#[test]
fn a_text_line_has_the_same_fields_for_people() {
    let expected = concat!(
        "2026-01-01T00:00:00.123Z id=000000000000002a config=1 client=192.0.2.7:50123 ",
        "proxied_by=10.0.0.8:41234 ",
        r#"listener=agents target=fleet.example.com:8220 server_name=fleet.example.com nearest=*.example.com alpn="h2, http/1.1" tls_offered=1.3 tls_negotiated=1.2 "#,
        "route=fleet backend=fleet endpoint=fleet-2.internal:8220 ",
        "via=http://proxy.corp:3128 backend_local=[2001:db8::1]:40000 ",
        r#"attempts="fleet-1.internal:8220 10.0.0.1:8220 refused 0.3 ms, "#,
        r#"fleet-3.internal:8220 10.0.0.3:8220 timeout 4000.0 ms" "#,
        "hello_ms=0.412 dial_ms=12.0 first_byte_ms=1.235 backend_answer=server_hello handshake=failed ",
        "client_certificate_asked=true backend_alert=42 client_alert=48 duration_ms=1.5 ",
        "bytes_client_to_backend=0 bytes_backend_to_client=1099511627776 ",
        "bytes_unacknowledged=7 client_rtt_ms=41.25 client_retransmits=2 ",
        "backend_rtt_ms=0.31 backend_retransmits=0 outcome=closed ",
        r#"closed_by=portway alert=112 detail="two words" limit=max_pending_per_client "#,
        "hello_bytes=1200 hello_expected=1562\n",
    );
    assert_eq!(written(Format::Text, &full(&attempts())), expected);
}

#[test]
fn a_connection_that_is_open_has_its_phase_in_place_of_its_end() {
    let expected = concat!(
        r#"{"time":"2026-01-01T00:00:00.123Z","id":"000000000000002a","phase":"open","config":1,"#,
        r#""client":"192.0.2.7:50123","listener":"agents","duration_ms":1.5}"#,
        "\n",
    );
    assert_eq!(written(Format::Json, &open()), expected);
}

fn open() -> Line<'static> {
    Line {
        phase: Some(Phase::Open),
        outcome: None,
        closed_by: None,
        ..least(Outcome::Closed)
    }
}

fn ecs_of(line: &Line<'_>) -> Value {
    let line = serde_json::from_str(&written(Format::Ecs, line)).unwrap();
    agrees(&line);
    line
}

#[test]
fn each_field_is_one_of_ecs_or_below_the_key_of_portway() {
    let attempts = attempts();
    let line = full(&attempts);
    let expected = json!({
        "@timestamp": "2026-01-01T00:00:00.123Z",
        "log.level": "info",
        "message": "closed: 192.0.2.7:50123 asked for fleet.example.com, reached fleet-2.internal:8220: two words",
        "ecs.version": "9.4.0",
        "service": { "name": "portway", "version": env!("CARGO_PKG_VERSION") },
        "process": { "pid": std::process::id() },
        "event": {
            "kind": "event", "category": ["network"], "type": ["connection", "end"], "outcome": "success",
            "dataset": "portway.connections", "start": "2026-01-01T00:00:00.121Z",
            "end": "2026-01-01T00:00:00.123Z", "duration": 1_500_000, "reason": "two words",
        },
        "network": { "transport": "tcp", "type": "ipv4", "protocol": "tls", "bytes": 1_u64 << 40 },
        "source": {
            "ip": "192.0.2.7", "port": 50123, "bytes": 0, "nat": { "ip": "2001:db8::1", "port": 40000 },
        },
        "client": {
            "ip": "192.0.2.7", "port": 50123, "bytes": 0, "nat": { "ip": "2001:db8::1", "port": 40000 },
        },
        "destination": {
            "address": "fleet-2.internal", "domain": "fleet-2.internal", "ip": "10.0.0.2", "port": 8220,
            "bytes": 1_u64 << 40,
        },
        "server": {
            "address": "fleet-2.internal", "domain": "fleet-2.internal", "ip": "10.0.0.2", "port": 8220,
            "bytes": 1_u64 << 40,
        },
        "tls": { "version": "1.2", "version_protocol": "tls", "client": { "server_name": "fleet.example.com" } },
        "portway": own(&line),
    });
    assert_eq!(ecs_of(&line), expected);
}

/// The line as JSON, without the fields that have a place in the schema.
fn own(line: &Line<'_>) -> Value {
    let mut own = serde_json::to_value(line).unwrap();
    let fields = own.as_object_mut().unwrap();
    for name in [
        "time",
        "client",
        "server_name",
        "tls_negotiated",
        "backend_local",
        "duration_ms",
        "bytes_client_to_backend",
        "bytes_backend_to_client",
        "detail",
    ] {
        fields.remove(name).unwrap();
    }
    own
}

#[test]
fn a_line_of_ecs_has_only_what_applies() {
    let line = ecs_of(&least(Outcome::HelloEof));
    for absent in ["destination", "server", "tls"] {
        assert_eq!(line.get(absent), None, "{line}");
    }
    assert_eq!(
        line["network"],
        json!({ "transport": "tcp", "type": "ipv4" })
    );
    assert_eq!(line["event"]["outcome"], "failure");
    let line = ecs_of(&open());
    assert_eq!(line["event"].get("outcome"), None, "{line}");
    assert_eq!(line["event"].get("end"), None, "{line}");
    assert_eq!(line["event"]["type"], json!(["connection", "info"]));
    assert_eq!(line["portway"]["phase"], "open");
    assert_eq!(line["message"], "open: 192.0.2.7:50123");
}

#[test]
fn an_endpoint_that_is_an_address_has_no_domain() {
    for (endpoint, ip, port) in [
        ("[2001:db8::9]:9200", "2001:db8::9", 9200),
        ("10.0.0.9:8220", "10.0.0.9", 8220),
    ] {
        let line = ecs_of(&Line {
            endpoint: Some(endpoint),
            ..least(Outcome::Closed)
        });
        let expected = json!({ "address": ip, "ip": ip, "port": port });
        assert_eq!(line["destination"], expected);
        assert_eq!(line["server"], expected);
    }
}

#[test]
fn every_outcome_agrees_with_the_schema() {
    for &outcome in Outcome::VARIANTS {
        let line = ecs_of(&least(outcome));
        let is_error = outcome == Outcome::Error;
        assert_eq!(line["log.level"] == "error", is_error, "{line}");
        assert_eq!(
            line["event"]["outcome"] == "success",
            outcome == Outcome::Closed,
            "{line}"
        );
    }
    let denied = ecs_of(&least(Outcome::NoRoute));
    assert_eq!(
        denied["event"]["type"],
        json!(["connection", "denied", "end"])
    );
}

#[test]
fn the_format_of_the_file_is_that_of_the_next_line() {
    let (reader, writer) = io::pipe().unwrap();
    let registry = Registry::new();
    let lines = Lines::start(Box::new(writer), "test", registry.lines_dropped()).unwrap();
    let ecs = LogRules {
        format: Some(Format::Ecs),
        ..LogRules::default()
    };
    let log = ConnectionLog::new(lines, Form::new(None, Format::Json), ecs, registry);
    for _ in 0..11 {
        log_at(&log, Outcome::NoRoute, 7);
    }
    log.sum_up_before(8);
    log.adopt(LogRules::default());
    log_at(&log, Outcome::Closed, 8);
    let lines = end(log, reader);
    let (native, lines) = lines.split_last().unwrap();
    assert_eq!(native["outcome"], "closed");
    lines.iter().for_each(agrees);
    assert_eq!(lines.len(), 11);
    let sum = json!({ "outcome": "no_route", "suppressed": 1 });
    assert_eq!(lines[10]["portway"], sum);
    assert_eq!(lines[10]["message"], "1 more connections ended as no_route");
}

#[test]
fn a_name_cannot_forge_a_line_or_command_a_terminal() {
    let name =
        b"a\r\n{\"outcome\":\"closed\"}\x1b[31m\x07\x7f\x00 \xff\xe2\x80\xae\xf0\x9f\x98\x80=\\";
    for form in [Format::Json, Format::Text, Format::Ecs] {
        let text = written(
            form,
            &Line {
                server_name: Some(ClientText(name)),
                alpn: Protocols(Alpn::new(b"\x03\x1b[m")),
                ..least(Outcome::InvalidServerName)
            },
        );
        assert_eq!(text.find('\n'), Some(text.len() - 1), "{text}");
        assert!(
            text.trim_end()
                .bytes()
                .all(|byte| matches!(byte, b' '..=b'~')),
            "{text}"
        );
        assert!(text.contains(r"\u001b[31m"), "{text}");
        assert!(text.contains(r"\u007f"), "{text}");
    }
    let line = Line {
        server_name: Some(ClientText(name)),
        ..least(Outcome::InvalidServerName)
    };
    let parsed: Value = serde_json::from_str(&written(Format::Json, &line)).unwrap();
    assert_eq!(
        parsed["server_name"],
        String::from_utf8_lossy(name).as_ref()
    );
}

#[test]
fn text_from_a_client_is_bounded() {
    let name = vec![b'a'; 60_000];
    let mut list = Vec::new();
    for number in 0..200 {
        list.push(255);
        list.extend_from_slice(&[number; 255]);
    }
    let line = Line {
        server_name: Some(ClientText(&name)),
        alpn: Protocols(Alpn::new(&list)),
        ..least(Outcome::InvalidServerName)
    };
    let parsed: Value = serde_json::from_str(&written(Format::Json, &line)).unwrap();
    assert_eq!(parsed["server_name"].as_str().unwrap().len(), 256);
    let protocols = parsed["alpn"].as_array().unwrap();
    assert_eq!(protocols.len(), 8);
    let lengths = protocols
        .iter()
        .map(|it| it.as_str().unwrap().chars().count());
    assert!(lengths.into_iter().all(|length| length == 32));
}

#[test]
fn a_protocol_that_is_offered_again_is_told_once() {
    let again = [b"\x02h2".repeat(20), b"\x08http/1.1\x02h2".to_vec()].concat();
    let line = Line {
        alpn: Protocols(Alpn::new(&again)),
        ..least(Outcome::NoRoute)
    };
    let text = written(Format::Json, &line);
    assert!(text.contains(r#""alpn":["h2","http/1.1"]"#), "{text}");
}

#[test]
fn versions_are_told_as_people_write_them() {
    let told = [0x0301, 0x0302, 0x0303, 0x0304, 0x7f1c]
        .map(|version| serde_json::to_value(Version(version)).unwrap());
    assert_eq!(told, ["1.0", "1.1", "1.2", "1.3", "0x7f1c"]);
}

fn log(logged: Logged) -> (ConnectionLog, Arc<Registry>, PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    let registry = Registry::new();
    let lines = Lines::start(Box::new(writer), "test", registry.lines_dropped()).unwrap();
    let rules = LogRules {
        connections: logged,
        ..LogRules::default()
    };
    let log = ConnectionLog::new(
        lines,
        Form::always(Format::Json),
        rules,
        Arc::clone(&registry),
    );
    (log, registry, reader)
}

/// A connection has ended in this second.
fn log_at(log: &ConnectionLog, outcome: Outcome, second: u32) {
    if log.wants_at(outcome, second) {
        log.log(&least(outcome));
    }
}

/// Ends the log and returns its lines.
fn end(log: ConnectionLog, mut reader: PipeReader) -> Vec<Value> {
    assert!(log.finish(LONG));
    drop(log);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn all_are_logged_but_probes() {
    let (log, _, reader) = log(Logged::All);
    for &outcome in Outcome::VARIANTS {
        log_at(&log, outcome, 0);
    }
    let lines = end(log, reader);
    let outcomes: Vec<&str> = lines
        .iter()
        .map(|line| line["outcome"].as_str().unwrap())
        .collect();
    let wanted = Outcome::VARIANTS.iter().filter(|it| **it != Outcome::Probe);
    assert_eq!(outcomes, wanted.map(|it| it.name()).collect::<Vec<_>>());
}

#[test]
fn failures_are_all_but_probes_and_those_that_closed_in_order() {
    let (log, _, reader) = log(Logged::Failures);
    for &outcome in Outcome::VARIANTS {
        log_at(&log, outcome, 0);
    }
    assert_eq!(end(log, reader).len(), Outcome::VARIANTS.len() - 2);
}

#[test]
fn an_outcome_that_repeats_is_summed_up_in_one_line_a_second() {
    let (log, registry, reader) = log(Logged::All);
    let flood = |second| {
        for _ in 0..10 + 5 {
            log_at(&log, Outcome::NoRoute, second);
            log_at(&log, Outcome::Closed, second);
        }
    };
    flood(7);
    // Another outcome has an allowance of its own.
    log_at(&log, Outcome::HelloEof, 7);
    // The next line of its kind ends the second.
    flood(8);
    // Or the clock does; within the second there is no sum, and later only one.
    log.sum_up_before(8);
    log.sum_up_before(9);
    log.sum_up_before(10);
    // Or the end of the program.
    flood(12);
    let lines = end(log, reader);
    let of = |outcome: &str| -> Vec<&Value> {
        lines
            .iter()
            .filter(|line| line["outcome"] == outcome)
            .collect()
    };
    assert_eq!(of("closed").len(), 3 * (10 + 5));
    assert_eq!(of("hello_eof").len(), 1);
    let (sums, lines): (Vec<_>, Vec<_>) = of("no_route")
        .into_iter()
        .partition(|line| line.get("suppressed").is_some());
    assert_eq!(lines.len(), 3 * 10);
    assert_eq!(sums.len(), 3);
    assert!(
        sums.iter()
            .all(|sum| sum["suppressed"] == 5 && sum["time"].is_string()),
        "{sums:?}"
    );
    assert_eq!(registry.lines_suppressed.get(), 15);
}

#[test]
fn no_line_is_forgotten_when_workers_log_at_once() {
    let (log, registry, mut reader) = log(Logged::All);
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..1000 {
                    log_at(&log, Outcome::NoRoute, n / 100);
                }
            });
        }
        scope.spawn(|| (0..20).for_each(|second| log.sum_up_before(second)));
    });
    assert!(log.finish(LONG));
    drop(log);
    let (mut lines, mut suppressed) = (0, 0);
    for line in read.join().unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        match line.get("suppressed") {
            Some(sum) => suppressed += sum.as_u64().unwrap(),
            None => lines += 1,
        }
    }
    assert_eq!(
        registry
            .lines_dropped()
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    assert_eq!(suppressed, registry.lines_suppressed.get());
    assert_eq!(lines + suppressed, 4000);
}

const DOC: &str = include_str!("../../../docs/log.md");

#[test]
fn the_documentation_has_the_place_of_each_field_in_ecs() {
    let (_, doc) = DOC.split_once("\n| native | ECS |\n|---|---|\n").unwrap();
    let (rows, _) = doc.split_once("\n\n").unwrap();
    let attempts = attempts();
    let line = full(&attempts);
    let ecs = flat(&ecs_of(&line));
    let own = own(&line);
    let mut documented = Vec::new();
    for row in rows.lines() {
        let words: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let names = words
            .iter()
            .filter(|word| word.contains('.') && !word.ends_with('.'));
        for name in names {
            assert!(ecs.contains_key(*name), "{name} is not in {ecs:?}");
        }
        documented.extend(words.first().copied().filter(|word| *word != "portway."));
    }
    let native = serde_json::to_value(&line).unwrap();
    for name in native.as_object().unwrap().keys() {
        // Those that have another name somewhere, or a second place.
        let is_moved = own.get(name).is_none() || ["endpoint", "outcome"].contains(&&**name);
        assert_eq!(documented.contains(&&**name), is_moved, "{name}");
    }
}

#[test]
fn the_documentation_has_every_field_in_order() {
    let (doc, _) = DOC.split_once("\n## ").unwrap();
    let rows = doc
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: Vec<&str> = rows.map(|(field, _)| field).collect();
    let attempts = attempts();
    let line = Line {
        phase: Some(Phase::Open),
        ..full(&attempts)
    };
    let line = serde_json::to_string(&line).unwrap();
    let format::Pairs(pairs) = serde_json::from_str(&line).unwrap();
    let fields: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(documented, fields);
}
