//! A backend's endpoints, and the order in which a client tries their addresses.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::address::Address;
use super::candidate::{Candidate, InCommon, Rank, Turn};
use super::endpoint::Endpoint;
use super::{Asked, Balance, Dialling, Endpoints, Proxy, Role, Via, source_hash, weighted};

/// The endpoints of one backend and the choice among them.
#[derive(Debug)]
pub struct Pool {
    name: Arc<str>,
    endpoints: Arc<Endpoints>,
    balance: Balance,
    /// The roles of the endpoints, in their order; empty if all are plain.
    roles: Box<[Role]>,
    /// The turn of `round_robin`.
    turn: AtomicUsize,
}

impl Pool {
    /// A pool. The endpoints may be those of an earlier snapshot.
    pub fn new(name: Arc<str>, endpoints: Vec<Arc<Endpoint>>, balance: Balance) -> Self {
        Self {
            name,
            endpoints: Arc::new(Endpoints::new(endpoints, Dialling::default())),
            balance,
            roles: Box::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The same with other rules for dials.
    #[must_use]
    pub fn dialled(self, dialling: Dialling) -> Self {
        let endpoints = Endpoints::new(self.endpoints().to_vec(), dialling);
        Self {
            endpoints: Arc::new(endpoints),
            ..self
        }
    }

    /// The same with the roles of the endpoints, in their order.
    #[must_use]
    pub fn with_roles(self, roles: &[Role]) -> Self {
        let are_plain = roles.iter().all(|role| role.is_plain());
        let roles = if are_plain { &[][..] } else { roles };
        Self {
            roles: roles.into(),
            ..self
        }
    }

    /// The backend's name in routes.toml.
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// All endpoints, in the order of routes.toml.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        self.endpoints.all()
    }

    /// The same with their roles.
    pub fn members(&self) -> impl Iterator<Item = (&Arc<Endpoint>, Role)> {
        let endpoints = self.endpoints().iter().enumerate();
        endpoints.map(|(position, endpoint)| (endpoint, self.role(position)))
    }

    /// The same to share with a task that outlives the use of this pool, and how they are dialled.
    pub const fn shared(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// Whether one of the endpoints drains, and gets no new connections.
    pub fn has_draining(&self) -> bool {
        self.roles.iter().any(|role| role.drains())
    }

    /// Whether all of them drain.
    pub fn is_draining(&self) -> bool {
        self.has_draining() && self.roles.iter().all(|role| role.drains())
    }

    /// The proxy through which all of them are reached, if there is one.
    pub fn via(&self) -> Option<&Arc<Via>> {
        self.endpoints().first()?.via()
    }

    /// The same if that proxy gets the addresses of the endpoints.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        self.endpoints().first()?.proxy()
    }

    /// The names that clients asked for, if the backend has an endpoint `{server_name}`.
    pub fn names(&self) -> Option<&Asked> {
        self.endpoints().first()?.names()
    }

    /// Whether one of the endpoints is at this address, or has this port and no address yet.
    pub fn may_have(&self, address: SocketAddr) -> bool {
        let mut endpoints = self.endpoints().iter();
        endpoints.any(|endpoint| endpoint.may_be_at(address))
    }

    /// Every address of every endpoint, in the order in which `client` is to try them, as
    /// [`candidates_of`](Self::candidates_of) has them.
    pub fn candidates(&self, client: IpAddr, now: Instant) -> Vec<Candidate> {
        self.candidates_of(self.endpoints(), client, now)
    }

    /// Every address of these endpoints, in the order in which `client` (a canonical address) is to try
    /// them: those in use as the balance says, then those in health of a family that is not in use, then those of
    /// backups in health, then those whose last dial failed, soonest end of penalty first. Health orders the
    /// candidates, it never forbids one. If no other endpoint has an address in health, backups are in use like others.
    ///
    /// An address whose penalty is over comes first for one client at a time, and last for all others. With
    /// `source_hash` that client is one that the hash gives to this address.
    ///
    /// The list is empty if no endpoint has an address, or all of them drain.
    pub fn candidates_of(
        &self,
        endpoints: &[Arc<Endpoint>],
        client: IpAddr,
        now: Instant,
    ) -> Vec<Candidate> {
        let count = endpoints.iter().map(|it| it.addresses().len()).sum();
        let mut candidates = Vec::with_capacity(count);
        let has_backups = self.roles.iter().any(|role| role.is_backup);
        let needs_no_backup = has_backups && self.has_others(endpoints);
        let is_weighted = self.is_weighted();
        for (position, endpoint) in endpoints.iter().enumerate() {
            let role = self.role(position);
            if role.drains() {
                continue;
            }
            let addresses = endpoint.addresses();
            let families = endpoint.families(&addresses, now);
            let in_common = InCommon {
                families,
                is_reserve: role.is_backup && needs_no_backup,
            };
            let chosen = self.place_of_endpoint(client, endpoint, role);
            for address in addresses.iter() {
                let rank = if is_weighted && self.balance != Balance::SourceHash {
                    let alike = addresses.iter().filter(|it| it.is_beside(address)).count();
                    let (load, random) =
                        self.weighted_rank(address, candidates.len(), role.weight_of_one(alike));
                    (load | self.held_back(address, now), random)
                } else {
                    (chosen, self.rank(client, address, candidates.len(), now))
                };
                candidates.push(Candidate {
                    rank,
                    turn: Turn::of(address, in_common, now),
                    trial: None,
                    address: Arc::clone(address),
                    endpoint: Arc::clone(endpoint),
                });
            }
        }
        if candidates.len() > 1 {
            let is_on_backups = has_backups && !needs_no_backup;
            self.arrange(&mut candidates, is_on_backups, now);
        }
        candidates
    }

    /// The role of an endpoint. A name that a client asked for has that of the endpoint that was written.
    fn role(&self, position: usize) -> Role {
        self.roles.get(position).copied().unwrap_or_default()
    }

    /// The endpoints that take new connections.
    pub fn takers(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        let endpoints = self.endpoints().iter().enumerate();
        endpoints
            .filter_map(|(position, endpoint)| (!self.role(position).drains()).then_some(endpoint))
    }

    fn is_weighted(&self) -> bool {
        self.roles.iter().any(|role| role.weight.is_some())
    }

    /// Whether an endpoint that is not a backup has an address in health.
    fn has_others(&self, endpoints: &[Arc<Endpoint>]) -> bool {
        let mut others = endpoints.iter().enumerate().filter(|(position, _)| {
            let role = self.role(*position);
            !role.is_backup && !role.drains()
        });
        let is_available = |(_, endpoint): (usize, &Arc<Endpoint>)| {
            let addresses = endpoint.addresses();
            addresses.iter().any(|address| address.is_healthy())
        };
        others.any(is_available)
    }

    /// The place of an endpoint, lowest first, if the balance chooses the endpoint before its address.
    fn place_of_endpoint(&self, client: IpAddr, endpoint: &Endpoint, role: Role) -> u64 {
        match self.balance {
            Balance::SourceHash => {
                let hash = source_hash::weight(client, endpoint.name());
                if self.is_weighted() {
                    weighted::by_word(hash, f64::from(role.weight.unwrap_or(1)))
                } else {
                    !hash
                }
            }
            Balance::LeastConnections | Balance::RoundRobin | Balance::Random => 0,
        }
    }

    /// The highest bit of the place of an address that clients pass over for now.
    fn held_back(&self, address: &Address, now: Instant) -> u64 {
        let passes_over = self.balance == Balance::LeastConnections && address.is_held_back(now);
        u64::from(passes_over) << 63
    }

    /// The place of an address among those in use, lowest first.
    fn rank(&self, client: IpAddr, address: &Address, position: usize, now: Instant) -> u64 {
        match self.balance {
            Balance::LeastConnections => {
                self.held_back(address, now)
                    | u64::from(address.connections()) << 32
                    | u64::from(fastrand::u32(..))
            }
            Balance::RoundRobin => position as u64,
            Balance::Random => fastrand::u64(..),
            Balance::SourceHash => !source_hash::weight(client, address.text()),
        }
    }

    /// The same for an address with a weight.
    fn weighted_rank(&self, address: &Address, position: usize, weight: f64) -> Rank {
        let random = || weighted::by_word(fastrand::u64(..), weight);
        match self.balance {
            Balance::LeastConnections => {
                let load = weighted::by_connections(address.connections(), weight);
                (load, random())
            }
            // `arrange` needs the weight again.
            Balance::RoundRobin => (position as u64, weight.to_bits()),
            Balance::Random | Balance::SourceHash => (0, random()),
        }
    }

    fn arrange(&self, candidates: &mut [Candidate], is_on_backups: bool, now: Instant) {
        candidates.sort_unstable_by_key(|candidate| (candidate.turn, candidate.rank));
        let best = candidates.first().map(|candidate| candidate.turn);
        if let (Balance::RoundRobin, Some(best)) = (self.balance, best) {
            // Only the best addresses take turns, so that those in use share the load of a failed one equally.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let count = candidates.partition_point(|candidate| candidate.turn == best);
            let alike = candidates.split_at_mut(count).0;
            let first = if self.is_weighted() {
                let weights = alike.iter().map(|it| f64::from_bits(it.rank.1));
                weighted::in_turn(turn, weights)
            } else {
                turn % alike.len()
            };
            alike.rotate_left(first);
        }
        // The place of a backup says nothing about whose client this is.
        let is_by_hash = self.balance == Balance::SourceHash && !is_on_backups;
        put_trial_first(candidates, is_by_hash, now);
    }
}

/// Puts an address first whose penalty is over, if this client gets its trial. With a choice by hash, it does only if
/// the hash gives it no better address.
fn put_trial_first(candidates: &mut [Candidate], is_by_hash: bool, now: Instant) {
    let best = candidates.first();
    let best = best.filter(|candidate| candidate.turn == Turn::InUse);
    let limit = best.filter(|_| is_by_hash);
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
        Turn::InUse | Turn::Standby | Turn::Reserve | Turn::ReserveStandby => false,
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
