//! What /proc tells of a process, and the limits of our own.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises our own soft limit of descriptors to the hard one.
pub(crate) fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
    .unwrap();
    limit.maximum.unwrap_or(u64::MAX)
}

/// Open descriptors.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Resident bytes that are no file.
pub(crate) fn resident(pid: u32) -> u64 {
    field(Path::new(&format!("/proc/{pid}/status")), "RssAnon:").unwrap() * 1024
}

/// How often the threads went to wait, over all of them: each wake-up is one.
pub(crate) fn wake_ups(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread may end between the listing and the look at it.
    let status = threads.filter_map(|thread| Some(thread.ok()?.path().join("status")));
    let waits = status.filter_map(|path| field(&path, "voluntary_ctxt_switches:"));
    waits.sum()
}

/// Processor time so far, user and system, in ticks of 10 ms.
pub(crate) fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name is in brackets and may hold anything.
    let fields = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .skip(11)
        .take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(path).ok()?;
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
