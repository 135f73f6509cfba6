//! The addresses of a backend's endpoints in the running process, for `portway explain`.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::backend::Endpoint;
use crate::outcome::{AddressState, ResolveFailure};
use crate::snapshot::Snapshot;

/// The most addresses in one answer, and the most endpoints without an address; the rest are counted.
const MOST: usize = 1000;
/// Characters of a resolver's error.
const LONGEST_ERROR: usize = 200;

/// The addresses of a backend's endpoints, in the order of the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddresses {
    /// The generation that they belong to.
    pub generation: u64,
    /// The addresses that portway dials.
    pub addresses: Vec<KnownAddress>,
    /// The endpoints that have no address, and those whose last look-up has failed and which keep older ones.
    pub unresolved: Vec<Unaddressed>,
    /// How many more addresses and endpoints there are.
    pub not_shown: usize,
}

/// One address of an endpoint.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    /// `host:port` of the endpoint as in routes.toml.
    pub endpoint: String,
    /// Where portway dials.
    pub address: SocketAddr,
    /// Its state.
    pub state: AddressState,
    /// The connections of this relay to the address, dials under way included.
    pub connections: u32,
}

/// An endpoint that has no address, or only those of an older look-up, and why.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unaddressed {
    /// `host:port` of the endpoint as in routes.toml.
    pub endpoint: String,
    /// The kind of it.
    pub reason: ResolveFailure,
    /// The address that must not be dialled, if that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// The words of the resolver, if that is the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl KnownAddresses {
    /// The addresses of a backend of this snapshot; empty if it has no such backend.
    pub(super) fn of(snapshot: &Snapshot, backend: &str) -> Self {
        let mut known = Self {
            generation: snapshot.generation,
            ..Self::default()
        };
        let backends = snapshot.backends.iter();
        let pools = backends.map(|backend| &backend.pool);
        for pool in pools.filter(|pool| **pool.name() == *backend) {
            let proxy = pool.proxy().map(|proxy| proxy.endpoint());
            for endpoint in pool.endpoints().iter().chain(proxy) {
                known.add(endpoint);
            }
        }
        known
    }

    fn add(&mut self, endpoint: &Endpoint) {
        if endpoint.names().is_some() {
            // It has as many addresses as clients ask for names. Where a proxy resolves these, it has those of the proxy.
            return;
        }
        let states = endpoint.states(Instant::now());
        let room = MOST.saturating_sub(self.addresses.len());
        self.not_shown += states.len().saturating_sub(room);
        let shown = states.iter().take(room);
        self.addresses
            .extend(shown.map(|(address, state)| KnownAddress {
                endpoint: endpoint.name().to_string(),
                address: address.at(),
                state: *state,
                connections: address.connections(),
            }));
        match endpoint.unresolved() {
            None if !states.is_empty() => {}
            Some(why) if self.unresolved.len() < MOST => self.unresolved.push(Unaddressed {
                endpoint: endpoint.name().to_string(),
                reason: why.reason,
                address: why.address,
                error: (why.error.as_deref())
                    .map(|error| error.chars().take(LONGEST_ERROR).collect()),
            }),
            // It has got its first address just now, or there is no room.
            _ if states.is_empty() => self.not_shown += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::backend::{Target, Unresolved};
    use crate::telemetry::Registry;

    #[test]
    fn an_answer_is_bounded_and_counts_the_rest() {
        let registry = Registry::new();
        let mut known = KnownAddresses::default();
        let mut add = |target: Target, why: Option<Unresolved>| {
            let stats = registry.endpoint("fleet", &target.to_string());
            let endpoint = Endpoint::new(target, stats, Instant::now());
            if let Some(why) = why {
                endpoint.set_unresolved(why);
            }
            known.add(&endpoint);
        };
        for port in 1..=1007 {
            add(Target::Address(([10, 0, 0, 7], port).into()), None);
            let host = "fleet.internal".into();
            let why = Unresolved::failed("x".repeat(70_000).into());
            add(Target::Name { host, port }, Some(why));
        }
        assert_eq!(
            (known.addresses.len(), known.unresolved.len()),
            (1000, 1000)
        );
        assert_eq!(known.not_shown, 14);
        let bytes = serde_json::to_string(&known).unwrap();
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let read: KnownAddresses = serde_json::from_str(&bytes).unwrap();
        assert_eq!(read, known);
    }
}
