//! The metrics of an endpoint.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use enum_map::EnumMap;
use metrics::Gauge;

use super::{Counter, Exporter, gauge_value, table};
use crate::outcome::{AddressState, DialFailure, ResolveFailure};

/// The figures that an endpoint gives at a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointFigures {
    /// Connections to it.
    pub connections: u32,
    /// Its addresses, by state.
    pub addresses: EnumMap<AddressState, u32>,
}

type Ask = Box<dyn Fn() -> EndpointFigures + Send + Sync>;

/// The counters of an endpoint.
pub struct EndpointStats {
    backend: Box<str>,
    endpoint: Box<str>,
    /// Asks the endpoint for its figures.
    ask: ArcSwapOption<Ask>,
    connections: Gauge,
    addresses: EnumMap<AddressState, Gauge>,
    failures: EnumMap<DialFailure, Counter>,
    resolution: OnceLock<Resolution>,
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
            ask: ArcSwapOption::empty(),
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
        }
    }

    /// The name of its backend.
    pub const fn backend(&self) -> &str {
        &self.backend
    }

    /// Shows what this endpoint tells, from now on.
    pub fn show(&self, ask: impl Fn() -> EndpointFigures + Send + Sync + 'static) {
        self.ask.store(Some(Arc::new(Box::new(ask))));
    }

    /// Connections to the endpoint, and dials in progress.
    pub(in crate::telemetry::metrics) fn connections(&self) -> u32 {
        self.figures().connections
    }

    fn figures(&self) -> EndpointFigures {
        let figures = self.ask.load().as_ref().map(|ask| ask());
        figures.unwrap_or_default()
    }

    /// Counts a failed attempt.
    pub fn dial_failed(&self, reason: DialFailure) {
        self.failures[reason].add(1);
    }

    /// The counters of its look-ups. Only an endpoint that is a name has them.
    pub fn resolution(&self) -> &Resolution {
        self.resolution.get_or_init(Resolution::default)
    }

    pub(in crate::telemetry::metrics) fn publish(&self, exporter: &Exporter) {
        if let Some(resolution) = self.resolution.get() {
            resolution.publish(exporter, [&self.backend, &self.endpoint]);
        }
        let figures = self.figures();
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

/// The counters of the look-ups of an endpoint's name, and their series once they are shown.
#[derive(Default)]
pub struct Resolution {
    /// Seconds since 1970; 0 before the first one that succeeded.
    resolved_at: AtomicU64,
    failures: EnumMap<ResolveFailure, AtomicU64>,
    shown: OnceLock<Shown>,
}

struct Shown {
    resolved_at: Gauge,
    failures: EnumMap<ResolveFailure, metrics::Counter>,
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

    fn publish(&self, exporter: &Exporter, [backend, endpoint]: [&str; 2]) {
        let shown = self.shown.get_or_init(|| Shown {
            resolved_at: exporter.gauge(&table::RESOLVED_AT, [backend, endpoint]),
            failures: EnumMap::from_fn(|reason: ResolveFailure| {
                let labels = [backend, endpoint, reason.name()];
                exporter.counter(&table::RESOLVE_FAILURES, labels)
            }),
        });
        let seconds = self.resolved_at.load(Ordering::Relaxed);
        shown.resolved_at.set(gauge_value(seconds));
        for (reason, count) in &self.failures {
            shown.failures[reason].absolute(count.load(Ordering::Relaxed));
        }
    }
}
