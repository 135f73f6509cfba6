//! Asks every address what there is to ask, a few connections at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::hellos;
use super::plan::Caller;
use crate::backend::{NameRules, Target};
use crate::control::names::{NO_ADDRESS, look_up};
use crate::control::probe::{self, Exchange, Said, Unreached, Way, dial_proxy};
use crate::tls::Answer;
use crate::tls::offer::{self, Kind, Shape};
use crate::wire::ProxyVersion;

/// Connections at once: beside a live portway, at servers that count them.
const CONNECTIONS: u8 = 6;
/// Look-ups at once: each may take a thread.
const LOOKUPS: u8 = 8;
/// Longest wait for the whole answer to a hello.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// no_application_protocol (RFC 7301 section 3.2).
const NO_PROTOCOL: u8 = 120;

/// A hello to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The position of the caller.
    pub(super) caller: usize,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
}

impl Question {
    /// The hello that agents of some years send. Nothing else is asked if it reaches no TLS server.
    const FIRST: Self = Self {
        caller: 0,
        kind: Kind::Classic,
        shape: Shape::Whole,
    };

    /// Every other question to an address.
    fn others(callers: usize) -> Vec<Self> {
        let of = |caller| {
            move |(kind, shape)| Self {
                caller,
                kind,
                shape,
            }
        };
        let first = [
            (Kind::Tls12, Shape::Whole),
            (Kind::Classic, Shape::TwoSegments),
            (Kind::Classic, Shape::TwoRecords),
            (Kind::PostQuantum, Shape::Whole),
            (Kind::PostQuantum, Shape::TwoSegments),
            (Kind::PostQuantum, Shape::TwoRecords),
        ];
        let each = [(Kind::Classic, Shape::Whole), (Kind::Tls12, Shape::Whole)];
        let others = (1..callers).flat_map(|caller| each.map(of(caller)));
        first.map(of(0)).into_iter().chain(others).collect()
    }
}

/// A question, and what came of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    /// The size of the hello.
    pub(super) bytes: usize,
    pub(super) result: Result<Exchange, Unreached>,
}

/// Asks, with a bound on connections and on look-ups.
#[derive(Debug)]
pub(super) struct Examiner {
    permits: Semaphore,
    lookups: Semaphore,
}

impl Examiner {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(CONNECTIONS.into()),
            lookups: Semaphore::new(LOOKUPS.into()),
        })
    }

    /// The addresses of an endpoint, and how long they took once it was their turn.
    pub(super) async fn resolve(
        &self,
        target: &Target,
        rules: &NameRules,
    ) -> (Duration, io::Result<Vec<SocketAddr>>) {
        // The semaphore is never closed.
        let _permit = match target {
            Target::Name { .. } | Target::Asked { .. } => self.lookups.acquire().await.ok(),
            Target::Address(_) => None,
        };
        let begun = Instant::now();
        let found = resolve(target, rules).await;
        (begun.elapsed(), found)
    }

    /// Connects to an address of a proxy. Returns how long that took.
    pub(super) async fn proxy(
        &self,
        address: SocketAddr,
        connect_timeout: Duration,
    ) -> Result<Duration, Unreached> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let begun = Instant::now();
        dial_proxy(address, connect_timeout).await?;
        Ok(begun.elapsed())
    }

    /// Asks everything in one way; the first question comes first.
    pub(super) async fn address(
        self: Arc<Self>,
        (way, header): (Way, Option<ProxyVersion>),
        callers: Arc<[Caller]>,
        connect_timeout: Duration,
    ) -> Vec<Asked> {
        let of = |question| Asking {
            way: way.clone(),
            header,
            callers: Arc::clone(&callers),
            connect_timeout,
            question,
        };
        let first = self.ask(of(Question::FIRST), 1).await;
        let is_over = match &first.result {
            Ok(exchange) => matches!(exchange.said, Said::Answer(Answer::NotTls(_))),
            Err(_) => true,
        };
        if is_over {
            return vec![first];
        }
        let mut asking = JoinSet::new();
        for (position, question) in Question::others(callers.len()).into_iter().enumerate() {
            let (examiner, of) = (Arc::clone(&self), of(question));
            asking.spawn(async move { (position, examiner.ask(of, 1).await) });
        }
        let mut others = asking.join_all().await;
        others.sort_unstable_by_key(|(position, _)| *position);
        let others = others.into_iter().map(|(_, asked)| asked);
        let mut all: Vec<Asked> = [first].into_iter().chain(others).collect();
        self.ask_again(&mut all, of).await;
        all
    }

    /// Asks once more, and alone, what seems lost: a limit on connections or a lost packet may be the reason.
    async fn ask_again(&self, all: &mut [Asked], of: impl Fn(Question) -> Asking) {
        let mut again = Vec::new();
        while let Some(asked) = hellos::suspect(all, &again).and_then(|at| all.get_mut(at)) {
            again.push(asked.question);
            *asked = self.ask(of(asked.question), CONNECTIONS).await;
            if asked.result.is_err() {
                return;
            }
        }
    }

    /// Asks once it has so many of the permits for connections.
    async fn ask(&self, asking: Asking, permits: u8) -> Asked {
        // The semaphore is never closed.
        let _permits = self.permits.acquire_many(permits.into()).await;
        let question = asking.question;
        let alpn = asking.alpn();
        let mut asked = asking.ask(&alpn).await;
        if let Ok(exchange) = &asked.result
            && question.kind == Kind::Tls12
            && exchange.said == Said::Answer(Answer::Alert(NO_PROTOCOL))
        {
            asked = asking.ask(&[]).await;
        }
        asked
    }
}

/// The parts that a task needs to ask one question.
struct Asking {
    way: Way,
    /// The version of the PROXY header that the server expects.
    header: Option<ProxyVersion>,
    callers: Arc<[Caller]>,
    connect_timeout: Duration,
    question: Question,
}

impl Asking {
    /// The protocols to offer. In TLS 1.2 the choice comes in clear: offering HTTP/2 shows whether the server has it.
    fn alpn(&self) -> Vec<Box<[u8]>> {
        let asked = self.callers.get(self.question.caller);
        let asked = asked.map(|caller| caller.alpn.clone()).unwrap_or_default();
        if self.question.kind == Kind::Tls12 && asked.is_empty() {
            vec![Box::from(*b"h2"), Box::from(*b"http/1.1")]
        } else {
            asked
        }
    }

    async fn ask(&self, alpn: &[Box<[u8]>]) -> Asked {
        let caller = self.callers.get(self.question.caller);
        let name = caller.and_then(|caller| caller.server_name.as_ref());
        let message = offer::message(self.question.kind, name, alpn);
        let parts = offer::parts(&message, self.question.shape);
        let bytes = parts.iter().map(Vec::len).sum();
        let parts = probe::introduced(self.header, parts);
        Asked {
            question: self.question,
            bytes,
            result: probe::ask(&self.way, &parts, self.connect_timeout, ANSWER_TIMEOUT).await,
        }
    }
}

/// The addresses of an endpoint, in the order of the resolver of its backend.
async fn resolve(target: &Target, rules: &NameRules) -> io::Result<Vec<SocketAddr>> {
    let (host, port) = match target {
        Target::Address(address) => return Ok(vec![*address]),
        Target::Name { host, port } => (&**host, *port),
        // The plan has one endpoint for each name.
        Target::Asked { .. } => return Err(io::Error::other(NO_ADDRESS)),
    };
    let mut found = look_up(host, rules).await?;
    for address in &mut found {
        address.set_port(port);
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
