//! Resolves the names of endpoints in the background, so that no connection waits for DNS unless it asks for a name
//! that is not known yet, and keeps portway's own addresses, and those that their backend does not allow, out of what it dials.

mod asked;
mod dns;
mod name;
mod own;
mod resolver;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::error;

use crate::backend::{DnsServers, NameRules, Target, Unresolved};
use asked::{Served, Service};
use name::{LOOKUP_TIMEOUT, Name};
pub use own::{Own, canonical};
pub use resolver::{Bearer, NO_ADDRESS};
use resolver::{Lookup, NotFound, Resolver, system_lookup};
use told::{Told, warn_of_excluded};

/// Look-ups of one resolver at once.
const LOOKUPS: usize = 8;
/// Longest time that the first connections wait for names.
pub(super) const FIRST_PASS: Duration = Duration::from_secs(1);

/// The background tasks that keep the addresses of endpoints fresh; dropping it ends them. Every
/// name is looked up again when its answer is no longer fresh (every 30 s at the system's resolver), within a second
/// of a failed dial, and every 2 s while it leaves an endpoint without an address. Names that cannot be resolved keep
/// their last good addresses.
///
/// The system's resolver blocks a thread of the runtime's blocking pool. There is at most one for
/// each name, also while the resolver hangs, so `max_blocking_threads` should not be below the
/// number of names; tokio's default of 512 is ample.
pub struct Names {
    own: Arc<ArcSwap<Own>>,
    lookups: Lookups,
    /// The resolvers that names use now. Each has its own limit, so that one that hangs delays no name of another.
    resolvers: BTreeMap<Option<DnsServers>, Arc<Resolver>>,
    tasks: JoinSet<()>,
    /// The endpoints that bear each name. A task ends when its sender is gone.
    by_name: BTreeMap<Key, watch::Sender<Bearers>>,
    /// The endpoints `{server_name}`.
    asked: Vec<Served>,
    /// Closed when every name was looked up once.
    first_pass: mpsc::Receiver<()>,
}

type Bearers = Vec<Bearer>;
/// A name and who is asked for it: backends with different resolvers share no answers.
type Key = (Box<str>, Option<DnsServers>);
/// Makes the look-up of a resolver.
type Lookups = Box<dyn Fn(Option<&DnsServers>) -> Lookup>;

impl Names {
    /// Starts to resolve, on the current runtime. `own` are the addresses that listeners and admin
    /// are bound to: an endpoint loses those of its addresses that lead there, before this returns
    /// if it was given as an address.
    pub fn start(bearers: &[Bearer], own: Vec<SocketAddr>) -> Self {
        let lookup = |servers: Option<&DnsServers>| -> Lookup {
            match servers {
                Some(servers) => dns::lookup(servers),
                None => Arc::new(|host| Box::pin(system_lookup(host))),
            }
        };
        Self::start_with(bearers, own, Box::new(lookup))
    }

    fn start_with(bearers: &[Bearer], own: Vec<SocketAddr>, lookups: Lookups) -> Self {
        let mut names = Self {
            own: Arc::new(ArcSwap::from_pointee(Own::new(Vec::new()))),
            lookups,
            resolvers: BTreeMap::new(),
            tasks: JoinSet::new(),
            by_name: BTreeMap::new(),
            asked: Vec::new(),
            first_pass: mpsc::channel(1).1,
        };
        names.update(bearers, own);
        names
    }

    /// Goes over to these endpoints and own addresses. Names that stay keep their turn; new ones are
    /// looked up at once.
    pub fn update(&mut self, bearers: &[Bearer], own: Vec<SocketAddr>) {
        let own = Own::new(own);
        let mut by_name = BTreeMap::<Key, Bearers>::new();
        let mut asked = Vec::new();
        for bearer in bearers {
            match bearer.endpoint.dialled() {
                Target::Name { host, .. } => {
                    let key = (host.clone(), bearer.rules.resolver.clone());
                    by_name.entry(key).or_default().push(bearer.clone());
                }
                Target::Address(address) => check_literal(bearer, *address, &own),
                Target::Asked { .. } => asked.push(bearer),
            }
        }
        for (key, task) in &self.by_name {
            // A task that ends may be about to publish an answer: it finds no endpoint to give it to.
            task.send_if_modified(|known| {
                if !by_name.contains_key(key) {
                    known.clear();
                }
                false
            });
        }
        for bearer in by_name.values().flatten() {
            bearer.leave_out_excluded(&own);
        }
        let own = Arc::new(own);
        let own_changed = **self.own.load() != *own;
        self.own.store(Arc::clone(&own));
        self.by_name.retain(|key, _| by_name.contains_key(key));
        let used = by_name.keys().map(|(_, servers)| servers.clone());
        let of_clients = asked.iter().map(|bearer| bearer.rules.resolver.clone());
        let used: BTreeSet<_> = used.chain(of_clients).collect();
        self.resolvers.retain(|servers, _| used.contains(servers));
        self.serve(&asked, own_changed);
        let (first_pass_guard, first_pass) = mpsc::channel(1);
        self.first_pass = first_pass;
        for (key, bearers) in by_name {
            if let Some(task) = self.by_name.get(&key) {
                task.send_if_modified(|known| {
                    resolver::share(known, &bearers, &own);
                    let same = is_same(known, &bearers);
                    *known = bearers;
                    // An address that was our own may belong to another machine now.
                    !same || own_changed
                });
                continue;
            }
            let (sender, receiver) = watch::channel(bearers);
            let name = Name::new(self.resolver(key.1.as_ref()), key.0.clone(), receiver);
            self.tasks.spawn(name.keep_fresh(first_pass_guard.clone()));
            self.by_name.insert(key, sender);
        }
    }

    /// Answers for the names that clients ask for. Those that are known stay known.
    fn serve(&mut self, asked: &[&Bearer], own_changed: bool) {
        let own = self.own.load_full();
        self.asked.retain(Served::is_held);
        if own_changed {
            self.asked
                .iter()
                .for_each(|served| served.judge_again(&own));
        }
        for Bearer { endpoint, rules } in asked {
            let service = Service {
                resolver: self.resolver(rules.resolver.as_ref()),
                rules: rules.clone(),
            };
            if let Some(served) = self.asked.iter().find(|served| served.is_of(endpoint)) {
                served.follow(service, &own);
            } else {
                let served = Served::begin(endpoint, service, &mut self.tasks);
                self.asked.push(served);
            }
        }
    }

    fn resolver(&mut self, servers: Option<&DnsServers>) -> Arc<Resolver> {
        let known = self.resolvers.entry(servers.cloned());
        let resolver = known.or_insert_with(|| {
            Arc::new(Resolver {
                servers: servers.cloned(),
                lookup: (self.lookups)(servers),
                permits: Semaphore::new(LOOKUPS),
                own: Arc::clone(&self.own),
            })
        });
        Arc::clone(resolver)
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

/// Looks a name up once, as a backend with these rules does, and with the same time limit. There is at least one address;
/// all have port 0.
pub async fn look_up(host: &str, rules: &NameRules) -> io::Result<Vec<SocketAddr>> {
    let lookup = async {
        match &rules.resolver {
            Some(servers) => dns::lookup(servers)(host.into()).await,
            None => system_lookup(host.into()).await,
        }
    };
    let found = timeout(LOOKUP_TIMEOUT, lookup).await;
    match found.unwrap_or_else(|_late| Err(NotFound::late())) {
        Ok(found) if !found.addresses.is_empty() => Ok(found.addresses),
        Ok(_) => Err(NotFound::empty().error),
        Err(not_found) => Err(not_found.error),
    }
}

/// Whether both are the same endpoints in the same order, with the same rules.
fn is_same(one: &[Bearer], other: &[Bearer]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_same(other))
}

fn check_literal(bearer: &Bearer, address: SocketAddr, own: &Own) {
    let endpoint = &bearer.endpoint;
    let canonical = canonical(address, address.port());
    let was_excluded = endpoint.addresses().is_empty();
    match bearer.excludes(canonical, own, was_excluded) {
        None => resolver::put(endpoint, &[address], None),
        Some(reason) => {
            let is_same = |before: Arc<Unresolved>| before.reason == reason;
            if !endpoint.unresolved().is_some_and(is_same) {
                warn_of_excluded(bearer, address, reason, &Told::now());
            }
            resolver::put(endpoint, &[], Some((address, reason)));
        }
    }
}
