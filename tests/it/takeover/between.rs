//! The moments between two processes. The test plays the predecessor or the successor, so that it decides when
//! that process answers, hangs or ends.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use tempfile::TempDir;

use super::{SLOW_DRAIN, with_ports};
use crate::it::fixture::{NAME, PATIENCE, Portway, get, pause, within};
use crate::it::held::Held;
use crate::it::peers::{Backend, is_refused};

fn name(file: &Path) -> UnixAddr {
    UnixAddr::from_abstract_name(format!("portway:{}", file.display())).unwrap()
}

/// A byte from the process that hands the sockets over: it has stopped accepting, or accepts again.
fn byte(stream: &mut UnixStream) -> u8 {
    let mut byte = [0];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut byte).unwrap();
    byte[0]
}

/// The test as the predecessor.
pub(super) struct Predecessor {
    pub(super) stream: BufReader<UnixStream>,
    admin: TcpListener,
    _directory: TempDir,
}

impl Predecessor {
    /// Hands its sockets to a process with this file, and leaves the name. It has not answered yet that it
    /// has stopped accepting.
    pub(super) fn of(toml: &str) -> (Self, Portway) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("routes.toml");
        std::fs::write(&file, toml).unwrap();
        let addresses = toml.split('"').filter_map(|part| part.parse().ok());
        let sockets = addresses.take(2).map(TcpListener::bind::<SocketAddr>);
        let [admin, agents] = sockets
            .collect::<Result<Vec<_>, _>>()
            .unwrap()
            .try_into()
            .unwrap();
        let control = UnixListener::bind_addr(&name(&file)).unwrap();
        let given = [admin.try_clone().unwrap(), agents];
        let giving = thread::spawn(move || {
            let (stream, _) = control.accept().unwrap();
            let mut stream = BufReader::new(stream);
            assert_eq!(line(&mut stream), "takeover");
            let [admin, agents] = &given;
            let given = [agents.as_fd(), admin.as_fd()];
            portway::net::send_descriptors(stream.get_ref(), b's', &given).unwrap();
            portway::net::send_descriptors(stream.get_ref(), b'e', &[]).unwrap();
            assert_eq!(line(&mut stream), "ready");
            stream
        });
        let portway = Portway::start_at(&file, &["--takeover"]);
        let stream = giving.join().unwrap();
        stream.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        let before = Self {
            stream,
            admin,
            _directory: directory,
        };
        (before, portway)
    }

    pub(super) fn accepts_no_more(&mut self) {
        self.stream.get_mut().write_all(b"y").unwrap();
    }
}

fn line(stream: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// The test as the successor.
struct Successor {
    stream: UnixStream,
    sockets: Vec<OwnedFd>,
}

impl Successor {
    /// Takes the sockets, and does not accept yet.
    fn of(portway: &Portway) -> Self {
        let name = name(portway.file());
        within(PATIENCE, "portway hands its sockets over", || {
            let mut stream = UnixStream::connect_addr(&name).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"takeover\n").ok()?;
            let mut sockets = Vec::new();
            loop {
                match portway::net::receive_descriptors(&stream) {
                    Ok((Some(b's'), given)) => sockets.extend(given),
                    Ok((Some(b'e'), _)) => return Some(Self { stream, sockets }),
                    Ok(_) | Err(_) => return None,
                }
            }
        })
    }

    /// Completes the takeover.
    fn ready(mut self) -> Self {
        self.stream.write_all(b"ready\n").unwrap();
        assert_eq!(byte(&mut self.stream), b'y');
        self
    }

    /// The socket of this address.
    fn listener(&self, address: SocketAddr) -> TcpListener {
        let sockets = self.sockets.iter().map(|one| one.try_clone().unwrap());
        let mut listeners = sockets.map(TcpListener::from);
        let listener = listeners.find(|one| one.local_addr().unwrap() == address);
        let listener = listener.unwrap();
        listener.set_nonblocking(false).unwrap();
        listener
    }
}

/// Checks that another process, which answers, succeeds a draining process at once.
fn is_succeeded(mut portway: Portway) {
    let next = portway.start_beside(&["--takeover"]);
    assert_eq!(portway.wait_exit().code(), Some(0));
    drop(next.relayed());
    assert_eq!(get(next.admin(), "/readyz").unwrap().0, 200);
}

/// Checks that every connection to the address reaches the test, and no other process.
fn is_ours(listener: &TcpListener) {
    let address = listener.local_addr().unwrap();
    let clients: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    // Gives another process time to accept.
    pause(Duration::from_millis(200));
    let mut own: HashSet<_> = clients
        .iter()
        .map(|one| one.local_addr().unwrap())
        .collect();
    listener.set_nonblocking(true).unwrap();
    while let Ok((_, from)) = listener.accept() {
        own.remove(&from);
    }
    assert!(own.is_empty(), "{} of 20 went elsewhere", own.len());
}

#[test]
fn a_process_that_is_told_to_stop_while_it_is_succeeded_lets_its_predecessor_go() {
    let backend = Backend::echo();
    let (mut before, mut portway) = Predecessor::of(&with_ports(backend.address(), ""));
    before.accepts_no_more();
    let after = Successor::of(&portway);
    portway.signal(Signal::TERM);
    portway.tells("draining");
    let _after = after.ready();
    // It does not send "return", because its successor accepts.
    assert_eq!(line(&mut before.stream), "farewell");
    assert_eq!(portway.wait_exit().code(), Some(0));
}

#[test]
fn a_process_whose_predecessor_has_ended_is_succeeded_while_it_drains() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"600s\"\ndrain_timeout = \"1s\"";
    let (mut before, portway) = Predecessor::of(&with_ports(backend.address(), limits));
    before.accepts_no_more();
    within(PATIENCE, "portway has the control socket", || {
        portway.reload().status.success().then_some(())
    });
    before.stream.get_ref().shutdown(Shutdown::Both).unwrap();
    portway.signal(Signal::TERM);
    portway.tells("draining");
    is_succeeded(portway);
}

#[test]
fn a_predecessor_that_hangs_has_the_admin_address_for_itself() {
    let backend = Backend::echo();
    let (mut before, portway) = Predecessor::of(&with_ports(backend.address(), SLOW_DRAIN));
    before.accepts_no_more();
    let held = Held::new(&portway, NAME);
    portway.signal(Signal::TERM);
    assert_eq!(line(&mut before.stream), "return");
    portway.tells("the predecessor does not answer");
    // The connection ends, so that the predecessor accepts again.
    assert_eq!(line(&mut before.stream), "");
    is_ours(&before.admin);
    drop(held);
}

#[test]
fn a_predecessor_that_answers_late_has_the_admin_address_from_then_on() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"600s\"\ndrain_timeout = \"365d\"";
    let (mut before, portway) = Predecessor::of(&with_ports(backend.address(), limits));
    before.accepts_no_more();
    let held = Held::new(&portway, NAME);
    portway.signal(Signal::TERM);
    assert_eq!(line(&mut before.stream), "return");
    portway.tells("the predecessor does not answer");
    before.stream.get_mut().write_all(b"b").unwrap();
    // The connection is no longer needed, and ends.
    assert_eq!(line(&mut before.stream), "");
    is_ours(&before.admin);
    drop(held);
}

#[test]
fn a_process_whose_predecessor_ends_instead_of_answering_can_be_succeeded() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"600s\"\ndrain_timeout = \"1s\"";
    let (mut before, portway) = Predecessor::of(&with_ports(backend.address(), limits));
    before.accepts_no_more();
    portway.signal(Signal::TERM);
    assert_eq!(line(&mut before.stream), "return");
    portway.tells("the predecessor does not answer");
    before.stream.get_ref().shutdown(Shutdown::Both).unwrap();
    is_succeeded(portway);
}

#[test]
fn a_predecessor_that_answers_too_late_accepts_again_at_once() {
    let backend = Backend::echo();
    let (mut before, portway) = Predecessor::of(&with_ports(backend.address(), SLOW_DRAIN));
    let held = Held::new(&portway, NAME);
    portway.signal(Signal::TERM);
    portway.tells("draining");
    // The listeners are closed by now, or will be before this is read.
    before.accepts_no_more();
    let mut word = line(&mut before.stream);
    while !word.is_empty() {
        word = line(&mut before.stream);
    }
    is_ours(&before.admin);
    drop(held);
}

#[test]
fn if_two_accept_at_the_same_addresses_the_one_with_the_control_socket_goes_on() {
    let backend = Backend::echo();
    let limits = "drain_delay = \"600s\"\ndrain_timeout = \"365d\"";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let admin = portway.admin();
    // Without a connection the old process ends as soon as it is taken over, and does not come back.
    let mut held = Held::new(&portway, NAME);
    let after = Successor::of(&portway).ready();
    // The test also plays the process that took over, and has the name.
    let name = name(portway.file());
    let _control = within(PATIENCE, "the name is free", || {
        UnixListener::bind_addr(&name).ok()
    });
    let listener = after.listener(admin);
    drop(after);
    portway.tells("accepting again");
    portway.tells("another portway serves this file");
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    is_ours(&listener);
}

#[test]
fn the_reason_of_a_successor_that_does_not_start_is_whole_in_any_script() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), ""));
    let reason = "€".repeat(1000);
    let mut after = Successor::of(&portway);
    writeln!(after.stream, "failed {reason}").unwrap();
    let told = |line: &serde_json::Value| line["fields"]["reason"] == reason.as_str();
    portway.program.wait(PATIENCE, told);
}

#[test]
fn the_admin_address_is_back_where_the_successor_has_another_one() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let held = Held::new(&portway, NAME);
    let admin = portway.admin();
    let mut after = Successor::of(&portway).ready();
    after.sockets.clear();
    let closed = format!("closed {admin}\n");
    after.stream.write_all(closed.as_bytes()).unwrap();
    within(PATIENCE, "the admin address is closed", || {
        is_refused(admin).then_some(())
    });
    drop(after);
    portway.tells("accepting again");
    assert_eq!(get(admin, "/readyz").unwrap().0, 200);
    drop(held);
}

#[test]
fn a_process_without_descriptors_accepts_again_all_the_same() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let held = Held::new(&portway, NAME);
    let admin = portway.admin();
    let after = Successor::of(&portway).ready();
    portway.tells("draining");
    let pid = Pid::from_raw(i32::try_from(portway.pid()).unwrap());
    let few = Rlimit {
        current: Some(4),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    let before = prlimit(pid, Resource::Nofile, few).unwrap();
    drop(after);
    portway.tells("accepting again");
    prlimit(pid, Resource::Nofile, before).unwrap();
    // It has also read the file then.
    portway.tells("reloaded");
    drop(portway.relayed());
    assert_eq!(get(admin, "/readyz").unwrap().0, 200);
    drop(held);
}

#[test]
fn a_process_that_is_told_to_stop_while_it_comes_back_answers_or_closes_its_addresses() {
    let backend = Backend::echo();
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    for delay in (0..20).map(|tenths| Duration::from_micros(tenths * 100)) {
        let portway = Portway::start(&toml);
        // It makes the drain last for a while.
        let held = Held::new(&portway, NAME);
        let admin = portway.admin();
        let mut after = Successor::of(&portway).ready();
        portway.tells("draining");
        after.stream.write_all(b"return\n").unwrap();
        pause(delay);
        portway.signal(Signal::TERM);
        // If portway did not come back, the successor goes on until it ends.
        let mut answer = Vec::new();
        after.stream.read_to_end(&mut answer).unwrap();
        drop(after);
        let is_answered = || get(admin, "/readyz").is_ok_and(|(status, _)| status == 503);
        within(PATIENCE, "it drains, or has let go", || {
            (is_refused(admin) || is_answered()).then_some(())
        });
        drop(held);
    }
}
