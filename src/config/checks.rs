//! Faults and warnings that only the settings as a whole can show.

mod asked;
mod backends;
mod rates;
mod routes;
mod zones;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::keys;
use super::notes::Notes;
use super::path::Path;
use super::values;
use super::{Backend, Listener, Settings};
use crate::backend::{Target, Via};
use crate::telemetry::metrics::Census;

pub(super) use routes::{Read, routes};

/// Agents check in again within 5 minutes by default; 10 minutes is the next step that policies use.
const CHECK_IN: Duration = Duration::from_mins(11);

/// Most pairs of a listener and a backend that a route joins. Each has its own counters, 1 KiB in memory.
const PAIRS: usize = 50_000;

/// Most series of metrics. The page has some 100 bytes for each, and a scraper stores them all.
const SERIES: usize = 50_000;

const NAME_LISTENERS: &str =
    "write in each route which listeners it is for, or divide the file among several portways";

/// An address that portway listens on.
struct Bound {
    address: SocketAddr,
    path: Path,
}

pub(super) fn settings(settings: &Settings, notes: &mut Notes<'_>) {
    series(settings, notes);
    let bound = bound(settings, notes);
    clashes(&bound, notes);
    loops(settings, &bound, notes);
    for listener in &settings.listeners {
        networks(listener, notes);
        open_proxy(listener, notes);
        everybody_trusted(listener, notes);
    }
    for backend in &settings.backends {
        backends::names(backend, notes);
        backends::networks_behind_a_proxy(backend, notes);
        backends::roles(backend, notes);
        backends::sources(backend, notes);
        backends::header(backend, notes);
        backends::checks(backend, notes);
        zones::dialled(backend, notes);
    }
    unwise(settings, notes);
    rates::come_back(&settings.limits, notes);
}

fn series(settings: &Settings, notes: &mut Notes<'_>) {
    let joins = settings.routes.joins();
    let listeners = settings.listeners.iter();
    // A proxy that gets addresses is an endpoint beside those behind it.
    let endpoints = |backend: &Backend| {
        backend.endpoints.len() + usize::from(backend.addressed_proxy().is_some())
    };
    let names = |backend: &Backend| {
        let is_name = |dialled: &&Target| !matches!(dialled, Target::Address(_));
        let own = backend.endpoints.iter();
        // The look-ups of a proxy that gets names count for each endpoint behind it.
        let dialled = own.map(|own| backend.resolving_proxy().map_or(own, Via::proxy));
        let beside = backend.addressed_proxy().map(Via::proxy);
        dialled.chain(beside).filter(is_name).count()
    };
    let census = Census {
        listeners: settings.listeners.len(),
        pairs: (listeners.map(|listener| joins.count(&listener.name))).sum(),
        routes: settings.routes.routes().len(),
        backends: settings.backends.len(),
        endpoints: settings.backends.iter().map(endpoints).sum(),
        names: settings.backends.iter().map(names).sum(),
        checked: (settings.backends.iter())
            .filter(|backend| backend.checks.is_some())
            .map(|backend| backend.endpoints.len())
            .sum(),
    };
    let pairs = Census {
        pairs: census.pairs,
        ..Census::default()
    };
    let [all, pairs] = [census, pairs].map(|census| census.series());
    if census.pairs > PAIRS {
        notes.fault(
            &Path::of(&["listeners"]),
            format!(
                "the routes join {} pairs of a listener and a backend; {PAIRS} is the most, because \
                 each pair has its own counters",
                census.pairs
            ),
            NAME_LISTENERS,
        );
    } else if all > SERIES {
        let (key, help) = if pairs > all / 2 {
            ("listeners", NAME_LISTENERS)
        } else {
            ("backends", "divide the file among several portways")
        };
        notes.warn(
            &Path::of(&[key]),
            format!(
                "the file makes {all} series of metrics, which cost memory here and at the scraper: \
                 {pairs} for pairs of a listener and a backend that a route joins, {} for the rest",
                all - pairs
            ),
            help,
        );
    }
}

fn bound(settings: &Settings, notes: &Notes<'_>) -> Vec<Bound> {
    let admin = settings.admin.map(|address| Bound {
        address,
        path: Path::of(&["admin", "bind"]),
    });
    let listeners = settings.listeners.iter().flat_map(|listener| {
        let path = Path::of(&["listeners", &listener.name, "bind"]);
        (listener.bind.iter().enumerate()).map(move |(index, address)| Bound {
            address: *address,
            path: notes.element(&path, index),
        })
    });
    admin.into_iter().chain(listeners).collect()
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// The wildcard `[::]`, which takes IPv4 too.
const ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

fn clashes(bound: &[Bound], notes: &mut Notes<'_>) {
    // Each address is entered under itself, and under the wildcards that cover it. It has its zone with it: each
    // interface may have the same link-local address.
    let mut exact: HashMap<SocketAddr, usize> = HashMap::new();
    let mut covered: HashMap<SocketAddr, usize> = HashMap::new();
    for (index, one) in bound.iter().enumerate() {
        let (address, port) = (one.address, one.address.port());
        if port == 0 {
            continue;
        }
        let wildcards = [V4, ANY].into_iter();
        let wildcards = wildcards.filter(|any| covers(*any, address.ip()));
        let wildcards = wildcards.map(|any| SocketAddr::new(any, port));
        let in_the_way = [address].into_iter().chain(wildcards.clone());
        let in_the_way = in_the_way.filter_map(|address| exact.get(&address));
        let first = in_the_way.chain(covered.get(&address)).min();
        if let Some(other) = first.and_then(|first| bound.get(*first)) {
            notes.clash(
                [&one.path, &other.path],
                format!("{address} is in use by {} = {}", other.path, other.address),
                "write another port, or addresses that do not overlap",
            );
        }
        exact.entry(address).or_insert(index);
        for wildcard in wildcards {
            covered.entry(wildcard).or_insert(index);
        }
    }
}

/// Whether a socket bound to the wildcard `one` takes connections to `other`; `[::]` takes IPv4.
fn covers(one: IpAddr, other: IpAddr) -> bool {
    one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

/// Reports endpoints that are portway itself: a connection would come back until no descriptor is left.
fn loops(settings: &Settings, bound: &[Bound], notes: &mut Notes<'_>) {
    let mut own: HashMap<SocketAddr, &Bound> = HashMap::new();
    for one in bound {
        own.entry(one.address).or_insert(one);
    }
    for backend in &settings.backends {
        for (path, dialled) in dialled(backend, notes) {
            let &Target::Address(endpoint) = dialled else {
                continue;
            };
            let ip = endpoint.ip();
            let wildcards = [V4, ANY].into_iter();
            let wildcards = wildcards.filter(|any| ip.is_loopback() && covers(*any, ip));
            let wildcards = wildcards.map(|any| SocketAddr::new(any, endpoint.port()));
            let mut reached = [endpoint].into_iter().chain(wildcards);
            if let Some(own) = reached.find_map(|address| own.get(&address)) {
                let is_proxy = backend.via.as_ref().map(Via::proxy) == Some(dialled);
                let help = if is_proxy {
                    "write the address of the site's proxy"
                } else {
                    "write the address of the server behind portway"
                };
                let message = format!("{endpoint} is portway itself: {}", own.path);
                notes.clash([&path, &own.path], message, help);
            }
        }
    }
}

/// The places whose addresses portway learns to reach a backend, and their paths: the proxy, and the endpoints unless
/// the proxy gets their names. Such a proxy dials others: there, 127.0.0.1 is another machine.
fn dialled<'b>(backend: &'b Backend, notes: &Notes<'_>) -> Vec<(Path, &'b Target)> {
    let path = |key| Path::of(&["backends", &backend.name, key]);
    let proxy = backend.via.iter().map(|via| (path("via"), via.proxy()));
    let list = path("endpoints");
    let is_own = backend.resolving_proxy().is_none();
    let endpoints = backend.endpoints.iter().filter(|_| is_own).enumerate();
    let endpoints = endpoints.map(|(index, endpoint)| (notes.element(&list, index), endpoint));
    proxy.chain(endpoints).collect()
}

fn networks(listener: &Listener, notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["listeners", &listener.name, key]);
    let [allow, deny] = [path("allow_clients"), path("deny_clients")];
    let denied: HashSet<&IpNet> = listener.clients.deny.iter().collect();
    if denied.is_empty() {
        return;
    }
    for allowed in listener.clients.allow.iter() {
        let around = (0..=allowed.prefix_len()).filter_map(|prefix| {
            let network = IpNet::new(allowed.addr(), prefix).ok()?;
            denied.get(&network.trunc()).copied()
        });
        if let Some(denied) = around.min_by_key(|network| network.prefix_len()) {
            notes.clash(
                [&allow, &deny],
                format!("{allowed} is allowed, and denied with {denied}, which wins"),
                "leave it out of one of them",
            );
        }
    }
}

/// A proxy that asks nobody who they are. It leads only to the backends of the routes, but there from anywhere.
fn open_proxy(listener: &Listener, notes: &mut Notes<'_>) {
    let path = |key| Path::of(&["listeners", &listener.name, key]);
    let [allow, users] = [path("allow_clients"), path("credentials_file")];
    let is_open = listener.clients.allow.iter().next().is_none() && listener.users.is_none();
    let is_lost =
        [&allow, &users].iter().any(|key| notes.lost.has(key)) || notes.left.contains_key(&allow);
    if listener.protocol.is_proxy() && is_open && !is_lost {
        notes.warn(
            &path("protocol"),
            "every client that can reach this proxy reaches the servers of the routes through it"
                .to_owned(),
            "write allow_clients with the networks of the agents, or credentials_file with their users",
        );
    }
}

/// A network of balancers that is the whole of a family.
fn everybody_trusted(listener: &Listener, notes: &mut Notes<'_>) {
    let list = Path::of(&["listeners", &listener.name, "proxy_protocol", "trusted"]);
    for (index, network) in listener.balancers.iter().enumerate() {
        if network.prefix_len() == 0 {
            notes.warn(
                &notes.element(&list, index),
                format!("{network} trusts everybody: each client can say that it has any address"),
                "write the addresses of the balancers",
            );
        }
    }
}

fn unwise(settings: &Settings, notes: &mut Notes<'_>) {
    let default = keys::default_of(&["backends", "", "idle_timeout"]);
    let check_in = humantime::format_duration(CHECK_IN);
    for backend in &settings.backends {
        if backend.relay.idle_timeout < CHECK_IN {
            notes.warn(
                &Path::of(&["backends", &backend.name, "idle_timeout"]),
                "cuts agents that wait for the answer to their check-in".to_owned(),
                format!(
                    "write at least \"{check_in}\": an agent waits silently for 5 minutes by default, and for 10 \
                     if a policy says so; the default, {default}, also covers the hour of large fleets"
                ),
            );
        }
    }
    let mut admin = notes.section(&["admin"]);
    let is_acknowledged =
        admin.is_lost("exposed") || admin.read("exposed", values::boolean) == Some(true);
    if let Some(address) = settings.admin
        && !address.ip().is_loopback()
        && !is_acknowledged
    {
        notes.warn(
            &Path::of(&["admin", "bind"]),
            format!("other machines can reach {address}, and it asks for no password"),
            "bind a loopback address; or keep others away by a firewall, and write exposed = true",
        );
    }
}
