//! The rules that a relay works under, and the verdicts that they lead to.

use std::sync::Arc;
use std::time::Duration;

use super::Rules;
use crate::outcome::Outcome;
use crate::telemetry::BackendStats;

/// Why the worker ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `idle_timeout`.
    Idle,
    /// `half_close_timeout`.
    HalfClose,
    /// `stall_timeout`.
    Stalled,
    /// `peer_timeout`.
    PeerTimeout,
    /// A gap in a drain.
    Gap,
    /// The end of a drain.
    Drained,
}

impl Verdict {
    /// The outcome of a connection that ends with this verdict.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Idle => Outcome::IdleTimeout,
            Self::HalfClose => Outcome::HalfCloseTimeout,
            Self::Stalled => Outcome::Stalled,
            Self::PeerTimeout => Outcome::PeerTimeout,
            Self::Gap | Self::Drained => Outcome::Drained,
        }
    }
}

/// The rules of a relay in seconds of the worker's clock, rounded up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds {
    pub(super) idle: u32,
    pub(super) half_close: u32,
    pub(super) stall: u32,
    pub(super) peer: Option<u32>,
}

impl Seconds {
    fn new(rules: &Rules) -> Self {
        let seconds = |limit: Duration| {
            let whole = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
            u32::try_from(whole).unwrap_or(u32::MAX)
        };
        Self {
            idle: seconds(rules.idle_timeout),
            half_close: seconds(rules.half_close_timeout),
            stall: seconds(rules.stall_timeout),
            peer: rules.peer_timeout.map(seconds),
        }
    }
}

/// The rules and counters that all relays to a backend share.
#[derive(Debug)]
pub struct Terms {
    /// The rules.
    pub rules: Rules,
    /// The backend's counters.
    pub stats: Arc<BackendStats>,
    pub(super) seconds: Seconds,
}

impl Terms {
    /// Joins rules and the counters of the backend. The kernel counts `peer_timeout` for connections on which nothing is
    /// sent: by the number of its probes, so that nobody has to look at them.
    pub fn new(mut rules: Rules, stats: Arc<BackendStats>) -> Self {
        if let Some(limit) = rules.peer_timeout {
            rules.leg.keepalive = rules.leg.keepalive.within(limit);
        }
        Self {
            seconds: Seconds::new(&rules),
            rules,
            stats,
        }
    }
}
