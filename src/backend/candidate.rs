//! An address to try, and its place in the order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::address::{Address, Trial};
use super::addresses::Families;
use super::{Endpoint, Way};

/// The place of an endpoint for a client, if the balance chooses the endpoint first, and the place of an
/// address.
pub(super) type Rank = (u64, u64);

/// The groups of addresses, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// It is healthy, and of the family in use.
    InUse,
    /// It is healthy, and of the other family.
    Standby,
    /// It is healthy, and of a backup that is not needed.
    Reserve,
    /// The same, and of the other family.
    ReserveStandby,
    /// It is not healthy: its last dial failed, or its checks find it unhealthy or out of reach.
    Failed {
        /// Milliseconds for which it is still ranked last.
        penalty: u64,
        /// Whether new connections would not use it even if it were healthy.
        unwanted: bool,
    },
}

/// The part of the order of candidates that the addresses of an endpoint have in common.
#[derive(Clone, Copy)]
pub(super) struct InCommon {
    pub(super) families: Families,
    /// Whether the endpoint is a backup that is not needed.
    pub(super) is_reserve: bool,
}

impl Turn {
    pub(super) fn of(address: &Address, in_common: InCommon, now: Instant) -> Self {
        let InCommon {
            families,
            is_reserve,
        } = in_common;
        match (address.penalty(now), families.use_now(address), is_reserve) {
            (Some(penalty), ..) => Self::Failed {
                penalty,
                unwanted: is_reserve || !families.want(address),
            },
            (None, true, false) => Self::InUse,
            (None, false, false) => Self::Standby,
            (None, true, true) => Self::Reserve,
            (None, false, true) => Self::ReserveStandby,
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
    pub(super) trial: Option<Trial>,
    pub(super) turn: Turn,
    pub(super) rank: Rank,
}

impl Candidate {
    /// Whether a dial of it leads to this address.
    pub fn leads_to(&self, address: SocketAddr) -> bool {
        match self.endpoint.way() {
            Way::Direct | Way::ByAddress(_) | Way::ToProxy(_) => self.address.at() == address,
            Way::ByName(_) => self.endpoint.may_be_at(address),
        }
    }

    /// Whether its last dial failed, or its checks find it unhealthy or out of reach.
    pub const fn has_failed(&self) -> bool {
        matches!(self.turn, Turn::Failed { .. })
    }

    /// Whether the address failed lately and this client tries it again. It may well fail, so do not wait for its
    /// time limit before you dial the next candidate.
    pub const fn on_trial(&self) -> bool {
        self.trial.is_some()
    }
}
