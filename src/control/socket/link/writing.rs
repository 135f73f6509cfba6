//! The half of a link's connection that is written to.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::unix::OwnedWriteHalf;

/// The half of the connection that both the link and the task write to, until either side has ended it.
#[derive(Clone, Debug)]
pub(super) struct Writing(Arc<Mutex<Option<OwnedWriteHalf>>>);

impl Writing {
    pub(super) fn new(writing: OwnedWriteHalf) -> Self {
        Self(Arc::new(Mutex::new(Some(writing))))
    }

    /// Sends a line without waiting. Lines are few and short: they fit unless the predecessor hangs or has ended.
    pub(super) fn tell(&self, line: &str) -> bool {
        let told = match &*self.lock() {
            Some(writing) => writing.try_write(line.as_bytes()),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = &told {
            tracing::debug!(%error, "cannot write to the predecessor");
        }
        told.is_ok()
    }

    /// Closes it for whoever holds a clone.
    pub(super) fn close(&self) {
        self.lock().take();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<OwnedWriteHalf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
