//! The metrics of an endpoint's checks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use enum_map::EnumMap;
use metrics::Gauge;

use super::{Exporter, table};
use crate::outcome::CheckResult;

/// The counters of the checks of an endpoint, and their series once they are shown.
#[derive(Default)]
pub struct HealthStats {
    checks: EnumMap<CheckResult, AtomicU64>,
    shown: Mutex<Option<Shown>>,
}

struct Shown {
    health: Gauge,
    checks: EnumMap<CheckResult, metrics::Counter>,
}

impl HealthStats {
    /// Counts a check.
    pub fn checked(&self, result: CheckResult) {
        self.checks[result].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn publish(
        &self,
        exporter: &Exporter,
        [backend, endpoint]: [&str; 2],
        is_healthy: Option<bool>,
    ) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.get_or_insert_with(|| Shown {
            health: exporter.gauge(&table::ENDPOINT_HEALTH, [backend, endpoint]),
            checks: EnumMap::from_fn(|result: CheckResult| {
                let labels = [backend, endpoint, result.name()];
                exporter.counter(&table::HEALTH_CHECKS, labels)
            }),
        });
        // An endpoint that is gone keeps its last state as long as its series.
        if let Some(is_healthy) = is_healthy {
            shown.health.set(f64::from(u8::from(is_healthy)));
        }
        for (result, count) in &self.checks {
            shown.checks[result].absolute(count.load(Ordering::Relaxed));
        }
    }

    /// Removes its series until it is published again.
    pub(super) fn hide(&self, exporter: &Exporter, labels: [&str; 2]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.take().is_some() {
            let series = [&table::ENDPOINT_HEALTH, &table::HEALTH_CHECKS];
            exporter.forget_series(&series, labels);
        }
    }
}
