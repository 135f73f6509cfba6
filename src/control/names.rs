//! Resolves the names of endpoints in the background, so that no connection ever waits for DNS, and
//! keeps portway's own addresses, and those of no server, out of what it dials.

mod name;
mod own;
mod resolver;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::error;

use crate::backend::{Endpoint, Target};
use crate::outcome::ResolveFailure;
use name::Name;
use own::Own;
use resolver::{Lookup, Resolver, system_lookup};
use told::{Told, warn_of_excluded};

/// Look-ups at once.
const LOOKUPS: usize = 8;
/// Longest time that the first connections wait for names.
pub(super) const FIRST_PASS: Duration = Duration::from_secs(1);

/// The background tasks that keep the addresses of endpoints fresh; dropping it ends them. Every
/// name is looked up every 30 s, within a second of a failed dial, and every 2 s while it leaves an endpoint
/// without an address. Names that cannot be resolved keep their last good addresses.
///
/// The system's resolver blocks a thread of the runtime's blocking pool. There is at most one for
/// each name, also while the resolver hangs, so `max_blocking_threads` should not be below the
/// number of names; tokio's default of 512 is ample.
pub struct Names {
    resolver: Arc<Resolver>,
    tasks: JoinSet<()>,
    /// The endpoints that bear each name. A task ends when its sender is gone.
    by_host: BTreeMap<Box<str>, watch::Sender<Bearers>>,
    /// Closed when every name was looked up once.
    first_pass: mpsc::Receiver<()>,
}

type Bearers = Vec<Arc<Endpoint>>;

impl Names {
    /// Starts to resolve, on the current runtime. `own` are the addresses that listeners and admin
    /// are bound to: an endpoint loses those of its addresses that lead there, before this returns
    /// if it was given as an address.
    pub fn start(endpoints: &[Arc<Endpoint>], own: Vec<SocketAddr>) -> Self {
        Self::start_with(
            endpoints,
            own,
            Arc::new(|host| Box::pin(system_lookup(host))),
        )
    }

    fn start_with(endpoints: &[Arc<Endpoint>], own: Vec<SocketAddr>, lookup: Lookup) -> Self {
        let mut names = Self {
            resolver: Arc::new(Resolver {
                lookup,
                permits: Semaphore::new(LOOKUPS),
                own: ArcSwap::from_pointee(Own::new(Vec::new())),
            }),
            tasks: JoinSet::new(),
            by_host: BTreeMap::new(),
            first_pass: mpsc::channel(1).1,
        };
        names.update(endpoints, own);
        names
    }

    /// Goes over to these endpoints and own addresses. Names that stay keep their turn; new ones are
    /// looked up at once.
    pub fn update(&mut self, endpoints: &[Arc<Endpoint>], own: Vec<SocketAddr>) {
        let own = Own::new(own);
        let mut by_host = BTreeMap::<Box<str>, Bearers>::new();
        for endpoint in endpoints {
            match endpoint.target() {
                Target::Name { host, .. } => {
                    let bearers = by_host.entry(host.clone()).or_default();
                    bearers.push(Arc::clone(endpoint));
                }
                Target::Address(address) => check_literal(endpoint, *address, &own),
            }
        }
        let own_changed = **self.resolver.own.load() != own;
        self.resolver.own.store(Arc::new(own));
        for endpoint in by_host.values().flatten() {
            self.resolver.leave_out_own(endpoint);
        }
        self.by_host.retain(|host, _| by_host.contains_key(host));
        let (first_pass_guard, first_pass) = mpsc::channel(1);
        self.first_pass = first_pass;
        for (host, bearers) in by_host {
            if let Some(task) = self.by_host.get(&host) {
                task.send_if_modified(|known| {
                    self.resolver.share(known, &bearers);
                    let same = is_same(known, &bearers);
                    *known = bearers;
                    // An address that was our own may belong to another machine now.
                    !same || own_changed
                });
                continue;
            }
            let (sender, endpoints) = watch::channel(bearers);
            let name = Name::new(Arc::clone(&self.resolver), host.clone(), endpoints);
            self.tasks.spawn(name.keep_fresh(first_pass_guard.clone()));
            self.by_host.insert(host, sender);
        }
    }

    /// Waits until every name was looked up once, at most 1 s: so that the first connections find
    /// addresses if DNS is up, and portway starts if it is down.
    pub async fn first_pass(&mut self) {
        let _ended_or_late = timeout(FIRST_PASS, self.first_pass.recv()).await;
    }

    /// Runs for ever; to be awaited beside what control does else. The tasks run without it too,
    /// but only here a fault in one of them is reported.
    pub async fn run(&mut self) -> Infallible {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(fault) = ended {
                error!(%fault, "a name is no longer resolved, because its task failed: please report this");
            }
        }
        std::future::pending().await
    }
}

/// Whether both are the same endpoints in the same order.
fn is_same(one: &[Arc<Endpoint>], other: &[Arc<Endpoint>]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| Arc::ptr_eq(one, other))
}

fn check_literal(endpoint: &Endpoint, address: SocketAddr, own: &Own) {
    let canonical = own::canonical(address, address.port());
    if !own.contains(canonical, endpoint.addresses().is_empty()) {
        resolver::put(endpoint, &[address], None);
    } else if !endpoint.addresses().is_empty() {
        warn_of_excluded(endpoint, address, ResolveFailure::Loop, &Told::now());
        resolver::put(endpoint, &[], Some((address, ResolveFailure::Loop)));
    }
}
