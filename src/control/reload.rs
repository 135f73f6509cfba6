//! Swapping the configuration: whole or not at all. What did not change is not touched.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::drain;
use crate::backend::Endpoint;
use crate::snapshot::{AddressId, Snapshot};
use crate::worker::{Mailbox, Message};

/// What reading the file may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The listening sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// What the snapshot knows it by.
    pub id: AddressId,
    /// The bound address.
    pub address: SocketAddr,
    /// One for each worker, or fewer that somebody else has opened.
    pub sockets: Vec<Arc<Socket>>,
}

/// A configuration that is ready: what could fail has been done.
pub struct Change {
    /// What new connections take.
    pub snapshot: Arc<Snapshot>,
    /// Addresses that are new in it.
    pub opened: Vec<Bound>,
    /// Addresses that it does not have any more.
    pub closed: HashSet<AddressId>,
    /// Limits of the drain.
    pub drain: drain::Limits,
    /// CRC-32 of the file.
    pub hash: u32,
}

impl Change {
    /// Every endpoint of every backend.
    pub(super) fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let backends = self.snapshot.backends.iter();
        let endpoints = backends.flat_map(|backend| backend.pool.endpoints());
        endpoints.cloned().collect()
    }
}

/// Why a reload failed.
#[derive(Debug)]
pub struct Rejected {
    /// CRC-32 of the file, if it could be read.
    pub hash: Option<u32>,
    /// One fault a line, for the log.
    pub lines: Vec<String>,
    /// For people.
    pub text: String,
}

impl Rejected {
    /// For one reason.
    pub fn new(hash: Option<u32>, text: String) -> Self {
        Self {
            hash,
            lines: vec![text.clone()],
            text,
        }
    }

    pub(super) fn log(&self) {
        for line in &self.lines {
            tracing::error!("{line}");
        }
        tracing::error!("reload failed: the configuration before stays in force");
    }
}

/// Reads the file, which may take as long as its disk likes: on a thread that may block.
pub type Source = Arc<dyn Fn() -> Result<Prepared, Rejected> + Send + Sync>;

/// Makes the change to what was read.
pub type Prepared = Box<dyn FnOnce() -> Result<Change, Rejected> + Send>;

/// Reads the file on a thread that may block: a disk that hangs must not stop names, admin or a drain.
pub(super) struct Reader {
    source: Source,
    /// One that took too long.
    late: Option<JoinHandle<Result<Prepared, Rejected>>>,
}

impl Reader {
    pub(super) const fn new(source: Source) -> Self {
        Self { source, late: None }
    }

    pub(super) async fn next(&mut self) -> Result<Change, Rejected> {
        let too_long = || Rejected::new(None, "the file cannot be read: its disk hangs".to_owned());
        if self.late.as_ref().is_some_and(|late| !late.is_finished()) {
            return Err(too_long());
        }
        let source = Arc::clone(&self.source);
        let mut reading = spawn_blocking(move || source());
        match timeout(READ_TIMEOUT, &mut reading).await {
            Ok(Ok(prepared)) => prepared?(),
            Ok(Err(error)) => Err(Rejected::new(None, error.to_string())),
            Err(_elapsed) => {
                self.late = Some(reading);
                Err(too_long())
            }
        }
    }
}

/// What is in force.
pub(super) struct InForce {
    bound: Vec<Bound>,
    pub(super) drain: drain::Limits,
}

impl InForce {
    /// Nothing yet, if `drain` does not matter before the first change.
    pub(super) const fn nothing(drain: drain::Limits) -> Self {
        Self {
            bound: Vec::new(),
            drain,
        }
    }

    /// All listening sockets.
    pub(super) fn sockets(&self) -> Vec<Arc<Socket>> {
        let sockets = self.bound.iter().flat_map(|bound| &bound.sockets);
        sockets.cloned().collect()
    }

    /// Our own addresses after `change`, those of `admin` included.
    pub(super) fn own(&self, change: &Change, admin: Option<SocketAddr>) -> Vec<SocketAddr> {
        let stays = |bound: &&Bound| !change.closed.contains(&bound.id);
        let kept = self.bound.iter().filter(stays);
        let bound = kept.chain(&change.opened).map(|bound| bound.address);
        bound.chain(admin).collect()
    }

    /// Puts a change in force, and returns when all workers listen. The mail of each worker keeps its
    /// order: what closes serves its queue with the snapshot before, what opens has the new one.
    pub(super) async fn apply(&mut self, change: Change, mailboxes: &[Mailbox]) -> io::Result<()> {
        let Change {
            snapshot,
            opened,
            closed,
            drain,
            hash: _,
        } = change;
        self.drain = drain;
        // A socket closes when its worker has served its queue, so nobody else may hold it.
        let gone = self
            .bound
            .extract_if(.., |bound| closed.contains(&bound.id));
        for Bound { address, .. } in gone {
            tracing::info!(%address, "no longer listening");
        }
        for mailbox in mailboxes {
            for &address in &closed {
                mailbox.send(Message::Unlisten { address });
            }
            mailbox.send(Message::Swap(Arc::clone(&snapshot)));
        }
        let (listens, mut listening) = mpsc::unbounded_channel();
        let mut expected = 0;
        for (position, bound) in opened.iter().enumerate() {
            let listener = snapshot.addresses.get(&bound.id);
            let listener = listener.map(|position| &*snapshot.listener(*position).name);
            tracing::info!(listener, address = %bound.address, "listening");
            // Single sockets go to different workers.
            let workers = mailboxes.iter().cycle();
            let workers = workers.skip(position % mailboxes.len().max(1));
            for (mailbox, socket) in workers.zip(&bound.sockets) {
                expected += 1;
                mailbox.send(Message::Listen {
                    address: bound.id,
                    socket: Arc::clone(socket),
                    listens: listens.clone(),
                });
            }
        }
        self.bound.extend(opened);
        drop(listens);
        while let Some(listens) = listening.recv().await {
            listens?;
            expected -= 1;
        }
        // A worker that has ended does not answer.
        if expected == 0 {
            Ok(())
        } else {
            Err(io::Error::other("a worker has ended"))
        }
    }

    /// Lets go of the sockets: their queues are the workers' alone.
    pub(super) fn close(&mut self) {
        self.bound.clear();
    }
}
