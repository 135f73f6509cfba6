//! The end of a connection in a gap: a FIN for both sides, so that the client dials anew without an error.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::yield_now;

use super::Relay;
use super::end::{End, Parting};
use super::pump::Pump;
use super::seen::Seen;

/// Reads in a row of a client that goes on sending. An ordinary one says goodbye in one.
const READS: usize = 16;

impl Relay<'_> {
    /// Whether this is a gap: both sides are open, and the rest of an answer would have come by now. A long answer pauses
    /// for a round trip, and one of which a packet got lost for a round trip and the 200 ms of the sender's timer.
    /// Three round trips would leave no gap before the next check-in at 200 ms.
    pub(super) fn is_in_gap(&self) -> bool {
        let rest = |path: Duration| 2 * path + Duration::from_millis(200);
        let path = || self.backend.round_trip();
        self.flow.gap.is_now()
            && self.pumps.values().all(Pump::is_reading)
            && path().is_ok_and(|path| self.flow.gap.quiet() >= rest(path))
    }

    /// Ends the connection in a gap: each side gets a FIN.
    pub(super) fn begin_to_part(&self) {
        self.flow.part(self.resources.now());
        self.client.shut_down_writing();
        self.backend.shut_down_writing();
    }

    /// Waits until the client has closed too. A request behind the FIN is not passed on, because nothing may be executed
    /// whose answer cannot come back.
    pub(super) fn part(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let is_cut = self.flow.poll_verdict(cx).is_some();
        let is_late = || {
            self.flow
                .judge(&Seen::default(), self.resources.now())
                .is_some()
        };
        if is_cut || self.flow.is_asked() && is_late() {
            return Poll::Ready(self.parted());
        }
        let mut buffer = self.resources.buffer.borrow_mut();
        for _ in 0..READS {
            match self.client.poll_receive(cx, &mut buffer) {
                Poll::Ready(Ok([]) | Err(_)) => return Poll::Ready(self.parted()),
                Poll::Ready(Ok(bytes)) => self.crossed |= self.flow.gap.is_crossed_by(bytes),
                Poll::Pending => return Poll::Pending,
            }
        }
        _ = pin!(yield_now()).poll(cx);
        Poll::Pending
    }

    fn parted(&self) -> End {
        self.client.close_in_order();
        self.backend.close_in_order();
        End::parted(if self.crossed {
            Parting::Crossed
        } else {
            Parting::Clean
        })
    }
}

#[cfg(test)]
mod tests;
