//! What control is asked for while it runs.

use std::sync::Arc;

use socket2::Socket;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::socket::{Link, Successor};

/// A request to control.
#[derive(Debug)]
pub enum Request {
    /// Drain; the second time, stop at once.
    Stop,
    /// Read routes.toml again. Who asks is told how it went.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// A successor wants the listening sockets. It gets no answer while another one has them.
    Sockets(oneshot::Sender<Takeover>),
    /// A successor accepts at them now: drain, and leave new connections to it at once. None if this
    /// process would not come back for it.
    TakenOver(Option<Successor>),
    /// The predecessor accepts no more; none if it has ended.
    Succeeds(Option<Link>),
}

/// What a successor takes over. As long as this lives nothing else may change the sockets.
#[derive(Debug)]
pub struct Takeover {
    /// Every listening socket.
    pub listening: Vec<Arc<Socket>>,
    /// The admin socket.
    pub admin: Option<Arc<TcpListener>>,
    /// Tells control that the takeover is under way.
    pub under_way: Arc<()>,
}

/// The generation that a reload brought, or why it failed.
pub type Reloaded = Result<u64, NotReloaded>;

/// Why a reload failed, as it is told to people.
#[derive(Debug)]
pub enum NotReloaded {
    /// The file has faults, or cannot be put in force.
    Rejected(String),
    /// This is not the time.
    NotNow(&'static str),
}

/// By which others ask.
pub type Requests = mpsc::UnboundedSender<Request>;
