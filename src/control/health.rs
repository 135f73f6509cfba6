//! Checks the endpoints of backends that ask for it, so that no client has to find out that one is down, and keeps the
//! certificates that they show.

mod certificates;
mod check;

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::backend::{Address, Check, Checks, Endpoint, Standing, Unseen};
use crate::outcome::CheckResult;
use crate::routing::Pattern;
use crate::snapshot::Snapshot;
use crate::telemetry::Registry;
use crate::tls::offer::Kind;
use check::{Found, check};

/// Checks at once, of all backends: each takes a descriptor.
pub(super) const AT_ONCE: usize = 64;
/// How often endpoints are asked for addresses that came or went.
const SYNC: Duration = Duration::from_secs(1);
/// How old the certificates of an address may be while clients make checks needless.
const LOOK: Duration = Duration::from_hours(1);

/// The background tasks that check endpoints; dropping it ends them.
pub(super) struct Health {
    plan: watch::Sender<Plan>,
    _supervisor: AbortOnDropHandle<Infallible>,
}

/// The endpoints that are checked.
type Plan = Vec<Planned>;

/// An endpoint that is checked, and the rules for that.
struct Planned {
    endpoint: Arc<Endpoint>,
    checks: Arc<Checks>,
    names: Names,
}

/// The server names that routes lead to a backend, if its checks do not know a name that clients use.
type Names = Arc<[Pattern]>;

impl Health {
    /// Starts with nothing to check, on the current local runtime.
    pub(super) fn start(registry: &Arc<Registry>) -> Self {
        let (plan, planned) = watch::channel(Plan::new());
        let supervise = registry.vital_task("health checks", supervise(planned));
        Self {
            plan,
            _supervisor: AbortOnDropHandle::new(spawn_local(supervise)),
        }
    }

    /// Checks nothing from now on. The findings stay.
    pub(super) fn rest(&self) {
        self.plan.send_replace(Plan::new());
    }

    /// Checks the endpoints of this snapshot from now on. Those that stay keep their state and their turn.
    pub(super) fn follow(&self, snapshot: &Snapshot) {
        let mut plan = Plan::new();
        let mut names = names(snapshot);
        for (position, backend) in snapshot.backends.iter().enumerate() {
            let checks = backend.checks.as_ref();
            let names: Names = names.remove(&position).unwrap_or_default().into();
            for endpoint in backend.pool.endpoints() {
                endpoint.check(checks.map(|checks| checks.check));
                plan.extend(checks.map(|checks| Planned {
                    endpoint: Arc::clone(endpoint),
                    checks: Arc::clone(checks),
                    names: Arc::clone(&names),
                }));
            }
        }
        self.plan.send_replace(plan);
    }
}

/// The server names of the routes that lead to each backend, by its position, where a check has to guess one.
fn names(snapshot: &Snapshot) -> HashMap<usize, Vec<Pattern>> {
    let mut names: HashMap<usize, Vec<Pattern>> = HashMap::new();
    for route in snapshot.routes.routes() {
        let backend = snapshot.backends.get(route.backend);
        let checks = backend.and_then(|backend| backend.checks.as_ref());
        if checks.is_some_and(|it| it.check == Check::Tls && it.server_name.is_none()) {
            let names = names.entry(route.backend).or_default();
            names.extend_from_slice(&route.server_names);
        }
    }
    names
}

/// Keeps one task for each address of the endpoints in the plan.
async fn supervise(mut plan: watch::Receiver<Plan>) -> Infallible {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut watched = HashMap::new();
    let mut ticks = interval(SYNC);
    // Those of the time without checks are not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        watched = synchronize(&plan.borrow_and_update(), watched, &permits);
        tokio::select! {
            changed = plan.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            // A portway without checks has no reason to wake up.
            _ = ticks.tick(), if !plan.borrow().is_empty() => {}
        }
    }
}

/// The places of an endpoint and of one of its addresses in memory.
type Key = (*const Endpoint, *const Address);
type Watched = HashMap<Key, Watch>;

/// Begins to check addresses that are new, and forgets those that are gone.
fn synchronize(plan: &Plan, mut before: Watched, permits: &Arc<Semaphore>) -> Watched {
    let mut watched = Watched::with_capacity(before.len());
    for planned in plan {
        for address in planned.endpoint.addresses().iter() {
            let key = (Arc::as_ptr(&planned.endpoint), Arc::as_ptr(address));
            let known = before.remove(&key);
            let known = known.filter(|it| it.checks == planned.checks);
            if let Some(known) = &known {
                *known.names.borrow_mut() = Arc::clone(&planned.names);
            }
            let begin = || Watch::begin(Turns::new(planned, address, permits));
            watched.insert(key, known.unwrap_or_else(begin));
        }
    }
    watched
}

/// An address that is checked, until this is dropped. The findings stay when it leaves: its connections may have to go
/// because of them.
struct Watch {
    /// Kept, so that no other address gets its place in memory.
    _address: Arc<Address>,
    checks: Arc<Checks>,
    names: Rc<RefCell<Names>>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Begins these checks.
    fn begin(turns: Turns) -> Self {
        Self {
            _address: Arc::clone(&turns.address),
            checks: Arc::clone(&turns.checks),
            names: Rc::clone(&turns.names),
            _task: AbortOnDropHandle::new(spawn_local(turns.take())),
        }
    }
}

/// The checks of one address.
struct Turns {
    endpoint: Arc<Endpoint>,
    address: Arc<Address>,
    checks: Arc<Checks>,
    /// A reload may change them while the checks stay.
    names: Rc<RefCell<Names>>,
    permits: Arc<Semaphore>,
}

impl Turns {
    fn new(planned: &Planned, address: &Arc<Address>, permits: &Arc<Semaphore>) -> Self {
        Self {
            endpoint: Arc::clone(&planned.endpoint),
            address: Arc::clone(address),
            checks: Arc::clone(&planned.checks),
            names: Rc::new(RefCell::new(Arc::clone(&planned.names))),
            permits: Arc::clone(permits),
        }
    }

    /// Checks the address again and again.
    async fn take(self) {
        let Self {
            address, checks, ..
        } = &self;
        // Endpoints that came together are not checked together.
        let mut pause = (checks.interval / 10).mul_f64(fastrand::f64());
        let mut last = Instant::now();
        let mut looked = None;
        loop {
            sleep(pause).await;
            let now = Instant::now();
            let is_settled = address.standing() == Standing::default();
            let since = if is_settled {
                now.checked_sub(checks.interval)
            } else {
                Some(last)
            };
            last = now;
            if !self.is_listed() {
                // A reload or DNS has taken it away, and the supervisor ends this task within a second.
                pause = SYNC;
                continue;
            }
            let has_served = since.is_some_and(|since| address.has_served(checks.check, since));
            let standing = self.turn(has_served, &mut looked).await;
            let addresses = self.endpoint.addresses();
            let has_healthy = addresses.iter().any(|one| one.is_healthy());
            pause = standing.pause(checks, has_healthy, fastrand::f64());
        }
    }

    /// Checks the address, unless a client has been served there. `looked` is the time of the last look for its
    /// certificates.
    async fn turn(&self, has_served: bool, looked: &mut Option<Instant>) -> Standing {
        let is_old = looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        // Clients prove everything but how long the certificate lasts.
        let is_needed = !has_served || (self.checks.check == Check::Tls && is_old);
        if !is_needed {
            return self.note(true, None);
        }
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let kind = if is_old || self.may_show_certificates() {
            *looked = Some(Instant::now());
            Kind::Tls12
        } else {
            Kind::Classic
        };
        let (found, said) = check(&self.endpoint, &self.address, &self.checks, kind).await;
        if let Some(said) = said {
            self.take_certificates(&said, Instant::now());
        }
        if has_served {
            self.note(true, None)
        } else {
            self.conclude(found)
        }
    }

    /// Whether the server may answer a hello of TLS 1.2. To one of TLS 1.3 alone such a hello is a client that is too old:
    /// its log has a line about that, and a portway on the way a handshake that failed.
    fn may_show_certificates(&self) -> bool {
        let presented = self.address.presented();
        presented.is_none_or(|it| it.certificates != Err(Unseen::Encrypted))
    }

    /// Whether the endpoint still has the address.
    fn is_listed(&self) -> bool {
        let addresses = self.endpoint.addresses();
        addresses.iter().any(|one| Arc::ptr_eq(one, &self.address))
    }

    /// Counts a check, and takes its result.
    fn conclude(&self, found: Found) -> Standing {
        let stats = self.endpoint.stats().health();
        match found {
            Found::Passed => {
                stats.checked(CheckResult::Passed);
                self.note(true, None)
            }
            Found::Failed(reason) => {
                stats.checked(CheckResult::Failed);
                self.note(false, Some(&reason))
            }
            Found::Unknown => {
                stats.checked(CheckResult::Unknown);
                self.address.standing()
            }
            Found::OutOfReach => {
                stats.checked(CheckResult::Unknown);
                if self.endpoint.is_checked() {
                    self.address.unreached()
                } else {
                    self.address.standing()
                }
            }
        }
    }

    /// Takes a result, and logs a change.
    fn note(&self, has_passed: bool, reason: Option<&str>) -> Standing {
        let before = self.address.standing();
        if !self.endpoint.is_checked() {
            // A reload has ended the checks while this one was under way: no later one would correct it.
            return before;
        }
        let standing = self
            .address
            .checked(has_passed, &self.checks, Instant::now());
        let (backend, endpoint) = (self.endpoint.stats().backend(), self.endpoint.name());
        let address = self.address.at();
        match (before.is_unhealthy(), standing.is_unhealthy()) {
            (false, true) => warn!(
                backend,
                %endpoint,
                %address,
                reason,
                "an address of the endpoint is unhealthy: it gets no new connections while another one is healthy"
            ),
            (true, false) => {
                info!(backend, %endpoint, %address, "an address of the endpoint is healthy again");
            }
            (true, true) | (false, false) => {}
        }
        standing
    }
}

#[cfg(test)]
mod tests;
