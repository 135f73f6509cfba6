//! THE STORY: the life of one connection, from accept to its record.

mod hello;
mod record;
mod refuse;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;

use crate::admission::{Admission, Permit};
use crate::dial;
use crate::net::{Accepted, Leg};
use crate::outcome::ClosedBy;
use crate::relay::{Flow, Means, Relay, Resources, Verdict};
use crate::routing::Query;
use crate::snapshot::Taken;
use crate::telemetry::{ConnectionLog, Registry};
use record::Record;
pub use refuse::Refusal;
use refuse::refuse;

/// What the connections of one worker share.
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
    pub flows: RefCell<Slab<Rc<Flow>>>,
    /// The number of the next connection, unique in the process.
    pub ids: Cell<u64>,
    /// A drain has ended: connections that still arrive are cut too.
    pub cut: Cell<bool>,
}

impl Context {
    fn next_id(&self) -> u64 {
        let id = self.ids.get();
        self.ids.set(id + 1);
        id
    }

    /// Looks over the live connections; call it once a second.
    pub fn review(&self, now: u32) {
        let mut flows = self.flows.borrow_mut();
        for (_, flow) in flows.iter() {
            flow.review(now);
        }
        // After a flood the memory goes back.
        if flows.len() < flows.capacity() / 4 {
            flows.shrink_to_fit();
        }
    }

    /// The live connections.
    pub fn flows(&self) -> Vec<Rc<Flow>> {
        let flows = self.flows.borrow();
        flows.iter().map(|(_, flow)| Rc::clone(flow)).collect()
    }

    /// Serves on after a drain that did not end.
    pub fn resume(&self) {
        self.cut.set(false);
        self.resources.set_draining(false);
        for (_, flow) in self.flows.borrow().iter() {
            flow.resume();
        }
    }

    /// Ends every connection, and those that still arrive.
    pub fn cut(&self) {
        self.cut.set(true);
        for (_, flow) in self.flows.borrow().iter() {
            flow.end(Verdict::Drained);
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
    // What comes before the relay is boxed and gone when it begins: an idle connection is small.
    let begun = Box::pin(begin(context, accepted, taken, load));
    async move {
        let Some(mut live) = begun.await else { return };
        let end = (&mut live.relay).await;
        live.record.relayed(end);
    }
}

/// A connection whose relay runs.
struct Live<L> {
    relay: Relay,
    record: Record,
    _permit: Permit,
    _load: L,
}

/// From accept to the relay; none if the connection ended before.
async fn begin<L>(
    context: Rc<Context>,
    accepted: Accepted,
    taken: Taken,
    load: L,
) -> Option<Live<L>> {
    let mut record = Record::open(&context, &accepted, taken);
    let flow = Rc::clone(record.flow());
    let client = match Leg::register(accepted.socket) {
        Ok(client) => client,
        Err(error) => {
            record.failed(&error);
            return None;
        }
    };
    // It is held until a refused client is gone too.
    let mut permit = None;
    let begun = flow
        .unless_ended(pin!(set_up(&client, &context, &mut record, &mut permit)))
        .await;
    match begun {
        Ok(Ok((backend, means))) => Some(Live {
            relay: Relay::new(client, backend, means),
            record,
            _permit: permit?,
            _load: load,
        }),
        Ok(Err(refusal)) => {
            // A drain that ends meanwhile cuts it short; it stays a refusal.
            _ = flow
                .unless_ended(pin!(refuse(client, &refusal, &context.resources)))
                .await;
            record.refused(refusal);
            None
        }
        Err(verdict) => {
            record.close(verdict.outcome(), ClosedBy::Portway);
            None
        }
    }
}

/// From a permit to a connected backend. Not a byte of the client is consumed.
async fn set_up(
    client: &Leg,
    context: &Context,
    record: &mut Record,
    permit: &mut Option<Permit>,
) -> Result<(Leg, Means), Refusal> {
    let snapshot = Arc::clone(record.snapshot());
    let permit = permit.insert(context.admission.admit()?);
    if !record.listener().clients.admit(record.client()) {
        return Err(Refusal::client_denied());
    }
    permit.identify(record.client())?;

    let hello = hello::peek(client, &snapshot.hello, &context.resources, record).await?;
    permit.hello_done();

    let routed = snapshot.route(&Query {
        listener: &record.listener().name,
        server_name: hello.server_name.as_ref(),
        alpn: hello.alpn(),
        client: record.client(),
    });
    let version = hello.version;
    record.hello(hello);
    let routed = routed.map_err(|miss| Refusal::missed(miss, version))?;
    record.routed(&routed);

    let backend = routed.backend;
    let request = dial::Request {
        pool: &backend.pool,
        client: record.client(),
        limits: backend.dial,
    };
    let dialled = tokio::select! {
        biased;
        dialled = dial::backend(request, record.attempts()) => dialled?,
        () = client.failed() => return Err(Refusal::client_reset()),
    };
    let dialled = record.dialled(dialled, backend);

    let means = Means {
        flow: Rc::clone(record.flow()),
        resources: Rc::clone(&context.resources),
        terms: Arc::clone(&backend.relay),
    };
    Ok((dialled, means))
}
