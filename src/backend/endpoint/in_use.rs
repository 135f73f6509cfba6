//! A connection that counts for an endpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Endpoint;
use crate::backend::Address;

/// A connection that counts for its endpoint and its address.
#[derive(Debug)]
pub struct InUse {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) address: Arc<Address>,
}

impl InUse {
    /// The endpoint that it counts for.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Notes that the address answered the client at this time.
    pub fn answered(&self, at: Instant) {
        self.address.answered(at);
    }

    /// Notes that the address failed although it could be connected to.
    pub fn blame(&self, now: Instant) {
        self.endpoint.failed(&self.address, now);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        for connections in self.endpoint.counters() {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.address.leave();
    }
}
