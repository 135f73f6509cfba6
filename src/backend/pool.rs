//! A backend's endpoints, and the order in which a client tries them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::endpoint::{Endpoint, Trial};
use super::{Balance, source_hash};

/// The endpoints of one backend and the choice among them.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    endpoints: Vec<Arc<Endpoint>>,
    balance: Balance,
    /// The turn of `round_robin`.
    turn: AtomicUsize,
}

impl Pool {
    /// A pool. The endpoints may be those of an earlier snapshot.
    pub fn new(name: Arc<str>, endpoints: Vec<Arc<Endpoint>>, balance: Balance) -> Self {
        Self {
            name,
            endpoints,
            balance,
            turn: AtomicUsize::new(0),
        }
    }

    /// The backend's name in routes.toml.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// All endpoints, in the order of routes.toml.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Every endpoint that has an address, in the order in which `client` (a canonical address) is
    /// to try them: those in health as the balance says, then those whose last dial failed, soonest
    /// end of penalty first. Health orders the candidates, it never forbids one.
    ///
    /// An endpoint whose penalty is over comes first for one client at a time, the others still find
    /// it last. With `source_hash` that client is one of the endpoint's own.
    ///
    /// Empty if no endpoint has an address.
    pub fn candidates(&self, client: IpAddr, now: Instant) -> Vec<Candidate> {
        let mut candidates = Vec::with_capacity(self.endpoints.len());
        for (position, endpoint) in self.endpoints.iter().enumerate() {
            let addresses = endpoint.addresses();
            if addresses.is_empty() {
                continue;
            }
            candidates.push(Candidate {
                rank: self.rank(client, endpoint, position),
                penalty: endpoint.penalty(now),
                trial: None,
                addresses,
                endpoint: Arc::clone(endpoint),
            });
        }
        if candidates.len() > 1 {
            self.arrange(&mut candidates, now);
        }
        candidates
    }

    /// The place of an endpoint among those in health, lowest first.
    fn rank(&self, client: IpAddr, endpoint: &Endpoint, position: usize) -> u64 {
        match self.balance {
            Balance::LeastConnections => {
                u64::from(endpoint.connections()) << 32 | u64::from(fastrand::u32(..))
            }
            Balance::RoundRobin => position as u64,
            Balance::Random => fastrand::u64(..),
            Balance::SourceHash => !source_hash::weight(client, endpoint.name()),
        }
    }

    fn arrange(&self, candidates: &mut [Candidate], now: Instant) {
        candidates.sort_unstable_by_key(|candidate| (candidate.penalty, candidate.rank));
        let good = candidates.partition_point(|candidate| candidate.penalty.is_none());
        if self.balance == Balance::RoundRobin && good > 0 {
            // Turning only those in health shares the load of a failed one among all of them.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            candidates.split_at_mut(good).0.rotate_left(turn % good);
        }
        self.put_trial_first(candidates, now);
    }

    fn put_trial_first(&self, candidates: &mut [Candidate], now: Instant) {
        let best = candidates
            .iter()
            .find(|candidate| candidate.penalty.is_none());
        let limit = match best {
            Some(best) if self.balance == Balance::SourceHash => best.rank,
            _ => u64::MAX,
        };
        let on_trial = candidates.iter_mut().position(|candidate| {
            if candidate.penalty == Some(0) && candidate.rank <= limit {
                candidate.trial = candidate.endpoint.try_trial(now);
            }
            candidate.trial.is_some()
        });
        if let Some(position) = on_trial {
            candidates.split_at_mut(position + 1).0.rotate_right(1);
        }
    }
}

/// An endpoint to try, with the addresses it had when the order was made: at least one.
///
/// Drop it when its attempts have ended: it may hold the trial of its endpoint.
#[derive(Debug)]
pub struct Candidate {
    /// The endpoint, to tell the result and to count the connection.
    pub endpoint: Arc<Endpoint>,
    /// The addresses, in the order in which they are to be tried.
    pub addresses: Arc<Vec<SocketAddr>>,
    trial: Option<Trial>,
    /// In this order: those in health (`None`), then by the end of the penalty, then by rank.
    penalty: Option<u64>,
    rank: u64,
}

impl Candidate {
    /// Whether the endpoint failed lately and this client is the one that tries it again: it may
    /// well fail, so the next candidate should not wait for its time limit.
    pub const fn on_trial(&self) -> bool {
        self.trial.is_some()
    }
}
