//! The drain: readiness goes at once, listeners after a delay, idle connections spread over the time
//! that follows, the others when they end or at the limit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Request, Workers};
use crate::worker::{Mailbox, Message};

/// Why nothing is reloaded any more.
pub(super) const DRAINING: &str = "portway is draining: it reads no other configuration";
/// What the workers get to end cut connections; one that is stuck must not hold up the exit.
pub(super) const CUT_TIME: Duration = Duration::from_secs(1);
/// The same at a second request to stop: somebody waits.
pub(super) const CUT_TIME_AT_ONCE: Duration = Duration::from_millis(50);

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

    /// Whether somebody has asked to stop.
    pub(super) const fn has_come(&self) -> bool {
        self.count > 0
    }

    /// Whether somebody has asked twice.
    pub(super) const fn is_second(&self) -> bool {
        self.count > 1
    }
}

pub(super) async fn cut(mailboxes: &[Mailbox], workers: &mut Workers, limit: Duration) {
    tell(mailboxes, || Message::Cut);
    if timeout(limit, ended(workers)).await.is_err() {
        tracing::error!("a worker does not end its connections: they end with the process");
    }
}

pub(super) async fn ended(workers: &mut Workers) {
    while workers.join_next().await.is_some() {}
}

pub(super) fn tell(mailboxes: &[Mailbox], message: impl Fn() -> Message) {
    for mailbox in mailboxes {
        mailbox.send(message());
    }
}
