//! What each path answers.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Mutex;
use tokio::task::{spawn_blocking, yield_now};

use super::predecessor::{Questions, Reply, Respondent};
use crate::telemetry::metrics::Registry;

/// A worker that has not turned for so long does not serve its connections.
pub const LATE: Duration = Duration::from_secs(10);

const METRICS: &str = "/metrics";

/// What is served where, for a reader who has asked for something else.
const PATHS: &str = "/metrics\n/livez\n/readyz\n";

const NOT_MADE: &str = "an internal error stopped the making of this page (please report the panic in the program log)\n";

/// How far the program is, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Listeners do not accept yet.
    Starting,
    /// New connections are welcome.
    Ready,
    /// They are not any more.
    Draining,
}

impl Stage {
    const fn not_ready(self) -> Option<&'static str> {
        match self {
            Self::Starting => Some("starting: listeners do not accept yet"),
            Self::Ready => None,
            Self::Draining => Some("draining"),
        }
    }
}

/// What the pages tell of.
pub struct State {
    registry: Arc<Registry>,
    stage: AtomicU8,
    /// Scrapes so far.
    scrapes: AtomicU64,
    made: Arc<Mutex<Made>>,
    /// The process whose listeners this one has.
    predecessor: std::sync::Mutex<Respondent>,
}

/// A page of metrics for all scrapes up to this one.
#[derive(Default)]
struct Made {
    scrape: u64,
    page: Bytes,
}

impl State {
    /// The state of a program that is [`Stage::Starting`].
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            stage: AtomicU8::new(Stage::Starting as u8),
            scrapes: AtomicU64::new(0),
            made: Arc::default(),
            predecessor: std::sync::Mutex::default(),
        }
    }

    /// There is a predecessor that does not know yet that we accept.
    pub fn await_predecessor(&self) {
        *self.predecessor() = Respondent::Awaited;
    }

    /// The predecessor accepts no more, and can be asked for figures if it is still there.
    pub fn succeed(&self, predecessor: Option<Questions>) {
        *self.predecessor() = predecessor.map_or(Respondent::None, Respondent::Linked);
    }

    fn predecessor(&self) -> MutexGuard<'_, Respondent> {
        let predecessor = self.predecessor.lock();
        predecessor.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the predecessor for what the answer to a request needs of it.
    pub(super) async fn ask<B>(&self, request: &Request<B>) -> Reply {
        let predecessor = self.predecessor().clone();
        if is_long(request) {
            predecessor.ask().await
        } else {
            Reply::Nobody
        }
    }

    /// The program has come to a stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Draining,
        }
    }

    /// Answers a request at the time `now`, of which the predecessor has been asked before.
    pub(super) async fn answer<B>(&self, request: &Request<B>, reply: Reply, now: Instant) -> Page {
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, METRICS) => self.metrics(reply).await,
            (&Method::GET | &Method::HEAD, "/livez") => self.livez(now),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readyz(),
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, PATHS.into()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into()),
        };
        let mut page = Response::new(Full::new(body));
        *page.status_mut() = status;
        let headers = page.headers_mut();
        // With its version it is the type of the Prometheus text format, and plain text to others.
        let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        headers.insert(CONTENT_TYPE, text);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        page
    }

    /// Scrapes that come at once share one page, and one page is made at a time, on a thread of its own: it may
    /// be long, and nobody else waits for it. Each is made after its scrapes were asked for.
    async fn metrics(&self, reply: Reply) -> (StatusCode, Bytes) {
        let scrape = self.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut made = Arc::clone(&self.made).lock_owned().await;
        if made.scrape < scrape {
            yield_now().await;
            let up_to = self.scrapes.load(Ordering::Relaxed);
            let registry = Arc::clone(&self.registry);
            // The thread keeps the lock, also if the scraper goes away meanwhile.
            let making = spawn_blocking(move || {
                made.page = registry.render_beside(reply.figures()).into();
                made.scrape = up_to;
                made
            });
            match making.await {
                Ok(page) => made = page,
                Err(_panic_that_is_logged) => {
                    return (StatusCode::INTERNAL_SERVER_ERROR, NOT_MADE.into());
                }
            }
        }
        if made.scrape == scrape {
            // Nobody else waits for it.
            return (StatusCode::OK, std::mem::take(&mut made.page));
        }
        (StatusCode::OK, made.page.clone())
    }

    fn livez(&self, now: Instant) -> (StatusCode, Bytes) {
        let late = self.registry.late_workers(now, LATE);
        let lines = late
            .iter()
            .map(|worker| format!("worker {worker} has not turned for {} s\n", LATE.as_secs()));
        let lost = self.registry.vital().lost();
        let lost = lost.map(|task| format!("{task}: the task has failed, and portway ends\n"));
        verdict(lines.chain(lost).collect())
    }

    fn readyz(&self) -> (StatusCode, Bytes) {
        let reason = self.stage().not_ready();
        verdict(reason.map(|text| format!("{text}\n")).unwrap_or_default())
    }
}

pub(super) type Page = Response<Full<Bytes>>;

/// Whether the answer may be too long for a socket that nobody reads.
pub(super) fn is_long<B>(request: &Request<B>) -> bool {
    request.uri().path() == METRICS
}

fn verdict(reasons: String) -> (StatusCode, Bytes) {
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.into())
    }
}
