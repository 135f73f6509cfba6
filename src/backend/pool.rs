//! A backend's endpoints, and the order in which a client tries their addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::address::{Address, Trial};
use super::addresses::Families;
use super::endpoint::Endpoint;
use super::{Asked, Balance, Proxy, Via, Way, source_hash};

/// The endpoints of one backend and the choice among them.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    endpoints: Arc<[Arc<Endpoint>]>,
    balance: Balance,
    /// The turn of `round_robin`.
    turn: AtomicUsize,
}

impl Pool {
    /// A pool. The endpoints may be those of an earlier snapshot.
    pub fn new(name: Arc<str>, endpoints: Vec<Arc<Endpoint>>, balance: Balance) -> Self {
        Self {
            name,
            endpoints: endpoints.into(),
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

    /// The same to share with a task that outlives the use of this pool.
    pub const fn shared(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.endpoints
    }

    /// The proxy through which all of them are reached, if there is one.
    pub fn via(&self) -> Option<&Arc<Via>> {
        self.endpoints.first()?.via()
    }

    /// The same if that proxy gets the addresses of the endpoints.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.endpoints.first()?.proxy()
    }

    /// The names that clients asked for, if the backend has an endpoint `{server_name}`.
    pub fn names(&self) -> Option<&Asked> {
        self.endpoints.first()?.names()
    }

    /// Whether one of the endpoints is at this address, or has this port and no address yet.
    pub fn may_have(&self, address: SocketAddr) -> bool {
        let mut endpoints = self.endpoints.iter();
        endpoints.any(|endpoint| endpoint.may_be_at(address))
    }

    /// Every address of every endpoint, in the order in which `client` is to try them, as
    /// [`candidates_of`](Self::candidates_of) has them.
    pub fn candidates(&self, client: IpAddr, now: Instant) -> Vec<Candidate> {
        self.candidates_of(&self.endpoints, client, now)
    }

    /// Every address of these endpoints, in the order in which `client` (a canonical address) is to try
    /// them: those in use as the balance says, then those in health of a family that is not in use, then
    /// those whose last dial failed, soonest end of penalty first. Health orders the candidates, it
    /// never forbids one.
    ///
    /// An address whose penalty is over comes first for one client at a time, and last for all others. With
    /// `source_hash` that client is one that the hash gives to this address.
    ///
    /// The list is empty if no endpoint has an address.
    pub fn candidates_of(
        &self,
        endpoints: &[Arc<Endpoint>],
        client: IpAddr,
        now: Instant,
    ) -> Vec<Candidate> {
        let count = endpoints.iter().map(|it| it.addresses().len()).sum();
        let mut candidates = Vec::with_capacity(count);
        for endpoint in endpoints {
            let addresses = endpoint.addresses();
            let families = Families::of(&addresses);
            let chosen = match self.balance {
                Balance::SourceHash => !source_hash::weight(client, endpoint.name()),
                Balance::LeastConnections | Balance::RoundRobin | Balance::Random => 0,
            };
            for address in addresses.iter() {
                candidates.push(Candidate {
                    rank: (chosen, self.rank(client, address, candidates.len())),
                    turn: Turn::of(address, families, now),
                    trial: None,
                    address: Arc::clone(address),
                    endpoint: Arc::clone(endpoint),
                });
            }
        }
        if candidates.len() > 1 {
            self.arrange(&mut candidates, now);
        }
        candidates
    }

    /// The place of an address among those in use, lowest first.
    fn rank(&self, client: IpAddr, address: &Address, position: usize) -> u64 {
        match self.balance {
            Balance::LeastConnections => {
                u64::from(address.connections()) << 32 | u64::from(fastrand::u32(..))
            }
            Balance::RoundRobin => position as u64,
            Balance::Random => fastrand::u64(..),
            Balance::SourceHash => !source_hash::weight(client, address.text()),
        }
    }

    fn arrange(&self, candidates: &mut [Candidate], now: Instant) {
        candidates.sort_unstable_by_key(|candidate| (candidate.turn, candidate.rank));
        let in_use = candidates.partition_point(|candidate| candidate.turn == Turn::InUse);
        if self.balance == Balance::RoundRobin && in_use > 0 {
            // Only addresses in use take turns, so that they share the load of a failed one equally.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            candidates.split_at_mut(in_use).0.rotate_left(turn % in_use);
        }
        self.put_trial_first(candidates, now);
    }

    fn put_trial_first(&self, candidates: &mut [Candidate], now: Instant) {
        let best = candidates.first();
        let best = best.filter(|candidate| candidate.turn == Turn::InUse);
        let limit = best.filter(|_| self.balance == Balance::SourceHash);
        let limit = limit.map(|best| (best.rank, best.address.at().is_ipv4()));
        let is_own = |candidate: &Candidate| match limit {
            Some((best, family)) if candidate.address.at().is_ipv4() == family => {
                candidate.rank <= best
            }
            // The client has an address in each family of its endpoint, and the weights choose only among those.
            Some(((endpoint, _), _)) => candidate.rank.0 <= endpoint,
            None => true,
        };
        let is_due = |candidate: &Candidate| match candidate.turn {
            Turn::Failed { penalty, unwanted } => penalty == 0 && !unwanted && is_own(candidate),
            Turn::InUse | Turn::Standby => false,
        };
        let on_trial = candidates.iter_mut().position(|candidate| {
            if is_due(candidate) {
                candidate.trial = candidate.address.try_trial(now);
            }
            candidate.trial.is_some()
        });
        if let Some(position) = on_trial {
            candidates.split_at_mut(position + 1).0.rotate_right(1);
        }
    }
}

/// The place of an endpoint for a client, if the balance chooses the endpoint first, and the place of an
/// address.
type Rank = (u64, u64);

/// The groups of addresses, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// It is healthy, and of the family in use.
    InUse,
    /// It is healthy, and of the other family.
    Standby,
    /// Its last dial failed.
    Failed {
        /// Milliseconds for which it is still ranked last.
        penalty: u64,
        /// Whether new connections would not use it even if it were healthy.
        unwanted: bool,
    },
}

impl Turn {
    fn of(address: &Address, families: Families, now: Instant) -> Self {
        match address.penalty(now) {
            Some(penalty) => Self::Failed {
                penalty,
                unwanted: !families.want(address),
            },
            None if families.use_now(address) => Self::InUse,
            None => Self::Standby,
        }
    }
}

/// An address to try, and its endpoint.
///
/// Drop it when its attempt has ended: it may hold the trial of its address.
#[derive(Debug)]
pub struct Candidate {
    /// The endpoint, to count the connection.
    pub endpoint: Arc<Endpoint>,
    /// The address to dial, and to store the result in.
    pub address: Arc<Address>,
    trial: Option<Trial>,
    turn: Turn,
    rank: Rank,
}

impl Candidate {
    /// Whether a dial of it leads to this address.
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        match self.endpoint.way() {
            Way::Direct | Way::ByAddress(_) | Way::ToProxy(_) => self.address.at() == address,
            Way::ByName(_) => self.endpoint.may_be_at(address),
        }
    }

    /// Whether the address failed lately and this client tries it again. It may well fail, so do not wait for its
    /// time limit before you dial the next candidate.
    pub const fn on_trial(&self) -> bool {
        self.trial.is_some()
    }
}
