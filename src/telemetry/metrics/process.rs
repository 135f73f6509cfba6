//! The `process_` series. They also work when the process is out of descriptors, which is when they matter.

use std::fs::File;

use metrics::Recorder;
use metrics_process::Collector;
use rustix::process::{Resource, getrlimit};

use super::table::MAX_VIRTUAL_MEMORY;

/// Collects them. The collector opens the directory of the process in `/proc`, and one file after the other
/// in it. Without descriptors for that each series would keep its last value. So some are held in reserve,
/// one more than the collector needs, because another thread may take one that is free for a moment.
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
            // The collector says 0 if there is no limit.
            if getrlimit(Resource::As).current.is_none() {
                metrics::gauge!(MAX_VIRTUAL_MEMORY.name).set(f64::INFINITY);
            }
        });
        self.reserve = reserve();
    }
}

/// Takes the reserve back. If another thread has taken a descriptor, a later page gets it back.
fn reserve() -> Reserve {
    std::array::from_fn(|_| File::open("/dev/null").ok())
}
