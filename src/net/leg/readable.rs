//! Readiness for a peek.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFdReadyGuard;

/// A leg that is readable, or whose peer has closed.
#[derive(Debug)]
pub struct Readable<'a>(pub(super) AsyncFdReadyGuard<'a, OwnedFd>);

impl Readable<'_> {
    /// Whether the peer has closed its direction or reset. Ask before you peek, because a peek does
    /// not see a FIN behind bytes. Once true, it stays true.
    pub fn is_closed(&self) -> bool {
        self.0.ready().is_read_closed()
    }

    /// Clears readiness after a peek that showed too little, to wait for more. A peek that succeeds
    /// does not clear it, so a loop of peeks would spin. Do not clear it when the bytes are to be
    /// received next: nothing would report them again.
    pub fn wait_for_more(mut self) {
        self.0.clear_ready();
    }
}
