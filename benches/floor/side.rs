//! One socket of a connection of the floor, and what epoll tells of it.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

pub(super) struct Side {
    pub(super) socket: OwnedFd,
    /// Of what epoll tells; of nothing before it is registered.
    pub(super) watched: EventFlags,
    /// It may have bytes; cleared where a read finds fewer than it asks for.
    pub(super) readable: bool,
    /// An end or an error has come: only reading up to it tells which, and no other event does.
    pub(super) hung_up: bool,
    /// An error has come.
    pub(super) broken: bool,
}

impl Side {
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            watched: EventFlags::empty(),
            readable: false,
            hung_up: false,
            broken: false,
        }
    }

    pub(super) const fn is_watched(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Has epoll tell of the side, and of its writability if asked for.
    pub(super) fn watch(
        &mut self,
        epoll: &OwnedFd,
        data: u64,
        writable: bool,
    ) -> rustix::io::Result<()> {
        let mut flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        flags.set(EventFlags::OUT, writable);
        let data = EventData::new_u64(data);
        if self.is_watched() {
            epoll::modify(epoll, &self.socket, data, flags)?;
        } else {
            epoll::add(epoll, &self.socket, data, flags)?;
        }
        self.watched = flags;
        Ok(())
    }
}
