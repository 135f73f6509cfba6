//! A test's own network namespace, without segments, ports and closed connections of others.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A process that holds a network namespace; it ends on drop.
pub(crate) struct Namespace {
    child: Child,
    /// The process ends when this is closed.
    input: Option<ChildStdin>,
}

impl Namespace {
    /// Makes one whose loopback is up, and prepares it with further shell commands. An error says what the
    /// machine lacks: root, unshare or ip.
    pub(crate) fn start(commands: &str) -> Result<Self, String> {
        let hold = format!("ip link set lo up && {commands} echo ready && exec cat");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &hold]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut namespace = Self {
            input: child.stdin.take(),
            child,
        };
        match namespace.said() {
            Ok(said) if said == "ready\n" => Ok(namespace),
            Ok(said) => Err(said.trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The first line of its output, or else its errors.
    fn said(&mut self) -> io::Result<String> {
        let mut said = String::new();
        if let Some(output) = &mut self.child.stdout {
            BufReader::new(output).read_line(&mut said)?;
        }
        if let (true, Some(errors)) = (said.is_empty(), &mut self.child.stderr) {
            errors.read_to_string(&mut said)?;
        }
        Ok(said)
    }

    /// The process that holds it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes this thread into it; threads and processes that it starts from then on are there too.
    pub(crate) fn enter(&self) -> Result<(), String> {
        let path = format!("/proc/{}/ns/net", self.child.id());
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(file.as_fd(), kind).map_err(|error| format!("setns: {error}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.input.take());
        // Nothing can be done about a failure.
        drop(self.child.wait());
    }
}

/// Runs a test in its own network. If the machine does not allow one, it says so, and fails if
/// `PORTWAY_NAMESPACES=required` is set.
pub(crate) fn in_a_network(test: impl FnOnce() + Send) {
    let Some(namespace) = granted(Namespace::start("")) else {
        return;
    };
    let inside = || {
        assert_eq!(namespace.enter(), Ok(()));
        test();
    };
    thread::scope(|scope| {
        if let Err(panic) = scope.spawn(inside).join() {
            resume_unwind(panic);
        }
    });
}

/// The thing that a test needs from the machine, or `None` if the machine does not allow it. Then it panics if
/// `PORTWAY_NAMESPACES=required` is set.
pub(crate) fn granted<T>(given: Result<T, String>) -> Option<T> {
    match given {
        Ok(given) => Some(given),
        Err(fault) => {
            let required = std::env::var_os("PORTWAY_NAMESPACES");
            let required = required.is_some_and(|value| value == "required");
            let remedy = "run it as root, with unshare (util-linux), ip (iproute2) and iptables";
            assert!(!required, "{remedy}: {fault}");
            eprintln!("DID NOT RUN: {remedy}: {fault}");
            None
        }
    }
}

/// A counter of the kernel for the network of this thread: of the lines of `file` (`snmp` or
/// `netstat`) that begin with `group`.
pub(crate) fn counter(file: &str, group: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?;
    let mut lines = text.lines().filter(|line| line.starts_with(group));
    let mut words = || lines.next().unwrap_or_default().split_whitespace();
    let (names, counts) = (words(), words());
    let (_, count) = names.zip(counts).find(|(it, _)| *it == name)?;
    count.parse().ok()
}
