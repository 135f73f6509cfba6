//! A connection that counts for an endpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Endpoint;
use crate::backend::{Address, Pool};

/// A connection that counts for its endpoint and its address.
#[derive(Debug)]
pub struct InUse {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) address: Arc<Address>,
}

impl InUse {
    /// The endpoint that it counts for.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Whether the endpoint is gone from routes.toml, or its address from the last three answers of the resolver.
    pub fn is_gone(&self) -> bool {
        self.endpoint.is_removed() || self.address.is_gone()
    }

    /// Whether checks have found the address unhealthy.
    pub fn is_unhealthy(&self) -> bool {
        self.address.standing().is_unhealthy()
    }

    /// Whether checks have found the address unhealthy, as far as the pool has it. If it is reached in another way since, it is
    /// a new value there, and nobody checks the one of this connection any more.
    pub fn is_unhealthy_in(&self, pool: &Pool) -> bool {
        let endpoints = pool.endpoints();
        if endpoints.iter().any(|one| Arc::ptr_eq(one, &self.endpoint)) {
            return self.is_unhealthy();
        }
        let target = self.endpoint.target();
        let mut those = endpoints.iter().filter(|one| one.target() == target);
        those.any(|one| {
            let addresses = one.addresses();
            let mut addresses = addresses.iter().filter(|it| it.at() == self.address.at());
            addresses.any(|address| address.standing().is_unhealthy())
        })
    }

    /// Whether the pool has another healthy address for new connections.
    pub fn has_healthy_others(&self, pool: &Pool) -> bool {
        let is_other = |endpoint: &Endpoint, address: &Address| {
            endpoint.target() != self.endpoint.target() || address.at() != self.address.at()
        };
        let is_better = |endpoint: &Arc<Endpoint>| {
            let addresses = endpoint.addresses();
            let mut addresses = addresses.iter();
            addresses.any(|address| address.is_healthy() && is_other(endpoint, address))
        };
        pool.takers().any(is_better)
    }

    /// Notes that the address answered the client at this time.
    pub fn answered(&self, at: Instant) {
        self.address.answered(at);
    }

    /// The address that it counts for.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Notes that the address connected while one of the other family of its endpoint, which was dialled before, had
    /// not. Returns whether the family in use changes by that.
    pub fn outran(&self, now: Instant) -> bool {
        let is_ipv4 = self.address.at().is_ipv4();
        self.endpoint.stats().resolution().outrun();
        self.endpoint.addresses.prefer(is_ipv4, now)
    }

    /// Notes that the address failed although it could be connected to.
    pub fn blame(&self, now: Instant) {
        self.endpoint.failed(&self.address, now);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        for connections in self.endpoint.counters() {
            connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.address.leave();
    }
}
