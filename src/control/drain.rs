//! The drain: readiness goes at once, listeners after a delay, connections when they end or at the
//! limit.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Stopped;
use crate::worker::{Mailbox, Message};

/// `[limits]` as far as they bound the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the signal, readiness gone, to the close of the listeners.
    pub delay: Duration,
    /// From the close of the listeners to the end of the last connection.
    pub timeout: Duration,
}

/// One for each worker; it completes when the worker ends.
type Workers = JoinSet<Result<(), oneshot::error::RecvError>>;

/// What the workers get to end cut connections; one that is stuck must not hold up the exit.
const CUT_TIME: Duration = Duration::from_secs(1);
/// The same at a second request to stop: somebody waits.
const CUT_TIME_AT_ONCE: Duration = Duration::from_millis(50);

/// Drains the workers; a second request to `stop` resets what is left at once.
pub(super) async fn drain(
    limits: Limits,
    mailboxes: &[Mailbox],
    workers: &mut Workers,
    stop: &mut mpsc::UnboundedReceiver<()>,
) -> Stopped {
    let drained = tokio::select! {
        () = close(limits, mailboxes, workers) => true,
        Some(()) = stop.recv() => false,
    };
    if drained {
        return Stopped::Drained;
    }
    tell(mailboxes, || Message::Close);
    cut(mailboxes, workers, CUT_TIME_AT_ONCE).await;
    Stopped::AtOnce
}

async fn close(limits: Limits, mailboxes: &[Mailbox], workers: &mut Workers) {
    sleep(limits.delay).await;
    tell(mailboxes, || Message::Close);
    if timeout(limits.timeout, ended(workers)).await.is_err() {
        tracing::warn!(limit = ?limits.timeout, "drain_timeout: the connections left are reset");
        cut(mailboxes, workers, CUT_TIME).await;
    }
}

async fn cut(mailboxes: &[Mailbox], workers: &mut Workers, limit: Duration) {
    tell(mailboxes, || Message::Cut);
    if timeout(limit, ended(workers)).await.is_err() {
        tracing::error!("a worker does not end its connections: they end with the process");
    }
}

async fn ended(workers: &mut Workers) {
    while workers.join_next().await.is_some() {}
}

fn tell(mailboxes: &[Mailbox], message: impl Fn() -> Message) {
    for mailbox in mailboxes {
        mailbox.send(message());
    }
}
