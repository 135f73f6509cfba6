//! The counters of the data path: plain atomics, which a scrape publishes to the exporter.

mod config;
mod drain;
mod endpoints;
mod health;
mod workers;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use enum_map::EnumMap;
use metrics::{Gauge, Histogram};
use strum::VariantArray;

use super::Exporter;
use super::table;
use crate::outcome::{AcceptFailure, BackendAnswer, Direction, Handshake, Limit, Outcome, Reach};
pub use config::ConfigStats;
pub use drain::DrainStats;
pub use endpoints::{EndpointFigures, EndpointRole, EndpointStats, Resolution};
pub use health::HealthStats;
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
        // Release pairs with `get`: a reader that sees a connection closed also sees it accepted.
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

/// The counters of a listener.
#[derive(Debug)]
pub struct ListenerStats {
    /// Connections accepted.
    pub accepted: Counter,
    active: Gauge,
    forgotten: metrics::Counter,
}

impl ListenerStats {
    pub(super) fn new(exporter: &Exporter, listener: &str) -> Self {
        Self {
            accepted: Counter::new(exporter.counter(&table::ACCEPTED, [listener])),
            active: exporter.gauge(&table::ACTIVE, [listener]),
            forgotten: exporter.counter(&table::FORGOTTEN, [listener]),
        }
    }

    /// Publishes the counters. Read `closed` and `forgotten` before this call: then their sum never exceeds `accepted`.
    pub(super) fn publish(&self, closed: u64, forgotten: u64) {
        self.forgotten.absolute(forgotten);
        let active = self.accepted.publish().saturating_sub(closed + forgotten);
        self.active.set(gauge_value(active));
    }
}

/// The number of connections with one outcome, and its series once there is one.
#[derive(Debug, Default)]
struct Ending {
    count: AtomicU64,
    shown: OnceLock<metrics::Counter>,
}

/// Counts how the connections of one listener to one backend ended, or those without a backend.
#[derive(Debug)]
pub struct Endings {
    listener: Box<str>,
    backend: Option<Box<str>>,
    /// Connections that have chosen the backend.
    begun: AtomicU64,
    counts: EnumMap<Outcome, Ending>,
}

impl Endings {
    pub(super) fn new(listener: &str, backend: Option<&str>) -> Self {
        Self {
            listener: listener.into(),
            backend: backend.map(Into::into),
            begun: AtomicU64::new(0),
            counts: EnumMap::default(),
        }
    }

    /// Counts a connection that has chosen the backend. Call it before its end is counted.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that have chosen the backend so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Connections that have ended.
    pub fn ended(&self) -> u64 {
        let counts = self.counts.values();
        counts
            .map(|ending| ending.count.load(Ordering::Acquire))
            .sum()
    }

    /// Connections that have ended with this outcome.
    pub fn ended_as(&self, outcome: Outcome) -> u64 {
        self.counts[outcome].count.load(Ordering::Acquire)
    }

    /// Connections that have chosen the backend and have not ended.
    pub fn open(&self) -> u64 {
        let ended = self.ended();
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }

    /// Counts the end of a connection. Call it once for each one that
    /// [`ListenerStats::accepted`] counted.
    pub fn count(&self, outcome: Outcome) {
        // Release: see `Counter::add`.
        self.counts[outcome].count.fetch_add(1, Ordering::Release);
    }

    /// Publishes all counts, and returns their sum. An outcome that belongs to the other kind of backend label
    /// gets a series only if it occurs nevertheless, so that the sum stays exact.
    pub(super) fn publish(&self, exporter: &Exporter) -> u64 {
        let backend = self.backend.as_deref().unwrap_or(NO_BACKEND);
        let mut sum = 0;
        for (outcome, ending) in &self.counts {
            let count = ending.count.load(Ordering::Acquire);
            if count == 0 && !self.expects(outcome) {
                continue;
            }
            let labels = [&self.listener, backend, outcome.name()];
            ending
                .shown
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

/// The counters of a backend.
#[derive(Debug)]
pub struct BackendStats {
    bytes: EnumMap<Direction, Counter>,
    answers: EnumMap<BackendAnswer, Counter>,
    handshakes: EnumMap<Handshake, Counter>,
    stalled: EnumMap<Direction, (AtomicU32, Gauge)>,
    /// From the choice of the backend to a connected endpoint, in seconds.
    pub dial_seconds: Histogram,
}

impl BackendStats {
    pub(super) fn new(exporter: &Exporter, backend: &str) -> Self {
        Self {
            bytes: EnumMap::from_fn(|direction: Direction| {
                Counter::new(exporter.counter(&table::BYTES, [backend, direction.name()]))
            }),
            answers: EnumMap::from_fn(|answer: BackendAnswer| {
                Counter::new(exporter.counter(&table::ANSWERS, [backend, answer.name()]))
            }),
            handshakes: EnumMap::from_fn(|result: Handshake| {
                Counter::new(exporter.counter(&table::HANDSHAKES, [backend, result.name()]))
            }),
            stalled: EnumMap::from_fn(|direction: Direction| {
                let shown = exporter.gauge(&table::STALLED, [backend, direction.name()]);
                (AtomicU32::new(0), shown)
            }),
            dial_seconds: exporter.histogram(&table::DIAL, [backend]),
        }
    }

    /// Bytes relayed in a direction; add to it as they pass, not only at the close.
    pub fn bytes(&self, direction: Direction) -> &Counter {
        &self.bytes[direction]
    }

    /// Counts the first thing that the backend has said on a connection.
    pub fn answered(&self, answer: BackendAnswer) {
        self.answers[answer].add(1);
    }

    /// Counts the end of a handshake.
    pub fn shook_hands(&self, result: Handshake) {
        self.handshakes[result].add(1);
    }

    /// The handshakes that have ended so.
    pub fn handshakes(&self, result: Handshake) -> u64 {
        self.handshakes[result].get()
    }

    /// Counts that a direction of a connection has stalled, or that it moves again.
    pub fn stalled(&self, direction: Direction, stalled: bool) {
        let (count, _) = &self.stalled[direction];
        if stalled {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn publish(&self) {
        let counters = self.bytes.values();
        let counters = counters.chain(self.answers.values());
        for counter in counters.chain(self.handshakes.values()) {
            counter.publish();
        }
        for (count, shown) in self.stalled.values() {
            shown.set(count.load(Ordering::Relaxed));
        }
    }
}

/// Connections that could not be accepted.
#[derive(Debug)]
pub struct AcceptStats(EnumMap<AcceptFailure, Counter>);

impl AcceptStats {
    pub(super) fn new(exporter: &Exporter) -> Self {
        Self(EnumMap::from_fn(|reason: AcceptFailure| {
            Counter::new(exporter.counter(&table::ACCEPT_ERRORS, [reason.name()]))
        }))
    }

    /// Counts one failure.
    pub fn failed(&self, reason: AcceptFailure) {
        self.0[reason].add(1);
    }

    pub(super) fn publish(&self) {
        for counter in self.0.values() {
            counter.publish();
        }
    }
}

/// The limits in force and what they have rejected.
#[derive(Debug)]
pub struct LimitStats {
    values: EnumMap<Limit, Gauge>,
    rejections: EnumMap<Limit, Counter>,
}

impl LimitStats {
    pub(super) fn new(exporter: &Exporter) -> Self {
        let stats = Self {
            values: EnumMap::from_fn(|limit: Limit| exporter.gauge(&table::LIMIT, [limit.name()])),
            rejections: EnumMap::from_fn(|limit: Limit| {
                Counter::new(exporter.counter(&table::LIMIT_REJECTIONS, [limit.name()]))
            }),
        };
        for &limit in Limit::VARIANTS {
            stats.set(limit, None);
        }
        stats
    }

    /// Shows the value in force; `None` means no limit.
    pub fn set(&self, limit: Limit, value: Option<u64>) {
        self.values[limit].set(value.map_or(f64::INFINITY, gauge_value));
    }

    /// Connections that the limit has rejected.
    pub fn rejections(&self, limit: Limit) -> u64 {
        self.rejections[limit].get()
    }

    /// Counts a connection that the limit rejected.
    pub fn rejected(&self, limit: Limit) {
        self.rejections[limit].add(1);
    }

    pub(super) fn publish(&self) {
        for counter in self.rejections.values() {
            counter.publish();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn gauge_value(count: u64) -> f64 {
    count as f64
}
