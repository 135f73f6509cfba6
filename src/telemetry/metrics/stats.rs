//! What the data path counts in: plain atomics, published to the exporter at a scrape.

mod config;
mod workers;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use metrics::{Gauge, Histogram};

use super::Exporter;
use super::labels::{AcceptFailure, DialFailure, Limit};
use super::table;
use crate::outcome::{Direction, Outcome, Reach};
pub use config::{ConfigStats, WatchMode};
pub(super) use workers::ShownPipes;
pub use workers::{PipeStats, WorkerStats};

/// The backend label of a connection for which no backend was chosen.
pub(super) const NO_BACKEND: &str = "-";

/// A counter of the data path.
#[derive(Debug)]
pub struct Counter {
    value: AtomicU64,
    shown: metrics::Counter,
}

impl Counter {
    pub(super) fn new(shown: metrics::Counter) -> Self {
        Self {
            value: AtomicU64::new(0),
            shown,
        }
    }

    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        // Release pairs with `get`: who sees a connection closed also sees it accepted.
        self.value.fetch_add(n, Ordering::Release);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    pub(super) fn publish(&self) -> u64 {
        let value = self.get();
        self.shown.absolute(value);
        value
    }
}

/// What is counted of a listener.
#[derive(Debug)]
pub struct ListenerStats {
    /// Connections accepted.
    pub accepted: Counter,
    active: Gauge,
}

impl ListenerStats {
    pub(super) fn new(exporter: &Exporter, listener: &str) -> Self {
        Self {
            accepted: Counter::new(exporter.counter(&table::ACCEPTED, [listener])),
            active: exporter.gauge(&table::ACTIVE, [listener]),
        }
    }

    /// `closed` must have been read before: then it is never over `accepted`.
    pub(super) fn publish(&self, closed: u64) {
        let active = self.accepted.publish().saturating_sub(closed);
        self.active.set(gauge_value(active));
    }
}

/// The endings of one listener's connections to one backend, or to none.
#[derive(Debug)]
pub struct Endings {
    listener: Box<str>,
    backend: Option<Box<str>>,
    counts: [AtomicU64; Outcome::ALL.len()],
    shown: [OnceLock<metrics::Counter>; Outcome::ALL.len()],
}

impl Endings {
    pub(super) fn new(listener: &str, backend: Option<&str>) -> Self {
        Self {
            listener: listener.into(),
            backend: backend.map(Into::into),
            counts: [const { AtomicU64::new(0) }; _],
            shown: [const { OnceLock::new() }; _],
        }
    }

    /// Counts the end of a connection. Call it once for each one that
    /// [`ListenerStats::accepted`] counted.
    pub fn count(&self, outcome: Outcome) {
        if let Some(count) = self.counts.get(outcome.index()) {
            // Release: see `Counter::add`.
            count.fetch_add(1, Ordering::Release);
        }
    }

    /// Publishes all, and returns the sum. Outcomes that belong to the other kind of backend label
    /// get a series only if they come after all: the sum stays exact.
    pub(super) fn publish(&self, exporter: &Exporter) -> u64 {
        let backend = self.backend.as_deref().unwrap_or(NO_BACKEND);
        let mut sum = 0;
        for ((count, shown), outcome) in self.counts.iter().zip(&self.shown).zip(Outcome::ALL) {
            let count = count.load(Ordering::Acquire);
            if count == 0 && !self.expects(outcome) {
                continue;
            }
            let labels = [&self.listener, backend, outcome.name()];
            shown
                .get_or_init(|| exporter.counter(&table::CLOSED, labels))
                .absolute(count);
            sum += count;
        }
        sum
    }

    fn expects(&self, outcome: Outcome) -> bool {
        match outcome.reach() {
            Reach::Never => self.backend.is_none(),
            Reach::Always => self.backend.is_some(),
            Reach::Maybe => true,
        }
    }
}

/// What is counted of a backend.
#[derive(Debug)]
pub struct BackendStats {
    bytes: [Counter; 2],
    stalled: [(AtomicU32, Gauge); 2],
    /// From the choice of the backend to a connected endpoint, in seconds.
    pub dial_seconds: Histogram,
}

impl BackendStats {
    pub(super) fn new(exporter: &Exporter, backend: &str) -> Self {
        Self {
            bytes: Direction::ALL
                .map(|d| Counter::new(exporter.counter(&table::BYTES, [backend, d.name()]))),
            stalled: Direction::ALL.map(|d| {
                let shown = exporter.gauge(&table::STALLED, [backend, d.name()]);
                (AtomicU32::new(0), shown)
            }),
            dial_seconds: exporter.histogram(&table::DIAL, [backend]),
        }
    }

    /// Bytes relayed in a direction; add to it as they pass, not only at the close.
    pub fn bytes(&self, direction: Direction) -> &Counter {
        let [to_backend, to_client] = &self.bytes;
        match direction {
            Direction::ClientToBackend => to_backend,
            Direction::BackendToClient => to_client,
        }
    }

    /// A direction of a connection has stalled, or it moves again.
    pub fn stalled(&self, direction: Direction, stalled: bool) {
        let [(to_backend, _), (to_client, _)] = &self.stalled;
        let count = match direction {
            Direction::ClientToBackend => to_backend,
            Direction::BackendToClient => to_client,
        };
        if stalled {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn publish(&self) {
        for counter in &self.bytes {
            counter.publish();
        }
        for (count, shown) in &self.stalled {
            shown.set(count.load(Ordering::Relaxed));
        }
    }
}

/// What is counted of an endpoint.
#[derive(Debug)]
pub struct EndpointStats {
    /// Connections open now.
    pub connections: AtomicU32,
    shown: Gauge,
    failures: [Counter; DialFailure::ALL.len()],
}

impl EndpointStats {
    pub(super) fn new(exporter: &Exporter, backend: &str, endpoint: &str) -> Self {
        Self {
            connections: AtomicU32::new(0),
            shown: exporter.gauge(&table::ENDPOINT_CONNECTIONS, [backend, endpoint]),
            failures: DialFailure::ALL.map(|reason| {
                let labels = [backend, endpoint, reason.name()];
                Counter::new(exporter.counter(&table::DIAL_FAILURES, labels))
            }),
        }
    }

    /// Counts a failed attempt.
    pub fn dial_failed(&self, reason: DialFailure) {
        if let Some(failures) = self.failures.get(reason as usize) {
            failures.add(1);
        }
    }

    pub(super) fn publish(&self) {
        self.shown.set(self.connections.load(Ordering::Relaxed));
        for counter in &self.failures {
            counter.publish();
        }
    }
}

/// Connections that could not be accepted.
#[derive(Debug)]
pub struct AcceptStats([Counter; AcceptFailure::ALL.len()]);

impl AcceptStats {
    pub(super) fn new(exporter: &Exporter) -> Self {
        Self(
            AcceptFailure::ALL.map(|reason| {
                Counter::new(exporter.counter(&table::ACCEPT_ERRORS, [reason.name()]))
            }),
        )
    }

    /// Counts one.
    pub fn failed(&self, reason: AcceptFailure) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.add(1);
        }
    }

    pub(super) fn publish(&self) {
        for counter in &self.0 {
            counter.publish();
        }
    }
}

/// The limits in force and what they have rejected.
#[derive(Debug)]
pub struct LimitStats {
    values: [Gauge; Limit::ALL.len()],
    rejections: [Counter; Limit::ALL.len()],
}

impl LimitStats {
    pub(super) fn new(exporter: &Exporter) -> Self {
        let stats = Self {
            values: Limit::ALL.map(|limit| exporter.gauge(&table::LIMIT, [limit.name()])),
            rejections: Limit::ALL
                .map(|l| Counter::new(exporter.counter(&table::LIMIT_REJECTIONS, [l.name()]))),
        };
        for limit in Limit::ALL {
            stats.set(limit, None);
        }
        stats
    }

    /// Shows the value in force; `None` is no limit.
    pub fn set(&self, limit: Limit, value: Option<u64>) {
        if let Some(gauge) = self.values.get(limit as usize) {
            gauge.set(value.map_or(f64::INFINITY, gauge_value));
        }
    }

    /// Counts a connection that the limit rejected.
    pub fn rejected(&self, limit: Limit) {
        if let Some(rejections) = self.rejections.get(limit as usize) {
            rejections.add(1);
        }
    }

    pub(super) fn publish(&self) {
        for counter in &self.rejections {
            counter.publish();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn gauge_value(count: u64) -> f64 {
    count as f64
}
