//! The `process_` series, also when the process is out of descriptors, which is when they matter.

use std::fs::File;

use metrics::Recorder;
use metrics_process::Collector;
use rustix::process::{Resource, getrlimit};

use super::table::MAX_VIRTUAL_MEMORY;

/// Collects them. The collector opens the directory of the process in `/proc` and in it one file after
/// the other; without descriptors for that each series would keep its last value. So some are held in
/// reserve, one more than it takes: what is given up for a moment somebody else may get.
pub(super) struct Process {
    collector: Collector,
    reserve: Reserve,
}

type Reserve = [Option<File>; 3];

impl Default for Process {
    fn default() -> Self {
        Self {
            collector: Collector::default(),
            reserve: reserve(),
        }
    }
}

impl Process {
    pub(super) fn publish(&mut self, recorder: &impl Recorder) {
        self.reserve = Reserve::default();
        metrics::with_local_recorder(recorder, || {
            self.collector.collect();
            // The collector says 0 where there is no limit.
            if getrlimit(Resource::As).current.is_none() {
                metrics::gauge!(MAX_VIRTUAL_MEMORY.name).set(f64::INFINITY);
            }
        });
        self.reserve = reserve();
    }
}

/// What somebody else has taken comes back with a later page.
fn reserve() -> Reserve {
    std::array::from_fn(|_| File::open("/dev/null").ok())
}
