//! Gives the listening sockets to a successor, which then accepts beside this process until that one leaves them to it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entering::refuse;
use super::watch::RETRY;
use super::{Control, TAKING_OVER, Takeover};

impl Control {
    /// Gives a successor the sockets, once no change is under way. While another process has them, the
    /// successor gets no answer and asks again.
    pub(super) fn give(&mut self, answer: oneshot::Sender<Takeover>) {
        if self.takeover.upgrade().is_some() {
            return;
        }
        let was_reloading = !self.reload.is_idle();
        for asker in self.reload.give_up() {
            refuse(asker, TAKING_OVER);
        }
        if self.entering.is_some() || self.reload.is_preparing() {
            self.waiting = Some(answer);
            return;
        }
        if was_reloading {
            self.service.ready();
            // A signal has asked for it, perhaps: nobody else would read that content.
            self.again = Some(Instant::now() + RETRY);
        }
        self.hand_over(answer);
    }

    /// Whether a successor has the sockets and does not accept yet, or waits for them, or is being started.
    pub(super) fn is_taken_over(&self) -> bool {
        let waits = |answer: &oneshot::Sender<_>| !answer.is_closed();
        let is_waiting = self.waiting.as_ref().is_some_and(waits);
        self.takeover.upgrade().is_some() || is_waiting || self.is_upgrading()
    }

    /// Gives a successor the sockets that are open. While another process has them, the successor gets no
    /// answer and asks again.
    pub(super) fn hand_over(&mut self, answer: oneshot::Sender<Takeover>) {
        if self.takeover.upgrade().is_some() {
            return;
        }
        let under_way = Arc::new(());
        self.takeover = Arc::downgrade(&under_way);
        // The asker may be gone.
        drop(answer.send(Takeover {
            listening: self.in_force.sockets(),
            admin: self.admin.clone(),
            under_way,
        }));
    }
}
