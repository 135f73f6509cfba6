//! Starts a relay from its configuration: sockets, snapshot, workers, control, signals.

mod build;
mod early;
mod introduction;
mod signals;

use std::fs::File;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use build::{Parts, build};
use early::EarlyRequests;
use introduction::introduce;
use signals::Signals;

use crate::admission::Machine;
use crate::config::{self, Faults, Loaded, Settings};
pub use crate::control::StartError;
use crate::control::inherited::Inherited;
use crate::control::upgrade::Program;
use crate::control::{self, Request, Requests, Stopped, socket, takeover};
use crate::telemetry::lines::{self, Lines};
use crate::telemetry::{ConnectionLog, Form, Registry, program};

/// Time allowed at exit to flush the last log lines: short enough that a reader that hangs does not delay the exit,
/// long enough that a busy machine still writes the reason for it.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Descriptors that a runtime with timers, sockets and signals needs.
const RUNTIME: usize = 6;

/// Where the connection log goes.
pub struct Output {
    /// Takes the lines; it may block, since a thread of its own writes.
    pub connections: Box<dyn Write + Send>,
    /// How lines are written.
    pub form: Arc<Form>,
}

/// A relay that runs on its own threads, for the lab and for tests.
#[derive(Debug)]
pub struct Running {
    listeners: Vec<(Arc<str>, SocketAddr)>,
    admin: Option<SocketAddr>,
    requests: Requests,
    control: JoinHandle<io::Result<Stopped>>,
}

impl Running {
    /// The bound addresses, in the order of the settings.
    pub fn listeners(&self) -> &[(Arc<str>, SocketAddr)] {
        &self.listeners
    }

    /// The address of metrics and probes, if it is on.
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Drains as at SIGTERM, and returns when the drain has ended.
    pub fn stop(self) {
        // If control has ended already, there is nothing left to stop.
        drop(self.requests.send(Request::Stop));
        drop(self.control.join());
    }
}

/// Starts a relay on its own threads.
pub fn start(settings: Settings, output: Output) -> Result<Running, StartError> {
    let (requests, requested) = mpsc::unbounded_channel();
    let registry = Registry::new();
    let log = connection_log(&settings, output, &registry)?;
    let setup = build(Parts {
        settings,
        source: config::Source::default(),
        file: None,
        inherited: Inherited::default(),
        machine: Machine::read(),
        registry,
        log: Arc::clone(&log),
        requests: (requests.clone(), requested),
    })?;
    let opened = setup.first.opened.iter();
    let listeners = opened.map(|open| (Arc::clone(&open.listener), open.address));
    let listeners = listeners.collect();
    let admin = setup.admin.as_ref().map(TcpListener::local_addr);
    let admin = admin.transpose();
    let admin = admin.map_err(StartError::at("ask which address admin has"))?;
    let control = thread::Builder::new()
        .name("portway-control".into())
        .spawn(move || {
            let _flush = AtEnd(|| log.finish(LAST_LINES));
            finish(event_loop()?, control::run(setup))
        })
        .map_err(StartError::at("start the control thread"))?;
    Ok(Running {
        listeners,
        admin,
        requests,
        control,
    })
}

/// Options of `portway run`.
#[derive(Debug)]
pub struct Options {
    /// The path of routes.toml.
    pub file: PathBuf,
    /// How lines of the connection log are written.
    pub connections: Arc<Form>,
    /// How lines of the program log are written.
    pub program: Arc<Form>,
    /// Whether to reload when the file changes.
    pub watch: bool,
    /// Whether to take over the listeners of a portway that runs with the same file.
    pub take_over: bool,
}

/// Runs a relay on this thread until a signal stops it. The caller must report the faults of the file; the log has
/// everything else.
pub fn run(options: Options) -> Result<ExitCode, Faults> {
    // First of all: a signal ends a process that does not listen for it.
    let begun = event_loop().and_then(|runtime| {
        let signals = runtime.block_on(async { Signals::listen() })?;
        Ok((runtime, signals))
    });
    let registry = Registry::new();
    let stderr = lines::stderr();
    let program =
        stderr.and_then(|out| Lines::start(out, "portway-stderr", registry.lines_dropped()));
    let program = match program {
        Ok(program) => program,
        Err(error) => {
            let error = StartError::at("start the thread of the program log")(error);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // If this cannot be written either, only the exit status is left.
            drop(writeln!(
                io::stderr(),
                "{error} ({})",
                cause.unwrap_or_default()
            ));
            return Ok(ExitCode::FAILURE);
        }
    };
    program::install(program.clone(), Arc::clone(&options.program));
    let _flush = AtEnd(|| program.finish(LAST_LINES));
    let (runtime, signals) = match begun.map_err(StartError::at("start the event loop of control"))
    {
        Ok(begun) => begun,
        Err(error) => return Ok(failed(&error, &options.file, options.take_over)),
    };
    let (file, take_over) = (options.file.clone(), options.take_over);
    finish(runtime, async {
        let mut early = EarlyRequests::new();
        spawn_local(registry.vital_task("signals", signals.pass_on(early.requests.clone())));
        let loaded = match begin_to_load(file.clone()) {
            Ok(loaded) => early.unless_stopped(loaded).await,
            Err(error) => return Ok(failed(&error, &file, take_over)),
        };
        let loaded = match loaded {
            Some(Ok(loaded)) => loaded?,
            // The thread that reads the file has panicked, and the log says so.
            Some(Err(_)) => return Ok(ExitCode::FAILURE),
            None => return Ok(ExitCode::SUCCESS),
        };
        Ok(match run_with(loaded, options, registry, early).await {
            Ok(Stopped::Drained) => ExitCode::SUCCESS,
            Ok(Stopped::AtOnce) => {
                tracing::warn!("stopped at once by a second signal: connections are reset");
                ExitCode::FAILURE
            }
            Ok(Stopped::Lost(what)) => {
                tracing::error!(
                    part = what,
                    "a part that portway cannot do without has ended, so portway stops and must be started \
                     again: the lines before this one say why"
                );
                ExitCode::FAILURE
            }
            Err(error) => failed(&error, &file, take_over),
        })
    })
}

/// Reads the file on a thread of its own, so that portway reacts to signals while a disk hangs.
fn begin_to_load(file: PathBuf) -> Result<oneshot::Receiver<Result<Loaded, Faults>>, StartError> {
    let (sender, loaded) = oneshot::channel();
    thread::Builder::new()
        .name("portway-load".into())
        // After a request to stop nobody receives the result.
        .spawn(move || drop(sender.send(config::load(&file))))
        .map_err(StartError::at("start the thread that reads the file"))?;
    Ok(loaded)
}

/// Logs why the relay did not start.
fn failed(error: &StartError, file: &Path, take_over: bool) -> ExitCode {
    // With a takeover the other process has handed its sockets over, so it is another one that is in the way.
    let taken = error.taken_address().filter(|_| !take_over);
    let running = taken.and_then(|it| Some((it, socket::running(file)?)));
    if let Some((address, pid)) = running {
        tracing::error!(
            pid,
            %address,
            "a portway already runs with this file: `portway reload` makes it read the file again, and `portway \
             run --takeover` replaces it"
        );
    } else {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(error = cause, "{}", error.in_file(file));
    }
    ExitCode::FAILURE
}

/// Flushes a log when it is dropped, also if a panic ends the thread.
struct AtEnd<F: FnMut() -> bool>(F);

impl<F: FnMut() -> bool> Drop for AtEnd<F> {
    fn drop(&mut self) {
        // `false` means that it took too long.
        let _late = (self.0)();
    }
}

async fn run_with(
    loaded: Loaded,
    options: Options,
    registry: Arc<Registry>,
    early: EarlyRequests,
) -> Result<Stopped, StartError> {
    let output = Output {
        connections: lines::stdout()
            .map_err(StartError::at("use standard output for the connection log"))?,
        form: Arc::clone(&options.connections),
    };
    let log = connection_log(&loaded.settings, output, &registry)?;
    program::adopt(loaded.settings.log.format);
    let _flush = AtEnd(|| log.finish(LAST_LINES));
    relay(loaded, options, registry, (Arc::clone(&log), early)).await
}

async fn relay(
    loaded: Loaded,
    options: Options,
    registry: Arc<Registry>,
    (log, mut early): (Arc<ConnectionLog>, EarlyRequests),
) -> Result<Stopped, StartError> {
    introduce(&options.file, &loaded.settings);
    // This raises the soft limit of descriptors, so it comes before the sockets.
    let machine = Machine::read();
    let mut inherited = Inherited::from_systemd().map_err(StartError::Inherited)?;
    let program = Program::own();
    let mut giver = None;
    if options.take_over {
        let taken = takeover::take_over(&options.file, &loaded.settings, &mut inherited);
        let Some(taken) = early.unless_stopped(taken).await else {
            return Ok(Stopped::Drained);
        };
        giver = taken?;
        if giver.is_none() {
            tracing::info!("no portway runs with this file here: there is nothing to take over");
        }
    }
    let program = program.map(|own| Arc::new(own.with_sockets(&inherited)));
    let to_say_why = giver.as_ref().and_then(|giver| giver.again().ok());
    let file = options.file.clone();
    let setup = build(Parts {
        settings: loaded.settings,
        source: loaded.source,
        file: Some(control::File {
            path: options.file,
            watch: options.watch,
            giver,
            program,
        }),
        inherited,
        machine,
        registry,
        log,
        requests: early.finish(),
    });
    let setup = setup.inspect_err(|error| {
        if let Some(predecessor) = to_say_why {
            predecessor.say_why(&error.with_cause(&file));
        }
    })?;
    let stopped = control::run(setup).await;
    stopped.map_err(StartError::at("begin to serve"))
}

fn connection_log(
    settings: &Settings,
    output: Output,
    registry: &Arc<Registry>,
) -> Result<Arc<ConnectionLog>, StartError> {
    let lines = Lines::start(output.connections, "portway-log", registry.lines_dropped())
        .map_err(StartError::at("start the thread of the connection log"))?;
    let log = ConnectionLog::new(lines, output.form, settings.log, Arc::clone(registry));
    Ok(Arc::new(log))
}

/// The runtime of the control thread.
fn event_loop() -> io::Result<LocalRuntime> {
    // tokio panics if it gets no sockets for signals, so try first whether there are enough descriptors.
    let tried: io::Result<Vec<_>> = (0..RUNTIME).map(|_| File::open("/dev/null")).collect();
    drop(tried?);
    let mut builder = Builder::new_current_thread();
    builder.enable_all().build_local(LocalOptions::default())
}

/// Runs `work` on this thread. A look-up that hangs does not delay the exit.
fn finish<T>(runtime: LocalRuntime, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}
