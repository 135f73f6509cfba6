//! The snapshot of a configuration.

use std::collections::HashMap;
use std::mem::discriminant;
use std::ptr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::{ChangeBuilder, EndpointKey};
use crate::backend::{Endpoint, Pool, Proxy, Role, Target, Way};
use crate::config::{self, Settings};
use crate::credentials::Gate;
use crate::relay::Terms;
use crate::routing::Route;
use crate::snapshot::{AddressId, Backend, Listener, ListenerId, Snapshot};
use crate::telemetry::{EndpointRole, Registry};

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
        self.endpoints
            .retain(|_, endpoint| endpoint.strong_count() > 0);
        let mut known = Known {
            registry: &self.registry,
            endpoints: &mut self.endpoints,
            now: Instant::now(),
        };
        let registry = &self.registry;
        let backend = |settings: config::Backend| Backend {
            dial: settings.dial,
            send_proxy_protocol: settings.send_proxy_protocol,
            relay: Arc::new(Terms::new(settings.relay, registry.backend(&settings.name))),
            pool: known.pool(&settings),
            names: settings.names,
            checks: settings.checks.map(Arc::new),
            leaving: settings.leaving,
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
            balancers: listener.balancers,
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

/// The endpoints that are known already.
struct Known<'b> {
    registry: &'b Registry,
    endpoints: &'b mut HashMap<EndpointKey, Weak<Endpoint>>,
    now: Instant,
}

impl Known<'_> {
    fn pool(&mut self, settings: &config::Backend) -> Pool {
        let name = &settings.name;
        let way = match settings.via.clone().map(Arc::new) {
            None => Way::Direct,
            Some(via) if settings.names.resolver.is_none() => Way::ByName(via),
            Some(via) => {
                let way = Way::ToProxy(Arc::clone(&via));
                let itself = self.endpoint(name, via.proxy(), way);
                Way::ByAddress(Proxy::new(Arc::clone(name), via, itself))
            }
        };
        let endpoints = settings.endpoints.iter().zip(&settings.roles);
        let endpoints = endpoints.map(|(target, role)| {
            let endpoint = self.endpoint(name, target, way.clone());
            endpoint.stats().set_role(shown(*role));
            endpoint
        });
        Pool::new(Arc::clone(name), endpoints.collect(), settings.balance)
            .dialled(settings.dialling.clone())
            .with_roles(&settings.roles)
    }

    /// The endpoint of this backend that is known already, or a new one.
    fn endpoint(&mut self, backend: &Arc<str>, target: &Target, way: Way) -> Arc<Endpoint> {
        let via = way.via().cloned();
        let label = match &way {
            Way::ToProxy(via) => via.name().to_string(),
            Way::Direct | Way::ByName(_) | Way::ByAddress(_) => target.to_string(),
        };
        let stats = self.registry.endpoint(backend, &label);
        let key = (Arc::clone(backend), target.clone(), via, discriminant(&way));
        let entry = self.endpoints.entry(key).or_default();
        // If its series had ended, it is not known any more; nor if those of the proxy before it had.
        let counts = |known: &Arc<Endpoint>| {
            ptr::eq(known.stats(), Arc::as_ptr(&stats)) && *known.way() == way
        };
        if let Some(known) = entry.upgrade().filter(counts) {
            // Another one with another `via` may have come before it.
            known.show();
            return known;
        }
        let endpoint = Endpoint::reached(way, target.clone(), stats, self.now);
        *entry = Arc::downgrade(&endpoint);
        endpoint
    }
}

/// The role as metrics show it.
fn shown(role: Role) -> Option<EndpointRole> {
    let weight = role.weight.unwrap_or(1);
    (!role.is_plain()).then(|| EndpointRole {
        weight: if role.drains() { 0 } else { weight },
        is_backup: role.is_backup,
    })
}
