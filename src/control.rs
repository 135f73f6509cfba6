//! The one thread that does everything but data: names, admin, upkeep of metrics, drain.

pub mod drain;
pub mod names;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, spawn_local};

use crate::admin::{self, Stage, State};
use crate::backend::Endpoint;
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::{Mailbox, Message};
use names::Names;

/// How often sums of the log are written, and samples of histograms folded, which pile up until then.
const UPKEEP: Duration = Duration::from_secs(1);

/// What control works with.
pub struct Plan {
    /// The listening sockets: name, position and address of the listener, one socket a worker.
    pub listening: Vec<Bound>,
    /// The admin socket.
    pub admin: Option<TcpListener>,
    /// Every endpoint of every backend.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The workers.
    pub mailboxes: Arc<[Mailbox]>,
    /// Each is closed when its worker ends.
    pub workers: Vec<oneshot::Receiver<()>>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The connection log.
    pub log: Arc<ConnectionLog>,
    /// What the probes answer.
    pub state: Arc<State>,
    /// Limits of the drain.
    pub drain: drain::Limits,
    /// The first request drains, the second one stops at once.
    pub stop: mpsc::UnboundedReceiver<()>,
}

/// The sockets of one address of a listener.
#[derive(Debug)]
pub struct Bound {
    /// The listener's name.
    pub name: Arc<str>,
    /// The listener's position in the snapshot.
    pub listener: usize,
    /// The bound address.
    pub address: SocketAddr,
    /// One for each worker.
    pub sockets: Vec<Socket>,
}

/// How control ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// After a drain.
    Drained,
    /// At once, at the second request.
    AtOnce,
    /// A worker ended by itself: portway is broken.
    WorkerLost,
}

/// Opens the listeners and keeps the relay running until it is stopped. Needs a local runtime.
pub async fn run(mut plan: Plan) -> io::Result<Stopped> {
    let mut own: Vec<SocketAddr> = plan.listening.iter().map(|one| one.address).collect();
    if let Some(admin) = plan.admin.take() {
        let address = admin.local_addr()?;
        tracing::info!(%address, "admin listening");
        own.push(address);
        let admin = tokio::net::TcpListener::from_std(admin)?;
        spawn_local(admin::serve(admin, Arc::clone(&plan.state)));
    }
    spawn_local(upkeep(Arc::clone(&plan.registry), plan.log));
    // Clients wait in the queue of the kernel meanwhile, instead of an alert for want of an address.
    let mut names = Names::start(&plan.endpoints, own);
    names.first_pass().await;
    open(plan.listening, &plan.mailboxes);
    plan.state.enter(Stage::Ready);
    tracing::info!("ready");

    let mut workers: JoinSet<_> = plan.workers.into_iter().collect();
    tokio::select! {
        never = names.run() => match never {},
        _ = workers.join_next() => return Ok(Stopped::WorkerLost),
        _ = plan.stop.recv() => {}
    }
    plan.state.enter(Stage::Draining);
    tracing::info!(delay = ?plan.drain.delay, timeout = ?plan.drain.timeout, "draining");
    let drained = drain::drain(plan.drain, &plan.mailboxes, &mut workers, &mut plan.stop);
    tokio::select! {
        never = names.run() => match never {},
        stopped = drained => Ok(stopped),
    }
}

/// Gives each worker its socket of each address.
fn open(listening: Vec<Bound>, mailboxes: &[Mailbox]) {
    for Bound {
        name,
        listener,
        address,
        sockets,
    } in listening
    {
        tracing::info!(listener = %name, %address, "listening");
        for (mailbox, socket) in mailboxes.iter().zip(sockets) {
            mailbox.send(Message::Listen { listener, socket });
        }
    }
}

async fn upkeep(registry: Arc<Registry>, log: Arc<ConnectionLog>) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        ticks.tick().await;
        log.sum_up();
        registry.upkeep();
    }
}
