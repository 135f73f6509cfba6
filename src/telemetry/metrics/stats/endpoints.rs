//! The metrics of an endpoint.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use enum_map::EnumMap;
use metrics::Gauge;

use super::{Counter, Exporter, HealthStats, gauge_value, table};
use crate::outcome::{AddressState, DialFailure, ResolveFailure};

/// The figures that an endpoint gives at a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointFigures {
    /// Connections to it.
    pub connections: u32,
    /// Whether it is reached by a name, which is looked up again and again.
    pub is_resolved: bool,
    /// Its addresses, by state.
    pub addresses: EnumMap<AddressState, u32>,
    /// Whether one of them is healthy, if they are checked.
    pub is_healthy: Option<bool>,
    /// When the first of the certificates that its addresses have shown to checks expires, in seconds since 1970.
    pub certificate_not_after: Option<u64>,
    /// Whether the configuration in force does not have it any more.
    pub is_removed: bool,
}

/// The part of an endpoint among those of its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointRole {
    /// Its weight, 0 while it drains.
    pub weight: u16,
    /// Whether it is a backup.
    pub is_backup: bool,
}

/// Asks an endpoint for its figures; `None` once it is gone.
type Ask = Box<dyn Fn() -> Option<EndpointFigures> + Send + Sync>;

/// The counters of an endpoint.
pub struct EndpointStats {
    backend: Box<str>,
    endpoint: Box<str>,
    /// Endpoints of this name, with a number for each, the newest last. Those before it are reached in another way, by
    /// an earlier configuration, and still have connections.
    shown: Mutex<Vec<(usize, Ask)>>,
    connections: Gauge,
    addresses: EnumMap<AddressState, Gauge>,
    failures: EnumMap<DialFailure, Counter>,
    resolution: OnceLock<Resolution>,
    role: Mutex<Role>,
    health: OnceLock<HealthStats>,
}

/// The role that routes.toml gives the endpoint, if it does, and the series once they are shown.
#[derive(Default)]
struct Role {
    written: Option<EndpointRole>,
    shown: Option<[Gauge; 2]>,
}

impl EndpointStats {
    pub(in crate::telemetry::metrics) fn new(
        exporter: &Exporter,
        backend: &str,
        endpoint: &str,
    ) -> Self {
        Self {
            backend: backend.into(),
            endpoint: endpoint.into(),
            shown: Mutex::default(),
            connections: exporter.gauge(&table::ENDPOINT_CONNECTIONS, [backend, endpoint]),
            addresses: EnumMap::from_fn(|state: AddressState| {
                let labels = [backend, endpoint, state.name()];
                exporter.gauge(&table::ENDPOINT_ADDRESSES, labels)
            }),
            failures: EnumMap::from_fn(|reason: DialFailure| {
                let labels = [backend, endpoint, reason.name()];
                Counter::new(exporter.counter(&table::DIAL_FAILURES, labels))
            }),
            resolution: OnceLock::new(),
            role: Mutex::default(),
            health: OnceLock::new(),
        }
    }

    /// The name of its backend.
    pub const fn backend(&self) -> &str {
        &self.backend
    }

    /// Shows what this endpoint tells, from now on. The number is that of the endpoint alone as long as it lives.
    pub fn show(
        &self,
        number: usize,
        ask: impl Fn() -> Option<EndpointFigures> + Send + Sync + 'static,
    ) {
        let mut shown = self.shown();
        shown.retain(|(other, ask)| *other != number && ask().is_some());
        shown.push((number, Box::new(ask)));
    }

    /// Connections to the endpoint, and dials in progress.
    pub(in crate::telemetry::metrics) fn connections(&self) -> u32 {
        self.figures().map_or(0, |figures| figures.connections)
    }

    /// The figures of the newest endpoint, with the connections of all; `None` if all are gone.
    fn figures(&self) -> Option<EndpointFigures> {
        let shown = self.shown();
        let mut figures = shown.iter().filter_map(|(_, ask)| ask());
        let first = figures.next()?;
        Some(figures.fold(first, |before, newer| EndpointFigures {
            connections: before.connections + newer.connections,
            ..newer
        }))
    }

    // Every critical section leaves its data consistent, so a poisoned lock can be used.
    fn shown(&self) -> MutexGuard<'_, Vec<(usize, Ask)>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failed attempt.
    pub fn dial_failed(&self, reason: DialFailure) {
        self.failures[reason].add(1);
    }

    /// Failed attempts so far.
    pub fn dial_failures(&self, reason: DialFailure) -> u64 {
        self.failures[reason].get()
    }

    /// Shows the role of the endpoint from now on, or none.
    pub fn set_role(&self, role: Option<EndpointRole>) {
        self.role().written = role;
    }

    fn role(&self) -> MutexGuard<'_, Role> {
        self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_role(&self, exporter: &Exporter, labels: [&str; 2]) {
        let series = [&table::ENDPOINT_WEIGHT, &table::ENDPOINT_BACKUP];
        let mut role = self.role();
        let Role { written, shown } = &mut *role;
        if let Some(written) = written {
            let new = || series.map(|metric| exporter.gauge(metric, labels));
            let [weight, backup] = shown.get_or_insert_with(new);
            weight.set(f64::from(written.weight));
            backup.set(f64::from(u8::from(written.is_backup)));
        } else if shown.take().is_some() {
            exporter.forget_series(&series, labels);
        }
    }

    /// The counters of its name. Only an endpoint that is reached by a name has them.
    pub fn resolution(&self) -> &Resolution {
        self.resolution.get_or_init(Resolution::default)
    }

    /// The counters of its checks. Only an endpoint that is checked has them.
    pub fn health(&self) -> &HealthStats {
        self.health.get_or_init(HealthStats::default)
    }

    pub(in crate::telemetry::metrics) fn publish(&self, exporter: &Exporter) {
        let labels = [&*self.backend, &*self.endpoint];
        let figures = self.figures();
        let is_resolved = figures.is_some_and(|figures| figures.is_resolved);
        match (is_resolved, self.resolution.get()) {
            (true, _) => self.resolution().publish(exporter, labels),
            // Its name is not looked up any more.
            (false, Some(resolution)) if figures.is_some() => resolution.hide(exporter, labels),
            (false, Some(resolution)) => resolution.publish(exporter, labels),
            (false, None) => {}
        }
        self.publish_role(exporter, labels);
        let is_removed = figures.is_none_or(|figures| figures.is_removed);
        let figures = figures.unwrap_or_default();
        match (figures.is_healthy, self.health.get()) {
            (Some(is_healthy), _) if !is_removed => {
                let not_after = figures.certificate_not_after;
                let health = self.health();
                health.publish(exporter, labels, (is_healthy, not_after));
            }
            (_, Some(health)) if is_removed => health.end(exporter, labels),
            // It is not checked any more.
            (_, Some(health)) => health.hide(exporter, labels),
            (_, None) => {}
        }
        self.connections.set(figures.connections);
        for (state, shown) in &self.addresses {
            shown.set(figures.addresses[state]);
        }
        for counter in self.failures.values() {
            counter.publish();
        }
    }
}

impl fmt::Debug for EndpointStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointStats").finish_non_exhaustive()
    }
}

/// The counters of an endpoint that only a name has: its look-ups, and the races between the families of its addresses;
/// and their series once they are shown.
#[derive(Default)]
pub struct Resolution {
    /// Seconds since 1970; 0 before the first one that succeeded.
    resolved_at: AtomicU64,
    failures: EnumMap<ResolveFailure, AtomicU64>,
    outrun: AtomicU64,
    shown: Mutex<Option<Shown>>,
}

struct Shown {
    resolved_at: Gauge,
    failures: EnumMap<ResolveFailure, metrics::Counter>,
    outrun: metrics::Counter,
}

impl Resolution {
    /// Stores the time of a look-up that found an address that can be dialled.
    pub fn resolved(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = now.map_or(0, |now| now.as_secs());
        self.resolved_at.store(seconds, Ordering::Relaxed);
    }

    /// Counts a look-up that found no such address.
    pub fn failed(&self, reason: ResolveFailure) {
        self.failures[reason].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a dial that was given up, because one of the other family connected first.
    pub fn outrun(&self) {
        self.outrun.fetch_add(1, Ordering::Relaxed);
    }

    fn publish(&self, exporter: &Exporter, [backend, endpoint]: [&str; 2]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = shown.get_or_insert_with(|| Shown {
            resolved_at: exporter.gauge(&table::RESOLVED_AT, [backend, endpoint]),
            failures: EnumMap::from_fn(|reason: ResolveFailure| {
                let labels = [backend, endpoint, reason.name()];
                exporter.counter(&table::RESOLVE_FAILURES, labels)
            }),
            outrun: exporter.counter(&table::DIALS_OUTRUN, [backend, endpoint]),
        });
        let seconds = self.resolved_at.load(Ordering::Relaxed);
        shown.resolved_at.set(gauge_value(seconds));
        for (reason, count) in &self.failures {
            shown.failures[reason].absolute(count.load(Ordering::Relaxed));
        }
        let outrun = self.outrun.load(Ordering::Relaxed);
        shown.outrun.absolute(outrun);
    }

    /// Removes its series until it is published again.
    fn hide(&self, exporter: &Exporter, labels: [&str; 2]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.take().is_some() {
            let series = [
                &table::RESOLVED_AT,
                &table::RESOLVE_FAILURES,
                &table::DIALS_OUTRUN,
            ];
            exporter.forget_series(&series, labels);
        }
    }
}
