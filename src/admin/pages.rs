//! What each path answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::telemetry::metrics::Registry;

/// A worker that has not turned for so long does not serve its connections.
pub const LATE: Duration = Duration::from_secs(10);

/// What is served where, for a reader who has asked for something else.
const PATHS: &str = "/metrics\n/livez\n/readyz\n";

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
}

impl State {
    /// The state of a program that is [`Stage::Starting`].
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            stage: AtomicU8::new(Stage::Starting as u8),
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

    /// Answers a request at the time `now`.
    pub(super) fn answer<B>(&self, request: &Request<B>, now: Instant) -> Page {
        let (status, body) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, self.registry.render()),
            (&Method::GET | &Method::HEAD, "/livez") => self.livez(now),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readyz(),
            (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, PATHS.to_owned()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned()),
        };
        let mut page = Response::new(Full::new(Bytes::from(body)));
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

    fn livez(&self, now: Instant) -> (StatusCode, String) {
        let late = self.registry.late_workers(now, LATE);
        let lines = late
            .iter()
            .map(|worker| format!("worker {worker} has not turned for {} s\n", LATE.as_secs()));
        verdict(lines.collect())
    }

    fn readyz(&self) -> (StatusCode, String) {
        let reason = self.stage().not_ready();
        verdict(reason.map(|text| format!("{text}\n")).unwrap_or_default())
    }
}

pub(super) type Page = Response<Full<Bytes>>;

/// What the HTTP server calls for each request.
pub(super) async fn respond<B>(state: Arc<State>, request: Request<B>) -> Result<Page, Infallible> {
    Ok(state.answer(&request, Instant::now()))
}

fn verdict(reasons: String) -> (StatusCode, String) {
    if reasons.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons)
    }
}
