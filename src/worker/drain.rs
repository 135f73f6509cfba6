//! The end of idle connections in a drain: spread over its time, so that thousands of agents do not
//! all come back to the next relay in one second.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::conn::Context;
use crate::relay::{Flow, Verdict};

/// Between two looks at the connections whose time has come.
const STEP: Duration = Duration::from_millis(100);

/// Ends the connections of the worker in random order, each at a time of its own within `over`, or
/// as soon after it as no byte passes. What moves until the end of the drain is cut then.
pub(super) async fn spread(context: Rc<Context>, over: Duration) {
    let begin = Instant::now();
    let mut waiting: Vec<Rc<Flow>> = context.flows();
    fastrand::shuffle(&mut waiting);
    let count = waiting.len();
    let mut due = Vec::new();
    let mut step = begin;
    while !waiting.is_empty() || !due.is_empty() {
        step += STEP;
        sleep_until(step).await;
        let left = over.saturating_sub(begin.elapsed());
        let keep = share(count, left, over).min(waiting.len());
        due.extend(waiting.drain(keep..));
        let now = context.resources.now();
        due.retain(|flow| {
            let idle = flow.is_idle(now);
            if idle {
                flow.end(Verdict::Drained);
            }
            !idle && Rc::strong_count(flow) > 1
        });
        if left.is_zero() {
            return;
        }
    }
}

/// How many of `count` connections still have time when `left` of `over` is left.
fn share(count: usize, left: Duration, over: Duration) -> usize {
    let millis = |time: Duration| time.as_millis().max(1);
    let share = count as u128 * left.as_millis() / millis(over);
    usize::try_from(share).unwrap_or(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_goes_down_evenly_to_none() {
        let of = |left| share(10_000, Duration::from_secs(left), Duration::from_secs(20));
        assert_eq!([of(20), of(15), of(1), of(0)], [10_000, 7_500, 500, 0]);
        assert_eq!(share(5, Duration::ZERO, Duration::ZERO), 0);
    }
}
