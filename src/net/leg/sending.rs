//! Messages of portway's own, and the end of what it sends.

use std::future::poll_fn;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::{Broken, Leg};

impl Leg {
    /// Sends what fits, without waiting. It is for an alert, which is lost if it does not fit.
    pub fn send_now(&self, bytes: &[u8]) {
        if let Err(error) = send(self.fd(), bytes, SendFlags::NOSIGNAL) {
            self.fail(error);
        }
    }

    /// Sends all of these bytes, and waits where the kernel takes only a part of them. The caller bounds the time.
    pub async fn send_all(&self, bytes: &[u8]) -> Result<(), Broken> {
        // A short message nearly always fits, so do not wait for readiness first.
        let sent = loop {
            match send(self.fd(), bytes, SendFlags::NOSIGNAL) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break 0,
                Err(error) => return Err(self.fail(error)),
            }
        };
        let mut rest = bytes.get(sent..).unwrap_or_default();
        while !rest.is_empty() {
            let sent = poll_fn(|cx| self.poll_send(cx, rest)).await?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends FIN after what was sent, once.
    pub fn shut_down_writing(&self) {
        if self.shut_down.replace(true) {
            return;
        }
        match shutdown(self.fd(), Shutdown::Write) {
            Ok(()) => {}
            // The kernel says no more than this if the peer's reset came first. The error of the socket says it, unless
            // another call has taken that.
            Err(Errno::NOTCONN) => self.fail_watched(),
            Err(error) => _ = self.fail(error),
        }
    }
}
