//! Random transfers: bytes pass unchanged, in order, once, and both kinds of end stay what they are
//! (invariants 1 and 6; faults F04 to F09 on a small scale).
//!
//! `PORTWAY_TRANSFERS` sets the count of each mode, `PORTWAY_SEED` repeats a run.

pub(crate) mod arena;
mod judge;
mod paths;
pub(crate) mod plan;
mod side;

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use arena::{Arena, Done};
use plan::Plan;
use portway::relay::Splicing;

use super::fixture::{PATIENCE, Portway, config, hello, within};
use super::in_process::InProcess;
use super::peers::{ANSWER, Backend, End, connect, read_to_end};
use super::random::{Content, SLICE};
use super::{ordinary_user, process, random};

/// Runs through `relay` and shows the first faults.
fn run(arena: &Arena, relay: SocketAddr) -> Vec<Done> {
    let count = count();
    let (done, faults) = arena.run(relay, count);
    let first: Vec<_> = faults.iter().take(5).collect();
    assert!(faults.is_empty(), "{} of {count}: {first:#?}", faults.len());
    done
}

fn count() -> u64 {
    random::count("PORTWAY_TRANSFERS", 400)
}

/// Runs through a portway of the test, and compares its log and metrics with what was sent.
fn through_portway(plan: PlanOf, splicing: Splicing) {
    process::raise_descriptors();
    let arena = Arena::new(random::seed(), plan);
    let toml = config(&[arena.backend.address()], "drain_timeout = \"1s\"", "");
    let portway = InProcess::start(&toml, splicing);
    let done = run(&arena, portway.address());
    let metrics = within(PATIENCE, "nothing is active", || {
        let metrics = portway.metrics();
        (metrics.sum("portway_connections_active", &[]).abs() < 0.5).then_some(metrics)
    });
    let closed = metrics.sum("portway_connections_closed_total", &[]);
    assert_eq!(
        format!("{closed}"),
        count().to_string(),
        "{:?}",
        metrics.outcomes("agents")
    );
    // Without an answer the outcome may be `backend_closed_early`, and many of those share a line.
    let answered = |transfer: &&Done| transfer.orderly && transfer.bytes[1] > 0;
    for transfer in done.iter().filter(answered) {
        let what = format!("a line of {transfer:?}");
        within(PATIENCE, &what, || {
            portway.find_line(&transfer.client.to_string(), |line| {
                line["outcome"] == "closed"
                    && line["bytes_client_to_backend"] == transfer.bytes[0]
                    && line["bytes_backend_to_client"] == transfer.bytes[1]
            })
        });
    }
}

type PlanOf = fn(u64, u64) -> Plan;

#[test]
fn invariant_1_and_6_hold_when_splicing() {
    through_portway(Plan::new, Splicing::Always);
}

#[test]
fn invariant_1_and_6_hold_when_copying() {
    through_portway(Plan::new, Splicing::Never);
}

#[test]
fn invariant_1_and_6_hold_by_default() {
    through_portway(Plan::new, Splicing::Bulk);
}

#[test]
fn invariant_1_and_6_hold_when_switching_between_copy_and_splice() {
    through_portway(Plan::new, Splicing::Alternating);
}

/// Splices with pipes of two slots: what an ordinary user gets once its quota is spent.
#[test]
fn invariant_1_and_6_hold_with_shrunken_pipes() {
    ordinary_user::run("it::transfers::with_shrunken_pipes_as_an_ordinary_user");
}

/// The test above runs this one in its own process.
#[test]
fn with_shrunken_pipes_as_an_ordinary_user() {
    if ordinary_user::portway().is_none() {
        return;
    }
    process::raise_descriptors();
    let mut held = Vec::new();
    loop {
        let (reader, writer) = std::io::pipe().unwrap();
        let size = rustix::pipe::fcntl_getpipe_size(&writer).unwrap();
        held.push((reader, writer));
        if size < 64 << 10 {
            break;
        }
        assert!(
            held.len() < 5000,
            "pipes do not shrink: is this user privileged?"
        );
    }
    through_portway(Plan::new, Splicing::Always);
}

#[test]
fn f04_a_reset_of_the_backend_leaves_an_exact_prefix_and_stays_a_reset() {
    through_portway(Plan::backend_resets, Splicing::Bulk);
    through_portway(Plan::backend_resets, Splicing::Always);
}

#[test]
fn f05_a_reset_of_the_client_reaches_the_backend() {
    through_portway(Plan::client_resets, Splicing::Bulk);
    through_portway(Plan::client_resets, Splicing::Always);
}

#[test]
fn f06_and_f07_much_may_follow_the_end_of_the_other_direction() {
    let arena = Arena::new(random::seed(), Plan::much_after_a_half_close);
    let toml = config(&[arena.backend.address()], "drain_timeout = \"1s\"", "");
    let portway = InProcess::start(&toml, Splicing::Bulk);
    let (_, faults) = arena.run(portway.address(), 8);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The backend has sent everything before the client begins.
#[test]
fn f07_after_the_end_of_the_backend_the_client_may_send_16_mb() {
    const SIZE: usize = 16_000_000;
    let content = Content::new(7);
    let (tell, told) = mpsc::channel();
    let backend = Backend::start(move |mut stream| {
        stream.write_all(&ANSWER).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        tell.send(read_to_end(&mut stream)).unwrap();
    });
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = connect(portway.address("agents"));
    let mut sent = hello();
    client.write_all(&sent).unwrap();
    assert_eq!(read_to_end(&mut client), (ANSWER.to_vec(), End::Fin));
    while sent.len() < SIZE {
        let piece = content.at(u64::try_from(sent.len()).unwrap(), SLICE);
        client.write_all(piece).unwrap();
        sent.extend_from_slice(piece);
    }
    client.shutdown(Shutdown::Write).unwrap();
    let (received, end) = told.recv_timeout(Duration::from_mins(1)).unwrap();
    assert_eq!((received.len(), end), (sent.len(), End::Fin));
    assert!(received == sent, "other bytes");
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "closed", "{line}");
    assert_eq!(line["closed_by"], "backend", "{line}");
    assert_eq!(line["bytes_client_to_backend"], sent.len(), "{line}");
}

/// One byte fills a slot of a pipe, and so does a segment. portway must tell "full" from "empty".
#[test]
fn f10_small_segments_fill_pipes_and_nothing_hangs() {
    let arena = Arena::new(random::seed(), Plan::small_segments);
    let toml = config(&[arena.backend.address()], "drain_timeout = \"1s\"", "");
    for mode in [Splicing::Always, Splicing::Bulk] {
        let portway = InProcess::start(&toml, mode);
        let (_, faults) = arena.run(portway.address(), 24);
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn f08_the_tail_before_a_fin_waits_for_a_slow_reader() {
    through_portway(Plan::slow_tail, Splicing::Always);
    through_portway(Plan::slow_tail, Splicing::Never);
}

#[test]
fn f09_both_sides_may_end_at_once() {
    through_portway(Plan::both_end, Splicing::Bulk);
}

#[test]
fn without_a_relay_the_judge_finds_no_fault() {
    let arena = Arena::new(random::seed(), Plan::without_urgent);
    run(&arena, arena.backend.address());
}

/// Copies each way and passes every end on as FIN, as naive relays do.
#[test]
fn the_judge_finds_the_faults_of_a_naive_relay() {
    let arena = Arena::new(random::seed(), Plan::new);
    let dial = arena.backend.address();
    let naive = Backend::start(move |client| {
        let backend = connect(dial);
        thread::scope(|scope| {
            for (mut from, mut to) in [(&client, &backend), (&backend, &client)] {
                scope.spawn(move || {
                    drop(std::io::copy(&mut from, &mut to));
                    drop(to.shutdown(Shutdown::Write));
                });
            }
        });
    });
    let (_, faults) = arena.run(naive.address(), 200);
    for sign in ["a RST did not come", "wrong bytes", "FIN after"] {
        assert!(
            faults.iter().any(|fault| fault.contains(sign)),
            "{sign}: {faults:#?}"
        );
    }
}
