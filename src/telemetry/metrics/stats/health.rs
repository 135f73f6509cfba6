//! The metrics of an endpoint's checks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use enum_map::EnumMap;
use metrics::Gauge;

use super::{Exporter, gauge_value, table};
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
    /// Present while a certificate is known.
    certificate: Option<Gauge>,
    checks: EnumMap<CheckResult, metrics::Counter>,
}

impl HealthStats {
    /// Counts a check.
    pub fn checked(&self, result: CheckResult) {
        self.checks[result].fetch_add(1, Ordering::Relaxed);
    }

    /// Shows them, whether the endpoint is healthy, and when its certificate expires, if that is known.
    pub(super) fn publish(
        &self,
        exporter: &Exporter,
        [backend, endpoint]: [&str; 2],
        (is_healthy, not_after): (bool, Option<u64>),
    ) {
        let mut shown = self.shown();
        let shown = shown.get_or_insert_with(|| Shown {
            health: None,
            certificate: None,
            checks: EnumMap::from_fn(|result: CheckResult| {
                let labels = [backend, endpoint, result.name()];
                exporter.counter(&table::HEALTH_CHECKS, labels)
            }),
        });
        let gauge = || exporter.gauge(&table::ENDPOINT_HEALTH, [backend, endpoint]);
        let health = shown.health.get_or_insert_with(gauge);
        health.set(f64::from(u8::from(is_healthy)));
        let gauge = || exporter.gauge(&table::CERTIFICATE_NOT_AFTER, [backend, endpoint]);
        if let Some(not_after) = not_after {
            let certificate = shown.certificate.get_or_insert_with(gauge);
            certificate.set(gauge_value(not_after));
        } else if shown.certificate.take().is_some() {
            exporter.forget_series(&[&table::CERTIFICATE_NOT_AFTER], [backend, endpoint]);
        }
        self.count(shown);
    }

    /// Shows the last counts of an endpoint that is gone, if they were shown before. Nobody checks it any more, so it has no
    /// series of its health and its certificate: an alert on its last state would last.
    pub(super) fn end(&self, exporter: &Exporter, labels: [&str; 2]) {
        let mut shown = self.shown();
        let Some(shown) = shown.as_mut() else { return };
        if shown.health.take().is_some() {
            shown.certificate = None;
            let series = [&table::ENDPOINT_HEALTH, &table::CERTIFICATE_NOT_AFTER];
            exporter.forget_series(&series, labels);
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
            let series = [
                &table::ENDPOINT_HEALTH,
                &table::HEALTH_CHECKS,
                &table::CERTIFICATE_NOT_AFTER,
            ];
            exporter.forget_series(&series, labels);
        }
    }
}
