//! From a configuration to a running relay: sockets, snapshot, workers, control, signals.

mod build;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::config::{Loaded, Settings};
use crate::control::{self, Stopped};
use crate::telemetry::lines::{self, Lines};
use crate::telemetry::{ConnectionLog, Format, Registry, program};

/// What the last log lines get to leave the process.
const LAST_LINES: Duration = Duration::from_millis(50);

/// Where the connection log goes.
pub struct Output {
    /// Takes the lines; it may block, since a thread of its own writes.
    pub connections: Box<dyn Write + Send>,
    /// How lines are written.
    pub format: Format,
}

/// Why the relay did not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("listeners.{listener}.bind: cannot listen on {address}: {remedy}")]
    Listen {
        /// The listener's name.
        listener: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// What to do.
        remedy: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The admin address cannot be bound.
    #[error("admin.bind: cannot listen on {address}: {remedy}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What to do.
        remedy: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The system gives no thread, runtime or log.
    #[error("cannot start a thread")]
    System(#[from] io::Error),
}

/// A relay that runs beside its caller: for the lab and for tests.
#[derive(Debug)]
pub struct Running {
    listeners: Vec<(Arc<str>, SocketAddr)>,
    admin: Option<SocketAddr>,
    stop: mpsc::UnboundedSender<()>,
    control: JoinHandle<io::Result<Stopped>>,
}

impl Running {
    /// The bound addresses, in the order of the settings.
    pub fn listeners(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.listeners
    }

    /// The address of admin.
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Drains as at SIGTERM, and returns when that is done.
    pub fn stop(self) {
        // If control has ended already, there is nothing left to stop.
        _ = self.stop.send(());
        drop(self.control.join());
    }
}

/// Starts a relay beside the caller.
pub fn start(settings: Settings, output: Output) -> Result<Running, StartError> {
    let (stop, stopping) = mpsc::unbounded_channel();
    let registry = Registry::new();
    let log = connection_log(&settings, output, &registry)?;
    let plan = build::plan(settings, registry, Arc::clone(&log), stopping)?;
    let addresses = plan
        .listening
        .iter()
        .map(|one| (Arc::clone(&one.name), one.address));
    let listeners = addresses.collect();
    let admin = plan
        .admin
        .as_ref()
        .map(std::net::TcpListener::local_addr)
        .transpose()?;
    let control = thread::Builder::new()
        .name("portway-control".into())
        .spawn(move || {
            let stopped = drive(plan, async {});
            log.finish(LAST_LINES);
            stopped
        })?;
    Ok(Running {
        listeners,
        admin,
        stop,
        control,
    })
}

/// Runs a relay on this thread until a signal stops it: the program.
pub fn run(loaded: Loaded, format: Format) -> ExitCode {
    let Loaded { settings, warnings } = loaded;
    let registry = Registry::new();
    let stderr = lines::stderr();
    let program =
        stderr.and_then(|out| Lines::start(out, "portway-stderr", registry.lines_dropped()));
    let Ok(program) = program else {
        return ExitCode::FAILURE;
    };
    program::install(program.clone(), format);
    for warning in warnings.lines() {
        tracing::warn!("{warning}");
    }
    let code = match run_with(settings, format, registry) {
        Ok(Stopped::Drained) => ExitCode::SUCCESS,
        Ok(Stopped::AtOnce) => {
            tracing::warn!("stopped at once by a second signal: connections are reset");
            ExitCode::FAILURE
        }
        Ok(Stopped::WorkerLost) => {
            tracing::error!("a worker has ended by itself");
            ExitCode::FAILURE
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(cause, "{error}");
            ExitCode::FAILURE
        }
    };
    program.finish(LAST_LINES);
    code
}

fn run_with(
    settings: Settings,
    format: Format,
    registry: Arc<Registry>,
) -> Result<Stopped, StartError> {
    let (stop, stopping) = mpsc::unbounded_channel();
    let output = Output {
        connections: lines::stdout()?,
        format,
    };
    let log = connection_log(&settings, output, &registry)?;
    let plan = build::plan(settings, registry, Arc::clone(&log), stopping)?;
    let stopped = drive(plan, signals(stop))?;
    log.finish(LAST_LINES);
    Ok(stopped)
}

fn connection_log(
    settings: &Settings,
    output: Output,
    registry: &Arc<Registry>,
) -> io::Result<Arc<ConnectionLog>> {
    let lines = Lines::start(output.connections, "portway-log", registry.lines_dropped())?;
    let log = ConnectionLog::new(lines, output.format, settings.log, Arc::clone(registry));
    Ok(Arc::new(log))
}

/// Runs control on this thread, and `beside` it.
fn drive(plan: control::Plan, beside: impl Future<Output = ()> + 'static) -> io::Result<Stopped> {
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(LocalOptions::default())?;
    let stopped = runtime.block_on(async {
        spawn_local(beside);
        control::run(plan).await
    });
    // A look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    stopped
}

/// SIGTERM and SIGINT ask to stop.
async fn signals(stop: mpsc::UnboundedSender<()>) {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        tracing::error!("cannot listen for signals: they end portway without a drain");
        // To end here would drop the sender, which asks to stop.
        return std::future::pending().await;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if stop.send(()).is_err() {
            return;
        }
    }
}
