//! The unit keeps one main process over an upgrade: the messages of sd_notify(3), and the sockets of systemd.

use std::io::IoSliceMut;
use std::iter;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Program, Successor, children, told, upgrade};
use crate::it::fixture::{NAME, PATIENCE, PORTWAY, Portway, message, within};
use crate::it::held::Held;
use crate::it::peers::Backend;
use crate::it::process::{has_listener, serves};
use crate::it::takeover::{SLOW_DRAIN, abandoned, activated, with_ports};

/// The test as systemd, which receives all the time: a process waits until its message has a place.
struct Manager {
    messages: Receiver<(u32, String)>,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        set_socket_passcred(&socket, true).unwrap();
        let (received, messages) = channel();
        // It ends when the test does not want any more messages, or with the test.
        thread::spawn(move || while received.send(receive(&socket)).is_ok() {});
        Self {
            messages,
            directory,
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    /// Everything that this process has said and that was not received yet.
    fn rest(&self, from: u32) -> Vec<String> {
        let own = UnixDatagram::unbound().unwrap();
        own.send_to(b"the last message", self.socket()).unwrap();
        let all = iter::from_fn(|| Some(self.messages.recv_timeout(PATIENCE).unwrap()));
        let all = all.take_while(|(_, text)| text != "the last message");
        all.filter_map(|(sender, text)| (sender == from).then_some(text))
            .collect()
    }

    /// Receives until this process says this.
    fn until_message(&self, from: u32, what: &str) {
        let is_it =
            |(sender, text): (u32, String)| sender == from && text.lines().any(|line| line == what);
        while !is_it(self.messages.recv_timeout(PATIENCE).unwrap()) {}
    }

    /// Receives until this process says this, and checks that all until then come from `main`.
    fn until(&self, from: u32, what: &str, main: u32) {
        loop {
            let (sender, text) = self.messages.recv_timeout(PATIENCE).unwrap();
            if (sender, text.lines().any(|line| line == what)) == (from, true) {
                return;
            }
            assert_eq!(sender, main, "{text}");
            assert!(
                !text.contains("MAINPID") && !text.contains("STOPPING"),
                "{sender}: {text}"
            );
        }
    }
}

/// Receives a message, and the process that has sent it.
fn receive(socket: &UnixDatagram) -> (u32, String) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 4096];
    let mut into = [IoSliceMut::new(&mut text)];
    let received = recvmsg(socket, &mut into, &mut control, RecvFlags::empty()).unwrap();
    let from = control.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmCredentials(from) = message else {
            return None;
        };
        Some(from.pid.as_raw_nonzero().get())
    });
    let text = String::from_utf8_lossy(&text[..received.bytes]).into_owned();
    (from.unwrap().cast_unsigned(), text)
}

/// Starts the program as systemd does, with the variables that are for this process alone.
fn started_by(manager: &Manager, program: &Program) -> Command {
    let mut command = Command::new("sh");
    let script = "export WATCHDOG_PID=$$; exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(&program.path);
    command
        .env("NOTIFY_SOCKET", manager.socket())
        .env("WATCHDOG_USEC", "400000");
    command.stdin(Stdio::null());
    command
}

/// portway as the main process of a unit, with a slow drain: its backend, its program, its manager, and its file.
fn unit() -> (Backend, Program, Manager, String, Portway) {
    let (backend, program, manager) = (Backend::echo(), Program::new(), Manager::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(started_by(&manager, &program), &toml, Stdio::piped());
    (backend, program, manager, toml, portway)
}

/// Waits until a process, or so many, say that they wait for the end of this one.
fn waits_for(portway: &Portway, pid: u32, processes: usize) {
    let waits = |line: &Value| {
        message(line).contains("waiting for the end") && line["fields"]["pid"] == pid
    };
    within(PATIENCE, "the later processes wait", || {
        let lines = portway.program.all().into_iter();
        (lines.filter(waits).count() == processes).then_some(())
    });
}

/// Tells a process to stop, and waits until it does not come back any more.
fn stop(portway: &Portway, process: &Successor) {
    process.signal(Signal::TERM);
    within(PATIENCE, "the process lets its sockets go", || {
        (!has_listener(process.0, portway.address("agents"))).then_some(())
    });
}

#[test]
fn systemd_gets_the_new_main_process_before_any_message_of_it() {
    let (_backend, _program, manager, _toml, mut portway) = unit();
    let old = portway.pid();
    let mut held = Held::new(&portway, NAME);
    manager.until(old, "READY=1", old);
    let new = Successor::of(&portway, old);
    manager.until(old, &format!("MAINPID={}", new.0), old);
    manager.until(new.0, "READY=1", new.0);
    // The old process no longer feeds the watchdog.
    for _ in 0..5 {
        manager.until(new.0, "WATCHDOG=1", new.0);
    }
    // If the new process ends, the old one is the main process again.
    new.signal(Signal::KILL);
    manager.until(old, &format!("MAINPID={old}"), new.0);
    // It reads the file again.
    manager.until(old, "READY=1", old);
    manager.until(old, "WATCHDOG=1", old);
    within(PATIENCE, "the old process has the control socket", || {
        portway.reload().status.success().then_some(())
    });
    // systemd stops both, and the main process ends last.
    let new = Successor::of(&portway, old);
    new.signal(Signal::TERM);
    portway.signal(Signal::TERM);
    waits_for(&portway, old, 1);
    assert!(!new.has_ended() && portway.has_exited().is_none());
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    within(PATIENCE, "the new process ends", || {
        new.has_ended().then_some(())
    });
}

/// systemd sends a second signal to the processes that are left when the main process has ended.
#[test]
fn after_two_upgrades_within_one_drain_the_main_process_ends_after_the_eldest() {
    let (_backend, _program, _manager, _toml, mut portway) = unit();
    let first = portway.pid();
    let mut held = Held::new(&portway, NAME);
    let second = Successor::of(&portway, first);
    let third = Successor::of(&portway, second.0);
    // The second one has no connection, and stays because of the first.
    waits_for(&portway, first, 1);
    third.signal(Signal::TERM);
    portway.signal(Signal::TERM);
    second.signal(Signal::TERM);
    waits_for(&portway, second.0, 1);
    waits_for(&portway, first, 2);
    let all_are_there = !third.has_ended() && !second.has_ended();
    assert!(all_are_there && portway.has_exited().is_none());
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    within(PATIENCE, "the others end", || {
        (second.has_ended() && third.has_ended()).then_some(())
    });
}

/// systemd sees only the end of its own children, and would take that of the old process, with status 0, for that of
/// the service.
#[test]
fn a_process_that_was_told_to_stop_ends_as_failed_if_the_new_one_crashes() {
    let (_backend, _program, manager, _toml, mut portway) = unit();
    let first = portway.pid();
    let _held = Held::new(&portway, NAME);
    let second = Successor::of(&portway, first);
    let of_second = within(PATIENCE, "the second process serves a client", || {
        Some(Held::new(&portway, NAME)).filter(|held| serves(second.0, &held.client))
    });
    let third = Successor::of(&portway, second.0);
    manager.until_message(second.0, &format!("MAINPID={}", third.0));
    // The first one does not come back anyway, because the second one has a successor itself.
    stop(&portway, &second);
    third.signal(Signal::KILL);
    // Both notice it, each as the parent of the next one.
    manager.until_message(second.0, &format!("MAINPID={}", second.0));
    manager.until_message(first, &format!("MAINPID={first}"));
    assert_eq!(portway.wait_exit().code(), Some(1));
    drop(of_second);
}

/// It looks for two seconds whether another process has the control socket.
#[test]
fn a_process_whose_last_connection_ends_just_after_the_new_one_has_crashed_ends_as_failed_too() {
    let (_backend, _program, manager, _toml, mut portway) = unit();
    let first = portway.pid();
    let mut held = Held::new(&portway, NAME);
    let second = Successor::of(&portway, first);
    portway.signal(Signal::TERM);
    within(PATIENCE, "the process lets its sockets go", || {
        (!has_listener(first, portway.address("agents"))).then_some(())
    });
    second.signal(Signal::KILL);
    within(PATIENCE, "it is reaped", || {
        children(first).is_empty().then_some(())
    });
    held.finish();
    manager.until_message(first, &format!("MAINPID={first}"));
    assert_eq!(portway.wait_exit().code(), Some(1));
}

#[test]
fn a_process_in_the_middle_that_crashes_ends_no_other_one() {
    let (_backend, _program, manager, _toml, mut portway) = unit();
    let first = portway.pid();
    let mut held = Held::new(&portway, NAME);
    let second = Successor::of(&portway, first);
    let third = Successor::of(&portway, second.0);
    manager.until_message(second.0, &format!("MAINPID={}", third.0));
    second.signal(Signal::KILL);
    within(PATIENCE, "it is reaped", || {
        children(first).is_empty().then_some(())
    });
    drop(portway.relayed());
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    for text in manager.rest(first) {
        assert!(!text.contains("MAINPID"), "{text}");
    }
    assert!(!third.has_ended());
}

/// Its predecessor has crashed, and the process before that one may accept again.
#[test]
fn a_successor_without_a_predecessor_is_the_main_process_if_it_has_the_control_socket() {
    for another_has_it in [false, true] {
        let manager = Manager::new();
        let mut command = Command::new(PORTWAY);
        command.env("NOTIFY_SOCKET", manager.socket());
        let (mut portway, _control) = abandoned(another_has_it, command);
        let own = portway.pid();
        if another_has_it {
            assert_eq!(portway.wait_exit().code(), Some(0));
            assert_eq!(manager.rest(own), Vec::<String>::new());
        } else {
            manager.until(own, &format!("MAINPID={own}"), own);
        }
    }
}

#[test]
fn if_a_process_is_killed_in_the_middle_of_the_next_upgrade_one_main_process_is_left() {
    let (_backend, _program, manager, toml, portway) = unit();
    let (first, address) = (portway.pid(), portway.address("agents"));
    let held = Held::new(&portway, NAME);
    let second = Successor::of(&portway, first);
    manager.until(first, &format!("MAINPID={}", second.0), first);
    // The third process waits for this address, with the sockets in its hands.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    portway.write(&format!("{toml}[listeners.other]\nbind = [\"{taken}\"]\n"));
    thread::scope(|scope| {
        scope.spawn(|| upgrade(&portway));
        let third = within(PATIENCE, "the third process has the sockets", || {
            let mut started = children(second.0).into_iter();
            started.find(|&pid| has_listener(pid, address))
        });
        let third = Successor(third);
        // The first process must not take that address when it comes back and reads the file again.
        portway.write(&toml);
        second.signal(Signal::KILL);
        manager.until(first, &format!("MAINPID={first}"), second.0);
        portway.tells("accepting again");
        drop(other);
        // Because another portway serves this file; or, on a machine so slow that five seconds are over, because the address
        // was in use.
        within(PATIENCE, "the third process ends", || {
            third.has_ended().then_some(())
        });
        for text in manager.rest(third.0) {
            assert!(
                !text.contains("MAINPID") && !text.contains("STOPPING"),
                "{text}"
            );
        }
    });
    drop(portway.relayed());
    drop(held);
}

#[test]
fn a_process_that_accepts_again_beside_another_one_leaves_the_unit_to_it() {
    let (_backend, program, manager, _toml, mut portway) = unit();
    let old = portway.pid();
    let mut held = Held::new(&portway, NAME);
    program.without_control_socket();
    let new = Successor::of(&portway, old);
    manager.until(old, &format!("MAINPID={}", new.0), old);
    // The test plays the process that has taken over from the new one.
    let name = format!("portway:{}", portway.file().display());
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let _control = UnixListener::bind_addr(&name).unwrap();
    new.signal(Signal::KILL);
    portway.tells("accepting again");
    portway.tells("another portway serves this file");
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    assert_eq!(manager.rest(old), Vec::<String>::new());
}

#[test]
fn a_new_process_that_stops_alone_leaves_the_unit_to_the_old_one_and_does_not_wait_for_it() {
    let (_backend, _program, manager, _toml, mut portway) = unit();
    let old = portway.pid();
    let mut held = Held::new(&portway, NAME);
    let new = Successor::of(&portway, old);
    manager.until(old, &format!("MAINPID={}", new.0), old);
    new.signal(Signal::TERM);
    manager.until(old, &format!("MAINPID={old}"), new.0);
    within(PATIENCE, "the new process ends", || {
        new.has_ended().then_some(())
    });
    assert!(portway.has_exited().is_none());
    drop(portway.relayed());
    held.finish();
}

#[test]
fn the_successor_knows_which_sockets_systemd_has_too() {
    let backend = Backend::echo();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let lines = toml.lines().map(|line| {
        if line.starts_with("bind = ") {
            format!("bind = [\"{address}\"]\n")
        } else {
            format!("{line}\n")
        }
    });
    let bound: String = lines.collect();
    let portway = Portway::start_by(activated(&listener), &bound, Stdio::piped());
    let _new = Successor::of(&portway, portway.pid());
    drop(portway.relayed());
    portway.write(&toml);
    let reload = portway.reload();
    assert_eq!(reload.status.code(), Some(78), "{reload:?}");
    assert!(String::from_utf8_lossy(&reload.stderr).contains(&address.to_string()));
    let output = upgrade(&portway);
    assert_eq!(output.status.code(), Some(1));
    let said = told(&output)["message"].to_string();
    assert!(
        said.contains(&format!("systemd has opened {address}")),
        "{said}"
    );
    drop(portway.relayed());
}
