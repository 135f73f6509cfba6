//! Notifies systemd, if systemd has started portway: see sd_notify(3). Otherwise it does nothing.

use std::cell::Cell;
use std::convert::Infallible;
use std::env;
use std::future::pending;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::admin;
use crate::telemetry::Registry;

/// Time that the end of the program may take beyond the limits of the drain.
const SPARE: Duration = Duration::from_secs(5);

/// The messages to systemd. Only the main process of the unit sends any, and an upgrade makes its successor that
/// process: see `MAINPID=` in sd_notify(3).
#[derive(Debug)]
pub(super) struct Service {
    is_main: Cell<bool>,
    /// When this process ends at the latest, once it drains.
    ends: Cell<Option<Instant>>,
}

impl Service {
    /// A process that its predecessor has started is not the main process before that one says so.
    pub(super) const fn new(is_main: bool) -> Self {
        Self {
            is_main: Cell::new(is_main),
            ends: Cell::new(None),
        }
    }

    /// Whether this process is the main one of the unit.
    pub(super) const fn is_main(&self) -> bool {
        self.is_main.get()
    }

    /// Whether systemd has started this process, or its predecessor.
    pub(super) fn is_there() -> bool {
        env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// Notifies that the listeners accept: at the start, and after each reload.
    pub(super) fn ready(&self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// Notifies that a reload begins; [`Self::ready`] ends it.
    pub(super) fn reloading(&self) {
        // Without the time, systemd from version 253 on treats the reload as failed.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "cannot read the monotonic clock for systemd"),
        }
    }

    /// Notifies that the drain begins, and how long it takes at most. If a predecessor may accept again, the unit
    /// does not end with this process, so systemd only gets the time.
    pub(super) fn stopping(&self, limit: Duration, may_return: bool) {
        self.ends.set(Instant::now().checked_add(limit));
        // The crate's own variant for this cannot express more than 71 minutes.
        let extend = format!("EXTEND_TIMEOUT_USEC={}", (limit + SPARE).as_micros());
        let state = [NotifyState::Stopping, NotifyState::Custom(&extend)];
        self.tell(state.get(usize::from(may_return)..).unwrap_or_default());
    }

    /// Ends the drain: this process accepts again.
    pub(super) fn goes_on(&self) {
        self.ends.set(None);
    }

    /// Makes the successor, which accepts, the main process.
    pub(super) fn pass_on(&self, successor: u32) {
        self.tell(&[NotifyState::MainPid(successor)]);
        self.is_main.set(false);
    }

    /// Sends no more messages, because another process goes on.
    pub(super) fn leave(&self) {
        self.is_main.set(false);
    }

    /// Begins as the main process, which the predecessor has made this one.
    pub(super) fn begin(&self) {
        if !self.is_main.replace(true) {
            // The predecessor no longer feeds the watchdog.
            self.tell(&[NotifyState::Ready, NotifyState::Watchdog]);
        }
    }

    /// Becomes the main process, because the one that was it has ended or does not accept any more. The message comes
    /// after that of any process that has the same reason and that this one has won against. It also ends a reload
    /// of the one that has ended. If this process drains, the message for that was not sent before.
    pub(super) fn claim(&self) {
        self.is_main.set(true);
        let main = NotifyState::MainPid(process::id());
        self.tell(&[main, NotifyState::Ready, NotifyState::Watchdog]);
        if let Some(end) = self.ends.get() {
            self.stopping(end.saturating_duration_since(Instant::now()), false);
        }
    }

    fn tell(&self, state: &[NotifyState<'_>]) {
        if !self.is_main.get() {
            return;
        }
        if let Err(error) = sd_notify::notify(state) {
            tracing::warn!(%error, "cannot notify systemd");
        }
    }
}

/// Feeds the watchdog, if there is one, while all workers tick. If a worker is stuck, systemd restarts portway.
pub(super) async fn watchdog(service: Rc<Service>, registry: Arc<Registry>) -> Infallible {
    let limit = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let Some(pause) = limit.filter(|pause| !pause.is_zero()) else {
        return pending().await;
    };
    let mut ticks = tokio::time::interval(pause);
    loop {
        ticks.tick().await;
        if registry
            .late_workers(Instant::now(), admin::LATE)
            .is_empty()
        {
            service.tell(&[NotifyState::Watchdog]);
        }
    }
}
