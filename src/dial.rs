//! Connecting to a backend: attempts one after the other, a race where an endpoint is on trial, and
//! the limits of it all. Not a byte of the client has been consumed, so each retry is safe.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::backend::{Candidate, InUse, Pool};
use crate::net::{Leg, TimeIsUp, begin_connect, until};
use crate::outcome::DialFailure;
use crate::telemetry::{Attempt, Millis};

/// The limits of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One attempt.
    pub connect_timeout: Duration,
    /// All attempts together.
    pub dial_timeout: Duration,
}

/// What an endpoint on trial gets before the next candidate is dialled beside it. Its last dial
/// failed, so it may well be dead, and the client must not wait for the limit of an attempt.
const HEAD_START: Duration = Duration::from_millis(50);

/// Whom to dial, for whom, within which limits.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The endpoints to choose from.
    pub pool: &'a Pool,
    /// The canonical address of the client, for `source_hash`.
    pub client: IpAddr,
    /// The limits.
    pub limits: Limits,
}

/// A connected backend.
#[derive(Debug)]
pub struct Dialled {
    /// Its socket.
    pub leg: Leg,
    /// The endpoint, counted as long as this lives.
    pub endpoint: InUse,
}

/// Why no backend was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// No endpoint has an address.
    Unresolved,
    /// Every attempt failed.
    Unavailable,
    /// Every attempt failed for want of a local port or descriptor.
    LocalExhausted,
}

/// Reaches one of the endpoints. Attempts that failed are added to `attempts`, also when the future
/// is dropped half way.
pub async fn backend(
    request: Request<'_>,
    attempts: &mut Vec<Attempt>,
) -> Result<Dialled, Unreached> {
    let now = Instant::now();
    let mut candidates = request.pool.candidates(request.client, now);
    if candidates.is_empty() {
        return Err(Unreached::Unresolved);
    }
    let dial = Dial {
        connect_timeout: request.limits.connect_timeout,
        deadline: now + request.limits.dial_timeout,
    };
    let dialled = if candidates.len() > 1 && candidates.first().is_some_and(Candidate::on_trial) {
        let trial = candidates.remove(0);
        // Rare, and large: boxed, it makes no other dial larger.
        Box::pin(dial.race(trial, candidates, attempts)).await
    } else {
        dial.each(candidates, attempts).await
    };
    dialled.ok_or_else(|| {
        let local = |attempt: &Attempt| attempt.reason == DialFailure::LocalExhausted;
        if !attempts.is_empty() && attempts.iter().all(local) {
            Unreached::LocalExhausted
        } else {
            Unreached::Unavailable
        }
    })
}

/// What the attempts of one dial have in common.
#[derive(Clone, Copy)]
struct Dial {
    connect_timeout: Duration,
    deadline: Instant,
}

impl Dial {
    /// Tries the candidates one after the other.
    async fn each(self, candidates: Vec<Candidate>, failed: &mut Vec<Attempt>) -> Option<Dialled> {
        for candidate in candidates {
            if let Some(dialled) = self.addresses(&candidate, failed).await {
                return Some(dialled);
            }
        }
        None
    }

    /// Tries an endpoint on trial, and soon the others beside it. If another one wins, the trial goes
    /// on without the client, so that its result is known: else an endpoint that is merely slower
    /// would never come back.
    async fn race(
        self,
        trial: Candidate,
        others: Vec<Candidate>,
        failed: &mut Vec<Attempt>,
    ) -> Option<Dialled> {
        let mut trial = tokio::task::spawn_local(async move {
            let mut failed = Vec::new();
            (self.addresses(&trial, &mut failed).await, failed)
        });
        let (dialled, mut late) = {
            let head_start = CancellationToken::new();
            let mut rest = pin!(async {
                _ = timeout(HEAD_START, head_start.cancelled()).await;
                self.each(others, failed).await
            });
            tokio::select! {
                joined = &mut trial => match joined.unwrap_or_default() {
                    (None, late) => {
                        head_start.cancel();
                        (rest.await, late)
                    }
                    won => won,
                },
                dialled = &mut rest => match dialled {
                    None => trial.await.unwrap_or_default(),
                    won => (won, Vec::new()),
                },
            }
        };
        failed.append(&mut late);
        dialled
    }

    /// Tries the addresses of one endpoint, and tells it the result.
    async fn addresses(self, candidate: &Candidate, failed: &mut Vec<Attempt>) -> Option<Dialled> {
        let endpoint = &candidate.endpoint;
        let in_use = endpoint.enter();
        let mut blame = false;
        for address in candidate.addresses.iter().copied() {
            let began = Instant::now();
            if began >= self.deadline {
                break;
            }
            match self.connect(address, began).await {
                Ok(leg) => {
                    endpoint.succeeded();
                    if candidate.addresses.first() != Some(&address) {
                        endpoint.prefer(address);
                    }
                    return Some(Dialled {
                        leg,
                        endpoint: in_use,
                    });
                }
                Err(reason) => {
                    blame |= reason != DialFailure::LocalExhausted;
                    endpoint.stats().dial_failed(reason);
                    let name = Arc::clone(endpoint.name());
                    let took = Millis(began.elapsed());
                    failed.push(Attempt {
                        endpoint: name,
                        address,
                        reason,
                        took,
                    });
                }
            }
        }
        if blame {
            endpoint.failed(Instant::now());
        }
        None
    }

    async fn connect(self, address: SocketAddr, began: Instant) -> Result<Leg, DialFailure> {
        let socket = begin_connect(address).map_err(|error| DialFailure::from_io(&error.into()))?;
        let leg = Leg::register(socket).map_err(|error| DialFailure::from_io(&error))?;
        let deadline = self.deadline.min(began + self.connect_timeout);
        let connected = until(deadline, pin!(leg.connected())).await;
        match connected {
            Ok(Ok(())) => Ok(leg),
            Ok(Err(error)) => Err(DialFailure::from_io(&error)),
            Err(TimeIsUp) => Err(DialFailure::Timeout),
        }
    }
}
