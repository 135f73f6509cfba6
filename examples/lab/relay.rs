//! portway itself, in this process, started as `portway run` starts it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use portway::app::{self, Output, Running};
use portway::config::{self, Loaded};
use portway::telemetry::Format;

use crate::Result;

/// A running portway.
pub(crate) struct Relay {
    running: Running,
    log: Log,
}

impl Relay {
    /// Starts portway on the text of a routes.toml. A warning is an error here.
    pub(crate) fn start(routes: &str) -> Result<Self> {
        let loaded = config::parse(routes, "routes.toml").map_err(|faults| faults.render(false))?;
        if !loaded.warnings.is_empty() {
            return Err(loaded.warnings.render(false).into());
        }
        Self::run(loaded)
    }

    /// Starts portway on a routes.toml that has been read.
    pub(crate) fn run(loaded: Loaded) -> Result<Self> {
        let log = Log::default();
        let output = Output {
            connections: Box::new(log.clone()),
            format: Format::Text,
        };
        let running = app::start(loaded.settings, output)?;
        Ok(Self { running, log })
    }

    /// The address of the listener of this name.
    pub(crate) fn address(&self, listener: &str) -> Result<SocketAddr> {
        let mut listeners = self.running.listeners().iter();
        let found = listeners.find(|(name, _)| &**name == listener);
        Ok(found.ok_or_else(|| format!("no listener {listener}"))?.1)
    }

    /// Drains and ends portway. Returns its log, with a line for each connection.
    pub(crate) fn stop(self) -> String {
        self.running.stop();
        let lines = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&lines).into_owned()
    }
}

/// The connection log, kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
