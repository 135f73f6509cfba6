//! The drain: `/readyz` fails at once, the listeners close after a delay, idle connections end spread over
//! the time that follows, and the others end by themselves or at the limit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Request, Workers};
use crate::worker::{Mailbox, Message};

/// Why portway no longer reloads.
pub(super) const DRAINING: &str = "portway is draining, and does not reload";
/// Time for the workers to end cut connections. A worker that is stuck must not delay the exit.
pub(super) const CUT_TIME: Duration = Duration::from_secs(1);
/// The same after a second request to stop, when somebody waits.
pub(super) const CUT_TIME_AT_ONCE: Duration = Duration::from_millis(50);

/// The requests to control, with a count of those to stop.
pub(super) struct Stops {
    requested: mpsc::UnboundedReceiver<Request>,
    /// Requests to stop so far. A takeover does not count as one.
    count: u32,
}

impl Stops {
    pub(super) const fn new(requested: mpsc::UnboundedReceiver<Request>) -> Self {
        Self {
            requested,
            count: 0,
        }
    }

    /// Waits for the next request; `None` if no sender is left.
    pub(super) async fn next(&mut self) -> Option<Request> {
        let request = self.requested.recv().await;
        self.count += u32::from(matches!(request, Some(Request::Stop)));
        request
    }

    /// Whether a request to stop has arrived.
    pub(super) const fn has_come(&self) -> bool {
        self.count > 0
    }

    /// Whether two requests to stop have arrived.
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
