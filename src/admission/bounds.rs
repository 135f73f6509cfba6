//! The limits in force: those of routes.toml, or else what the machine can carry.

use std::net::{IpAddr, Ipv6Addr};

use super::Machine;
use super::rate::Rate;
use crate::outcome::Limit;

/// Descriptors for everything except connections: listeners, admin, epoll, the log, pipes in use.
const RESERVED_DESCRIPTORS: u64 = 64;
/// A relayed connection has two sockets.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Bytes that a connection takes in the kernel and in portway, while few bytes wait to be sent.
const MEMORY_PER_CONNECTION: u64 = 10 * 1024;
/// The highest default.
const CEILING: u64 = 1_000_000;

/// The part of `[limits]` that bounds counts. `None` means the default, which depends on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// `max_connections`.
    pub max_connections: Option<usize>,
    /// `max_pending_connections`: connections without a whole hello.
    pub max_pending_connections: Option<usize>,
    /// `max_pending_per_client`; the default applies only while more than half of
    /// `max_pending_connections` is in use.
    pub max_pending_per_client: Option<usize>,
    /// `max_connections_per_client`; `None` means no limit.
    pub max_connections_per_client: Option<usize>,
    /// `accept_rate`: new connections per second; `None` means no limit.
    pub accept_rate: Option<usize>,
    /// `accept_rate_per_client`; `None` means no limit.
    pub accept_rate_per_client: Option<usize>,
    /// The prefix that makes IPv6 addresses one client.
    pub client_ipv6_prefix: u8,
}

/// The limits in force, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections in total.
    pub max_connections: usize,
    /// The source of `max_connections`: `routes.toml`, `nofile`, `memory.max` or `ceiling`.
    pub bound_by: &'static str,
    /// The default of `max_connections`. With a higher value in routes.toml, portway may run out of
    /// descriptors or memory.
    pub machine_max_connections: usize,
    /// Connections without a whole hello.
    pub max_pending_connections: usize,
    /// Connections of one client without a whole hello.
    pub max_pending_per_client: usize,
    /// `max_pending_per_client` applies while more connections than this are pending. It is 0 if
    /// routes.toml sets that limit. By default it lets a site behind one address come back at once
    /// while there is room.
    pub pending_share_above: usize,
    /// Connections of one client; `None` means no limit.
    pub max_connections_per_client: Option<usize>,
    /// New connections in total; `None` means no limit.
    pub(super) accept_rate: Option<Rate>,
    /// New connections of one client; `None` means no limit.
    pub(super) accept_rate_per_client: Option<Rate>,
    client_ipv6_prefix: u8,
}

impl Bounds {
    /// Fills in the defaults.
    pub fn new(limits: &Quotas, machine: Machine) -> Self {
        let (allowed, bound_by) = machine_max_connections(machine);
        let (max_connections, bound_by) = match limits.max_connections {
            Some(max) => (max.max(1), "routes.toml"),
            None => (allowed, bound_by),
        };
        let or_quarter = |set: Option<usize>, of: usize| set.unwrap_or(of / 4).max(1);
        let max_pending_connections = or_quarter(limits.max_pending_connections, max_connections);
        Self {
            max_connections,
            bound_by,
            machine_max_connections: allowed,
            max_pending_connections,
            max_pending_per_client: or_quarter(
                limits.max_pending_per_client,
                max_pending_connections,
            ),
            pending_share_above: match limits.max_pending_per_client {
                Some(_) => 0,
                None => max_pending_connections / 2,
            },
            max_connections_per_client: limits.max_connections_per_client.map(|max| max.max(1)),
            accept_rate: limits.accept_rate.map(Rate::new),
            accept_rate_per_client: limits.accept_rate_per_client.map(Rate::new),
            client_ipv6_prefix: limits.client_ipv6_prefix,
        }
    }

    /// The key of a client: an IPv4 address, or an IPv6 network of `client_ipv6_prefix`.
    pub(super) fn key(&self, client: IpAddr) -> IpAddr {
        let others = 128_u32.saturating_sub(self.client_ipv6_prefix.into());
        let mask = u128::MAX.checked_shl(others).unwrap_or(0);
        match client.to_canonical() {
            IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() & mask).into(),
            client @ IpAddr::V4(_) => client,
        }
    }

    /// Most pending connections of one client while `pending` are pending in total.
    pub(super) const fn pending_share(&self, pending: usize) -> usize {
        if pending > self.pending_share_above {
            self.max_pending_per_client
        } else {
            usize::MAX
        }
    }

    /// The limit's value; `None` means no limit.
    pub fn get(&self, limit: Limit) -> Option<u64> {
        let count = match limit {
            Limit::MaxConnections => self.max_connections,
            Limit::MaxPendingConnections => self.max_pending_connections,
            Limit::MaxPendingPerClient => self.max_pending_per_client,
            Limit::MaxConnectionsPerClient => self.max_connections_per_client?,
            Limit::AcceptRate => return self.accept_rate.map(Rate::per_second),
            Limit::AcceptRatePerClient => return self.accept_rate_per_client.map(Rate::per_second),
        };
        Some(count as u64)
    }
}

fn machine_max_connections(machine: Machine) -> (usize, &'static str) {
    let by_descriptors =
        machine.nofile.saturating_sub(RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
    let by_memory = machine
        .memory_max
        .map_or(u64::MAX, |max| max / 2 / MEMORY_PER_CONNECTION);
    let (max, bound_by) = [
        (CEILING, "ceiling"),
        (by_descriptors, "nofile"),
        (by_memory, "memory.max"),
    ]
    .into_iter()
    .min_by_key(|(max, _)| *max)
    .unwrap_or((CEILING, "ceiling"));
    (usize::try_from(max).unwrap_or(usize::MAX).max(1), bound_by)
}
