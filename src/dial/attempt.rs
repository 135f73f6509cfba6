//! One attempt to reach an endpoint, and what it says about other candidates.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::via::{self, Failed};
use super::{Dialled, Missed, Unreached, begins_with_trial};
use crate::backend::{Candidate, Endpoint, Proxy, Target, Way};
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
    /// None of the addresses of the proxy can be reached.
    All,
}

impl RuledOut {
    pub(super) fn by(failure: &Failure, candidate: &Candidate) -> Option<Self> {
        match (failure, candidate.endpoint.way()) {
            (Failure::Proxy, Way::ByAddress(_)) => Some(Self::All),
            (Failure::Proxy, _) => Some(Self::Proxy(candidate.address.at())),
            (Failure::Refused(_), Way::ByName(_)) => {
                Some(Self::Endpoint(Arc::as_ptr(&candidate.endpoint)))
            }
            // A proxy that refuses an address may reach another one.
            (Failure::Refused(_) | Failure::Untried | Failure::Local(_) | Failure::Endpoint, _) => {
                None
            }
        }
    }

    pub(super) fn concerns(&self, candidate: &Candidate) -> bool {
        match self {
            Self::Endpoint(endpoint) => *endpoint == Arc::as_ptr(&candidate.endpoint),
            Self::Proxy(address) => *address == candidate.address.at(),
            Self::All => true,
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
        let reached = if candidate.endpoint.is_dialled_itself() {
            let connected = connect(candidate, self.limit(began)).await;
            connected.map_err(|lost| (lost, began))
        } else {
            // Boxed, it does not make the dials without a proxy larger.
            Box::pin(self.through(candidate, missed)).await?
        };
        match reached {
            Ok(leg) => {
                candidate.address.succeeded();
                Ok(Dialled {
                    leg,
                    endpoint: in_use,
                })
            }
            Err((lost, began)) => Err(self.fail(candidate, lost, began, missed)),
        }
    }

    /// The end of an attempt that begins now.
    fn limit(&self, began: Instant) -> Instant {
        self.deadline.min(began + self.connect_timeout)
    }

    /// Opens a tunnel through a proxy. An error has the time from which the attempt at this address counts; that of a dial
    /// of the proxy has been reported.
    async fn through(
        &self,
        candidate: &Candidate,
        missed: Missed<'_>,
    ) -> Result<Result<Leg, (Lost, Instant)>, Failure> {
        let proxy = candidate.endpoint.proxy();
        let mut addresses = proxy.map_or(1, |proxy| proxy.endpoint().addresses().len());
        loop {
            let used = match proxy {
                Some(proxy) => Some(self.proxy(proxy, missed).await?),
                None => None,
            };
            let (connected, used) = used.map(|used| (used.leg, used.endpoint)).unzip();
            let began = Instant::now();
            let tunnel = self.tunnel(candidate, connected, self.limit(began)).await;
            // A balancer accepts in the name of proxies that are dead.
            if let (Err(Lost::Tunnel(Failed::Closed)), Some(used)) = (&tunnel, used) {
                used.blame(Instant::now());
                addresses -= 1;
                if addresses > 0 {
                    continue;
                }
            }
            return Ok(tunnel.map_err(|lost| (lost, began)));
        }
    }

    /// Connects to a proxy that gets the addresses of endpoints. Its own addresses are tried as those of an endpoint are.
    async fn proxy(&self, proxy: &Proxy, missed: Missed<'_>) -> Result<Dialled, Failure> {
        let dial = Dial {
            endpoints: proxy.shared(),
            wished: None,
            ..*self
        };
        let mut candidates = proxy.candidates(Instant::now());
        // It is a dial in a dial.
        if begins_with_trial(&candidates) {
            let trial = candidates.remove(0);
            Box::pin(dial.race(trial, candidates, missed)).await
        } else {
            let ruled_out = RefCell::default();
            Box::pin(dial.each(candidates, &ruled_out, None, missed)).await
        }
    }

    /// Opens a tunnel, over a connection to the proxy if there is one already.
    async fn tunnel(
        &self,
        candidate: &Candidate,
        connected: Option<Leg>,
        deadline: Instant,
    ) -> Result<Leg, Lost> {
        let Candidate {
            endpoint, address, ..
        } = candidate;
        let by_address = Target::Address(address.at());
        let (via, far_end) = match endpoint.way() {
            Way::ByName(via) => (via, self.wished.as_deref().unwrap_or(endpoint.target())),
            Way::ByAddress(proxy) => (proxy.via(), &by_address),
            Way::Direct | Way::ToProxy(_) => return Err(Lost::Connect(Errno::INVAL.into())),
        };
        let leg = match connected {
            Some(leg) => leg,
            None => connect(candidate, deadline).await?,
        };
        {
            let tunnel = pin!(via::open(&leg, via, far_end, self.resources));
            let opened = until(deadline, tunnel).await;
            let late = |TimeIsUp| Err(Failed::Io(io::ErrorKind::TimedOut.into()));
            opened.unwrap_or_else(late).map_err(Lost::Tunnel)?;
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
        let is_of_proxy =
            matches!(lost, Lost::Tunnel(Failed::Closed)) && endpoint.proxy().is_some();
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
            // The address of the proxy has got the blame.
            Failure::Endpoint if is_of_proxy => {}
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
            Failure::Refused(_) => endpoint.refused(address, now),
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

async fn connect(candidate: &Candidate, deadline: Instant) -> Result<Leg, Lost> {
    let leg = begin(candidate.address.at()).map_err(Lost::Connect)?;
    {
        let connected = until(deadline, pin!(leg.connected())).await;
        let late = |TimeIsUp| Err(io::ErrorKind::TimedOut.into());
        connected.unwrap_or_else(late).map_err(Lost::Connect)?;
    }
    Ok(leg)
}

fn begin(address: SocketAddr) -> io::Result<Leg> {
    Leg::register(begin_connect(address)?)
}
