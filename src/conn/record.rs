//! What is known of a connection, and its one entry in metrics and log.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Context;
use super::hello::Hello;
use super::refuse::Refusal;
use crate::dial::Dialled;
use crate::net::{Accepted, local_address};
use crate::outcome::{ClosedBy, Direction, Outcome};
use crate::relay::{End, Flow, Verdict};
use crate::snapshot::{Backend, Listener, Routed, Snapshot};
use crate::telemetry::{Attempt, ClientText, Id, Limit, Line, Millis, Protocols, Time, Version};

/// One connection in the accounts: it opens at accept and closes once, in Drop, so that a task that
/// panics or is dropped is counted too.
pub(super) struct Record {
    context: Rc<Context>,
    snapshot: Arc<Snapshot>,
    flow: Rc<Flow>,
    /// The key of the flow among the worker's.
    key: usize,
    id: u64,
    client: SocketAddr,
    listener: usize,
    backend: Option<usize>,
    outcome: Outcome,
    closed_by: ClosedBy,
    facts: Box<Facts>,
}

/// What only the log tells.
#[derive(Default)]
struct Facts {
    hello: Option<Hello>,
    invalid_name: Option<Box<[u8]>>,
    route: Option<Arc<str>>,
    endpoint: Option<Arc<str>>,
    backend_local: Option<SocketAddr>,
    attempts: Vec<Attempt>,
    /// From accept to a whole hello.
    hello_after: Option<Duration>,
    /// From accept to a connected backend.
    connected_after: Option<Duration>,
    alert: Option<u8>,
    detail: Option<Box<str>>,
    limit: Option<Limit>,
    /// Bytes of a hello that is not whole, and bytes that were waited for.
    partial: Option<(usize, usize)>,
}

impl Record {
    /// A connection has been accepted.
    pub(super) fn open(context: &Rc<Context>, accepted: &Accepted, listener: usize) -> Self {
        let snapshot = Arc::clone(&context.snapshot.borrow());
        let flow = Rc::new(Flow::new(accepted.at));
        if context.cut.get() {
            flow.end(Verdict::Drained);
        }
        let key = context.flows.borrow_mut().insert(Rc::clone(&flow));
        snapshot.listener(listener).stats.accepted.add(1);
        Self {
            context: Rc::clone(context),
            snapshot,
            flow,
            key,
            id: context.next_id(),
            client: accepted.client,
            listener,
            backend: None,
            outcome: Outcome::Error,
            closed_by: ClosedBy::Portway,
            facts: Box::default(),
        }
    }

    pub(super) const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(super) const fn flow(&self) -> &Rc<Flow> {
        &self.flow
    }

    /// The canonical address of the client.
    pub(super) const fn client(&self) -> IpAddr {
        self.client.ip()
    }

    pub(super) fn listener(&self) -> &Listener {
        self.snapshot.listener(self.listener)
    }

    /// Attempts of the dial that failed.
    pub(super) const fn attempts(&mut self) -> &mut Vec<Attempt> {
        &mut self.facts.attempts
    }

    /// So many bytes of a hello are there, and so many are waited for.
    pub(super) fn partial_hello(&mut self, have: usize, total: usize) {
        self.facts.partial = (have > 0).then_some((have, total));
    }

    /// The hello is whole.
    pub(super) fn hello(&mut self, hello: Hello) {
        let elapsed = self.flow.accepted_at().elapsed();
        self.context.registry.client_hello_seconds.record(elapsed);
        self.facts.partial = None;
        self.facts.hello_after = Some(elapsed);
        self.facts.hello = Some(hello);
    }

    /// A route was found.
    pub(super) fn routed(&mut self, routed: &Routed<'_>) {
        self.backend = Some(routed.position);
        self.facts.route = Some(Arc::clone(routed.route));
    }

    /// A backend was reached.
    pub(super) fn dialled(&mut self, dialled: &Dialled, backend: &Backend) {
        let elapsed = self.flow.accepted_at().elapsed();
        let dial = elapsed.saturating_sub(self.facts.hello_after.unwrap_or_default());
        backend.stats.dial_seconds.record(dial);
        self.facts.connected_after = Some(elapsed);
        self.facts.endpoint = Some(Arc::clone(dialled.endpoint.endpoint().name()));
        self.facts.backend_local = local_address(&dialled.leg).ok();
    }

    /// The connection was refused.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        if !matches!(refusal.outcome, Outcome::HelloTimeout | Outcome::HelloEof) {
            self.facts.partial = None;
        }
        self.facts.alert = refusal.alert();
        self.facts.detail = refusal.detail;
        self.facts.invalid_name = refusal.invalid_name;
        self.facts.limit = refusal.limit;
        if let Some(limit) = refusal.limit {
            self.context.registry.limits().rejected(limit);
        }
        self.close(refusal.outcome, refusal.closed_by);
    }

    /// A system call of ours failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.facts.detail = Some(error.to_string().into());
    }

    /// The relay has ended.
    pub(super) fn relayed(&mut self, end: End) {
        self.facts.detail = end
            .error
            .map(|error| io::Error::from(error).to_string().into());
        self.close(end.outcome, end.closed_by);
    }

    /// How the connection ends; told to the accounts when the record is dropped.
    pub(super) const fn close(&mut self, outcome: Outcome, closed_by: ClosedBy) {
        self.outcome = outcome;
        self.closed_by = closed_by;
    }

    fn line(&self) -> Line<'_> {
        let facts = &*self.facts;
        let between = |since: Option<Duration>, until: Option<Duration>| {
            Some(Millis(until?.saturating_sub(since?)))
        };
        let moved = |direction| facts.connected_after.map(|_| self.flow.moved(direction));
        let backend = self
            .backend
            .and_then(|position| self.snapshot.backends.get(position));
        let hello = facts.hello.as_ref();
        let name = hello.and_then(|hello| hello.server_name.as_ref());
        let name = name.map(|name| name.as_str().as_bytes());
        Line {
            time: Time(SystemTime::now()),
            id: Id(self.id),
            config: self.snapshot.generation,
            client: self.client,
            listener: &self.listener().name,
            server_name: name.or(facts.invalid_name.as_deref()).map(ClientText),
            alpn: Protocols(hello.map(Hello::alpn).unwrap_or_default()),
            tls_offered: hello.map(|hello| Version(hello.version)),
            route: facts.route.as_deref(),
            backend: backend.map(|backend| &**backend.pool.name()),
            endpoint: facts.endpoint.as_deref(),
            backend_local: facts.backend_local,
            attempts: &facts.attempts,
            hello_ms: facts.hello_after.map(Millis),
            dial_ms: between(facts.hello_after, facts.connected_after),
            first_byte_ms: between(facts.connected_after, self.flow.first_byte()),
            duration_ms: Millis(self.flow.accepted_at().elapsed()),
            bytes_client_to_backend: moved(Direction::ClientToBackend),
            bytes_backend_to_client: moved(Direction::BackendToClient),
            outcome: self.outcome,
            closed_by: self.closed_by,
            alert: facts.alert,
            detail: facts.detail.as_deref(),
            limit: facts.limit,
            hello_bytes: facts.partial.map(|(have, _)| have),
            hello_expected: facts.partial.map(|(_, total)| total),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.context.flows.borrow_mut().remove(self.key);
        self.context.log.log(&self.line());
        self.snapshot
            .endings(self.listener, self.backend)
            .count(self.outcome);
    }
}
