//! One endpoint: its addresses and its connections. It outlives reloads, so that its state is not lost.

mod checked;
mod in_use;
mod unresolved;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;

use super::addresses::{Addresses, Families};
use super::{Address, Asked, Proxy, Target, Via, Way};
use crate::outcome::AddressState;
use crate::telemetry::{EndpointFigures, EndpointStats};
pub use in_use::InUse;
pub use unresolved::Unresolved;

/// One endpoint of a backend, shared by all workers and by the snapshots before and after a reload.
#[derive(Debug)]
pub struct Endpoint {
    target: Target,
    way: Way,
    name: Arc<str>,
    addresses: Addresses,
    unresolved: ArcSwapOption<Unresolved>,
    /// The connections of this relay, including those to addresses that it no longer has.
    connections: AtomicU32,
    stats: Arc<EndpointStats>,
    /// Whether control checks its addresses.
    is_checked: AtomicBool,
    /// Whether these checks ask for certificates.
    shows_certificates: AtomicBool,
    /// Whether the configuration in force does not have it any more.
    is_removed: AtomicBool,
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
        Self::reached(Way::Direct, target, stats, now)
    }

    /// The same for an endpoint that is reached in this way.
    pub fn reached(way: Way, target: Target, stats: Arc<EndpointStats>, now: Instant) -> Arc<Self> {
        // A proxy that gets names resolves those of clients too.
        let is_looked_up = !matches!(way, Way::ByName(_)) && target.is_asked();
        let names = is_looked_up.then(|| Box::new(Asked::new(way.clone(), Arc::clone(&stats))));
        let endpoint = Arc::new(Self {
            names,
            ..Self::unshown(way, target, stats, now)
        });
        endpoint.show();
        endpoint
    }

    /// Makes its series show it, before others that have them too: those of the same name that are reached in
    /// another way, as long as they have connections.
    pub fn show(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        let figures = move || this.upgrade().map(|it| it.figures(Instant::now()));
        self.stats.show(Arc::as_ptr(self).addr(), figures);
    }

    /// The endpoint of a name that a client asked for. Its connections count among the `written` ones too, and it
    /// has no series of its own.
    pub(super) fn of_name(
        (way, target): (Way, Target),
        stats: Arc<EndpointStats>,
        written: Arc<AtomicU32>,
        now: Instant,
    ) -> Arc<Self> {
        Arc::new(Self {
            written: Some(written),
            ..Self::unshown(way, target, stats, now)
        })
    }

    fn unshown(way: Way, target: Target, stats: Arc<EndpointStats>, now: Instant) -> Self {
        let (first, unresolved) = match dialled(&way, &target) {
            Target::Address(address) => (Some(*address), None),
            Target::Name { .. } => (None, Some(Arc::new(Unresolved::not_yet()))),
            Target::Asked { .. } => (None, None),
        };
        Self {
            name: match &way {
                Way::ToProxy(via) => Arc::clone(via.name()),
                Way::Direct | Way::ByName(_) | Way::ByAddress(_) => target.to_string().into(),
            },
            target,
            way,
            addresses: Addresses::new(first, now),
            unresolved: ArcSwapOption::new(unresolved),
            connections: AtomicU32::new(0),
            stats,
            is_checked: AtomicBool::new(false),
            shows_certificates: AtomicBool::new(false),
            is_removed: AtomicBool::new(false),
            stale: Notify::new(),
            names: None,
            written: None,
        }
    }

    /// The names that clients asked for, if it is written `{server_name}` and portway resolves them.
    pub fn names(&self) -> Option<&Asked> {
        self.names.as_deref()
    }

    /// Whether routes.toml has it, and not a client asked for its name.
    pub const fn is_written(&self) -> bool {
        self.written.is_none()
    }

    /// The endpoint as written in routes.toml.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// How it is reached.
    pub const fn way(&self) -> &Way {
        &self.way
    }

    /// The proxy through which it is reached, or that it is.
    pub fn via(&self) -> Option<&Arc<Via>> {
        self.way.via()
    }

    /// The proxy that gets its addresses, if there is one.
    pub fn proxy(&self) -> Option<&Arc<Proxy>> {
        match &self.way {
            Way::ByAddress(proxy) => Some(proxy),
            Way::Direct | Way::ByName(_) | Way::ToProxy(_) => None,
        }
    }

    /// Whether a connection to one of its addresses is one to it, and no tunnel is needed.
    pub const fn is_dialled_itself(&self) -> bool {
        matches!(self.way, Way::Direct | Way::ToProxy(_))
    }

    /// Whether its addresses are those of the proxy.
    pub const fn is_at_proxy(&self) -> bool {
        matches!(self.way, Way::ByName(_) | Way::ToProxy(_))
    }

    /// The place whose addresses it has: its own, or that of the proxy.
    pub fn dialled(&self) -> &Target {
        dialled(&self.way, &self.target)
    }

    /// Whether it is at this address, or may be because it has this port and no address yet. A name that a proxy
    /// resolves is at no address that portway knows.
    pub fn may_be_at(&self, address: SocketAddr) -> bool {
        match (&self.way, &self.target) {
            (Way::Direct | Way::ByAddress(_) | Way::ToProxy(_), target) => {
                let addresses = self.addresses();
                let is_unknown = self.names.is_none()
                    && addresses.is_empty()
                    && target.port() == Some(address.port());
                is_unknown || addresses.iter().any(|one| one.at() == address)
            }
            (Way::ByName(_), Target::Address(own)) => *own == address,
            (Way::ByName(_), Target::Name { .. } | Target::Asked { .. }) => false,
        }
    }

    /// `host:port` as in routes.toml, or the URL of a proxy: the label, the log value, and half of what identifies
    /// the endpoint over reloads (the backend is the other).
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The addresses in the order of the resolver; empty while unresolved.
    pub fn addresses(&self) -> Arc<Vec<Arc<Address>>> {
        self.addresses.current()
    }

    /// The families of these addresses.
    pub(super) fn families(&self, addresses: &[Arc<Address>], now: Instant) -> Families {
        self.addresses.families(addresses, now)
    }

    /// Whether it has an address of the other family that may be in reach of this machine.
    pub fn may_use_other_family(&self, address: &Address) -> bool {
        let addresses = self.addresses();
        let mut others = addresses.iter().filter(|it| !it.is_beside(address));
        others.any(|other| !other.standing().is_out_of_reach())
    }

    /// The addresses with their states, in the order of the resolver.
    pub fn states(&self, now: Instant) -> Vec<(Arc<Address>, AddressState)> {
        let addresses = self.addresses();
        let families = self.families(&addresses, now);
        let states = addresses.iter();
        let states = states.map(|address| (Arc::clone(address), families.state(address)));
        states.collect()
    }

    /// Notes whether the configuration in force has left it out.
    pub fn remove(&self, is_removed: bool) {
        self.is_removed.store(is_removed, Ordering::Relaxed);
    }

    /// Whether the configuration in force does not have it any more.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
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

    /// Notes that its addresses are those of another answer of the resolver, and not what a reload has left of one, or
    /// those of an older look-up.
    pub fn note_answer(&self) {
        self.addresses.answered();
        if !self.addresses().is_empty() {
            self.unresolved.store(None);
        }
    }

    /// Why it has no address, or why the last look-up of its name has failed, if it keeps the addresses of the one before.
    pub fn unresolved(&self) -> Option<Arc<Unresolved>> {
        self.unresolved.load_full()
    }

    /// Stores why it has no address, or none of a new look-up. Control calls this before it removes the last address.
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

    /// Notes that the proxy refused to reach it at this address. If the proxy got its name, that says nothing about the
    /// addresses of the proxy, and it goes last for a while at each of them.
    pub fn refused(&self, address: &Address, now: Instant) {
        if !matches!(self.way, Way::ByName(_)) {
            return self.failed(address, now);
        }
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

    fn figures(&self, now: Instant) -> EndpointFigures {
        let mut figures = EndpointFigures {
            connections: self.connections(),
            is_resolved: !matches!(self.dialled(), Target::Address(_)),
            is_removed: self.is_removed(),
            ..EndpointFigures::default()
        };
        if self.is_checked() {
            let addresses = self.addresses();
            figures.is_healthy = Some(addresses.iter().any(|one| one.is_healthy()));
            let presented = addresses.iter().filter_map(|one| one.presented());
            figures.certificate_not_after = presented.filter_map(|it| it.not_after()).min();
        }
        let names = self.names().map(Asked::endpoints).unwrap_or_default();
        let states = names.iter().flat_map(|endpoint| endpoint.states(now));
        for (_, state) in self.states(now).into_iter().chain(states) {
            figures.addresses[state] += 1;
        }
        figures
    }
}

/// The place whose addresses an endpoint has.
fn dialled<'e>(way: &'e Way, target: &'e Target) -> &'e Target {
    match way {
        Way::ByName(via) => via.proxy(),
        Way::Direct | Way::ByAddress(_) | Way::ToProxy(_) => target,
    }
}
