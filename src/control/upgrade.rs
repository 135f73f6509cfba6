//! The upgrade: this process starts its successor, from the file that is at its own path now. The successor takes over
//! as any other, and becomes the main process of the unit. If it does not start, this process goes on.

use std::cell::{Cell, RefCell};
use std::env;
use std::process;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::service::Service;
use super::socket::Upgrading;
use super::{Control, Crash, FIRST, TAKING_OVER};
use attempt::Attempt;
pub use program::Program;

mod attempt;
mod program;
#[cfg(test)]
mod tests;

/// Longest time that the end of this process waits for the answer to the request.
const LAST_ANSWER: Duration = Duration::from_secs(6);

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why there is no upgrade now.
const UNDER_WAY: &str = "another upgrade is under way: wait for its end";
const RELOADING: &str = "a reload is under way: run `portway upgrade` again when it has ended";
const FIRST_PROCESS: &str = "portway is the first process of its container, which ends with it: start a new container \
                             instead";
const NO_NOTIFY: &str = "the unit does not let portway tell systemd its new main process, so systemd would end the \
                         service with this one: write Type=notify, NotifyAccess=all and KillMode=control-group in \
                         the unit, and restart it once";
const UNKNOWN_PROGRAM: &str =
    "portway did not find its own program at its start: is /proc mounted?";
pub(super) const STOPPING: &str = "portway stops";
pub(super) const ANOTHER: &str = "another process has taken over already";

/// An upgrade that has come to its end: the processes, and their versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Upgraded {
    /// The version of the process that has handed over.
    pub old_version: String,
    /// That process.
    pub old_pid: u32,
    /// The version of the process that accepts now.
    pub new_version: String,
    /// That process.
    pub new_pid: u32,
}

/// The successor that this process starts, as the control socket sees it.
#[derive(Debug)]
pub(super) struct Heir {
    service: Rc<Service>,
    pid: Cell<Option<i32>>,
    accepts: Cell<bool>,
    /// Why it does not start, in its own words.
    failure: RefCell<Option<String>>,
    /// Alive while control does not know yet what follows from its crash.
    crash: RefCell<Weak<Crash>>,
}

impl Heir {
    /// There is none yet.
    pub(super) const fn new(service: Rc<Service>) -> Self {
        Self {
            service,
            pid: Cell::new(None),
            accepts: Cell::new(false),
            failure: RefCell::new(None),
            crash: RefCell::new(Weak::new()),
        }
    }

    /// Makes it the main process, if this process, which accepts now, is the heir. The process must not know of its
    /// success before, or its own messages could overtake this one.
    pub(super) fn succeeds(&self, pid: i32) {
        if self.pid.get() == Some(pid) {
            self.service.pass_on(pid.unsigned_abs());
            self.accepts.set(true);
        }
    }

    /// Makes this process the main one. The successor, if there was one, does not go on.
    pub(super) fn gives_way(&self) {
        self.service.claim();
    }

    /// Keeps the words of this process, if it is the heir.
    pub(super) fn fails(&self, pid: i32, why: &str) {
        if self.pid.get() == Some(pid) {
            self.failure.replace(Some(why.to_owned()));
        }
    }

    /// Notes that it has crashed.
    fn crash(&self) -> Arc<Crash> {
        let crash = Arc::new(Crash);
        self.crash.replace(Arc::downgrade(&crash));
        crash
    }

    /// Whether it has crashed, and control does not know yet what follows from that.
    pub(super) fn has_just_crashed(&self) -> bool {
        self.crash.borrow().strong_count() > 0
    }

    fn expect(&self, pid: Option<u32>) {
        self.pid.set(pid.map(u32::cast_signed));
        self.accepts.set(false);
        self.failure.take();
    }
}

/// An upgrade that has begun.
pub(super) struct Upgrade {
    /// Present until its result is known.
    verdict: Option<oneshot::Sender<Verdict>>,
    /// Closed once the request has its answer.
    answered: oneshot::Receiver<()>,
}

/// The result of an upgrade whose successor has not failed.
enum Verdict {
    /// The successor accepts.
    Accepts,
    /// This process does not need the successor any more.
    Needless(&'static str),
}

impl Control {
    /// Begins an upgrade, or says why not.
    pub(super) fn upgrade(&mut self, asker: Upgrading) {
        let program = self.file.as_ref().and_then(|(file, requests)| {
            let program = Arc::clone(file.program.as_ref()?);
            Some((program, file.path.clone(), requests.clone()))
        });
        let (program, file, requests) = match (self.why_no_upgrade(), program) {
            (None, Some(program)) => program,
            (why, _) => return asker.refuse(why.unwrap_or(UNKNOWN_PROGRAM)),
        };
        // That of an earlier upgrade has ended.
        self.heir.expect(None);
        tracing::info!(program = %program.path().display(), "upgrading: starting the successor");
        let (verdict, decided) = oneshot::channel();
        let (answering, answered) = oneshot::channel();
        self.upgrade = Some(Upgrade {
            verdict: Some(verdict),
            answered,
        });
        let attempt = Attempt::new(program, file, Rc::clone(&self.heir), requests);
        spawn_local(attempt.run(asker, decided, answering));
    }

    fn why_no_upgrade(&self) -> Option<&'static str> {
        if process::id() == FIRST {
            Some(FIRST_PROCESS)
        } else if is_main_process_without_notify() {
            Some(NO_NOTIFY)
        } else if self.is_upgrading() {
            Some(UNDER_WAY)
        } else if self.is_taken_over() {
            Some(TAKING_OVER)
        } else if self.entering.is_some() || !self.reload.is_idle() {
            Some(RELOADING)
        } else {
            None
        }
    }

    /// Whether a successor that this process starts does not accept yet.
    pub(super) fn is_upgrading(&self) -> bool {
        let verdict = self.upgrade.as_ref().and_then(|it| it.verdict.as_ref());
        verdict.is_some_and(|verdict| !verdict.is_closed())
    }

    /// Ends the upgrade, if one is under way. A successor that does not accept yet is ended, for this reason.
    pub(super) fn settle_upgrade(&mut self, why: &'static str) {
        // It may accept already when a request to stop arrives before the news of that.
        let is = if self.heir.accepts.get() {
            Verdict::Accepts
        } else {
            Verdict::Needless(why)
        };
        let upgrade = self.upgrade.as_mut();
        if let Some(verdict) = upgrade.and_then(|upgrade| upgrade.verdict.take()) {
            // The upgrade may have failed by itself.
            drop(verdict.send(is));
        }
    }

    /// Whether no request for an upgrade waits for its answer.
    pub(super) fn has_answered_upgrade(&mut self) -> bool {
        let answered = self.upgrade.as_mut().map(|it| it.answered.try_recv());
        if answered == Some(Err(TryRecvError::Closed)) {
            self.upgrade = None;
        }
        self.upgrade.is_none()
    }

    /// Waits until the request for the upgrade has its answer, so that this process does not end before.
    pub(super) async fn answer_upgrade(&mut self) {
        // It may have lost a worker meanwhile. A result that is known stays.
        self.settle_upgrade(STOPPING);
        if let Some(upgrade) = self.upgrade.take() {
            _ = timeout(LAST_ANSWER, upgrade.answered).await;
        }
    }
}

/// Whether systemd has started this process and does not listen to it (`$SYSTEMD_EXEC_PID` of systemd.exec(5), which
/// successors inherit with the number of another process).
fn is_main_process_without_notify() -> bool {
    let started = env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == process::id().to_string());
    started && !Service::is_there()
}
