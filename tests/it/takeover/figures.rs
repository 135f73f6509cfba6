//! The page of metrics after a takeover: the successor shows what its predecessor still relays.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::between::Predecessor;
use super::{SLOW_DRAIN, with_ports};
use crate::it::fixture::{NAME, PATIENCE, Portway, get, route, within};
use crate::it::held::Held;
use crate::it::metrics::Metrics;
use crate::it::peers::Backend;
use crate::it::process::serves;

/// How long a scrape waits for the predecessor.
const BOUND: Duration = Duration::from_millis(500);

const CONNECTIONS: &str = "portway_predecessor_connections";

/// The predecessor's series of a counter.
fn of_predecessor(name: &str, labels: &str) -> String {
    format!("{name}{{{labels},process=\"predecessor\"}}")
}

fn accepted() -> String {
    let name = "portway_connections_accepted_total";
    of_predecessor(name, "listener=\"agents\"")
}

fn has_label(page: &Metrics) -> bool {
    page.page.contains("process=\"predecessor\"")
}

fn has_connections(page: &Metrics) -> bool {
    page.find(CONNECTIONS).is_some()
}

/// Waits until the page shows so many connections of the predecessor, and returns the page.
fn shows(portway: &Portway, connections: u64) -> Metrics {
    within(PATIENCE, "the predecessor's figures are shown", || {
        let page = portway.metrics();
        (page.find(CONNECTIONS) == Some(connections)).then_some(page)
    })
}

/// A client that this process serves, and how many clients before it the predecessor has still accepted.
fn relayed_by(next: &Portway) -> (TcpStream, u64) {
    let mut late = 0;
    let client = within(PATIENCE, "the new process serves a client", || {
        let client = next.relayed();
        let is_late = !serves(next.pid(), &client);
        late += u64::from(is_late);
        (!is_late).then_some(client)
    });
    (client, late)
}

/// Stops the process, and waits until all its threads have stopped.
fn freeze(portway: &Portway) {
    portway.signal(Signal::STOP);
    let tasks = format!("/proc/{}/task", portway.pid());
    within(PATIENCE, "all threads are stopped", || {
        let mut tasks = std::fs::read_dir(&tasks).unwrap().map(Result::unwrap);
        let is_stopped = tasks.all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat"));
            stat.unwrap_or_default().contains(") T ")
        });
        is_stopped.then_some(())
    });
}

/// Checks that each name has one block of lines, and that no series occurs twice.
fn assert_valid(page: &Metrics) {
    let lines = || page.page.lines().filter(|line| !line.is_empty());
    let (comments, samples): (Vec<_>, Vec<_>) = lines().partition(|line| line.starts_with('#'));
    assert_eq!(samples.len(), page.len(), "{}", page.page);
    let distinct: BTreeSet<_> = comments.iter().collect();
    assert_eq!(distinct.len(), comments.len(), "{}", page.page);
}

#[test]
fn a_page_shows_the_connections_and_counters_of_the_predecessor_until_it_ends() {
    let backend = Backend::echo();
    let toml = with_ports(backend.address(), SLOW_DRAIN) + &route("es", backend.address(), "");
    let mut portway = Portway::start(&toml);
    let mut reader = Held::new(&portway, "es.example");
    let mut held = Held::many(&portway, 4);
    assert_eq!(portway.count(CONNECTIONS), 0);
    let next = portway.start_beside(&["--takeover"]);
    let page = shows(&next, 5);
    assert_valid(&page);
    let own = "portway_connections_accepted_total{listener=\"agents\"}";
    assert_eq!((page.count(&accepted()), page.count(own)), (5, 0));
    let gauges = ["portway_connections_active", "portway_endpoint_connections"];
    for gauge in gauges {
        assert!(page.sum(gauge, &[]) < 0.5);
    }
    // The predecessor goes on counting the bytes that it relays, beside ours.
    let bytes = |page: &Metrics| {
        ["client_to_backend", "backend_to_client"].map(|direction| {
            let labels = format!("backend=\"es\",direction=\"{direction}\"");
            page.find(&of_predecessor("portway_bytes_total", &labels))
        })
    };
    let before = reader.sent.len() as u64;
    assert!(bytes(&page).iter().flatten().all(|&bytes| bytes <= before));
    reader.send(&[b'y'; 1000]);
    reader.read();
    let all = before + 1000;
    within(PATIENCE, "the bytes are counted", || {
        (bytes(&next.metrics()) == [Some(all); 2]).then_some(())
    });
    let (client, late) = relayed_by(&next);
    drop((reader, client));
    held.truncate(2);
    let page = shows(&next, 2);
    assert_eq!((page.count(&accepted()), page.count(own)), (5 + late, 1));
    let name = "portway_connections_closed_total";
    let closed = page.sum(name, &[("process", "predecessor")]);
    assert_eq!(format!("{closed}"), format!("{}", 3 + late));
    drop(held);
    assert_eq!(portway.wait_exit().code(), Some(0));
    let page = shows(&next, 0);
    assert!(!has_label(&page), "{}", page.page);
    assert_eq!(page.count(own), 1);
}

/// In a rollout Kubernetes stops the old pod as soon as the new one is ready.
#[test]
fn a_predecessor_that_was_told_to_stop_is_shown_until_it_ends() {
    let backend = Backend::echo();
    let mut portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let held = Held::many(&portway, 3);
    let next = portway.start_beside(&["--takeover"]);
    shows(&next, 3);
    portway.signal(Signal::TERM);
    let address = portway.address("agents");
    for _ in 0..3 {
        shows(&next, 3);
    }
    // The predecessor does not come back: it has closed the sockets, and the link is not a reason to.
    next.signal(Signal::TERM);
    within(PATIENCE, "nobody listens", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    drop(held);
    assert_eq!(portway.wait_exit().code(), Some(0));
}

/// This happens if a pod is deleted: its replacement comes while it drains.
#[test]
fn a_predecessor_that_drained_already_is_shown_until_it_ends() {
    let backend = Backend::echo();
    let limits = format!("drain_delay = \"600s\"\n{SLOW_DRAIN}");
    let mut portway = Portway::start(&with_ports(backend.address(), &limits));
    let held = Held::many(&portway, 3);
    portway.signal(Signal::TERM);
    portway.tells("draining");
    let next = portway.start_beside(&["--takeover"]);
    let page = shows(&next, 3);
    assert_eq!(page.count(&accepted()), 3);
    drop(held);
    assert_eq!(portway.wait_exit().code(), Some(0));
    assert!(!has_label(&shows(&next, 0)));
}

#[test]
fn a_third_generation_shows_the_second() {
    let backend = Backend::echo();
    let first = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let of_first = Held::many(&first, 5);
    let second = first.start_beside(&["--takeover"]);
    shows(&second, 5);
    let of_second = Held::served_by(&second, 2);
    let third = within(PATIENCE, "the second has the control socket", || {
        let is_reloaded = second.reload().status.success();
        is_reloaded.then(|| second.start_beside(&["--takeover"]))
    });
    let page = shows(&third, 2);
    assert_valid(&page);
    assert_eq!(page.count(&accepted()), 2);
    drop((of_first, of_second));
}

#[test]
fn a_predecessor_that_hangs_delays_no_page_for_long_and_its_figures_come_again() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let held = Held::many(&portway, 3);
    let next = portway.start_beside(&["--takeover"]);
    shows(&next, 3);
    let (client, late) = relayed_by(&next);
    drop(client);
    freeze(&portway);
    for _ in 0..5 {
        let begun = Instant::now();
        let page = next.metrics();
        assert!(begun.elapsed() < 40 * BOUND, "{:?}", begun.elapsed());
        assert!(
            !has_label(&page) && !has_connections(&page),
            "{}",
            page.page
        );
        assert_valid(&page);
        let own = "portway_connections_accepted_total{listener=\"agents\"}";
        assert_eq!(page.count(own), 1);
        for probe in ["/livez", "/readyz"] {
            assert_eq!(get(next.admin(), probe).unwrap().0, 200);
        }
    }
    portway.signal(Signal::CONT);
    let page = shows(&next, 3);
    assert_eq!(page.count(&accepted()), 3 + late);
    drop(held);
}

#[test]
fn a_predecessor_accepts_again_if_its_successor_ends_while_a_question_is_open() {
    for end in [Signal::KILL, Signal::TERM] {
        let backend = Backend::echo();
        let portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
        let mut held = Held::new(&portway, NAME);
        let mut next = portway.start_beside(&["--takeover"]);
        shows(&next, 1);
        freeze(&portway);
        // The scrape gets no answer; the question stays open.
        assert!(!has_connections(&next.metrics()));
        next.signal(end);
        if end == Signal::KILL {
            next.wait_exit();
        }
        portway.signal(Signal::CONT);
        portway.tells("accepting again");
        // A successor that stops may accept for a moment longer.
        drop(within(PATIENCE, "the old process serves a client", || {
            Some(portway.relayed()).filter(|client| serves(portway.pid(), client))
        }));
        held.read();
        assert_eq!(next.wait_exit().success(), end == Signal::TERM);
        assert_eq!(
            shows(&portway, 0).count("portway_connections_accepted_total{listener=\"agents\"}"),
            2
        );
    }
}

/// An older version ignores words that it does not know.
#[test]
fn an_older_predecessor_is_asked_once_and_still_noticed_when_it_ends() {
    let backend = Backend::echo();
    let (mut before, portway) = Predecessor::of(&with_ports(backend.address(), ""));
    // The predecessor still accepts too, so the page does not say that there is none.
    assert!(!has_connections(&portway.metrics()));
    before.accepts_no_more();
    before.stream.get_ref().set_nonblocking(true).unwrap();
    let mut lines = before.stream.lines();
    let asked = within(PATIENCE, "the predecessor is asked", || {
        assert!(!has_connections(&portway.metrics()));
        lines.next().unwrap().ok()
    });
    assert_eq!(asked, "figures");
    for _ in 0..5 {
        assert!(!has_connections(&portway.metrics()));
    }
    assert!(lines.next().unwrap().is_err(), "asked a second time");
    drop(lines);
    shows(&portway, 0);
}
