//! The requests that control gets while it runs.

use std::sync::Arc;

use socket2::Socket;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::known::KnownAddresses;
use super::socket::{Link, Successor, Upgrading};

/// The crash of a successor. While this value lives, it is not known yet whether another process accepts.
#[derive(Debug)]
pub struct Crash;

/// A request to control.
#[derive(Debug)]
pub enum Request {
    /// Drain. The second time, stop at once.
    Stop,
    /// Read routes.toml again. The sender gets the result.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// Tell which configuration is in force.
    Configuration(oneshot::Sender<Configuration>),
    /// Tell what is known of the addresses of this backend.
    Addresses(String, oneshot::Sender<KnownAddresses>),
    /// Start the successor from the program at our own path. The asker gets the result.
    Upgrade(Upgrading),
    /// A successor wants the listening sockets. It gets no answer while another one has them.
    Sockets(oneshot::Sender<Takeover>),
    /// A successor accepts at the sockets now: drain, and leave new connections to it at once. `None` if
    /// this process would not come back for it.
    TakenOver(Option<Successor>),
    /// The predecessor has stopped accepting; `None` if it has ended.
    Succeeds(Option<Link>),
    /// The successor that this process has started, or one after that, has crashed, and nobody has the control socket.
    Unserved(Arc<Crash>),
}

/// The sockets that a successor takes over. While this value lives, nothing else may change them.
#[derive(Debug)]
pub struct Takeover {
    /// Every listening socket.
    pub listening: Vec<Arc<Socket>>,
    /// The admin socket.
    pub admin: Option<Arc<TcpListener>>,
    /// Shows control, while it lives, that the takeover is under way.
    pub under_way: Arc<()>,
}

/// The configuration that is in force.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Counts the configurations of the process, from 1; 0 before the first.
    pub generation: u64,
    /// The text of its file.
    pub text: Arc<str>,
}

/// The generation that a reload brought, or why it failed.
pub type Reloaded = Result<u64, NotReloaded>;

/// Why a reload failed, in words for people.
#[derive(Debug)]
pub enum NotReloaded {
    /// The file has faults, or cannot be put in force.
    Rejected(String),
    /// portway cannot reload at this time.
    NotNow(&'static str),
}

/// The channel for requests to control.
pub type Requests = mpsc::UnboundedSender<Request>;
