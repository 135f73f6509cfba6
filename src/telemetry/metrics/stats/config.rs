//! The metrics of the configuration in force.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use enum_map::EnumMap;
use metrics::Gauge;

use super::{Counter, Exporter, table};
use crate::outcome::WatchMode;

/// The configuration in force, and how reloads ended.
#[derive(Debug)]
pub struct ConfigStats {
    succeeded: Counter,
    failed: Counter,
    successful: Gauge,
    loaded_at: Gauge,
    generation: Gauge,
    in_force: AtomicU64,
    hash: Gauge,
    control_socket: Gauge,
    watch: EnumMap<WatchMode, Gauge>,
}

impl ConfigStats {
    pub(in crate::telemetry::metrics) fn new(exporter: &Exporter) -> Self {
        let reloads = |result| Counter::new(exporter.counter(&table::RELOADS, [result]));
        let gauge = |metric| exporter.gauge(metric, []);
        let stats = Self {
            succeeded: reloads("success"),
            failed: reloads("failure"),
            successful: gauge(&table::RELOAD_SUCCESSFUL),
            loaded_at: gauge(&table::RELOAD_TIME),
            generation: gauge(&table::GENERATION),
            in_force: AtomicU64::new(0),
            hash: gauge(&table::CONFIG_HASH),
            control_socket: gauge(&table::CONTROL_SOCKET),
            watch: EnumMap::from_fn(|mode: WatchMode| exporter.gauge(&table::WATCH, [mode.name()])),
        };
        stats.watches(WatchMode::Off);
        stats
    }

    /// Shows that a configuration is in force: the first one, or that of a reload.
    pub fn loaded(&self, generation: u64, hash: u32) {
        if generation > 1 {
            self.succeeded.add(1);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.loaded_at
            .set(now.unwrap_or(Duration::ZERO).as_secs_f64().trunc());
        self.successful.set(1);
        self.in_force.store(generation, Ordering::Relaxed);
        self.generation.set(super::gauge_value(generation));
        self.hash.set(hash);
    }

    /// The number of the configuration in force.
    pub fn generation(&self) -> u64 {
        self.in_force.load(Ordering::Relaxed)
    }

    /// Counts a reload that failed: the configuration in force stays.
    pub fn failed(&self) {
        self.failed.add(1);
        self.successful.set(0);
    }

    /// Shows how portway notices changes of the file.
    pub fn watches(&self, mode: WatchMode) {
        for (one, shown) in &self.watch {
            shown.set(u32::from(one == mode));
        }
    }

    /// Shows whether this process has the control socket.
    pub fn control_socket(&self, is_ours: bool) {
        self.control_socket.set(u32::from(is_ours));
    }

    pub(in crate::telemetry::metrics) fn publish(&self) {
        self.succeeded.publish();
        self.failed.publish();
    }
}
