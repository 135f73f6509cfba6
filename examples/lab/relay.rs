//! portway itself, in this process, started as `portway run` starts it.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use portway::app::{self, Output, Running};
use portway::config::{self, Loaded};
use portway::telemetry::{Form, Format};
use tempfile::TempDir;

use crate::Result;
use crate::tunnel::USERS;

/// A running portway.
pub(crate) struct Relay {
    running: Running,
    log: Log,
}

impl Relay {
    /// Starts portway on the text of a routes.toml, beside which is a file `users`. A warning is an error here.
    pub(crate) fn start(routes: &str) -> Result<Self> {
        let directory = TempDir::with_prefix("portway-lab-")?;
        let users = directory.path().join("users");
        fs::write(&users, USERS)?;
        fs::set_permissions(&users, Permissions::from_mode(0o600))?;
        let loaded = load(directory.path(), routes)?;
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
            form: Form::always(Format::Text),
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

/// Writes a routes.toml into a directory, and reads it with the files that it names.
pub(crate) fn load(directory: &Path, routes: &str) -> Result<Loaded> {
    let file = directory.join("routes.toml");
    fs::write(&file, routes)?;
    Ok(config::load(&file).map_err(|faults| faults.render(false))?)
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
