//! Asks every address what there is to ask, a few connections at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::hello::{self, Kind, Shape};
use super::plan::Caller;
use super::probe::{self, Exchange, Said};
use crate::tls::Answer;

/// Connections at once: beside a live portway, at servers that count them.
const CONNECTIONS: usize = 6;
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
    pub(super) result: io::Result<Exchange>,
}

/// Asks, with a bound on connections.
#[derive(Debug)]
pub(super) struct Examiner {
    permits: Semaphore,
}

impl Examiner {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(CONNECTIONS),
        })
    }

    /// Asks one address everything; the first question comes first.
    pub(super) async fn address(
        self: Arc<Self>,
        address: SocketAddr,
        callers: Arc<[Caller]>,
        connect_timeout: Duration,
    ) -> Vec<Asked> {
        let of = |question| Asking {
            address,
            callers: Arc::clone(&callers),
            connect_timeout,
            question,
        };
        let first = self.ask(of(Question::FIRST)).await;
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
            asking.spawn(async move { (position, examiner.ask(of).await) });
        }
        let mut others = asking.join_all().await;
        others.sort_unstable_by_key(|(position, _)| *position);
        let others = others.into_iter().map(|(_, asked)| asked);
        [first].into_iter().chain(others).collect()
    }

    async fn ask(&self, asking: Asking) -> Asked {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
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
    address: SocketAddr,
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
        let message = hello::message(self.question.kind, name, alpn);
        let parts = hello::parts(&message, self.question.shape);
        Asked {
            question: self.question,
            bytes: parts.iter().map(Vec::len).sum(),
            result: probe::ask(self.address, &parts, self.connect_timeout).await,
        }
    }
}
