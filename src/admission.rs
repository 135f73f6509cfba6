//! May this connection exist: limits, permits and the table of clients.

mod bounds;
mod clients;
mod machine;
mod networks;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::Limit;
pub use bounds::{Bounds, Limits};
use clients::Clients;
pub use machine::Machine;
pub use networks::Networks;

/// Who may come in, shared by all workers. It counts; it knows no socket.
#[derive(Debug)]
pub struct Admission {
    bounds: Bounds,
    connections: AtomicUsize,
    pending: AtomicUsize,
    clients: Clients,
}

impl Admission {
    /// The limits of routes.toml, with defaults that fit the machine.
    pub fn new(limits: &Limits, machine: Machine) -> Self {
        let bounds = Bounds::new(limits, machine);
        Self {
            clients: Clients::new(&bounds, limits.client_ipv6_prefix),
            bounds,
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
        }
    }

    /// The limits in force.
    pub const fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Connections that hold a permit.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Those of them without a whole hello.
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// Lets in a connection that was just accepted, or says which limit it met. It counts as pending
    /// until [`Permit::hello_done`].
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Limit> {
        if !take(&self.connections, self.bounds.max_connections) {
            return Err(Limit::MaxConnections);
        }
        if !take(&self.pending, self.bounds.max_pending_connections) {
            give_back(&self.connections);
            return Err(Limit::MaxPendingConnections);
        }
        Ok(Permit {
            admission: Arc::clone(self),
            client: None,
            pending: true,
        })
    }
}

/// The right of one connection to exist. Dropping it frees all that it holds.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    /// The key in the table of clients.
    client: Option<IpAddr>,
    pending: bool,
}

impl Permit {
    /// Applies the limits per client, once the front has told who the client is. After a refusal
    /// the connection still counts in total, until the permit is dropped.
    pub fn identify(&mut self, client: IpAddr) -> Result<(), Limit> {
        self.leave_client();
        let clients = &self.admission.clients;
        let client = clients.key(client);
        clients.enter(client, self.pending)?;
        self.client = Some(client);
        Ok(())
    }

    /// Ends the pending part: the whole hello is there.
    pub fn hello_done(&mut self) {
        if !self.pending {
            return;
        }
        self.pending = false;
        give_back(&self.admission.pending);
        if let Some(client) = self.client {
            self.admission.clients.hello_done(client);
        }
    }

    fn leave_client(&mut self) {
        if let Some(client) = self.client.take() {
            self.admission.clients.leave(client, self.pending);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave_client();
        if self.pending {
            give_back(&self.admission.pending);
        }
        give_back(&self.admission.connections);
    }
}

/// Counts one more unless that would pass `max`. Adding first and taking back would refuse others
/// in between.
fn take(count: &AtomicUsize, max: usize) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < max).then(|| count.saturating_add(1))
        })
        .is_ok()
}

fn give_back(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}
