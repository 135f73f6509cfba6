//! Keeps requests that arrive while the file is read for the first time, and during a takeover.

use tokio::sync::mpsc;

use crate::control::{Request, Requests};

/// Requests that arrive before control runs.
pub(super) struct EarlyRequests {
    /// The sending side, for signals and other sources of requests.
    pub(super) requests: Requests,
    requested: mpsc::UnboundedReceiver<Request>,
    /// Whether control must reload the file once it runs.
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

    /// The result of the work; `None` as soon as a request to stop arrives.
    pub(super) async fn unless_stopped<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                request = self.requested.recv() => match request {
                    Some(Request::Reload(_)) => self.reload = true,
                    Some(Request::Stop) | None => return None,
                    // No other process can reach this one yet.
                    Some(
                        Request::Configuration(_)
                        | Request::Addresses(..)
                        | Request::Upgrade(_)
                        | Request::Sockets(_)
                        | Request::TakenOver(_)
                        | Request::Succeeds(_)
                        | Request::Unserved(_),
                    ) => {}
                },
            }
        }
    }

    /// The channel of requests for control, with the reload that was asked for meanwhile.
    pub(super) fn finish(self) -> (Requests, mpsc::UnboundedReceiver<Request>) {
        if self.reload {
            // The receiver is in `self`, so this cannot fail.
            drop(self.requests.send(Request::Reload(None)));
        }
        (self.requests, self.requested)
    }
}
