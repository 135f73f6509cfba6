//! Candidates of a backend with `via` that need no attempt any more.

use std::net::SocketAddr;
use std::sync::Arc;

use super::attempt::Failure;
use crate::backend::{Candidate, Endpoint, Way};

/// Candidates of a backend with `via` that a failed attempt makes useless for the same client.
pub(super) enum RuledOut {
    /// A refusal holds at every address of the proxy. This is the address of the endpoint in memory, only to tell it
    /// from the others.
    Endpoint(*const Endpoint),
    /// An address of the proxy that cannot be reached leads to no endpoint.
    Proxy(SocketAddr),
    /// None of the addresses of the proxy can be reached.
    All,
}

impl RuledOut {
    pub(super) fn by(failure: &Failure, candidate: &Candidate) -> Option<Self> {
        match (failure, candidate.endpoint.way()) {
            (Failure::Proxy, Way::ByAddress(_)) => Some(Self::All),
            (Failure::Proxy, _) => Some(Self::Proxy(candidate.address.at())),
            (Failure::Refused(_), Way::ByName(_)) => {
                Some(Self::Endpoint(Arc::as_ptr(&candidate.endpoint)))
            }
            // A proxy that refuses an address may reach another one.
            (
                Failure::Refused(_)
                | Failure::Untried
                | Failure::Crowded(_)
                | Failure::Local(_)
                | Failure::Endpoint,
                _,
            ) => None,
        }
    }

    pub(super) fn concerns(&self, candidate: &Candidate) -> bool {
        match self {
            Self::Endpoint(endpoint) => *endpoint == Arc::as_ptr(&candidate.endpoint),
            Self::Proxy(address) => *address == candidate.address.at(),
            Self::All => true,
        }
    }
}
