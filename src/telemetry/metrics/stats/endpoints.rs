//! What is shown of an endpoint.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use enum_map::EnumMap;
use metrics::Gauge;

use super::{Counter, Exporter, table};
use crate::outcome::{AddressState, DialFailure};

/// What an endpoint tells of itself at a scrape.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndpointFigures {
    /// Connections to it.
    pub connections: u32,
    /// Its addresses, by state.
    pub addresses: EnumMap<AddressState, u32>,
}

type Ask = Box<dyn Fn() -> EndpointFigures + Send + Sync>;

/// What is counted of an endpoint.
pub struct EndpointStats {
    /// Asks the endpoint.
    ask: ArcSwapOption<Ask>,
    connections: Gauge,
    addresses: EnumMap<AddressState, Gauge>,
    failures: EnumMap<DialFailure, Counter>,
}

impl EndpointStats {
    pub(in crate::telemetry::metrics) fn new(
        exporter: &Exporter,
        backend: &str,
        endpoint: &str,
    ) -> Self {
        Self {
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
        }
    }

    /// Shows what this endpoint tells, from now on.
    pub fn show(&self, ask: impl Fn() -> EndpointFigures + Send + Sync + 'static) {
        self.ask.store(Some(Arc::new(Box::new(ask))));
    }

    /// Connections to the endpoint, dials under way included.
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

    pub(in crate::telemetry::metrics) fn publish(&self) {
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
