//! The task of an upgrade, from the start of the successor to its end.

use std::future::pending;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::program::{self, Program};
use super::{Heir, OWN_VERSION, STOPPING, Upgraded, Verdict};
use crate::control::socket::{self, FAILED, FINE, Upgrading};
use crate::control::{Request, Requests};

/// Longest time from the start of the successor until it accepts.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The task of an upgrade. It lives as long as the successor, and reaps it.
pub(super) struct Attempt {
    program: Arc<Program>,
    file: PathBuf,
    heir: Rc<Heir>,
    requests: Requests,
    child: Option<Child>,
    version: String,
}

impl Attempt {
    /// Starts this program with this file, once it runs.
    pub(super) const fn new(
        program: Arc<Program>,
        file: PathBuf,
        heir: Rc<Heir>,
        requests: Requests,
    ) -> Self {
        Self {
            program,
            file,
            heir,
            requests,
            child: None,
            version: String::new(),
        }
    }

    /// Starts the successor, answers, and waits for its end.
    pub(super) async fn run(
        mut self,
        asker: Upgrading,
        mut decided: oneshot::Receiver<Verdict>,
        answering: oneshot::Sender<()>,
    ) {
        let verdict = tokio::select! {
            biased;
            verdict = &mut decided => verdict.unwrap_or(Verdict::Needless(STOPPING)),
            why = self.fail() => {
                tracing::warn!(reason = %why, "the upgrade has failed: this process goes on");
                // From now on another one may begin.
                drop(decided);
                let why = format!("the upgrade has failed, and process {} goes on: {why}", process::id());
                return asker.answer(FAILED, &why).await;
            }
        };
        match verdict {
            Verdict::Accepts => self.tell_success(asker).await,
            Verdict::Needless(why) => {
                // While it starts, one signal is enough.
                self.heir.expect(None);
                self.stop();
                asker.answer(FAILED, why).await;
            }
        }
        drop(answering);
        self.reap().await;
    }

    /// Waits for the end of the successor. systemd is not its parent, so only this process can see that it crashes.
    async fn reap(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        let status = child.wait().await;
        tracing::debug!(?status, "the successor has ended, and is reaped");
        if status.is_ok_and(|status| !status.success()) {
            let crash = self.heir.crash();
            if socket::is_free(&self.file).await {
                drop(self.requests.send(Request::Unserved(crash)));
            }
        }
    }

    /// Starts the successor, and returns why it does not accept. While it may still come to accept, this waits.
    async fn fail(&mut self) -> String {
        let child = match self.start().await {
            Ok(child) => self.child.insert(child),
            Err(why) => return why,
        };
        let program = self.program.path().display();
        let why = match timeout(START_TIMEOUT, child.wait()).await {
            Ok(Ok(status)) => {
                let said = self.heir.failure.take();
                let said = said.as_deref().unwrap_or("the log has its last lines");
                program::failed(&format!("`{program} run --takeover`"), status, said)
            }
            Ok(Err(error)) => format!("cannot wait for {program}: {error}"),
            Err(_) => {
                let limit = START_TIMEOUT.as_secs();
                // If this fails, it has ended.
                drop(child.kill().await);
                format!("{program} did not accept within {limit} s, and was killed")
            }
        };
        self.heir.expect(None);
        why
    }

    async fn start(&mut self) -> Result<Child, String> {
        self.version = self.program.version().await?;
        self.program.check(&self.file).await?;
        // Another task must not see the successor before this one knows its number. The file has just been read, so
        // no disk makes this wait.
        let started = self.program.start();
        let child = started.map_err(|error| format!("cannot start the successor: {error}"))?;
        self.heir.expect(child.id());
        Ok(child)
    }

    /// Answers once the successor has the control socket, so that the next request reaches it.
    async fn tell_success(&mut self, asker: Upgrading) {
        let new_pid = self.child.as_ref().and_then(Child::id).unwrap_or_default();
        let Self { child, file, .. } = self;
        let served = socket::until_served_by(file, new_pid.cast_signed());
        let ended = async {
            match child {
                Some(child) => child.wait().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = ended => {
                let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                let why = format!(
                    "process {new_pid} accepted, and then ended ({how}): process {} accepts again, unless it was told \
                     to stop. The log has the last lines of the other one",
                    process::id()
                );
                return asker.answer(FAILED, &why).await;
            }
            () = served => {}
        }
        tracing::info!(version = self.version, pid = new_pid, "upgraded");
        let upgraded = Upgraded {
            old_version: OWN_VERSION.to_owned(),
            old_pid: process::id(),
            new_version: self.version.clone(),
            new_pid,
        };
        match serde_json::to_string(&upgraded) {
            Ok(text) => asker.answer(FINE, &text).await,
            Err(error) => asker.answer(FAILED, &error.to_string()).await,
        }
    }

    fn stop(&self) {
        let pid = self.child.as_ref().and_then(Child::id);
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It is not reaped yet, so no other process can have its number.
            _ = kill_process(pid, Signal::TERM);
        }
    }
}
