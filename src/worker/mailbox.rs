//! The mailbox of a worker: the only way in which another thread reaches it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use super::balance::Load;
use crate::net::Accepted;
use crate::snapshot::{AddressId, Snapshot, Taken};
use crate::status::{Query, Refusals, Seen};

/// A message to a worker.
#[derive(Debug)]
pub enum Message {
    /// Accept connections at an address that the snapshot of the last swap contains.
    Listen {
        /// The address.
        address: AddressId,
        /// One of its listening sockets.
        socket: Arc<Socket>,
        /// Receives the result once the worker listens, or the error.
        listens: mpsc::UnboundedSender<io::Result<()>>,
    },
    /// Accept what is left in the queue of an address, then close it.
    Unlisten {
        /// The address.
        address: AddressId,
    },
    /// Give this snapshot to new connections from now on.
    Swap(Arc<Snapshot>),
    /// Serve a connection that another worker has accepted.
    Serve(Arrival),
    /// Stop accepting; end when the last connection has ended.
    Close,
    /// End connections in their gaps, and at last those that are idle.
    Spread {
        /// How long that may take.
        over: Duration,
    },
    /// End every connection now.
    Cut,
    /// Go on serving: stop what `Spread` and `Cut` have begun.
    Resume,
    /// Show something. Nothing changes by it.
    Look(Look),
}

/// A look at a worker. If it has ended, the answer never comes.
#[derive(Debug)]
pub enum Look {
    /// At its live connections.
    Connections {
        /// Which ones.
        query: Arc<Query>,
        /// Receives them.
        answer: oneshot::Sender<Seen>,
    },
    /// At those that have failed.
    Refusals(oneshot::Sender<Refusals>),
}

/// A connection on its way to the worker that serves it.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub accepted: Accepted,
    /// The snapshot that it took.
    pub taken: Taken,
    /// Its share of the worker's load.
    pub load: Load,
}

/// Sends messages to one worker, without waiting.
#[derive(Clone, Debug)]
pub struct Mailbox(mpsc::UnboundedSender<Message>);

impl Mailbox {
    /// Creates a mailbox and its receiver.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends a message. If the worker has ended, it needs none.
    pub fn send(&self, message: Message) {
        drop(self.0.send(message));
    }

    /// Hands a connection over, or returns it if the worker has ended.
    pub(super) fn hand_over(&self, arrival: Arrival) -> Option<Arrival> {
        match self.0.send(Message::Serve(arrival)) {
            Err(SendError(Message::Serve(arrival))) => Some(arrival),
            Ok(()) | Err(_) => None,
        }
    }
}
