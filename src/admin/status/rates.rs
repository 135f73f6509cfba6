//! Rates over the last minute, from the counters: samples that are taken every few seconds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enum_map::EnumMap;
use strum::VariantArray;

use crate::outcome::{Direction, Limit, Outcome};
use crate::snapshot::Snapshot;
use crate::status::{Rates, remedy};
use crate::telemetry::{Endings, Registry};

/// Time between two samples, and how many are kept: those of the last minute.
const EVERY: Duration = Duration::from_secs(5);
const KEPT: usize = 13;

/// The counters of a listener or a backend at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    connections: u64,
    failures: u64,
    bytes: [u64; 2],
}

/// The counters at one moment, by the positions of one snapshot.
#[derive(Clone, Debug)]
struct Sample {
    at: Instant,
    listeners: Vec<Counts>,
    routes: Vec<u64>,
    backends: Vec<Counts>,
    rejections: EnumMap<Limit, u64>,
}

/// The samples of the last minute. A reload that changes which listeners, routes and backends there are begins anew.
#[derive(Default)]
pub(super) struct Samples {
    snapshot: Option<Arc<Snapshot>>,
    kept: VecDeque<Sample>,
}

/// The rates, by the positions of one snapshot.
pub(super) struct Measured {
    pub(super) seconds: f64,
    pub(super) total: Rates,
    pub(super) listeners: Vec<Rates>,
    pub(super) routes: Vec<f64>,
    pub(super) backends: Vec<Rates>,
    /// Connections that each limit has rejected in this time.
    pub(super) rejections: EnumMap<Limit, u64>,
}

/// Connections that ended with an outcome for which something is to be done.
fn failures(endings: &Endings) -> u64 {
    let failing = Outcome::VARIANTS.iter().copied();
    let failing = failing.filter(|outcome| remedy(*outcome, None).is_some());
    failing.map(|outcome| endings.ended_as(outcome)).sum()
}

impl Sample {
    fn of(snapshot: &Snapshot, registry: &Registry, at: Instant) -> Self {
        let mut backends: Vec<Counts> = (snapshot.backends.iter())
            .map(|backend| Counts {
                bytes: [Direction::ClientToBackend, Direction::BackendToClient]
                    .map(|direction| backend.relay.stats.bytes(direction).get()),
                ..Counts::default()
            })
            .collect();
        let listeners = snapshot.listeners.iter().map(|listener| {
            let mut all = Counts {
                connections: listener.stats.accepted.get(),
                failures: failures(&listener.endings),
                bytes: [0; 2],
            };
            for (position, endings) in &listener.backend_endings {
                let failed = failures(endings);
                all.failures += failed;
                if let Some(backend) = backends.get_mut(*position) {
                    backend.connections += endings.begun();
                    backend.failures += failed;
                }
            }
            all
        });
        let listeners = listeners.collect();
        let routes = snapshot.route_connections.iter();
        Self {
            at,
            listeners,
            routes: routes.map(|counter| counter.get()).collect(),
            backends,
            rejections: EnumMap::from_fn(|limit| registry.limits().rejections(limit)),
        }
    }
}

impl Samples {
    /// Counts by this snapshot from now on.
    pub(super) fn adopt(&mut self, snapshot: &Arc<Snapshot>) {
        let is_alike = self
            .snapshot
            .as_deref()
            .is_some_and(|it| names(it).eq(names(snapshot)));
        if !is_alike {
            self.kept.clear();
        }
        self.snapshot = Some(Arc::clone(snapshot));
    }

    /// Takes a sample, if the last one is old enough.
    pub(super) fn sample(&mut self, snapshot: &Snapshot, registry: &Registry, now: Instant) {
        let is_due = |last: &Sample| now.saturating_duration_since(last.at) >= EVERY;
        if self.kept.back().is_none_or(is_due) {
            self.kept.push_back(Sample::of(snapshot, registry, now));
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
    }

    /// The rates since the oldest sample.
    pub(super) fn rates(&self, snapshot: &Snapshot, registry: &Registry) -> Measured {
        let now = Sample::of(snapshot, registry, Instant::now());
        let first = self.kept.front().unwrap_or(&now);
        let seconds = now.at.saturating_duration_since(first.at).as_secs_f64();
        let pairs = |now: &[Counts], first: &[Counts]| -> Vec<Rates> {
            let pairs = now.iter().zip(first);
            pairs
                .map(|(now, first)| now.since(first, seconds))
                .collect()
        };
        let backends = pairs(&now.backends, &first.backends);
        let listeners = pairs(&now.listeners, &first.listeners);
        let mut total = Rates::default();
        for listener in &listeners {
            total.connections_per_s += listener.connections_per_s;
            total.failures_per_s += listener.failures_per_s;
        }
        for backend in &backends {
            total.bytes_client_to_backend_per_s += backend.bytes_client_to_backend_per_s;
            total.bytes_backend_to_client_per_s += backend.bytes_backend_to_client_per_s;
        }
        let routes = now.routes.iter().zip(&first.routes);
        Measured {
            seconds,
            total,
            listeners,
            routes: routes
                .map(|(now, first)| per_second(*now, *first, seconds))
                .collect(),
            backends,
            rejections: EnumMap::from_fn(|limit| {
                now.rejections[limit].saturating_sub(first.rejections[limit])
            }),
        }
    }
}

impl Counts {
    fn since(&self, first: &Self, seconds: f64) -> Rates {
        let rate = |now, first| per_second(now, first, seconds);
        let [up, down] = self.bytes;
        let [up_before, down_before] = first.bytes;
        Rates {
            connections_per_s: rate(self.connections, first.connections),
            failures_per_s: rate(self.failures, first.failures),
            bytes_client_to_backend_per_s: rate(up, up_before),
            bytes_backend_to_client_per_s: rate(down, down_before),
        }
    }
}

/// A rate to three digits behind the point; 0 in the first moment, when there is none.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of a minute stay far below 2^53"
)]
fn per_second(now: u64, first: u64, seconds: f64) -> f64 {
    if seconds < 1.0 {
        return 0.0;
    }
    (now.saturating_sub(first) as f64 / seconds * 1e3).round() / 1e3
}

/// The names of everything that is counted, in order.
fn names(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    let listeners = snapshot.listeners.iter().map(|listener| &*listener.name);
    let routes = snapshot.routes.routes().iter().map(|route| &*route.name);
    let backends = snapshot.backends.iter().map(|it| &**it.pool.name());
    listeners
        .chain(["/"])
        .chain(routes)
        .chain(["/"])
        .chain(backends)
}
