//! Everything that portway reports: metrics, the connection log, the program log.

#[cfg(test)]
pub mod alone;
mod connections;
pub mod lines;
pub mod metrics;
pub mod program;
mod vital;

pub use connections::{
    Attempt, ClientText, ConnectionLog, Id, Line, Millis, Protocols, Time, json,
};
pub use metrics::{
    AcceptStats, BackendStats, ConfigStats, Counter, Endings, EndpointFigures, EndpointRole,
    EndpointStats, ListenerStats, Registry, WorkerStats,
};
pub use vital::Vital;

use std::fmt::Display;

use strum::{EnumString, VariantNames};

/// Which connections get a line in the connection log: `log.connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Logged {
    /// All except probes.
    #[default]
    All,
    /// Those whose outcome is not `closed`.
    Failures,
}

/// How log lines are written: `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// `key=value`, for people.
    Text,
}

/// The first items, with commas between them, and how many more there are.
pub fn list(items: impl IntoIterator<Item = impl Display>, most: usize) -> String {
    let mut items = items.into_iter();
    let shown = items.by_ref().take(most).map(|item| item.to_string());
    let mut shown: Vec<String> = shown.collect();
    if let more @ 1.. = items.count() {
        shown.push(format!("{more} more"));
    }
    if shown.is_empty() {
        "none".to_owned()
    } else {
        shown.join(", ")
    }
}
