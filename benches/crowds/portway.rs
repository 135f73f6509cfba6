//! The process of portway, and how large it is.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;
use tokio::time::sleep;

use crate::Result;
use crate::process::{self, Started};

/// The longest time until the last connection of a crowd that was cut has ended.
const LONGEST_END: Duration = Duration::from_mins(5);

/// A running portway.
pub struct Portway {
    started: Started,
    lines: Arc<AtomicU64>,
    _file: NamedTempFile,
}

/// The resources that portway takes, its series and connections, and how connections have ended so far.
pub struct Size {
    memory: u64,
    descriptors: usize,
    series: usize,
    active: u64,
    outcomes: BTreeMap<String, u64>,
}

impl Portway {
    /// Starts portway in front of both servers.
    pub fn start(echo: SocketAddr, endless: SocketAddr) -> Result<Self> {
        let mut file = NamedTempFile::new()?;
        writeln!(
            file,
            "admin.bind = \"127.0.0.1:0\"\n[listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
             [limits]\nmax_pending_connections = 6000"
        )?;
        for (name, server) in [("echo", echo), ("endless", endless)] {
            writeln!(
                file,
                "[backends.{name}]\nendpoints = [\"{server}\"]\n\
                 [routes.{name}]\nserver_names = [\"{name}.example\"]\nbackend = \"{name}\""
            )?;
        }
        let mut started = process::start(file.path(), &[], Stdio::piped())?;
        let log = BufReader::new(started.child.stdout.take().ok_or("no log")?);
        let lines = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lines);
        thread::spawn(move || {
            for _ in log.lines() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self {
            started,
            lines,
            _file: file,
        })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.started.address
    }

    /// Where the pages are.
    pub const fn admin(&self) -> SocketAddr {
        self.started.admin
    }

    /// The lines of the connection log so far.
    pub fn lines(&self) -> u64 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Seconds of CPU time so far.
    pub fn cpu(&self) -> Result<f64> {
        process::cpu(self.started.child.id())
    }

    /// How large it is now.
    pub async fn size(&self) -> Result<Size> {
        let pid = self.started.child.id();
        let page = process::page(self.started.admin).await?;
        let series = page.lines().filter(|line| !line.starts_with('#'));
        let mut outcomes = BTreeMap::new();
        for (outcome, count) in page.lines().filter_map(outcome) {
            *outcomes.entry(outcome.to_owned()).or_default() += count;
        }
        outcomes.retain(|_, count| *count > 0);
        Ok(Size {
            memory: process::memory(pid)?,
            descriptors: process::descriptors(pid)?,
            series: series.count(),
            active: process::active(&page),
            outcomes,
        })
    }

    /// The same once no connection is open any more, and its memory has had a time to return. Fails if one stays open.
    pub async fn quiet(&self) -> Result<Size> {
        let begin = Instant::now();
        while let active @ 1.. = self.size().await?.active {
            if begin.elapsed() > LONGEST_END {
                return Err(format!("{active} connections are still open").into());
            }
            sleep(Duration::from_millis(200)).await;
        }
        sleep(Duration::from_secs(12)).await;
        self.size().await
    }
}

impl Size {
    /// How many connections have ended in each way, the neighbour's too.
    pub fn outcomes(&self) -> String {
        let counts = self.outcomes.iter();
        let counts: Vec<_> = counts
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        counts.join(", ")
    }
}

/// The outcome and the count of a series, if it is one of connections that have ended.
fn outcome(line: &str) -> Option<(&str, u64)> {
    let labels = line.strip_prefix("portway_connections_closed_total{")?;
    let (_, rest) = labels.split_once("outcome=\"")?;
    let (outcome, _) = rest.split_once('"')?;
    let (_, count) = rest.rsplit_once(' ')?;
    Some((outcome, count.parse().ok()?))
}

impl Drop for Portway {
    fn drop(&mut self) {
        drop(self.started.child.kill());
        drop(self.started.child.wait());
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} MB of memory, {} descriptors, {} series, {} connections",
            self.memory as f64 / 1e6,
            self.descriptors,
            self.series,
            self.active
        )
    }
}
