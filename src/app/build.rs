//! Builds what runs from the settings: sockets, snapshot, workers.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use slab::Slab;
use tokio::sync::{mpsc, oneshot};

use super::StartError;
use crate::admin::State;
use crate::admission::{Admission, Machine};
use crate::backend::{Endpoint, Pool};
use crate::config::{self, Settings};
use crate::conn::Context;
use crate::control::{self, Bound};
use crate::net;
use crate::relay::{Resources, Terms};
use crate::snapshot::{Backend, Listener, Snapshot};
use crate::telemetry::{ConnectionLog, Limit, Registry};
use crate::worker::{self, Loads, Mailbox};

/// Connection numbers of one worker before those of the next.
const IDS_PER_WORKER: u64 = 1 << 48;

/// Of a worker beside its listening sockets: epoll, wake-up and the like, and two for each pipe.
const DESCRIPTORS_PER_WORKER: usize = 4 + 2 * net::Pool::MOST;

/// More workers than this gain nothing measurable by default.
const MOST_WORKERS: usize = 8;

/// Binds every socket, starts the workers, and gives control what it needs.
pub(super) fn plan(
    settings: Settings,
    registry: Arc<Registry>,
    log: Arc<ConnectionLog>,
    stop: mpsc::UnboundedReceiver<()>,
) -> Result<control::Plan, StartError> {
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let default = || cores().min(MOST_WORKERS);
    let count = settings.workers.map_or_else(default, NonZeroUsize::get);
    let addresses: usize = settings.listeners.iter().map(|one| one.bind.len()).sum();
    let machine = Machine::read().without_descriptors(count * (DESCRIPTORS_PER_WORKER + addresses));
    let admission = admission(&settings, machine, &registry);
    let listening = listen(&settings.listeners, count)?;
    let admin = settings.admin.map(admin).transpose()?;
    let drain = settings.drain;
    let snapshot = Arc::new(snapshot(settings, &registry));
    let endpoints = snapshot
        .backends
        .iter()
        .flat_map(|backend| backend.pool.endpoints());
    let endpoints = endpoints.cloned().collect();
    let state = Arc::new(State::new(Arc::clone(&registry)));
    let crew = Crew {
        snapshot,
        admission,
        registry: Arc::clone(&registry),
        log: Arc::clone(&log),
    };
    let (mailboxes, workers) = crew.start(count)?;
    Ok(control::Plan {
        listening,
        admin,
        endpoints,
        mailboxes,
        workers,
        registry,
        log,
        state,
        drain,
        stop,
    })
}

/// Computes the limits and makes them known.
fn admission(settings: &Settings, machine: Machine, registry: &Registry) -> Arc<Admission> {
    let admission = Admission::new(&settings.limits, machine);
    let bounds = admission.bounds();
    for limit in Limit::ALL {
        registry
            .limits()
            .set(limit, bounds.get(limit).map(|value| value as u64));
    }
    tracing::info!(
        max_connections = bounds.max_connections,
        bound_by = bounds.bound_by,
        max_pending_connections = bounds.max_pending_connections,
        max_pending_per_client = bounds.max_pending_per_client,
        "limits"
    );
    if bounds.max_connections > bounds.machine_max_connections {
        tracing::warn!(
            max_connections = bounds.max_connections,
            machine = bounds.machine_max_connections,
            "limits.max_connections is more than descriptors and memory allow: raise those (ulimit \
             -n, memory.max) or lower the limit"
        );
    }
    Arc::new(admission)
}

fn listen(listeners: &[config::Listener], workers: usize) -> Result<Vec<Bound>, StartError> {
    let mut listening = Vec::new();
    for (position, listener) in listeners.iter().enumerate() {
        for &address in &listener.bind {
            let failed = |source: io::Error| StartError::Listen {
                listener: Arc::clone(&listener.name),
                address,
                remedy: remedy(&source),
                source,
            };
            let sockets = net::bind_group(address, workers).map_err(failed)?;
            let bound = sockets
                .first()
                .map_or(Ok(address), net::local_address)
                .map_err(failed)?;
            listening.push(Bound {
                name: Arc::clone(&listener.name),
                listener: position,
                address: bound,
                sockets,
            });
        }
    }
    Ok(listening)
}

fn admin(address: SocketAddr) -> Result<TcpListener, StartError> {
    let listener = net::bind(address).map(TcpListener::from);
    listener.map_err(|source| StartError::Admin {
        address,
        remedy: remedy(&source),
        source,
    })
}

/// What to do when an address cannot be bound.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another socket has this address; stop that program or choose another port \
             (`ss -ltnp` shows who has it)"
        }
        Some(libc::EADDRNOTAVAIL) => {
            "this host does not have the address; write one of its own, or [::] for all"
        }
        Some(libc::EACCES) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (ambient, in a systemd unit), or a lower \
             net.ipv4.ip_unprivileged_port_start"
        }
        _ => "see the cause",
    }
}

fn snapshot(settings: Settings, registry: &Registry) -> Snapshot {
    let now = Instant::now();
    let backends: Vec<Backend> = settings
        .backends
        .into_iter()
        .map(|backend| {
            let endpoints = backend.endpoints.into_iter().map(|target| {
                let stats = registry.endpoint(&backend.name, &target.to_string());
                Arc::new(Endpoint::new(target, stats, now))
            });
            Backend {
                pool: Pool::new(
                    Arc::clone(&backend.name),
                    endpoints.collect(),
                    backend.balance,
                ),
                dial: backend.dial,
                relay: Arc::new(Terms::new(backend.relay, registry.backend(&backend.name))),
            }
        })
        .collect();
    let listeners = settings.listeners.into_iter().map(|listener| Listener {
        stats: registry.listener(&listener.name),
        endings: registry.endings(&listener.name, None),
        backend_endings: backends
            .iter()
            .map(|backend| registry.endings(&listener.name, Some(backend.pool.name())))
            .collect(),
        name: listener.name,
        clients: listener.clients,
    });
    let routes = settings.routes;
    Snapshot {
        generation: 1,
        hello: settings.hello,
        listeners: listeners.collect(),
        route_connections: routes
            .routes()
            .iter()
            .map(|route| registry.route(&route.name))
            .collect(),
        backends,
        routes,
    }
}

/// Each is closed when its worker ends.
type Ends = Vec<oneshot::Receiver<()>>;

/// What all workers share.
struct Crew {
    snapshot: Arc<Snapshot>,
    admission: Arc<Admission>,
    registry: Arc<Registry>,
    log: Arc<ConnectionLog>,
}

impl Crew {
    /// Starts `count` workers; the set tells each end of one.
    fn start(&self, count: usize) -> io::Result<(Arc<[Mailbox]>, Ends)> {
        let (mailboxes, mail): (Vec<_>, Vec<_>) = (0..count).map(|_| Mailbox::new()).unzip();
        let mailboxes: Arc<[Mailbox]> = mailboxes.into();
        let loads = Arc::new(Loads::new(count));
        let mut workers = Vec::new();
        for (position, mail) in mail.into_iter().enumerate() {
            let (ended, end) = oneshot::channel::<()>();
            let plan = worker::Plan {
                position,
                loads: Arc::clone(&loads),
                mailboxes: Arc::clone(&mailboxes),
                mail,
                context: self.context(position),
                pulse: self.registry.worker(position),
            };
            thread::Builder::new()
                .name(format!("portway-{position}"))
                .spawn(move || {
                    if let Err(error) = worker::run(plan) {
                        tracing::error!(worker = position, %error, "a worker cannot run");
                    }
                    drop(ended);
                })?;
            workers.push(end);
        }
        Ok((mailboxes, workers))
    }

    /// Makes the context of a worker, on its thread.
    fn context(&self, position: usize) -> Box<dyn FnOnce() -> Context + Send> {
        let snapshot = Arc::clone(&self.snapshot);
        let admission = Arc::clone(&self.admission);
        let registry = Arc::clone(&self.registry);
        let log = Arc::clone(&self.log);
        Box::new(move || Context {
            resources: Rc::new(Resources::new(snapshot.hello.max_size)),
            snapshot: RefCell::new(snapshot),
            admission,
            registry,
            log,
            flows: RefCell::new(Slab::new()),
            ids: Cell::new(position as u64 * IDS_PER_WORKER),
            cut: Cell::new(false),
        })
    }
}
