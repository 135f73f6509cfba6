//! Chooses the worker that serves a new connection.
//!
//! The kernel spreads connections over the listening sockets by hash. That alone left two workers
//! with 37 and 63 of 100. If a worker hands connections over only while it has clearly more than the
//! least loaded one, the result is 52 and 48 at worst. Handing a connection over costs a third more
//! CPU.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many connections the workers have, and whether more can come.
#[derive(Debug)]
pub struct Loads {
    /// The connections of each worker.
    connections: Box<[Arc<AtomicUsize>]>,
    /// Listening sockets that a worker accepts at, or whose queues it is still emptying.
    accepting: AtomicUsize,
}

impl Loads {
    /// The loads of `count` workers without a connection.
    pub fn new(count: usize) -> Self {
        Self {
            connections: (0..count).map(|_| Arc::default()).collect(),
            accepting: AtomicUsize::new(0),
        }
    }

    /// Whether there is no connection, and none can come: the queue of each listening socket is
    /// empty, and no worker accepts any more.
    pub fn are_over(&self) -> bool {
        // A connection is counted before its listening socket stops counting: hence this order.
        self.accepting.load(Ordering::Acquire) == 0
            && self
                .connections
                .iter()
                .all(|one| one.load(Ordering::Relaxed) == 0)
    }

    /// The connections of all workers.
    pub fn connections(&self) -> usize {
        let each = self.connections.iter();
        each.map(|one| one.load(Ordering::Relaxed)).sum()
    }

    /// The worker that serves a connection accepted by worker `own`.
    pub(super) fn place(&self, own: usize) -> usize {
        let counts = self.connections.iter().enumerate();
        let counts = counts.map(|(worker, count)| (worker, count.load(Ordering::Relaxed)));
        let mine = self.of(own).load(Ordering::Relaxed);
        let fewer = |one: (usize, usize), other: (usize, usize)| {
            if other.1 < one.1 { other } else { one }
        };
        let (least, fewest) = counts.fold((own, mine), fewer);
        // The new connection counts too: if two come to one of two idle workers, each gets one.
        if mine + 1 > fewest + (fewest / 8).max(1) {
            least
        } else {
            own
        }
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "workers are counted by their positions, as many as there are"
    )]
    fn of(&self, worker: usize) -> &Arc<AtomicUsize> {
        &self.connections[worker]
    }
}

/// One connection in the load of a worker. Each live connection has one; it is a single pointer.
#[derive(Debug)]
pub struct Load(Arc<AtomicUsize>);

impl Load {
    pub(super) fn new(loads: &Loads, worker: usize) -> Self {
        let count = loads.of(worker);
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One listening socket that a worker accepts at.
pub(super) struct Accepting(Arc<Loads>);

impl Accepting {
    pub(super) fn new(loads: &Arc<Loads>) -> Self {
        loads.accepting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(loads))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(counts: &[usize]) -> Loads {
        let connections = counts.iter().map(|&count| Arc::new(count.into()));
        Loads {
            connections: connections.collect(),
            accepting: AtomicUsize::new(0),
        }
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
        assert_eq!(loads.connections[1].load(Ordering::Relaxed), 1);
        drop(load);
        assert_eq!(loads.connections[1].load(Ordering::Relaxed), 0);
    }

    #[test]
    fn loads_are_over_once_nobody_accepts_and_the_last_connection_has_ended() {
        let loads = Arc::new(loads(&[0, 0]));
        let accepting = Accepting::new(&loads);
        assert!(!loads.are_over());
        let load = Load::new(&loads, 0);
        drop(accepting);
        assert!(!loads.are_over());
        drop(load);
        assert!(loads.are_over());
    }
}
