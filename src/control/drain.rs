//! The drain: `/readyz` fails at once, the listeners close after a delay, connections end between two requests or by
//! themselves, and at the limit the others are reset.

use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Request, Workers};
use crate::outcome::Outcome;
use crate::telemetry::{Endings, Registry};
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
    /// Those to backends, because there may be many checks of balancers and refused clients beside them.
    endings: Vec<(Arc<Endings>, Ends)>,
    /// Those that had ended in gaps, and requests that had crossed such an end.
    gaps: [u64; 2],
}

/// Connections that have ended.
#[derive(Clone, Copy, Default)]
struct Ends {
    all: u64,
    drained: u64,
}

impl Ends {
    fn of(endings: &Endings) -> Self {
        Self {
            all: endings.ended(),
            drained: endings.ended_as(Outcome::Drained),
        }
    }
}

impl Begun {
    pub(super) fn now(registry: &Registry) -> Self {
        let endings = registry.endings_of_backends().into_iter();
        Self {
            at: Instant::now(),
            endings: endings.map(|it| (Arc::clone(&it), Ends::of(&it))).collect(),
            gaps: registry.drain.counts(),
        }
    }

    /// Logs that the drain has ended, and how its connections have.
    pub(super) fn tell_end(self, registry: &Registry) {
        let mut since = Ends::default();
        for (endings, before) in self.endings {
            let now = Ends::of(&endings);
            since.all += now.all - before.all;
            since.drained += now.drained - before.drained;
        }
        let [in_gaps, crossed] = registry.drain.counts();
        let (in_gaps, crossed) = (in_gaps - self.gaps[0], crossed - self.gaps[1]);
        let millis = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            took = %format_duration(Duration::from_millis(millis)),
            ended_between_requests = in_gaps,
            requests_crossed = (crossed > 0).then_some(crossed),
            reset_by_portway = since.drained.saturating_sub(in_gaps),
            ended_by_themselves = since.all.saturating_sub(since.drained),
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
