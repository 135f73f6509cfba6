//! What is known of a connection, and its one entry in metrics and log.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Context;
use super::hello::Hello;
use super::refuse::Refusal;
use crate::backend::InUse;
use crate::dial::Dialled;
use crate::net::{Accepted, Leg, local_address};
use crate::outcome::{ClosedBy, Direction, Limit, Outcome};
use crate::relay::{End, Flow, Micros, Verdict};
use crate::snapshot::{Backend, Listener, Routed, Snapshot, Taken};
use crate::telemetry::{Attempt, ClientText, Id, Line, Millis, Protocols, Time};

/// One connection in the accounts: it opens at accept and closes once, in Drop, so that a task that
/// panics or is dropped is counted too.
pub(super) struct Record {
    context: Rc<Context>,
    snapshot: Arc<Snapshot>,
    flow: Rc<Flow>,
    /// The key of the flow among the worker's.
    key: usize,
    id: u64,
    listener: usize,
    /// The position of the route, which knows its backend.
    route: Option<usize>,
    /// The endpoint that was reached, counted as long as this lives.
    endpoint: Option<InUse>,
    outcome: Outcome,
    closed_by: ClosedBy,
    facts: Box<Facts>,
}

/// What only the log tells. A connection has it as long as it lives, so it is kept small.
struct Facts {
    client: SocketAddr,
    hello: Option<Hello>,
    backend_local: Option<SocketAddr>,
    attempts: Vec<Attempt>,
    /// From accept to a whole hello.
    hello_after: Option<Micros>,
    /// From accept to a connected backend.
    connected_after: Option<Micros>,
    trouble: Option<Box<Trouble>>,
}

/// What the log tells of a connection that went wrong.
#[derive(Default)]
struct Trouble {
    invalid_name: Option<Box<[u8]>>,
    alert: Option<u8>,
    detail: Option<Box<str>>,
    limit: Option<Limit>,
    /// Bytes of a hello that is not whole, and bytes that were waited for.
    partial: Option<(usize, usize)>,
    /// Bytes that a reset of ours has thrown away, if any.
    unacknowledged: Option<u64>,
}

impl Facts {
    fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }
}

impl Record {
    /// A connection has been accepted.
    pub(super) fn open(context: &Rc<Context>, accepted: &Accepted, taken: Taken) -> Self {
        let Taken { snapshot, listener } = taken;
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
            listener,
            route: None,
            endpoint: None,
            outcome: Outcome::Error,
            closed_by: ClosedBy::Portway,
            facts: Box::new(Facts {
                client: accepted.client,
                hello: None,
                backend_local: None,
                attempts: Vec::new(),
                hello_after: None,
                connected_after: None,
                trouble: None,
            }),
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
        self.facts.client.ip()
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
        if have > 0 {
            self.facts.trouble().partial = Some((have, total));
        }
    }

    /// The hello is whole.
    pub(super) fn hello(&mut self, hello: Hello) {
        let elapsed = self.flow.accepted_at().elapsed();
        self.context.registry.client_hello_seconds.record(elapsed);
        self.facts.trouble = None;
        self.facts.hello_after = Some(Micros::new(elapsed));
        self.facts.hello = Some(hello);
    }

    /// A route was found.
    pub(super) const fn routed(&mut self, routed: &Routed<'_>) {
        self.route = Some(routed.position);
    }

    /// A backend was reached; gives its leg.
    pub(super) fn dialled(&mut self, dialled: Dialled, backend: &Backend) -> Leg {
        let elapsed = self.flow.accepted_at().elapsed();
        let hello = self.facts.hello_after.map(Micros::get).unwrap_or_default();
        backend
            .relay
            .stats
            .dial_seconds
            .record(elapsed.saturating_sub(hello));
        self.facts.connected_after = Some(Micros::new(elapsed));
        self.facts.backend_local = local_address(&dialled.leg).ok();
        self.endpoint = Some(dialled.endpoint);
        dialled.leg
    }

    /// The connection was refused.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        let trouble = self.facts.trouble();
        if !matches!(refusal.outcome, Outcome::HelloTimeout | Outcome::HelloEof) {
            trouble.partial = None;
        }
        trouble.alert = refusal.alert();
        trouble.detail = refusal.detail;
        trouble.invalid_name = refusal.invalid_name;
        trouble.limit = refusal.limit;
        if let Some(limit) = refusal.limit {
            self.context.registry.limits().rejected(limit);
        }
        self.close(refusal.outcome, refusal.closed_by);
    }

    /// A system call of ours failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.facts.trouble().detail = Some(error.to_string().into());
    }

    /// The relay has ended.
    pub(super) fn relayed(&mut self, end: End) {
        if let Some(error) = end.error {
            self.failed(&error.into());
        }
        if end.unacknowledged > 0 {
            self.facts.trouble().unacknowledged = Some(end.unacknowledged);
        }
        self.close(end.outcome, end.closed_by);
    }

    /// How the connection ends; told to the accounts when the record is dropped.
    pub(super) const fn close(&mut self, outcome: Outcome, closed_by: ClosedBy) {
        self.outcome = outcome;
        self.closed_by = closed_by;
    }

    /// The position of the route's backend.
    fn backend(&self) -> Option<usize> {
        let route = self.snapshot.routes.routes().get(self.route?)?;
        Some(route.backend)
    }

    fn line(&self) -> Line<'_> {
        let facts = &*self.facts;
        let trouble = facts.trouble.as_deref();
        let hello_after = facts.hello_after.map(Micros::get);
        let connected_after = facts.connected_after.map(Micros::get);
        let between = |since: Option<Duration>, until: Option<Duration>| {
            Some(Millis(until?.saturating_sub(since?)))
        };
        let moved = |direction| connected_after.map(|_| self.flow.moved(direction));
        let route = self
            .route
            .and_then(|position| self.snapshot.routes.routes().get(position));
        let backend = self
            .backend()
            .and_then(|position| self.snapshot.backends.get(position));
        let hello = facts.hello.as_ref();
        let name = hello.and_then(|hello| hello.server_name.as_ref());
        let name = name.map(|name| name.as_str().as_bytes());
        let partial = trouble.and_then(|trouble| trouble.partial);
        Line {
            time: Time(SystemTime::now()),
            id: Id(self.id),
            config: self.snapshot.generation,
            client: facts.client,
            listener: &self.listener().name,
            server_name: name
                .or_else(|| trouble?.invalid_name.as_deref())
                .map(ClientText),
            alpn: Protocols(hello.map(Hello::alpn).unwrap_or_default()),
            tls_offered: hello.map(|hello| hello.version),
            route: route.map(|route| &*route.name),
            backend: backend.map(|backend| &**backend.pool.name()),
            endpoint: self.endpoint.as_ref().map(|one| &**one.endpoint().name()),
            backend_local: facts.backend_local,
            attempts: &facts.attempts,
            hello_ms: hello_after.map(Millis),
            dial_ms: between(hello_after, connected_after),
            first_byte_ms: between(connected_after, self.flow.first_byte()),
            duration_ms: Millis(self.flow.accepted_at().elapsed()),
            bytes_client_to_backend: moved(Direction::ClientToBackend),
            bytes_backend_to_client: moved(Direction::BackendToClient),
            bytes_unacknowledged: trouble.and_then(|trouble| trouble.unacknowledged),
            outcome: self.outcome,
            closed_by: self.closed_by,
            alert: trouble.and_then(|trouble| trouble.alert),
            detail: trouble.and_then(|trouble| trouble.detail.as_deref()),
            limit: trouble.and_then(|trouble| trouble.limit),
            hello_bytes: partial.map(|(have, _)| have),
            hello_expected: partial.map(|(_, total)| total),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.context.flows.borrow_mut().remove(self.key);
        self.context.log.log(&self.line());
        self.snapshot
            .endings(self.listener, self.backend())
            .count(self.outcome);
    }
}
