//! The configuration in force. A change leaves alone what it does not name.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use socket2::Socket;
use tokio::sync::mpsc;

use super::change::{Change, OpenAddress};
use super::health::Health;
use super::known::KnownAddresses;
use super::request::Configuration;
use crate::admin;
use crate::backend::{Endpoint, Pool};
use crate::config::{Drain, StatusPages};
use crate::snapshot::Snapshot;
use crate::telemetry::Registry;
use crate::worker::{Mailbox, Message};

/// The addresses that are listened at, the limits of the drain, and the file that all of it is from.
pub(super) struct InForce {
    bound: Vec<OpenAddress>,
    pub(super) drain: Drain,
    pub(super) configuration: Configuration,
    /// The clients that may see the status pages.
    status_pages: StatusPages,
    /// CRC-32 of the text of the file.
    hash: u32,
    /// When it came into force.
    loaded: SystemTime,
    /// The snapshot of the workers; `None` before the first change.
    snapshot: Option<Arc<Snapshot>>,
    /// Its endpoints, and those of earlier ones that still have connections, by their place in memory.
    endpoints: HashMap<*const Endpoint, Weak<Endpoint>>,
    health: Health,
}

impl InForce {
    /// Nothing yet, if `drain` does not matter before the first change.
    pub(super) fn nothing(drain: Drain, registry: &Arc<Registry>) -> Self {
        Self {
            bound: Vec::new(),
            drain,
            configuration: Configuration::default(),
            status_pages: StatusPages::default(),
            hash: 0,
            loaded: SystemTime::UNIX_EPOCH,
            snapshot: None,
            endpoints: HashMap::new(),
            health: Health::start(registry),
        }
    }

    /// The addresses of a backend, with their state.
    pub(super) fn addresses(&self, backend: &str) -> KnownAddresses {
        let snapshot = self.snapshot.as_deref();
        snapshot.map_or_else(KnownAddresses::default, |snapshot| {
            KnownAddresses::of(snapshot, backend)
        })
    }

    /// The parts of it that the status pages show; `None` before the first change.
    pub(super) fn shown(&self, file: Option<String>) -> Option<admin::Current> {
        Some(admin::Current {
            snapshot: Arc::clone(self.snapshot.as_ref()?),
            addresses: self.bound.iter().map(|it| (it.id, it.address)).collect(),
            file,
            hash: self.hash,
            loaded: self.loaded,
            pages: self.status_pages.clone(),
        })
    }

    /// All listening sockets.
    pub(super) fn sockets(&self) -> Vec<Arc<Socket>> {
        let sockets = self.bound.iter().flat_map(|bound| &bound.sockets);
        sockets.cloned().collect()
    }

    /// Our own addresses after `change`, with that of `admin`.
    pub(super) fn own(&self, change: &Change, admin: Option<SocketAddr>) -> Vec<SocketAddr> {
        let stays = |bound: &&OpenAddress| !change.closed.contains(&bound.id);
        let kept = self.bound.iter().filter(stays);
        let bound = kept.chain(&change.opened).map(|bound| bound.address);
        bound.chain(admin).collect()
    }

    /// Puts a change in force, and returns the addresses that close. Each mailbox keeps the order of its
    /// messages, so an address that closes serves its queue with the previous snapshot, and an address that
    /// opens has the new one.
    pub(super) fn apply(
        &mut self,
        change: Change,
        mailboxes: &[Mailbox],
    ) -> (Listens, Vec<SocketAddr>) {
        let Change {
            snapshot,
            opened,
            closed,
            drain,
            status_pages,
            source,
        } = change;
        self.drain = drain;
        self.status_pages = status_pages;
        (self.hash, self.loaded) = (source.hash, SystemTime::now());
        self.configuration = Configuration {
            generation: snapshot.generation,
            text: source.text,
        };
        self.health.follow(&snapshot);
        self.mark_removed(&snapshot);
        self.snapshot = Some(Arc::clone(&snapshot));
        // A socket closes when its worker has served its queue, so nobody else may hold it.
        let gone = self
            .bound
            .extract_if(.., |bound| closed.contains(&bound.id));
        let gone: Vec<SocketAddr> = gone.map(|bound| bound.address).collect();
        for address in &gone {
            tracing::info!(%address, "no longer listening");
        }
        for mailbox in mailboxes {
            for &address in &closed {
                mailbox.send(Message::Unlisten { address });
            }
            mailbox.send(Message::Swap(Arc::clone(&snapshot)));
        }
        for bound in &opened {
            tracing::info!(listener = &*bound.listener, address = %bound.address, "listening");
        }
        let listens = Listens::begin(&opened, mailboxes);
        self.bound.extend(opened);
        (listens, gone)
    }

    /// Tells endpoints whether the snapshot that comes has them. One that is to be reached in another way, such as with
    /// another password for the proxy, is a new value there, but it is not removed.
    fn mark_removed(&mut self, next: &Snapshot) {
        let pools = next.backends.iter().map(|backend| &backend.pool);
        let endpoints = pools.flat_map(Pool::endpoints);
        let mut stay = HashSet::new();
        for endpoint in endpoints {
            stay.insert((endpoint.stats().backend(), endpoint.target()));
            let place = Arc::as_ptr(endpoint);
            self.endpoints.insert(place, Arc::downgrade(endpoint));
        }
        self.endpoints.retain(|_, endpoint| {
            let Some(endpoint) = endpoint.upgrade() else {
                return false;
            };
            let stays = stay.contains(&(endpoint.stats().backend(), endpoint.target()));
            endpoint.remove(!stays);
            true
        });
    }

    /// Makes the workers stop accepting; the sockets stay open. No client comes whom checks would help.
    pub(super) fn pause(&self, mailboxes: &[Mailbox]) {
        self.health.rest();
        for mailbox in mailboxes {
            for bound in &self.bound {
                mailbox.send(Message::Unlisten { address: bound.id });
            }
        }
    }

    /// Makes the workers accept again.
    pub(super) fn listen(&self, mailboxes: &[Mailbox]) -> Listens {
        if let Some(snapshot) = &self.snapshot {
            self.health.follow(snapshot);
        }
        Listens::begin(&self.bound, mailboxes)
    }

    /// Drops the sockets of one address.
    pub(super) fn let_go(&mut self, address: SocketAddr) {
        self.bound.retain(|bound| bound.address != address);
    }

    /// Drops all sockets: only the workers hold them then.
    pub(super) fn close(&mut self) {
        self.health.rest();
        self.bound.clear();
    }
}

/// The answers of workers to `Listen`, not all of which have come.
pub(super) struct Listens {
    answers: mpsc::UnboundedReceiver<io::Result<()>>,
    expected: usize,
}

impl Listens {
    fn begin(bound: &[OpenAddress], mailboxes: &[Mailbox]) -> Self {
        let (listens, answers) = mpsc::unbounded_channel();
        let mut expected = 0;
        for (position, bound) in bound.iter().enumerate() {
            // Addresses with a single socket go to different workers.
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
        Self { answers, expected }
    }

    /// Waits until all listen. It is cancel safe.
    pub(super) async fn all(&mut self) -> io::Result<()> {
        while let Some(listens) = self.answers.recv().await {
            listens?;
            self.expected -= 1;
        }
        if self.expected > 0 {
            // A worker has ended. Control notices that too, once the worker has logged why.
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}
