//! Everything that portway reports: metrics, the connection log, the program log.

#[cfg(test)]
pub mod alone;
mod connections;
mod ecs;
mod form;
pub mod lines;
pub mod metrics;
pub mod program;
mod vital;

pub use connections::{
    Attempt, ClientText, ConnectionLog, Id, Line, Millis, Phase, Protocols, Time, json,
};
pub use form::{Form, Format};
pub use metrics::{
    AcceptStats, BackendStats, ConfigStats, Counter, Endings, EndpointFigures, EndpointRole,
    EndpointStats, ListenerStats, Registry, WorkerStats,
};
pub use vital::Vital;

use std::fmt::Display;
use std::time::Duration;

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

/// The keys of `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRules {
    /// `log.connections`.
    pub connections: Logged,
    /// `log.format`; `None` leaves it to the command line and to who reads the logs.
    pub format: Option<Format>,
    /// `log.interval`: how long a connection is open when it gets a line, and then another one. `None` if only its end is
    /// logged.
    pub interval: Option<Duration>,
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
