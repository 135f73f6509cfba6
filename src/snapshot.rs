//! The immutable listeners, routes and backends that a connection takes on arrival.

mod difference;
mod leaving;

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Checks, NameRules, Pool};
use crate::credentials::Gate;
use crate::routing::{Miss, NetworkSet, Query, Route, Table};
use crate::telemetry::{Counter, Endings, ListenerStats};
use crate::wire::{ListenerProtocol, ProxyVersion};
use crate::{admission, dial, relay};
pub use difference::Difference;
pub use leaving::{CloseOn, Leaving};

/// The configuration that a connection works with. A reload swaps it as a whole; connections keep the
/// one that they took.
///
/// Listeners, routes and backends refer to each other by position. `control::change` builds all of them
/// from one file, so each position has an item here. If one has not, that is a bug, and panics.
#[derive(Debug)]
pub struct Snapshot {
    /// The number of this configuration in the process, from 1.
    pub generation: u64,
    /// Limits of the hello.
    pub hello: HelloLimits,
    /// The listeners, in the order of their numbers.
    pub listeners: Vec<Listener>,
    /// The listener of each address, and its port.
    pub addresses: HashMap<AddressId, (ListenerId, u16)>,
    /// The backends, in the order that routes refer to.
    pub backends: Vec<Backend>,
    /// The routes.
    pub routes: Table,
    /// Counters of connections, by position of the route.
    pub route_connections: Vec<Arc<Counter>>,
}

/// The number of a bound address. Reloads that keep the address keep its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressId(pub u64);

/// A listener of one snapshot: its position there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(pub u32);

/// A route of one snapshot, counted from 1, so that an `Option` takes no more space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteId(NonZero<u32>);

impl RouteId {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a file has at most 65,536 tables"
    )]
    const fn at(position: usize) -> Self {
        Self(NonZero::<u32>::MIN.saturating_add(position as u32))
    }

    const fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The snapshot, listener and port that a connection takes on arrival.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Its listener in it.
    pub listener: ListenerId,
    /// The port of the address at which it arrived.
    pub port: u16,
}

impl Taken {
    /// The listener that accepted the connection.
    pub fn listener(&self) -> &Listener {
        self.snapshot.listener(self.listener)
    }
}

/// The part of `[limits]` that bounds the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloLimits {
    /// Longest time from accept to a complete hello.
    pub timeout: Duration,
    /// Most bytes of a hello, with its record headers.
    pub max_size: usize,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// The first message of a client.
    pub protocol: ListenerProtocol,
    /// The networks of balancers, whose connections begin with a PROXY header.
    pub balancers: NetworkSet,
    /// The networks that may connect.
    pub clients: admission::Networks,
    /// The users that may connect; `None` if clients need no password.
    pub gate: Option<Arc<Gate>>,
    /// Connections accepted.
    pub stats: Arc<ListenerStats>,
    /// Connections that ended before a backend was chosen.
    pub endings: Arc<Endings>,
    /// Connections that ended with a backend, by the position of the backend. It has every backend that a route of
    /// this listener leads to.
    pub backend_endings: HashMap<usize, Arc<Endings>>,
}

/// One backend.
#[derive(Debug)]
pub struct Backend {
    /// Its endpoints, and the choice among them.
    pub pool: Pool,
    /// How the names of the endpoints are resolved, and where they may lead. Only control needs it.
    pub names: NameRules,
    /// How the endpoints are checked; `None` if they are not. Only control needs it.
    pub checks: Option<Arc<Checks>>,
    /// When connections to it end in a gap.
    pub leaving: Leaving,
    /// The version of the PROXY header that servers get; `None` if they get none.
    pub send_proxy_protocol: Option<ProxyVersion>,
    /// Timeouts of a dial.
    pub dial: dial::Timeouts,
    /// Rules of the relay, and the backend's counters.
    pub relay: Arc<relay::Terms>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "positions are those of this snapshot"
)]
impl Snapshot {
    /// Takes this snapshot for a connection at an address; `None` if it does not have the address.
    pub fn take_at(this: &Arc<Self>, address: AddressId) -> Option<Taken> {
        let &(listener, port) = this.addresses.get(&address)?;
        Some(Taken {
            listener,
            port,
            snapshot: Arc::clone(this),
        })
    }

    /// A listener of this snapshot.
    pub fn listener(&self, ListenerId(position): ListenerId) -> &Listener {
        &self.listeners[position as usize]
    }

    /// The backend of this name.
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        let mut backends = self.backends.iter();
        backends.find(|backend| **backend.pool.name() == *name)
    }

    /// The counters of a listener for connections that ended with the backend of `route`, or before
    /// they had a route.
    pub fn endings(&self, listener: ListenerId, route: Option<RouteId>) -> &Endings {
        let listener = self.listener(listener);
        route.map_or(&*listener.endings, |route| {
            &listener.backend_endings[&self.routed(route).route.backend]
        })
    }

    /// A route of this snapshot, and its backend.
    pub fn routed(&self, id: RouteId) -> Routed<'_> {
        let route = &self.routes.routes()[id.position()];
        Routed {
            id,
            route,
            backend: &self.backends[route.backend],
        }
    }

    /// The routes that could take such a connection, whichever protocols its hello offers. Counts none.
    pub fn takers<'s>(&'s self, query: &'s Query<'s>) -> impl Iterator<Item = Routed<'s>> {
        let takers = self.routes.takers(query);
        takers.map(|position| self.routed(RouteId::at(position)))
    }

    /// The route that a connection takes. Counts none.
    pub fn route(&self, query: &Query<'_>) -> Result<Routed<'_>, Miss> {
        let position = self.routes.find(query)?;
        Ok(self.routed(RouteId::at(position)))
    }

    /// Counts a connection of the listener that has taken the route.
    pub fn begin(&self, listener: ListenerId, route: RouteId) {
        self.route_connections[route.position()].add(1);
        self.endings(listener, Some(route)).begin();
    }
}

/// The route and backend of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The route among those of the snapshot.
    pub id: RouteId,
    /// The route.
    pub route: &'a Route,
    /// The backend.
    pub backend: &'a Backend,
}
