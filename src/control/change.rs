//! Builds a change from settings. Everything that can fail is done before anything changes.

mod gates;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::Discriminant;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};

use socket2::Socket;
use strum::VariantArray;

use super::StartError;
use super::error::remedy;
use super::health;
use super::inherited::Inherited;
use super::names::Bearer;
use crate::admission::{Admission, Machine, Quotas};
use crate::backend::{Endpoint, NameRules, Target, Via, Way};
use crate::config::{self, Settings, Source};
use crate::net;
use crate::outcome::Limit;
use crate::snapshot::{AddressId, Difference, ListenerId, Snapshot};
use crate::telemetry::{ConnectionLog, Registry, program};
use gates::Gates;

/// Of a worker beside its listening sockets: epoll, wake-up and the like, and two for each pipe.
const DESCRIPTORS_PER_WORKER: usize = 4 + 2 * net::PipePool::MOST;

/// The listening sockets of one address.
#[derive(Debug)]
pub struct OpenAddress {
    /// Its number in the snapshot.
    pub id: AddressId,
    /// The name of the listener that it was opened for.
    pub listener: Arc<str>,
    /// The bound address.
    pub address: SocketAddr,
    /// One for each worker, or fewer if another process has opened them.
    pub sockets: Vec<Arc<Socket>>,
}

/// A configuration that is ready to come into force: everything that can fail has been done.
pub struct Change {
    /// The snapshot that new connections take.
    pub snapshot: Arc<Snapshot>,
    /// Addresses that are new in it.
    pub opened: Vec<OpenAddress>,
    /// Addresses that it no longer has.
    pub closed: HashSet<AddressId>,
    /// Limits of the drain.
    pub drain: config::Drain,
    /// The clients that may see the status pages.
    pub status_pages: config::StatusPages,
    /// The file.
    pub source: Source,
}

impl Change {
    /// Every endpoint of every backend, with the rules for its name, and every proxy that gets addresses.
    pub(super) fn bearers(&self) -> Vec<Bearer> {
        let backends = self.snapshot.backends.iter();
        let bearers = backends.flat_map(|backend| {
            let endpoints = backend.pool.endpoints().iter();
            let endpoints = endpoints.map(|endpoint| Bearer {
                endpoint: Arc::clone(endpoint),
                rules: backend.names.clone(),
            });
            // The rules of the backend are those of its endpoints.
            let proxy = backend.pool.proxy().map(|proxy| Bearer {
                endpoint: Arc::clone(proxy.endpoint()),
                rules: NameRules::default(),
            });
            endpoints.chain(proxy)
        });
        bearers.collect()
    }
}

/// The settings that a reload cannot change.
#[derive(Clone, Copy, PartialEq)]
struct Fixed {
    workers: Option<NonZeroUsize>,
    admin: Option<SocketAddr>,
}

impl Fixed {
    const fn of(settings: &Settings) -> Self {
        Self {
            workers: settings.workers,
            admin: settings.admin,
        }
    }
}

/// A bound address with its sockets.
#[derive(Clone)]
struct Known {
    id: AddressId,
    /// The address as written in routes.toml, where port 0 lets the kernel choose.
    configured: SocketAddr,
    address: SocketAddr,
    from_systemd: bool,
    /// Whether the configuration in force has it.
    in_force: bool,
    sockets: Vec<Weak<Socket>>,
}

impl Known {
    fn is_open(&self) -> bool {
        self.sockets.iter().any(|socket| socket.strong_count() > 0)
    }
}

/// The name of a backend, one of its endpoints, and the way to it. With another way it is another endpoint, so that
/// dials of the configuration before go on as they began.
type EndpointKey = (Arc<str>, Target, Option<Arc<Via>>, Discriminant<Way>);

/// Builds one configuration after the other. A reload works on a copy, which replaces this one if all goes
/// well. Only the limits and `log.connections` come into force as soon as a change is ready.
#[derive(Clone)]
pub struct ChangeBuilder {
    registry: Arc<Registry>,
    log: Arc<ConnectionLog>,
    admission: Arc<Admission>,
    workers: usize,
    fixed: Fixed,
    /// The generation of the snapshot in force; 0 before the first.
    generation: u64,
    /// Each endpoint as long as a configuration or a connection holds it.
    endpoints: HashMap<EndpointKey, Weak<Endpoint>>,
    /// Addresses that are bound, and those that still serve their queues.
    bound: Vec<Known>,
    /// How many addresses have been bound so far.
    addresses: u64,
    gates: Gates,
}

impl ChangeBuilder {
    /// Creates a builder that has built nothing yet. Each address gets one socket per worker.
    pub fn new(
        settings: &Settings,
        workers: usize,
        admission: Arc<Admission>,
        registry: Arc<Registry>,
        log: Arc<ConnectionLog>,
    ) -> Self {
        Self {
            registry,
            log,
            admission,
            workers,
            fixed: Fixed::of(settings),
            generation: 0,
            endpoints: HashMap::new(),
            bound: Vec::new(),
            addresses: 0,
            gates: Gates::default(),
        }
    }

    /// Does everything in a change that can fail, and what only new connections see. Addresses that it opens
    /// get the `inherited` sockets, if there are any for them.
    pub fn change(
        &mut self,
        settings: Settings,
        source: Source,
        inherited: &mut Inherited,
    ) -> Result<Change, StartError> {
        let waits_for_start = Fixed::of(&settings) != self.fixed;
        let wanted = (0..).map(ListenerId).zip(&settings.listeners);
        let wanted = wanted.flat_map(|(id, listener)| {
            let addresses = listener.bind.iter();
            addresses.map(move |bind| (id, listener, *bind))
        });
        let wanted: Vec<(ListenerId, &config::Listener, SocketAddr)> = wanted.collect();
        // A successor may have closed an address: then it is bound again.
        let known = self.bound.iter();
        let known = known.filter(|known| known.in_force && known.is_open());
        let known: Vec<_> = known.map(|known| (known.id, known.configured)).collect();
        let binds: Vec<_> = wanted.iter().map(|&(_, _, bind)| bind).collect();
        let Difference { kept, closed } = Difference::new(&known, &binds);
        let closed: HashSet<AddressId> = closed.into_iter().collect();
        self.may_close(&closed)?;
        let gates = self.gates.of(&settings.listeners);
        let gates = gates.map_err(StartError::at("start the thread that checks passwords"))?;
        let going = self.going(&closed);
        let mut opened = Vec::new();
        let mut addresses = HashMap::new();
        for (&(listener_id, listener, bind), kept) in wanted.iter().zip(kept) {
            let at = if let Some(kept) = kept {
                self.bound.iter().find(|known| known.id == kept)
            } else {
                let open = self.bind(listener, bind, (&going, inherited));
                opened.push(open.map_err(|source| failed(&listener.name, bind, source))?);
                opened.last().map(|(_, known)| known)
            };
            addresses.extend(at.map(|at| (at.id, (listener_id, at.address.port()))));
        }
        // Listen only when all are bound: if one failed, connections to the others would be reset.
        for (open, known) in &opened {
            let mut sockets = open.sockets.iter();
            let done = sockets.try_for_each(|socket| net::listen(socket));
            done.map_err(|source| failed(&open.listener, known.configured, source))?;
        }
        for known in &mut self.bound {
            known.in_force &= !closed.contains(&known.id);
        }
        self.bound.retain(Known::is_open);
        let (opened, known): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
        self.bound.extend(known);
        let is_checked = settings.backends.iter().any(|it| it.checks.is_some());
        let checks = if is_checked { health::AT_ONCE } else { 0 };
        let (drain, log, quotas) = (settings.drain, settings.log, settings.limits.clone());
        self.limit(&quotas, addresses.len(), checks);
        let status_pages = settings.status_pages.clone();
        let snapshot = Arc::new(self.snapshot(settings, addresses, gates));
        self.log.adopt(log);
        program::adopt(log.format);
        if waits_for_start {
            tracing::warn!("workers and admin.bind change only at the next start");
        }
        Ok(Change {
            snapshot,
            opened,
            closed,
            drain,
            status_pages,
            source,
        })
    }

    /// Fails if systemd has opened one of these addresses. It keeps its sockets open whatever we do, so
    /// clients would wait there for ever.
    fn may_close(&self, closed: &HashSet<AddressId>) -> Result<(), StartError> {
        let mut closed = self.bound.iter().filter(|known| closed.contains(&known.id));
        match closed.find(|known| known.from_systemd) {
            Some(known) => Err(StartError::Unwanted {
                address: known.configured,
            }),
            None => Ok(()),
        }
    }

    /// The ports of sockets that are still open but about to close.
    fn going(&self, closed: &HashSet<AddressId>) -> HashSet<u16> {
        let is_going = |known: &&Known| !known.in_force || closed.contains(&known.id);
        let open = self.bound.iter().filter(|known| known.is_open());
        let going = open.filter(is_going);
        going.map(|known| known.address.port()).collect()
    }

    /// Gets the sockets of an address: inherited ones, or new ones, one for each worker. Sockets that are
    /// about to close (`going`) may still have its port.
    fn bind(
        &mut self,
        listener: &config::Listener,
        configured: SocketAddr,
        (going, inherited): (&HashSet<u16>, &mut Inherited),
    ) -> io::Result<(OpenAddress, Known)> {
        let (mut sockets, from_systemd) = inherited.take_at(configured)?;
        if sockets.is_empty() {
            let port = configured.port();
            let beside_own = going.contains(&port) || inherited.has_port(port);
            sockets = net::bind_group(configured, self.workers, listener.freebind, beside_own)?;
        }
        let address = sockets.first().map_or(Ok(configured), net::local_address)?;
        self.addresses += 1;
        let id = AddressId(self.addresses);
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let known = Known {
            id,
            configured,
            address,
            from_systemd,
            in_force: true,
            sockets: sockets.iter().map(Arc::downgrade).collect(),
        };
        let open = OpenAddress {
            id,
            listener: Arc::clone(&listener.name),
            address,
            sockets,
        };
        Ok((open, known))
    }

    /// Puts the limits in force and makes them known. Their defaults fit what the machine allows now, less the
    /// descriptors of the workers, of so many addresses, and of so many health checks.
    fn limit(&self, quotas: &Quotas, addresses: usize, checks: usize) {
        let reserved = self.workers * (DESCRIPTORS_PER_WORKER + addresses) + checks;
        let machine = Machine::read().without_descriptors(reserved);
        self.admission.adopt(quotas, machine);
        let bounds = self.admission.bounds();
        for &limit in Limit::VARIANTS {
            self.registry.limits().set(limit, bounds.get(limit));
        }
        tracing::info!(
            max_connections = bounds.max_connections,
            bound_by = bounds.bound_by,
            max_pending_connections = bounds.max_pending_connections,
            max_pending_per_client = bounds.max_pending_per_client,
            pending_share_above = bounds.pending_share_above,
            "limits"
        );
        if bounds.max_connections > bounds.machine_max_connections {
            tracing::warn!(
                max_connections = bounds.max_connections,
                machine = bounds.machine_max_connections,
                "limits.max_connections is more than descriptors and memory allow: raise those \
                 (ulimit -n, memory.max) or lower the limit"
            );
        }
    }
}

fn failed(listener: &Arc<str>, address: SocketAddr, source: io::Error) -> StartError {
    StartError::Listen {
        listener: Arc::clone(listener),
        address,
        remedy: remedy(&source),
        source,
    }
}
