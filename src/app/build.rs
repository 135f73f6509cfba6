//! Builds the parts of a running relay from the settings: sockets, snapshot, workers.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use crate::admin::{Relay, State};
use crate::admission::{Admission, Machine};
use crate::config::{Settings, Source};
use crate::conn::{Context, Due};
use crate::control::change::ChangeBuilder;
use crate::control::error::remedy;
use crate::control::inherited::Inherited;
use crate::control::{self, Request, Requests, StartError};
use crate::net;
use crate::relay::{Hellos, Resources};
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::{self, Loads, Mailbox};

/// Size of the range of connection numbers that each worker has for itself.
const IDS_PER_WORKER: u64 = 1 << 48;

/// Most workers by default: more of them gain nothing that can be measured.
const MOST_WORKERS: usize = 8;

/// Everything that is needed to build a relay.
pub(super) struct Parts {
    /// The first configuration.
    pub(super) settings: Settings,
    /// Its file.
    pub(super) source: Source,
    /// The file, if there is one.
    pub(super) file: Option<control::File>,
    /// Listening sockets that systemd or the old process has opened.
    pub(super) inherited: Inherited,
    /// The memory and descriptors that the machine allows.
    pub(super) machine: Machine,
    pub(super) registry: Arc<Registry>,
    pub(super) log: Arc<ConnectionLog>,
    pub(super) requests: (Requests, mpsc::UnboundedReceiver<Request>),
}

/// Binds every socket, starts the workers, and gives control what it needs.
pub(super) fn build(parts: Parts) -> Result<control::Setup, StartError> {
    let Parts {
        settings,
        source,
        file,
        mut inherited,
        machine,
        registry,
        log,
        requests: (requests, requested),
    } = parts;
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let default = || cores().min(MOST_WORKERS);
    let count = settings.workers.map_or_else(default, NonZeroUsize::get);
    let admission = Arc::new(Admission::new(&settings.limits, machine));
    let admin = settings.admin.map(|address| admin(address, &mut inherited));
    let admin = admin.transpose()?;
    let mut builder = ChangeBuilder::new(
        &settings,
        count,
        Arc::clone(&admission),
        Arc::clone(&registry),
        Arc::clone(&log),
    );
    let first = builder.change(settings, source, &mut inherited)?;
    let unwanted = inherited.finish()?;
    let crew = Crew {
        max_client_hello: first.snapshot.hello.max_size,
        admission: Arc::clone(&admission),
        hellos: Arc::default(),
        registry: Arc::clone(&registry),
        log: Arc::clone(&log),
    };
    let loads = Arc::new(Loads::new(count));
    let started = crew.start(count, &loads);
    let (mailboxes, workers) = started.map_err(StartError::at("start the thread of a worker"))?;
    let state = State::new(Relay {
        registry: Arc::clone(&registry),
        admission,
        mailboxes: Arc::clone(&mailboxes),
    });
    Ok(control::Setup {
        first,
        builder,
        file,
        admin,
        mailboxes,
        workers,
        loads,
        unwanted,
        state: Arc::new(state),
        registry,
        log,
        requests,
        requested,
    })
}

fn admin(address: SocketAddr, inherited: &mut Inherited) -> Result<TcpListener, StartError> {
    let mut bind = || match inherited.take_at(address)?.0.pop() {
        Some(socket) => Ok(socket),
        None => net::bind(address),
    };
    let listener = bind().map_err(|source| StartError::Admin {
        address,
        remedy: remedy(&source),
        source,
    })?;
    Ok(listener.into())
}

/// One receiver per worker, which is closed when the worker ends.
type Ends = Vec<oneshot::Receiver<()>>;

/// Everything that all workers share.
struct Crew {
    max_client_hello: usize,
    admission: Arc<Admission>,
    hellos: Arc<Hellos>,
    registry: Arc<Registry>,
    log: Arc<ConnectionLog>,
}

impl Crew {
    /// Starts `count` workers, and returns their mailboxes and their ends.
    fn start(&self, count: usize, loads: &Arc<Loads>) -> io::Result<(Arc<[Mailbox]>, Ends)> {
        let (mailboxes, mail): (Vec<_>, Vec<_>) = (0..count).map(|_| Mailbox::new()).unzip();
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let mut workers = Vec::new();
        for (position, mail) in mail.into_iter().enumerate() {
            let (ended, end) = oneshot::channel::<()>();
            let equipment = worker::Equipment {
                position,
                loads: Arc::clone(loads),
                mailboxes: Arc::clone(&mailboxes),
                mail,
                context: self.context(position),
                pulse: self.registry.worker(position),
            };
            thread::Builder::new()
                .name(format!("portway-{position}"))
                .spawn(move || {
                    if let Err(error) = worker::run(equipment) {
                        let remedy = remedy(&error);
                        tracing::error!(worker = position, %error, remedy, "a worker cannot run");
                    }
                    drop(ended);
                })?;
            workers.push(end);
        }
        Ok((mailboxes, workers))
    }

    /// Makes the context of a worker, on its thread.
    fn context(&self, position: usize) -> Box<dyn FnOnce() -> Context + Send> {
        let max_client_hello = self.max_client_hello;
        let admission = Arc::clone(&self.admission);
        let hellos = Arc::clone(&self.hellos);
        let registry = Arc::clone(&self.registry);
        let log = Arc::clone(&self.log);
        Box::new(move || Context {
            resources: Rc::new(Resources::new(max_client_hello, hellos)),
            admission,
            registry,
            log,
            connections: RefCell::new(Slab::new()),
            in_force: RefCell::default(),
            leaving: RefCell::default(),
            refusals: RefCell::default(),
            due: Due::default(),
            ids: Cell::new(position as u64 * IDS_PER_WORKER),
            cut: Cell::new(false),
        })
    }
}
