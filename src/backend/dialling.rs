//! The endpoints of a pool, and how their addresses are dialled.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Endpoint;

/// How the addresses of a backend are dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialling {
    /// The most dials of one address that are in progress at the same time, over all workers.
    pub max_dials: u32,
    /// The addresses of this machine that dials come from. Without one of the family that is dialled, the kernel chooses.
    pub source_addresses: Arc<[IpAddr]>,
}

impl Default for Dialling {
    fn default() -> Self {
        Self {
            max_dials: 512,
            source_addresses: Arc::default(),
        }
    }
}

/// The endpoints of one pool, to share with tasks that outlive the use of the pool.
#[derive(Debug)]
pub struct Endpoints {
    all: Box<[Arc<Endpoint>]>,
    dialling: Dialling,
    /// The turn of the source addresses.
    turn: AtomicUsize,
}

impl Endpoints {
    /// The endpoints may be those of an earlier snapshot.
    pub fn new(all: Vec<Arc<Endpoint>>, dialling: Dialling) -> Self {
        Self {
            all: all.into(),
            dialling,
            turn: AtomicUsize::new(0),
        }
    }

    /// All of them, in the order of routes.toml.
    pub fn all(&self) -> &[Arc<Endpoint>] {
        &self.all
    }

    /// The most dials of one address that are in progress at the same time.
    pub const fn max_dials(&self) -> u32 {
        self.dialling.max_dials
    }

    /// The addresses of this machine to dial an address from, in the order in which they are to be tried: each dial
    /// begins with the next one. There is none if the kernel chooses.
    pub fn sources(&self, address: SocketAddr) -> impl Iterator<Item = IpAddr> {
        let all = self.dialling.source_addresses.iter().copied();
        let family = all.filter(move |source| source.is_ipv4() == address.is_ipv4());
        let count = family.clone().count();
        let turn = match count {
            // One alone takes no turns.
            0 | 1 => 0,
            _ => self.turn.fetch_add(1, Ordering::Relaxed) % count,
        };
        family.cycle().skip(turn).take(count)
    }
}
