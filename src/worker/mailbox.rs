//! The only way by which another thread reaches a worker.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;

use super::balance::Load;
use crate::net::Accepted;
use crate::snapshot::{AddressId, Snapshot, Taken};

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// Accept connections at an address, which the snapshot of the last swap has.
    Listen {
        /// The address.
        address: AddressId,
        /// One of its listening sockets.
        socket: Arc<Socket>,
        /// Told once the worker listens, or why not.
        listens: mpsc::UnboundedSender<io::Result<()>>,
    },
    /// Accept what the queue of an address still has, then close it.
    Unlisten {
        /// The address.
        address: AddressId,
    },
    /// What new connections take from now on.
    Swap(Arc<Snapshot>),
    /// Serve a connection that another worker has accepted.
    Serve(Arrival),
    /// Stop accepting; end when the last connection has ended.
    Close,
    /// End connections that are idle, one after the other in random order.
    Spread {
        /// How long that may take.
        over: Duration,
    },
    /// End every connection now.
    Cut,
    /// Serve on: what `Spread` and `Cut` have begun is over.
    Resume,
}

/// A connection on its way to the worker that serves it.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub accepted: Accepted,
    /// The snapshot that it took.
    pub taken: Taken,
    /// What it adds to the worker's load.
    pub load: Load,
}

/// Sends to one worker, without waiting.
#[derive(Clone, Debug)]
pub struct Mailbox(mpsc::UnboundedSender<Message>);

impl Mailbox {
    /// A mailbox and its reader.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Sends a message. A worker that has ended needs none.
    pub fn send(&self, message: Message) {
        drop(self.0.send(message));
    }

    /// Hands a connection over; gives it back if the worker has ended.
    pub(super) fn hand_over(&self, arrival: Arrival) -> Option<Arrival> {
        match self.0.send(Message::Serve(arrival)) {
            Err(SendError(Message::Serve(arrival))) => Some(arrival),
            Ok(()) | Err(_) => None,
        }
    }
}
