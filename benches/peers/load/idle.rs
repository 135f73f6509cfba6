//! Connections that are open and silent: what they cost, and what stays of it.

use std::time::Duration;

use super::connections::one_by_one;
use super::hello::Mode;
use super::{Run, Value, float, pause, percentile};
use crate::results::Figure;

/// Opened and closed before, so that what a relay needs for the first ones is not counted.
const FIRST: usize = 5;

/// Short connections beside the idle ones.
const PROBES: usize = 200;

/// In which the backend must see a close.
const CLOSING: Duration = Duration::from_secs(5);

/// What relays get to finish with new connections before idle ones are watched: portway sets the
/// keepalive at its first review.
const SET_UP: f64 = 3.0;

/// Memory that stays equal so long is that of the open connections.
const OPENED: Duration = Duration::from_millis(300);

/// Memory that stays equal so long after they have closed is not given back soon.
const CLOSED: Duration = Duration::from_millis(1500);

/// Measures so many connections.
pub(super) fn run(run: &Run<'_>, connections: usize) -> Result<Vec<Value>, String> {
    let idle = run.command(Mode::Idle, 0);
    drop(run.open(idle, FIRST)?);
    if !run.wait_for(CLOSING, |counts| counts.open() == 0) {
        return Err("the relay did not pass on that clients have closed".into());
    }
    let before = run.relay.resident()?;
    let open = run.open(idle, connections)?;
    let during = run.settled(OPENED, 2.0, |run| run.relay.resident())?;

    pause(run.either(SET_UP, 0.0));
    let begin = run.mark()?;
    pause(run.window().max(run.either(2.0, 0.3)));
    let end = run.mark()?;

    let mut latencies = one_by_one(run, PROBES)?;
    let still_open = run.counts.open();
    if still_open < connections as u64 {
        return Err(format!(
            "{still_open} of {connections} idle connections are still open"
        ));
    }
    drop(open);
    run.wait_for(run.either(5.0, 1.0), |counts| counts.open() == 0);
    let after = run.settled(CLOSED, 5.0, |run| run.relay.resident())?;

    let per_connection = |then: u64| (float(then) - float(before)) / float(connections as u64);
    Ok(vec![
        (Figure::BytesPerConnection, per_connection(during)),
        (Figure::BytesKeptPerConnection, per_connection(after)),
        (
            Figure::IdleCpuPercent,
            end.cpu_seconds(begin) / end.seconds(begin) * 100.0,
        ),
        (
            Figure::ConnectP99Microseconds,
            percentile(&mut latencies, 99)?,
        ),
    ])
}
