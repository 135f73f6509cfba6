//! Clients that do not begin with a hello of TLS.

use std::io::Write;

use super::{Look, curl, logged, says};
use crate::it::fixture::{NAME, PATIENCE, Portway, config, within};
use crate::it::handshakes::Peers;
use crate::it::peers::{connect, read_to_end};

/// Lets curl ask a portway before a server that is well, at this scheme and in this way. Returns what curl says and the
/// line of the log.
fn asked_by_curl(cause: &str, scheme: &str, way: &[&str], said: &str, words: &[&str]) {
    let backend = Peers::new(&rustls::version::TLS13).server();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let (look, address) = (Look(&portway), portway.address("agents"));
    let url = format!("{scheme}://{NAME}:{}/", address.port());
    let resolve = format!("{NAME}:{}:127.0.0.1", address.port());
    let way: Vec<String> = way
        .iter()
        .map(|it| it.replace("ADDRESS", &address.to_string()))
        .collect();
    let mut arguments: Vec<&str> = way.iter().map(String::as_str).collect();
    arguments.extend(["--resolve", &resolve, &url]);
    let Some(shown) = curl(&arguments) else {
        return;
    };
    says(&shown, &[said]);
    let line = portway.wait_line(|line| line["outcome"] == "not_tls");
    logged(cause, &line);
    says(line["detail"].as_str().unwrap(), words);
    look.status("not_tls", words);
    look.explain(&[NAME], &["route        fleet (fleet.example)"]);
    look.doctor_finds_no_error();
}

#[test]
fn a_proxy_header_that_portway_does_not_expect() {
    let words = "turn it off at the balancer, or trust it in proxy_protocol.trusted";
    let way = ["--haproxy-protocol"];
    asked_by_curl(
        "proxy_header",
        "https",
        &way,
        "SSL",
        &["PROXY protocol v1", words],
    );
}

#[test]
fn a_connect_request_at_a_listener_for_tls() {
    let said = "CONNECT tunnel failed, response 405";
    let words = "remove proxy_url, HTTPS_PROXY or HTTP_PROXY from the client's settings";
    let way = ["--proxy", "http://ADDRESS"];
    asked_by_curl(
        "connect_request",
        "https",
        &way,
        said,
        &["HTTP CONNECT to a proxy", words],
    );
}

#[test]
fn plain_http() {
    let said = "This port speaks TLS, not plain HTTP: use an https:// URL.";
    let words = "the client's URL must begin with https://";
    asked_by_curl(
        "plain_http",
        "http",
        &["--noproxy", "*"],
        said,
        &["HTTP GET", words],
    );
}

#[test]
fn a_scan_or_a_probe() {
    let backend = Peers::new(&rustls::version::TLS13).server();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let look = Look(&portway);
    // A balancer only connects. That is counted, and nobody has to do anything about it.
    drop(connect(portway.address("agents")));
    within(PATIENCE, "the probe is counted", || {
        (look.json()["totals"]["outcomes"]["probe"] == 1).then_some(())
    });
    assert_eq!(look.json()["refused"], serde_json::json!([]));

    let mut scanner = connect(portway.address("agents"));
    scanner.write_all(b"SSH-2.0-OpenSSH_9.6\r\n").unwrap();
    assert!(read_to_end(&mut scanner).0.is_empty());
    let line = portway.line_of(scanner.local_addr().unwrap());
    logged("scan", &line);
    look.status(
        "not_tls",
        &["SSH", "If you do not know the client, it is a scanner."],
    );
    look.doctor_finds_no_error();
}
