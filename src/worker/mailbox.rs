//! The only way by which another thread reaches a worker.

use socket2::Socket;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::SendError;

use super::balance::Load;
use crate::net::Accepted;

/// What a worker is told.
#[derive(Debug)]
pub enum Message {
    /// Accept connections of a listener.
    Listen {
        /// The listener's position in the snapshot.
        listener: usize,
        /// One of its listening sockets.
        socket: Socket,
    },
    /// Serve a connection that another worker has accepted.
    Serve(Arrival),
    /// Stop accepting; end when the last connection has ended.
    Close,
    /// End every connection now.
    Cut,
}

/// A connection on its way to the worker that serves it.
#[derive(Debug)]
pub struct Arrival {
    /// The connection.
    pub accepted: Accepted,
    /// The listener's position in the snapshot.
    pub listener: usize,
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
