//! What is asked for while the file is read for the first time, and during a takeover.

use tokio::sync::mpsc;

use crate::control::{Request, Requests};

/// What is asked for before control runs.
pub(super) struct EarlyRequests {
    /// By which others ask.
    pub(super) requests: Requests,
    requested: mpsc::UnboundedReceiver<Request>,
    /// The file is to be read again once control runs.
    reload: bool,
}

impl EarlyRequests {
    pub(super) fn new() -> Self {
        let (requests, requested) = mpsc::unbounded_channel();
        Self {
            requests,
            requested,
            reload: false,
        }
    }

    /// What comes of the work; none once somebody has asked to stop.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                request = self.requested.recv() => match request {
                    Some(Request::Reload(_)) => self.reload = true,
                    Some(Request::Stop) | None => return None,
                    // Nobody reaches this process yet.
                    Some(
                        Request::Configuration(_)
                        | Request::Sockets(_)
                        | Request::TakenOver(_)
                        | Request::Succeeds(_),
                    ) => {}
                },
            }
        }
    }

    /// By which control is asked.
    pub(super) fn finish(self) -> (Requests, mpsc::UnboundedReceiver<Request>) {
        if self.reload {
            // The receiver is here.
            drop(self.requests.send(Request::Reload(None)));
        }
        (self.requests, self.requested)
    }
}
