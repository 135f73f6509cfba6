//! SIGTERM and SIGINT ask to stop, SIGHUP to reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control::{Request, Requests};

/// Signals that are listened for: what comes before [`Signals::pass_on`] runs is passed on then.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on; until then each of them ends the process. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Asks for what comes.
    pub(super) async fn pass_on(mut self, requests: Requests) {
        loop {
            let request = tokio::select! {
                _ = self.terminate.recv() => Request::Stop,
                _ = self.interrupt.recv() => Request::Stop,
                _ = self.hangup.recv() => Request::Reload(None),
            };
            if requests.send(request).is_err() {
                return;
            }
        }
    }
}
