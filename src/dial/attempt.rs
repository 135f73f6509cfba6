//! One attempt to reach an endpoint, and what it says about other candidates.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::via::{self, Failed};
use super::{Dialled, Missed, Unreached};
use crate::backend::{Candidate, Endpoint, Target};
use crate::net::{Leg, TimeIsUp, begin_connect, until};
use crate::outcome::{AttemptFailure, DialFailure, Shortage};
use crate::relay::Resources;
use crate::telemetry::{Attempt, Millis};

/// The values that the attempts of one dial share.
pub(super) struct Dial<'d> {
    pub(super) connect_timeout: Duration,
    pub(super) deadline: Instant,
    /// All endpoints of the backend.
    pub(super) endpoints: &'d Arc<[Arc<Endpoint>]>,
    pub(super) resources: &'d Rc<Resources>,
    /// The name that the client asked for, if the proxy in `via` is to reach it.
    pub(super) wished: Option<Rc<Target>>,
}

/// How the attempts of a dial failed, the worst last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// There was no time for an attempt.
    Untried,
    /// The proxy refused to reach the endpoint, in these words. Boxed, because it is rare and every dial has room
    /// for it.
    Refused(Box<str>),
    /// This machine has run out of something, which says nothing about an endpoint. Boxed for the same reason.
    Local(Box<Shortage>),
    /// The proxy cannot be reached at this address.
    Proxy,
    /// The cause is on the side of an endpoint.
    Endpoint,
}

impl From<Failure> for Unreached {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(words) => Self::Refused(words),
            Failure::Local(shortage) => Self::LocalExhausted(shortage),
            Failure::Untried | Failure::Proxy | Failure::Endpoint => Self::Unavailable,
        }
    }
}

/// Candidates of a backend with `via` that a failed attempt makes useless for the same client.
pub(super) enum RuledOut {
    /// A refusal holds at every address of the proxy. This is the address of the endpoint in memory, only to tell it
    /// from the others.
    Endpoint(*const Endpoint),
    /// An address of the proxy that cannot be reached leads to no endpoint.
    Proxy(SocketAddr),
}

impl RuledOut {
    pub(super) fn by(failure: &Failure, candidate: &Candidate) -> Option<Self> {
        match failure {
            Failure::Refused(_) => Some(Self::Endpoint(Arc::as_ptr(&candidate.endpoint))),
            Failure::Proxy => Some(Self::Proxy(candidate.address.at())),
            Failure::Untried | Failure::Local(_) | Failure::Endpoint => None,
        }
    }

    pub(super) fn concerns(&self, candidate: &Candidate) -> bool {
        match self {
            Self::Endpoint(endpoint) => *endpoint == Arc::as_ptr(&candidate.endpoint),
            Self::Proxy(address) => *address == candidate.address.at(),
        }
    }
}

/// Where an attempt failed, and how.
enum Lost {
    Connect(io::Error),
    Tunnel(Failed),
}

impl Dial<'_> {
    /// Tries one address, and stores the result in it.
    pub(super) async fn attempt(
        &self,
        candidate: &Candidate,
        missed: Missed<'_>,
    ) -> Result<Dialled, Failure> {
        let began = Instant::now();
        if began >= self.deadline {
            return Err(Failure::Untried);
        }
        let in_use = candidate.endpoint.enter(&candidate.address);
        let deadline = self.deadline.min(began + self.connect_timeout);
        match self.reach(candidate, deadline).await {
            Ok(leg) => {
                candidate.address.succeeded();
                Ok(Dialled {
                    leg,
                    endpoint: in_use,
                })
            }
            Err(lost) => Err(self.fail(candidate, lost, began, missed)),
        }
    }

    /// Connects, and opens a tunnel if the endpoint is behind a proxy.
    async fn reach(&self, candidate: &Candidate, deadline: Instant) -> Result<Leg, Lost> {
        let leg = begin(candidate.address.at()).map_err(Lost::Connect)?;
        {
            let connected = until(deadline, pin!(leg.connected())).await;
            let late = |TimeIsUp| Err(io::ErrorKind::TimedOut.into());
            connected.unwrap_or_else(late).map_err(Lost::Connect)?;
        }
        if let Some(via) = candidate.endpoint.via() {
            let far_end = (self.wished.as_deref()).unwrap_or(candidate.endpoint.target());
            // Boxed, it does not make the dials without a proxy larger.
            let tunnel = via::open(&leg, via, far_end, self.resources);
            let opened = until(deadline, Box::pin(tunnel).as_mut()).await;
            let late = || Failed::Io(io::ErrorKind::TimedOut.into());
            opened
                .unwrap_or_else(|TimeIsUp| Err(late()))
                .map_err(Lost::Tunnel)?;
        }
        Ok(leg)
    }

    /// Counts and reports an attempt that failed, and lets those addresses go last that it says something about.
    fn fail(
        &self,
        candidate: &Candidate,
        lost: Lost,
        began: Instant,
        missed: Missed<'_>,
    ) -> Failure {
        let Candidate {
            endpoint, address, ..
        } = candidate;
        let took = began.elapsed();
        let via = endpoint.via().map(|via| (**via.name()).into());
        let (reason, error) = lost.told();
        endpoint.stats().dial_failed(reason);
        let failure = lost.failure(candidate);
        missed(Attempt {
            endpoint: Arc::clone(endpoint.name()),
            via,
            address: Some(address.at()),
            reason: AttemptFailure::Dial(reason),
            error,
            took: Some(Millis(took)),
        });
        let now = Instant::now();
        // The dial may have left an attempt too little time to judge the address by.
        let is_cut = reason == DialFailure::Timeout
            && took < self.connect_timeout / 2
            && now >= self.deadline;
        // A name that a client chose says nothing about the proxy, which serves all other names too.
        let is_of_name = self.wished.is_some();
        match failure {
            Failure::Endpoint | Failure::Refused(_) if is_of_name => {}
            Failure::Endpoint if !is_cut => endpoint.failed(address, now),
            // It leads to no other endpoint either.
            Failure::Proxy if !is_cut => {
                for endpoint in self.endpoints.iter() {
                    let addresses = endpoint.addresses();
                    let same = addresses.iter().find(|one| one.at() == address.at());
                    if let Some(same) = same {
                        endpoint.failed(same, now);
                    }
                }
            }
            Failure::Refused(_) => endpoint.refused(now),
            Failure::Untried | Failure::Local(_) | Failure::Endpoint | Failure::Proxy => {}
        }
        failure
    }
}

impl Lost {
    /// The reason for the metric and the log, and words for the log where the reason does not say enough.
    fn told(&self) -> (DialFailure, Option<Box<str>>) {
        match self {
            Self::Connect(error) => (DialFailure::from_io(error), None),
            Self::Tunnel(Failed::Refused(refused)) => {
                (DialFailure::ViaRefused, Some(refused.0.clone()))
            }
            Self::Tunnel(Failed::Closed) => (DialFailure::Reset, Some(CLOSED.into())),
            Self::Tunnel(Failed::Io(error)) => {
                let reason = DialFailure::from_io(error);
                let is_late = reason == DialFailure::Timeout;
                let words = if is_late { SILENT } else { BROKEN };
                (reason, Some(words.into()))
            }
        }
    }

    fn failure(self, candidate: &Candidate) -> Failure {
        let via = candidate.endpoint.via();
        match (self, via) {
            (Self::Tunnel(Failed::Refused(refused)), Some(via)) => {
                Failure::Refused(format!("{via}: {}", refused.0).into())
            }
            (Self::Tunnel(_), _) => Failure::Endpoint,
            (Self::Connect(error), via) => {
                let shortage = Shortage::behind(&error, candidate.address.at());
                match shortage {
                    Some(shortage) => Failure::Local(Box::new(shortage)),
                    None if via.is_some() => Failure::Proxy,
                    None => Failure::Endpoint,
                }
            }
        }
    }
}

const CLOSED: &str = "the proxy closed the connection before its answer was complete";
const SILENT: &str = "the proxy is connected, but its answer did not come in time";
const BROKEN: &str = "the connection to the proxy broke before its answer was complete";

fn begin(address: SocketAddr) -> io::Result<Leg> {
    Leg::register(begin_connect(address)?)
}
