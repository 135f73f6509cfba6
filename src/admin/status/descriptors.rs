//! The open descriptors of the process.

use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// How long a count by listing holds: to list 18,000 descriptors takes 17 ms of a core.
const KEPT: Duration = Duration::from_secs(5);

const DIRECTORY: &str = "/proc/self/fd";

/// Counts the descriptors.
#[derive(Default)]
pub(super) struct Descriptors {
    /// The last count by listing, and its time.
    listed: Mutex<Option<(Instant, u64)>>,
}

impl Descriptors {
    /// How many are open; `None` if that cannot be told, because none is left to list them with.
    pub(super) fn count(&self) -> Option<u64> {
        // The size of the directory is their number since Linux 6.2, and 0 before.
        let size = fs::metadata(DIRECTORY).map(|directory| directory.len());
        let size = size.ok().filter(|size| *size > 0);
        size.or_else(|| self.listed(Instant::now()))
    }

    fn listed(&self, now: Instant) -> Option<u64> {
        let mut listed = lock(&self.listed);
        if let Some((time, count)) = *listed
            && now.saturating_duration_since(time) < KEPT
        {
            return Some(count);
        }
        let entries = fs::read_dir(DIRECTORY).ok()?;
        // One of them reads the directory.
        let count = entries.count().saturating_sub(1) as u64;
        *listed = Some((now, count));
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;
    use crate::telemetry::alone::alone;

    fn open(count: usize) -> Vec<File> {
        let files = (0..count).map(|_| File::open("/dev/null").unwrap());
        files.collect()
    }

    #[test]
    fn a_count_by_listing_holds_for_five_seconds() {
        if !alone("admin::status::descriptors::tests::a_count_by_listing_holds_for_five_seconds") {
            return;
        }
        let (descriptors, now) = (Descriptors::default(), Instant::now());
        let before = descriptors.listed(now).unwrap();
        let _files = open(50);
        assert_eq!(descriptors.listed(now + KEPT / 2), Some(before));
        assert_eq!(descriptors.listed(now + KEPT), Some(before + 50));
    }

    /// The limit is the process's own.
    #[test]
    fn descriptors_are_counted_without_one_for_it() {
        if !alone("admin::status::descriptors::tests::descriptors_are_counted_without_one_for_it") {
            return;
        }
        let descriptors = Descriptors::default();
        let Some(before) = fs::metadata(DIRECTORY).ok().filter(|it| it.len() > 0) else {
            eprintln!("DID NOT RUN: this needs Linux 6.2");
            return;
        };
        assert_eq!(descriptors.count(), descriptors.listed(Instant::now()));
        let _files = open(50);
        let low = Rlimit {
            current: Some(3),
            ..getrlimit(Resource::Nofile)
        };
        setrlimit(Resource::Nofile, low).unwrap();
        assert!(File::open("/dev/null").is_err());
        assert_eq!(descriptors.count(), Some(before.len() + 50));
    }
}
