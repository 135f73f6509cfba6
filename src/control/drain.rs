//! The drain: readiness goes at once, listeners after a delay, idle connections spread over the time
//! that follows, the others when they end or at the limit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{NotReloaded, Request, Stopped, Workers};
use crate::worker::{Mailbox, Message};

/// `[limits]` as far as they bound the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the signal, readiness gone, to the close of the listeners.
    pub delay: Duration,
    /// From the close of the listeners to the end of the last connection.
    pub timeout: Duration,
}

/// Why nothing is reloaded any more.
pub(super) const DRAINING: &str = "portway is draining: it reads no other configuration";
/// What the workers get to end cut connections; one that is stuck must not hold up the exit.
const CUT_TIME: Duration = Duration::from_secs(1);
/// The same at a second request to stop: somebody waits.
const CUT_TIME_AT_ONCE: Duration = Duration::from_millis(50);

/// Drains the workers; a second request to stop resets what is left at once.
pub(super) async fn drain(
    limits: Limits,
    mailboxes: &[Mailbox],
    workers: &mut Workers,
    stops: &mut Stops,
) -> Stopped {
    let drained = tokio::select! {
        () = close(limits, mailboxes, workers) => true,
        () = stops.second() => false,
    };
    if drained {
        return Stopped::Drained;
    }
    tell(mailboxes, || Message::Close);
    cut(mailboxes, workers, CUT_TIME_AT_ONCE).await;
    Stopped::AtOnce
}

/// What control is asked for, and how often to stop.
pub(super) struct Stops {
    requested: mpsc::UnboundedReceiver<Request>,
    /// How often it was asked to stop; a takeover is no such request.
    count: u32,
}

impl Stops {
    pub(super) const fn new(requested: mpsc::UnboundedReceiver<Request>) -> Self {
        Self {
            requested,
            count: 0,
        }
    }

    /// The next request; none if nobody can ask any more.
    pub(super) async fn next(&mut self) -> Option<Request> {
        let request = self.requested.recv().await;
        self.count += u32::from(matches!(request, Some(Request::Stop)));
        request
    }

    /// Waits until somebody has asked to stop.
    pub(super) async fn first(&mut self) {
        self.wait(1).await;
    }

    /// Waits until somebody has asked twice.
    async fn second(&mut self) {
        self.wait(2).await;
    }

    async fn wait(&mut self, count: u32) {
        while self.count < count {
            match self.next().await {
                Some(Request::Reload(answer)) => {
                    tracing::warn!("{DRAINING}");
                    if let Some(answer) = answer {
                        drop(answer.send(Err(NotReloaded::NotNow(DRAINING))));
                    }
                }
                Some(Request::Stop | Request::Sockets(_) | Request::TakenOver) => {}
                None => return std::future::pending().await,
            }
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
