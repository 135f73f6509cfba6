//! The machine on which the comparison runs, and the day.

use std::fs;
use std::io;
use std::thread;
use std::time::SystemTime;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Processor, cores, kernel and load average, in one line.
pub fn describe() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim())
    });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let user = if rustix::process::geteuid().is_root() {
        "root"
    } else {
        "an ordinary user"
    };
    let load = load().map_or_else(|| "unknown".to_owned(), |load| load.to_string());
    format!(
        "{}, {cores} cores, Linux {}, {user}, load average {load} at the beginning",
        model.unwrap_or("unknown processor"),
        kernel.trim(),
    )
}

/// Today in UTC, as 2026-01-31.
pub fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.chars().take_while(|it| *it != 'T').collect()
}

/// The load average of the last minute.
pub fn load() -> Option<f64> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split_whitespace().next()?.parse().ok()
}

/// Raises the soft limit of descriptors to the hard one, which relays inherit; returns it.
pub fn raise_descriptors() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit)?;
    Ok(maximum.unwrap_or(u64::MAX))
}
