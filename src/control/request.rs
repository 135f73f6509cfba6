//! What control is asked for while it runs.

use std::net::TcpListener;
use std::sync::Arc;

use socket2::Socket;
use tokio::sync::{mpsc, oneshot};

/// A request to control.
#[derive(Debug)]
pub enum Request {
    /// Drain; the second time, stop at once.
    Stop,
    /// Read routes.toml again. Who asks is told how it went.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// Another process is to take the listening sockets over.
    Sockets(oneshot::Sender<Given>),
    /// It accepts at them now: drain, and leave new connections to it at once.
    HandedOver,
}

/// What another process takes over.
#[derive(Debug)]
pub struct Given {
    /// Every listening socket.
    pub listening: Vec<Arc<Socket>>,
    /// The admin socket.
    pub admin: Option<Arc<TcpListener>>,
}

/// The generation that a reload brought, or the faults as they are told to people.
pub type Reloaded = Result<u64, String>;

/// By which others ask.
pub type Requests = mpsc::UnboundedSender<Request>;
