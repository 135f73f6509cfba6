//! Why portway does not start, or a change does not come into force: the step that failed, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::config::{self, Place};

/// Why portway does not start, or a change does not come into force.
#[derive(Debug, Error)]
pub enum StartError {
    /// A listener's address cannot be bound.
    #[error("listeners.{listener}.bind: cannot listen on {address}: {remedy}")]
    Listen {
        /// The listener's name.
        listener: Arc<str>,
        /// The address.
        address: SocketAddr,
        /// Says what to do about it.
        remedy: &'static str,
        /// The error.
        source: io::Error,
    },
    /// The admin address cannot be bound.
    #[error("admin.bind: cannot listen on {address}: {remedy}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// Says what to do about it.
        remedy: &'static str,
        /// The error.
        source: io::Error,
    },
    /// systemd has opened a socket for an address that routes.toml does not have.
    #[error(
        "systemd has opened {address}, which is neither in a listeners.N.bind nor admin.bind: write it \
         there exactly as it is here, or remove it from the socket unit"
    )]
    Unwanted {
        /// The address.
        address: SocketAddr,
    },
    /// A socket from systemd or from the predecessor is of the wrong kind.
    #[error("a listening socket that was passed cannot be used: it must be a TCP socket")]
    Inherited(#[source] io::Error),
    /// The running portway does not hand its listeners over.
    #[error("cannot take over from the running portway: stop it, or start without --takeover")]
    TakeOver(#[source] io::Error),
    /// The system refuses something that a step of the start needs.
    #[error("cannot {step}: {remedy}")]
    System {
        /// The step that failed.
        step: &'static str,
        /// Says what to do about it.
        remedy: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl StartError {
    /// The text, after the position of the address in the file, if the file has it.
    pub fn in_file(&self, file: &Path) -> String {
        let place = match self {
            Self::Listen {
                listener, address, ..
            } => config::place_of(file, Some(listener), *address),
            Self::Admin { address, .. } => config::place_of(file, None, *address),
            Self::Unwanted { .. }
            | Self::Inherited(_)
            | Self::TakeOver(_)
            | Self::System { .. } => None,
        };
        match (place, self) {
            (Some(Place::Line(place)), _) => format!("{place}: {self}"),
            (Some(Place::Default), Self::Admin { address, .. }) => {
                let file = file.display();
                let port = address.port();
                let other = SocketAddr::new(address.ip(), port.checked_add(1).unwrap_or(port - 1));
                format!(
                    "{self}. {address} is the default of admin.bind, because {file} does not have that key: \
                     to choose another address, write a table [admin] with bind = \"{other}\"; to open none, write \
                     bind = false there"
                )
            }
            (Some(Place::Default) | None, _) => self.to_string(),
        }
    }

    /// The same with the cause.
    pub fn with_cause(&self, file: &Path) -> String {
        let cause = std::error::Error::source(self);
        let cause = cause.map(|cause| format!(" ({cause})"));
        format!("{}{}", self.in_file(file), cause.unwrap_or_default())
    }

    /// The address that another socket has, if that is the cause.
    pub fn taken_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Listen {
                address, source, ..
            }
            | Self::Admin {
                address, source, ..
            } => (source.kind() == io::ErrorKind::AddrInUse).then_some(*address),
            Self::Unwanted { .. }
            | Self::Inherited(_)
            | Self::TakeOver(_)
            | Self::System { .. } => None,
        }
    }

    /// The error of a step, whose name completes "cannot ...".
    pub fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System {
            step,
            remedy: remedy(&source),
            source,
        }
    }
}

/// The remedy for an error of the system.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another socket has this address; stop that program or choose another port \
             (`ss -ltnp` shows who has it)"
        }
        Some(libc::EADDRNOTAVAIL) => {
            "this host does not have the address; write one of its own, or [::] for all. If this is a \
             floating address that comes later, set freebind = true in the table of its listener"
        }
        Some(libc::EACCES) => {
            "an ordinary user may not bind a port below 1024. Either give the process the ambient \
             capability (AmbientCapabilities=CAP_NET_BIND_SERVICE in a systemd unit), or lower \
             net.ipv4.ip_unprivileged_port_start, or bind a higher port such as 8443 and point \
             clients to it"
        }
        Some(libc::EMFILE) => {
            "the process may not open more files: raise `ulimit -n`, or LimitNOFILE= of the unit, and \
             restart portway"
        }
        Some(libc::ENFILE) => {
            "the system may not open more files: raise the sysctl fs.file-max, or close files of other \
             programs"
        }
        Some(libc::EAGAIN) => {
            "the limit of threads is reached: raise TasksMax= of the unit, the pids limit of the \
             container or `ulimit -u`, or set fewer `workers`"
        }
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "there is not enough memory: raise the memory limit of the unit or container, or set \
             fewer `workers`"
        }
        Some(libc::EBADF) => {
            "standard output or standard error is closed: start portway with both open, for example \
             as /dev/null"
        }
        Some(_) => "portway knows no remedy for this error: look up its cause, and report it",
        None => "the lines of the log before this one say why",
    }
}
