//! What the program tells: metrics, the connection log, the program log.

#[cfg(test)]
pub mod alone;
mod connections;
pub mod lines;
pub mod metrics;
pub mod program;
mod vital;

pub use connections::{Attempt, ClientText, ConnectionLog, Id, Line, Millis, Protocols, Time};
pub use metrics::{
    AcceptStats, BackendStats, ConfigStats, Counter, Endings, EndpointStats, ListenerStats,
    Registry, WorkerStats,
};
pub use vital::Vital;

use strum::{EnumString, VariantNames};

/// Which connections get a line in the connection log: `log.connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Logged {
    /// Every one but probes.
    #[default]
    All,
    /// Those whose outcome is not `closed`.
    Failures,
}

/// How log lines are written: `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// `key=value`, for people.
    Text,
}
