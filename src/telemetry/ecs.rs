//! The parts of the Elastic Common Schema that every line of both logs has. Fields of portway itself are below the key
//! `portway`, which the schema does not use. `tests` compares each field with the published schema.

#[cfg(test)]
pub(super) mod tests;

use serde::{Serialize, Serializer};

use super::Time;

/// The version of the schema whose fields portway writes.
pub(super) const VERSION: &str = "9.4.0";

/// The fields that begin each line. ecs-logging asks for this order, and for dots in these names instead of objects.
#[derive(Serialize)]
pub(super) struct Head {
    /// When it happened.
    #[serde(rename = "@timestamp")]
    time: Time,
    /// `info`, `warn`, …
    #[serde(rename = "log.level")]
    level: &'static str,
    /// The line in words, for people.
    message: String,
    #[serde(rename = "ecs.version")]
    version: &'static str,
    service: Service,
    process: Process,
}

impl Head {
    /// The head of a line of this process.
    pub(super) fn new(time: Time, level: &'static str, message: String) -> Self {
        Self {
            time,
            level,
            message,
            version: VERSION,
            service: Service {
                name: "portway",
                version: env!("CARGO_PKG_VERSION"),
            },
            process: Process {
                pid: std::process::id(),
            },
        }
    }
}

#[derive(Serialize)]
struct Service {
    name: &'static str,
    version: &'static str,
}

/// The predecessor of an upgrade may write to the same output.
#[derive(Serialize)]
struct Process {
    pid: u32,
}

/// Which log a line is from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dataset {
    /// The connection log.
    Connections,
    /// The program log.
    Program,
}

impl Serialize for Dataset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Connections => "portway.connections",
            Self::Program => "portway.program",
        })
    }
}
