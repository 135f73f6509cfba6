//! The page of statuses that were made up.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::*;
use crate::telemetry::json as ascii_json;

fn shown(status: &Value, connections: &Value, query: &str) -> String {
    render(&Shown {
        status: serde_json::from_value(status.clone()).unwrap(),
        connections: Ok(serde_json::from_value(connections.clone()).unwrap()),
        asked: Asked::parse(query),
    })
}

/// Everything that a page can show, with this text wherever there is one.
fn full(text: &str, rows: usize) -> (Value, Value) {
    let time = "2026-11-30T19:00:07.000Z";
    let refused = json!({
        "clients": text, "client": text, "name": text, "outcome": text, "reason": text, "listener": text, "backend": text,
        "detail": text, "nearest": text, "count": 12, "last_seen": text, "remedy": text,
    });
    let certificate = json!({ "state": text, "not_after": text, "seen": text });
    let address = json!({ "address": "10.0.0.7:8220", "state": "failed", "unhealthy": true, "waiting": 2, "failures": 1,
        "penalty_ms": 8000, "certificate": certificate });
    let endpoint = json!({ "name": text, "role": text, "weight": 2, "dial_failures": { text: 1 }, "addresses": [address] });
    let unresolved = json!({ "name": text, "role": text, "unresolved": text });
    let backend = json!({ "name": text, "via": text, "outcomes": { text: 1 }, "handshakes": { text: 1 },
        "rates": { "failures_per_s": 0.5 }, "endpoints": [endpoint, unresolved] });
    let route =
        json!({ "name": text, "server_names": text, "backend": text, "no_server_name": true });
    let listener = json!({ "name": text, "protocol": text, "addresses": ["10.0.0.1:443"], "outcomes": { text: 1 } });
    let status = json!({
        "time": time, "version": text, "started": text, "stage": "draining", "silent_workers": 1, "refused_forgotten": 1,
        "drain": { "cause": text, "since": text, "until": text },
        "configuration": { "file": text, "hash": text, "loaded": text,
            "refused_reload": { "time": text, "faults": [text], "faults_not_shown": 1 } },
        "limits": [{ "name": text, "used": 90, "limit": 100, "near": true }],
        "refused": vec![refused; rows.min(256)], "backends": vec![backend; rows], "routes": vec![route; rows],
        "listeners": vec![listener; rows],
    });
    let connection = json!({ "id": text, "client": "10.1.2.3:4", "listener": text, "server_name": text, "backend": text,
        "failed_attempts": 1, "phase": "relay", "age_ms": 1, "bytes_client_to_backend": 1, "bytes_backend_to_client": 1, "config": 1 });
    let connections =
        json!({ "connections": vec![connection; rows.min(CONNECTIONS)], "next": text });
    (status, connections)
}

#[test]
fn the_policy_permits_the_style_sheet_of_the_page_and_nothing_else() {
    let page = shown(&json!({}), &json!({}), "");
    let begin = page.find("<style>").unwrap() + "<style>".len();
    let style = &page[begin..page.find("</style>").unwrap()];
    let hash = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        Sha256::digest(style),
    );
    assert!(
        POLICY.contains(&format!("style-src 'sha256-{hash}';")),
        "{hash}"
    );
    assert!(POLICY.starts_with("default-src 'none'; "));
    for part in [
        "<script", "style=", " on", "<img", "<link", "http:", "https:", "url(",
    ] {
        assert!(!page.contains(part), "{part}");
    }
}

#[test]
fn no_text_becomes_markup_or_anything_but_printable_ascii() {
    let hostile = "</style></pre><script src=//evil>\"' onload=x &lt; `<b>`\r\n\t\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{0}x";
    let of = |text: &str| {
        let (status, connections) = full(text, 2);
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(["client", "server_name", "backend", "phase"].map(|name| (name, text)))
            .finish();
        shown(&status, &connections, &query)
    };
    let (page, harmless) = (of(hostile), of("a`b`"));
    let begin = page.find("</style>").unwrap();
    let body = &page[begin..];
    assert!(body.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    // The same tags and attributes as for an ordinary text.
    for character in ['<', '>', '"'] {
        let count = |page: &str| page.matches(character).count();
        assert_eq!(count(&page), count(&harmless), "{character}");
    }
    assert!(page.contains("&lt;script src=//evil&gt;&quot;' onload=x &amp;lt; "));
    assert!(page.contains("\\u{d}\\u{a}\\u{9}\\u{1b}[2J\\u{7f}\\u{9b}\\u{202e}\\u{0}x"));
}

#[test]
fn the_page_is_bounded_whatever_there_is() {
    // As the log bounds a name, with the characters that take most room when they are escaped.
    let text = "\u{10ffff}".repeat(64) + "<\"&";
    let (status, connections) = full(&text, 1000);
    let page = shown(&status, &connections, "");
    assert!(page.len() < 4 << 20, "{}", page.len());
    let (status, connections) = full(&"a".repeat(30), 1000);
    let page = shown(&status, &connections, "");
    assert!(page.len() < 1 << 20, "{}", page.len());
    // `/status` has no bound that is so low.
    assert!(ascii_json(&status).len() > page.len());
    assert!(page.contains("The page leaves out 900 of them: "));
}

/// Checks that the parts are on the page in this order.
fn is_in_order(page: &str, parts: &[&str]) {
    let mut rest = page;
    for part in parts {
        let Some(at) = rest.find(part) else {
            panic!("{part:?} is not behind the part before it in\n{page}");
        };
        rest = &rest[at..];
    }
}

/// The page of a portway with every trouble.
fn troubled() -> String {
    let row = |number: u32| {
        json!({ "clients": "10.1.2.0/24", "name": format!("n{number}.example"), "outcome": "no_route",
        "count": 2, "last_seen": "2026-11-30T19:00:07.000Z", "nearest": "fleet.example", "remedy": "Run `portway explain`." })
    };
    let mut refused: Vec<Value> = (0..7).map(row).collect();
    refused.push(
        json!({ "clients": "10.1.3.0/24", "outcome": "backend_unavailable", "reason": "refused", "count": 1,
        "backend": "fleet", "last_seen": "2026-11-30T18:59:10.000Z", "remedy": "Start it." }),
    );
    shown(
        &json!({
            "time": "2026-11-30T19:00:10.000Z", "version": "1.2.3", "uptime_s": 93_600, "stage": "ready",
            "configuration": { "file": "/etc/routes.toml", "generation": 3, "loaded": "2026-11-30T18:00:10.000Z",
                "refused_reload": { "time": "2026-11-30T19:00:00.000Z", "faults": ["line 7: no"], "faults_not_shown": 2 } },
            "refused": refused,
            "backends": [{ "name": "fleet", "handshakes": { "failed": 3 }, "endpoints": [
                { "name": "10.0.0.7:8220", "role": "active", "addresses": [
                    { "address": "10.0.0.7:8220", "state": "healthy", "certificate": {
                        "state": "certificate_expires_soon", "not_after": "2026-12-06T00:00:00.000Z" } },
                ] },
                { "name": "gone.internal:8220", "role": "backup", "unresolved": "unresolved: no such host" },
            ] }],
            "limits": [{ "name": "max_pending", "near": false }, { "name": "max_connections", "near": true }],
        }),
        &json!({ "total": 9000, "matching": 8, "next": "00ff", "connections": [
            { "id": "1", "client": "10.1.2.3:4", "listener": "agents", "server_name": "fleet.example", "phase": "relay",
              "age_ms": 61_000, "bytes_client_to_backend": 1024, "bytes_backend_to_client": 0, "config": 1 },
        ] }),
        "client=10.1.0.0%2F16&backend=&after=00aa&sort=idle&phase=relay",
    )
}

#[test]
fn the_first_questions_of_an_operator_are_answered_first() {
    let page = troubled();
    is_in_order(
        &page,
        &[
            "It has been up for 1 d 2 h.",
            "Clients: look here",
            "The last connection failed 3 s ago.",
            "Backends: look here",
            "Failing: fleet.",
            "Near or reached: max_connections.",
            "A reload was refused 10 s ago.",
            "<code>no_route</code>: 14 connections",
            " to do: </strong>Run <code>portway explain</code>.",
            "href=\"/?client=10.1.2.0%2F24#connections\"",
            "Did the client mean <code>fleet.<wbr>example</code>?",
            "<summary>2 more rows of no_route</summary>",
            "<code>backend_unavailable</code> (<code>refused</code>): 1 connection<",
            "Handshakes since the start: 3 failed.",
            "10.0.0.7:8220: a certificate of it expires on 2026-12-06",
            "gone.internal:8220: unresolved: no such host",
            "Last failures of fleet",
            "max_connections",
            "max_pending",
            "(backup)",
            "name=\"client\" value=\"10.1.0.0/16\"",
            "<option selected>relay</option>",
            "<option selected>idle</option>",
            "1 of 8 that match; portway has 9000.",
            "1 min 1 s",
            "href=\"/?client=10.1.0.0%2F16&amp;sort=idle&amp;phase=relay#connections\">The first page",
            "href=\"/?client=10.1.0.0%2F16&amp;sort=idle&amp;phase=relay&amp;after=00ff#connections\">The next page",
            "portway refused to reload the file 10 s ago.",
            "line 7: no",
            "<code>portway check</code> shows 2 more lines.",
        ],
    );
}

#[test]
fn a_quiet_process_has_nothing_to_look_at() {
    let old = json!([{ "outcome": "no_route", "last_seen": "2026-11-30T18:00:00.000Z" }]);
    let page = shown(
        &json!({ "time": "2026-11-30T19:00:00.000Z", "refused": old }),
        &json!({}),
        "",
    );
    assert!(!page.contains("look here"));
    for part in [
        "The last connection failed 1 h 0 min ago.",
        "No backend fails.",
        "No limit is near.",
        "The file is in force.",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn an_invalid_query_is_answered_with_a_sentence() {
    let asked = Asked::parse("sort=size&limit=");
    let error = asked.bounded().unwrap_err();
    let page = render(&Shown {
        status: Status::default(),
        connections: Err(error),
        asked,
    });
    assert!(page.contains("sort=size: write one of id, age, bytes, idle."));
    let most = Asked::parse("limit=1000&phase=").bounded().unwrap();
    assert_eq!((most.limit, most.phase), (CONNECTIONS, None));
}
