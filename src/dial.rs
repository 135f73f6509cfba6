//! Connects to a backend: one attempt after the other, a race if the first address is on trial or has one of the other family
//! beside it, and time limits. No byte of the client has been consumed yet, so each retry is safe.

mod asked;
mod attempt;
mod header;
mod race;
mod ruled_out;
mod start;
#[cfg(test)]
mod tests;
mod via;

use std::net::IpAddr;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{Candidate, Denied, Endpoint, InUse, Name, Pool, Wish};
use crate::net::Leg;
use crate::outcome::{AttemptFailure, ResolveFailure, Shortage};
use crate::relay::Resources;
use crate::telemetry::Attempt;
use crate::wire::Target;
use attempt::{Dial, Failure};
pub use header::introduce;
use ruled_out::RuledOut;

/// The time limits of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt.
    pub connect_timeout: Duration,
    /// All attempts together.
    pub dial_timeout: Duration,
}

/// Attempts at the addresses of one family of an endpoint in one dial: a name may have more addresses than a client
/// can wait for.
const ATTEMPTS_AT_ENDPOINT: usize = 16;

/// Most endpoints without an address that one log line names.
const MOST_UNRESOLVED: usize = 16;

/// The endpoints to dial, the client to dial for, and the limits.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The endpoints to choose from.
    pub pool: &'a Pool,
    /// The canonical address of the client, for `source_hash`.
    pub client: IpAddr,
    /// The target that the client asked for, if it did. If it is an address, no other one is dialled.
    pub target: Option<&'a Target>,
    /// Gives the name that the client asked for: it decides where an endpoint `{server_name}` is.
    pub wish: &'a dyn Fn() -> Option<Wish<'a>>,
    /// The time limits.
    pub timeouts: &'a Timeouts,
    /// The buffer for the answers of a proxy.
    pub resources: &'a Rc<Resources>,
    /// Called with each attempt that fails, also if the dial is given up later; with those of a trial once it has
    /// ended. If no endpoint has an address, called with the reason for each endpoint.
    pub missed: Missed<'a>,
}

type Missed<'a> = &'a dyn Fn(Attempt);

/// A connected backend.
#[derive(Debug)]
pub struct Dialled {
    /// Its socket.
    pub leg: Leg,
    /// The endpoint, counted as long as this lives.
    pub endpoint: InUse,
}

/// Why no backend was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// No endpoint has an address.
    Unresolved,
    /// No endpoint has an address that may be dialled, and each of them has one that may not.
    Forbidden,
    /// The name that the client asked for is not known, and too many such names are looked up.
    RateLimited(Denied),
    /// Every attempt failed.
    Unavailable,
    /// The dial ended while it waited for its turn (`max_dials`); the text says at which address.
    Crowded(Box<str>),
    /// The endpoints that it could take drain.
    Draining,
    /// Every attempt ended with a refusal by the proxy in `via`. These are its words, with its URL.
    Refused(Box<str>),
    /// Every attempt failed because this machine has run out of something.
    LocalExhausted(Box<Shortage>),
}

/// Reaches one of the endpoints.
pub async fn backend(request: &Request<'_>) -> Result<Dialled, Unreached> {
    let began = Instant::now();
    if request.pool.is_draining() {
        return Err(Unreached::Draining);
    }
    let name = match request.pool.names() {
        None => None,
        // It is rare and its future is large: boxed, it does not make every other dial larger.
        Some(names) => Some(Box::pin(asked::find(request, names, began)).await?),
    };
    let missed = request.missed;
    let candidates = candidates(request, name.as_deref(), began)?;
    let dial = Dial {
        connect_timeout: request.timeouts.connect_timeout,
        deadline: began + request.timeouts.dial_timeout,
        endpoints: request.pool.shared(),
        resources: request.resources,
        wished: asked::behind_proxy(request),
    };
    let dialled = dial.one_of(candidates, missed).await;
    if let (Some(names), Some(name)) = (request.pool.names(), name) {
        asked::note(names, &name, dialled.is_ok());
    }
    dialled.map_err(Unreached::from)
}

/// The addresses to try, of the name that the client asks for if there is one.
fn candidates(
    request: &Request<'_>,
    name: Option<&Name>,
    now: Instant,
) -> Result<Vec<Candidate>, Unreached> {
    let pool = request.pool;
    let of_name = name.map(|name| slice::from_ref(name.endpoint()));
    let endpoints = of_name.unwrap_or(pool.endpoints());
    if let Some(proxy) = pool.proxy().map(|proxy| proxy.endpoint())
        && proxy.addresses().is_empty()
    {
        return Err(tell_unresolved(request.missed, slice::from_ref(proxy)));
    }
    let mut candidates = pool.candidates_of(endpoints, request.client, now);
    if let Some(only) = request.target.and_then(Target::address) {
        candidates.retain(|candidate| candidate.leads_to(only));
    }
    if candidates.is_empty() {
        let unreached = tell_unresolved(request.missed, endpoints);
        // Those that drain may have addresses, and only they may have the one that the client asks for.
        let are_known = || pool.takers().all(|taker| !taker.addresses().is_empty());
        let drains = pool.has_draining() && are_known();
        return Err(if drains {
            Unreached::Draining
        } else {
            unreached
        });
    }
    Ok(candidates)
}

/// Reports why no endpoint has an address.
fn tell_unresolved(missed: Missed<'_>, endpoints: &[Arc<Endpoint>]) -> Unreached {
    // One that keeps the addresses of an older answer has some.
    let endpoints = endpoints.iter().filter(|it| it.addresses().is_empty());
    let reasons = endpoints.filter_map(|endpoint| Some((endpoint, endpoint.unresolved()?)));
    let (mut are_forbidden, mut told) = (true, 0);
    for (endpoint, why) in reasons {
        are_forbidden &= why.reason == ResolveFailure::Forbidden;
        told += 1;
        if told > MOST_UNRESOLVED {
            continue;
        }
        missed(Attempt {
            endpoint: Arc::clone(endpoint.name()),
            via: endpoint.via().map(|via| (**via.name()).into()),
            address: why.address,
            reason: AttemptFailure::Resolve(why.reason),
            error: why.error.as_deref().map(Into::into),
            took: None,
        });
    }
    if are_forbidden && told > 0 {
        Unreached::Forbidden
    } else {
        Unreached::Unresolved
    }
}

/// The addresses of one family of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Family {
    /// The address of the endpoint in memory, only to tell it from the other endpoints among the candidates.
    endpoint: *const Endpoint,
    is_ipv4: bool,
}

impl Family {
    fn of(candidate: &Candidate) -> Self {
        Self {
            endpoint: Arc::as_ptr(&candidate.endpoint),
            is_ipv4: candidate.address.at().is_ipv4(),
        }
    }

    /// Whether the other one is the other family of the same endpoint.
    fn is_beside(self, other: Self) -> bool {
        self.endpoint == other.endpoint && self.is_ipv4 != other.is_ipv4
    }
}

/// Whether a candidate is not worth an attempt any more, after those that were tried.
fn is_spent(
    tried: impl Iterator<Item = Family>,
    candidate: &Candidate,
    ruled_out: &[RuledOut],
) -> bool {
    let family = Family::of(candidate);
    let alike = tried.filter(|tried| *tried == family);
    alike.take(ATTEMPTS_AT_ENDPOINT).count() == ATTEMPTS_AT_ENDPOINT
        || ruled_out.iter().any(|it| it.concerns(candidate))
}

impl Dial<'_> {
    /// Reaches one of the candidates.
    async fn one_of(
        &self,
        candidates: Vec<Candidate>,
        missed: Missed<'_>,
    ) -> Result<Dialled, Failure> {
        if race::is_due(&candidates) {
            // A race is rare and its future is large: boxed, it does not make every other dial larger.
            Box::pin(self.race(candidates, missed)).await
        } else {
            self.each(candidates, missed).await
        }
    }

    /// Tries the candidates one after the other. Those that an attempt has ruled out are passed over.
    async fn each(
        &self,
        candidates: Vec<Candidate>,
        missed: Missed<'_>,
    ) -> Result<Dialled, Failure> {
        let mut worst = Failure::Untried;
        let mut ruled_out = Vec::new();
        for (position, candidate) in candidates.iter().enumerate() {
            let tried = candidates.iter().take(position).map(Family::of);
            if is_spent(tried, candidate, &ruled_out) {
                continue;
            }
            match self.attempt(candidate, missed).await {
                Ok(dialled) => return Ok(dialled),
                Err(failure) => {
                    ruled_out.extend(RuledOut::by(&failure, candidate));
                    worst = worst.max(failure);
                }
            }
        }
        Err(worst)
    }
}
