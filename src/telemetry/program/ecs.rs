//! An event of the program with the fields of the Elastic Common Schema.

use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::{Level, Metadata};

use crate::telemetry::Time;
use crate::telemetry::ecs::{Dataset, Head};

/// The field of an event that has the error that it is about.
const ERROR: &str = "error";

/// A whole line.
#[derive(Serialize)]
pub(super) struct Record<'e> {
    #[serde(flatten)]
    head: Head,
    #[serde(rename = "log.logger")]
    logger: &'e str,
    event: Origin,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portway: Option<Own>,
}

#[derive(Serialize)]
struct Origin {
    kind: &'static str,
    dataset: Dataset,
}

#[derive(Serialize)]
struct Failure {
    message: String,
}

#[derive(Serialize)]
struct Own {
    program: Texts,
}

/// Fields as text: a name may have a number in one event and words in another, and an index refuses the second one.
struct Texts(Vec<(&'static str, String)>);

impl Serialize for Texts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, text)| (name, text)))
    }
}

impl<'e> Record<'e> {
    /// The record of an event with these fields, which happens now.
    pub(super) fn new(event: &'e Metadata<'_>, fields: Vec<(&'static str, Value)>) -> Self {
        let text = |value: Value| (value.as_str()).map_or_else(|| value.to_string(), str::to_owned);
        let (mut message, mut error) = (String::new(), None);
        let mut own: Vec<(&'static str, String)> = Vec::new();
        for (name, value) in fields {
            let text = text(value);
            match name {
                "message" => message = text,
                ERROR => error = Some(Failure { message: text }),
                name => own.push((name, text)),
            }
        }
        Self {
            head: Head::new(Time(SystemTime::now()), level(*event.level()), message),
            logger: event.target(),
            event: Origin {
                kind: "event",
                dataset: Dataset::Program,
            },
            error,
            portway: (!own.is_empty()).then_some(Own {
                program: Texts(own),
            }),
        }
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}
