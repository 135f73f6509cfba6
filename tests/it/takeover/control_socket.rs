//! Which users may use the control socket, and that others cannot block it.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Signal, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::it::fixture::{PATIENCE, PORTWAY, Portway, config, message, within};
use crate::it::namespace::is_root;
use crate::it::peers::Backend;

/// Any user that is not root.
const STRANGER: u32 = 65_533;

fn abstract_name(file: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(format!("portway:{}", file.display())).unwrap()
}

/// Runs `work` on a thread of another user. Needs root.
fn as_a_stranger<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let stranger = thread::spawn(move || {
        let user = Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        work()
    });
    stranger.join().unwrap()
}

/// If the owner of the name does not accept, processes that connect to it must not hang.
#[test]
fn invariant_9_another_user_of_the_control_socket_stalls_nothing() {
    let backend = Backend::echo();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, config(&[backend.address()], "", "")).unwrap();
    let name = format!("\0portway:{}", file.display());
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let (squatter, waiting) = (socket(), socket());
    squatter.bind(&SockAddr::unix(&name).unwrap()).unwrap();
    squatter.listen(0).unwrap();
    waiting.connect(&SockAddr::unix(&name).unwrap()).unwrap();

    let mut portway = Portway::start_at(&file, &[]);
    let told = |line: &serde_json::Value| message(line).contains("has the control socket");
    let line = portway.program.wait(PATIENCE, told);
    assert!(message(&line).contains("RUNTIME_DIRECTORY"), "{line}");
    let available = |portway: &Portway| portway.count("portway_control_socket_available");
    assert_eq!(available(&portway), 0);
    let output = portway.reload();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    drop(portway.relayed());
    // portway binds the name as soon as it is free.
    drop((squatter, waiting));
    within(PATIENCE, "portway has the control socket", || {
        portway.reload().status.success().then_some(())
    });
    assert_eq!(available(&portway), 1);
    portway.signal(Signal::TERM);
    assert_eq!(portway.wait_exit().code(), Some(0));
}

/// Another process cannot prevent a successor's start by binding the name first.
#[test]
fn a_stranger_with_the_name_does_not_hold_a_successor_up() {
    let backend = Backend::echo();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, config(&[backend.address()], "", "")).unwrap();
    let name = SockAddr::unix(format!("\0portway:{}", file.display())).unwrap();
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let (squatter, waiting) = (socket(), socket());
    squatter.bind(&name).unwrap();
    squatter.listen(0).unwrap();
    waiting.connect(&name).unwrap();
    let portway = Portway::start_at(&file, &["--takeover"]);
    let told = |what: &str| {
        let told = |line: &serde_json::Value| message(line).contains(what);
        portway.program.wait(PATIENCE, told);
    };
    told("the owner of the control socket does not accept");
    told("does not take over from it");
    drop(portway.relayed());
}

#[test]
fn another_user_with_the_name_does_not_hold_a_successor_up() {
    if !is_root() {
        return;
    }
    let backend = Backend::echo();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, config(&[backend.address()], "", "")).unwrap();
    let name = abstract_name(&file);
    let _squatter = as_a_stranger(move || UnixListener::bind_addr(&name).unwrap());
    let portway = Portway::start_at(&file, &["--takeover"]);
    let told = |line: &serde_json::Value| message(line).contains("of user 65533 has the control");
    portway.program.wait(PATIENCE, told);
    drop(portway.relayed());
}

/// Root sees which process has answered.
#[test]
fn a_reload_by_root_names_the_process_of_another_user_that_has_answered() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    let name = abstract_name(&file);
    let listener = as_a_stranger(move || UnixListener::bind_addr(&name).unwrap());
    let answering = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        stream.write_all(b"0\nreloaded: generation 2\n").unwrap();
    });
    let mut reload = Command::new(PORTWAY);
    let output = reload.args(["reload", "--config"]).arg(&file).output();
    answering.join().unwrap();
    let said = String::from_utf8(output.unwrap().stdout).unwrap();
    let by = format!("process {} of user {STRANGER}", std::process::id());
    assert!(said.contains(&by), "{said}");
}

/// A user without permission must not take the place of a request that is allowed.
#[test]
fn a_stranger_is_dropped_before_a_word_is_read() {
    if !is_root() {
        return;
    }
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    within(PATIENCE, "portway has the control socket", || {
        (portway.count("portway_control_socket_available") == 1).then_some(())
    });
    let name = abstract_name(portway.file());
    as_a_stranger(move || {
        let connect = || UnixStream::connect_addr(&name).unwrap();
        let held: Vec<_> = (0..64).map(|_| connect()).collect();
        for mut stream in held {
            // It may be closed already.
            drop(stream.write_all(b"reload\n"));
            let mut told = Vec::new();
            drop(stream.read_to_end(&mut told));
            assert_eq!(String::from_utf8_lossy(&told), "", "portway has answered");
        }
    });
    assert!(portway.reload().status.success());
}

#[test]
fn in_a_directory_of_its_own_nobody_has_the_name_of_the_control_socket_first() {
    let backend = Backend::echo();
    let directory = tempfile::tempdir().unwrap();
    let toml = config(&[backend.address()], "", "");
    let start = || {
        let mut command = Command::new(PORTWAY);
        command.env("RUNTIME_DIRECTORY", directory.path());
        Portway::start_by(command, &toml, Stdio::piped())
    };
    let portway = start();
    // Another socket has the abstract name.
    let _squatter = UnixListener::bind_addr(&abstract_name(portway.file())).unwrap();
    let reload = |portway: &Portway| {
        let mut command = Command::new(PORTWAY);
        command.args(["reload", "--config"]).arg(portway.file());
        command.env("RUNTIME_DIRECTORY", directory.path());
        command.output().unwrap().status.success()
    };
    within(PATIENCE, "portway reloads", || {
        reload(&portway).then_some(())
    });
    assert_eq!(portway.count("portway_control_socket_available"), 1);
    // A file that a crash leaves behind blocks no process.
    let mut crashed = portway;
    crashed.signal(Signal::KILL);
    crashed.wait_exit();
    let mut command = Command::new(PORTWAY);
    command.env("RUNTIME_DIRECTORY", directory.path());
    let again = crashed.start_again(command);
    within(PATIENCE, "portway reloads", || reload(&again).then_some(()));
}
