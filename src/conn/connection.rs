//! Everything that portway knows about a live connection.

mod front;
mod line;
mod shown;

use std::cell::{Cell, OnceCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::refuse::Refusal;
use crate::admission::Permit;
use crate::backend::InUse;
use crate::net::Accepted;
use crate::outcome::{ClosedBy, Limit, Outcome};
use crate::relay::{Flow, Micros};
use crate::routing::Query;
use crate::snapshot::{Listener, ListenerId, RouteId, Routed, Snapshot, Taken};
use crate::telemetry::Attempt;
use crate::tls::{Alpn, ServerName, Version};
use crate::wire::Target;
use front::Front;

/// The most ports that the log shows of a name's routes.
const PORTS: usize = 20;

/// One accepted client. Its task stores here what it learns, the worker reviews it, and the record
/// passes it to the log at the end. Only the endpoint of a dial in progress is known to the task alone.
/// It lives as long as the connection, also if that is idle, so it is kept small.
pub struct Connection {
    /// Counts and times of the bytes that pass, and the verdict that ends the relay.
    pub flow: Flow,
    /// Its place among the connections of the worker.
    key: u32,
    pub(super) id: u64,
    /// The canonical address at the other end of the socket. A [`SocketAddr`] is 12 bytes larger.
    peer: IpAddr,
    peer_port: u16,
    /// The snapshot in force when it arrived.
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listener: ListenerId,
    /// The port at which it arrived.
    port: u16,
    /// The messages before its hello. Boxed, because most connections have none.
    front: OnceCell<Box<Front>>,
    /// Its right to exist, once it is let in.
    permit: OnceCell<Permit>,
    /// The hello, once it is complete.
    pub(super) hello: OnceCell<Hello>,
    /// The route, once one is found.
    pub(super) route: Cell<Option<RouteId>>,
    /// The backend, once one is connected.
    pub(super) reached: OnceCell<Reached>,
    /// How it ends. If no step sets it, the outcome is `error`: a fault of portway.
    end: Cell<(Outcome, ClosedBy)>,
    trouble: Cell<Option<Box<Trouble>>>,
    /// Whether the log has been asked about it.
    is_told: Cell<bool>,
}

/// The parts of a hello that routing and the log need, copied from the socket's buffer.
#[derive(Debug)]
pub(super) struct Hello {
    /// The checked name, if the hello has one.
    pub(super) server_name: Option<ServerName>,
    /// The head of the ALPN list, as on the wire.
    pub(super) alpn: Box<[u8]>,
    /// The highest TLS version offered, as on the wire.
    pub(super) version: Version,
    /// Time from accept to the complete hello.
    pub(super) after: Micros,
}

impl Hello {
    /// The protocols offered.
    pub(super) fn alpn(&self) -> Alpn<'_> {
        Alpn::new(&self.alpn)
    }
}

/// A connected backend.
pub(super) struct Reached {
    /// The endpoint, counted as long as this lives.
    pub(super) endpoint: InUse,
    /// Our address on the leg to it.
    pub(super) local: Option<SocketAddr>,
    /// Time from accept to a connected backend.
    pub(super) after: Micros,
}

/// Facts for the log about a connection in which something went wrong.
#[derive(Default)]
struct Trouble {
    /// Attempts of the dial that failed.
    attempts: Vec<Attempt>,
    invalid_name: Option<Box<[u8]>>,
    alert: Option<u8>,
    detail: Option<Box<str>>,
    limit: Option<Limit>,
    /// Bytes received of an incomplete hello, and bytes needed to go on.
    partial: Option<(usize, usize)>,
    /// Bytes that a reset by portway has discarded, if any.
    unacknowledged: Option<u64>,
}

impl Connection {
    /// A connection that has been accepted.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a process has fewer descriptors"
    )]
    pub(super) fn new(key: usize, id: u64, accepted: &Accepted, taken: Taken) -> Self {
        Self {
            flow: Flow::new(accepted.at),
            key: key as u32,
            id,
            peer: accepted.client.ip(),
            peer_port: accepted.client.port(),
            snapshot: taken.snapshot,
            listener: taken.listener,
            port: taken.port,
            front: OnceCell::default(),
            permit: OnceCell::default(),
            hello: OnceCell::default(),
            route: Cell::default(),
            reached: OnceCell::default(),
            end: Cell::new((Outcome::Error, ClosedBy::Portway)),
            trouble: Cell::default(),
            is_told: Cell::default(),
        }
    }

    /// Its place among the connections of the worker.
    pub(super) const fn key(&self) -> usize {
        self.key as usize
    }

    pub(super) fn listener(&self) -> &Listener {
        self.snapshot.listener(self.listener)
    }

    /// The properties that decide its route, as far as they are known.
    pub(super) fn query<'c>(&'c self, hello: Option<&'c Hello>) -> Query<'c> {
        let target = self.target();
        Query {
            listener: &self.listener().name,
            port: target.map_or_else(|| self.port(), |target| target.port),
            server_name: match hello {
                Some(hello) => hello.server_name.as_ref(),
                None => target.and_then(Target::name),
            },
            alpn: hello.map(Hello::alpn).unwrap_or_default(),
            client: self.client(),
        }
    }

    pub(super) fn routed(&self) -> Option<Routed<'_>> {
        let route = self.route.get()?;
        Some(self.snapshot.routed(route))
    }

    /// It takes this route, and is counted there.
    pub(super) fn take(&self, route: RouteId) {
        self.snapshot.begin(self.listener, route);
        self.route.set(Some(route));
    }

    /// How it ends, as far as is known.
    pub(super) const fn outcome(&self) -> Outcome {
        let (outcome, _) = self.end.get();
        outcome
    }

    /// It is let in.
    pub(super) fn admit(&self, permit: Permit) -> &Permit {
        self.permit.get_or_init(|| permit)
    }

    /// The key of its client among the clients, which is an address too.
    pub(super) fn client_key(&self) -> IpAddr {
        let permit = self.permit.get();
        permit
            .and_then(Permit::client)
            .unwrap_or_else(|| self.client())
    }

    /// Stores that `have` bytes of a hello have arrived, and that `total` are needed to go on.
    pub(super) fn partial_hello(&self, have: usize, total: usize) {
        if have > 0 {
            self.note(|trouble| trouble.partial = Some((have, total)));
        }
    }

    /// Stores the complete hello, and forgets the incomplete one.
    pub(super) fn hello(&self, hello: Hello) -> &Hello {
        self.trouble.take();
        self.hello.get_or_init(|| hello)
    }

    /// Adds an attempt to reach a backend that failed.
    pub(super) fn missed(&self, attempt: Attempt) {
        self.note(|trouble| trouble.attempts.push(attempt));
    }

    /// Stores the connected backend.
    pub(super) fn reach(&self, reached: Reached) {
        self.reached.get_or_init(|| reached);
    }

    /// Stores why it is refused.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.close(refusal.outcome, refusal.closed_by);
        self.note(|trouble| {
            if !matches!(refusal.outcome, Outcome::HelloTimeout | Outcome::HelloEof) {
                trouble.partial = None;
            }
            trouble.alert = refusal.alert();
            trouble.detail = refusal.detail;
            trouble.invalid_name = refusal.invalid_name;
            trouble.limit = refusal.limit;
        });
    }

    /// Ends it with a system call of portway that failed.
    pub(super) fn fail(&self, error: &io::Error) {
        self.explain(error.to_string().into());
    }

    /// Stores in words what went wrong, for the log field `detail`.
    pub(super) fn explain(&self, detail: Box<str>) {
        self.note(|trouble| trouble.detail = Some(detail));
    }

    /// Stores how many bytes a reset by portway has discarded.
    pub(super) fn lose(&self, unacknowledged: u64) {
        self.note(|trouble| trouble.unacknowledged = Some(unacknowledged));
    }

    /// Stores how it ends.
    pub(super) fn close(&self, outcome: Outcome, closed_by: ClosedBy) {
        self.end.set((outcome, closed_by));
    }

    fn note(&self, note: impl FnOnce(&mut Trouble)) {
        let mut trouble = self.trouble.take().unwrap_or_default();
        note(&mut trouble);
        self.trouble.set(Some(trouble));
    }
}
