//! A reload on its way to a change: it reads the file, checks it, and makes the change ready. What fails
//! leaves everything as it was.

use std::mem;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::Reloaded;
use super::change::Change;
use super::steps::{Rejected, Steps};
use crate::config::Loaded;

/// Time that reading the file may take. Checking it may take longer.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits for an answer.
pub(super) type Asker = oneshot::Sender<Reloaded>;

/// The reload that is under way, and who waits for it. Each step runs on a thread that may block, so that
/// control waits for none of them.
pub(super) struct Reload {
    pub(super) steps: Steps,
    step: Step,
    /// Somebody has asked since the content was read that is being worked on.
    wanted: bool,
    askers: Vec<Asker>,
    /// A check of a content that is outdated. It cannot be stopped.
    outdated: Option<JoinHandle<Result<Loaded, Rejected>>>,
}

enum Step {
    Idle,
    Reading {
        reading: JoinHandle<Result<String, Rejected>>,
        /// When who waits is told that it takes too long; none if nobody waits.
        limit: Option<Instant>,
        /// The content may have changed since: it is read again.
        again: bool,
    },
    Checking {
        checking: JoinHandle<Result<Loaded, Rejected>>,
        again: bool,
    },
    /// From here on it is put in force, and who asks now gets the next one, which builds on it.
    Preparing {
        preparing: JoinHandle<Result<(Steps, Change), Rejected>>,
        askers: Vec<Asker>,
    },
}

/// What became of a reload, and who is to be told.
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
                        Ok(text) => self.step = self.check(text),
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

    /// Begins to read. Returns the step that it was at.
    fn read(&mut self) -> Step {
        let steps = self.steps.clone();
        let reading = Step::Reading {
            reading: spawn_blocking(move || steps.read()),
            limit: Some(Instant::now() + READ_TIMEOUT),
            again: false,
        };
        mem::replace(&mut self.step, reading)
    }

    /// Begins to check what was read.
    fn check(&self, text: String) -> Step {
        let steps = self.steps.clone();
        Step::Checking {
            checking: spawn_blocking(move || steps.check(&text)),
            again: false,
        }
    }

    /// Begins to make the change ready.
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
