//! The drain: readiness goes at once, listeners after a delay, idle connections spread over the time
//! that follows, the others when they end or at the limit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Request, Stopped, Workers};
use crate::worker::{Mailbox, Message};

/// `[limits]` as far as they bound the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the signal, readiness gone, to the close of the listeners.
    pub delay: Duration,
    /// From the close of the listeners to the end of the last connection.
    pub timeout: Duration,
}

/// What the workers get to end cut connections; one that is stuck must not hold up the exit.
const CUT_TIME: Duration = Duration::from_secs(1);
/// The same at a second request to stop: somebody waits.
const CUT_TIME_AT_ONCE: Duration = Duration::from_millis(50);

/// Drains the workers; a second request to stop resets what is left at once.
pub(super) async fn drain(
    limits: Limits,
    mailboxes: &[Mailbox],
    workers: &mut Workers,
    requested: &mut mpsc::UnboundedReceiver<Request>,
) -> Stopped {
    let drained = tokio::select! {
        () = close(limits, mailboxes, workers) => true,
        () = wait_for_stop(requested) => false,
    };
    if drained {
        return Stopped::Drained;
    }
    tell(mailboxes, || Message::Close);
    cut(mailboxes, workers, CUT_TIME_AT_ONCE).await;
    Stopped::AtOnce
}

/// Waits for a request to stop; others come too late.
pub(super) async fn wait_for_stop(requested: &mut mpsc::UnboundedReceiver<Request>) {
    loop {
        match requested.recv().await {
            Some(Request::Stop) => return,
            Some(Request::Reload(answer)) => {
                let late = "portway is draining: it reads no other configuration";
                tracing::warn!("{late}");
                if let Some(answer) = answer {
                    drop(answer.send(Err(late.to_owned())));
                }
            }
            Some(Request::Sockets(_) | Request::HandedOver) => {}
            None => return std::future::pending().await,
        }
    }
}

async fn close(limits: Limits, mailboxes: &[Mailbox], workers: &mut Workers) {
    sleep(limits.delay).await;
    tell(mailboxes, || Message::Close);
    tell(mailboxes, || Message::Spread {
        over: limits.timeout,
    });
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
