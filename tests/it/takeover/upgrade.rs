//! `portway upgrade`: the process that runs starts its successor from the file at its own path.

mod failures;
mod systemd;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;

use super::{SLOW_DRAIN, with_ports};
use crate::it::fixture::{NAME, PATIENCE, PORTWAY, Portway, message, within};
use crate::it::held::Held;
use crate::it::peers::Backend;
use crate::it::process::{descriptors, resident, serves};

/// The program at a path of its own.
struct Program {
    path: PathBuf,
    _directory: TempDir,
}

impl Program {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = Self {
            path: directory.path().join("portway"),
            _directory: directory,
        };
        program.install(Path::new(PORTWAY));
        program
    }

    /// Replaces it by a rename, as dpkg does.
    fn install(&self, from: &Path) {
        let new = self.path.with_extension("new");
        // If this process wrote it, a child of another test could have it open for a moment: "text file busy".
        let copied = Command::new("cp").arg(from).arg(&new).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    /// Replaces it by a script.
    fn script(&self, lines: &str) {
        let script = self.path.with_extension("sh");
        fs::write(&script, format!("#!/bin/sh\n{lines}\n")).unwrap();
        self.install(&script);
    }

    /// Lets the new process accept without a control socket, so that the answer to `portway upgrade` waits for that.
    fn without_control_socket(&self) {
        self.script(&format!(
            "[ $1 = run ] && export RUNTIME_DIRECTORY=/nonexistent; exec {PORTWAY} \"$@\""
        ));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null());
        command
    }
}

/// Runs `portway upgrade` on the file of a process.
fn upgrade(portway: &Portway) -> Output {
    let mut command = Command::new(PORTWAY);
    command.args(["upgrade", "--output", "json", "--config"]);
    command.arg(portway.file()).output().unwrap()
}

/// The answer of `portway upgrade`.
fn told(output: &Output) -> Value {
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A process that an upgrade has started, which the test has to end.
struct Successor(u32);

impl Successor {
    /// Upgrades, and checks what is said about it.
    fn of(portway: &Portway, old: u32) -> Self {
        let output = upgrade(portway);
        let said = told(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said["result"], "upgraded", "{said}");
        assert_eq!(said["old_pid"], old, "{said}");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            (&said["old_version"], &said["new_version"]),
            (&version.into(), &version.into())
        );
        Self(u32::try_from(said["new_pid"].as_u64().unwrap()).unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.cast_signed()).unwrap();
        // It may have ended.
        if let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) {
            _ = pidfd_send_signal(process, signal);
        }
    }

    /// Whether it has ended. If the process above it does not reap, a zombie stays.
    fn has_ended(&self) -> bool {
        state(self.0).is_none_or(|(state, _)| state == 'Z')
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::KILL);
        }
    }
}

/// The state of a process, and the process that has started it.
fn state(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The processes that this one has started and that are not reaped.
fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    all.filter(|&pid| state(pid).is_some_and(|(_, of)| of == parent))
        .collect()
}

#[test]
fn the_successor_is_the_new_file_at_the_path_and_open_connections_stay_with_the_old_process() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let mut portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    let mut held = Held::new(&portway, NAME);
    program.install(Path::new(PORTWAY));
    let exe = fs::read_link(format!("/proc/{}/exe", portway.pid())).unwrap();
    assert!(exe.to_str().unwrap().ends_with(" (deleted)"), "{exe:?}");
    let new = Successor::of(&portway, portway.pid());
    assert_eq!(
        fs::read_link(format!("/proc/{}/exe", new.0)).unwrap(),
        program.path
    );
    // New connections come to the new process, and the answer to an old one from the old process.
    let client = within(PATIENCE, "the new process has a new connection", || {
        Some(portway.relayed()).filter(|client| serves(new.0, client))
    });
    held.send(b"still here");
    held.finish();
    assert_eq!(portway.wait_exit().code(), Some(0));
    drop(client);
    // The logs of the new process go on at the same streams, and it goes on alone.
    drop(portway.relayed());
    within(PATIENCE, "both have told that they are ready", || {
        let lines = portway.program.all().into_iter();
        let ready = lines.filter(|line| message(line) == "ready");
        (ready.count() == 2).then_some(())
    });
    assert!(portway.reload().status.success());
    new.signal(Signal::TERM);
    within(PATIENCE, "the new process ends", || {
        new.has_ended().then_some(())
    });
}

#[test]
fn a_successor_that_ends_is_reaped_and_the_old_process_accepts_again() {
    let backend = Backend::echo();
    let portway = Portway::start(&with_ports(backend.address(), SLOW_DRAIN));
    let mut held = Held::new(&portway, NAME);
    let new = Successor::of(&portway, portway.pid());
    assert_eq!(children(portway.pid()), [new.0]);
    new.signal(Signal::KILL);
    portway.tells("accepting again");
    within(PATIENCE, "it is reaped", || {
        children(portway.pid()).is_empty().then_some(())
    });
    drop(portway.relayed());
    // The next upgrade is an upgrade like the first one.
    let next = within(PATIENCE, "the old process has the control socket", || {
        portway
            .reload()
            .status
            .success()
            .then(|| Successor::of(&portway, portway.pid()))
    });
    assert_eq!(children(portway.pid()), [next.0]);
    held.finish();
    drop(portway.relayed());
}

#[test]
fn ten_upgrades_in_a_row_leave_one_process_with_the_descriptors_of_the_first() {
    let (backend, program) = (Backend::echo(), Program::new());
    let toml = with_ports(backend.address(), SLOW_DRAIN);
    let portway = Portway::start_by(program.command(), &toml, Stdio::piped());
    drop(portway.relayed());
    let idle = |pid: u32| {
        within(PATIENCE, "it has no connection", || {
            let active = portway.count("portway_connections_active{listener=\"agents\"}");
            // In this order: the descriptors of a connection end before it does.
            (active == 0).then(|| descriptors(pid))
        })
    };
    let (before, memory) = (idle(portway.pid()), resident(portway.pid()));
    let mut processes = vec![Successor(portway.pid())];
    for round in 0..10 {
        let old = processes.last().unwrap().0;
        // The process before it may accept for a moment longer.
        let mut held = within(PATIENCE, "the latest process serves a client", || {
            Some(Held::new(&portway, NAME)).filter(|held| serves(old, &held.client))
        });
        program.install(Path::new(PORTWAY));
        processes.push(Successor::of(&portway, old));
        // Only this one and the one before it are left, as soon as the others have drained.
        within(PATIENCE, "the process before it ends", || {
            let left = processes.iter().filter(|one| !one.has_ended());
            (left.count() <= 2).then_some(())
        });
        drop(portway.relayed());
        held.finish();
        eprintln!("upgrade {round}: process {}", processes.last().unwrap().0);
    }
    let (last, old) = processes.split_last().unwrap();
    within(PATIENCE, "the old processes end", || {
        old.iter().all(Successor::has_ended).then_some(())
    });
    // The first one had no link to a predecessor, whose end the task notices a moment later.
    within(PATIENCE, "descriptors return", || {
        (idle(last.0) <= before).then_some(())
    });
    assert!(children(last.0).is_empty());
    within(PATIENCE, "memory is as before", || {
        (resident(last.0) < memory + (4 << 20)).then_some(())
    });
}
