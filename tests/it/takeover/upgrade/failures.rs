//! Upgrades that fail or come at a bad time: the old process goes on, and says why.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::{Program, Successor, children, told, upgrade};
use crate::it::fixture::{NAME, PATIENCE, PORTWAY, Portway, message, within};
use crate::it::held::Held;
use crate::it::peers::Backend;
use crate::it::takeover::{SLOW_DRAIN, with_ports};

/// Checks that an upgrade fails with these words, and that the old process goes on alone.
fn fails(portway: &Portway, words: &[&str]) {
    let output = upgrade(portway);
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said["result"], "failed", "{said}");
    let message = said["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    assert!(
        !message.contains(|c: char| c.is_control() && c != '\n'),
        "{message:?}"
    );
    // The log has the same words, without anything that controls a terminal.
    let is_it = |reason: &str| !reason.is_empty() && message.ends_with(reason.trim_end());
    let line = |line: &Value| line["fields"]["reason"].as_str().is_some_and(is_it);
    portway.program.wait(PATIENCE, line);
    assert!(message.len() < 9000, "{} bytes", message.len());
    drop(portway.relayed());
    within(PATIENCE, "nothing is left", || {
        children(portway.pid()).is_empty().then_some(())
    });
}

#[test]
fn if_the_successor_does_not_start_the_old_process_goes_on_and_says_why() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    let mut held = Held::new(&portway, NAME);
    fs::remove_file(&program.path).unwrap();
    fails(&portway, &["cannot start", "No such file"]);
    program.script("printf '\\033[31mbroken\\a' >&2; exit 3");
    fails(&portway, &["`", "broken", "exit status: 3"]);
    program.script("yes broken | head -c 1000000 >&2; exit 3");
    fails(&portway, &["broken", "exit status: 3"]);
    program.script("echo hello 1.0");
    fails(&portway, &["is not portway"]);
    program.script("kill -SEGV $$");
    fails(&portway, &["signal: 11"]);
    program.script(&format!("[ $1 = run ] && exit 7; exec {PORTWAY} \"$@\""));
    fails(&portway, &["run --takeover", "exit status: 7"]);
    program.install(Path::new(PORTWAY));
    portway.write(&format!("{toml}nonsense = 1\n"));
    fails(&portway, &["check", "exit status: 78", "nonsense"]);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    portway.write(&format!("{toml}[listeners.other]\nbind = [\"{taken}\"]\n"));
    fails(
        &portway,
        &["exit status: 1", "cannot listen on", &taken.to_string()],
    );
    // It works as soon as nothing is wrong any more.
    portway.write(&toml);
    let _new = Successor::of(&portway, portway.pid());
    held.finish();
    drop(portway.relayed());
}

#[test]
fn while_an_upgrade_is_under_way_there_is_no_other_one_and_no_reload() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    // It goes on once the test opens this.
    let gate = program.path.with_extension("gate");
    let made = Command::new("mkfifo").arg(&gate).status();
    assert!(made.unwrap().success());
    program.script(&format!("read line <'{}'; exit 3", gate.display()));
    thread::scope(|scope| {
        let first = scope.spawn(|| upgrade(&portway));
        within(PATIENCE, "the upgrade is under way", || {
            (!children(portway.pid()).is_empty()).then_some(())
        });
        let second = upgrade(&portway);
        assert_eq!(second.status.code(), Some(1));
        assert_eq!(
            told(&second)["message"],
            "another upgrade is under way: wait for its end"
        );
        let reload = portway.reload();
        assert_eq!(reload.status.code(), Some(1), "{reload:?}");
        // A signal takes effect when the upgrade has failed.
        portway.signal(Signal::HUP);
        portway.tells("the file is read again");
        drop(portway.relayed());
        drop(OpenOptions::new().write(true).open(&gate).unwrap());
        let first = first.join().unwrap();
        assert_eq!(first.status.code(), Some(1));
        let said = told(&first);
        let said = said["message"].as_str().unwrap();
        assert!(said.contains("exit status: 3"), "{said}");
    });
    portway.tells("reloaded");
    within(PATIENCE, "nothing is left", || {
        children(portway.pid()).is_empty().then_some(())
    });
    assert!(portway.reload().status.success());
}

#[test]
fn a_signal_to_reload_while_the_new_process_starts_reaches_that_one() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    let mut held = Held::new(&portway, NAME);
    // The new process waits for this address, with the sockets in its hands.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    portway.write(&format!("{toml}[listeners.other]\nbind = [\"{taken}\"]\n"));
    thread::scope(|scope| {
        let asking = scope.spawn(|| Successor::of(&portway, portway.pid()));
        within(PATIENCE, "the new process has read the file", || {
            let starts = |line: &&Value| message(line).starts_with("portway starts");
            let all = portway.program.all();
            (all.iter().filter(starts).count() == 2).then_some(())
        });
        portway.write(&toml);
        portway.signal(Signal::HUP);
        portway.tells("the file is read again");
        drop(other);
        let _new = asking.join().unwrap();
        portway.tells("reloaded");
        assert_eq!(portway.count("portway_config_generation"), 2);
        drop(portway.relayed());
    });
    held.finish();
}

/// The old process has drained, and ends once the answer is known.
#[test]
fn without_connections_the_old_process_accepts_again_if_the_new_one_ends_before_the_answer() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    program.without_control_socket();
    let (new, said) = thread::scope(|scope| {
        let asking = scope.spawn(|| upgrade(&portway));
        portway.tells("the drain has ended");
        let [new] = children(portway.pid())[..] else {
            panic!("not exactly one new process");
        };
        let new = Successor(new);
        new.signal(Signal::KILL);
        (new, asking.join().unwrap())
    });
    assert_eq!(said.status.code(), Some(1));
    let said = told(&said)["message"].to_string();
    let words = format!("process {} accepted, and then ended (signal: 9", new.0);
    assert!(said.contains(&words), "{said}");
    portway.tells("accepting again");
    drop(portway.relayed());
    // The next upgrade is an upgrade like the first one.
    program.install(Path::new(PORTWAY));
    let _next = within(PATIENCE, "the old process has the control socket", || {
        let has_it = portway.reload().status.success();
        has_it.then(|| Successor::of(&portway, portway.pid()))
    });
    drop(portway.relayed());
}

#[test]
fn a_process_that_stops_ends_the_successor_that_does_not_accept_yet() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let mut portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    program.script(&format!(
        "[ $1 = run ] && exec sleep 600; exec {PORTWAY} \"$@\""
    ));
    let (child, said) = thread::scope(|scope| {
        let asking = scope.spawn(|| upgrade(&portway));
        let child = within(PATIENCE, "the successor starts", || {
            children(portway.pid()).into_iter().find(|child| {
                let line = fs::read(format!("/proc/{child}/cmdline"));
                line.is_ok_and(|line| line == b"sleep\x00600\x00")
            })
        });
        portway.signal(Signal::TERM);
        (Successor(child), asking.join().unwrap())
    });
    assert_eq!(said.status.code(), Some(1));
    assert_eq!(told(&said)["message"], "portway stops");
    assert_eq!(portway.wait_exit().code(), Some(0));
    within(PATIENCE, "the successor ends", || {
        child.has_ended().then_some(())
    });
}

#[test]
fn a_process_that_drains_does_not_upgrade() {
    let backend = Backend::echo();
    let toml = with_ports(backend.address(), "drain_delay = \"600s\"");
    let portway = Portway::start(&toml);
    portway.signal(Signal::TERM);
    portway.tells("draining");
    let output = upgrade(&portway);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(told(&output)["message"], "portway stops");
}

/// As systemd starts a unit of another type than notify: it would take the end of the old process for that of the service.
#[test]
fn the_main_process_of_a_unit_that_does_not_listen_to_it_refuses_to_upgrade() {
    let backend = Backend::echo();
    let mut command = Command::new("sh");
    command.args(["-c", "SYSTEMD_EXEC_PID=$$ exec \"$0\" \"$@\"", PORTWAY]);
    command.env_remove("NOTIFY_SOCKET");
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(command, &toml, Stdio::piped());
    let output = upgrade(&portway);
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.to_string().contains("Type=notify"), "{said}");
    assert!(children(portway.pid()).is_empty());
    drop(portway.relayed());
}
