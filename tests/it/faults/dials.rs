//! Backends that refuse, do not answer, or take nothing (F01, F03, F21).

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::it::fixture::{PATIENCE, Portway, config, once_more, pause, within};
use crate::it::peers::{Backend, End, Refusing, Unanswering, connect, fill, read_to_end, reset};
use crate::it::process;

const ALERT_80: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];
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
    let portway = Portway::start(&config(&[refusing.address()], "", ""));
    once_more("time to the alert", || {
        let begin = Instant::now();
        let mut client = portway.client();
        assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
        let took = begin.elapsed();
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "backend_unavailable", "{line}");
        let attempts = line["attempts"].to_string();
        assert!(attempts.contains(&refusing.address().to_string()), "{line}");
        assert!(attempts.contains("refused"), "{line}");
        if took < Duration::from_millis(100) {
            Ok(())
        } else {
            Err(format!("{took:?}"))
        }
    });
}

/// A backend with two endpoints: one with a full queue, and one that answers.
fn beside_a_silent_endpoint(connect_timeout: &str) -> (Portway, (Unanswering, Backend)) {
    let (silent, backend) = (Unanswering::new(), Backend::echo());
    let endpoints = [silent.address(), backend.address()];
    let limit = format!("connect_timeout = \"{connect_timeout}\"");
    (
        Portway::start(&config(&endpoints, "", &limit)),
        (silent, backend),
    )
}

#[test]
fn an_endpoint_that_does_not_answer_is_waited_for_once() {
    let (portway, _peers) = beside_a_silent_endpoint("1s");
    once_more("clients beside a silent endpoint", || {
        // One waits for the silent one; which one is chance.
        within(
            Duration::from_secs(40),
            "a failure of the silent endpoint",
            || {
                drop(portway.relayed());
                let failures = portway.metrics().sum(FAILURES, &[("reason", "timeout")]);
                (failures >= 1.0).then_some(())
            },
        );
        let slowest = (0..20).map(|_| {
            let begin = Instant::now();
            drop(portway.relayed());
            begin.elapsed()
        });
        let slowest = slowest.max().unwrap();
        if slowest < Duration::from_millis(100) {
            Ok(())
        } else {
            Err(format!("{slowest:?}"))
        }
    });
}

/// After its penalty the silent endpoint is tried again, beside the others.
#[test]
fn a_trial_of_a_silent_endpoint_does_not_hold_its_client_up() {
    let (portway, _peers) = beside_a_silent_endpoint("3s");
    let failures = || portway.metrics().sum(FAILURES, &[("reason", "timeout")]);
    within(Duration::from_mins(1), "a failure", || {
        drop(portway.relayed());
        (failures() >= 1.0).then_some(())
    });
    let mut trials = 0.0;
    once_more("the slowest client beside a trial", || {
        trials += 1.0;
        let begin = Instant::now();
        let mut slowest = Duration::ZERO;
        within(Duration::from_mins(1), "a failure of the trial", || {
            let begin = Instant::now();
            drop(portway.relayed());
            slowest = slowest.max(begin.elapsed());
            pause(Duration::from_millis(50));
            (failures() > trials).then_some(())
        });
        assert!(
            begin.elapsed() > Duration::from_secs(10),
            "it goes last for 10 s"
        );
        if slowest < Duration::from_millis(100) {
            Ok(())
        } else {
            Err(format!("{slowest:?}"))
        }
    });
}

#[test]
fn a_client_that_resets_while_its_backend_is_dialled_ends_at_once() {
    let silent = Unanswering::new();
    let portway = Portway::start(&config(&[silent.address()], "", ""));
    once_more("time from the reset to the end", || {
        let client = portway.client();
        let address = client.local_addr().unwrap();
        within(PATIENCE, "the dial has begun", || {
            let dials = portway.metrics().sum("portway_endpoint_connections", &[]);
            (dials > 0.5).then_some(())
        });
        let begin = Instant::now();
        reset(client);
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "client_reset", "{line}");
        assert_eq!(line["closed_by"], "client", "{line}");
        let took = begin.elapsed();
        // The attempt alone would take four seconds.
        if took < Duration::from_secs(1) {
            Ok(())
        } else {
            Err(format!("{took:?}"))
        }
    });
}

#[test]
fn with_no_endpoint_answering_the_dial_ends_at_its_limit() {
    let silent = [Unanswering::new(), Unanswering::new(), Unanswering::new()];
    let endpoints: Vec<_> = silent.iter().map(Unanswering::address).collect();
    let limits = "connect_timeout = \"1s\"\ndial_timeout = \"2500ms\"";
    let portway = Portway::start(&config(&endpoints, "", limits));
    once_more("time to the alert", || {
        let begin = Instant::now();
        let mut client = portway.client();
        assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
        let took = begin.elapsed();
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "backend_unavailable", "{line}");
        let attempts = line["attempts"].to_string();
        for endpoint in &endpoints {
            assert!(attempts.contains(&endpoint.to_string()), "{line}");
        }
        let expected = Duration::from_millis(2250)..Duration::from_millis(2750);
        if expected.contains(&took) {
            Ok(())
        } else {
            Err(format!("{took:?}: {line}"))
        }
    });
}

#[test]
fn f03_a_backend_that_reads_nothing_costs_no_memory_and_ends_as_stalled() {
    let backend = Backend::holding();
    let limits = "stall_timeout = \"2s\"";
    let portway = Portway::start(&config(&[backend.address()], "", limits));
    let before = process::resident(portway.pid());
    // Over ten a second would share a line.
    let mut clients: Vec<_> = (0..8).map(|_| portway.client()).collect();
    clients.iter().for_each(fill);
    let grown = process::resident(portway.pid()).saturating_sub(before);
    assert!(
        grown < 4 << 20,
        "{grown} bytes for {} stalled clients",
        clients.len()
    );
    for client in &mut clients {
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "stalled", "{line}");
        let ms = line["duration_ms"].as_f64().unwrap();
        assert!((1900.0..6000.0).contains(&ms), "{line}");
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
    let port = {
        let free = Refusing::new();
        free.address().port()
    };
    let own = format!("bind = [\"127.0.0.1:{port}\"]");
    let toml = config(&[([127, 0, 0, 1], 1).into()], "", "")
        .replace("bind = [\"127.0.0.1:0\"]", &own)
        .replace("127.0.0.1:1\"", &format!("localhost:{port}\""));
    let portway = Portway::spawn(&toml, Stdio::piped());
    portway.program.wait(Duration::from_secs(20), |line| {
        line["fields"]["message"] == "ready" || line["level"] == "ERROR"
    });
    let mut client = connect(portway.address("agents"));
    client.write_all(&crate::it::fixture::hello()).unwrap();
    let mut byte = [0];
    // Whatever the answer is: it comes, and few connections were made for it.
    drop(client.read(&mut byte));
    let accepted = portway
        .metrics()
        .sum("portway_connections_accepted_total", &[]);
    assert!(accepted <= 3.0, "{accepted} connections out of one");
}
