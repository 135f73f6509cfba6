//! Ends the connections in a drain: first in their gaps, at last those that are idle, spread over time, so that thousands
//! of agents do not all connect to the next relay within one second.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::conn::Context;

/// Time between two steps of the drain.
pub(super) const STEP: Duration = Duration::from_millis(100);
/// The longest time over which the first gaps, and at last the resets, are spread.
const LONGEST: Duration = Duration::from_secs(30);

/// Drains the connections of the worker. Each ends in its next gap, from a moment of its own on. Towards the end of
/// `over`, those that are left end as soon as no byte passes or is on its way to a peer, each at a moment of its own
/// too. Connections that have not ended when the drain is over are cut then.
pub(super) async fn spread(context: Rc<Context>, over: Duration) -> Infallible {
    let begin = Instant::now();
    let (first, last) = ((over / 10).min(LONGEST), (over * 3 / 10).min(LONGEST));
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let passed = begin.elapsed();
        let in_gap = chance(first.saturating_sub(passed));
        let left = over.saturating_sub(passed);
        let idle = (left <= last).then(|| chance(left));
        for (_, connection) in context.connections.borrow().iter() {
            let flow = &connection.flow;
            if idle.is_some_and(|chance| fastrand::f64() < chance) {
                flow.drain();
            } else if fastrand::f64() < in_gap {
                flow.drain_in_gap();
            }
            flow.step();
        }
    }
}

/// The chance of a connection to be the next in this step, if its turn comes evenly within `left`.
fn chance(left: Duration) -> f64 {
    (STEP.as_secs_f64() / left.as_secs_f64()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_evenly_and_none_is_left_at_the_end() {
        let mut waiting = 1.0;
        for passed in 0..100 {
            let left = STEP * (100 - passed);
            waiting *= 1.0 - chance(left);
            let even = 1.0 - f64::from(passed + 1) / 100.0;
            assert!(
                (waiting - even).abs() < 1e-9,
                "{waiting} after {passed} steps"
            );
        }
        assert!(chance(Duration::ZERO) >= 1.0);
    }
}
