//! The drain: `/readyz` fails at once, the listeners close after a delay, idle connections end spread over
//! the time that follows, and the others end by themselves or at the limit.

use std::time::Duration;

use enum_map::EnumMap;
use humantime::format_duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Request, Workers};
use crate::outcome::{Outcome, Reach};
use crate::telemetry::Registry;
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

/// A drain that has begun, with the connections that had ended by then.
pub(super) struct Begun {
    at: Instant,
    ended: EnumMap<Outcome, u64>,
}

impl Begun {
    pub(super) fn now(registry: &Registry) -> Self {
        Self {
            at: Instant::now(),
            ended: registry.ended(),
        }
    }

    /// Logs that the drain has ended, and how its connections have.
    pub(super) fn tell_end(self, registry: &Registry) {
        let ended = registry.ended();
        let since = |outcome| ended[outcome].saturating_sub(self.ended[outcome]);
        let reset = since(Outcome::Drained);
        // Not the checks of balancers and the refused clients, of which there may be many.
        let had_backends = ended.iter().map(|(outcome, _)| outcome);
        let had_backends = had_backends.filter(|outcome| outcome.reach() != Reach::Never);
        let others = had_backends.map(since).sum::<u64>() - reset;
        let millis = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            took = %format_duration(Duration::from_millis(millis)),
            reset_by_portway = reset,
            ended_by_themselves = others,
            "the drain has ended"
        );
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
