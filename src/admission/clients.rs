//! How many connections each client has. A client is in the table only while it has one, so the
//! table is never larger than `max_connections`.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Bounds;
use crate::telemetry::Limit;

/// So many locks, so that workers seldom meet, and so many parts to grow one by one.
const SHARDS: usize = 16;
/// A shard with room for fewer clients is not worth shrinking.
const SMALL: usize = 64;

type Shard = HashMap<IpAddr, Counts, RandomState>;

/// The connections of each client.
#[derive(Debug)]
pub(super) struct Clients {
    max_pending: u32,
    max_connections: u32,
    ipv6_mask: u128,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    connections: u32,
    pending: u32,
}

impl Clients {
    pub(super) fn new(bounds: &Bounds, ipv6_prefix: u8) -> Self {
        // Clients choose their addresses: the hash has a random key.
        let hasher = RandomState::new();
        let max = |max: usize| u32::try_from(max).unwrap_or(u32::MAX);
        Self {
            max_pending: max(bounds.max_pending_per_client),
            max_connections: bounds.max_connections_per_client.map_or(u32::MAX, max),
            ipv6_mask: u128::MAX
                .checked_shl(128_u32.saturating_sub(ipv6_prefix.into()))
                .unwrap_or(0),
            shards: std::array::from_fn(|_| Mutex::new(Shard::with_hasher(hasher.clone()))),
            hasher,
        }
    }

    /// What counts as one client: an IPv4 address, or an IPv6 network of `client_ipv6_prefix`.
    pub(super) fn key(&self, client: IpAddr) -> IpAddr {
        match client.to_canonical() {
            IpAddr::V6(client) => Ipv6Addr::from_bits(client.to_bits() & self.ipv6_mask).into(),
            client @ IpAddr::V4(_) => client,
        }
    }

    pub(super) fn enter(&self, key: IpAddr, pending: bool) -> Result<(), Limit> {
        let mut shard = self.shard(key);
        let counts = shard.get(&key).copied().unwrap_or_default();
        if pending && counts.pending >= self.max_pending {
            return Err(Limit::MaxPendingPerClient);
        }
        if counts.connections >= self.max_connections {
            return Err(Limit::MaxConnectionsPerClient);
        }
        let counts = Counts {
            connections: counts.connections.saturating_add(1),
            pending: counts.pending.saturating_add(pending.into()),
        };
        shard.insert(key, counts);
        Ok(())
    }

    pub(super) fn hello_done(&self, key: IpAddr) {
        if let Some(counts) = self.shard(key).get_mut(&key) {
            counts.pending = counts.pending.saturating_sub(1);
        }
    }

    pub(super) fn leave(&self, key: IpAddr, pending: bool) {
        let mut shard = self.shard(key);
        let Entry::Occupied(mut entry) = shard.entry(key) else {
            return;
        };
        let counts = entry.get_mut();
        counts.connections = counts.connections.saturating_sub(1);
        counts.pending = counts.pending.saturating_sub(pending.into());
        if counts.connections > 0 {
            return;
        }
        entry.remove();
        // After a flood the memory goes back. At a quarter, so that it is paid for by the removals.
        if shard.capacity() > SMALL && shard.len() < shard.capacity() / 4 {
            let room = shard.len().saturating_mul(2);
            shard.shrink_to(room);
        }
    }

    fn shard(&self, key: IpAddr) -> MutexGuard<'_, Shard> {
        // Within a shard the map goes by the lowest and the highest bits of the same hash.
        let position = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        let [first, ..] = &self.shards;
        let shard = self.shards.get(position).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients in the table, and the number for which it has room.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap());
        shards.fold((0, 0), |(len, room), shard| {
            (len + shard.len(), room + shard.capacity())
        })
    }

    /// Connections and pending ones of a client.
    #[cfg(test)]
    pub(super) fn counts(&self, client: IpAddr) -> (usize, usize) {
        let key = self.key(client);
        let counts = self.shard(key).get(&key).copied().unwrap_or_default();
        (counts.connections as usize, counts.pending as usize)
    }
}
