//! Everything that control needs to start.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::change::{Change, ChangeBuilder};
use super::upgrade::Program;
use super::{Request, Requests, socket};
use crate::admin::State;
use crate::telemetry::{ConnectionLog, Registry};
use crate::worker::{Loads, Mailbox};

/// Everything that control needs to start.
pub struct Setup {
    /// The first configuration.
    pub first: Change,
    /// Builds the next configurations.
    pub builder: ChangeBuilder,
    /// The file that a reload reads; `None` if the settings came without a file.
    pub file: Option<File>,
    /// The admin socket.
    pub admin: Option<TcpListener>,
    /// The mailboxes of the workers.
    pub mailboxes: Arc<[Mailbox]>,
    /// The connections of the workers.
    pub loads: Arc<Loads>,
    /// Addresses of sockets from the predecessor that the configuration does not have.
    pub unwanted: Vec<SocketAddr>,
    /// One receiver per worker, which is closed when the worker ends.
    pub workers: Vec<oneshot::Receiver<()>>,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The connection log.
    pub log: Arc<ConnectionLog>,
    /// The state that the probes report.
    pub state: Arc<State>,
    /// The channel for requests to control.
    pub requests: Requests,
    /// The receiver of these requests.
    pub requested: mpsc::UnboundedReceiver<Request>,
}

/// routes.toml as a file.
pub struct File {
    /// The path.
    pub path: PathBuf,
    /// Whether to watch the file for changes.
    pub watch: bool,
    /// The predecessor, whose listening sockets were taken over.
    pub giver: Option<socket::Giver>,
    /// The program that an upgrade starts; `None` if it is not known.
    pub program: Option<Arc<Program>>,
}
