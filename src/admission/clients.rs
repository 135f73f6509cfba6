//! Counts the connections of each client. A client is in the table only while it has a connection,
//! so the table never has more entries than `max_connections`.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Bounds;
use crate::outcome::Limit;

/// Parts of the table, each with its own lock and its own growth, so that workers seldom contend.
const SHARDS: usize = 16;
/// A shard with room for fewer clients is not worth shrinking.
const SMALL: usize = 64;

type Shard = HashMap<IpAddr, Counts, RandomState>;

/// The connections of each client.
#[derive(Debug)]
pub(super) struct Clients {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    connections: u32,
    pending: u32,
}

impl Clients {
    pub(super) fn new() -> Self {
        // Clients choose their addresses, so the hash has a random key.
        let hasher = RandomState::new();
        Self {
            shards: std::array::from_fn(|_| Mutex::new(Shard::with_hasher(hasher.clone()))),
            hasher,
        }
    }

    /// Counts a connection of the client with this [`Bounds::key`]. At most `most_pending` of its
    /// connections may be pending.
    pub(super) fn enter(
        &self,
        key: IpAddr,
        pending: bool,
        most_pending: usize,
        bounds: &Bounds,
    ) -> Result<(), Limit> {
        let mut shard = self.shard(key);
        let counts = shard.get(&key).copied().unwrap_or_default();
        if pending && counts.pending as usize >= most_pending {
            return Err(Limit::MaxPendingPerClient);
        }
        let most = bounds.max_connections_per_client.unwrap_or(usize::MAX);
        if counts.connections as usize >= most {
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
        // Frees the memory after a flood. The threshold is a quarter, so that the removals before it
        // outweigh the cost of shrinking.
        if shard.capacity() > SMALL && shard.len() < shard.capacity() / 4 {
            let room = shard.len().saturating_mul(2);
            shard.shrink_to(room);
        }
    }

    fn shard(&self, key: IpAddr) -> MutexGuard<'_, Shard> {
        // Within a shard the map uses the lowest and the highest bits of the same hash.
        let position = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "a remainder is below SHARDS")]
        let shard = &self.shards[position];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of clients in the table, and the number for which it has room.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap());
        shards.fold((0, 0), |(len, room), shard| {
            (len + shard.len(), room + shard.capacity())
        })
    }

    /// The numbers of connections and of pending ones of a client.
    #[cfg(test)]
    pub(super) fn counts(&self, key: IpAddr) -> (usize, usize) {
        let counts = self.shard(key).get(&key).copied().unwrap_or_default();
        (counts.connections as usize, counts.pending as usize)
    }
}
