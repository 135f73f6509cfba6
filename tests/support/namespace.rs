//! A test's own network namespace, without segments, ports and closed connections of others.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::required::{NAMESPACES, did_not_run};

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

    /// Runs this there, on a thread of its own; sockets and processes that it starts stay there.
    pub(crate) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let there = || {
            assert_eq!(self.enter(), Ok(()));
            what()
        };
        let done = thread::scope(|scope| scope.spawn(there).join());
        done.unwrap_or_else(|panic| resume_unwind(panic))
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
    if let Some(namespace) = granted(Namespace::start("")) {
        namespace.run(test);
    }
}

/// The remedies where a test needs more than a network of its own.
pub(crate) const IPV6: &str = "run it as root where IPv6 is on (sysctl net.ipv6.conf.all.disable_ipv6=0; no ipv6.disable=1 among the kernel's parameters)";
pub(crate) const CONNTRACK: &str = "run it as root with iptables, where the kernel has conntrack and NAT (modprobe nf_conntrack nf_nat xt_conntrack)";
pub(crate) const CGROUPS: &str =
    "run it as root where /sys/fs/cgroup can be written, with the controllers memory and cpu";
pub(crate) const TUN: &str =
    "run it as root with ip (iproute2), where the kernel has TUN devices (modprobe tun)";
pub(crate) const ROOT: &str = "run it as root";
pub(crate) const USER_NAMESPACES: &str =
    "let users make namespaces (sysctl user.max_user_namespaces), and install unshare (util-linux)";

/// The network that a test needs, or `None` if the machine does not allow it. Then it panics if
/// `PORTWAY_NAMESPACES=required` is set.
#[track_caller]
pub(crate) fn granted<T>(given: Result<T, String>) -> Option<T> {
    granted_by(
        "run it as root, with unshare (util-linux) and ip (iproute2)",
        given,
    )
}

/// The same for another thing of the machine, with the remedy if it does not allow that.
#[track_caller]
pub(crate) fn granted_by<T>(remedy: &str, given: Result<T, String>) -> Option<T> {
    given
        .map_err(|fault| did_not_run(NAMESPACES, &fault, remedy))
        .ok()
}

/// Whether this process is root's, as the test needs.
#[track_caller]
pub(crate) fn is_root() -> bool {
    let user = rustix::process::geteuid();
    let fault = || format!("user {} cannot act as another one", user.as_raw());
    granted_by(ROOT, user.is_root().then_some(()).ok_or_else(fault)).is_some()
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
