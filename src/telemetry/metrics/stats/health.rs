//! The metrics of an endpoint's checks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
    /// Absent once the endpoint is gone.
    health: Option<Gauge>,
    checks: EnumMap<CheckResult, metrics::Counter>,
}

impl HealthStats {
    /// Counts a check.
    pub fn checked(&self, result: CheckResult) {
        self.checks[result].fetch_add(1, Ordering::Relaxed);
    }

    /// Shows them, and whether the endpoint is healthy.
    pub(super) fn publish(
        &self,
        exporter: &Exporter,
        [backend, endpoint]: [&str; 2],
        is_healthy: bool,
    ) {
        let mut shown = self.shown();
        let shown = shown.get_or_insert_with(|| Shown {
            health: None,
            checks: EnumMap::from_fn(|result: CheckResult| {
                let labels = [backend, endpoint, result.name()];
                exporter.counter(&table::HEALTH_CHECKS, labels)
            }),
        });
        let gauge = || exporter.gauge(&table::ENDPOINT_HEALTH, [backend, endpoint]);
        let health = shown.health.get_or_insert_with(gauge);
        health.set(f64::from(u8::from(is_healthy)));
        self.count(shown);
    }

    /// Shows the last counts of an endpoint that is gone, if they were shown before. Nobody checks any more whether it is
    /// healthy, so it has no such series: an alert on its last state would last.
    pub(super) fn end(&self, exporter: &Exporter, labels: [&str; 2]) {
        let mut shown = self.shown();
        let Some(shown) = shown.as_mut() else { return };
        if shown.health.take().is_some() {
            exporter.forget_series(&[&table::ENDPOINT_HEALTH], labels);
        }
        self.count(shown);
    }

    fn count(&self, shown: &Shown) {
        for (result, count) in &self.checks {
            shown.checks[result].absolute(count.load(Ordering::Relaxed));
        }
    }

    fn shown(&self) -> MutexGuard<'_, Option<Shown>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes its series until it is published again.
    pub(super) fn hide(&self, exporter: &Exporter, labels: [&str; 2]) {
        if self.shown().take().is_some() {
            let series = [&table::ENDPOINT_HEALTH, &table::HEALTH_CHECKS];
            exporter.forget_series(&series, labels);
        }
    }
}
