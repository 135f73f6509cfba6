//! The metrics page. The data path counts in atomics of its own; a scrape publishes them to the
//! exporter under one lock, so that every page is exact: accepted = active + the sum of closed + forgotten.

mod census;
mod exporter;
mod predecessor;
mod process;
mod stats;
mod table;
mod things;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use metrics::{Gauge, Histogram};

pub use census::Census;
use exporter::Exporter;
pub use predecessor::{Figures, PredecessorFigures};
use process::Process;
use stats::ShownPipes;
pub use stats::{
    AcceptStats, BackendStats, ConfigStats, Counter, DrainStats, Endings, EndpointFigures,
    EndpointRole, EndpointStats, HealthStats, LimitStats, ListenerStats, PipeStats, Resolution,
    WorkerStats,
};
pub use table::{Kind, Metric, TABLE};
use things::Things;

use super::Vital;

/// Everything that portway counts. Entries are created on first use, by name, so their series survive
/// reloads. An entry has all its series from the start. They are removed once it has been neither
/// configured nor in use for five minutes.
pub struct Registry {
    exporter: Exporter,
    accepts: AcceptStats,
    limits: LimitStats,
    config: ConfigStats,
    pipes: ShownPipes,
    predecessor_connections: Gauge,
    pub(super) vital: Vital,
    /// From accept to a complete client hello, in seconds.
    pub client_hello_seconds: Histogram,
    /// Connections that ended in gaps.
    pub drain: DrainStats,
    /// Connection log lines that were summed up.
    pub lines_suppressed: Counter,
    lines_dropped: Arc<AtomicU64>,
    lines_dropped_shown: metrics::Counter,
    /// Held while a page is made, so that nothing else publishes and no series is removed.
    page: Mutex<Process>,
    /// Locked only for short moments.
    things: Mutex<Things>,
    workers: Mutex<BTreeMap<usize, Arc<WorkerStats>>>,
}

impl Registry {
    /// An empty registry with its own page.
    pub fn new() -> Arc<Self> {
        let exporter = Exporter::new();
        let build = exporter.gauge(&table::BUILD, [env!("CARGO_PKG_VERSION")]);
        build.set(1);
        Arc::new(Self {
            accepts: AcceptStats::new(&exporter),
            limits: LimitStats::new(&exporter),
            config: ConfigStats::new(&exporter),
            pipes: ShownPipes::new(&exporter),
            predecessor_connections: exporter.gauge(&table::PREDECESSOR_CONNECTIONS, []),
            vital: Vital::default(),
            client_hello_seconds: exporter.histogram(&table::HELLO, []),
            drain: DrainStats::new(&exporter),
            lines_suppressed: Counter::new(exporter.counter(&table::LINES_SUPPRESSED, [])),
            lines_dropped: Arc::default(),
            lines_dropped_shown: exporter.counter(&table::LINES_DROPPED, []),
            page: Mutex::default(),
            things: Mutex::default(),
            workers: Mutex::default(),
            exporter,
        })
    }

    /// Begins a new configuration, which asks for its entries after this call. The series of all others end.
    pub fn configure(&self) {
        self.things().configure();
    }

    /// The listener's counters.
    pub fn listener(&self, name: &str) -> Arc<ListenerStats> {
        let mut things = self.things();
        let configuration = things.configuration();
        let new = || ListenerStats::new(&self.exporter, name);
        things.listeners.get(name.into(), configuration, new)
    }

    /// Counts how the listener's connections to a backend ended, or those without a backend.
    pub fn endings(&self, listener: &str, backend: Option<&str>) -> Arc<Endings> {
        // Without the entry of its listener an ending would be missing in `active`.
        drop(self.listener(listener));
        let mut things = self.things();
        let configuration = things.configuration();
        let new = || {
            let endings = Endings::new(listener, backend);
            endings.publish(&self.exporter);
            endings
        };
        let key = (listener.into(), backend.map(Into::into));
        things.endings.get(key, configuration, new)
    }

    /// The endings of every listener's connections to each backend.
    pub fn endings_of_backends(&self) -> Vec<Arc<Endings>> {
        let things = self.things();
        let endings = things.endings.iter();
        let to_backends = endings.filter(|((_, backend), _)| backend.is_some());
        to_backends
            .map(|(_, endings)| Arc::clone(endings))
            .collect()
    }

    /// The connections that took a route.
    pub fn route(&self, name: &str) -> Arc<Counter> {
        let mut things = self.things();
        let configuration = things.configuration();
        let new = || Counter::new(self.exporter.counter(&table::ROUTED, [name]));
        things.routes.get(name.into(), configuration, new)
    }

    /// The backend's counters.
    pub fn backend(&self, name: &str) -> Arc<BackendStats> {
        let mut things = self.things();
        let configuration = things.configuration();
        let new = || BackendStats::new(&self.exporter, name);
        things.backends.get(name.into(), configuration, new)
    }

    /// The counters of a backend's endpoint, which is written as in routes.toml.
    pub fn endpoint(&self, backend: &str, endpoint: &str) -> Arc<EndpointStats> {
        let mut things = self.things();
        let configuration = things.configuration();
        let new = || EndpointStats::new(&self.exporter, backend, endpoint);
        let key = (backend.into(), endpoint.into());
        things.endpoints.get(key, configuration, new)
    }

    /// The pulse of a worker, from 0.
    pub fn worker(&self, index: usize) -> Arc<WorkerStats> {
        let mut workers = self.workers();
        let new = || Arc::new(WorkerStats::new(&self.exporter, index, Instant::now()));
        Arc::clone(workers.entry(index).or_insert_with(new))
    }

    /// The workers whose last tick is longer ago than `limit`.
    pub fn late_workers(&self, now: Instant, limit: Duration) -> Vec<usize> {
        let workers = self.workers();
        let late = workers.iter().filter(|(_, stats)| stats.age(now) > limit);
        late.map(|(index, _)| *index).collect()
    }

    /// The tasks that portway cannot do without.
    pub const fn vital(&self) -> &Vital {
        &self.vital
    }

    /// Failures to accept a connection.
    pub fn accepts(&self) -> &AcceptStats {
        &self.accepts
    }

    /// The limits in force, and the connections that they rejected.
    pub fn limits(&self) -> &LimitStats {
        &self.limits
    }

    /// The configuration in force.
    pub fn config(&self) -> &ConfigStats {
        &self.config
    }

    /// The count of log lines that [`super::lines::Lines`] drops.
    pub fn lines_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lines_dropped)
    }

    /// The page, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        self.render_beside(PredecessorFigures::None)
    }

    /// The same, with the figures of the process whose listeners this one has taken over. It takes long if
    /// there are many series, and one page is made at a time, so do not call it on a thread that others wait for.
    pub fn render_beside(&self, predecessor: PredecessorFigures) -> String {
        let mut process = self.page.lock().unwrap_or_else(PoisonError::into_inner);
        self.predecessor_connections.set(predecessor.connections());
        self.publish();
        process.publish(&self.exporter);
        predecessor.complete(self.exporter.render())
    }

    /// Collects the samples of histograms, which otherwise pile up until the next scrape, and removes the series
    /// of entries that are gone. Call it every few seconds.
    pub fn upkeep(&self, now: Instant) {
        self.exporter.take_samples();
        let _no_page = match self.page.try_lock() {
            Ok(page) => page,
            Err(TryLockError::Poisoned(page)) => page.into_inner(),
            // Do not change the series of a page that is being made: it must add up.
            Err(TryLockError::WouldBlock) => return,
        };
        let mut things = self.things();
        let ended = things.end_unused(now);
        if !ended.is_empty() {
            self.exporter.forget(&ended);
        }
    }

    /// Blocks the making of a page while the result lives.
    #[cfg(test)]
    pub(crate) fn hold_page(&self) -> impl Sized {
        self.page.lock().unwrap()
    }

    fn publish(&self) {
        let things = self.things();
        // Read the closed connections before the accepted ones, so that `active` is never negative and the
        // page adds up.
        let mut closed: HashMap<&str, u64> = HashMap::new();
        for ((listener, _), endings) in things.endings.iter() {
            *closed.entry(listener).or_default() += endings.publish(&self.exporter);
        }
        for (name, listener) in things.listeners.iter() {
            let closed = closed.get(&**name).copied().unwrap_or(0);
            listener.publish(closed, things.forgotten(name));
        }
        for (_, counter) in things.routes.iter() {
            counter.publish();
        }
        for (_, backend) in things.backends.iter() {
            backend.publish();
        }
        for (_, endpoint) in things.endpoints.iter() {
            endpoint.publish(&self.exporter);
        }
        drop(things);
        let workers = self.workers();
        let now = Instant::now();
        for worker in workers.values() {
            worker.publish(now);
        }
        let pipes = workers.values().map(|worker| &worker.pipes);
        self.pipes.publish(pipes);
        drop(workers);
        self.accepts.publish();
        self.limits.publish();
        self.config.publish();
        self.drain.publish();
        self.lines_suppressed.publish();
        let dropped = self
            .lines_dropped
            .load(std::sync::atomic::Ordering::Relaxed);
        self.lines_dropped_shown.absolute(dropped);
    }

    // Every critical section leaves its data consistent, so a poisoned lock can be used.

    fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<WorkerStats>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
