//! One endpoint: its addresses and its connections. It outlives reloads, so that its state is not lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::addresses::{Addresses, Families};
use super::{Address, Asked, Target, Via};
use crate::outcome::{AddressState, ResolveFailure};
use crate::telemetry::{EndpointFigures, EndpointStats};

/// One endpoint of a backend, shared by all workers and by the snapshots before and after a reload.
#[derive(Debug)]
pub struct Endpoint {
    target: Target,
    /// The proxy that is dialled in its place.
    via: Option<Arc<Via>>,
    name: Arc<str>,
    addresses: Addresses,
    unresolved: ArcSwapOption<Unresolved>,
    /// The connections of this relay, including those to addresses that it no longer has.
    connections: AtomicU32,
    stats: Arc<EndpointStats>,
    stale: Notify,
    /// The names that clients asked for, if it is written `{server_name}` and portway resolves them.
    names: Option<Box<Asked>>,
    /// The connections of the endpoint that was written, if this is a name that a client asked for.
    written: Option<Arc<AtomicU32>>,
}

impl Endpoint {
    /// An endpoint that is dialled itself, without a known state, which `stats` shows from now on. An address is
    /// dialled as it is; a name has no address until control has resolved it. `now` is the origin of its clock.
    pub fn new(target: Target, stats: Arc<EndpointStats>, now: Instant) -> Arc<Self> {
        Self::behind(None, target, stats, now)
    }

    /// The same behind a proxy, if there is one. Its addresses are then those of the proxy.
    pub fn behind(
        via: Option<Arc<Via>>,
        target: Target,
        stats: Arc<EndpointStats>,
        now: Instant,
    ) -> Arc<Self> {
        // The proxy resolves the names of clients too.
        let is_looked_up = via.is_none() && target.is_asked();
        let names = is_looked_up.then(|| Box::new(Asked::new(Arc::clone(&stats))));
        let endpoint = Arc::new(Self {
            names,
            ..Self::unshown(via, target, stats, now)
        });
        endpoint.show();
        endpoint
    }

    /// Makes its series show it, before others that have them too: those of the same name that are reached in
    /// another way, as long as they have connections.
    pub fn show(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        let figures = move || this.upgrade().map(|it| it.figures());
        self.stats.show(Arc::as_ptr(self).addr(), figures);
    }

    /// The endpoint of a name that a client asked for. Its connections count among the `written` ones too, and it
    /// has no series of its own.
    pub(super) fn of_name(
        target: Target,
        stats: Arc<EndpointStats>,
        written: Arc<AtomicU32>,
        now: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            written: Some(written),
            ..Self::unshown(None, target, stats, now)
        })
    }

    fn unshown(
        via: Option<Arc<Via>>,
        target: Target,
        stats: Arc<EndpointStats>,
        now: Instant,
    ) -> Self {
        let dialled = via.as_deref().map_or(&target, Via::proxy);
        let (first, unresolved) = match dialled {
            Target::Address(address) => (Some(*address), None),
            Target::Name { .. } => (None, Some(Arc::new(Unresolved::not_yet()))),
            Target::Asked { .. } => (None, None),
        };
        Self {
            name: target.to_string().into(),
            target,
            via,
            addresses: Addresses::new(first, now),
            unresolved: ArcSwapOption::new(unresolved),
            connections: AtomicU32::new(0),
            stats,
            stale: Notify::new(),
            names: None,
            written: None,
        }
    }

    /// The names that clients asked for, if it is written `{server_name}` and portway resolves them.
    pub fn names(&self) -> Option<&Asked> {
        self.names.as_deref()
    }

    /// The endpoint as written in routes.toml.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The proxy through which it is reached, if there is one.
    pub const fn via(&self) -> Option<&Arc<Via>> {
        self.via.as_ref()
    }

    /// The place whose addresses are dialled: its own, or that of the proxy.
    pub fn dialled(&self) -> &Target {
        self.via.as_deref().map_or(&self.target, Via::proxy)
    }

    /// Whether it is at this address, or may be because it has this port and no address yet. A name behind a proxy is at
    /// no address that portway knows.
    pub fn may_be_at(&self, address: SocketAddr) -> bool {
        match (&self.via, &self.target) {
            (None, target) => {
                let addresses = self.addresses();
                let is_unknown = self.names.is_none()
                    && addresses.is_empty()
                    && target.port() == Some(address.port());
                is_unknown || addresses.iter().any(|one| one.at() == address)
            }
            (Some(_), Target::Address(own)) => *own == address,
            (Some(_), Target::Name { .. } | Target::Asked { .. }) => false,
        }
    }

    /// `host:port` as in routes.toml: the label, the log value, and half of what identifies the
    /// endpoint over reloads (the backend is the other).
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The addresses in the order of the resolver; empty while unresolved.
    pub fn addresses(&self) -> Arc<Vec<Arc<Address>>> {
        self.addresses.current()
    }

    /// The addresses with their states, in the order of the resolver.
    pub fn states(&self) -> Vec<(Arc<Address>, AddressState)> {
        let addresses = self.addresses();
        let families = Families::of(&addresses);
        let states = addresses.iter();
        let states = states.map(|address| (Arc::clone(address), families.state(address)));
        states.collect()
    }

    /// Its counters.
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Takes new addresses from control, each of them once. Those that stay keep their state.
    /// Attempts and connections to others go on.
    pub fn set_addresses(&self, addresses: &[SocketAddr]) {
        self.addresses.set(addresses);
        if !addresses.is_empty() {
            self.unresolved.store(None);
        }
    }

    /// Why it has no address, if it has none.
    pub fn unresolved(&self) -> Option<Arc<Unresolved>> {
        self.unresolved.load_full()
    }

    /// Stores why it has no address. Control calls this before it removes the last address.
    pub fn set_unresolved(&self, why: Unresolved) {
        self.unresolved.store(Some(Arc::new(why)));
    }

    /// Notes that a dial of an address failed for a reason on the endpoint's side: the address goes last
    /// for a while, and control looks the name up again. Do not call it if this machine had no local port or
    /// descriptor left, which says nothing about the endpoint.
    pub fn failed(&self, address: &Address, now: Instant) {
        address.failed(now);
        self.stale.notify_one();
    }

    /// Notes that the proxy refused to reach it, which says nothing about the addresses of the proxy: it goes last
    /// for a while at each of them.
    pub fn refused(&self, now: Instant) {
        for address in self.addresses().iter() {
            address.failed(now);
        }
    }

    /// Completes after a failed dial: the addresses may be out of date. One failure wakes one
    /// waiter; a failure while nobody waits is kept for the next.
    pub async fn stale(&self) {
        self.stale.notified().await;
    }

    /// Counts a connection to an address, from before its dial (so that a burst spreads) until the guard
    /// is dropped.
    pub fn enter(self: &Arc<Self>, address: &Arc<Address>) -> InUse {
        for connections in self.counters() {
            connections.fetch_add(1, Ordering::Relaxed);
        }
        address.enter();
        InUse {
            endpoint: Arc::clone(self),
            address: Arc::clone(address),
        }
    }

    /// The connections of this relay to the endpoint, and its dials in progress.
    pub fn connections(&self) -> u32 {
        let names = self.names();
        names.map_or_else(
            || self.connections.load(Ordering::Relaxed),
            Asked::connections,
        )
    }

    fn counters(&self) -> impl Iterator<Item = &AtomicU32> {
        [&self.connections]
            .into_iter()
            .chain(self.written.as_deref())
    }

    fn figures(&self) -> EndpointFigures {
        let mut figures = EndpointFigures {
            connections: self.connections(),
            is_resolved: !matches!(self.dialled(), Target::Address(_)),
            ..EndpointFigures::default()
        };
        let names = self.names().map(Asked::endpoints).unwrap_or_default();
        let states = names.iter().flat_map(|endpoint| endpoint.states());
        for (_, state) in self.states().into_iter().chain(states) {
            figures.addresses[state] += 1;
        }
        figures
    }
}

/// Why an endpoint has no address that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The kind of reason.
    pub reason: ResolveFailure,
    /// The address that must not be dialled, if that is the reason.
    pub address: Option<SocketAddr>,
    /// The error of the resolver, if that is the reason.
    pub error: Option<Arc<str>>,
}

impl Unresolved {
    /// The look-up failed.
    pub fn failed(error: Arc<str>) -> Self {
        Self {
            reason: ResolveFailure::Unresolved,
            address: None,
            error: Some(error),
        }
    }

    /// The endpoint leads to an address that must not be dialled.
    pub const fn excluded(reason: ResolveFailure, address: SocketAddr) -> Self {
        Self {
            reason,
            address: Some(address),
            error: None,
        }
    }

    fn not_yet() -> Self {
        Self::failed("the name has not been looked up yet".into())
    }
}

/// A connection that counts for its endpoint and its address.
#[derive(Debug)]
pub struct InUse {
    endpoint: Arc<Endpoint>,
    address: Arc<Address>,
}

impl InUse {
    /// The endpoint that it counts for.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
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
