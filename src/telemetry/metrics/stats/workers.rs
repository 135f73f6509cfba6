//! The metrics of workers: their pulse and their pipes.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics::Gauge;

use super::gauge_value;
use crate::telemetry::metrics::{Exporter, table};

/// The pipes of a worker, as of its last tick.
#[derive(Debug, Default)]
pub struct PipeStats {
    /// Empty ones in its pool.
    pub idle: AtomicUsize,
    /// Those that hold bytes of a connection.
    pub lent: AtomicUsize,
    /// Reads that were copied because no pipe was available.
    pub fallbacks: AtomicU64,
}

/// The pipes of all workers together.
#[derive(Debug)]
pub(in crate::telemetry::metrics) struct ShownPipes {
    idle: Gauge,
    lent: Gauge,
    fallbacks: metrics::Counter,
}

impl ShownPipes {
    pub(in crate::telemetry::metrics) fn new(exporter: &Exporter) -> Self {
        Self {
            idle: exporter.gauge(&table::PIPES, ["idle"]),
            lent: exporter.gauge(&table::PIPES, ["lent"]),
            fallbacks: exporter.counter(&table::PIPE_FALLBACKS, []),
        }
    }

    pub(in crate::telemetry::metrics) fn publish<'a>(
        &self,
        workers: impl Iterator<Item = &'a PipeStats>,
    ) {
        let (mut idle, mut lent, mut fallbacks) = (0, 0, 0);
        for pipes in workers {
            idle += pipes.idle.load(Ordering::Relaxed) as u64;
            lent += pipes.lent.load(Ordering::Relaxed) as u64;
            fallbacks += pipes.fallbacks.load(Ordering::Relaxed);
        }
        self.idle.set(gauge_value(idle));
        self.lent.set(gauge_value(lent));
        self.fallbacks.absolute(fallbacks);
    }
}

/// The period of the tick of a worker, which also comes when nothing happens.
const TURN: Duration = Duration::from_secs(1);

/// The pulse of a worker. The worker must stamp it every few seconds, also when nothing happens.
#[derive(Debug)]
pub struct WorkerStats {
    /// Its pipes.
    pub pipes: PipeStats,
    started: Instant,
    /// Milliseconds from `started` to the last tick.
    turned: AtomicU64,
    lateness: Gauge,
}

impl WorkerStats {
    pub(in crate::telemetry::metrics) fn new(
        exporter: &Exporter,
        worker: usize,
        now: Instant,
    ) -> Self {
        Self {
            pipes: PipeStats::default(),
            started: now,
            turned: AtomicU64::new(0),
            lateness: exporter.gauge(&table::WORKER_LATENESS, [worker.to_string().as_str()]),
        }
    }

    /// Stamps the pulse: the worker has ticked.
    pub fn turn(&self, now: Instant) {
        let millis = now.saturating_duration_since(self.started).as_millis();
        self.turned
            .store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Marks a worker that has ended in order, so that it never counts as late.
    pub fn end(&self) {
        self.turned.store(u64::MAX, Ordering::Relaxed);
    }

    /// Time since the last tick, or since the worker was registered.
    pub fn age(&self, now: Instant) -> Duration {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        now.saturating_duration_since(self.started)
            .saturating_sub(turned)
    }

    pub(in crate::telemetry::metrics) fn publish(&self, now: Instant) {
        let lateness = self.age(now).saturating_sub(TURN);
        self.lateness.set(lateness.as_secs_f64());
    }
}
