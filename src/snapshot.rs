//! The immutable listeners, routes and backends that a connection takes on arrival.

mod difference;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::Pool;
use crate::routing::{Miss, Query, Table};
use crate::telemetry::{Counter, Endings, ListenerStats};
use crate::{admission, dial, relay};
pub use difference::Difference;

/// What a connection works with. A reload swaps it as a whole; connections keep the one they took.
///
/// Listeners, routes and backends refer to each other by position. `config` makes all of them from one file, so
/// a position is always that of an item here; one that is not is a fault of portway, and panics.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the configurations of this process, from 1.
    pub generation: u64,
    /// Limits of the hello.
    pub hello: HelloLimits,
    /// The listeners; a position names one for the life of the snapshot.
    pub listeners: Vec<Listener>,
    /// The position of each address's listener.
    pub addresses: HashMap<AddressId, usize>,
    /// The backends, in the order that routes refer to.
    pub backends: Vec<Backend>,
    /// The routes.
    pub routes: Table,
    /// Connections by position of the route.
    pub route_connections: Vec<Arc<Counter>>,
}

/// A bound address, for as long as it is bound: reloads that keep it keep its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressId(pub u64);

/// What a connection takes on arrival.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The position of its listener in it.
    pub listener: usize,
}

/// `[limits]` as far as they bound the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloLimits {
    /// From accept to a whole hello.
    pub timeout: Duration,
    /// Bytes of the hello with its record headers.
    pub max_size: usize,
}

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// Who may connect.
    pub clients: admission::Networks,
    /// Connections accepted.
    pub stats: Arc<ListenerStats>,
    /// Connections that ended before a backend was chosen.
    pub endings: Arc<Endings>,
    /// Connections that ended with a backend, by its position.
    pub backend_endings: Vec<Arc<Endings>>,
}

/// One backend.
#[derive(Debug)]
pub struct Backend {
    /// Its endpoints and the choice among them.
    pub pool: Pool,
    /// Limits of the dial.
    pub dial: dial::Limits,
    /// Limits of the relay, and the backend's counters.
    pub relay: Arc<relay::Terms>,
}

#[expect(
    clippy::indexing_slicing,
    reason = "positions are those of this snapshot"
)]
impl Snapshot {
    /// What a connection at an address takes; none if this snapshot does not have the address.
    pub fn take(this: &Arc<Self>, address: AddressId) -> Option<Taken> {
        Some(Taken {
            listener: *this.addresses.get(&address)?,
            snapshot: Arc::clone(this),
        })
    }

    /// The listener at a position.
    pub fn listener(&self, position: usize) -> &Listener {
        &self.listeners[position]
    }

    /// The counters of connections of a listener that ended with a backend, or before one was chosen.
    pub fn endings(&self, listener: usize, backend: Option<usize>) -> &Endings {
        let listener = self.listener(listener);
        let chosen = backend.map(|position| &listener.backend_endings[position]);
        chosen.unwrap_or(&listener.endings)
    }

    /// The backend of the route that a connection takes, by position. Counts the connection.
    pub fn route(&self, query: &Query<'_>) -> Result<Routed<'_>, Miss> {
        let position = self.routes.find(query)?;
        let route = &self.routes.routes()[position];
        self.route_connections[position].add(1);
        Ok(Routed {
            position,
            backend: &self.backends[route.backend],
        })
    }
}

/// Where a connection goes.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The position of the route.
    pub position: usize,
    /// The backend.
    pub backend: &'a Backend,
}
