//! Ends idle connections in a drain, spread over its time, so that thousands of agents do not all
//! connect to the next relay within one second.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::conn::Context;

/// Time between two rounds of connections.
const STEP: Duration = Duration::from_millis(100);

/// Drains the connections of the worker in random order, each at its own time within `over`. From
/// that time on, a connection ends as soon as no byte passes or is on its way to a peer. Connections
/// that have not ended when the drain is over are cut then.
pub(super) async fn spread(context: Rc<Context>, over: Duration) {
    let begin = Instant::now();
    let mut waiting = context.live();
    fastrand::shuffle(&mut waiting);
    let count = waiting.len();
    let mut step = begin;
    while !waiting.is_empty() {
        step += STEP;
        sleep_until(step).await;
        let left = over.saturating_sub(begin.elapsed());
        let keep = share(count, left, over).min(waiting.len());
        for connection in waiting.drain(keep..).filter_map(|one| one.upgrade()) {
            connection.flow.drain();
        }
    }
}

/// How many of `count` connections are not drained yet when `left` of `over` is left.
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
