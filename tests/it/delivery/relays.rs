//! The relays under comparison: portway, and HAProxy and nginx if the machine has them.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::it::fixture::{Portway, config};
use crate::it::others::{Other, Program};
use crate::it::peers::free;

/// The reasons for which a relay may end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// No byte in either direction.
    Idle,
    /// No byte in the open direction once the other has closed.
    HalfClose,
    /// The receiver takes nothing.
    Stall,
    /// The relay gets a signal to stop.
    Drain,
    /// Another process has taken over.
    Takeover,
}

impl Limit {
    pub(super) const ALL: [Self; 5] = [
        Self::Idle,
        Self::HalfClose,
        Self::Stall,
        Self::Drain,
        Self::Takeover,
    ];

    /// Whether the test has to do something to cause it.
    pub(super) const fn is_a_deed(self) -> bool {
        matches!(self, Self::Drain | Self::Takeover)
    }

    /// The time of the limit; drain and takeover have long ones, and end at the signal.
    const fn seconds(self) -> u32 {
        match self {
            Self::Idle | Self::HalfClose | Self::Stall => 3,
            Self::Drain | Self::Takeover => 60,
        }
    }
}

/// A relay with one limit, in front of one backend.
pub(super) enum Relay {
    Portway(Box<[Portway; 1]>, Vec<Portway>),
    Other(Program, Other, SocketAddr),
}

impl Relay {
    pub(super) fn portway(limit: Limit, backend: SocketAddr) -> Self {
        let portway = Portway::start(&portway(limit, backend));
        Self::Portway(Box::new([portway]), Vec::new())
    }

    /// Starts another one; `None` if the machine does not have it.
    pub(super) fn other(program: Program, limit: Limit, backend: SocketAddr) -> Option<Self> {
        let address = free();
        let text = match program {
            Program::Haproxy => haproxy(limit, address, backend),
            Program::Nginx => nginx(limit, address, backend),
        };
        let other = Other::start(program, address, &text)?;
        Some(Self::Other(program, other, address))
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Portway(portway, _) => portway[0].address("agents"),
            Self::Other(_, _, address) => *address,
        }
    }

    /// Causes the limit.
    pub(super) fn strike(&mut self, limit: Limit) {
        match (self, limit) {
            (_, Limit::Idle | Limit::HalfClose | Limit::Stall) => {}
            (Self::Portway(portway, _), Limit::Drain) => portway[0].signal(Signal::TERM),
            (Self::Portway(portway, successors), Limit::Takeover) => {
                successors.push(portway[0].start_beside(&["--takeover"]));
            }
            (Self::Other(Program::Haproxy, other, _), Limit::Takeover) => {
                let old = other.process().pid().to_string();
                other.start_again(&["-sf", &old]);
            }
            (Self::Other(program, other, _), limit) => {
                let signal = match (program, limit) {
                    (Program::Haproxy, _) => Signal::USR1,
                    (Program::Nginx, Limit::Takeover) => Signal::HUP,
                    (Program::Nginx, _) => Signal::QUIT,
                };
                other.process().signal(signal);
            }
        }
    }

    /// The running portway, if this relay is portway.
    pub(super) fn as_portway(&self) -> Option<&Portway> {
        match self {
            Self::Portway(portway, _) => Some(&portway[0]),
            Self::Other(..) => None,
        }
    }
}

fn portway(limit: Limit, backend: SocketAddr) -> String {
    let seconds = limit.seconds();
    let of = |this: Limit| if limit == this { seconds } else { 60 };
    let limits = format!("drain_timeout = \"{}s\"", of(Limit::Drain));
    let backend_keys = format!(
        "idle_timeout = \"{}s\"\nhalf_close_timeout = \"{}s\"\nstall_timeout = \"{}s\"",
        of(Limit::Idle),
        of(Limit::HalfClose),
        of(Limit::Stall)
    );
    let toml = config(&[backend], &limits, &backend_keys);
    toml.replacen("127.0.0.1:0", &free().to_string(), 1)
        .replace("127.0.0.1:0", &free().to_string())
}

fn haproxy(limit: Limit, address: SocketAddr, backend: SocketAddr) -> String {
    let all = match limit {
        Limit::Idle | Limit::Stall => limit.seconds(),
        Limit::HalfClose | Limit::Drain | Limit::Takeover => 60,
    };
    let fin = if limit == Limit::HalfClose {
        limit.seconds()
    } else {
        60
    };
    format!(
        " timeout connect 5s\n timeout client {all}s\n timeout server {all}s\n \
         timeout client-fin {fin}s\n timeout server-fin {fin}s\n\
         listen agents\n bind {address}\n server one {backend}\n"
    )
}

fn nginx(limit: Limit, address: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "stream {{ server {{ listen {address}; proxy_pass {backend}; \
         proxy_half_close on; proxy_timeout {}s; }} }}",
        limit.seconds()
    )
}
