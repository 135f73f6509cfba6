//! Fills the status in: from the snapshot, its counters, and its endpoints.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, getrlimit};
use strum::VariantArray;

use super::backends::Room;
use super::descriptors::Descriptors;
use super::rates::Measured;
use super::{Current, Relay};
use crate::outcome::{Limit, Outcome};
use crate::snapshot::{self, ListenerId};
use crate::status::{LimitUse, Listener, Refused, Route, Status, Totals};
use crate::telemetry::{Endings, Time, list};
use crate::tls::ServerName;

/// The most of each kind of thing in one answer; the rest is counted.
const MOST: usize = 1000;
/// Patterns of a route.
const PATTERNS: usize = 10;
/// Refusals for which the nearest name is looked for: it takes long.
const NEAREST: usize = 50;

/// A status to fill in.
pub(super) struct Collected<'c> {
    pub(super) status: &'c mut Status,
    pub(super) relay: &'c Relay,
    pub(super) current: &'c Current,
    pub(super) rates: &'c Measured,
    pub(super) descriptors: &'c Descriptors,
}

impl Collected<'_> {
    pub(super) fn fill(self) {
        let Current {
            snapshot,
            file,
            hash,
            loaded,
            ..
        } = self.current;
        let listeners = self.listeners();
        let totals = self.totals(&listeners);
        let limits = self.limits();
        let status = self.status;
        status.pid = std::process::id();
        status.rate_window_s = rounded(self.rates.seconds);
        let configuration = &mut status.configuration;
        configuration.file.clone_from(file);
        configuration.generation = snapshot.generation;
        configuration.hash = format!("{hash:08x}");
        configuration.loaded = Time(*loaded).to_string();
        status.totals = totals;
        status.limits = limits;
        (status.listeners, status.listeners_not_shown) = bounded(listeners);
        let routes = snapshot.routes.routes().iter().enumerate();
        let routes = routes.map(|(position, it)| route(snapshot, self.rates, position, it));
        (status.routes, status.routes_not_shown) = bounded(routes.collect());
        // Endpoints and addresses are bounded over all backends.
        let mut room = Room::new(MOST);
        let backends = snapshot.backends.iter().enumerate();
        let shown = backends.take(MOST).map(|(position, it)| {
            let rates = self.rates.backends.get(position).copied();
            room.backend(snapshot, position, it, rates.unwrap_or_default())
        });
        status.backends = shown.collect();
        status.backends_not_shown = snapshot.backends.len().saturating_sub(MOST);
        for refused in status.refused.iter_mut().take(NEAREST) {
            refused.nearest = nearest(snapshot, refused);
        }
    }

    fn listeners(&self) -> Vec<Listener> {
        let snapshot = &self.current.snapshot;
        let mut addresses: HashMap<u32, Vec<SocketAddr>> = HashMap::new();
        for (id, address) in &self.current.addresses {
            if let Some((ListenerId(position), _)) = snapshot.addresses.get(id) {
                addresses.entry(*position).or_default().push(*address);
            }
        }
        let listeners = snapshot.listeners.iter().zip(0..);
        let listeners = listeners.zip(&self.rates.listeners);
        let listeners = listeners.map(|((listener, position), rates)| {
            // Read those that have ended before those that were accepted.
            let to_backends = listener.backend_endings.values();
            let to_backends: u64 = to_backends.map(|endings| endings.ended()).sum();
            let ended = listener.endings.ended() + to_backends;
            let accepted = listener.stats.accepted.get();
            Listener {
                name: listener.name.to_string(),
                protocol: listener.protocol.name().to_owned(),
                addresses: addresses.remove(&position).unwrap_or_default(),
                connections: accepted.saturating_sub(ended),
                accepted,
                connections_per_s: rates.connections_per_s,
                outcomes: outcomes([&listener.endings]),
            }
        });
        listeners.collect()
    }

    fn totals(&self, listeners: &[Listener]) -> Totals {
        let snapshot = &self.current.snapshot;
        let endings = snapshot.listeners.iter().flat_map(|listener| {
            let to_backends = listener.backend_endings.values();
            to_backends.chain([&listener.endings])
        });
        Totals {
            connections: self.relay.admission.connections() as u64,
            pending: self.relay.admission.pending() as u64,
            accepted: listeners.iter().map(|listener| listener.accepted).sum(),
            outcomes: outcomes(endings),
            rates: self.rates.total,
        }
    }

    fn limits(&self) -> Vec<LimitUse> {
        let admission = &self.relay.admission;
        let bounds = admission.bounds();
        let limits = Limit::VARIANTS.iter().map(|&limit| {
            let used = match limit {
                Limit::MaxConnections => Some(admission.connections() as u64),
                Limit::MaxPendingConnections => Some(admission.pending() as u64),
                Limit::MaxPendingPerClient
                | Limit::MaxConnectionsPerClient
                | Limit::AcceptRate
                | Limit::AcceptRatePerClient => None,
            };
            let value = bounds.get(limit);
            LimitUse {
                name: limit.name().to_owned(),
                used,
                limit: value,
                near: is_near(used, value) || self.rates.rejections[limit] > 0,
                rejected: self.relay.registry.limits().rejections(limit),
            }
        });
        let most = getrlimit(Resource::Nofile).current;
        // They are only listed if one is left for that.
        let used = self.descriptors.count().or(most);
        let descriptors = LimitUse {
            name: "descriptors".to_owned(),
            used,
            limit: most,
            near: is_near(used, most),
            rejected: 0,
        };
        limits.chain([descriptors]).collect()
    }
}

fn route(
    snapshot: &snapshot::Snapshot,
    rates: &Measured,
    position: usize,
    route: &crate::routing::Route,
) -> Route {
    let backend = snapshot.backends.get(route.backend);
    let connections = snapshot.route_connections.get(position);
    Route {
        name: route.name.to_string(),
        server_names: list(&route.server_names, PATTERNS),
        no_server_name: route.no_server_name,
        backend: backend.map_or_else(String::new, |it| it.pool.name().to_string()),
        connections: connections.map_or(0, |counter| counter.get()),
        connections_per_s: rates.routes.get(position).copied().unwrap_or_default(),
    }
}

/// The name or pattern of a route that was probably meant.
fn nearest(snapshot: &snapshot::Snapshot, refused: &Refused) -> Option<String> {
    let is_unrouted = [Outcome::NoRoute, Outcome::TargetDenied]
        .iter()
        .any(|outcome| outcome.name() == refused.outcome);
    let name = refused.name.as_deref().filter(|_| is_unrouted)?;
    let name = ServerName::parse(name.as_bytes()).ok()?;
    snapshot.routes.nearest(&name).map(ToString::to_string)
}

/// The counts by outcome, without zeros.
pub(super) fn outcomes<'e>(
    endings: impl IntoIterator<Item = &'e Arc<Endings>>,
) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for endings in endings {
        for &outcome in Outcome::VARIANTS {
            let count = endings.ended_as(outcome);
            if count > 0 {
                *counts.entry(outcome.name().to_owned()).or_default() += count;
            }
        }
    }
    counts
}

fn bounded<T>(mut things: Vec<T>) -> (Vec<T>, usize) {
    let left_out = things.len().saturating_sub(MOST);
    things.truncate(MOST);
    (things, left_out)
}

/// Whether 80 % of a limit are in use.
fn is_near(used: Option<u64>, limit: Option<u64>) -> bool {
    let (Some(used), Some(limit)) = (used, limit) else {
        return false;
    };
    used.saturating_mul(5) >= limit.saturating_mul(4)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a time of about a minute"
)]
fn rounded(seconds: f64) -> u64 {
    seconds.round() as u64
}
