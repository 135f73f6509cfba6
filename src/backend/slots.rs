//! The dials of one address that are in progress, and those that wait for their turn (`max_dials`).

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Address;
use crate::outcome::DialFailure;

/// The slots of one address. Those who wait for one get it in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// The slots that are taken, those included whose owners do not know it yet.
    taken: u32,
    /// The most that may be taken, as the last dial had it: a reload can change it.
    most: u32,
    waiting: VecDeque<oneshot::Sender<Granted>>,
}

/// A slot, or the reason why a dial of the address has failed meanwhile.
type Granted = Result<(), DialFailure>;

/// The right to dial an address, as long as this lives.
#[derive(Debug)]
pub struct Slot(Arc<Address>);

/// A place in the queue for a slot. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Waiting {
    address: Arc<Address>,
    granted: oneshot::Receiver<Granted>,
}

impl Address {
    /// Takes a slot to dial it if fewer than `most` are taken and nobody waits for one.
    pub fn take_slot(self: &Arc<Self>, most: u32) -> Result<Slot, Waiting> {
        let mut queue = self.slots.queue();
        queue.most = most;
        if queue.taken < most && queue.waiting.is_empty() {
            queue.taken += 1;
            return Ok(Slot(Arc::clone(self)));
        }
        let (sender, granted) = oneshot::channel();
        if queue.waiting.len() == queue.waiting.capacity() {
            // Before it grows: those who have left it cost no more memory than those who have not.
            queue.waiting.retain(|waiting| !waiting.is_closed());
        }
        queue.waiting.push_back(sender);
        queue.fill();
        Err(Waiting {
            address: Arc::clone(self),
            granted,
        })
    }

    /// The dials of it that are in progress, and those that wait for a slot.
    pub fn dials(&self) -> (u32, usize) {
        let queue = self.slots.queue();
        let waiting = queue.waiting.iter().filter(|waiting| !waiting.is_closed());
        (queue.taken, waiting.count())
    }

    /// Lets all dials that wait for a slot fail, because one has just failed for this reason: they would say the same.
    pub fn fail_waiting(&self, reason: DialFailure) {
        let waiting = mem::take(&mut self.slots.queue().waiting);
        for waiting in waiting {
            // A client that does not wait any more needs no answer.
            _ = waiting.send(Err(reason));
        }
    }

    fn leave_slot(&self) {
        let mut queue = self.slots.queue();
        queue.taken -= 1;
        queue.fill();
    }
}

impl Slots {
    /// The room for those who wait.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.queue().waiting.capacity()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic cannot leave it half changed, so a poisoned lock can be used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Gives free slots to those who wait.
    fn fill(&mut self) {
        while self.taken < self.most
            && let Some(next) = self.waiting.pop_front()
        {
            self.taken += u32::from(next.send(Ok(())).is_ok());
        }
    }
}

impl Waiting {
    /// Waits for the slot. If a dial of the address fails meanwhile, returns the reason.
    pub async fn slot(&mut self) -> Result<Slot, DialFailure> {
        match (&mut self.granted).await {
            Ok(Ok(())) => Ok(Slot(Arc::clone(&self.address))),
            Ok(Err(reason)) => Err(reason),
            // The address keeps the sender as long as this has the address.
            Err(_) => Err(DialFailure::Other),
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.granted.close();
        // A slot that came too late is free again.
        if let Ok(Ok(())) = self.granted.try_recv() {
            self.address.leave_slot();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.leave_slot();
    }
}
