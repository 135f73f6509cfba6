//! The program log: events of the program itself, written by `tracing` to standard error.

mod ecs;

use std::env::VarError;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Full, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::lines::Lines;
use super::{Form, Format, Time};
use ecs::Record;

/// The form of the program log, once there is one.
static FORM: OnceLock<Arc<Form>> = OnceLock::new();

/// The subscriber that writes to `lines`; `filter` has the syntax of `RUST_LOG`.
pub fn subscriber(
    lines: Lines,
    form: Arc<Form>,
    filter: EnvFilter,
) -> impl Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || lines.clone())
        .event_format(Events {
            form,
            text: tracing_subscriber::fmt::format().with_timer(Now),
        })
        .finish()
}

/// Writes each event in the format that is in force.
struct Events {
    form: Arc<Form>,
    text: tracing_subscriber::fmt::format::Format<Full, Now>,
}

impl<S, N> FormatEvent<S, N> for Events
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        let json = match self.form.get() {
            Format::Text => return self.text.format_event(context, writer, event),
            Format::Json => {
                event.record(&mut fields);
                serde_json::to_string(&Object {
                    time: Time(SystemTime::now()),
                    level: event.metadata().level().as_str(),
                    fields,
                    target: event.metadata().target(),
                })
            }
            Format::Ecs => {
                event.record(&mut fields);
                serde_json::to_string(&Record::new(event.metadata(), fields.0))
            }
        };
        let json = json.map_err(|_unwritable| fmt::Error)?;
        writeln!(writer, "{json}")
    }
}

/// An event as a JSON object. The time has the name and the form that it has in the connection log.
#[derive(Serialize)]
struct Object<'e> {
    time: Time,
    level: &'static str,
    fields: Fields,
    target: &'e str,
}

/// The fields of an event, in their order.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.push((field.name(), value.into()));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The time of an event in text.
struct Now;

impl FormatTime for Now {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Time(SystemTime::now()))
    }
}

/// The filter without `RUST_LOG`. The DNS library logs each strange answer of a server; portway reports what follows
/// from it, once and in its own words.
const DEFAULT: &str = "info,hickory_net=off,hickory_proto=off,hickory_resolver=off";

/// Makes `lines` the program log of the whole process, at `RUST_LOG` or `info`. Call it once per process.
pub fn install(lines: Lines, form: Arc<Form>) {
    let wanted = std::env::var("RUST_LOG");
    let parsed = wanted
        .as_deref()
        .map(|text| EnvFilter::builder().parse(text));
    let (filter, fault) = match parsed {
        Ok(Ok(filter)) => (filter, None),
        Ok(Err(error)) => (EnvFilter::new(DEFAULT), Some(error.to_string())),
        Err(VarError::NotPresent) => (EnvFilter::new(DEFAULT), None),
        Err(VarError::NotUnicode(_)) => (EnvFilter::new(DEFAULT), Some("not UTF-8".to_owned())),
    };
    // A second subscriber is refused, and the first one goes on.
    let _ = tracing::subscriber::set_global_default(subscriber(lines, Arc::clone(&form), filter));
    let _first = FORM.set(form);
    // The default hook writes to standard error directly, and would wait for a slow reader.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("internal error, please report it: {panic}");
    }));
    if let Some(fault) = fault {
        tracing::warn!(
            fault,
            "RUST_LOG is not understood and ignored; info is in force"
        );
    }
}

/// Follows `log.format` of the file from now on, if this process has a program log.
pub fn adopt(file: Option<Format>) {
    if let Some(form) = FORM.get() {
        form.adopt(file);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::Value;
    use tracing_subscriber::EnvFilter;

    use super::{Form, Format, adopt, install, subscriber};
    use crate::telemetry::alone::alone;
    use crate::telemetry::ecs::tests::agrees;
    use crate::telemetry::lines::Lines;

    fn written(format: Format, events: impl FnOnce()) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(Box::new(writer), "test", Arc::default()).unwrap();
        let program = subscriber(lines.clone(), Form::always(format), EnvFilter::new("info"));
        tracing::subscriber::with_default(program, events);
        assert!(lines.finish(Duration::from_secs(20)));
        drop(lines);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_json_event_is_one_line_with_its_fields() {
        if !alone("telemetry::program::tests::a_json_event_is_one_line_with_its_fields") {
            return;
        }
        let text = written(Format::Json, || {
            tracing::info!(listener = "agents", address = "127.0.0.1:4433", "listening");
            tracing::debug!("not at this level");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["level"], "INFO");
        assert_eq!(event["fields"]["message"], "listening");
        assert_eq!(event["fields"]["listener"], "agents");
        let time = event["time"].as_str().unwrap();
        assert_eq!((time.len(), event.get("timestamp")), (24, None), "{text}");
        // The time and the message come first, for people.
        assert!(text.starts_with("{\"time\":"), "{text}");
        assert!(text.contains("\"fields\":{\"message\":"), "{text}");
    }

    #[test]
    fn an_event_with_the_fields_of_ecs_has_its_own_below_one_key() {
        if !alone(
            "telemetry::program::tests::an_event_with_the_fields_of_ecs_has_its_own_below_one_key",
        ) {
            return;
        }
        let text = written(Format::Ecs, || {
            tracing::warn!(
                error = "no such host",
                cause = "stop",
                pid = 7,
                "cannot resolve"
            );
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let event: Value = serde_json::from_str(&text).unwrap();
        agrees(&event);
        assert!(text.starts_with("{\"@timestamp\":"), "{text}");
        assert_eq!(event["log.level"], "warn");
        assert_eq!(event["message"], "cannot resolve");
        assert_eq!(event["error"]["message"], "no such host");
        assert_eq!(event["event"]["dataset"], "portway.program");
        assert_eq!(event["log.logger"], "portway::telemetry::program::tests");
        // A field may be a number in one line and text in another, which an index would refuse.
        let own = serde_json::json!({ "program": { "pid": "7", "cause": "stop" } });
        assert_eq!(event["portway"], own);
    }

    #[test]
    fn the_format_follows_the_file() {
        if !alone("telemetry::program::tests::the_format_follows_the_file") {
            return;
        }
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(Box::new(writer), "test", Arc::default()).unwrap();
        install(lines.clone(), Form::new(None, Format::Json));
        tracing::info!("one");
        adopt(Some(Format::Ecs));
        tracing::info!("two");
        adopt(None);
        tracing::info!("three");
        assert!(lines.finish(Duration::from_secs(20)));
        let mut text = vec![0; 4096];
        let read = reader.read(&mut text).unwrap();
        let text = String::from_utf8_lossy(&text[..read]);
        let starts = text.lines().map(|line| line.get(..8)).collect::<Vec<_>>();
        assert_eq!(
            starts,
            [Some("{\"time\":"), Some("{\"@times"), Some("{\"time\":")]
        );
    }

    #[test]
    fn a_text_event_is_one_line_for_people() {
        if !alone("telemetry::program::tests::a_text_event_is_one_line_for_people") {
            return;
        }
        let text = written(Format::Text, || tracing::warn!(port = 1, "odd"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("Z  WARN") && text.ends_with("odd port=1\n"),
            "{text}"
        );
        assert_eq!(text.find('Z'), Some(23), "milliseconds: {text}");
    }
}
