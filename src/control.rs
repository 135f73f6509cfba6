//! The one thread that does everything but data: names, admin, upkeep of metrics, reload, drain.

pub mod drain;
mod entering;
mod in_force;
pub mod names;
mod reload;
mod request;
mod service;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod watch;

use std::cell::Cell;
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
use entering::{Entering, further, refuse};
use in_force::InForce;
use names::Names;
pub use reload::{Bound, Change, Prepared, Rejected, Source, Unchecked};
use reload::{Outcome, Reload};
pub use request::{NotReloaded, Reloaded, Request, Requests, Takeover};
use watch::Content;

/// How often sums of the log are written, and samples of histograms folded, which pile up until then.
const UPKEEP: Duration = Duration::from_secs(1);

/// The process of a container that ends with it.
const FIRST: u32 = 1;

/// Why nothing is reloaded during a takeover.
const TAKING_OVER: &str = "a successor is taking over: it has read the file";

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
    let mut control = Control::start(plan)?;
    match control.serve().await? {
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
    reload: Reload,
    /// A change on its way into force.
    entering: Option<Entering>,
    names: Names,
    admin: Option<Arc<TcpListener>>,
    pages: JoinSet<()>,
    /// Lets others ask; none before the first configuration is in force, or without a file.
    file: Option<(File, Requests)>,
    /// The control socket's task, once there is one.
    socket: Option<AbortHandle>,
    /// Alive while a successor has the sockets and does not accept yet.
    takeover: Weak<()>,
    /// A successor that waits until the change is in force.
    waiting: Option<oneshot::Sender<Takeover>>,
    mailboxes: Arc<[Mailbox]>,
    workers: Workers,
    registry: Arc<Registry>,
    state: Arc<State>,
    stops: Stops,
    /// The content of the file that was judged last.
    tried: Rc<Cell<Content>>,
    /// Why a reload failed last, so that `--watch`, which tries again, does not say it each time.
    failure: Option<String>,
}

/// What control goes on with.
enum Event {
    Request(Request),
    Outcome(Outcome),
    /// The change has come a step further.
    Entered(io::Result<()>),
    WorkerLost,
}

impl Control {
    /// Begins to put the first configuration in force. Clients wait in the queue of the kernel meanwhile.
    fn start(plan: Plan) -> io::Result<Self> {
        let mut pages = JoinSet::new();
        if let Some(admin) = &plan.admin {
            tracing::info!(address = %admin.local_addr()?, "admin listening");
            let admin = tokio::net::TcpListener::from_std(admin.try_clone()?)?;
            let state = Arc::clone(&plan.state);
            pages.spawn_local(async { match admin::serve(admin, state).await {} });
        }
        spawn_local(upkeep(Arc::clone(&plan.registry), plan.log));
        spawn_local(service::watchdog(Arc::clone(&plan.registry)));
        let first = plan.first;
        let mut control = Self {
            in_force: InForce::nothing(first.drain),
            reload: Reload::new(plan.source),
            entering: None,
            names: Names::start(&[], Vec::new()),
            admin: plan.admin,
            pages,
            file: plan.file.map(|file| (file, plan.requests)),
            socket: None,
            takeover: Weak::new(),
            waiting: None,
            mailboxes: plan.mailboxes,
            workers: plan.workers.into_iter().collect(),
            registry: plan.registry,
            state: plan.state,
            stops: Stops::new(plan.requested),
            tried: Rc::default(),
            failure: None,
        };
        control.enter(first, Vec::new());
        Ok(control)
    }

    /// Lets others ask for changes of the file.
    fn follow(&mut self) {
        let Some((file, requests)) = self.file.take() else {
            return;
        };
        if file.watch {
            let (tried, registry) = (Rc::clone(&self.tried), Arc::clone(&self.registry));
            let watch = watch::watch(file.path.clone(), tried, registry, requests.clone());
            spawn_local(watch);
        }
        let serve = socket::serve(
            file.path,
            file.predecessor,
            requests,
            Arc::clone(&self.registry),
        );
        self.socket = Some(spawn_local(serve).abort_handle());
    }

    /// Does what is asked for until a request, or the loss of a worker, ends that. Whatever takes time is
    /// waited for here and nowhere else, so that a request to stop is heard at once.
    async fn serve(&mut self) -> io::Result<Ended> {
        loop {
            match self.next().await {
                Event::WorkerLost => return Ok(Ended::WorkerLost),
                Event::Request(Request::Stop) => return Ok(Ended::Stop),
                Event::Request(Request::TakenOver) => return Ok(Ended::TakenOver),
                Event::Request(Request::Sockets(answer)) => self.give(answer),
                Event::Request(Request::Reload(asker)) => self.reload(asker),
                Event::Outcome(Outcome { change, askers }) => match change {
                    Ok(change) => self.enter(change, askers),
                    Err(rejected) => self.reject(rejected, askers),
                },
                Event::Entered(result) => self.entered(result)?,
            }
        }
    }

    async fn next(&mut self) -> Event {
        let is_free = self.entering.is_none();
        tokio::select! {
            biased;
            request = self.stops.next() => Event::Request(request.unwrap_or(Request::Stop)),
            _ = self.workers.join_next() => Event::WorkerLost,
            result = further(&mut self.entering, &mut self.names) => Event::Entered(result),
            outcome = self.reload.outcome(), if is_free => Event::Outcome(outcome),
        }
    }

    /// Gives a successor the sockets. One that comes while another one has them is sent away, and asks again.
    fn give(&mut self, answer: oneshot::Sender<Takeover>) {
        if self.takeover.upgrade().is_some() {
            return;
        }
        for asker in self.reload.give_up() {
            refuse(asker, TAKING_OVER);
        }
        if self.entering.is_some() || self.reload.is_preparing() {
            self.waiting = Some(answer);
            return;
        }
        let under_way = Arc::new(());
        self.takeover = Arc::downgrade(&under_way);
        // Who has asked may be gone.
        drop(answer.send(Takeover {
            listening: self.in_force.sockets(),
            admin: self.admin.clone(),
            under_way,
        }));
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
        for asker in self.reload.end() {
            refuse(asker, drain::DRAINING);
        }
        (self.entering, self.waiting) = (None, None);
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
