//! SIGTERM and SIGINT ask to stop, SIGHUP to reload.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::control::{Request, Requests};

/// The signals that portway listens for. Those that arrive before [`Signals::pass_on`] runs are passed on then.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on; before this call each of the signals ends the process. Needs a runtime.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Sends a request to control for each signal.
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
