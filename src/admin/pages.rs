//! The answer of each path.

use std::net::IpAddr;
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
use super::status::{Relay, Reporter};
use crate::status::Stage;
use crate::telemetry::metrics::Registry;

/// A worker whose last tick is longer ago does not serve its connections.
pub const LATE: Duration = Duration::from_secs(10);

const METRICS: &str = "/metrics";

/// The paths, listed for a client that has asked for another one.
const PATHS: &str = "/\n/metrics\n/livez\n/readyz\n/status\n/connections\n";

/// The pages that show names and addresses of clients.
pub(super) const FOR_PEOPLE: &str = "/";
pub(super) const STATUS: &str = "/status";
const CONNECTIONS: &str = "/connections";

const NOT_MADE: &str = "an internal error stopped the making of this page (please report the panic in the program log)\n";

const fn not_ready(stage: Stage) -> Option<&'static str> {
    match stage {
        Stage::Starting => Some("starting: listeners do not accept yet"),
        Stage::Ready => None,
        Stage::Draining => Some("draining"),
    }
}

/// The state that the pages show.
pub struct State {
    registry: Arc<Registry>,
    pub(super) reporter: Arc<Reporter>,
    stage: AtomicU8,
    /// Scrapes so far.
    scrapes: AtomicU64,
    made: Arc<Mutex<Made>>,
    /// The process whose listeners this one has taken over.
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
    pub fn new(relay: Relay) -> Self {
        Self {
            registry: Arc::clone(&relay.registry),
            reporter: Arc::new(Reporter::new(relay)),
            stage: AtomicU8::new(Stage::Starting as u8),
            scrapes: AtomicU64::new(0),
            made: Arc::default(),
            predecessor: std::sync::Mutex::default(),
        }
    }

    /// The counters.
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Notes that there is a predecessor, which does not know yet that this process accepts.
    pub fn await_predecessor(&self) {
        *self.predecessor() = Respondent::Awaited;
    }

    /// Notes that the predecessor no longer accepts. `predecessor` asks it for figures, if it is still there.
    pub fn succeed(&self, predecessor: Option<Questions>) {
        *self.predecessor() = predecessor.map_or(Respondent::None, Respondent::Linked);
    }

    pub(super) fn predecessor(&self) -> MutexGuard<'_, Respondent> {
        let predecessor = self.predecessor.lock();
        predecessor.unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the predecessor for its page, if the answer to this request needs it.
    pub(super) async fn ask<B>(&self, request: &Request<B>) -> Reply {
        let predecessor = self.predecessor().clone();
        if request.uri().path() == METRICS {
            predecessor.ask().await
        } else {
            Reply::Nobody
        }
    }

    /// Notes that the program has reached a stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Starting,
            1 => Stage::Ready,
            _ => Stage::Draining,
        }
    }

    /// Answers a request of this client at the time `now`. `reply` is the result of [`Self::ask`] for it.
    pub(super) async fn answer<B>(
        &self,
        request: &Request<B>,
        client: IpAddr,
        reply: Reply,
        now: Instant,
    ) -> Page {
        if is_status(request) {
            return self.status_page(request, client).await;
        }
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, METRICS) => self.metrics(reply).await,
            (&Method::GET | &Method::HEAD, "/livez") => self.livez(now),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readyz(),
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, PATHS.into()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into()),
        };
        // With its version this is the type of the Prometheus text format; other clients read it as plain text.
        page(
            status,
            "text/plain; version=0.0.4; charset=utf-8",
            body,
            "GET, HEAD",
        )
    }

    /// The page of metrics. It may take long, so a thread of its own makes it, one page at a time. Scrapes at the
    /// same time share a page, which is always newer than their requests.
    async fn metrics(&self, reply: Reply) -> (StatusCode, Bytes) {
        let scrape = self.scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let mut made = Arc::clone(&self.made).lock_owned().await;
        if made.scrape < scrape {
            yield_now().await;
            let up_to = self.scrapes.load(Ordering::Relaxed);
            let registry = Arc::clone(&self.registry);
            // The thread keeps the lock even if the scraper goes away meanwhile.
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
            // No other scrape waits for this page.
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
        let reason = not_ready(self.stage());
        verdict(reason.map(|text| format!("{text}\n")).unwrap_or_default())
    }
}

pub(super) type Page = Response<Full<Bytes>>;

/// A page; `allowed` are the methods for which it is there.
pub(super) fn page(
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    allowed: &'static str,
) -> Page {
    let mut page = Response::new(Full::new(body));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    page
}

/// Whether a request is for a page that shows names and addresses of clients.
fn is_status<B>(request: &Request<B>) -> bool {
    [FOR_PEOPLE, STATUS, CONNECTIONS].contains(&request.uri().path())
}

/// Whether the answer may be too long for the send queue of a client that does not read.
pub(super) fn is_long<B>(request: &Request<B>) -> bool {
    request.uri().path() == METRICS || is_status(request)
}

fn verdict(reasons: String) -> (StatusCode, Bytes) {
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.into())
    }
}
