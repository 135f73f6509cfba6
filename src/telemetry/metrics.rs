//! The metrics page. The data path counts in atomics of its own; a scrape publishes them to the
//! exporter under one lock, so that every page is exact: accepted = active + the sum of closed.

mod predecessor;
mod process;
mod stats;
mod table;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

pub use predecessor::{Figures, PredecessorFigures};
use process::Process;
use stats::ShownPipes;
pub use stats::{
    AcceptStats, BackendStats, ConfigStats, Counter, Endings, EndpointFigures, EndpointStats,
    LimitStats, ListenerStats, PipeStats, WorkerStats,
};
pub use table::{Kind, Metric, TABLE};

use super::Vital;

/// All that is counted. Things are got or made by name, so their series survive reloads; each has
/// all its series from then on.
pub struct Registry {
    exporter: Exporter,
    accepts: AcceptStats,
    limits: LimitStats,
    config: ConfigStats,
    pipes: ShownPipes,
    predecessor_connections: Gauge,
    pub(super) vital: Vital,
    /// From accept to a whole client hello, in seconds.
    pub client_hello_seconds: Histogram,
    /// Connection log lines that were summed up.
    pub lines_suppressed: Counter,
    lines_dropped: Arc<AtomicU64>,
    lines_dropped_shown: metrics::Counter,
    /// Held while a page is made: nobody else publishes.
    tables: Mutex<Tables>,
}

type EndingsKey = (Box<str>, Option<Box<str>>);

#[derive(Default)]
struct Tables {
    listeners: BTreeMap<Box<str>, Arc<ListenerStats>>,
    /// By listener, then by backend.
    endings: BTreeMap<EndingsKey, Arc<Endings>>,
    routes: BTreeMap<Box<str>, Arc<Counter>>,
    backends: BTreeMap<Box<str>, Arc<BackendStats>>,
    endpoints: BTreeMap<(Box<str>, Box<str>), Arc<EndpointStats>>,
    workers: BTreeMap<usize, Arc<WorkerStats>>,
    process: Process,
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
            lines_suppressed: Counter::new(exporter.counter(&table::LINES_SUPPRESSED, [])),
            lines_dropped: Arc::default(),
            lines_dropped_shown: exporter.counter(&table::LINES_DROPPED, []),
            tables: Mutex::default(),
            exporter,
        })
    }

    /// The listener's counters.
    pub fn listener(&self, name: &str) -> Arc<ListenerStats> {
        let mut tables = self.tables();
        let stats = tables
            .listeners
            .entry(name.into())
            .or_insert_with(|| Arc::new(ListenerStats::new(&self.exporter, name)));
        Arc::clone(stats)
    }

    /// The endings of the listener's connections to a backend, or to none.
    pub fn endings(&self, listener: &str, backend: Option<&str>) -> Arc<Endings> {
        // An ending without its listener would be missing in `active`.
        drop(self.listener(listener));
        let mut tables = self.tables();
        let key = (listener.into(), backend.map(Into::into));
        let endings = tables.endings.entry(key).or_insert_with(|| {
            let endings = Endings::new(listener, backend);
            endings.publish(&self.exporter);
            Arc::new(endings)
        });
        Arc::clone(endings)
    }

    /// The connections that took a route.
    pub fn route(&self, name: &str) -> Arc<Counter> {
        let mut tables = self.tables();
        let counter = tables.routes.entry(name.into()).or_insert_with(|| {
            Arc::new(Counter::new(self.exporter.counter(&table::ROUTED, [name])))
        });
        Arc::clone(counter)
    }

    /// The backend's counters.
    pub fn backend(&self, name: &str) -> Arc<BackendStats> {
        let mut tables = self.tables();
        let stats = tables
            .backends
            .entry(name.into())
            .or_insert_with(|| Arc::new(BackendStats::new(&self.exporter, name)));
        Arc::clone(stats)
    }

    /// The counters of a backend's endpoint, which is written as in routes.toml.
    pub fn endpoint(&self, backend: &str, endpoint: &str) -> Arc<EndpointStats> {
        let mut tables = self.tables();
        let stats = tables
            .endpoints
            .entry((backend.into(), endpoint.into()))
            .or_insert_with(|| Arc::new(EndpointStats::new(&self.exporter, backend, endpoint)));
        Arc::clone(stats)
    }

    /// The pulse of a worker, from 0.
    pub fn worker(&self, index: usize) -> Arc<WorkerStats> {
        let mut tables = self.tables();
        let stats = tables
            .workers
            .entry(index)
            .or_insert_with(|| Arc::new(WorkerStats::new(&self.exporter, index, Instant::now())));
        Arc::clone(stats)
    }

    /// The workers that have not turned for longer than `limit`.
    pub fn late_workers(&self, now: Instant, limit: Duration) -> Vec<usize> {
        let tables = self.tables();
        let late = tables
            .workers
            .iter()
            .filter(|(_, stats)| stats.age(now) > limit);
        late.map(|(index, _)| *index).collect()
    }

    /// The tasks that portway cannot do without.
    pub const fn vital(&self) -> &Vital {
        &self.vital
    }

    /// What failed at accepting.
    pub fn accepts(&self) -> &AcceptStats {
        &self.accepts
    }

    /// The limits.
    pub fn limits(&self) -> &LimitStats {
        &self.limits
    }

    /// The configuration.
    pub fn config(&self) -> &ConfigStats {
        &self.config
    }

    /// The count for [`super::lines::Lines`] to lose lines into.
    pub fn lines_dropped(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lines_dropped)
    }

    /// The page, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        self.render_beside(PredecessorFigures::None)
    }

    /// The same with what is known of the process whose listeners this one has taken over.
    pub fn render_beside(&self, predecessor: PredecessorFigures) -> String {
        let mut tables = self.tables();
        self.predecessor_connections.set(predecessor.connections());
        self.publish(&mut tables);
        let page = predecessor.complete(self.exporter.recorder.handle().render());
        // The exporter writes what Rust does.
        page.replace(" inf\n", " +Inf\n")
    }

    /// Takes in what histograms have recorded, which otherwise grows until the next scrape. Call
    /// it every few seconds.
    pub fn upkeep(&self) {
        self.exporter.recorder.handle().run_upkeep();
    }

    fn publish(&self, tables: &mut Tables) {
        // What is closed is read before what is accepted: active never is negative, and the page
        // adds up.
        let mut closed: HashMap<&str, u64> = HashMap::new();
        for ((listener, _), endings) in &tables.endings {
            *closed.entry(listener).or_default() += endings.publish(&self.exporter);
        }
        for (name, listener) in &tables.listeners {
            listener.publish(closed.get(&**name).copied().unwrap_or(0));
        }
        for counter in tables.routes.values() {
            counter.publish();
        }
        for backend in tables.backends.values() {
            backend.publish();
        }
        for endpoint in tables.endpoints.values() {
            endpoint.publish();
        }
        let now = Instant::now();
        for worker in tables.workers.values() {
            worker.publish(now);
        }
        self.pipes
            .publish(tables.workers.values().map(|worker| &worker.pipes));
        self.accepts.publish();
        self.limits.publish();
        self.config.publish();
        self.lines_suppressed.publish();
        let dropped = self
            .lines_dropped
            .load(std::sync::atomic::Ordering::Relaxed);
        self.lines_dropped_shown.absolute(dropped);
        tables.process.publish(&self.exporter.recorder);
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every critical section leaves the tables whole, so a poisoned lock is as good.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exporter, which only takes metrics of the table, with all their labels.
struct Exporter {
    recorder: PrometheusRecorder,
}

static METADATA: Metadata<'static> = Metadata::new("portway", Level::INFO, None);

impl Exporter {
    fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for metric in TABLE {
            if let Kind::Histogram(bounds) = metric.kind {
                let matcher = Matcher::Full(metric.name.to_owned());
                let with_bounds = builder.set_buckets_for_metric(matcher, bounds);
                #[expect(clippy::expect_used, reason = "else no process starts, and no test")]
                let with_bounds = with_bounds.expect("a histogram of the table has bounds");
                builder = with_bounds;
            }
        }
        let recorder = builder.build_recorder();
        for metric in TABLE {
            let (name, help) = (KeyName::from_const_str(metric.name), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
            }
        }
        Self { recorder }
    }

    fn counter<const N: usize>(&self, metric: &Metric, labels: [&str; N]) -> metrics::Counter {
        self.recorder
            .register_counter(&key(metric, labels), &METADATA)
    }

    fn gauge<const N: usize>(&self, metric: &Metric, labels: [&str; N]) -> Gauge {
        self.recorder
            .register_gauge(&key(metric, labels), &METADATA)
    }

    fn histogram<const N: usize>(&self, metric: &Metric, labels: [&str; N]) -> Histogram {
        self.recorder
            .register_histogram(&key(metric, labels), &METADATA)
    }
}

fn key<const N: usize>(metric: &Metric, values: [&str; N]) -> Key {
    let labels = metric.labels.iter().zip(values);
    let labels: Vec<Label> = labels
        .map(|(key, value)| Label::new(*key, value.to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}
