//! The addresses at which a worker accepts connections, and the snapshots that these connections take.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use socket2::Socket;
use tokio_util::sync::CancellationToken;

use crate::net::Listening;
use crate::snapshot::{AddressId, Snapshot, Taken};

/// All addresses of a worker.
#[derive(Default)]
pub(super) struct Addresses {
    pub(super) open: Vec<Rc<Address>>,
    /// Closed addresses that may still serve their queues.
    closing: Vec<Weak<Address>>,
}

/// One listening socket.
pub(super) struct Address {
    id: AddressId,
    pub(super) listening: Listening,
    closing: RefCell<CancellationToken>,
    pub(super) taken: RefCell<Taken>,
}

impl Address {
    /// Cancelled when the accept loop should no longer wait for connections.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.borrow().clone()
    }

    /// The snapshot for a connection that arrives now. A closing address keeps the last snapshot that
    /// contained it.
    pub(super) fn taken(&self) -> Taken {
        self.taken.borrow().clone()
    }
}

impl Addresses {
    /// Registers a socket of an address that the snapshot in force contains. `None` if the socket was about to
    /// close: then its accept loop goes on.
    pub(super) fn open(
        &mut self,
        id: AddressId,
        socket: Arc<Socket>,
        in_force: Option<&Arc<Snapshot>>,
    ) -> io::Result<Option<Rc<Address>>> {
        let taken = in_force.and_then(|it| Snapshot::take_at(it, id));
        let taken = taken.ok_or_else(|| io::Error::other("no snapshot has the address"))?;
        let mut closing = self.closing.iter().filter_map(Weak::upgrade);
        if let Some(address) = closing.find(|one| one.id == id && one.listening.is_of(&socket)) {
            address.closing.take();
            address.taken.replace(taken);
            self.open.push(address);
            return Ok(None);
        }
        let address = Rc::new(Address {
            id,
            listening: Listening::register(socket)?,
            closing: RefCell::default(),
            taken: RefCell::new(taken),
        });
        self.open.push(Rc::clone(&address));
        Ok(Some(address))
    }

    /// Closes all sockets of an address.
    pub(super) fn close(&mut self, id: AddressId) {
        self.closing.retain(|address| address.strong_count() > 0);
        for address in self.open.extract_if(.., |address| address.id == id) {
            address.closing().cancel();
            self.closing.push(Rc::downgrade(&address));
        }
    }

    /// Closes every address.
    pub(super) fn close_all(&mut self) {
        for address in self.open.drain(..) {
            address.closing().cancel();
        }
    }

    /// Gives `snapshot` to connections that arrive from now on.
    pub(super) fn swap(&self, snapshot: &Arc<Snapshot>) {
        for address in &self.open {
            if let Some(taken) = Snapshot::take_at(snapshot, address.id) {
                address.taken.replace(taken);
            }
        }
    }
}
