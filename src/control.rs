//! The one thread that does everything but data: names, admin, upkeep of metrics, reload, drain.

pub mod drain;
pub mod names;
mod reload;
mod request;
mod service;
pub mod socket;
pub mod watch;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};

use crate::admin::{self, Stage, State};
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::Mailbox;
use names::Names;
use reload::InForce;
pub use reload::{Bound, Change, Rejected, Source};
pub use request::{Given, Reloaded, Request, Requests};

/// How often sums of the log are written, and samples of histograms folded, which pile up until then.
const UPKEEP: Duration = Duration::from_secs(1);

/// The process of a container that ends with it.
const FIRST: u32 = 1;

/// What control works with.
pub struct Plan {
    /// The first configuration.
    pub first: Change,
    /// Makes the next ones.
    pub source: Source,
    /// The file that is read again; none where there is no file to watch and nobody to ask.
    pub file: Option<File>,
    /// The admin socket.
    pub admin: Option<Arc<TcpListener>>,
    /// The workers.
    pub mailboxes: Arc<[Mailbox]>,
    /// Each is closed when its worker ends.
    pub workers: Vec<oneshot::Receiver<()>>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The connection log.
    pub log: Arc<ConnectionLog>,
    /// What the probes answer.
    pub state: Arc<State>,
    /// By which others ask.
    pub requests: Requests,
    /// What they ask.
    pub requested: mpsc::UnboundedReceiver<Request>,
}

/// routes.toml as a file.
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Whether changes are to be noticed.
    pub watch: bool,
    /// The process whose listening sockets were taken over.
    pub before: Option<socket::Before>,
}

/// How control ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// After a drain.
    Drained,
    /// At once, at the second request.
    AtOnce,
    /// A worker ended by itself: portway is broken.
    WorkerLost,
}

/// Opens the listeners and keeps the relay running until it is stopped. Needs a local runtime.
pub async fn run(plan: Plan) -> io::Result<Stopped> {
    let mut control = Control::start(plan).await?;
    match control.serve().await {
        Ended::WorkerLost => Ok(Stopped::WorkerLost),
        Ended::Stop => Ok(control.drain().await),
        Ended::HandedOver => {
            control.leave_to_other();
            let stopped = control.drain().await;
            if process::id() == FIRST {
                // A container that ended would be started again, and take the listeners back.
                tracing::info!("drained: waiting to be stopped");
                drain::wait_for_stop(&mut control.requested).await;
            }
            Ok(stopped)
        }
    }
}

/// Why control no longer serves.
enum Ended {
    Stop,
    HandedOver,
    WorkerLost,
}

/// One for each worker; it completes when the worker ends.
type Workers = JoinSet<Result<(), oneshot::error::RecvError>>;

struct Control {
    in_force: InForce,
    source: Source,
    names: Names,
    admin: Option<Arc<TcpListener>>,
    pages: JoinSet<Infallible>,
    mailboxes: Arc<[Mailbox]>,
    workers: Workers,
    registry: Arc<Registry>,
    state: Arc<State>,
    requested: mpsc::UnboundedReceiver<Request>,
    /// CRC-32 of the file as it was last tried; none if it could not be read.
    tried: Rc<Cell<Option<u32>>>,
}

impl Control {
    /// Puts the first configuration in force.
    async fn start(plan: Plan) -> io::Result<Self> {
        let mut pages = JoinSet::new();
        if let Some(admin) = &plan.admin {
            tracing::info!(address = %admin.local_addr()?, "admin listening");
            let admin = tokio::net::TcpListener::from_std(admin.try_clone()?)?;
            pages.spawn_local(admin::serve(admin, Arc::clone(&plan.state)));
        }
        spawn_local(upkeep(Arc::clone(&plan.registry), plan.log));
        spawn_local(service::watchdog(Arc::clone(&plan.registry)));
        let first = plan.first;
        let mut control = Self {
            in_force: InForce::nothing(first.drain),
            source: plan.source,
            names: Names::start(&[], Vec::new()),
            admin: plan.admin,
            pages,
            mailboxes: plan.mailboxes,
            workers: plan.workers.into_iter().collect(),
            registry: plan.registry,
            state: plan.state,
            requested: plan.requested,
            tried: Rc::default(),
        };
        // Clients wait in the queue of the kernel meanwhile.
        control.put_in_force(first).await;
        control.state.enter(Stage::Ready);
        tracing::info!("ready");
        service::ready();
        if let Some(File {
            path,
            watch,
            before,
        }) = plan.file
        {
            if watch {
                let (tried, registry) = (Rc::clone(&control.tried), Arc::clone(&control.registry));
                let requests = plan.requests.clone();
                spawn_local(watch::watch(path.clone(), tried, registry, requests));
            }
            spawn_local(socket::serve(path, before, plan.requests));
        }
        Ok(control)
    }

    /// Answers requests until one of them, or the loss of a worker, ends that.
    async fn serve(&mut self) -> Ended {
        loop {
            let request = tokio::select! {
                never = self.names.run() => match never {},
                _ = self.workers.join_next() => return Ended::WorkerLost,
                request = self.requested.recv() => request.unwrap_or(Request::Stop),
            };
            match request {
                Request::Stop => return Ended::Stop,
                Request::HandedOver => return Ended::HandedOver,
                Request::Sockets(answer) => {
                    let given = Given {
                        listening: self.in_force.sockets(),
                        admin: self.admin.clone(),
                    };
                    // Who has asked may be gone.
                    drop(answer.send(given));
                }
                Request::Reload(answer) => {
                    let reloaded = self.reload().await;
                    if let Some(answer) = answer {
                        drop(answer.send(reloaded));
                    }
                }
            }
        }
    }

    /// Reads the file again. What fails leaves everything as it was.
    async fn reload(&mut self) -> Reloaded {
        service::reloading();
        let reloaded = match (self.source)(self.in_force.bound()) {
            Ok(change) => {
                let generation = change.snapshot.generation;
                self.put_in_force(change).await;
                tracing::info!(generation, "reloaded");
                Ok(generation)
            }
            Err(rejected) => {
                self.tried.set(rejected.hash);
                self.registry.config().failed();
                rejected.log();
                Err(rejected.text)
            }
        };
        service::ready();
        reloaded
    }

    async fn put_in_force(&mut self, change: Change) {
        let admin = self
            .admin
            .as_ref()
            .and_then(|admin| admin.local_addr().ok());
        let own = self.in_force.own(&change, admin);
        // New names are looked up before a connection needs them.
        self.names.update(&change.endpoints(), own);
        self.names.first_pass().await;
        self.tried.set(Some(change.hash));
        let config = self.registry.config();
        config.loaded(change.snapshot.generation, change.hash);
        self.in_force.apply(change, &self.mailboxes);
    }

    /// Another process accepts already at the same sockets, and answers at the admin address.
    fn leave_to_other(&mut self) {
        tracing::info!("another process has taken the listeners over");
        self.in_force.drain.delay = Duration::ZERO;
        self.pages.abort_all();
        self.admin = None;
    }

    async fn drain(&mut self) -> Stopped {
        self.state.enter(Stage::Draining);
        let limits = self.in_force.drain;
        self.in_force.close();
        tracing::info!(delay = ?limits.delay, timeout = ?limits.timeout, "draining");
        service::stopping(limits.delay + limits.timeout);
        let drained = drain::drain(
            limits,
            &self.mailboxes,
            &mut self.workers,
            &mut self.requested,
        );
        tokio::select! {
            never = self.names.run() => match never {},
            stopped = drained => stopped,
        }
    }
}

async fn upkeep(registry: Arc<Registry>, log: Arc<ConnectionLog>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        log.sum_up();
        registry.upkeep();
    }
}
