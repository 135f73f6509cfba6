//! Runs the steps of a reload: it reads the file, checks it, and prepares the change. A failure leaves
//! everything as it was.

use std::mem;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::Reloaded;
use super::change::Change;
use super::steps::{Rejected, Steps};
use crate::config::{Files, Loaded};

/// Longest time to read the file. Checking it may take longer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The sender of the answer to a request for a reload.
pub(super) type Asker = oneshot::Sender<Reloaded>;

/// The reload that is under way, and the requests that wait for it. Each step runs on a thread that may block,
/// so that control does not block.
pub(super) struct Reload {
    pub(super) steps: Steps,
    step: Step,
    /// A request has come that the content being worked on does not answer yet.
    wanted: bool,
    askers: Vec<Asker>,
    /// A check of outdated content, which cannot be stopped.
    outdated: Option<JoinHandle<Result<Loaded, Rejected>>>,
}

enum Step {
    Idle,
    Reading {
        reading: JoinHandle<Result<Files, Rejected>>,
        /// When the waiting requests get the answer that reading takes too long; `None` if nothing waits.
        limit: Option<Instant>,
        /// The content may have changed since, so read it again.
        again: bool,
    },
    Checking {
        checking: JoinHandle<Result<Loaded, Rejected>>,
        again: bool,
    },
    /// From here on the change comes into force. New requests get the next one, which builds on it.
    Preparing {
        preparing: JoinHandle<Result<(Steps, Change), Rejected>>,
        askers: Vec<Asker>,
    },
}

/// The result of a reload, and the requests to answer.
pub(super) struct Settled {
    pub(super) change: Result<Change, Rejected>,
    pub(super) askers: Vec<Asker>,
}

impl Reload {
    pub(super) const fn new(steps: Steps) -> Self {
        Self {
            steps,
            step: Step::Idle,
            wanted: false,
            askers: Vec::new(),
            outdated: None,
        }
    }

    /// Begins a reload. The content that is read last wins: content that is being read or checked is given up,
    /// and the requests for it get the answer for the new content.
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
                    // Two checks run already: read again after this one.
                    *again = true;
                } else if let Step::Checking { checking, .. } = self.read() {
                    self.outdated = Some(checking);
                }
            }
            Step::Preparing { .. } => {}
        }
    }

    /// Whether a change is being prepared, so that it must come into force.
    pub(super) const fn is_preparing(&self) -> bool {
        matches!(self.step, Step::Preparing { .. })
    }

    /// Whether something is under way.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.step, Step::Idle)
    }

    /// Gives up a reload whose change is not being prepared yet. Returns the requests to answer.
    pub(super) fn give_up(&mut self) -> Vec<Asker> {
        self.wanted = false;
        match &mut self.step {
            // A read that hangs is not started twice.
            Step::Reading { limit, again, .. } => (*limit, *again) = (None, true),
            Step::Checking { again, .. } => *again = true,
            Step::Idle | Step::Preparing { .. } => {}
        }
        mem::take(&mut self.askers)
    }

    /// Gives up everything. Returns the requests to answer.
    pub(super) fn end(&mut self) -> Vec<Asker> {
        let mut askers = self.give_up();
        if let Step::Preparing { askers: more, .. } = mem::replace(&mut self.step, Step::Idle) {
            askers.extend(more);
        }
        askers
    }

    /// Waits for the result of the reload. It is cancel safe.
    pub(super) async fn settled(&mut self) -> Settled {
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
                        Ok(files) => self.step = self.check(files),
                    }
                }
                Step::Checking { checking, again } => {
                    let (checked, again) = (checking.await, *again);
                    self.step = Step::Idle;
                    match checked.map_err(Rejected::from).flatten() {
                        _ if again => {}
                        Err(rejected) => return self.failed(rejected),
                        Ok(loaded) => self.step = self.prepare(loaded),
                    }
                }
                Step::Preparing { preparing, askers } => {
                    let (change, askers) = (preparing.await, mem::take(askers));
                    self.step = Step::Idle;
                    let change = change.map_err(Rejected::from).flatten();
                    let change = change.map(|(steps, change)| {
                        self.steps = steps;
                        change
                    });
                    return Settled { change, askers };
                }
            }
        }
    }

    /// Begins to read. Returns the step before.
    fn read(&mut self) -> Step {
        let steps = self.steps.clone();
        let reading = Step::Reading {
            reading: spawn_blocking(move || steps.read()),
            limit: Some(Instant::now() + READ_TIMEOUT),
            again: false,
        };
        mem::replace(&mut self.step, reading)
    }

    /// Begins to check the files.
    fn check(&self, files: Files) -> Step {
        let steps = self.steps.clone();
        Step::Checking {
            checking: spawn_blocking(move || steps.check(&files)),
            again: false,
        }
    }

    /// Begins to prepare the change.
    fn prepare(&mut self, loaded: Loaded) -> Step {
        self.wanted = false;
        let steps = self.steps.clone();
        Step::Preparing {
            preparing: spawn_blocking(move || steps.prepare(loaded)),
            askers: mem::take(&mut self.askers),
        }
    }

    fn failed(&mut self, rejected: Rejected) -> Settled {
        self.wanted = false;
        Settled {
            change: Err(rejected),
            askers: mem::take(&mut self.askers),
        }
    }
}

fn too_long() -> String {
    let limit = READ_TIMEOUT.as_secs();
    format!("the file could not be read within {limit} s: its disk or network file system hangs")
}
