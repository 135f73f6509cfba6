//! The once-a-second look at a live connection that is not about its limits.

use super::Connection;

impl Connection {
    /// Tells the address that it has answered, if the backend has begun to: then no check has to find that out.
    pub(super) fn note_answer(&self) {
        if let (Some(at), Some(reached)) = (self.flow.take_answer(), self.reached.get()) {
            reached.endpoint.answered(at);
        }
    }
}
