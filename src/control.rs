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
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet, spawn_local};

use crate::admin::{self, Stage, State};
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::Mailbox;
use drain::Stops;
use names::Names;
pub use reload::{Bound, Change, Prepared, Rejected, Source};
use reload::{InForce, Reader};
pub use request::{NotReloaded, Reloaded, Request, Requests, Takeover};

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
    pub predecessor: Option<socket::Predecessor>,
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
        Ended::Stop => {
            let limits = control.in_force.drain;
            Ok(control.drain(limits).await)
        }
        Ended::TakenOver => {
            tracing::info!("a successor has taken the listeners over");
            control.leave_admin();
            // It accepts already at the same sockets.
            let delay = Duration::ZERO;
            let limits = drain::Limits {
                delay,
                ..control.in_force.drain
            };
            let stopped = control.drain(limits).await;
            if process::id() == FIRST {
                // A container that ended would be started again, and take the listeners back.
                tracing::info!("drained: waiting to be stopped");
                control.stops.first().await;
            }
            Ok(stopped)
        }
    }
}

/// Why control no longer serves.
enum Ended {
    Stop,
    TakenOver,
    WorkerLost,
}

/// One for each worker; it completes when the worker ends.
type Workers = JoinSet<Result<(), oneshot::error::RecvError>>;

struct Control {
    in_force: InForce,
    reader: Reader,
    names: Names,
    admin: Option<Arc<TcpListener>>,
    pages: JoinSet<Infallible>,
    /// The control socket's task, once there is one.
    socket: Option<AbortHandle>,
    /// Alive while a successor has the sockets and does not accept yet.
    takeover: Weak<()>,
    mailboxes: Arc<[Mailbox]>,
    workers: Workers,
    registry: Arc<Registry>,
    state: Arc<State>,
    stops: Stops,
    /// CRC-32 of the file as it was last tried; none if it is to be tried again.
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
            reader: Reader::new(plan.source),
            names: Names::start(&[], Vec::new()),
            admin: plan.admin,
            pages,
            socket: None,
            takeover: Weak::new(),
            mailboxes: plan.mailboxes,
            workers: plan.workers.into_iter().collect(),
            registry: plan.registry,
            state: plan.state,
            stops: Stops::new(plan.requested),
            tried: Rc::default(),
        };
        // Clients wait in the queue of the kernel meanwhile.
        control.put_in_force(first).await?;
        control.state.enter(Stage::Ready);
        tracing::info!("ready");
        service::ready();
        if let Some(file) = plan.file {
            control.follow(file, plan.requests);
        }
        Ok(control)
    }

    /// Lets others ask for changes of the file.
    fn follow(&mut self, file: File, requests: Requests) {
        if file.watch {
            let (tried, registry) = (Rc::clone(&self.tried), Arc::clone(&self.registry));
            let watch = watch::watch(file.path.clone(), tried, registry, requests.clone());
            spawn_local(watch);
        }
        let serve = socket::serve(file.path, file.predecessor, requests);
        self.socket = Some(spawn_local(serve).abort_handle());
    }

    /// Answers requests until one of them, or the loss of a worker, ends that.
    async fn serve(&mut self) -> Ended {
        loop {
            let request = tokio::select! {
                never = self.names.run() => match never {},
                _ = self.workers.join_next() => return Ended::WorkerLost,
                request = self.stops.next() => request.unwrap_or(Request::Stop),
            };
            match request {
                Request::Stop => return Ended::Stop,
                Request::TakenOver => return Ended::TakenOver,
                Request::Sockets(answer) => {
                    if self.takeover.upgrade().is_none() {
                        // Who has asked may be gone.
                        drop(answer.send(self.give()));
                    }
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

    fn give(&mut self) -> Takeover {
        let under_way = Arc::new(());
        self.takeover = Arc::downgrade(&under_way);
        Takeover {
            listening: self.in_force.sockets(),
            admin: self.admin.clone(),
            under_way,
        }
    }

    /// Reads the file again. What fails leaves everything as it was.
    async fn reload(&mut self) -> Reloaded {
        if self.takeover.upgrade().is_some() {
            self.tried.set(None);
            let later = "a successor is taking over: it has read the file";
            tracing::warn!("{later}");
            return Err(NotReloaded::NotNow(later));
        }
        service::reloading();
        let reloaded = match self.reader.next().await {
            Ok(change) => {
                let generation = change.snapshot.generation;
                if let Err(error) = self.put_in_force(change).await {
                    tracing::error!(%error, "a worker cannot listen: please start portway again");
                }
                tracing::info!(generation, "reloaded");
                Ok(generation)
            }
            Err(rejected) => {
                // Of what cannot be read as text the watch knows the hash.
                if rejected.hash.is_some() {
                    self.tried.set(rejected.hash);
                }
                self.registry.config().failed();
                rejected.log();
                Err(NotReloaded::Rejected(rejected.text))
            }
        };
        service::ready();
        reloaded
    }

    async fn put_in_force(&mut self, change: Change) -> io::Result<()> {
        let admin = self.admin.as_ref();
        let admin = admin.and_then(|admin| admin.local_addr().ok());
        let own = self.in_force.own(&change, admin);
        // New names are looked up before a connection needs them.
        self.names.update(&change.endpoints(), own);
        self.names.first_pass().await;
        self.tried.set(Some(change.hash));
        let config = self.registry.config();
        config.loaded(change.snapshot.generation, change.hash);
        self.in_force.apply(change, &self.mailboxes).await
    }

    /// The successor answers at the admin address, and is being told that all is its own.
    fn leave_admin(&mut self) {
        self.socket = None;
        self.pages.abort_all();
        self.admin = None;
    }

    async fn drain(&mut self, limits: drain::Limits) -> Stopped {
        if let Some(socket) = self.socket.take() {
            // Who is started next may have its name.
            socket.abort();
        }
        self.state.enter(Stage::Draining);
        self.in_force.close();
        tracing::info!(delay = ?limits.delay, timeout = ?limits.timeout, "draining");
        service::stopping(limits.delay + limits.timeout);
        let (workers, stops) = (&mut self.workers, &mut self.stops);
        let drained = drain::drain(limits, &self.mailboxes, workers, stops);
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
