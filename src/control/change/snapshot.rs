//! The snapshot of a configuration.

use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{ChangeBuilder, EndpointKey};
use crate::backend::{Endpoint, Pool};
use crate::config::{self, Settings};
use crate::credentials::Gate;
use crate::relay::Terms;
use crate::routing::Route;
use crate::snapshot::{AddressId, Backend, Listener, ListenerId, Snapshot};
use crate::telemetry::EndpointStats;

impl ChangeBuilder {
    /// The snapshot of these settings. Endpoints keep their state if they stay, or if they come back while
    /// connections to them are open. `gates` are those of the listeners.
    pub(super) fn snapshot(
        &mut self,
        settings: Settings,
        addresses: HashMap<AddressId, (ListenerId, u16)>,
        gates: Vec<Option<Arc<Gate>>>,
    ) -> Snapshot {
        self.generation += 1;
        self.registry.configure();
        let now = Instant::now();
        let registry = &self.registry;
        let endpoints = &mut self.endpoints;
        endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let backend = |settings: config::Backend| {
            let via = settings.via.map(Arc::new);
            let endpoints = settings.endpoints.into_iter().map(|target| {
                let stats = registry.endpoint(&settings.name, &target.to_string());
                let key = (Arc::clone(&settings.name), target, via.clone());
                endpoint(endpoints, key, stats, now)
            });
            let endpoints = endpoints.collect();
            Backend {
                dial: settings.dial,
                names: settings.names,
                relay: Arc::new(Terms::new(settings.relay, registry.backend(&settings.name))),
                pool: Pool::new(settings.name, endpoints, settings.balance),
            }
        };
        let backends: Vec<Backend> = settings.backends.into_iter().map(backend).collect();
        let routes = settings.routes;
        let joins = routes.joins();
        let endings = |listener: &str| {
            let reached = joins.backends(listener);
            let endings = reached.filter_map(|position| {
                let name = backends.get(position)?.pool.name();
                Some((position, registry.endings(listener, Some(name))))
            });
            endings.collect()
        };
        let listeners = settings.listeners.into_iter().zip(gates);
        let listeners = listeners.map(|(listener, gate)| Listener {
            stats: registry.listener(&listener.name),
            endings: registry.endings(&listener.name, None),
            backend_endings: endings(&listener.name),
            name: listener.name,
            protocol: listener.protocol,
            gate,
            clients: listener.clients,
        });
        let listeners = listeners.collect();
        let connections = |route: &Route| registry.route(&route.name);
        Snapshot {
            generation: self.generation,
            hello: settings.hello,
            listeners,
            addresses,
            route_connections: routes.routes().iter().map(connections).collect(),
            backends,
            routes,
        }
    }
}

/// The endpoint with this key that is known already, or a new one.
fn endpoint(
    endpoints: &mut HashMap<EndpointKey, Weak<Endpoint>>,
    key: EndpointKey,
    stats: Arc<EndpointStats>,
    now: Instant,
) -> Arc<Endpoint> {
    let (_, target, via) = key.clone();
    let entry = endpoints.entry(key).or_default();
    // If its series had ended, it is not known any more.
    let counts = |known: &Arc<Endpoint>| ptr::eq(known.stats(), Arc::as_ptr(&stats));
    if let Some(known) = entry.upgrade().filter(counts) {
        // Another one with another `via` may have come before it.
        known.show();
        return known;
    }
    let endpoint = Endpoint::behind(via, target, stats, now);
    *entry = Arc::downgrade(&endpoint);
    endpoint
}
