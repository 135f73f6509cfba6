//! Counts the connections of each client. A client is in the table only while it has a connection, or while it has used up
//! a part of its rate, which is a second at most. So the table never has more entries than `max_connections` and the most
//! that wait there without a connection.

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

/// Clients of a shard that may be kept without a connection: in all shards 65,536, which is more than connect in a second
/// from addresses of their own. Above that, a client that leaves gets its whole share back.
const MOST_IDLE: usize = 1 << 12;

#[derive(Debug)]
struct Shard {
    counts: HashMap<IpAddr, Counts, RandomState>,
    /// The clients in it that have no connection.
    idle: usize,
}

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
    /// The time up to which its rate is used up; 0 without a rate.
    used: u64,
}

/// A connection of a client that arrives.
pub(super) struct Arrival {
    /// The client's [`Bounds::key`].
    pub(super) key: IpAddr,
    /// When it has arrived.
    pub(super) at: u64,
    /// Whether its hello is not complete.
    pub(super) pending: bool,
    /// Most connections of the client that may be pending.
    pub(super) most_pending: usize,
}

impl Clients {
    pub(super) fn new() -> Self {
        // Clients choose their addresses, so the hash has a random key.
        let hasher = RandomState::new();
        Self {
            shards: std::array::from_fn(|_| {
                let counts = HashMap::with_hasher(hasher.clone());
                Mutex::new(Shard { counts, idle: 0 })
            }),
            hasher,
        }
    }

    /// Counts a connection that arrives, unless a limit of its client refuses it, or else `all`, which is asked last: a
    /// client over its own limits uses up nothing of what all share.
    pub(super) fn enter(
        &self,
        arrival: &Arrival,
        bounds: &Bounds,
        all: impl FnOnce() -> Result<(), Limit>,
    ) -> Result<(), Limit> {
        let mut shard = self.shard(arrival.key);
        let known = shard.counts.get(&arrival.key).copied();
        let counts = known.unwrap_or_default();
        if arrival.pending && counts.pending as usize >= arrival.most_pending {
            return Err(Limit::MaxPendingPerClient);
        }
        let most = bounds.max_connections_per_client.unwrap_or(usize::MAX);
        if counts.connections as usize >= most {
            return Err(Limit::MaxConnectionsPerClient);
        }
        let used = match bounds.accept_rate_per_client {
            Some(rate) => rate.take(counts.used, arrival.at),
            None => Some(0),
        };
        let used = used.ok_or(Limit::AcceptRatePerClient)?;
        all()?;
        if known.is_some_and(|known| known.connections == 0) {
            shard.idle -= 1;
        }
        let counts = Counts {
            connections: counts.connections.saturating_add(1),
            pending: counts.pending.saturating_add(arrival.pending.into()),
            used,
        };
        shard.counts.insert(arrival.key, counts);
        Ok(())
    }

    pub(super) fn hello_done(&self, key: IpAddr) {
        if let Some(counts) = self.shard(key).counts.get_mut(&key) {
            counts.pending = counts.pending.saturating_sub(1);
        }
    }

    pub(super) fn leave(&self, key: IpAddr, pending: bool) {
        let mut shard = self.shard(key);
        let shard = &mut *shard;
        let Entry::Occupied(mut entry) = shard.counts.entry(key) else {
            return;
        };
        let counts = entry.get_mut();
        counts.connections = counts.connections.saturating_sub(1);
        counts.pending = counts.pending.saturating_sub(pending.into());
        if counts.connections > 0 {
            return;
        }
        if counts.used > 0 && shard.idle < MOST_IDLE {
            shard.idle += 1;
            return;
        }
        entry.remove();
        shard.shrink();
    }

    /// Forgets the clients without a connection that have their whole rate again.
    pub(super) fn tidy(&self, now: u64) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            if shard.idle > 0 {
                let is_needed = |counts: &Counts| counts.connections > 0 || counts.used > now;
                shard.counts.retain(|_, counts| is_needed(counts));
                let idle = shard.counts.values().filter(|it| it.connections == 0);
                shard.idle = idle.count();
                shard.shrink();
            }
        }
    }

    fn shard(&self, key: IpAddr) -> MutexGuard<'_, Shard> {
        // Within a shard the map uses the lowest and the highest bits of the same hash.
        let position = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "a remainder is below SHARDS")]
        let shard = &self.shards[position];
        lock(shard)
    }

    /// The number of clients in the table, and the number for which it has room.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap());
        shards.fold((0, 0), |(len, room), shard| {
            (len + shard.counts.len(), room + shard.counts.capacity())
        })
    }

    /// The numbers of connections and of pending ones of a client.
    #[cfg(test)]
    pub(super) fn counts(&self, key: IpAddr) -> (usize, usize) {
        let counts = self.shard(key).counts.get(&key).copied();
        let counts = counts.unwrap_or_default();
        (counts.connections as usize, counts.pending as usize)
    }
}

impl Shard {
    /// Frees the memory after a flood. The threshold is a quarter, so that the removals before it outweigh the cost of
    /// shrinking.
    fn shrink(&mut self) {
        let counts = &mut self.counts;
        if counts.capacity() > SMALL && counts.len() < counts.capacity() / 4 {
            counts.shrink_to(counts.len().saturating_mul(2));
        }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
