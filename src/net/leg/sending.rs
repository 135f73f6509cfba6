//! Messages of portway's own, which must arrive whole.

use std::future::poll_fn;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::{Broken, Leg};

impl Leg {
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
}
