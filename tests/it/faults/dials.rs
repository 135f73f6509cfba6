//! Backends that refuse, do not answer, or take nothing (F01, F03, F21).

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::it::fixture::{PATIENCE, Portway, config, pause, within};
use crate::it::peers::{
    ALERT_80, Backend, End, Refusing, Unanswering, connect, fill, free, read_to_end, reset,
};
use crate::it::process;

const FAILURES: &str = "portway_dial_failures_total";

#[test]
fn f01_a_refusing_endpoint_is_passed_over() {
    let (refusing, backend) = (Refusing::new(), Backend::echo());
    let portway = Portway::start(&config(&[refusing.address(), backend.address()], "", ""));
    // Ties are broken at random: one of these is sure to try the refusing one first.
    let clients: Vec<_> = (0..30).map(|_| portway.relayed()).collect();
    assert_eq!(backend.accepted(), clients.len());
    let metrics = portway.metrics();
    let endpoint = refusing.address().to_string();
    let labels = [
        ("backend", "fleet"),
        ("endpoint", endpoint.as_str()),
        ("reason", "refused"),
    ];
    assert!(metrics.sum(FAILURES, &labels) >= 1.0, "{}", metrics.page);
}

#[test]
fn f01_with_all_endpoints_refusing_the_client_is_told_at_once() {
    let refusing = Refusing::new();
    // portway must not wait for a limit of the dial.
    let limits = "connect_timeout = \"1h\"\ndial_timeout = \"1h\"";
    let portway = Portway::start(&config(&[refusing.address()], "", limits));
    let refused = || {
        let mut client = portway.client();
        assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
        client.shutdown(Shutdown::Write).unwrap();
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "backend_unavailable", "{line}");
        line
    };
    // Nor does it wait for the second after which it closes a refused client that does not close. This client may be
    // slow once, but not each time.
    let line = within(PATIENCE, "it ends before that second", || {
        Some(refused()).filter(|line| line["duration_ms"].as_f64().unwrap() < 950.0)
    });
    let attempts = line["attempts"].to_string();
    assert!(attempts.contains(&refusing.address().to_string()), "{line}");
    assert!(attempts.contains("refused"), "{line}");
}

/// The first client waits for it once. After its penalty it is tried again, beside the others.
#[test]
fn a_silent_endpoint_holds_up_one_client_and_no_other_one_at_its_next_trial() {
    let (silent, backend) = (Unanswering::new(), Backend::echo());
    let endpoints = [silent.address(), backend.address()];
    let portway = Portway::start(&config(&endpoints, "", "connect_timeout = \"3s\""));
    let failures = || portway.metrics().sum(FAILURES, &[("reason", "timeout")]);
    let mut clients = Vec::new();
    let mut failed_at = Vec::new();
    for failed in [1.0, 2.0] {
        within(PATIENCE, "a failure", || {
            clients.push(portway.relayed().local_addr().unwrap());
            pause(Duration::from_millis(50));
            (failures() >= failed).then(|| failed_at.push(Instant::now()))
        });
    }
    let penalty = failed_at[1] - failed_at[0];
    assert!(penalty > Duration::from_secs(10), "it goes last for 10 s");
    // A line has the attempts for which its client has waited.
    let lines = clients.iter().map(|client| portway.line_of(*client));
    let held_up = lines.filter(|line| line.get("attempts").is_some()).count();
    assert_eq!(held_up, 1, "of {} clients", clients.len());
}

#[test]
fn a_client_that_resets_while_its_backend_is_dialled_ends_at_once() {
    let silent = Unanswering::new();
    // Only the reset can end the attempt.
    let limits = "connect_timeout = \"1h\"\ndial_timeout = \"1h\"";
    let portway = Portway::start(&config(&[silent.address()], "", limits));
    let client = portway.client();
    let address = client.local_addr().unwrap();
    within(PATIENCE, "the dial has begun", || {
        let dials = portway.metrics().sum("portway_endpoint_connections", &[]);
        (dials > 0.5).then_some(())
    });
    reset(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "client_reset", "{line}");
    assert_eq!(line["closed_by"], "client", "{line}");
}

#[test]
fn f02_with_no_endpoint_answering_the_dial_ends_at_its_limit() {
    let silent = [Unanswering::new(), Unanswering::new(), Unanswering::new()];
    let endpoints: Vec<_> = silent.iter().map(Unanswering::address).collect();
    let limits = "connect_timeout = \"2s\"\ndial_timeout = \"2200ms\"";
    let portway = Portway::start(&config(&endpoints, "", limits));
    let mut client = portway.client();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "backend_unavailable", "{line}");
    let took = line["attempts"].as_array().unwrap().iter();
    let took: Vec<f64> = took.map(|it| it["ms"].as_f64().unwrap()).collect();
    assert!(took[0] > 1950.0, "{line}");
    // The second has the time that the first has left, which is none on a slow machine, and the third has none.
    let rest = &took[1..];
    assert!(
        rest.len() < 2 && rest.iter().all(|ms| *ms < 1950.0),
        "{line}"
    );
}

/// The first client dials, the others wait, and its failure answers all of them.
#[test]
fn a_dead_endpoint_is_dialled_by_as_many_as_max_dials_says_and_all_are_answered() {
    let silent = Unanswering::new();
    let limits = "max_dials = 1\nconnect_timeout = \"5s\"\ndial_timeout = \"1h\"";
    let portway = Portway::start(&config(&[silent.address()], "", limits));
    let mut clients: Vec<_> = (0..6).map(|_| portway.client()).collect();
    within(PATIENCE, "all dial or wait", || {
        let dials = portway.metrics().sum("portway_endpoint_connections", &[]);
        (dials > 5.5).then_some(())
    });
    for client in &mut clients {
        assert_eq!(read_to_end(client), (ALERT_80.to_vec(), End::Fin));
    }
    let lines = clients
        .iter()
        .map(|client| portway.line_of(client.local_addr().unwrap()));
    let waited = lines.filter(|line| {
        assert_eq!(line["outcome"], "backend_unavailable", "{line}");
        let attempts = line["attempts"].to_string();
        attempts.contains("not dialled") && attempts.contains("max_dials")
    });
    assert_eq!(waited.count(), 5);
    let failures = portway.metrics().sum(FAILURES, &[]);
    assert!((0.5..1.5).contains(&failures), "{failures}");
}

#[test]
fn a_client_whose_turn_to_dial_does_not_come_is_told_the_key() {
    let silent = Unanswering::new();
    let first = "max_dials = 1\nconnect_timeout = \"1h\"\ndial_timeout = \"1h\"";
    let portway = Portway::start(&config(&[silent.address()], "", first));
    let held = portway.client();
    within(PATIENCE, "the first dial", || {
        let dials = portway.metrics().sum("portway_endpoint_connections", &[]);
        (dials > 0.5).then_some(())
    });
    // The dial goes on, with the address that it has.
    let second = "max_dials = 1\nconnect_timeout = \"1s\"\ndial_timeout = \"1s\"";
    portway.reload_with(&config(&[silent.address()], "", second));
    let mut client = portway.client();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "backend_unavailable", "{line}");
    let detail = line["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("(max_dials)"), "{line}");
    drop(held);
}

#[test]
fn f03_a_backend_that_reads_nothing_costs_no_memory_and_ends_as_stalled() {
    let backend = Backend::holding();
    let limits = "stall_timeout = \"10s\"";
    let portway = Portway::start(&config(&[backend.address()], "", limits));
    let before = process::resident(portway.pid());
    // More than ten a second would share a line.
    let mut clients: Vec<_> = (0..8).map(|_| portway.client()).collect();
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(|| fill(client));
        }
    });
    // They end later than that.
    within(
        Duration::from_secs(5),
        "stalled clients take little memory",
        || (process::resident(portway.pid()) < before + (4 << 20)).then_some(()),
    );
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
}

#[test]
fn f21_check_refuses_a_route_to_its_own_listener() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("routes.toml");
    let own = "127.0.0.1:4433".parse().unwrap();
    let toml =
        config(&[own], "", "").replace("bind = [\"127.0.0.1:0\"]", "bind = [\"127.0.0.1:4433\"]");
    std::fs::write(&path, toml).unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_portway"));
    let output = check
        .args(["check", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        [Some(1), Some(78)].contains(&output.status.code()),
        "{output:?}"
    );
    assert!(told.contains("127.0.0.1:4433"), "{told}");
}

#[test]
fn invariant_10_a_name_that_leads_back_to_the_listener_makes_no_loop() {
    let port = free().port();
    let own = format!("bind = [\"127.0.0.1:{port}\"]");
    let toml = config(&[([127, 0, 0, 1], 1).into()], "", "")
        .replace("bind = [\"127.0.0.1:0\"]", &own)
        .replace("127.0.0.1:1\"", &format!("localhost:{port}\""));
    let portway = Portway::spawn(&toml, Stdio::piped());
    portway.program.wait(PATIENCE, |line| {
        line["fields"]["message"] == "ready" || line["level"] == "ERROR"
    });
    let mut client = connect(portway.address("agents"));
    client.write_all(&crate::it::fixture::hello()).unwrap();
    let mut byte = [0];
    // Some answer comes, and portway has made few connections for it.
    drop(client.read(&mut byte));
    let accepted = portway
        .metrics()
        .sum("portway_connections_accepted_total", &[]);
    assert!(accepted <= 3.0, "{accepted} connections out of one");
}
