//! Notifies systemd, if systemd has started portway: see sd_notify(3). Otherwise it does nothing.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::admin;
use crate::telemetry::Registry;

/// Time that the end of the program may take beyond the limits of the drain.
const SPARE: Duration = Duration::from_secs(5);

/// Notifies that the listeners accept: at the start, and after each reload.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Notifies that a reload begins; [`ready`] ends it.
pub(super) fn reloading() {
    // Without the time, systemd from version 253 on treats the reload as failed.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot read the monotonic clock for systemd"),
    }
}

/// Notifies that the drain begins, and how long it takes at most.
pub(super) fn stopping(limit: Duration) {
    // The crate's own variant for this cannot express more than 71 minutes.
    let extend = format!("EXTEND_TIMEOUT_USEC={}", (limit + SPARE).as_micros());
    tell(&[NotifyState::Stopping, NotifyState::Custom(&extend)]);
}

/// Feeds the watchdog, if there is one, while all workers tick. If a worker is stuck, systemd restarts portway.
pub(super) async fn watchdog(registry: Arc<Registry>) -> Infallible {
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
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
