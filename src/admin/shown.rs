//! The status of this process, for HTTP and for the control socket.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use hyper::{Request, StatusCode};

use super::pages::{Page, STATUS, State, page};
use super::status::{Current, NoAnswer, denial};
use crate::status::{Connections, Query, Status};
use crate::telemetry::json;

/// Other sites may not embed what is shown.
const SAME_ORIGIN: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

impl State {
    /// Shows this configuration from now on.
    pub fn adopt(&self, current: Current) {
        self.reporter.adopt(current);
    }

    /// Shows the faults for which the last reload was refused; `None` if the file is in force.
    pub fn refuse_reload(&self, faults: Option<&[String]>) {
        self.reporter.refuse_reload(faults);
    }

    /// Shows a drain that has begun for this cause, and ends within `limit`.
    pub fn begin_drain(&self, cause: &str, limit: Duration) {
        self.reporter.drain(cause, limit);
    }

    /// Keeps the rates up to date; call it every second.
    pub fn upkeep(&self, now: Instant) {
        self.reporter.sample(now);
    }

    /// The status of this process. It waits for the workers, a second at most.
    pub async fn status(&self) -> Result<Status, NoAnswer> {
        let predecessor = self.predecessor().shown();
        self.reporter.status(self.stage(), predecessor).await
    }

    /// The live connections that a query selects. It waits as long.
    pub async fn connections(&self, query: Query) -> Result<Connections, NoAnswer> {
        self.reporter.connections(query).await
    }

    /// A page that shows names and addresses of clients.
    pub(super) async fn status_page<B>(&self, request: &Request<B>, client: IpAddr) -> Page {
        let answer = self.shown(request, client).await;
        let (status, content_type, body) = match answer {
            Ok(json) => (StatusCode::OK, "application/json", json.into()),
            Err((status, sentence)) => (status, "text/plain; charset=utf-8", sentence.into()),
        };
        let mut page = page(status, content_type, body, "GET");
        let headers = page.headers_mut();
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(SAME_ORIGIN, HeaderValue::from_static("same-origin"));
        page
    }

    async fn shown<B>(
        &self,
        request: &Request<B>,
        client: IpAddr,
    ) -> Result<Vec<u8>, (StatusCode, String)> {
        let failed = |error: NoAnswer| (error.status(), format!("{error}\n"));
        let current = self.reporter.current().map_err(failed)?;
        if let Some(denial) = denial(&current.pages, client, request) {
            return Err(denial);
        }
        if request.uri().path() == STATUS {
            return Ok(json(&self.status().await.map_err(failed)?));
        }
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let query = query.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
        Ok(json(&self.connections(query).await.map_err(failed)?))
    }
}

impl NoAnswer {
    const fn status(self) -> StatusCode {
        match self {
            Self::Starting | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
