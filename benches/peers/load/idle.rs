//! Connections that are open and silent: what they cost, and what stays after they have closed.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::RecvFlags;

use super::connections::one_by_one;
use super::hello::Mode;
use super::{Run, Value, float, pause, percentile};
use crate::results::Figure;

/// Connections that are opened and closed before, so that what a relay needs for the first ones does not
/// count.
const FIRST: usize = 5;

/// Short connections beside the idle ones.
const PROBES: usize = 200;

/// Longest time until the backend sees a close.
const CLOSING: Duration = Duration::from_secs(5);

/// Seconds for relays to finish with new connections before idle ones are measured: portway sets the
/// keepalive at its first review.
const SET_UP: f64 = 3.0;

/// Memory that stays equal for this long is that of the open connections.
const OPENED: Duration = Duration::from_millis(300);

/// Memory that stays equal for this long after they have closed will not be given back soon.
const CLOSED: Duration = Duration::from_millis(1500);

/// Measures `connections` idle connections.
pub(super) fn run(run: &Run<'_>, connections: usize) -> Result<Vec<Value>, String> {
    let idle = run.command(Mode::Idle, 0);
    close(run.open(idle, FIRST)?);
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
    close(open);
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

/// Closes connections. The answer is read before, if it has come, because otherwise the kernel would reset them.
fn close(open: Vec<OwnedFd>) {
    for socket in open {
        // If it is gone, the backend has noticed it, and its count says so.
        let _ = rustix::net::recv(&socket, &mut [0; 64], RecvFlags::empty());
    }
}
