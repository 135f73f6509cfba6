//! The once-a-second look at a live connection that is not about its limits: what its backend proves, and whether it is to
//! end in a gap.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connection;
use crate::backend::{Address, InUse};
use crate::snapshot::Snapshot;

/// Seconds over which the connections of an endpoint that is unhealthy or gone begin to look for a gap, on average.
const SPREAD: u8 = 10;

impl Connection {
    /// Tells the address that it has answered, if the backend has begun to: then no check has to find that out.
    pub(super) fn note_answer(&self) {
        if let (Some(at), Some(reached)) = (self.flow.take_answer(), self.reached.get()) {
            reached.endpoint.answered(at);
        }
    }

    /// Begins to look for a gap in which the connection can end, if it has a reason to, and gives that up if it has none any
    /// more. Returns whether it begins.
    pub(super) fn follow_reason(&self, look: &mut Look<'_>) -> bool {
        let reason = self.reason_to_leave(look);
        if self.flow.is_draining() {
            if reason.is_none() {
                self.flow.resume();
            }
            return false;
        }
        let begins = match reason {
            None => false,
            Some(Reason::Age) => true,
            // Not everybody at once.
            Some(Reason::Unhealthy | Reason::Removed) => fastrand::u8(..SPREAD) == 0,
        };
        if begins {
            self.flow.drain_in_gap();
        }
        begins
    }

    /// Why the connection is to end in its next gap. It follows the settings that it took, but its client comes back to the
    /// endpoints in force.
    pub(super) fn reason_to_leave(&self, look: &mut Look<'_>) -> Option<Reason> {
        let in_use = &self.reached.get()?.endpoint;
        let backend = self.routed()?.backend;
        let (leaving, pool) = (&backend.leaving, &backend.pool);
        if leaving.if_removed {
            // The name that a client asked for goes with the endpoint that was written.
            let is_written_gone = pool.names().is_some()
                && pool.endpoints().iter().all(|written| written.is_removed());
            if is_written_gone || in_use.is_gone() {
                return Some(Reason::Removed);
            }
        }
        // A client that asks for an address would come back to it.
        let may_go_elsewhere = || self.target().is_none_or(|target| target.name().is_some());
        // Without a reload since, the address itself says it, which is all that most connections need.
        let may_be_unhealthy = || !look.is_in_force(&self.snapshot) || in_use.is_unhealthy();
        if leaving.if_unhealthy
            && may_be_unhealthy()
            && may_go_elsewhere()
            && look.has_better_than(in_use, pool.name())
        {
            return Some(Reason::Unhealthy);
        }
        let limit = varied(leaving.age?, self.id);
        (look.now.saturating_duration_since(self.flow.accepted_at()) >= limit)
            .then_some(Reason::Age)
    }
}

/// One look at all connections of a worker, once a second.
pub(super) struct Look<'s> {
    now: Instant,
    /// The snapshot of the last reload.
    in_force: Option<&'s Snapshot>,
    /// The addresses that were judged in this look, by their place in memory, and whether clients are to leave them:
    /// the answer is the same for all connections to one.
    judged: HashMap<*const Address, bool>,
}

impl<'s> Look<'s> {
    /// A look that begins now.
    pub(super) fn new(in_force: Option<&'s Snapshot>) -> Self {
        Self {
            now: Instant::now(),
            in_force,
            judged: HashMap::new(),
        }
    }

    fn is_in_force(&self, snapshot: &Arc<Snapshot>) -> bool {
        self.in_force
            .is_some_and(|in_force| ptr::eq(in_force, Arc::as_ptr(snapshot)))
    }

    /// Whether the address in use is unhealthy and its backend has a healthy one now.
    fn has_better_than(&mut self, in_use: &InUse, backend: &str) -> bool {
        let in_force = self.in_force;
        let judge = || {
            let now = in_force.and_then(|snapshot| snapshot.backend(backend));
            now.is_some_and(|now| {
                in_use.is_unhealthy_in(&now.pool) && in_use.has_healthy_others(&now.pool)
            })
        };
        let known = self.judged.entry(ptr::from_ref(in_use.address()));
        *known.or_insert_with(judge)
    }
}

/// Why a connection ends in a gap although the process does not drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Unhealthy,
    Removed,
    Age,
}

impl Reason {
    /// The words of the log.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Unhealthy => {
                "ended between two requests: the endpoint is unhealthy, and another one is healthy (close_on)"
            }
            Self::Removed => {
                "ended between two requests: the endpoint is gone from routes.toml or DNS (close_on)"
            }
            Self::Age => {
                "ended between two requests: the connection has reached max_connection_age"
            }
        }
    }
}

/// A time that differs by up to a tenth from connection to connection, and is always the same for one.
fn varied(time: Duration, id: u64) -> Duration {
    // The upper bits of a product with the golden ratio are spread evenly.
    let spread = u32::try_from(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54).unwrap_or_default();
    time * (900 + 200 * spread / 1023) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_and_are_spread_evenly() {
        let hour = Duration::from_hours(1);
        let ages: Vec<u64> = (0..1000).map(|id| varied(hour, id).as_secs()).collect();
        assert!(ages.iter().all(|age| (3240..=3960).contains(age)));
        let early = ages.iter().filter(|age| **age < 3600).count();
        assert!((450..550).contains(&early), "{early}");
    }
}
