//! The counts of the connections that end in gaps.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Counter;
use crate::telemetry::metrics::{Exporter, table};

/// Connections that ended in gaps.
#[derive(Debug)]
pub struct DrainStats {
    in_gaps: AtomicU64,
    crossed: Counter,
}

impl DrainStats {
    pub(in crate::telemetry::metrics) fn new(exporter: &Exporter) -> Self {
        Self {
            in_gaps: AtomicU64::new(0),
            crossed: Counter::new(exporter.counter(&table::DRAIN_CROSSED, [])),
        }
    }

    /// Counts a connection that ended in a gap, and perhaps a request that crossed its end.
    pub fn parted(&self, is_crossed: bool) {
        self.in_gaps.fetch_add(1, Ordering::Relaxed);
        self.crossed.add(u64::from(is_crossed));
    }

    /// The connections that ended in gaps, and the requests that crossed an end.
    pub fn counts(&self) -> [u64; 2] {
        [self.in_gaps.load(Ordering::Relaxed), self.crossed.get()]
    }

    pub(in crate::telemetry::metrics) fn publish(&self) {
        self.crossed.publish();
    }
}
