//! A look at the live connections of a worker, for the status pages. It changes nothing about them, and takes turns with
//! them, so that it holds none of them up.

use std::collections::BinaryHeap;
use std::time::Instant;

use tokio::sync::oneshot::Sender;
use tokio::task::yield_now;

use super::Context;
use crate::status::{Query, Seen};

/// Connections that are looked at in one turn: some 25 us.
const LOOKED_AT: usize = 250;
/// Connections that are written out in one turn: as long.
const WRITTEN: usize = 25;

/// A connection that may be among the first ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    place: u64,
    id: u64,
    /// Its place among the connections of the worker.
    key: usize,
}

impl Context {
    /// Looks for the connections that a query selects, unless nobody waits for the answer any more.
    ///
    /// A connection that is there from the beginning to the end is looked at once: it never changes its place among the
    /// connections of the worker. One that comes meanwhile may be missing.
    pub async fn look(&self, query: &Query, asker: &Sender<Seen>) -> Seen {
        let (moment, second) = (Instant::now(), self.resources.now());
        let mut seen = Seen::default();
        let mut first = BinaryHeap::new();
        let mut next = 0;
        loop {
            next = self.look_from(next, query, (moment, second), (&mut seen, &mut first));
            if next == usize::MAX || asker.is_closed() {
                break;
            }
            yield_now().await;
        }
        let mut first = first.into_sorted_vec();
        if first.len() > query.limit {
            first.truncate(query.limit);
            seen.up_to = first.last().map(|candidate| candidate.place);
        }
        for turn in first.chunks(WRITTEN) {
            if asker.is_closed() {
                break;
            }
            self.write_out(turn, (moment, second), &mut seen);
            yield_now().await;
        }
        seen
    }

    /// Writes the connections of one turn out. Those that have ended since are not there any more.
    fn write_out(&self, turn: &[Candidate], (moment, second): (Instant, u32), seen: &mut Seen) {
        let connections = self.connections.borrow();
        seen.rows.extend(turn.iter().filter_map(|candidate| {
            let connection = connections.get(candidate.key)?;
            let is_it = connection.id == candidate.id;
            is_it.then(|| (candidate.place, connection.shown(moment, second)))
        }));
    }

    /// Looks at the connections of one turn. Returns where the next one begins; `usize::MAX` after the last.
    fn look_from(
        &self,
        begin: usize,
        query: &Query,
        (moment, second): (Instant, u32),
        (seen, first): (&mut Seen, &mut BinaryHeap<Candidate>),
    ) -> usize {
        let connections = self.connections.borrow();
        let end = begin.saturating_add(LOOKED_AT);
        for key in begin..end.min(connections.capacity()) {
            let Some(connection) = connections.get(key) else {
                continue;
            };
            seen.total += 1;
            if !connection.matches(query) {
                continue;
            }
            seen.matching += 1;
            if query.after.is_some_and(|after| connection.id <= after) {
                continue;
            }
            first.push(Candidate {
                place: connection.place(query.sort, moment, second),
                id: connection.id,
                key,
            });
            // One more than wanted shows that there are more.
            if first.len() > query.limit.saturating_add(1) {
                first.pop();
            }
        }
        if end < connections.capacity() {
            end
        } else {
            usize::MAX
        }
    }
}
