//! What control begins with.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::change::{Change, ChangeBuilder};
use super::{Request, Requests, socket};
use crate::admin::State;
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::{Loads, Mailbox};

/// What control begins with.
pub struct Setup {
    /// The first configuration.
    pub first: Change,
    /// Makes the next ones.
    pub builder: ChangeBuilder,
    /// The file that is read again; none where there is no file to watch and nobody to ask.
    pub file: Option<File>,
    /// The admin socket.
    pub admin: Option<TcpListener>,
    /// The workers.
    pub mailboxes: Arc<[Mailbox]>,
    /// Their connections.
    pub loads: Arc<Loads>,
    /// Addresses of sockets that the predecessor has given and nobody wants.
    pub unwanted: Vec<SocketAddr>,
    /// Each is closed when its worker ends.
    pub workers: Vec<oneshot::Receiver<()>>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The connection log.
    pub log: Arc<ConnectionLog>,
    /// What the probes answer.
    pub state: Arc<State>,
    /// By which others ask.
    pub requests: Requests,
    /// What they ask.
    pub requested: mpsc::UnboundedReceiver<Request>,
}

/// routes.toml as a file.
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Whether changes are to be noticed.
    pub watch: bool,
    /// The process whose listening sockets were taken over.
    pub giver: Option<socket::Giver>,
}
