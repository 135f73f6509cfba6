//! One socket of a connection of the floor, and what epoll reports about it.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

pub(super) struct Side {
    pub(super) socket: OwnedFd,
    /// The events that epoll watches; none before the socket is registered.
    pub(super) watched: EventFlags,
    /// It may have bytes; cleared when a read finds fewer than it asks for.
    pub(super) readable: bool,
    /// An end or an error has come. Only a read up to it shows which; there is no other event.
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

    /// Registers the side with epoll, also for writability if asked for.
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
