//! Resolves the names of endpoints in the background, so that no connection ever waits for DNS, and
//! keeps portway's own addresses, and those of no server, out of what it dials.

mod own;
mod resolver;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{error, info, warn};

use crate::backend::{Endpoint, Target, is_forbidden};
use own::Own;
use resolver::{Answer, Lookup, Resolver, set_if_changed, system_lookup};

/// Between two look-ups of a name that resolves and whose endpoints can be dialled.
const REFRESH: Duration = Duration::from_secs(30);
/// Between two look-ups of a name that does not resolve.
const RETRY: Duration = Duration::from_secs(2);
/// Between two look-ups of a name at least, however many dials fail.
const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
/// A look-up that takes longer counts as failed. Its answer is taken all the same, once it comes.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Look-ups at once.
const LOOKUPS: usize = 8;
/// What the first connections may wait for.
pub(super) const FIRST_PASS: Duration = Duration::from_secs(1);

/// The background tasks that keep the addresses of endpoints fresh; dropping it ends them. Every
/// name is looked up every 30 s and within a second of a failed dial. Names that cannot be resolved
/// keep their last good addresses.
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
                    // What was our own address may be somebody else's now.
                    !same || own_changed
                });
                continue;
            }
            let (sender, endpoints) = watch::channel(bearers);
            let name = Name {
                resolver: Arc::clone(&self.resolver),
                host: host.clone(),
                endpoints,
                late: None,
                begun: Instant::now(),
                failing: false,
                excluded: HashSet::new(),
            };
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
    /// but only here a fault in one of them is told.
    pub async fn run(&mut self) -> Infallible {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(fault) = ended {
                error!(%fault, "a name is no longer resolved, because its task failed: please report this");
            }
        }
        std::future::pending().await
    }
}

/// A host name with the endpoints that bear it.
struct Name {
    resolver: Arc<Resolver>,
    host: Box<str>,
    endpoints: watch::Receiver<Bearers>,
    /// A look-up past its time limit. It still has its thread, so no other is begun.
    late: Option<Answer>,
    /// When it was last asked for, its turn among all names awaited.
    begun: Instant,
    failing: bool,
    /// Addresses that are not dialled, already warned of.
    excluded: HashSet<SocketAddr>,
}

impl Name {
    async fn keep_fresh(mut self, first_pass: mpsc::Sender<()>) {
        let mut first_pass = Some(first_pass);
        loop {
            // A change from here on asks for another look-up.
            self.endpoints.mark_unchanged();
            let answer = self.look_up().await;
            self.take_answer(answer);
            drop(first_pass.take());
            sleep_until(self.begun + SHORTEST_REFRESH).await;
            let pause = match self.late {
                Some(_) => SHORTEST_REFRESH,
                None if self.failing => RETRY,
                None => REFRESH,
            };
            let bearers = self.endpoints.borrow().clone();
            tokio::select! {
                // The next look-up comes early: for a failed dial, or for new endpoints.
                () = any_stale(&bearers), if self.late.is_none() => {}
                changed = self.endpoints.changed() => if changed.is_err() { return },
                () = sleep_until(self.begun + pause) => {}
            }
        }
    }

    async fn look_up(&mut self) -> io::Result<Vec<SocketAddr>> {
        let (mut answer, _permit) = if let Some(late) = self.late.take() {
            (late, None)
        } else {
            let permit = self.resolver.permits.acquire().await.ok();
            ((self.resolver.lookup)(self.host.clone()), permit)
        };
        self.begun = Instant::now();
        if let Ok(answer) = timeout(LOOKUP_TIMEOUT, &mut answer).await {
            return answer;
        }
        self.late = Some(answer);
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the resolver does not answer",
        ))
    }

    fn take_answer(&mut self, answer: io::Result<Vec<SocketAddr>>) {
        match answer {
            Ok(addresses) if !addresses.is_empty() => {
                self.publish(&addresses);
                if self.failing {
                    info!(name = %self.host, "the name resolves again");
                }
                self.failing = false;
            }
            Ok(_) => self.fail(&io::Error::other("the name has no address")),
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        if !self.failing {
            warn!(
                name = %self.host,
                %error,
                "cannot resolve the name of an endpoint; what it resolved to before stays in use"
            );
        }
        self.failing = true;
    }

    fn publish(&mut self, addresses: &[SocketAddr]) {
        let mut excluded = HashSet::new();
        let own = self.resolver.own.load();
        for endpoint in self.endpoints.borrow().iter() {
            let Target::Name { port, .. } = *endpoint.target() else {
                continue;
            };
            let mut seen = HashSet::new();
            let mut usable = Vec::with_capacity(addresses.len());
            for address in addresses {
                let address = own::canonical(*address, port);
                if !seen.insert(address) {
                    continue;
                }
                let warn = if is_forbidden(address.ip()) {
                    warn_of_forbidden
                } else if own.contains(address) {
                    warn_of_loop
                } else {
                    usable.push(address);
                    continue;
                };
                if excluded.insert(address) && !self.excluded.contains(&address) {
                    warn(endpoint, address);
                }
            }
            set_if_changed(endpoint, &usable);
        }
        self.excluded = excluded;
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

/// Completes once a dial to any of the endpoints has failed.
async fn any_stale(endpoints: &[Arc<Endpoint>]) {
    let mut stale: Vec<_> = endpoints
        .iter()
        .map(|endpoint| Box::pin(endpoint.stale()))
        .collect();
    poll_fn(|context| {
        if stale
            .iter_mut()
            .any(|stale| stale.as_mut().poll(context).is_ready())
        {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

fn check_literal(endpoint: &Endpoint, address: SocketAddr, own: &Own) {
    let usable = if own.contains(own::canonical(address, address.port())) {
        if !endpoint.addresses().is_empty() {
            warn_of_loop(endpoint, address);
        }
        Vec::new()
    } else {
        vec![address]
    };
    set_if_changed(endpoint, &usable);
}

fn warn_of_loop(endpoint: &Endpoint, address: SocketAddr) {
    warn!(
        endpoint = %endpoint.name(),
        %address,
        reason = "loop",
        "the endpoint leads back to portway itself and is not dialled there; \
         write the backend's own address in routes.toml"
    );
}

fn warn_of_forbidden(endpoint: &Endpoint, address: SocketAddr) {
    warn!(
        endpoint = %endpoint.name(),
        %address,
        reason = "forbidden",
        "the name of the endpoint leads to an address that is not that of a server, and is not \
         dialled there; ask the resolver why it answers so (a filter?), and correct the name in DNS"
    );
}
