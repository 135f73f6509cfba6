//! portway inside the test process, for settings that routes.toml does not have.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portway::app::{self, Output, Running};
use portway::relay::{Rules, Splicing};
use portway::telemetry::{Form, Format};
use serde_json::Value;

use super::fixture::{PATIENCE, get, within};
use super::metrics::Metrics;

/// A running portway. Dropping it stops it.
pub(crate) struct InProcess {
    running: Option<Running>,
    log: Log,
}

impl InProcess {
    /// Starts on `toml`, with `splicing` for every backend.
    pub(crate) fn start(toml: &str, splicing: Splicing) -> Self {
        Self::start_with(toml, |rules| rules.splicing = splicing)
    }

    /// Starts on `toml`, with these changes of the rules of every backend.
    pub(crate) fn start_with(toml: &str, change: impl Fn(&mut Rules)) -> Self {
        let mut settings = portway::config::parse(toml, "routes.toml")
            .unwrap()
            .settings;
        for backend in &mut settings.backends {
            change(&mut backend.relay);
        }
        let log = Log::default();
        let output = Output {
            connections: Box::new(log.clone()),
            form: Form::always(Format::Json),
        };
        let running = Some(app::start(settings, output).unwrap());
        Self { running, log }
    }

    /// The first address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running().listeners()[0].1
    }

    /// The metrics now.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(&get(self.running().admin().unwrap(), "/metrics").unwrap().1)
    }

    /// The line of the connection from this address.
    pub(crate) fn line_of(&self, client: SocketAddr) -> Value {
        let client = client.to_string();
        within(PATIENCE, "the line of a connection", || {
            self.find_line(&client, |_| true)
        })
    }

    /// A line of a connection from this address, if it has come. An address may occur more than once.
    pub(crate) fn find_line(&self, client: &str, what: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut log = self.log.0.lock().unwrap();
        log.take_lines();
        let lines = log.lines.get(client)?;
        lines.iter().find(|line| what(line)).cloned()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    /// The part of a line that is not whole yet.
    rest: Vec<u8>,
    lines: HashMap<String, Vec<Value>>,
}

impl Written {
    fn take_lines(&mut self) {
        let whole = self
            .rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in self
            .rest
            .drain(..whole)
            .collect::<Vec<_>>()
            .split(|byte| *byte == b'\n')
        {
            if !line.is_empty() {
                let line: Value = serde_json::from_slice(line).unwrap();
                if let Some(client) = line["client"].as_str() {
                    self.lines.entry(client.to_owned()).or_default().push(line);
                }
            }
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().rest.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
