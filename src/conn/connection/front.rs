//! The messages of a connection before its hello: the header of a balancer, and the target of a proxy's client.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use super::Connection;
use crate::wire::{Ends, Target};

/// The messages of a connection before its hello.
#[derive(Default)]
pub(super) struct Front {
    /// The ends in the PROXY header of a balancer.
    ends: OnceCell<Ends>,
    /// The host and port that the client of a proxy asked for.
    target: OnceCell<Target>,
}

impl Connection {
    /// The canonical address and the port at the other end of the socket.
    pub(in crate::conn) const fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer, self.peer_port)
    }

    /// The canonical address of the client: that of a PROXY header, or else of the socket.
    pub(in crate::conn) fn client(&self) -> IpAddr {
        self.ends().map_or(self.peer, |ends| ends.client.ip())
    }

    /// Whether a balancer has opened it that must send a PROXY header.
    pub(in crate::conn) fn is_from_balancer(&self) -> bool {
        self.listener().balancers.has(self.peer)
    }

    /// It is a connection between these ends, as the balancer says that opened it.
    pub(in crate::conn) fn introduce(&self, ends: Ends) {
        self.front
            .get_or_init(Box::default)
            .ends
            .get_or_init(|| ends);
    }

    /// The ends of the connection that a balancer carries on, if its header had them.
    pub(in crate::conn) fn ends(&self) -> Option<Ends> {
        self.front.get()?.ends.get().copied()
    }

    /// The port at which the client arrived: the destination in a PROXY header, or else its own.
    pub(super) fn port(&self) -> u16 {
        (self.ends()).map_or(self.port, |ends| ends.destination.port())
    }

    /// It asks for this target.
    pub(in crate::conn) fn ask(&self, target: Target) -> &Target {
        let front = self.front.get_or_init(Box::default);
        front.target.get_or_init(|| target)
    }

    /// The host and port that it has asked for.
    pub(in crate::conn) fn target(&self) -> Option<&Target> {
        self.front.get()?.target.get()
    }
}
