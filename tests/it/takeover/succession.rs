//! After a takeover the old process accepts again if its successor ends, and one of them always listens.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{SLOW_DRAIN, with_ports};
use crate::it::fixture::{NAME, PATIENCE, Portway, get, message, pause, within};
use crate::it::held::Held;
use crate::it::namespace::in_a_network;
use crate::it::peers::{Backend, free, is_refused};
use crate::it::process::has_listener;
use crate::it::random::{Random, count, seed};

fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/readyz").is_ok_and(|(status, _)| status == 200)
}

/// A thread that connects all the time. It returns how often it was refused.
struct Connecting {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
    made: Arc<AtomicU64>,
}

impl Connecting {
    fn start(address: SocketAddr) -> Self {
        let (stop, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopping, making) = (Arc::clone(&stop), Arc::clone(&made));
        let thread = thread::spawn(move || {
            let mut refused = 0;
            while !stopping.load(Ordering::Relaxed) {
                refused += u64::from(is_refused(address));
                making.fetch_add(1, Ordering::Relaxed);
                pause(Duration::from_millis(1));
            }
            refused
        });
        Self { stop, thread, made }
    }

    fn finish(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        (
            self.thread.join().unwrap(),
            self.made.load(Ordering::Relaxed),
        )
    }
}

#[test]
fn the_old_process_accepts_again_if_the_successor_ends_however_it_ends() {
    for end in [Signal::KILL, Signal::TERM] {
        let backend = Backend::echo();
        let portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
        let mut held = Held::new(&portway, NAME);
        let mut next = portway.start_beside(&["--takeover"]);
        portway.tells("draining");
        let connecting = Connecting::start(portway.address("agents"));
        next.signal(end);
        let status = next.wait_exit();
        assert_eq!(status.success(), end == Signal::TERM, "{status:?}");
        portway.tells("accepting again");
        assert!(is_ready(portway.admin()));
        drop(portway.relayed());
        within(PATIENCE, "portway reloads", || {
            portway.reload().status.success().then_some(())
        });
        assert_eq!(connecting.finish().0, 0, "refused");
        // Connections have gone on.
        held.finish();
    }
}

#[test]
fn a_process_that_was_told_to_stop_does_not_come_back() {
    let backend = Backend::echo();
    let mut portway = Portway::start(&with_ports(backend.address(), "drain_timeout = \"1s\""));
    let address = portway.address("agents");
    let held = Held::new(&portway, NAME);
    let mut next = portway.start_beside(&["--takeover"]);
    portway.tells("draining");
    portway.signal(Signal::TERM);
    assert_eq!(portway.wait_exit().code(), Some(0));
    drop(held);
    drop(next.relayed());
    next.signal(Signal::TERM);
    within(PATIENCE, "the port is closed", || {
        is_refused(address).then_some(())
    });
    assert_eq!(next.wait_exit().code(), Some(0));
}

/// It may have read the file before that.
#[test]
fn a_signal_to_reload_that_reaches_the_old_process_reaches_the_successor() {
    for is_stopped in [false, true] {
        let backend = Backend::echo();
        let toml = with_ports(backend.address(), SLOW_DRAIN);
        let portway = Portway::start(&toml);
        let held = Held::new(&portway, NAME);
        // The new process waits for this address, with the sockets in its hands.
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = other.local_addr().unwrap();
        portway.write(&format!("{toml}[listeners.other]\nbind = [\"{taken}\"]\n"));
        let next = portway.spawn_beside(&["--takeover"]);
        within(PATIENCE, "the new process has the sockets", || {
            has_listener(next.pid(), portway.address("agents")).then_some(())
        });
        portway.write(&toml);
        if is_stopped {
            portway.signal(Signal::TERM);
            portway.tells("draining");
        }
        portway.signal(Signal::HUP);
        portway.tells("a successor is taking over");
        drop(other);
        let reloads = |generation: u64| {
            let told = |line: &serde_json::Value| {
                message(line) == "reloaded" && line["fields"]["generation"] == generation
            };
            next.program.wait(PATIENCE, told);
        };
        reloads(2);
        drop(next.relayed());
        // One that comes later reaches it too, as long as the old process may come back.
        portway.signal(Signal::HUP);
        if is_stopped {
            portway.tells("does not reload");
        } else {
            reloads(3);
        }
        drop(held);
    }
}

#[test]
fn an_address_that_the_successor_leaves_is_closed_in_both() {
    let backend = Backend::echo();
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let (unwanted, removed) = (free(), free());
    let with = |address| {
        format!(
            "[listeners.l{}]\nbind = [\"{address}\"]\n",
            SocketAddr::port(&address)
        )
    };
    let portway = Portway::start(&format!("{toml}{}{}", with(unwanted), with(removed)));
    let held = Held::new(&portway, NAME);
    // One address goes when the successor starts, the other in a reload of the successor.
    portway.write(&format!("{toml}{}", with(removed)));
    let next = portway.start_beside(&["--takeover"]);
    portway.tells("draining");
    within(PATIENCE, "the first address is closed", || {
        is_refused(unwanted).then_some(())
    });
    assert!(!is_refused(removed));
    within(PATIENCE, "the successor reloads", || {
        portway.write(&toml);
        next.reload().status.success().then_some(())
    });
    within(PATIENCE, "the second address is closed", || {
        is_refused(removed).then_some(())
    });
    drop(next.relayed());
    // A process that comes back follows the file.
    portway.write(&format!("{toml}{}", with(unwanted)));
    next.signal(Signal::KILL);
    within(PATIENCE, "the address is open again", || {
        (!is_refused(unwanted)).then_some(())
    });
    drop(held);
}

#[test]
fn the_second_generation_comes_back_for_the_third_and_the_first_does_not() {
    let backend = Backend::echo();
    let first = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let of_first = Held::new(&first, NAME);
    let second = first.start_beside(&["--takeover"]);
    first.tells("draining");
    let of_second = Held::served_by(&second, 1);
    let third = within(PATIENCE, "the second has the control socket", || {
        second
            .reload()
            .status
            .success()
            .then(|| second.start_beside(&["--takeover"]))
    });
    second.tells("draining");
    let connecting = Connecting::start(second.address("agents"));
    third.signal(Signal::KILL);
    second.tells("accepting again");
    assert_eq!(connecting.finish().0, 0, "refused");
    assert!(is_ready(second.admin()));
    let came_back = |line: &serde_json::Value| message(line) == "accepting again";
    assert!(first.program.find(came_back).is_none());
    drop((of_first, of_second));
}

#[test]
fn a_process_that_drains_is_succeeded_before_its_listeners_close() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"600s\"\ndrain_timeout = \"1s\"";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let connecting = Connecting::start(portway.address("agents"));
    portway.signal(Signal::TERM);
    portway.tells("draining");
    let next = portway.start_beside(&["--takeover"]);
    assert_eq!(portway.wait_exit().code(), Some(0));
    assert!(is_ready(next.admin()));
    assert_eq!(connecting.finish().0, 0, "refused");
}

#[test]
fn successors_that_come_together_take_over_in_turn() {
    let backend = Backend::echo();
    let limits = "drain_timeout = \"1s\"";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let connecting = Connecting::start(portway.address("agents"));
    let mut all = [0; 4].map(|_| portway.spawn_beside(&["--takeover"]));
    assert_eq!(portway.wait_exit().code(), Some(0));
    let mut ended = 0;
    within(PATIENCE, "all but one have ended", || {
        ended = all
            .iter_mut()
            .filter_map(Portway::has_exited)
            .inspect(|status| assert!(status.success()))
            .count();
        (ended == 3).then_some(())
    });
    for one in &mut all {
        if one.has_exited().is_none() {
            one.tells("ready");
            assert!(is_ready(one.admin()));
        }
    }
    assert_eq!(connecting.finish().0, 0, "refused");
}

/// portway waits for a busy address, here that of a process without a control socket for this file.
#[test]
fn a_successor_waits_for_an_address_that_is_busy() {
    let backend = Backend::echo();
    let toml = with_ports(backend.address(), "");
    let admin = toml.lines().next().unwrap().split('"').nth(1).unwrap();
    let busy = TcpListener::bind(admin).unwrap();
    let next = Portway::spawn_args(&toml, &["--takeover"]);
    next.tells("waiting for at most 30 s");
    drop(busy);
    next.tells("ready");
}

/// Makes `PORTWAY_TAKEOVERS` attempts with random delays and kills of either process.
#[test]
fn a_process_listens_at_every_moment_whichever_is_killed() {
    in_a_network(try_takeovers);
}

fn try_takeovers() {
    let mut random = Random::new(seed(), 0);
    let backend = Backend::echo();
    let limits = "drain_delay = \"60s\"\ndrain_timeout = \"365d\"\nmax_pending_per_client = 5000";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let (address, admin) = (portway.address("agents"), portway.admin());
    let connecting = Connecting::start(address);
    let mut ending = Vec::new();
    let mut held = Held::served_by(&portway, 5);
    for turn in 0..count("PORTWAY_TAKEOVERS", 6) {
        let mut next = portway.spawn_beside(&["--takeover"]);
        let signal = if random.percent(50) {
            Signal::KILL
        } else {
            Signal::TERM
        };
        let is_old = random.percent(50);
        let delay = Duration::from_millis(random.below(400));
        if is_old && signal == Signal::KILL {
            // If the old process is killed before that, its sockets go with it.
            next.tells("ready");
        }
        pause(delay);
        eprintln!(
            "{turn}: after {delay:?} {signal:?} to the {}",
            if is_old { "old" } else { "new" }
        );
        if is_old {
            portway.signal(signal);
            next.tells("ready");
            ending.push(std::mem::replace(&mut portway, next));
            held = Held::served_by(&portway, 5);
        } else {
            next.signal(signal);
            next.wait_exit();
        }
        within(PATIENCE, "the surviving process is ready", || {
            is_ready(admin).then_some(())
        });
        // It accepts.
        drop(portway.relayed());
        within(
            PATIENCE,
            "the surviving process has the control socket",
            || portway.reload().status.success().then_some(()),
        );
    }
    let (refused, made) = connecting.finish();
    eprintln!("{made} connections");
    assert_eq!(refused, 0, "of {made}");
    drop((held, ending));
}
