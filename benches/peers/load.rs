//! The load: clients in this thread and a backend in another, with a relay under test between them.
//!
//! Every connection begins with a ClientHello for fleet.example.com. A command follows it and
//! says what the backend shall do. Each end has one thread (two beside downloads), sockets never block, and
//! every wait has a limit: if a relay loses a byte or a connection, the run ends with an error and does not
//! hang. A warm-up that does not count precedes each measured window.

mod backend;
mod bulk;
mod connections;
mod hello;
mod idle;
mod messages;
mod socket;
mod stream;

use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::io::Errno;

pub(crate) use self::backend::Backend;
use self::backend::Counts;
use self::hello::{Command, Hellos, Mode};
pub(crate) use self::messages::CONNECTIONS as SMALL_CONNECTIONS;
use crate::relay::Relay;
use crate::results::{Figure, Scenario};

/// How long a scenario runs before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// Longest time until connections that must be open have reached the backend.
const OPENING: Duration = Duration::from_secs(30);

/// Most connections under way to the backend while many are opened, so that no backlog overflows.
const OPENING_AT_A_TIME: usize = 128;

/// Time between two looks at the backend's counts.
const LOOK: Duration = Duration::from_millis(1);

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The length of the window in which a scenario is measured.
    pub(crate) seconds: f64,
    /// Whether the run only shows that everything works: then the waits are short too.
    pub(crate) quick: bool,
}

/// A figure and its value.
pub(crate) type Value = (Figure, f64);

/// Runs a scenario against a relay. Returns the figures, or what went wrong.
pub(crate) fn run(
    scenario: Scenario,
    relay: &dyn Relay,
    backend: &Backend,
    plan: &Plan,
) -> Result<Vec<Value>, String> {
    let SocketAddr::V4(address) = relay.address() else {
        return Err("the load has only IPv4 clients: let the relay listen on 127.0.0.1".into());
    };
    let mut run = Run {
        relay,
        backend,
        plan: *plan,
        address,
        counts: backend.begin(),
        hellos: Hellos::new(),
    };
    let done = match scenario {
        Scenario::BulkDown { flows } => bulk::run(&run, bulk::DOWN, flows),
        Scenario::BulkUp { flows } => bulk::run(&run, bulk::UP, flows),
        Scenario::BulkBoth { flows } => bulk::run(&run, bulk::BOTH, flows),
        Scenario::SlowReaders { readers } => bulk::beside_slow_readers(&mut run, readers),
        Scenario::Connections { at_a_time } => connections::run(&run, at_a_time, false),
        Scenario::SplitConnections { at_a_time } => connections::run(&run, at_a_time, true),
        Scenario::Messages { size, at_a_time } => messages::run(&run, size, at_a_time),
        Scenario::Beside { downloads } => messages::beside(&run, downloads),
        Scenario::Idle { connections } => idle::run(&run, connections),
    };
    // A fault at the backend is the cause of a fault at the client.
    let done = match (done, backend.fault()) {
        (Err(error), Some(fault)) => Err(format!("{error} ({fault})")),
        (Ok(_), Some(fault)) => Err(fault),
        (done, None) => done,
    };
    // The next scenario begins when this one has ended at both ends, as far as the relay permits.
    run.wait_for(Duration::from_secs(5), |counts| counts.open() == 0);
    done
}

/// A running scenario.
struct Run<'a> {
    relay: &'a dyn Relay,
    backend: &'a Backend,
    plan: Plan,
    address: SocketAddrV4,
    counts: Arc<Counts>,
    hellos: Hellos,
}

impl Run<'_> {
    /// The window in which a scenario is measured.
    fn window(&self) -> Duration {
        Duration::from_secs_f64(self.plan.seconds)
    }

    /// One duration or the other, in seconds.
    fn either(&self, full: f64, quick: f64) -> Duration {
        Duration::from_secs_f64(if self.plan.quick { quick } else { full })
    }

    fn command(&self, mode: Mode, size: usize) -> Command {
        Command {
            mode,
            aside: false,
            run: self.counts.run,
            size,
        }
    }

    /// The hello of a classic client, and the command after it.
    fn classic(&self, command: Command) -> Vec<u8> {
        let mut bytes = self.hellos.classic.clone();
        bytes.extend(command.encode());
        bytes
    }

    /// Opens connections, and waits until their commands have reached the backend.
    fn open(&self, command: Command, count: usize) -> Result<Vec<OwnedFd>, String> {
        let deadline = Instant::now() + OPENING;
        let mut bytes = self.classic(command);
        let before = self.counts.opened.load(Ordering::Relaxed);
        let reached = |least: usize| {
            let left = deadline.saturating_duration_since(Instant::now());
            self.wait_for(left, |counts| {
                counts.opened.load(Ordering::Relaxed) >= before + least as u64
            })
        };
        let mut sockets = Vec::with_capacity(count);
        for number in 0..count {
            hello::renew(&mut bytes);
            let socket = socket::connect(self.address)
                .and_then(|socket| socket::finish(&socket, &bytes, deadline).map(|()| socket))
                .map_err(|error| told(&format!("connection {number} of {count}"))(error))?;
            sockets.push(socket);
            if !reached((number + 1).saturating_sub(OPENING_AT_A_TIME)) {
                break;
            }
        }
        if reached(count) {
            return Ok(sockets);
        }
        let opened = self.counts.opened.load(Ordering::Relaxed) - before;
        Err(format!(
            "{opened} of {count} connections reached the backend: see the log of the relay"
        ))
    }

    /// Waits until the counts are as wanted. Returns whether they were, within `longest`.
    fn wait_for(&self, longest: Duration, wanted: impl Fn(&Counts) -> bool) -> bool {
        let deadline = Instant::now() + longest;
        while !wanted(&self.counts) {
            if Instant::now() >= deadline || self.backend.fault().is_some() {
                return false;
            }
            pause(LOOK);
        }
        true
    }

    /// Waits until a number stays equal for `quiet`, for at most `longest`. Returns the number.
    fn settled(
        &self,
        quiet: Duration,
        longest: f64,
        number: impl Fn(&Self) -> Result<u64, String>,
    ) -> Result<u64, String> {
        let deadline = Instant::now() + self.either(longest, 0.3);
        let (mut last, mut since) = (number(self)?, Instant::now());
        while since.elapsed() < quiet && Instant::now() < deadline {
            pause(quiet / 10);
            let now = number(self)?;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(last)
    }

    /// Time and CPU of the relay, now.
    fn mark(&self) -> Result<Mark, String> {
        Ok(Mark {
            at: Instant::now(),
            cpu: self.relay.cpu()?,
        })
    }
}

/// One end of a window.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: Duration,
}

impl Mark {
    /// Seconds since `earlier`.
    fn seconds(self, earlier: Self) -> f64 {
        (self.at - earlier.at).as_secs_f64()
    }

    /// CPU seconds of the relay since `earlier`.
    fn cpu_seconds(self, earlier: Self) -> f64 {
        self.cpu.saturating_sub(earlier.cpu).as_secs_f64()
    }
}

/// The median and the 99th percentile. Sorts the latencies.
fn percentiles(latencies: &mut [Duration]) -> Result<Vec<Value>, String> {
    Ok(vec![
        (Figure::P50Microseconds, percentile(latencies, 50)?),
        (Figure::P99Microseconds, percentile(latencies, 99)?),
    ])
}

/// A percentile in microseconds, by the nearest rank. Sorts the latencies.
fn percentile(latencies: &mut [Duration], percent: usize) -> Result<f64, String> {
    latencies.sort_unstable();
    let rank = (latencies.len() * percent).div_ceil(100);
    match latencies.get(rank.saturating_sub(1)) {
        Some(latency) => Ok(latency.as_secs_f64() * 1e6),
        None => {
            Err("nothing was answered in the window: the relay stalls, or it is too short".into())
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 of anything is never counted"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::disallowed_methods,
    reason = "there are no other connections on this thread while it waits"
)]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Describes what a system call was for, and what helps.
fn told(what: &str) -> impl Fn(Errno) -> String {
    move |error| {
        let help = match error {
            Errno::MFILE => ": raise ulimit -n",
            Errno::TIMEDOUT => ": the relay takes no more connections",
            Errno::PIPE | Errno::CONNRESET => ": closed by the relay; see its log",
            Errno::ADDRNOTAVAIL => ": no port is free; wait a minute",
            _ => "",
        };
        format!("{what}: {error}{help}")
    }
}
