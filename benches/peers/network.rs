//! The network in which a measurement runs. Short connections leave more of themselves behind in the
//! kernel (TIME_WAIT) than it keeps, so on a network that all share the cost of a run depends on who
//! ran before. A network namespace of its own begins empty, and takes all of it away at its end.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Prepares the namespace, tells that it is there, and holds it until its input ends: ports and
/// closed connections in plenty, since nobody shall look for them while it is measured.
const HOLD: &str = "ip link set lo up \
    && echo 1024 65000 > /proc/sys/net/ipv4/ip_local_port_range \
    && echo 1000000 > /proc/sys/net/ipv4/tcp_max_tw_buckets \
    && echo ready && exec cat";

/// Where measurements have their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Each in a namespace of its own.
    Own,
    /// All in that of this program.
    Shared,
}

/// What a queue of the kernel had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    /// Connections that a listening socket lost; their clients have tried again, a second later.
    pub listen: u64,
    /// Closed connections that were forgotten at once.
    pub time_wait: u64,
}

impl Network {
    /// The own one if it can be had, and a sentence on it.
    pub fn find() -> (Self, String) {
        match Holder::start().and_then(|holder| holder.namespace()) {
            Ok(_) => (
                Self::Own,
                "each measurement in a network namespace of its own".to_owned(),
            ),
            Err(why) => (
                Self::Shared,
                format!(
                    "all measurements in the network of the machine, so one meets what earlier ones \
                     left in TIME_WAIT ({why}: run as root, with unshare and ip)"
                ),
            ),
        }
    }

    /// Runs a measurement in a thread of its own. All sockets must be made in it: its threads and
    /// processes are in the same network.
    pub fn run<T: Send>(
        self,
        measurement: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<(Result<T, String>, Overflows), String> {
        let holder = match self {
            Self::Own => Some(Holder::start().map_err(|why| format!("network: {why}"))?),
            Self::Shared => None,
        };
        let in_it = || {
            if let Some(holder) = &holder {
                holder.enter().map_err(|why| format!("network: {why}"))?;
            }
            let before = Overflows::now();
            let done = measurement();
            Ok((done, Overflows::now().since(before)))
        };
        let done = thread::scope(|scope| scope.spawn(in_it).join());
        done.map_err(|_panic| "the thread of the measurement has panicked")?
    }
}

impl Overflows {
    /// Of the network of this thread.
    fn now() -> Self {
        let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
        let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
        let mut words = || lines.next().unwrap_or_default().split_whitespace();
        let counters: Vec<_> = words().zip(words()).collect();
        let count = |name| {
            let counter = counters.iter().find(|(it, _)| *it == name);
            counter.and_then(|(_, count)| count.parse().ok())
        };
        Self {
            listen: count("ListenOverflows").unwrap_or_default(),
            time_wait: count("TCPTimeWaitOverflow").unwrap_or_default(),
        }
    }

    const fn since(self, before: Self) -> Self {
        Self {
            listen: self.listen.saturating_sub(before.listen),
            time_wait: self.time_wait.saturating_sub(before.time_wait),
        }
    }

    /// What is to be known of them, if anything.
    pub fn remark(self) -> Option<String> {
        let mut remarks = Vec::new();
        if self.listen > 0 {
            remarks.push(format!(
                "{} connections found the queue of a listening socket full, and were tried again",
                self.listen
            ));
        }
        if self.time_wait > 0 {
            remarks.push(format!(
                "{} closed connections did not fit into TIME_WAIT",
                self.time_wait
            ));
        }
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }
}

/// A process that holds a network namespace; it ends on drop.
struct Holder {
    child: Child,
    /// The process ends with it.
    input: Option<ChildStdin>,
}

impl Holder {
    fn start() -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", HOLD]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare: {error}"))?;
        let mut holder = Self {
            input: child.stdin.take(),
            child,
        };
        match holder.said() {
            Ok(said) if said == "ready\n" => Ok(holder),
            Ok(said) => Err(said.trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Its first line, or else its errors.
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

    fn namespace(&self) -> Result<File, String> {
        let path = format!("/proc/{}/ns/net", self.child.id());
        File::open(&path).map_err(|error| format!("{path}: {error}"))
    }

    /// Takes this thread into the namespace.
    fn enter(&self) -> Result<(), String> {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(self.namespace()?.as_fd(), kind)
            .map_err(|error| format!("setns: {error}"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.input.take());
        // Nothing can be done about a failure.
        drop(self.child.wait());
    }
}
