//! The status of this process, for HTTP and for the control socket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use hyper::{Request, StatusCode};
use tokio::join;
use tokio::task::spawn_blocking;

use super::page::{self, Asked, POLICY, Shown};
use super::pages::{FOR_PEOPLE, Page, STATUS, State, page as answered};
use super::status::{Current, NoAnswer, Turn, denial};
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
        self.status_in(self.reporter.take_turn().await?).await
    }

    async fn status_in(&self, turn: Turn) -> Result<Status, NoAnswer> {
        let predecessor = self.predecessor().shown();
        let stage = self.stage();
        self.reporter.status(turn, stage, predecessor).await
    }

    /// The live connections that a query selects. It waits as long.
    pub async fn connections(&self, query: Query) -> Result<Connections, NoAnswer> {
        let turn = self.reporter.take_turn().await?;
        Ok(self.reporter.connections(&turn, query).await)
    }

    /// A page that shows names and addresses of clients.
    pub(super) async fn status_page<B>(&self, request: &Request<B>, client: IpAddr) -> Page {
        let answer = match self.admit(request, client) {
            Ok(()) if request.uri().path() == FOR_PEOPLE => self.for_people(request).await,
            Ok(()) => self.for_programs(request).await,
            Err(denial) => Err(denial),
        };
        let (status, content_type, body) = match answer {
            Ok(answer) => answer,
            Err((status, sentence)) => (status, "text/plain; charset=utf-8", sentence.into()),
        };
        let mut page = answered(status, content_type, body, "GET");
        let headers = page.headers_mut();
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(SAME_ORIGIN, HeaderValue::from_static("same-origin"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        // The address of a page may have that of a client in it.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        page
    }

    /// Whether this client may have the answer.
    fn admit<B>(&self, request: &Request<B>, client: IpAddr) -> Result<(), Denial> {
        let current = self.reporter.current()?;
        denial(&current.pages, client, request).map_or(Ok(()), Err)
    }

    async fn for_programs<B>(&self, request: &Request<B>) -> Result<Answer, Denial> {
        let json = if request.uri().path() == STATUS {
            json(&self.status().await?)
        } else {
            let query = Query::parse(request.uri().query().unwrap_or_default());
            let query = query.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
            json(&self.connections(query).await?)
        };
        Ok((StatusCode::OK, "application/json", json.into()))
    }

    async fn for_people<B>(&self, request: &Request<B>) -> Result<Answer, Denial> {
        let asked = Asked::parse(request.uri().query().unwrap_or_default());
        // Both looks have one turn, and ask the workers at the same time.
        let turn = self.reporter.take_turn().await?;
        let connections = async {
            match asked.bounded() {
                Ok(query) => Ok(self.reporter.connections(&turn, query).await),
                Err(error) => Err(error),
            }
        };
        let (status, connections) = join!(self.status_in(Arc::clone(&turn)), connections);
        let code = match &connections {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::BAD_REQUEST,
        };
        let shown = Shown {
            status: status?,
            connections,
            asked,
        };
        // It takes longer than control may take for one thing.
        let html = spawn_blocking(move || {
            let _turn = turn;
            page::render(&shown)
        });
        let html = html.await;
        let html = html.map_err(NoAnswer::from)?;
        Ok((code, "text/html; charset=utf-8", html.into()))
    }
}

/// The answer to a request: its status, its type and its body.
type Answer = (StatusCode, &'static str, Bytes);

/// The status of a request that gets no such answer, and a sentence about it.
type Denial = (StatusCode, String);

impl From<NoAnswer> for Denial {
    fn from(error: NoAnswer) -> Self {
        (error.status(), format!("{error}\n"))
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
