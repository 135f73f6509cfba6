//! Counts and logs each connection once.

use std::rc::Rc;

use super::connection::{Connection, Hello, Reached};
use super::refuse::Refusal;
use super::review::Look;
use super::{Context, Legs};
use crate::backend::Wish;
use crate::dial::Dialled;
use crate::net::{Accepted, Figures, Leg, Path, local_address};
use crate::relay::{End, Micros, Parting, Relay, Verdict};
use crate::snapshot::{Backend, Taken};
use crate::status::remedy;
use crate::tls::ServerName;
use crate::wire::{Ends, Introduction};

/// The entry of one connection in metrics and log. It opens at accept and closes once, in Drop, so that
/// a task that panics or is dropped is counted too.
pub(super) struct Record {
    pub(super) context: Rc<Context>,
    pub(super) connection: Rc<Connection>,
}

impl Record {
    /// Opens the entry of an accepted connection.
    pub(super) fn open(context: Rc<Context>, accepted: &Accepted, taken: Taken) -> Self {
        taken.listener().stats.accepted.add(1);
        let id = context.next_id();
        let connection = {
            let mut connections = context.connections.borrow_mut();
            let place = connections.vacant_entry();
            let connection = Rc::new(Connection::new(place.key(), id, accepted, taken));
            place.insert(Rc::clone(&connection));
            connection
        };
        if context.cut.get() {
            connection.flow.end(Verdict::Drained);
        }
        Self {
            context,
            connection,
        }
    }

    /// Stores the complete hello.
    pub(super) fn hello(&self, hello: Hello) -> &Hello {
        let seconds = &self.context.registry.client_hello_seconds;
        seconds.record(hello.after.get());
        self.connection.hello(hello)
    }

    /// The name and port that the client asks for, if it has sent a name.
    pub(super) fn wish(&self) -> Option<Wish<'_>> {
        let query = self.connection.query(self.connection.hello.get());
        Some(Wish {
            name: query.server_name?,
            port: query.port,
            client: self.context.admission.key(query.client),
        })
    }

    /// The PROXY header for the backend, if it wants one: the ends that a balancer has named, or else those of the
    /// client's socket.
    pub(super) fn header(&self, client: &Leg, backend: &Backend) -> Option<Vec<u8>> {
        let version = backend.send_proxy_protocol?;
        let connection = &self.connection;
        let hello = connection.hello.get();
        let own = || Some(Ends::new(connection.peer(), local_address(client).ok()?));
        let name = hello.and_then(|hello| hello.server_name.as_ref());
        Some(version.header(&Introduction {
            ends: connection.ends().or_else(own),
            server_name: name.map(ServerName::as_str),
            alpn: hello.map_or(&[], |hello| &hello.alpn),
        }))
    }

    /// Stores the backend that was reached, and returns its leg.
    pub(super) fn dialled(&self, dialled: Dialled, hello: &Hello, backend: &Backend) -> Leg {
        let elapsed = self.connection.flow.accepted_at().elapsed();
        let seconds = &backend.relay.stats.dial_seconds;
        seconds.record(elapsed.saturating_sub(hello.after.get()));
        self.connection.reach(Reached {
            local: local_address(&dialled.leg).ok(),
            endpoint: dialled.endpoint,
            after: Micros::new(elapsed),
        });
        dialled.leg
    }

    /// Stores why the connection was refused.
    pub(super) fn refused(&self, refusal: Refusal) {
        if let Some(limit) = refusal.limit {
            self.context.registry.limits().rejected(limit);
        }
        self.connection.refuse(refusal);
    }

    /// Starts the relay between the legs.
    pub(super) fn relay(&self, legs: Legs) -> Relay<'_> {
        let (flow, resources) = (&self.connection.flow, &self.context.resources);
        Relay::new(legs.client, legs.backend, flow, resources, legs.terms)
    }

    /// Stores why the connection has ended in a gap, if the process does not drain.
    fn say_why(&self) {
        if self.context.resources.is_draining() {
            return;
        }
        let in_force = self.context.in_force.borrow();
        let mut look = Look::new(in_force.as_deref());
        let reason = self.connection.reason_to_leave(&mut look);
        if let Some(reason) = reason {
            self.connection.explain(reason.words().into());
        }
    }

    /// Stores how the relay ended, and logs it if it is to be logged: only then is the kernel asked about the paths to the
    /// client and to the backend.
    pub(super) fn relayed(&self, end: End, paths: [Path; 2]) {
        self.connection.note_answer();
        if let Some(detail) = end.detail {
            self.connection.explain(detail);
        }
        if end.unacknowledged > 0 {
            self.connection.lose(end.unacknowledged);
        }
        if let Some(parting) = end.parting {
            let drain = &self.context.registry.drain;
            drain.parted(parting == Parting::Crossed);
            if parting == Parting::Clean {
                self.say_why();
            }
        }
        self.connection.close(end.outcome, end.closed_by);
        let figures = self
            .is_wanted()
            .then(|| paths.each_ref().map(Path::figures));
        // The peers get their FIN or RST before the line is made.
        drop(paths);
        if let Some(figures) = figures {
            self.log(figures);
        }
    }

    /// Whether its end is to be logged, and has not been yet.
    fn is_wanted(&self) -> bool {
        self.connection.begin_to_tell() && self.context.log.wants(self.connection.outcome())
    }

    /// Logs it, with the figures of the paths to the client and to the backend.
    fn log(&self, figures: [Figures; 2]) {
        let log = &self.context.log;
        self.connection.tell(figures, |line| log.log(line));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Self {
            context,
            connection,
        } = &*self;
        context.connections.borrow_mut().remove(connection.key());
        context.resources.hellos.answered(&connection.flow);
        if self.is_wanted() {
            self.log([Figures::default(); 2]);
        }
        if remedy(connection.outcome(), None).is_some() {
            let mut refusals = context.refusals.borrow_mut();
            connection.tell_failure(|end| refusals.add(end));
        }
        let (listener, route) = (connection.listener, connection.route.get());
        let endings = connection.snapshot.endings(listener, route);
        endings.count(connection.outcome());
    }
}
