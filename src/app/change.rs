//! Makes one configuration after the other: what can fail is done before anything changes.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::StartError;
use super::inherited::Inherited;
use crate::admission::Admission;
use crate::backend::{Endpoint, Pool};
use crate::config::{self, Settings};
use crate::control::{Bound, Change, Source};
use crate::net;
use crate::relay::Terms;
use crate::routing::Route;
use crate::snapshot::{AddressId, Backend, Difference, Listener, Snapshot};
use crate::telemetry::{ConnectionLog, Limit, Registry};

/// What a reload cannot change.
#[derive(PartialEq)]
pub(super) struct Fixed {
    workers: Option<NonZeroUsize>,
    admin: Option<SocketAddr>,
}

impl Fixed {
    pub(super) const fn of(settings: &Settings) -> Self {
        Self {
            workers: settings.workers,
            admin: settings.admin,
        }
    }
}

/// Makes one configuration after the other.
pub(super) struct Builder {
    pub(super) registry: Arc<Registry>,
    pub(super) log: Arc<ConnectionLog>,
    pub(super) admission: Arc<Admission>,
    pub(super) workers: usize,
    pub(super) fixed: Fixed,
    /// The snapshot in force.
    pub(super) before: Option<Arc<Snapshot>>,
    /// Addresses that were bound so far.
    pub(super) addresses: u64,
    pub(super) inherited: Inherited,
}

impl Builder {
    /// Makes the configurations that the file has from now on.
    pub(super) fn reads(mut self, path: PathBuf) -> Source {
        Box::new(move |bound| {
            let loaded = super::load(&path)?;
            for warning in loaded.warnings.lines() {
                tracing::warn!("{warning}");
            }
            if Fixed::of(&loaded.settings) != self.fixed {
                tracing::warn!("workers and admin.bind change at the next start only");
            }
            let hash = loaded.hash;
            self.change(loaded.settings, hash, bound)
                .map_err(|error| super::rejected(hash, &error))
        })
    }

    /// Does all of a change that can fail, and what only new connections see.
    pub(super) fn change(
        &mut self,
        settings: Settings,
        hash: u32,
        bound: &[Bound],
    ) -> Result<Change, StartError> {
        let wanted = settings.listeners.iter().enumerate();
        let wanted = wanted.flat_map(|(at, one)| one.bind.iter().map(move |bind| (at, *bind)));
        let wanted: Vec<(usize, SocketAddr)> = wanted.collect();
        let known: Vec<_> = bound.iter().map(|one| (one.id, one.configured)).collect();
        let binds: Vec<_> = wanted.iter().map(|&(_, bind)| bind).collect();
        let Difference { kept, closed } = Difference::new(&known, &binds);
        let closes = |port: u16| {
            let mut closes = bound.iter().filter(|bound| closed.contains(&bound.id));
            closes.any(|bound| bound.address.port() == port)
        };
        let name = |listener: usize| {
            let listener = settings.listeners.get(listener);
            listener.map_or_else(|| "-".into(), |listener| Arc::clone(&listener.name))
        };
        let mut opened = Vec::new();
        let mut addresses = HashMap::new();
        for ((listener, bind), kept) in wanted.into_iter().zip(kept) {
            let id = if let Some(id) = kept {
                id
            } else {
                let bound = self.bind(bind, closes(bind.port()));
                let bound = bound.map_err(|source| StartError::Listen {
                    listener: name(listener),
                    address: bind,
                    remedy: remedy(&source),
                    source,
                })?;
                let id = bound.id;
                opened.push(bound);
                id
            };
            addresses.insert(id, listener);
        }
        let drain = settings.drain;
        self.limit(&settings);
        self.log.adopt(settings.log);
        let snapshot = Arc::new(self.snapshot(settings, addresses));
        self.before = Some(Arc::clone(&snapshot));
        Ok(Change {
            snapshot,
            opened,
            closed,
            drain,
            hash,
        })
    }

    /// The sockets of an address: inherited ones, or new ones, one for each worker.
    fn bind(&mut self, configured: SocketAddr, beside_own: bool) -> io::Result<Bound> {
        let mut sockets = self.inherited.take(configured)?;
        if sockets.is_empty() {
            sockets = net::bind_group(configured, self.workers, beside_own)?;
        }
        let address = sockets.first().map_or(Ok(configured), net::local_address)?;
        self.addresses += 1;
        Ok(Bound {
            id: AddressId(self.addresses),
            configured,
            address,
            sockets: sockets.into_iter().map(Arc::new).collect(),
        })
    }

    /// Puts the limits in force and makes them known.
    fn limit(&self, settings: &Settings) {
        self.admission.adopt(&settings.limits);
        let bounds = self.admission.bounds();
        for limit in Limit::ALL {
            let value = bounds.get(limit).map(|value| value as u64);
            self.registry.limits().set(limit, value);
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
                "limits.max_connections is more than descriptors and memory allow: raise those \
                 (ulimit -n, memory.max) or lower the limit"
            );
        }
    }

    /// The snapshot of these settings. What is known of endpoints that stay is kept.
    fn snapshot(&self, settings: Settings, addresses: HashMap<AddressId, usize>) -> Snapshot {
        let now = Instant::now();
        let known = self.before.iter().flat_map(|before| &before.backends);
        let known = known.flat_map(|backend| {
            let endpoints = backend.pool.endpoints().iter();
            endpoints.map(|one| ((backend.pool.name(), one.target()), one))
        });
        let known: HashMap<_, _> = known.collect();
        let registry = &self.registry;
        let backend = |settings: config::Backend| {
            let endpoints = settings.endpoints.into_iter().map(|target| {
                if let Some(known) = known.get(&(&settings.name, &target)) {
                    return Arc::clone(known);
                }
                let stats = registry.endpoint(&settings.name, &target.to_string());
                Arc::new(Endpoint::new(target, stats, now))
            });
            let endpoints = endpoints.collect();
            Backend {
                dial: settings.dial,
                relay: Arc::new(Terms::new(settings.relay, registry.backend(&settings.name))),
                pool: Pool::new(settings.name, endpoints, settings.balance),
            }
        };
        let backends: Vec<Backend> = settings.backends.into_iter().map(backend).collect();
        let endings = |listener: &str| {
            let backends = backends.iter().map(|backend| &**backend.pool.name());
            let endings = backends.map(|backend| registry.endings(listener, Some(backend)));
            endings.collect()
        };
        let listeners = settings.listeners.into_iter().map(|listener| Listener {
            stats: registry.listener(&listener.name),
            endings: registry.endings(&listener.name, None),
            backend_endings: endings(&listener.name),
            name: listener.name,
            clients: listener.clients,
        });
        let listeners = listeners.collect();
        let routes = settings.routes;
        let connections = |route: &Route| registry.route(&route.name);
        Snapshot {
            generation: 1 + self.before.as_ref().map_or(0, |before| before.generation),
            hello: settings.hello,
            listeners,
            addresses,
            route_connections: routes.routes().iter().map(connections).collect(),
            backends,
            routes,
        }
    }
}

/// What to do when an address cannot be bound.
pub(super) fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another socket has this address; stop that program or choose another port \
             (`ss -ltnp` shows who has it)"
        }
        Some(libc::EADDRNOTAVAIL) => {
            "this host does not have the address; write one of its own, or [::] for all"
        }
        Some(libc::EACCES) => {
            "an ordinary user may not bind a port below 1024. Either give the process the ambient \
             capability (AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit), or lower \
             net.ipv4.ip_unprivileged_port_start, or bind a higher port such as 8443 and lead \
             clients to it"
        }
        _ => "see the cause",
    }
}
