//! The way to an endpoint: who connects to it, and who resolves its name.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use super::{Balance, Candidate, Endpoint, Pool, Via};

/// The way to an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// It is dialled itself.
    #[default]
    Direct,
    /// The proxy gets its name, and resolves it. The endpoint has the addresses of the proxy.
    ByName(Arc<Via>),
    /// The proxy gets an address of it. The endpoint has its own addresses, and the proxy is an endpoint beside it.
    ByAddress(Arc<Proxy>),
    /// It is that proxy.
    ToProxy(Arc<Via>),
}

impl Way {
    /// The proxy, if there is one.
    pub fn via(&self) -> Option<&Arc<Via>> {
        match self {
            Self::Direct => None,
            Self::ByName(via) | Self::ToProxy(via) => Some(via),
            Self::ByAddress(proxy) => Some(&proxy.via),
        }
    }
}

/// A proxy that gets the addresses of endpoints, and connects to those.
#[derive(Debug)]
pub struct Proxy {
    via: Arc<Via>,
    endpoint: Arc<Endpoint>,
    pool: Pool,
}

impl Proxy {
    /// The proxy of a backend. `endpoint` is the proxy itself.
    pub fn new(backend: Arc<str>, via: Arc<Via>, endpoint: Arc<Endpoint>) -> Arc<Self> {
        // Connections count for the endpoints behind it, so those of its addresses say nothing.
        let pool = Pool::new(backend, vec![Arc::clone(&endpoint)], Balance::Random);
        Arc::new(Self {
            via,
            endpoint,
            pool,
        })
    }

    /// Its protocol and its URL.
    pub const fn via(&self) -> &Arc<Via> {
        &self.via
    }

    /// The proxy itself, whose addresses are dialled.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Its addresses, in the order in which they are to be tried: those in health at random.
    pub fn candidates(&self, now: Instant) -> Vec<Candidate> {
        self.pool.candidates(IpAddr::V4(Ipv4Addr::UNSPECIFIED), now)
    }
}

/// Two are the same if their state is.
impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.endpoint, &other.endpoint)
    }
}

impl Eq for Proxy {}
