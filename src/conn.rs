//! The life of one connection, from accept to its record: start to read the code here.

mod connection;
mod front;
mod hello;
mod look;
mod looped;
mod open;
mod record;
mod refuse;
mod review;
#[cfg(test)]
pub(crate) mod tests;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;

use crate::admission::{Admission, Permit};
use crate::dial;
use crate::net::{Accepted, Leg};
use crate::outcome::ClosedBy;
use crate::relay::{Resources, Terms, Verdict};
use crate::snapshot::{Snapshot, Taken};
use crate::status::Refusals;
use crate::telemetry::{ConnectionLog, Registry};
pub use connection::Connection;
pub use open::Due;
use record::Record;
pub use refuse::Refusal;
use refuse::refuse;

/// Everything that the connections of one worker share.
pub struct Context {
    /// Limits, shared with the other workers.
    pub admission: Arc<Admission>,
    /// Metrics, shared with the other workers.
    pub registry: Arc<Registry>,
    /// The connection log, shared with the other workers.
    pub log: Arc<ConnectionLog>,
    /// Buffers, pipes and clock of this worker.
    pub resources: Rc<Resources>,
    /// The live connections of this worker.
    pub connections: RefCell<Slab<Rc<Connection>>>,
    /// Those of them that are to end in a gap although the process does not drain.
    pub leaving: RefCell<Vec<Weak<Connection>>>,
    /// Those that are to get a line although they are open.
    pub due: Due,
    /// The snapshot of the last reload, to which clients come back; each connection works with the one that it took.
    /// Absent until the first one comes, before there are listeners.
    pub in_force: RefCell<Option<Arc<Snapshot>>>,
    /// The clients whose connections have failed, and why.
    pub refusals: RefCell<Refusals>,
    /// The number of the next connection, unique in the process.
    pub ids: Cell<u64>,
    /// Whether a drain has ended: if so, connections that still arrive are cut too.
    pub cut: Cell<bool>,
}

impl Context {
    fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    /// Checks the limits of the live connections; call it once a second.
    pub fn review(&self, now: u32) {
        let mut connections = self.connections.borrow_mut();
        // A drain looks for the gaps of all of them itself.
        let moment = (!self.resources.is_draining()).then(Instant::now);
        let mut leaving = self.leaving.borrow_mut();
        let in_force = self.in_force.borrow();
        for (_, connection) in connections.iter() {
            connection.flow.review(now);
            connection.note_answer();
            if moment.is_some_and(|it| connection.begin_to_leave(it, in_force.as_deref())) {
                leaving.push(Rc::downgrade(connection));
            }
        }
        let now = Instant::now();
        let each = connections.iter().map(|(_, connection)| connection);
        self.due.look(&self.log, now, each);
        self.admission.tidy(now);
        // Give the memory of a flood back.
        if connections.len() < connections.capacity() / 4 {
            connections.shrink_to_fit();
        }
    }

    /// Does a part of what a review has found; call it ten times a second as long as it returns true.
    pub fn step(&self) -> bool {
        let are_due = self.due.tell(&self.log);
        self.look_for_gaps() || are_due
    }

    /// Looks for the gaps of the connections that are to end in one. Returns whether there are such connections.
    fn look_for_gaps(&self) -> bool {
        let mut leaving = self.leaving.borrow_mut();
        if self.resources.is_draining() {
            leaving.clear();
        }
        let now = Instant::now();
        let in_force = self.in_force.borrow();
        leaving.retain(|connection| {
            let Some(connection) = connection.upgrade() else {
                return false;
            };
            if connection
                .reason_to_leave(now, in_force.as_deref())
                .is_none()
            {
                connection.flow.resume();
                return false;
            }
            connection.flow.step();
            true
        });
        !leaving.is_empty()
    }

    /// Accepts connections again after a drain that was given up.
    pub fn resume(&self) {
        self.cut.set(false);
        self.leaving.borrow_mut().clear();
        self.resources.set_draining(false);
        for (_, connection) in self.connections.borrow().iter() {
            connection.flow.resume();
        }
    }

    /// Ends every connection, and from now on each one that still arrives.
    pub fn cut(&self) {
        self.cut.set(true);
        for (_, connection) in self.connections.borrow().iter() {
            connection.flow.end(Verdict::Drained);
        }
    }
}

/// Serves one connection with the snapshot that it took. `load` is dropped when the connection has
/// ended.
pub fn serve<L: 'static>(
    context: Rc<Context>,
    accepted: Accepted,
    taken: Taken,
    load: L,
) -> impl Future<Output = ()> + 'static {
    // The steps before the relay are boxed and freed when it begins, so that an idle connection stays small.
    let begun = Box::pin(begin(context, accepted, taken));
    async move {
        let Some((record, legs)) = begun.await else {
            return;
        };
        let (end, paths) = record.relay(legs).await;
        record.relayed(end, paths);
        // Count the end of the connection before the load falls: a drain ends when the load is 0.
        drop(record);
        drop(load);
    }
}

/// Both legs of a connection, and the terms of its backend.
struct Legs {
    client: Leg,
    backend: Leg,
    terms: Arc<Terms>,
}

/// Takes a connection from accept to the relay; `None` if it ended before.
async fn begin(context: Rc<Context>, accepted: Accepted, taken: Taken) -> Option<(Record, Legs)> {
    let record = Record::open(context, &accepted, taken);
    let client = match Leg::register(accepted.socket) {
        Ok(client) => client,
        Err(error) => {
            record.connection.fail(&error);
            return None;
        }
    };
    let flow = &record.connection.flow;
    let begun = flow.unless_ended(pin!(set_up(&client, &record))).await;
    match begun {
        Ok(Ok((backend, terms))) => {
            let legs = Legs {
                client,
                backend,
                terms,
            };
            Some((record, legs))
        }
        Ok(Err(refusal)) => {
            // A drain that ends meanwhile cuts the answer short; the outcome stays that of the refusal.
            let resources = &record.context.resources;
            _ = flow
                .unless_ended(pin!(refuse(client, &refusal, resources)))
                .await;
            record.refused(refusal);
            None
        }
        Err(verdict) => {
            let connection = &record.connection;
            connection.close(verdict.outcome(), ClosedBy::Portway);
            None
        }
    }
}

/// Refuses clients that the networks of the listener exclude, and those that are too many or come too fast. No limit per client
/// applies to a balancer.
fn admit(connection: &Connection, permit: &Permit, is_balancer: bool) -> Result<(), Refusal> {
    let listener = connection.listener();
    if !listener.clients.admit(connection.client()) {
        return Err(Refusal::client_denied(listener.protocol));
    }
    // A header or a hello may come long after the connection.
    let now = Instant::now();
    if is_balancer {
        permit.arrive(now)?;
    } else {
        permit.identify(connection.client(), now)?;
    }
    Ok(())
}

/// From a permit to a connected backend. Not a byte of the TLS stream is consumed.
async fn set_up(client: &Leg, record: &Record) -> Result<(Leg, Arc<Terms>), Refusal> {
    let Record {
        context,
        connection,
    } = record;
    // The connection holds the permit until it has ended, also while it is being refused.
    let permit = connection.admit(context.admission.admit()?);
    front::introduce(client, connection, &context.resources).await?;
    // A balancer may ask whether portway is there without being a client.
    let is_balancer = connection.is_from_balancer() && connection.ends().is_none();
    let may_ask = is_balancer && !connection.listener().protocol.is_proxy();
    if !may_ask {
        admit(connection, permit, is_balancer)?;
    }

    front::open(client, connection, &context.resources).await?;
    let hello = hello::peek(client, connection, &context.resources).await;
    let (hello, digest) = hello.map_err(|refusal| front::ended(connection, refusal))?;
    if may_ask {
        admit(connection, permit, is_balancer)?;
    }
    permit.hello_done();
    let hello = record.hello(hello);
    front::agree(connection, hello)?;

    let query = connection.query(Some(hello));
    let routed = connection.snapshot.route(&query);
    let routed = routed.map_err(|miss| Refusal::missed(miss, hello.version))?;
    front::reaches(connection, &routed.backend.pool)?;
    connection.take(routed.id);

    let backend = routed.backend;
    looped::notice(record, digest, &backend.pool)?;
    // In a block, so that the request takes no place beside what follows.
    let dialled = {
        let request = dial::Request {
            pool: &backend.pool,
            client: connection.client(),
            target: connection.target(),
            wish: &|| record.wish(),
            timeouts: &backend.dial,
            resources: &context.resources,
            missed: &|attempt| connection.missed(attempt),
        };
        tokio::select! {
            biased;
            dialled = dial::backend(&request) => dialled?,
            broken = client.failed() => return Err(Refusal::client_lost(client, broken)),
        }
    };
    looped::note(record, &backend.pool, &dialled.endpoint);
    let leg = record.dialled(dialled, hello, backend);
    let leg = match record.header(client, backend) {
        None => leg,
        // Boxed, because it is rare.
        Some(header) => {
            Box::pin(dial::introduce(leg, header, backend.dial.connect_timeout)).await?
        }
    };
    Ok((leg, Arc::clone(&backend.relay)))
}
