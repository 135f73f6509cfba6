//! The resource that is missing when this machine cannot open one more connection.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::net;

/// A resource that sockets need and that this machine has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Local ports towards one address (EADDRNOTAVAIL, EADDRINUSE, EAGAIN).
    Ports,
    /// Descriptors of the process (EMFILE).
    Descriptors,
    /// Descriptors of the system (ENFILE).
    SystemDescriptors,
    /// Memory of the kernel (ENOBUFS, ENOMEM).
    Memory,
    /// The source address, which no interface of this host has (EADDRNOTAVAIL of a bind).
    SourceAddress,
}

impl Resource {
    /// The resource behind an error of `socket`, `bind`, `connect` or `accept`.
    pub const fn behind(error: i32) -> Option<Self> {
        match error {
            libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN => Some(Self::Ports),
            libc::EMFILE => Some(Self::Descriptors),
            libc::ENFILE => Some(Self::SystemDescriptors),
            libc::ENOBUFS | libc::ENOMEM => Some(Self::Memory),
            _ => None,
        }
    }

    /// Says what is missing, and what an operator can do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Ports => {
                "no local port is left towards this address: give the backend more source_addresses, set the \
                 sysctl net.ipv4.tcp_tw_reuse = 1, widen net.ipv4.ip_local_port_range, or give the backend more \
                 endpoints"
            }
            Self::Descriptors => {
                "the process has no descriptor left: raise `ulimit -n` or LimitNOFILE= of the unit, or \
                 lower limits.max_connections"
            }
            Self::SystemDescriptors => {
                "the system has no descriptor left: raise the sysctl fs.file-max"
            }
            Self::Memory => {
                "the kernel has no memory for sockets: see /proc/net/sockstat, and raise the sysctl \
                 net.ipv4.tcp_mem or the memory limit of the container"
            }
            Self::SourceAddress => {
                "this host does not have that source address: add it to an interface, or correct source_addresses \
                 of the backend"
            }
        }
    }
}

/// A resource that was missing to dial an address. It says nothing about the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shortage {
    /// The resource.
    pub resource: Resource,
    /// The endpoint as in routes.toml.
    pub endpoint: Arc<str>,
    /// The address that was dialled.
    pub address: SocketAddr,
    /// The address of this machine to dial from, if the backend has some.
    pub source: Option<IpAddr>,
}

impl Shortage {
    /// The shortage behind an attempt that failed, if there is one.
    pub fn behind(error: &io::Error, endpoint: &Arc<str>, address: SocketAddr) -> Option<Self> {
        let resource = Resource::behind(error.raw_os_error()?)?;
        Some(Self {
            resource,
            endpoint: Arc::clone(endpoint),
            address,
            source: None,
        })
    }
}

/// The text for the log.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.to_string();
        write!(f, "cannot dial {address}")?;
        if *self.endpoint != *address {
            write!(f, " of {}", self.endpoint)?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        write!(f, ": {}", self.resource.remedy())?;
        if self.resource == Resource::Ports
            && let Some(ports) = net::local_ports()
        {
            let [first, last] = [ports.start(), ports.end()];
            write!(f, "; the range has the ports {first} to {last}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shortage_names_what_is_missing_for_whom_and_a_remedy() {
        let address = "192.0.2.7:8220".parse().unwrap();
        let shortage = |endpoint: &str, error| {
            let error = io::Error::from_raw_os_error(error);
            Shortage::behind(&error, &endpoint.into(), address)
        };
        for (error, missing, remedy) in [
            (libc::EADDRNOTAVAIL, "no local port", "source_addresses"),
            (libc::EADDRNOTAVAIL, "no local port", "ip_local_port_range"),
            (libc::EMFILE, "the process has no descriptor", "ulimit -n"),
            (libc::ENFILE, "the system has no descriptor", "fs.file-max"),
            (libc::ENOBUFS, "the kernel has no memory", "tcp_mem"),
            (libc::ENOMEM, "the kernel has no memory", "tcp_mem"),
        ] {
            let words = shortage("192.0.2.7:8220", error).unwrap().to_string();
            assert!(words.starts_with("cannot dial 192.0.2.7:8220: "), "{words}");
            assert!(words.contains(missing) && words.contains(remedy), "{words}");
        }
        let mut named = shortage("fleet.test:8220", libc::EADDRNOTAVAIL).unwrap();
        named.source = Some("192.0.2.1".parse().unwrap());
        let words = named.to_string();
        let begin = "cannot dial 192.0.2.7:8220 of fleet.test:8220 from 192.0.2.1: ";
        assert!(words.starts_with(begin), "{words}");
        assert_eq!(shortage("", libc::ECONNREFUSED), None);
        let timeout = io::ErrorKind::TimedOut.into();
        assert_eq!(Shortage::behind(&timeout, &"".into(), address), None);
    }
}
