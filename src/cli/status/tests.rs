//! The text of statuses that were made up, and what a hostile answer can do to a terminal.

use clap::Parser;

use super::page::Shown;
use super::*;
use crate::status;

fn shown(json: &Value) -> String {
    let shown = Shown {
        status: read(&json.to_string()).unwrap(),
        connections: Some(Connections::default()),
        asked: None,
    };
    shown.to_string()
}

#[test]
fn the_first_questions_of_an_operator_are_answered_first() {
    let now = "2026-11-30T19:00:10.000Z";
    let text = shown(&serde_json::json!({
        "time": now, "version": "1.2.3", "pid": 7, "uptime_s": 93_600, "stage": "ready",
        "configuration": {
            "file": "/etc/routes.toml", "generation": 3, "loaded": "2026-11-30T18:00:10.000Z",
            "refused_reload": { "time": "2026-11-30T19:00:00.000Z", "faults": ["line 7: no"], "faults_not_shown": 2 },
        },
        "refused": [
            { "clients": "10.1.2.0/24", "name": "flet.example", "outcome": "no_route", "count": 12,
              "last_seen": "2026-11-30T19:00:07.000Z", "nearest": "fleet.example", "remedy": "Correct it." },
            { "clients": "10.1.3.0/24", "outcome": "backend_unavailable", "reason": "refused", "count": 2,
              "backend": "fleet", "last_seen": "2026-11-30T18:59:10.000Z", "remedy": "Start it." },
            { "clients": "10.1.4.0/24", "many_names": true, "outcome": "no_route", "count": 3,
              "last_seen": "2026-11-30T18:59:00.000Z", "remedy": "Correct it." },
        ],
        "refused_forgotten": 5,
        "backends": [{ "name": "fleet", "rates": { "failures_per_s": 0.5 }, "endpoints": [
            { "name": "10.0.0.7:8220", "role": "active", "addresses": [
                { "address": "10.0.0.7:8220", "state": "failed", "failures": 1, "penalty_ms": 8000 },
            ] },
            { "name": "gone.internal:8220", "role": "backup", "unresolved": "unresolved: no such host" },
        ] }],
        "limits": [{ "name": "max_connections", "used": 90, "limit": 100, "near": true, "rejected": 4 }],
    }));
    let places = [
        "portway 1.2.3, process 7: ready, up 1 d 2 h",
        "/etc/routes.toml: generation 3, loaded 1 h 0 min ago",
        "RELOAD REFUSED 10 s ago",
        "line 7: no",
        "and 2 more lines",
        "no_route: 15",
        "10.1.2.0/24  flet.example        12     3 s ago         did it mean fleet.example?",
        "10.1.4.0/24  (many other names)  3      1 min 10 s ago",
        "-> Correct it.",
        "backend_unavailable (refused): 2",
        "backend fleet",
        "-> Start it.",
        "and 5 connections before them",
        "fleet: 0.5 failed connections per second",
        "10.0.0.7:8220: its last dial failed; ranked last for 8 s",
        "gone.internal:8220: unresolved: no such host",
        "Limits that are near or reached:",
        "max_connections  90      100  4",
        "gone.internal:8220 (backup)",
        "Connections (0 of 0)",
    ];
    let mut rest = text.as_str();
    for place in places {
        let Some(at) = rest.find(place) else {
            panic!("{place:?} is not behind the place before it in\n{text}");
        };
        rest = &rest[at..];
    }
}

#[test]
fn a_quiet_process_has_few_lines() {
    let text = shown(&serde_json::json!({}));
    assert!(text.contains("Nobody was refused, and no connection failed."));
    assert!(text.contains("No backend fails.") && text.contains("No limit is near."));
    assert!(text.lines().count() < 25, "{text}");
}

#[test]
fn workers_that_did_not_answer_are_named_where_their_part_is_missing() {
    let refused = Shown {
        status: read("{\"silent_workers\":1}").unwrap(),
        connections: None,
        asked: None,
    };
    let sentence = "1 worker did not answer within a second, so refused and failed connections";
    assert!(refused.to_string().starts_with(sentence), "{refused}");
    let connections = tables::connections(&read("{\"silent_workers\":2}").unwrap());
    let sentence = "2 workers did not answer within a second, so this list is incomplete.";
    assert!(connections.contains(sentence), "{connections}");
}

#[test]
fn only_refusals_are_shown_without_a_bound() {
    let row = |number: u32| serde_json::json!({ "clients": "10.0.0.0/24", "name": format!("n{number}"), "outcome": "no_route" });
    let rows: Vec<_> = (0..50).map(row).collect();
    let status = serde_json::json!({ "refused": rows });
    let whole = shown(&status);
    assert!(whole.contains("n4") && !whole.contains("n5"));
    assert!(whole.contains("and 45 more: portway status --refused"));
    let refused = Shown {
        status: read(&status.to_string()).unwrap(),
        connections: None,
        asked: Some((7, 1000)),
    };
    let refused = refused.to_string();
    assert!(
        refused.starts_with("(the answer of process 7 of user 1000)\nRefused"),
        "{refused}"
    );
    assert!(refused.contains("n49") && !refused.contains("Backends"));
}

#[test]
fn no_text_of_an_answer_controls_the_terminal() {
    let hostile = "\u{1b}[2J\r\n\u{7f}\u{9b}\u{202e}x";
    let mut json = serde_json::to_value(status::Status::default()).unwrap();
    json["version"] = hostile.into();
    json["configuration"]["file"] = hostile.into();
    json["configuration"]["refused_reload"] = serde_json::json!({ "faults": [hostile] });
    json["refused"] = serde_json::json!([{ "name": hostile, "detail": hostile, "outcome": hostile, "remedy": hostile }]);
    json["backends"] = serde_json::json!([{ "name": hostile, "outcomes": { hostile: 1 }, "endpoints": [
        { "name": hostile, "role": hostile, "unresolved": hostile, "dial_failures": { hostile: 1 } },
    ] }]);
    json["routes"] =
        serde_json::json!([{ "name": hostile, "server_names": hostile, "backend": hostile }]);
    let text = shown(&json);
    assert!(
        text.chars().all(|c| c == '\n' || matches!(c, ' '..='~')),
        "{text:?}"
    );
    assert!(
        text.contains(r"\u{1b}[2J\u{d}\u{a}\u{7f}\u{9b}\u{202e}x"),
        "{text}"
    );
}

#[derive(Parser)]
struct Asked {
    #[command(flatten)]
    status: Status,
}

#[test]
fn no_text_of_an_answer_for_programs_controls_the_terminal() {
    let hostile = "a\u{9b}2J\u{202e}b.cd";
    let row = serde_json::json!({ "name": hostile, "outcome": "invalid_server_name" });
    let sent = serde_json::json!({ "refused": [row], "backends": [] });
    let answered = Answered {
        pid: 7,
        user: 0,
        status: socket::FINE,
        text: String::from_utf8(telemetry::json(&sent)).unwrap(),
    };
    let status = Asked::parse_from(["status", "--refused", "--output", "json"]).status;
    let text = status.for_programs(&answered).unwrap();
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert!(
        text.trim_end()
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~')),
        "{text:?}"
    );
    assert_eq!(shown["refused"][0]["name"], hostile);
    assert_eq!(shown.get("backends"), None);
}

#[test]
fn connections_are_rows_with_a_way_to_the_next_page() {
    let answer = serde_json::json!({ "matching": 3, "next": "00000000000000ff", "connections": [
        { "id": "00000000000000ff", "client": "10.1.2.3:4", "listener": "agents", "server_name": "fleet.example",
          "phase": "half_closed", "age_ms": 61_000, "idle_s": 3, "bytes_client_to_backend": 1024,
          "bytes_backend_to_client": 0, "config": 1 },
    ] });
    let text = tables::connections(&read(&answer.to_string()).unwrap());
    for part in [
        "Connections (1 of 3)",
        "10.1.2.3:4",
        "half_closed  1 min 1 s  3 s",
        "add after=00000000000000ff",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
