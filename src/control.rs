//! The control thread, which does everything except data: names, admin, upkeep of metrics, reload, drain.

pub mod change;
mod drain;
mod ending;
mod entering;
pub mod error;
mod giving;
mod health;
mod in_force;
pub mod inherited;
mod known;
pub mod names;
pub mod probe;
mod reached;
mod reload;
mod request;
mod returning;
mod service;
mod setup;
pub mod socket;
mod steps;
mod succession;
pub mod takeover;
#[cfg(test)]
mod tests;
pub mod upgrade;
mod watch;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::admin::State;
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::{Loads, Mailbox};
use drain::{Begun, Stops};
use entering::{Entering, further};
pub use error::StartError;
use in_force::InForce;
pub use known::{KnownAddress, KnownAddresses, Unaddressed};
use names::Names;
use reload::{Reload, Settled};
pub use request::{Configuration, Crash, NotReloaded, Reloaded, Request, Requests, Takeover};
use service::Service;
pub use setup::{File, Setup};
use socket::Successor;
use steps::Steps;
use succession::Predecessor;
use upgrade::{Heir, Upgrade};
use watch::Content;

/// How often the log's sums are written and the histograms' samples folded. Both accumulate until then.
const UPKEEP: Duration = Duration::from_secs(1);

/// PID 1: when it exits, so does its container.
const FIRST: u32 = 1;

/// Why portway does not reload during a takeover.
const TAKING_OVER: &str = "a successor is taking over: try again when it accepts";

/// How control ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// After a drain.
    Drained,
    /// At once, at the second request.
    AtOnce,
    /// At once, because this part ended by itself: portway is broken.
    Lost(&'static str),
}

/// Opens the listeners and keeps portway running until it is stopped. Needs a local runtime.
pub async fn run(setup: Setup) -> io::Result<Stopped> {
    Control::start(setup)?.run().await
}

/// Why control has stopped serving.
enum Ended {
    Stop,
    TakenOver(Option<Successor>),
    Lost(&'static str),
}

/// One future per worker, which completes when the worker ends.
type Workers = JoinSet<Result<(), oneshot::error::RecvError>>;

struct Control {
    in_force: InForce,
    reload: Reload,
    /// The change that is coming into force.
    entering: Option<Entering>,
    names: Names,
    admin: Option<Arc<TcpListener>>,
    /// The admin address that the successor has closed.
    admin_was: Option<SocketAddr>,
    /// Stops answering at the admin address; present while this process answers there.
    leave_admin: Option<CancellationToken>,
    /// The predecessor, until it knows that we accept.
    given: Option<socket::Giver>,
    predecessor: Predecessor,
    /// When to read the file again without a request; `None` if its content has been judged.
    again: Option<Instant>,
    loads: Arc<Loads>,
    /// Where the file is, and how other tasks request a reload.
    file: Option<(File, Requests)>,
    /// The control socket's task, once there is one.
    socket: Option<AbortHandle>,
    /// Alive while a successor has the sockets and does not accept yet.
    takeover: Weak<()>,
    /// A successor that waits for the sockets until the change is in force.
    waiting: Option<oneshot::Sender<Takeover>>,
    service: Rc<Service>,
    /// The successor that this process starts.
    heir: Rc<Heir>,
    /// The last upgrade.
    upgrade: Option<Upgrade>,
    /// The predecessor that has started this process, if this one must end after it.
    parent: Option<i32>,
    mailboxes: Arc<[Mailbox]>,
    workers: Workers,
    registry: Arc<Registry>,
    state: Arc<State>,
    stops: Stops,
    /// The drain, while one is under way.
    drain: Option<Begun>,
    /// The content of the file that was judged last.
    tried: Rc<Cell<Content>>,
    /// Why the last reload failed, so that the retries of `--watch` do not log it each time.
    failure: Option<String>,
}

/// The event that the loop of control handles next.
enum Event {
    Request(Request),
    Settled(Settled),
    /// The change has finished a step.
    Entered(io::Result<()>),
    /// It is time to read the file again.
    Again,
    Lost(&'static str),
}

impl Control {
    /// Begins to put the first configuration in force. Meanwhile clients wait in the kernel's queue.
    fn start(setup: Setup) -> io::Result<Self> {
        let admin = setup.admin.map(TcpListener::from_std).transpose()?;
        let registry = Arc::clone(&setup.registry);
        let upkeep = upkeep(Arc::clone(&registry), setup.log, Arc::clone(&setup.state));
        spawn_local(registry.vital_task("upkeep", upkeep));
        let first = setup.first;
        // The predecessor answers at the admin address until we accept.
        let mut file = setup.file;
        let path = file.as_ref().map_or(Path::new(""), |file| &file.path);
        let steps = Steps::new(path, setup.builder);
        let given = file.as_mut().and_then(|file| file.giver.take());
        let parent = given.as_ref().and_then(socket::Giver::parent);
        let service = Rc::new(Service::new(parent.is_none()));
        let watchdog = service::watchdog(Rc::clone(&service), Arc::clone(&registry));
        spawn_local(registry.vital_task("watchdog", watchdog));
        if given.is_some() {
            setup.state.await_predecessor();
        }
        let unwanted = setup.unwanted;
        let mut control = Self {
            in_force: InForce::nothing(first.drain, &registry),
            reload: Reload::new(steps),
            entering: None,
            names: Names::start(&[], Vec::new()),
            admin: admin.map(Arc::new),
            admin_was: None,
            leave_admin: None,
            file: file.map(|file| (file, setup.requests)),
            socket: None,
            predecessor: match &given {
                Some(_) => Predecessor::Awaited(unwanted),
                None => Predecessor::None,
            },
            given,
            again: None,
            loads: setup.loads,
            takeover: Weak::new(),
            waiting: None,
            heir: Rc::new(Heir::new(Rc::clone(&service))),
            service,
            upgrade: None,
            parent: parent.filter(|_| Service::is_there()),
            mailboxes: setup.mailboxes,
            workers: setup.workers.into_iter().collect(),
            registry,
            state: setup.state,
            stops: Stops::new(setup.requested),
            drain: None,
            tried: Rc::default(),
            failure: None,
        };
        if control.given.is_none() {
            control.serve_admin();
        }
        control.enter(first, Vec::new());
        Ok(control)
    }

    async fn run(&mut self) -> io::Result<Stopped> {
        let stopped = loop {
            match self.serve().await? {
                Ended::Lost(what) => break Stopped::Lost(what),
                Ended::Stop => break self.stop().await,
                Ended::TakenOver(successor) => {
                    if let Some(stopped) = self.yield_to(successor).await {
                        break stopped;
                    }
                }
            }
        };
        self.answer_upgrade().await;
        if stopped == Stopped::Drained {
            return Ok(self.await_next().await);
        }
        Ok(stopped)
    }

    /// Starts watching the file for changes, if that is wanted.
    fn watch(&self) {
        if let Some((file, requests)) = &self.file
            && file.watch
        {
            let (tried, registry) = (Rc::clone(&self.tried), Arc::clone(&self.registry));
            let watch = watch::watch(file.path.clone(), tried, registry, requests.clone());
            spawn_local(self.registry.vital_task("watch of the file", watch));
        }
    }

    /// Handles requests until one of them, or the loss of something vital, ends that. Control waits only here,
    /// for everything that takes time, so that it notices a request to stop at once.
    async fn serve(&mut self) -> io::Result<Ended> {
        loop {
            match self.next().await {
                Event::Lost(what) => return Ok(Ended::Lost(what)),
                Event::Request(Request::Stop) => return Ok(Ended::Stop),
                Event::Request(Request::TakenOver(by)) => return Ok(Ended::TakenOver(by)),
                Event::Request(Request::Succeeds(link)) => self.succeed(link),
                // This process accepts, or is about to.
                Event::Request(Request::Unserved(_)) => {}
                Event::Request(Request::Upgrade(asker)) => self.upgrade(asker),
                Event::Request(Request::Sockets(answer)) => self.give(answer),
                Event::Request(Request::Reload(asker)) => self.reload(asker),
                Event::Request(Request::Configuration(asker)) => {
                    self.show_configuration(asker);
                }
                Event::Request(Request::Addresses(of, asker)) => self.show_addresses(&of, asker),
                Event::Settled(Settled { change, askers }) => match change {
                    Ok(change) => self.enter(change, askers),
                    Err(rejected) => self.reject(rejected, askers),
                },
                Event::Entered(result) => self.entered(result)?,
                Event::Again => self.try_again(),
            }
        }
    }

    async fn next(&mut self) -> Event {
        let is_free = self.entering.is_none();
        tokio::select! {
            biased;
            request = self.stops.next() => Event::Request(request.unwrap_or(Request::Stop)),
            what = lost(&mut self.workers, &self.registry) => Event::Lost(what),
            result = further(&mut self.entering, &mut self.names) => Event::Entered(result),
            settled = self.reload.settled(), if is_free => Event::Settled(settled),
            () = at(self.again) => Event::Again,
        }
    }

    /// Tells which configuration is in force.
    fn show_configuration(&self, asker: oneshot::Sender<Configuration>) {
        // The process that asked may be gone.
        drop(asker.send(self.in_force.configuration.clone()));
    }

    /// Tells what is known of the addresses of a backend.
    fn show_addresses(&self, backend: &str, asker: oneshot::Sender<KnownAddresses>) {
        // The same.
        drop(asker.send(self.in_force.addresses(backend)));
    }
}

/// Waits until something ends that portway cannot do without. The log already says why.
async fn lost(workers: &mut Workers, registry: &Registry) -> &'static str {
    tokio::select! {
        _ = workers.join_next() => "worker",
        task = registry.vital().loss() => task,
    }
}

/// Waits until `time`, or for ever if there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn upkeep(registry: Arc<Registry>, log: Arc<ConnectionLog>, state: Arc<State>) -> Infallible {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        let now = ticks.tick().await.into_std();
        log.sum_up();
        registry.upkeep(now);
        state.upkeep(now);
    }
}
