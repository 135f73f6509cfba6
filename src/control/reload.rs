//! Swapping the configuration: whole or not at all. What did not change is not touched.

use std::net::SocketAddr;
use std::sync::Arc;

use socket2::Socket;

use super::drain;
use crate::backend::Endpoint;
use crate::snapshot::{AddressId, Snapshot};
use crate::worker::{Mailbox, Message};

/// The listening sockets of one address.
#[derive(Debug)]
pub struct Bound {
    /// What the snapshot knows it by.
    pub id: AddressId,
    /// As routes.toml has it: port 0 is the kernel's choice.
    pub configured: SocketAddr,
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
    pub closed: Vec<AddressId>,
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

/// Makes the next configuration, given the addresses that are bound.
pub type Source = Box<dyn FnMut(&[Bound]) -> Result<Change, Rejected> + Send>;

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

    pub(super) fn bound(&self) -> &[Bound] {
        &self.bound
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

    /// Puts a change in force. The mail of each worker keeps its order: what closes serves its queue
    /// with the snapshot before, what opens has the new one.
    pub(super) fn apply(&mut self, change: Change, mailboxes: &[Mailbox]) {
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
        for (position, bound) in opened.iter().enumerate() {
            let listener = snapshot.addresses.get(&bound.id);
            let listener = listener.map(|position| &*snapshot.listener(*position).name);
            tracing::info!(listener, address = %bound.address, "listening");
            // Single sockets go to different workers.
            let workers = mailboxes
                .iter()
                .cycle()
                .skip(position % mailboxes.len().max(1));
            for (mailbox, socket) in workers.zip(&bound.sockets) {
                mailbox.send(Message::Listen {
                    address: bound.id,
                    socket: Arc::clone(socket),
                });
            }
        }
        self.bound.extend(opened);
    }

    /// Lets go of the sockets: their queues are the workers' alone.
    pub(super) fn close(&mut self) {
        self.bound.clear();
    }
}
