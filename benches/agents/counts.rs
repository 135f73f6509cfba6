//! The counts of all requests, and how they ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Result;

/// Whether portway may fail its clients now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It may not.
    Whole,
    /// It has been killed, and not all agents are back.
    Killed,
}

/// The counts of a fleet.
#[derive(Debug, Default)]
pub struct Counts {
    /// Check-ins whose request the server has.
    pub held: AtomicUsize,
    /// Check-ins begun since the kill, by different agents.
    pub back: AtomicUsize,
    killed: AtomicUsize,
    pub connections: AtomicU64,
    pub polls: AtomicU64,
    pub cancelled: AtomicU64,
    pub batches: AtomicU64,
    /// Connections that were closed between two check-ins.
    pub moved: AtomicU64,
    /// Downloads that came to their end, with the right bytes.
    pub downloads: AtomicU64,
    /// Batches of senders that keep their connection.
    pub beats: AtomicU64,
    cut: AtomicU64,
    refused: AtomicU64,
    lost: Mutex<BTreeMap<String, u64>>,
    times: Mutex<RefCell<Vec<f64>>>,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    connections: u64,
    polls: u64,
    cancelled: u64,
    batches: u64,
    times: usize,
}

impl Counts {
    /// The phase changes.
    pub fn enter(&self, phase: Phase) {
        self.back.store(0, Ordering::SeqCst);
        let killed = self.killed.load(Ordering::SeqCst);
        let next = match phase {
            Phase::Whole => killed & !1,
            Phase::Killed => (killed | 1) + 2,
        };
        self.killed.store(next, Ordering::SeqCst);
    }

    /// Whether portway has been killed and not all agents are back, and how often it has been killed.
    pub fn kills(&self) -> (bool, usize) {
        let killed = self.killed.load(Ordering::SeqCst);
        (killed & 1 == 1, killed >> 1)
    }

    /// A request or a connection failed. `during` is the number of kills when it began.
    pub fn failed(&self, what: &str, during: usize, connecting: bool) {
        let (is_killed, kills) = self.kills();
        if connecting && is_killed {
            self.refused.fetch_add(1, Ordering::Relaxed);
        } else if is_killed || kills != during {
            self.cut.fetch_add(1, Ordering::Relaxed);
        } else if let Ok(mut lost) = self.lost.lock() {
            *lost.entry(what.to_owned()).or_default() += 1;
        }
    }

    /// A data connection took so long from its dial to the answer.
    pub fn batch(&self, took: Duration) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        if let Ok(times) = self.times.lock() {
            times.borrow_mut().push(took.as_secs_f64());
        }
    }

    /// Connections that were closed between two check-ins, and requests that were lost.
    pub fn disturbed(&self) -> [u64; 2] {
        let lost = self.lost.lock().map_or(0, |lost| lost.values().sum());
        [self.moved.load(Ordering::Relaxed), lost]
    }

    /// The connections so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Downloads that came to their end.
    pub fn whole(&self) -> u64 {
        self.downloads.load(Ordering::Relaxed)
    }

    /// Batches of senders that keep their connection.
    pub fn acknowledged(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Requests that the kill has cut.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// Connects that failed while portway was away.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Waits until each agent has a check-in at the server.
    pub async fn until_all_hold(&self, agents: usize) -> Result<()> {
        // A few are between two check-ins, or have given one up.
        self.until("held", agents - agents / 20, &self.held).await
    }

    /// Waits until each agent has a check-in on a connection that it made after the kill.
    pub async fn until_none_is_left_of_the_killed(&self, agents: usize) -> Result<()> {
        self.until("back", agents, &self.back).await
    }

    async fn until(&self, what: &str, wanted: usize, count: &AtomicUsize) -> Result<()> {
        let begun = Instant::now();
        while count.load(Ordering::SeqCst) < wanted {
            if begun.elapsed() > Duration::from_mins(5) {
                let count = count.load(Ordering::SeqCst);
                return Err(
                    format!("only {count} of {wanted} are {what}; lost: {:?}", self.lost).into(),
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The counts now.
    pub fn snapshot(&self) -> Snapshot {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            connections: count(&self.connections),
            polls: count(&self.polls),
            cancelled: count(&self.cancelled),
            batches: count(&self.batches),
            times: self.times.lock().map_or(0, |times| times.borrow().len()),
        }
    }

    /// Prints what happened since.
    pub fn show_since(&self, before: &Snapshot, seconds: f64) {
        let now = self.snapshot();
        println!(
            "{} check-ins answered, {} given up, {} data connections, {:.0} connections/s",
            now.polls - before.polls,
            now.cancelled - before.cancelled,
            now.batches - before.batches,
            (now.connections - before.connections) as f64 / seconds,
        );
        let Ok(times) = self.times.lock() else { return };
        let mut times: Vec<f64> = times.borrow().iter().skip(before.times).copied().collect();
        times.sort_by(f64::total_cmp);
        let at = |part: usize| {
            let position = times.len() * part / 100;
            times.get(position).copied().unwrap_or(f64::NAN) * 1e3
        };
        println!(
            "a data connection, from its dial to its answer: median {:.1} ms, 99 of 100 within {:.1} ms, longest {:.1} ms",
            at(50),
            at(99),
            times.last().copied().unwrap_or(f64::NAN) * 1e3,
        );
    }

    /// An error if anything was lost while portway had not been killed.
    pub fn verdict(&self) -> Result<()> {
        let lost = self
            .lost
            .lock()
            .map_err(|_poisoned| "a task has panicked")?;
        if lost.is_empty() {
            println!("lost while portway was there: nothing");
            return Ok(());
        }
        Err(format!("lost while portway was there: {lost:?}").into())
    }
}
