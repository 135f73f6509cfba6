//! Checks the endpoints of backends that ask for it, so that no client has to find out that one is down.

mod check;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::backend::{Address, Checks, Endpoint, Standing};
use crate::outcome::CheckResult;
use crate::snapshot::Snapshot;
use crate::telemetry::Registry;
use check::{Found, check};

/// Checks at once, of all backends: each takes a descriptor.
pub(super) const AT_ONCE: usize = 64;
/// How often endpoints are asked for addresses that came or went.
const SYNC: Duration = Duration::from_secs(1);

/// The background tasks that check endpoints; dropping it ends them.
pub(super) struct Health {
    plan: watch::Sender<Plan>,
    _supervisor: AbortOnDropHandle<Infallible>,
}

/// The endpoints that are checked, and their rules.
type Plan = Vec<(Arc<Endpoint>, Arc<Checks>)>;

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
        for backend in &snapshot.backends {
            for endpoint in backend.pool.endpoints() {
                endpoint.check(backend.checks.is_some());
                let checks = backend.checks.iter();
                plan.extend(checks.map(|checks| (Arc::clone(endpoint), Arc::clone(checks))));
            }
        }
        self.plan.send_replace(plan);
    }
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
    for (endpoint, checks) in plan {
        for address in endpoint.addresses().iter() {
            let key = (Arc::as_ptr(endpoint), Arc::as_ptr(address));
            let known = before.remove(&key).filter(|it| it.checks == *checks);
            let begin = || {
                Watch::begin(Turns {
                    endpoint: Arc::clone(endpoint),
                    address: Arc::clone(address),
                    checks: Arc::clone(checks),
                    permits: Arc::clone(permits),
                })
            };
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
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Begins these checks.
    fn begin(turns: Turns) -> Self {
        Self {
            _address: Arc::clone(&turns.address),
            checks: Arc::clone(&turns.checks),
            _task: AbortOnDropHandle::new(spawn_local(turns.take())),
        }
    }
}

/// The checks of one address.
struct Turns {
    endpoint: Arc<Endpoint>,
    address: Arc<Address>,
    checks: Arc<Checks>,
    permits: Arc<Semaphore>,
}

impl Turns {
    /// Checks the address again and again.
    async fn take(self) {
        let Self {
            address, checks, ..
        } = &self;
        // Endpoints that came together are not checked together.
        let mut pause = (checks.interval / 10).mul_f64(fastrand::f64());
        let mut last = Instant::now();
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
            let standing = if since.is_some_and(|since| address.has_served(checks.check, since)) {
                self.note(true, None)
            } else {
                // The semaphore is never closed.
                let _permit = self.permits.acquire().await;
                self.conclude(check(&self.endpoint, address, checks).await)
            };
            pause = standing.pause(checks, fastrand::f64());
        }
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
mod tests {
    use super::*;
    use crate::backend::{Check, Target};

    #[test]
    fn a_check_that_ends_when_a_reload_has_ended_the_checks_leaves_the_address_as_it_is() {
        let name = "127.0.0.1:1";
        let stats = Registry::new().endpoint("fleet", name);
        let target = Target::Address(name.parse().unwrap());
        let endpoint = Endpoint::new(target, stats, Instant::now());
        let address = Arc::clone(&endpoint.addresses()[0]);
        let turns = Turns {
            endpoint: Arc::clone(&endpoint),
            address: Arc::clone(&address),
            checks: Arc::new(Checks {
                check: Check::Tcp,
                interval: SYNC,
                timeout: SYNC,
                unhealthy_after: 1,
                healthy_after: 1,
                server_name: None,
                header: None,
            }),
            permits: Arc::new(Semaphore::new(1)),
        };
        let fail = || turns.conclude(Found::Failed(String::new())).is_unhealthy();
        endpoint.check(true);
        assert!(fail());
        endpoint.check(false);
        assert!(!fail());
        assert!(address.is_healthy());
    }
}
