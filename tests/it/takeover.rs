//! Upgrades: one process takes the listeners over from another (F27), or gets them from systemd.

mod between;
mod control_socket;
mod figures;
pub(super) mod gap;
mod succession;
mod upgrade;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::fixture::{NAME, PATIENCE, PORTWAY, Portway, config, get, message, pause, within};
use super::held::Held;
use super::peers::{Backend, free};
use super::process;
use super::random::count;
use super::reload::load::Load;

/// A drain that does not end a connection before the test does.
const SLOW_DRAIN: &str = "drain_timeout = \"365d\"\ntakeover_timeout = \"365d\"";

/// A routes.toml whose listener and admin have ports that are free.
fn with_ports(backend: SocketAddr, limits: &str) -> String {
    let toml = config(&[backend], limits, "");
    toml.replacen("127.0.0.1:0", &free().to_string(), 1)
        .replace("127.0.0.1:0", &free().to_string())
}

#[test]
fn f27_one_takeover_after_the_other_refuses_and_resets_nobody() {
    let rounds = count("PORTWAY_RELOADS", 10) / 10 + 2;
    process::raise_descriptors();
    let load = Load::backend_only();
    let limits = format!("max_pending_per_client = 5000\nmax_connections = 5000\n{SLOW_DRAIN}");
    let mut portway = Portway::start(&with_ports(load.backend(), &limits));
    let address = portway.address("agents");
    let load = load.start(address);
    let mut old = Vec::new();
    for _ in 0..rounds {
        let next = portway.start_beside(&["--takeover"]);
        assert_eq!(next.address("agents"), address);
        let drains = |line: &serde_json::Value| message(line) == "draining";
        portway.program.wait(PATIENCE, drains);
        old.push(std::mem::replace(&mut portway, next));
        pause(Duration::from_millis(300));
        // The new process has the admin address too.
        within(PATIENCE, "the new process is ready", || {
            (get(portway.admin(), "/readyz").ok()?.0 == 200).then_some(())
        });
    }
    let done = load.finish();
    assert_eq!(done.faults, Vec::<String>::new());
    assert!(done.connections > rounds * 100, "{done:?}");
    let mut drained = 0;
    for mut old in old {
        assert_eq!(old.wait_exit().code(), Some(0));
        let lines = old.connections.all().into_iter();
        drained += lines.filter(|line| line["outcome"] == "drained").count();
    }
    assert!(drained as u64 <= done.silent, "{drained}: {done:?}");
    // It accepts a reload, so it has the control socket too.
    within(PATIENCE, "the control socket is free", || {
        portway.reload().status.success().then_some(())
    });
    eprintln!("{done:?} during {rounds} takeovers");
}

#[test]
fn f27_a_successor_that_does_not_start_changes_nothing() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), ""));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let toml = std::fs::read_to_string(portway.file()).unwrap();
    portway.write(&format!("{toml}[listeners.other]\nbind = [\"{taken}\"]\n"));
    let mut next = portway.spawn_beside(&["--takeover"]);
    assert_eq!(next.wait_exit().code(), Some(1), "{}", next.program.tail());
    let goes_on = |line: &serde_json::Value| message(line).contains("this one goes on");
    portway.program.wait(PATIENCE, goes_on);
    drop(portway.relayed());
    assert_eq!(get(portway.admin(), "/readyz").unwrap().0, 200);
    portway.write(&toml);
    assert!(portway.reload().status.success());
}

/// Kubernetes does this in a rollout: it starts a new pod, then sends SIGTERM to the old one.
#[test]
fn f27_the_first_signal_after_a_takeover_does_not_cut_the_drain() {
    let backend = Backend::echo();
    let mut portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let mut held = Held::new(&portway, NAME);
    let next = portway.start_beside(&["--takeover"]);
    let drains = |line: &serde_json::Value| message(line) == "draining";
    portway.program.wait(PATIENCE, drains);
    let descriptors = process::descriptors(portway.pid());
    portway.signal(Signal::TERM);
    within(PATIENCE, "the old process closes its sockets", || {
        (process::descriptors(portway.pid()) < descriptors).then_some(())
    });
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    let begin = portway.tells("draining");
    assert_eq!(begin["fields"]["cause"], "takeover", "{begin}");
    let end = portway.tells("the drain has ended");
    assert_eq!(end["fields"]["ended_by_themselves"], 1, "{end}");
    assert_eq!(end["fields"]["reset_by_portway"], 0, "{end}");
    let lines = portway.program.all().into_iter();
    let ends = lines.filter(|line| message(line) == "the drain has ended");
    assert_eq!(ends.count(), 1);
    drop(next.relayed());
}

/// A successor, started by this command, of a predecessor that hands its listener over and then ends. If that one
/// `stays`, it keeps the control socket.
fn abandoned(stays: bool, by: Command) -> (Portway, Option<UnixListener>) {
    let backend = Backend::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = format!("bind = [\"{}\"]", listener.local_addr().unwrap());
    let toml = config(&[backend.address()], "drain_timeout = \"1s\"", "");
    let toml = toml.replace("bind = [\"127.0.0.1:0\"]", &bind);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, toml).unwrap();
    let name = UnixAddr::from_abstract_name(format!("portway:{}", file.display())).unwrap();
    let control = UnixListener::bind_addr(&name).unwrap();
    let predecessor = thread::spawn(move || {
        let (stream, _) = control.accept().unwrap();
        let mut lines = BufReader::new(&stream).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "takeover");
        portway::net::send_descriptors(&stream, b's', &[listener.as_fd()]).unwrap();
        portway::net::send_descriptors(&stream, b'e', &[]).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        stays.then_some(control)
    });
    let portway = Portway::start_at_by(by, &file, &["--takeover"]);
    let control = predecessor.join().unwrap();
    if control.is_none() {
        within(PATIENCE, "portway has the control socket", || {
            portway.reload().status.success().then_some(())
        });
        drop(portway.relayed());
    }
    (portway, control)
}

#[test]
fn f27_a_successor_goes_on_without_a_predecessor_that_has_ended() {
    let (mut portway, _) = abandoned(false, Command::new(PORTWAY));
    within(PATIENCE, "there is no predecessor", || {
        let page = portway.metrics();
        (page.find("portway_predecessor_connections") == Some(0)).then_some(())
    });
    assert!(portway.has_exited().is_none());
}

#[test]
fn f27_a_successor_stops_if_the_predecessor_goes_on() {
    let (mut portway, _control) = abandoned(true, Command::new(PORTWAY));
    assert_eq!(portway.wait_exit().code(), Some(0));
    let told =
        |line: &serde_json::Value| message(line).contains("another portway serves this file");
    portway.program.wait(PATIENCE, told);
}

#[test]
fn f27_of_two_successors_at_once_one_is_left() {
    let backend = Backend::echo();
    let mut portway = Portway::start(&with_ports(backend.address(), "drain_timeout = \"1s\""));
    let mut both = [0, 1].map(|_| portway.spawn_beside(&["--takeover"]));
    assert_eq!(portway.wait_exit().code(), Some(0));
    within(PATIENCE, "one ends", || {
        both.iter_mut().find_map(Portway::has_exited)
    });
    let left = both
        .iter_mut()
        .filter_map(|one| one.has_exited().is_none().then_some(one));
    let [left] = &left.collect::<Vec<_>>()[..] else {
        panic!("not exactly one process is left");
    };
    within(
        PATIENCE,
        "the process that is left has the control socket",
        || left.reload().status.success().then_some(()),
    );
    drop(left.relayed());
}

#[test]
fn while_portway_drains_there_is_nobody_to_reload() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "drain_delay = \"600s\"", ""));
    portway.signal(Signal::TERM);
    within(PATIENCE, "the drain has begun", || {
        (get(portway.admin(), "/readyz").unwrap().0 == 503).then_some(())
    });
    assert_eq!(portway.reload().status.code(), Some(1));
}

#[test]
fn takeover_of_nobody_is_a_start() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    drop(Portway::start_args(&toml, &["--takeover"]).relayed());
}

#[test]
fn a_plain_second_start_fails_and_says_who_is_there() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), ""));
    let mut second = portway.spawn_beside(&[]);
    assert_eq!(second.wait_exit().code(), Some(1));
    let line = second
        .program
        .wait(PATIENCE, |line| message(line).contains("--takeover"));
    assert_eq!(line["fields"]["pid"], portway.pid());
    drop(portway.relayed());
}

/// Starts portway as systemd does: with the socket as descriptor 3, and the count and the process id in
/// the environment. The shell gets the socket as its input.
fn activated(listener: &TcpListener) -> Command {
    let socket = OwnedFd::from(listener.try_clone().unwrap());
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null && LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", script, PORTWAY]).stdin(socket);
    command
}

#[test]
fn socket_activation_serves_the_socket_that_was_passed() {
    let backend = Backend::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let toml = config(&[backend.address()], "", "");
    let toml = toml.replace(
        "bind = [\"127.0.0.1:0\"]",
        &format!("bind = [\"{address}\"]"),
    );
    let portway = Portway::start_by(activated(&listener), &toml, Stdio::piped());
    assert_eq!(portway.address("agents"), address);
    drop(portway.relayed());
}

#[test]
fn a_reload_may_not_leave_a_socket_of_systemd() {
    let backend = Backend::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let toml = config(&[backend.address()], "", "");
    let here = toml.replace(
        "bind = [\"127.0.0.1:0\"]",
        &format!("bind = [\"{address}\"]"),
    );
    let portway = Portway::start_by(activated(&listener), &here, Stdio::piped());
    portway.write(&toml);
    let output = portway.reload();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address.to_string()));
    drop(portway.relayed());
}

#[test]
fn a_passed_socket_that_no_listener_wants_is_an_error() {
    let backend = Backend::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let toml = config(&[backend.address()], "", "");
    let mut portway = Portway::spawn_by(activated(&listener), &toml, Stdio::piped());
    assert_eq!(portway.wait_exit().code(), Some(1));
    let address = listener.local_addr().unwrap().to_string();
    portway
        .program
        .wait(PATIENCE, |line| message(line).contains(&address));
}

#[test]
fn systemd_is_told_of_start_reload_watchdog_and_stop() {
    let backend = Backend::echo();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let wait = |what: &str| loop {
        let told = next();
        if told.contains(what) {
            return told;
        }
    };
    let mut command = Command::new(PORTWAY);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000");
    let toml = config(
        &[backend.address()],
        "drain_delay = \"2s\"\ndrain_timeout = \"1s\"",
        "",
    );
    let mut portway = Portway::start_by(command, &toml, Stdio::piped());
    wait("READY=1");
    wait("WATCHDOG=1");
    assert!(portway.reload().status.success());
    let told = wait("RELOADING=1");
    assert!(told.contains("MONOTONIC_USEC="), "{told}");
    wait("READY=1");
    portway.signal(Signal::TERM);
    let told = wait("STOPPING=1");
    assert!(told.contains("EXTEND_TIMEOUT_USEC=8000000"), "{told}");
    // The watchdog is fed during the drain too.
    wait("WATCHDOG=1");
    assert_eq!(portway.wait_exit().code(), Some(0));
}
