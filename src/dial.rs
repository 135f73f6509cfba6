//! Connects to a backend: one attempt after the other, a race if the first address is on trial, and
//! time limits. No byte of the client has been consumed yet, so each retry is safe.

mod asked;
mod attempt;
mod ruled_out;
mod start;
#[cfg(test)]
mod tests;
mod via;

use std::cell::RefCell;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::pin::pin;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backend::{Candidate, Denied, Endpoint, InUse, Name, Pool, Wish};
use crate::net::Leg;
use crate::outcome::{AttemptFailure, ResolveFailure, Shortage};
use crate::relay::Resources;
use crate::telemetry::Attempt;
use crate::wire::Target;
use attempt::{Dial, Failure};
use ruled_out::RuledOut;

/// The time limits of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One attempt.
    pub connect_timeout: Duration,
    /// All attempts together.
    pub dial_timeout: Duration,
}

/// Time that an address on trial gets before the next candidate is dialled beside it. Its last dial
/// failed, so it may well be dead, and the client must not wait until an attempt times out.
const HEAD_START: Duration = Duration::from_millis(50);

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
    let mut candidates = candidates(request, name.as_deref(), began)?;
    let dial = Dial {
        connect_timeout: request.timeouts.connect_timeout,
        deadline: began + request.timeouts.dial_timeout,
        endpoints: request.pool.shared(),
        resources: request.resources,
        wished: asked::behind_proxy(request),
    };
    let dialled = if begins_with_trial(&candidates) {
        let trial = candidates.remove(0);
        // A race is rare and its future is large: boxed, it does not make every other dial larger.
        Box::pin(dial.race(trial, candidates, missed)).await
    } else {
        dial.each(candidates, &RefCell::default(), None, missed)
            .await
    };
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
    let endpoints = endpoints.iter();
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

/// Whether the first candidate is on trial, and there are others to dial beside it.
fn begins_with_trial(candidates: &[Candidate]) -> bool {
    candidates.len() > 1 && candidates.first().is_some_and(Candidate::on_trial)
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
}

impl Dial<'_> {
    /// Tries the candidates one after the other, beside a trial of this family. Candidates that an attempt has ruled
    /// out are passed over.
    async fn each(
        &self,
        candidates: Vec<Candidate>,
        ruled_out: &RefCell<Vec<RuledOut>>,
        trial: Option<Family>,
        missed: Missed<'_>,
    ) -> Result<Dialled, Failure> {
        let mut worst = Failure::Untried;
        for (position, candidate) in candidates.iter().enumerate() {
            let family = Family::of(candidate);
            let tried = candidates.iter().take(position).map(Family::of);
            let alike = tried.chain(trial).filter(|tried| *tried == family);
            let is_ruled_out = |it: &RuledOut| it.concerns(candidate);
            if alike.take(ATTEMPTS_AT_ENDPOINT).count() == ATTEMPTS_AT_ENDPOINT
                || ruled_out.borrow().iter().any(is_ruled_out)
            {
                continue;
            }
            match self.attempt(candidate, missed).await {
                Ok(dialled) => return Ok(dialled),
                Err(failure) => {
                    ruled_out
                        .borrow_mut()
                        .extend(RuledOut::by(&failure, candidate));
                    worst = worst.max(failure);
                }
            }
        }
        Err(worst)
    }

    /// Tries an address on trial, and soon the others beside it. If another one wins, the trial goes
    /// on without the client, so that its result is known. Otherwise an address that is merely slower
    /// would never return to use.
    async fn race(
        &self,
        trial: Candidate,
        others: Vec<Candidate>,
        missed: Missed<'_>,
    ) -> Result<Dialled, Failure> {
        let family = Family::of(&trial);
        let ruled_out = RefCell::default();
        let mut trial = self.on_its_own(trial);
        let (dialled, late) = {
            let head_start = CancellationToken::new();
            let mut rest = pin!(async {
                _ = timeout(HEAD_START, head_start.cancelled()).await;
                self.each(others, &ruled_out, Some(family), missed).await
            });
            tokio::select! {
                ended = &mut trial => match result(ended) {
                    (Err((failure, ruled)), late) => {
                        ruled_out.borrow_mut().extend(ruled);
                        head_start.cancel();
                        late.into_iter().for_each(missed);
                        (rest.await.map_err(|other| other.max(failure)), Vec::new())
                    }
                    (Ok(dialled), late) => (Ok(dialled), late),
                },
                dialled = &mut rest => match dialled {
                    Err(failure) => {
                        let (dialled, late) = result(trial.await);
                        (dialled.map_err(|(other, _)| other.max(failure)), late)
                    }
                    won => (won, Vec::new()),
                },
            }
        };
        late.into_iter().for_each(missed);
        dialled
    }

    /// An attempt that goes on if nobody waits for it any more.
    fn on_its_own(&self, trial: Candidate) -> JoinHandle<Trial> {
        let (endpoints, resources) = (Arc::clone(self.endpoints), Rc::clone(self.resources));
        let (connect_timeout, deadline) = (self.connect_timeout, self.deadline);
        let wished = self.wished.clone();
        tokio::task::spawn_local(async move {
            let dial = Dial {
                connect_timeout,
                deadline,
                endpoints: &endpoints,
                resources: &resources,
                wished,
            };
            let late = RefCell::new(Vec::new());
            let missed = |attempt| late.borrow_mut().push(attempt);
            let dialled = dial.attempt(&trial, &missed).await;
            let dialled = dialled.map_err(|failure| {
                let ruled_out = RuledOut::by(&failure, &trial);
                (failure, ruled_out)
            });
            (dialled, late.into_inner())
        })
    }
}

/// The result of a trial, and the attempts that failed.
type Trial = (Result<Dialled, (Failure, Option<RuledOut>)>, Vec<Attempt>);

/// The result of a task. A panic in the task is raised again here, so that the connection ends with outcome `error`.
fn result<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
