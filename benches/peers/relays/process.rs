//! The process of a relay: its start, what it uses, its end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::ClockId;
use nix::unistd;
use rustix::process::{Pid, Signal, kill_process};

/// How long a relay may take until it accepts.
const START: Duration = Duration::from_secs(10);

/// How long it may take to end after the signal; then it is killed.
const END: Duration = Duration::from_secs(5);

/// The pause between two polls.
const PAUSE: Duration = Duration::from_millis(5);

/// A relay that does next to nothing for this long has finished its preparation.
const QUIET: Duration = Duration::from_millis(100);

/// A process with its children; it ends on drop.
pub(super) struct Process {
    child: Child,
    /// All its processes, once it accepts: none of the relays starts more later.
    pids: Vec<u32>,
}

impl Process {
    /// Starts a relay that prints its address in a line on stderr, which is read until its end. Its stdout
    /// goes into the file `log`.
    pub(super) fn announced_on_stderr(
        mut command: Command,
        address: fn(&str) -> Option<SocketAddr>,
        log: &Path,
    ) -> Result<(SocketAddr, Self), String> {
        let log = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdout(log).stderr(Stdio::piped());
        let mut process = Self::spawn(command)?;
        let lines = process.child.stderr.take().map(lines);
        process.announced(lines, address)
    }

    /// The same for an address on stdout.
    pub(super) fn announced_on_stdout(
        mut command: Command,
        address: fn(&str) -> Option<SocketAddr>,
    ) -> Result<(SocketAddr, Self), String> {
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = Self::spawn(command)?;
        let lines = process.child.stdout.take().map(lines);
        process.announced(lines, address)
    }

    /// Starts a relay that listens on the given address.
    pub(super) fn listening_on(
        mut command: Command,
        address: SocketAddr,
        files: &Path,
    ) -> Result<Self, String> {
        let log = files.join("stderr");
        let file = File::create(&log).map_err(|error| error.to_string())?;
        command.stdout(Stdio::null()).stderr(file);
        let mut process = Self::spawn(command)?;
        let until = Instant::now() + START;
        while !accepts(address) {
            if process.has_ended() || Instant::now() > until {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("nothing accepts on {address}: {}", said.trim()));
            }
            pause(PAUSE);
        }
        process.settle();
        if process.has_ended() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("it has ended: {}", said.trim()));
        }
        Ok(process)
    }

    fn spawn(mut command: Command) -> Result<Self, String> {
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self {
            pids: vec![child.id()],
            child,
        })
    }

    fn announced(
        mut self,
        lines: Option<Receiver<String>>,
        address: fn(&str) -> Option<SocketAddr>,
    ) -> Result<(SocketAddr, Self), String> {
        let until = Instant::now() + START;
        let mut said = String::new();
        let lines = lines.ok_or("its output is not here")?;
        loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(address) = address(&line) {
                        self.settle();
                        return Ok((address, self));
                    }
                    said += &line;
                    said.push('\n');
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(format!(
                        "it does not tell where it listens: {}",
                        said.trim()
                    ));
                }
            }
        }
    }

    /// Waits until it has started its children and finished its preparation: a relay listens before that
    /// while its memory still grows.
    fn settle(&mut self) {
        let until = Instant::now() + START;
        loop {
            let before = (self.used(), self.pids.len());
            pause(QUIET);
            self.pids = descendants(self.pid());
            self.pids.push(self.pid());
            let used = self.used().saturating_sub(before.0);
            if (used < QUIET / 20 && self.pids.len() == before.1) || Instant::now() > until {
                return;
            }
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far, unless one of the processes has ended.
    pub(super) fn cpu(&self) -> Result<Duration, String> {
        self.live()?;
        Ok(self.used())
    }

    fn live(&self) -> Result<(), String> {
        let is_live = |pid: u32| stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'));
        match self.pids.iter().find(|pid| !is_live(**pid)) {
            Some(pid) => Err(format!(
                "process {pid} of the relay has ended: run it by hand"
            )),
            None => Ok(()),
        }
    }

    /// CPU time of the processes. Only this clock of a process is fine and includes threads that have ended:
    /// `/proc/PID/schedstat` covers the first thread alone, those of the tasks miss ended threads, and
    /// `/proc/PID/stat` counts in steps of 10 ms.
    fn used(&self) -> Duration {
        let times = self.pids.iter().filter_map(|pid| {
            let pid = unistd::Pid::from_raw(i32::try_from(*pid).ok()?);
            let clock = ClockId::pid_cpu_clock_id(pid).ok()?;
            clock.now().ok().map(Duration::from)
        });
        times.sum()
    }

    /// Resident bytes, unless one of the processes has ended.
    pub(super) fn resident(&self) -> Result<u64, String> {
        self.live()?;
        let sizes = self.pids.iter().filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        Ok(sizes.sum::<u64>() * 1024)
    }

    pub(super) fn descriptors(&self) -> usize {
        self.count("fd")
    }

    pub(super) fn threads(&self) -> usize {
        self.count("task")
    }

    fn count(&self, what: &str) -> usize {
        let listings = self
            .pids
            .iter()
            .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/{what}")).ok());
        listings.map(Iterator::count).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        signal(self.pid(), Signal::TERM);
        let until = Instant::now() + END;
        while Instant::now() < until {
            if self.has_ended() {
                return;
            }
            pause(PAUSE);
        }
        // Look the children up anew: a process id noted earlier may be another process by now.
        let children = descendants(self.pid());
        signal(self.pid(), Signal::KILL);
        for child in children {
            signal(child, Signal::KILL);
        }
        // Nothing can be done about a failure.
        drop(self.child.wait());
    }
}

/// Whether something accepts at the address. The connection sends no byte and closes at once, which does not
/// matter to a relay. If nothing listens, the kernel may connect a socket to itself.
fn accepts(address: SocketAddr) -> bool {
    let own = TcpStream::connect(address).and_then(|stream| stream.local_addr());
    own.is_ok_and(|own| own != address)
}

/// Sends a signal, unless the process is gone.
fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _: rustix::io::Result<()> = kill_process(pid, signal);
    }
}

/// State and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

/// The children of a process, and their children.
fn descendants(pid: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let parents: Vec<(u32, u32)> = processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            Some((pid, stat(pid)?.1))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| *of == parent);
        found.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    found.split_off(1)
}

/// The lines of an output, which is read until its end even if the receiver is gone.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The receiver may know enough already.
            drop(sender.send(line));
        }
    });
    receiver
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread carries no connections"
)]
fn pause(time: Duration) {
    thread::sleep(time);
}
