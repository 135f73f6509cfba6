//! A reload on its way to a change: it reads the file, checks it, and makes the change ready. What fails
//! leaves everything as it was.

use std::collections::HashSet;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::{Reloaded, drain};
use crate::backend::Endpoint;
use crate::snapshot::{AddressId, Snapshot};

/// Time that reading the file may take. Checking it may take longer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The listening sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// What the snapshot knows it by.
    pub id: AddressId,
    /// The name of the listener that it was opened for.
    pub listener: Arc<str>,
    /// The bound address.
    pub address: SocketAddr,
    /// One for each worker, or fewer that somebody else has opened.
    pub sockets: Vec<Arc<Socket>>,
}

/// A configuration that is ready: what could fail has been done.
pub struct Change {
    /// What new connections take.
    pub snapshot: Arc<Snapshot>,
    /// Addresses that are new in it.
    pub opened: Vec<Bound>,
    /// Addresses that it does not have any more.
    pub closed: HashSet<AddressId>,
    /// Limits of the drain.
    pub drain: drain::Limits,
    /// CRC-32 of the file.
    pub hash: u32,
}

impl Change {
    /// Every endpoint of every backend.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let backends = self.snapshot.backends.iter();
        let endpoints = backends.flat_map(|backend| backend.pool.endpoints());
        endpoints.cloned().collect()
    }
}

/// Why a reload failed.
#[derive(Debug)]
pub struct Rejected {
    /// CRC-32 of the file, if it could be read.
    pub hash: Option<u32>,
    /// The same file may succeed later: the fault is not in its content.
    pub may_pass: bool,
    /// One fault a line, for the log.
    pub lines: Vec<String>,
    /// For people.
    pub text: String,
}

impl Rejected {
    /// The content has one fault.
    pub fn new(hash: Option<u32>, text: String) -> Self {
        Self {
            hash,
            may_pass: false,
            lines: vec![text.clone()],
            text,
        }
    }

    /// The machine does not allow it now.
    pub fn for_now(hash: Option<u32>, text: String) -> Self {
        Self {
            may_pass: true,
            ..Self::new(hash, text)
        }
    }

    pub(super) fn log(&self) {
        for line in &self.lines {
            tracing::error!("{line}");
        }
        tracing::error!("reload failed: the configuration before stays in force");
    }
}

impl From<JoinError> for Rejected {
    fn from(error: JoinError) -> Self {
        Self::for_now(None, error.to_string())
    }
}

/// Reads the file, for which it may wait as long as the disk likes.
pub type Source = Arc<dyn Fn() -> Result<Unchecked, Rejected> + Send + Sync>;

/// Checks what was read.
pub type Unchecked = Box<dyn FnOnce() -> Result<Prepared, Rejected> + Send>;

/// Makes the change to what was checked.
pub type Prepared = Box<dyn FnOnce() -> Result<Change, Rejected> + Send>;

/// Waits for an answer.
pub(super) type Asker = oneshot::Sender<Reloaded>;

/// The reload that is under way, and who waits for it. Each step runs on a thread that may block, so that
/// control waits for none of them.
pub(super) struct Reload {
    source: Source,
    step: Step,
    /// Somebody has asked since the content was read that is being worked on.
    wanted: bool,
    askers: Vec<Asker>,
    /// A check of a content that is outdated. It cannot be stopped.
    outdated: Option<JoinHandle<Result<Prepared, Rejected>>>,
}

enum Step {
    Idle,
    Reading {
        reading: JoinHandle<Result<Unchecked, Rejected>>,
        /// When who waits is told that it takes too long; none if nobody waits.
        limit: Option<Instant>,
        /// The content may have changed since: it is read again.
        again: bool,
    },
    Checking {
        checking: JoinHandle<Result<Prepared, Rejected>>,
        again: bool,
    },
    /// It changes what the next reload builds on: from here on it is put in force, and who asks now gets
    /// the next one.
    Preparing {
        preparing: JoinHandle<Result<Change, Rejected>>,
        askers: Vec<Asker>,
    },
}

/// What became of a reload, and who is to be told.
pub(super) struct Outcome {
    pub(super) change: Result<Change, Rejected>,
    pub(super) askers: Vec<Asker>,
}

impl Reload {
    pub(super) const fn new(source: Source) -> Self {
        Self {
            source,
            step: Step::Idle,
            wanted: false,
            askers: Vec::new(),
            outdated: None,
        }
    }

    /// Begins a reload. The content that is read last wins: one that is being read or checked is given up,
    /// and who has asked for it gets the answer to the new one.
    pub(super) fn ask(&mut self, asker: Option<Asker>) {
        self.wanted = true;
        self.askers.extend(asker);
        match &mut self.step {
            Step::Idle => drop(self.read()),
            Step::Reading { limit, again, .. } => {
                *again = true;
                limit.get_or_insert_with(|| Instant::now() + READ_TIMEOUT);
            }
            Step::Checking { again, .. } => {
                let running = |check: &JoinHandle<_>| !check.is_finished();
                if self.outdated.as_ref().is_some_and(running) {
                    // Not a third one at once.
                    *again = true;
                } else if let Step::Checking { checking, .. } = self.read() {
                    self.outdated = Some(checking);
                }
            }
            Step::Preparing { .. } => {}
        }
    }

    /// Whether a change is being made ready, and so must be put in force.
    pub(super) const fn is_preparing(&self) -> bool {
        matches!(self.step, Step::Preparing { .. })
    }

    /// Whether something is under way.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle)
    }

    /// Gives up what is not being made ready yet. Returns who is to be told.
    pub(super) fn give_up(&mut self) -> Vec<Asker> {
        self.wanted = false;
        match &mut self.step {
            // One that hangs is not begun twice.
            Step::Reading { limit, again, .. } => (*limit, *again) = (None, true),
            Step::Checking { again, .. } => *again = true,
            Step::Idle | Step::Preparing { .. } => {}
        }
        mem::take(&mut self.askers)
    }

    /// Gives up everything. Returns who is to be told.
    pub(super) fn end(&mut self) -> Vec<Asker> {
        let mut askers = self.give_up();
        if let Step::Preparing { askers: more, .. } = mem::replace(&mut self.step, Step::Idle) {
            askers.extend(more);
        }
        askers
    }

    /// Waits for the outcome of what was asked for. Begun again, it goes on where it was.
    pub(super) async fn outcome(&mut self) -> Outcome {
        loop {
            match &mut self.step {
                Step::Idle if self.wanted => drop(self.read()),
                Step::Idle => std::future::pending().await,
                Step::Reading {
                    reading,
                    limit,
                    again,
                } => {
                    let far = || Instant::now() + Duration::from_hours(24);
                    let Ok(read) = timeout_at(limit.unwrap_or_else(far), reading).await else {
                        (*limit, *again) = (None, true);
                        return self.failed(Rejected::for_now(None, too_long()));
                    };
                    let again = *again;
                    self.step = Step::Idle;
                    match read.map_err(Rejected::from).flatten() {
                        _ if again => {}
                        Err(rejected) => return self.failed(rejected),
                        Ok(unchecked) => {
                            let (checking, again) = (spawn_blocking(unchecked), false);
                            self.step = Step::Checking { checking, again };
                        }
                    }
                }
                Step::Checking { checking, again } => {
                    let (checked, again) = (checking.await, *again);
                    self.step = Step::Idle;
                    match checked.map_err(Rejected::from).flatten() {
                        _ if again => {}
                        Err(rejected) => return self.failed(rejected),
                        Ok(prepared) => {
                            self.wanted = false;
                            let (preparing, askers) =
                                (spawn_blocking(prepared), mem::take(&mut self.askers));
                            self.step = Step::Preparing { preparing, askers };
                        }
                    }
                }
                Step::Preparing { preparing, askers } => {
                    let (change, askers) = (preparing.await, mem::take(askers));
                    self.step = Step::Idle;
                    let change = change.map_err(Rejected::from).flatten();
                    return Outcome { change, askers };
                }
            }
        }
    }

    /// Begins to read. Returns the step that it was at.
    fn read(&mut self) -> Step {
        let source = Arc::clone(&self.source);
        let reading = Step::Reading {
            reading: spawn_blocking(move || source()),
            limit: Some(Instant::now() + READ_TIMEOUT),
            again: false,
        };
        mem::replace(&mut self.step, reading)
    }

    fn failed(&mut self, rejected: Rejected) -> Outcome {
        self.wanted = false;
        Outcome {
            change: Err(rejected),
            askers: mem::take(&mut self.askers),
        }
    }
}

fn too_long() -> String {
    let limit = READ_TIMEOUT.as_secs();
    format!("the file could not be read within {limit} s: its disk or network file system hangs")
}
