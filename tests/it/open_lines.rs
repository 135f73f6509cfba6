//! `log.interval`: lines of connections that are open.

use std::io::{Read, Write};

use serde_json::Value;

use super::fixture::{Portway, config, hello};
use super::peers::{Backend, connect};

/// A routes.toml with these keys of `[log]`.
fn with(backend: &Backend, log: &str) -> String {
    config(&[backend.address()], "", "") + "[log]\n" + log
}

fn is_open(line: &Value) -> bool {
    line["phase"] == "open"
}

#[test]
fn a_connection_gets_a_line_after_each_interval_and_passes_every_byte_meanwhile() {
    let backend = Backend::echo();
    // It never ends as a failure, and yet its lines were asked for.
    let portway = Portway::start(&with(
        &backend,
        "connections = \"failures\"\ninterval = \"1s\"\n",
    ));
    let mut client = portway.relayed();
    let local = client.local_addr().unwrap();
    let first = portway.line_of(local);
    let begun = u64::try_from(hello().len()).unwrap();
    for moved in [begun, begun + 10] {
        let line = portway.wait_line(|line| {
            is_open(line) && line["bytes_client_to_backend"].as_u64() == Some(moved)
        });
        assert_eq!(line["id"], first["id"], "{line}");
        assert_eq!(line["client"], local.to_string(), "{line}");
        assert_eq!(line["route"], "fleet", "{line}");
        assert_eq!(line["endpoint"], backend.address().to_string(), "{line}");
        assert!(line["duration_ms"].as_f64().unwrap() >= 1000.0, "{line}");
        for absent in ["outcome", "closed_by", "client_rtt_ms"] {
            assert_eq!(line.get(absent), None, "{line}");
        }
        client.write_all(&[7; 10]).unwrap();
        let mut echoed = [0; 10];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, [7; 10]);
    }
    // No second has two lines of it.
    let second = |line: &Value| line["duration_ms"].as_f64().unwrap() / 1000.0;
    let lines = portway.connections.all();
    let seconds: Vec<f64> = lines.iter().map(second).collect();
    assert!(
        seconds
            .windows(2)
            .all(|two| two[0].floor() < two[1].floor()),
        "{seconds:?}"
    );
}

#[test]
fn a_client_that_is_slow_with_its_hello_has_a_line_and_then_its_end() {
    let backend = Backend::echo();
    let portway = Portway::start(&with(&backend, "interval = \"1s\"\n"));
    let mut client = connect(portway.address("agents"));
    client.write_all(&hello()[..20]).unwrap();
    let open = portway.wait_line(is_open);
    assert_eq!(open["hello_bytes"], 20, "{open}");
    drop(client);
    let end = portway.wait_line(|line| line["outcome"] == "hello_eof");
    assert_eq!(end["id"], open["id"]);
    assert_eq!(end.get("phase"), None, "{end}");
    assert_eq!(end["hello_bytes"], 20, "{end}");
}

#[test]
fn a_reload_begins_and_ends_the_lines_of_open_connections() {
    let backend = Backend::echo();
    let portway = Portway::start(&with(&backend, ""));
    let client = portway.relayed();
    portway.reload_with(&with(&backend, "interval = \"1s\"\n"));
    let line = portway.line_of(client.local_addr().unwrap());
    assert!(is_open(&line), "{line}");
    portway.reload_with(&with(&backend, ""));
    drop(client);
    let end = portway.wait_line(|line| !is_open(line));
    assert_eq!(end["id"], line["id"]);
}
