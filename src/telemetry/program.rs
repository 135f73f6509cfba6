//! The program log: what the program itself has to say, by `tracing`, on standard error.

use std::env::VarError;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;

use super::Format;
use super::lines::Lines;

/// The subscriber that writes to `lines`; `filter` has the syntax of `RUST_LOG`.
pub fn subscriber(
    lines: Lines,
    format: Format,
    filter: EnvFilter,
) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || lines.clone());
    match format {
        Format::Json => Box::new(builder.json().finish()),
        Format::Text => Box::new(builder.finish()),
    }
}

/// Makes `lines` the program log of the whole process, at `RUST_LOG` or `info`. Once a process.
pub fn install(lines: Lines, format: Format) {
    let wanted = std::env::var("RUST_LOG");
    let parsed = wanted
        .as_deref()
        .map(|text| EnvFilter::builder().parse(text));
    let (filter, fault) = match parsed {
        Ok(Ok(filter)) => (filter, None),
        Ok(Err(error)) => (EnvFilter::new("info"), Some(error.to_string())),
        Err(VarError::NotPresent) => (EnvFilter::new("info"), None),
        Err(VarError::NotUnicode(_)) => (EnvFilter::new("info"), Some("not UTF-8".to_owned())),
    };
    // A second subscriber is refused; the first goes on.
    let _ = tracing::subscriber::set_global_default(subscriber(lines, format, filter));
    // The default hook writes to standard error itself, and waits for its reader.
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

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::Value;
    use tracing_subscriber::EnvFilter;

    use super::{Format, subscriber};
    use crate::telemetry::alone::alone;
    use crate::telemetry::lines::Lines;

    fn written(format: Format, events: impl FnOnce()) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let lines = Lines::start(Box::new(writer), "test", Arc::default()).unwrap();
        let program = subscriber(lines.clone(), format, EnvFilter::new("info"));
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
        assert!(event["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn a_text_event_is_one_line_for_people() {
        if !alone("telemetry::program::tests::a_text_event_is_one_line_for_people") {
            return;
        }
        let text = written(Format::Text, || tracing::warn!(port = 1, "odd"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("WARN") && text.ends_with("odd port=1\n"),
            "{text}"
        );
    }
}
