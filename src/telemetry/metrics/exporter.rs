//! The series, and the page that shows them. The recorder of `metrics-exporter-prometheus` removes series after a
//! time without changes, also those of a backend that is only quiet. So portway uses its text format and the
//! registry beneath it, and removes the series of an entry when the entry ends.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::atomics::AtomicU64;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Label, Level, Metadata, Recorder,
    SharedString, Unit,
};
use metrics_exporter_prometheus::LabelSet;
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};
use metrics_util::registry::{Registry, Storage};
use metrics_util::storage::{AtomicBucket, Histogram as Buckets};

use super::table::{Kind, Metric, TABLE};

/// All series. Only metrics of the table appear on the page.
pub(super) struct Exporter {
    series: Registry<Key, Cells>,
}

/// The thing that a series belongs to: the values of those of its labels that are names in routes.toml.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Thing([Option<Box<str>>; 4]);

const NAMES: [&str; 4] = ["listener", "route", "backend", "endpoint"];

impl Thing {
    /// That of series with these labels.
    pub(super) fn new(labels: &[(&str, &str)]) -> Self {
        let value = |name| labels.iter().find(|(key, _)| *key == name);
        Self(NAMES.map(|name| value(name).map(|(_, value)| (*value).into())))
    }

    fn of(key: &Key) -> Self {
        let labels: Vec<_> = key
            .labels()
            .map(|label| (label.key(), label.value()))
            .collect();
        Self::new(&labels)
    }
}

impl Exporter {
    pub(super) fn new() -> Self {
        Self {
            series: Registry::new(Cells),
        }
    }

    pub(super) fn counter<const N: usize>(&self, metric: &Metric, labels: [&str; N]) -> Counter {
        self.register_counter(&key(metric, labels), &METADATA)
    }

    pub(super) fn gauge<const N: usize>(&self, metric: &Metric, labels: [&str; N]) -> Gauge {
        self.register_gauge(&key(metric, labels), &METADATA)
    }

    pub(super) fn histogram<const N: usize>(
        &self,
        metric: &Metric,
        labels: [&str; N],
    ) -> Histogram {
        self.register_histogram(&key(metric, labels), &METADATA)
    }

    /// Removes the series of these things. Handles of them still work, and show nothing.
    pub(super) fn forget(&self, things: &HashSet<Thing>) {
        let stays = |key: &Key| !things.contains(&Thing::of(key));
        self.series.retain_counters(|key, _| stays(key));
        self.series.retain_gauges(|key, _| stays(key));
        self.series.retain_histograms(|key, _| stays(key));
    }

    /// Removes the series of these metrics that an endpoint has. Handles of them still work, and show nothing.
    pub(super) fn forget_series(&self, metrics: &[&Metric], [backend, endpoint]: [&str; 2]) {
        let thing = Thing::new(&[("backend", backend), ("endpoint", endpoint)]);
        let is_of = |key: &Key| metrics.iter().any(|metric| metric.name == key.name());
        let stays = |key: &Key| !is_of(key) || Thing::of(key) != thing;
        self.series.retain_counters(|key, _| stays(key));
        self.series.retain_gauges(|key, _| stays(key));
    }

    /// Collects the samples of histograms, which pile up until this call.
    pub(super) fn take_samples(&self) {
        self.series
            .visit_histograms(|_, samples| drop(samples.taken()));
    }

    /// The page, metric by metric in the order of the table.
    pub(super) fn render(&self) -> String {
        let mut page = String::new();
        for metric in TABLE {
            let head = page.len();
            write_help_line(&mut page, metric.name, None, None, metric.help);
            write_type_line(&mut page, metric.name, None, None, metric.kind.name());
            let lines = page.len();
            self.write_series(metric, &mut page);
            if page.len() == lines {
                page.truncate(head);
            } else {
                page.push('\n');
            }
        }
        page
    }

    fn write_series(&self, metric: &Metric, page: &mut String) {
        use std::sync::atomic::Ordering::Acquire;
        let name = metric.name;
        match metric.kind {
            Kind::Counter => self.series.visit_counters(|key, count| {
                if key.name() == name {
                    let count = count.load(Acquire);
                    write_metric_line(page, name, None, &labels(key), NO_LE, count, None);
                }
            }),
            Kind::Gauge => self.series.visit_gauges(|key, value| {
                if key.name() == name {
                    let value = f64::from_bits(value.load(Acquire)).to_string();
                    // Prometheus writes infinity as `+Inf`, Rust as `inf`.
                    let value = if value == "inf" { "+Inf" } else { &value };
                    write_metric_line(page, name, None, &labels(key), NO_LE, value, None);
                }
            }),
            Kind::Histogram(_) => self.series.visit_histograms(|key, samples| {
                if key.name() == name {
                    samples.write(page, name, &labels(key));
                }
            }),
        }
    }
}

static METADATA: Metadata<'static> = Metadata::new("portway", Level::INFO, None);

fn key<const N: usize>(metric: &Metric, values: [&str; N]) -> Key {
    let labels = metric.labels.iter().zip(values);
    let labels: Vec<Label> = labels
        .map(|(key, value)| Label::new(*key, value.to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}

#[expect(
    clippy::default_trait_access,
    reason = "the map is of a crate that only the exporter knows"
)]
fn labels(key: &Key) -> LabelSet {
    LabelSet::from_key_and_global(key, &Default::default())
}

/// Marks a line without the label `le` of a bucket.
const NO_LE: Option<(&str, f64)> = None;

/// Registers the `process_` series. Their help text comes from the table.
impl Recorder for Exporter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let handle = |count: &Arc<AtomicU64>| Arc::clone(count).into();
        self.series.get_or_create_counter(key, handle)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let handle = |value: &Arc<AtomicU64>| Arc::clone(value).into();
        self.series.get_or_create_gauge(key, handle)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let handle = |samples: &Arc<Samples>| Arc::clone(samples).into();
        self.series.get_or_create_histogram(key, handle)
    }
}

/// The storage of series.
struct Cells;

impl Storage<Key> for Cells {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Samples>;

    fn counter(&self, _: &Key) -> Self::Counter {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Self::Gauge {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Self::Histogram {
        let metric = TABLE.iter().find(|metric| metric.name == key.name());
        let buckets = metric.and_then(|metric| match metric.kind {
            Kind::Histogram(bounds) => Buckets::new(bounds),
            Kind::Counter | Kind::Gauge => None,
        });
        #[expect(clippy::expect_used, reason = "else no process starts, and no test")]
        let buckets = buckets.expect("a histogram is in the table, with bounds");
        Arc::new(Samples {
            recorded: AtomicBucket::new(),
            taken: Mutex::new(buckets),
        })
    }
}

/// A histogram. Workers record samples without waiting for a reader.
struct Samples {
    recorded: AtomicBucket<f64>,
    taken: Mutex<Buckets>,
}

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.recorded.push(value);
    }
}

impl Samples {
    /// All samples that were recorded so far, in buckets.
    fn taken(&self) -> MutexGuard<'_, Buckets> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.recorded
            .clear_with(|samples| taken.record_many(samples));
        taken
    }

    fn write(&self, page: &mut String, name: &str, labels: &LabelSet) {
        let taken = self.taken();
        let bucket = Some("bucket");
        for (le, count) in taken.buckets() {
            write_metric_line(page, name, bucket, labels, Some(("le", le)), count, None);
        }
        let (sum, count) = (taken.sum(), taken.count());
        write_metric_line(
            page,
            name,
            bucket,
            labels,
            Some(("le", "+Inf")),
            count,
            None,
        );
        write_metric_line(page, name, Some("sum"), labels, NO_LE, sum, None);
        write_metric_line(page, name, Some("count"), labels, NO_LE, count, None);
    }
}
