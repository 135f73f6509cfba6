//! The network in which a measurement runs. Short connections leave more behind in the kernel (TIME_WAIT)
//! than it keeps, so on a shared network the cost of a run depends on the runs before it. A new network
//! namespace begins empty, and removes everything when it ends.

use std::thread;

#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/namespace.rs"]
mod namespace;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[path = "../../tests/support/required.rs"]
mod required;

use namespace::{Namespace, counter};

/// Plenty of ports and closed connections, so that the kernel need not search for them during a measurement.
const PLENTY: &str = "echo 1024 65000 > /proc/sys/net/ipv4/ip_local_port_range \
    && echo 1000000 > /proc/sys/net/ipv4/tcp_max_tw_buckets &&";

/// The network in which measurements have their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Each measurement has its own namespace.
    Own,
    /// All use the namespace of this program.
    Shared,
}

/// Connections for which a queue of the kernel had no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflows {
    /// Connections that a listening socket lost; their clients tried again a second later.
    pub listen: u64,
    /// Closed connections that the kernel forgot at once.
    pub time_wait: u64,
}

impl Network {
    /// The own network if the machine allows it, and a sentence about it.
    pub fn find() -> (Self, String) {
        match Namespace::start(PLENTY) {
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

    /// Runs a measurement in its own thread. All sockets must be made in it: its threads and processes
    /// are in the same network.
    pub fn run<T: Send>(
        self,
        measurement: impl FnOnce() -> Result<T, String> + Send,
    ) -> Result<(Result<T, String>, Overflows), String> {
        let holder = match self {
            Self::Own => Some(Namespace::start(PLENTY).map_err(|why| format!("network: {why}"))?),
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
    /// The counts for the network of this thread.
    fn now() -> Self {
        let count = |name| counter("netstat", "TcpExt:", name).unwrap_or_default();
        Self {
            listen: count("ListenOverflows"),
            time_wait: count("TCPTimeWaitOverflow"),
        }
    }

    const fn since(self, before: Self) -> Self {
        Self {
            listen: self.listen.saturating_sub(before.listen),
            time_wait: self.time_wait.saturating_sub(before.time_wait),
        }
    }

    /// A remark about them, if one is needed.
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
