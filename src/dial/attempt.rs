//! One attempt to reach an endpoint, and what it says about other candidates.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::slice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::start::finish;
use super::via::{self, Failed};
use super::{Dialled, Missed, Unreached};
use crate::backend::{Candidate, Endpoints, Proxy, Target, Way};
use crate::net::{Leg, TimeIsUp, until};
use crate::outcome::{AttemptFailure, DialFailure, Shortage};
use crate::relay::Resources;
use crate::telemetry::{Attempt, Millis};

/// The values that the attempts of one dial share.
pub(super) struct Dial<'d> {
    pub(super) connect_timeout: Duration,
    pub(super) deadline: Instant,
    /// All endpoints of the backend, and how they are dialled.
    pub(super) endpoints: &'d Arc<Endpoints>,
    pub(super) resources: &'d Rc<Resources>,
    /// The name that the client asked for, if the proxy in `via` is to reach it.
    pub(super) wished: Option<Rc<Target>>,
}

/// How the attempts of a dial failed, the worst last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    /// There was no time for an attempt.
    Untried,
    /// The dial ended while it waited for its turn, as these words say. Boxed, because it is rare and every dial has
    /// room for it.
    Crowded(Box<str>),
    /// The proxy refused to reach the endpoint, in these words. Boxed for the same reason.
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
            Failure::Crowded(words) => Self::Crowded(words),
            Failure::Local(shortage) => Self::LocalExhausted(shortage),
            Failure::Untried | Failure::Proxy | Failure::Endpoint => Self::Unavailable,
        }
    }
}

/// Where an attempt failed, and how.
pub(super) enum Lost {
    /// Before the connect, because this machine lacks something.
    Begin(Box<Shortage>),
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
        let slot = match candidate.address.take_slot(self.endpoints.max_dials()) {
            Ok(slot) => slot,
            // It is rare: boxed, it does not make the dials that wait for nobody larger.
            Err(waiting) => Box::pin(self.wait(candidate, waiting, missed)).await?,
        };
        let reached = if candidate.endpoint.is_dialled_itself() {
            let began = Instant::now();
            let leg = match self.begin(candidate, missed) {
                Ok(leg) => leg,
                Err(lost) => return Err(self.fail(candidate, lost, began, missed)),
            };
            match finish(&leg, self.limit(began)).await {
                Ok(()) => Ok(leg),
                Err(lost) => Err((lost, began)),
            }
        } else {
            // Boxed, it does not make the dials without a proxy larger.
            Box::pin(self.through(candidate, missed)).await?
        };
        match reached {
            Ok(leg) => {
                candidate.address.succeeded(Instant::now());
                drop(slot);
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
            let tunnel = self.tunnel(candidate, connected, began, missed).await;
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
            wished: None,
            ..*self
        };
        // It is a dial in a dial.
        Box::pin(dial.one_of(proxy.candidates(Instant::now()), missed)).await
    }

    /// Opens a tunnel, over a connection to the proxy if there is one already.
    async fn tunnel(
        &self,
        candidate: &Candidate,
        connected: Option<Leg>,
        began: Instant,
        missed: Missed<'_>,
    ) -> Result<Leg, Lost> {
        let deadline = self.limit(began);
        let Candidate {
            endpoint, address, ..
        } = candidate;
        let by_address = Target::Address(address.at());
        let (via, far_end) = match endpoint.way() {
            Way::ByName(via) => (via, self.wished.as_deref().unwrap_or(endpoint.target())),
            Way::ByAddress(proxy) => (proxy.via(), &by_address),
            Way::Direct | Way::ToProxy(_) => return Err(Lost::Connect(Errno::INVAL.into())),
        };
        let leg = if let Some(leg) = connected {
            leg
        } else {
            let leg = self.begin(candidate, missed)?;
            finish(&leg, deadline).await?;
            leg
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
    pub(super) fn fail(
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
                let is_proxy = matches!(endpoint.way(), Way::ToProxy(_));
                let itself = slice::from_ref(endpoint);
                let behind = if is_proxy {
                    itself
                } else {
                    self.endpoints.all()
                };
                for endpoint in behind {
                    let addresses = endpoint.addresses();
                    let same = addresses.iter().find(|one| one.at() == address.at());
                    if let Some(same) = same {
                        endpoint.failed(same, now);
                    }
                }
            }
            Failure::Refused(_) => endpoint.refused(address, now),
            Failure::Untried
            | Failure::Crowded(_)
            | Failure::Local(_)
            | Failure::Endpoint
            | Failure::Proxy => {}
        }
        // If another one has succeeded meanwhile, it may be this one alone.
        let is_alone = address.has_connected(began);
        if !matches!(failure, Failure::Local(_)) && !address.is_healthy() && !is_alone {
            address.fail_waiting(reason);
        }
        failure
    }
}

impl Lost {
    /// The reason for the metric and the log, and words for the log where the reason does not say enough.
    fn told(&self) -> (DialFailure, Option<Box<str>>) {
        match self {
            Self::Begin(shortage) => {
                let words = shortage.source.map(|_| shortage.to_string().into());
                (DialFailure::LocalExhausted, words)
            }
            Self::Connect(error) => {
                let reason = DialFailure::from_io(error);
                let words = (reason == DialFailure::Other).then(|| error.to_string().into());
                (reason, words)
            }
            Self::Tunnel(Failed::Refused(refused)) => {
                (DialFailure::ViaRefused, Some(refused.0.clone()))
            }
            Self::Tunnel(Failed::Closed) => (DialFailure::Reset, Some(CLOSED.into())),
            Self::Tunnel(Failed::Io(error)) => {
                let reason = DialFailure::from_io(error);
                let words = if reason == DialFailure::Timeout {
                    SILENT.into()
                } else if reason == DialFailure::Other {
                    format!("{BROKEN}: {error}").into()
                } else {
                    BROKEN.into()
                };
                (reason, Some(words))
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
            (Self::Begin(shortage), _) => Failure::Local(shortage),
            (Self::Connect(error), via) => {
                let (endpoint, address) = (candidate.endpoint.name(), candidate.address.at());
                let shortage = Shortage::behind(&error, endpoint, address);
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
