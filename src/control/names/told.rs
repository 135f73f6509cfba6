//! Logs faults of names: each at once, and again once a minute while it lasts.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::field::display;
use tracing::warn;

use super::Bearer;
use crate::backend::{Allowed, DnsServers};
use crate::outcome::ResolveFailure;

/// Between two warnings of the same fault.
const AGAIN: Duration = Duration::from_mins(1);
/// Addresses, backends or endpoints that a line names.
const MOST_NAMED: usize = 8;

/// A fault that was warned of.
#[derive(Clone, Copy)]
pub(super) struct Told {
    since: SystemTime,
    last: Instant,
}

impl Told {
    /// It has begun, and is logged.
    pub(super) fn now() -> Self {
        Self {
            since: SystemTime::now(),
            last: Instant::now(),
        }
    }

    /// Notes a warning if it is time for one: the fault is new, or was told a minute ago.
    pub(super) fn when_due(told: &mut Option<Self>) -> Option<&Self> {
        match told {
            Some(told) if told.last.elapsed() < AGAIN => None,
            Some(told) => {
                told.last = Instant::now();
                Some(told)
            }
            None => Some(told.insert(Self::now())),
        }
    }

    /// When the fault began.
    pub(super) fn since(&self) -> impl Display {
        humantime::format_rfc3339_seconds(self.since)
    }
}

/// A look-up failed, and the endpoints of the name, the `bearers`, have `kept` these addresses.
pub(super) fn warn_of_failure(
    (host, servers): (&str, Option<&DnsServers>),
    bearers: &[Bearer],
    (error, kept): (&io::Error, &BTreeSet<IpAddr>),
    told: &Told,
) {
    let since = told.since();
    let server = servers.and_then(|servers| servers.first());
    let command = server.map_or_else(
        || format!("getent hosts {host}"),
        |server| format!("dig @{} -p {} {host}", server.ip(), server.port()),
    );
    let (backend, endpoint) = (backends(bearers), endpoints(bearers));
    let what = if bearers.iter().any(|one| !one.endpoint.is_at_proxy()) {
        "an endpoint"
    } else {
        "the proxy in via"
    };
    if kept.is_empty() {
        warn!(
            name = %host,
            backend,
            endpoint,
            %error,
            %since,
            "cannot resolve the name of {what}, and portway has no address for it; check the name \
             in routes.toml, and ask the resolver with `{command}`"
        );
    } else {
        warn!(
            name = %host,
            backend,
            endpoint,
            %error,
            %since,
            addresses = list(kept),
            "cannot resolve the name of {what}; the addresses that it has stay in use, and may be old: ask the resolver \
             with `{command}`"
        );
    }
}

/// The names of their backends; usually it is one.
pub(super) fn backends(bearers: &[Bearer]) -> String {
    let endpoints = bearers.iter().map(|it| &it.endpoint);
    list(&endpoints.map(|it| it.stats().backend()).collect())
}

/// The endpoints, as in routes.toml; usually it is one.
pub(super) fn endpoints(bearers: &[Bearer]) -> String {
    list(&bearers.iter().map(|it| &**it.endpoint.name()).collect())
}

fn list<T: ToString>(all: &BTreeSet<T>) -> String {
    let first = all.iter().take(MOST_NAMED);
    let mut list: Vec<String> = first.map(T::to_string).collect();
    let more = all.len().saturating_sub(MOST_NAMED);
    if more > 0 {
        list.push(format!("{more} more"));
    }
    list.join(", ")
}

/// An endpoint leads to an address that must not be dialled.
pub(super) fn warn_of_excluded(
    bearer: &Bearer,
    address: SocketAddr,
    reason: ResolveFailure,
    told: &Told,
) {
    let since = told.since();
    let endpoint = &bearer.endpoint;
    let via = endpoint.via().map(|via| display(via.name()));
    let is_proxy = endpoint.is_at_proxy();
    let (backend, endpoint) = (endpoint.stats().backend(), endpoint.name());
    let advice = match (reason, &bearer.rules.allowed) {
        (ResolveFailure::Loop, _) if is_proxy => {
            "the proxy in via leads back to portway itself and is not dialled there; \
             write the address of the site's proxy in routes.toml"
        }
        (ResolveFailure::Loop, _) => {
            "the endpoint leads back to portway itself and is not dialled there; \
             write the backend's own address in routes.toml"
        }
        (_, Allowed::Servers) if is_proxy => {
            "the name of the proxy in via leads to an address that is not that of a server, and is not \
             dialled there; ask the resolver why it answers so (a filter?), and correct the name in DNS"
        }
        (_, Allowed::Servers | Allowed::Public) => {
            "the name of the endpoint leads to an address that is not that of a server, and is not \
             dialled there; ask the resolver why it answers so (a filter?), and correct the name in DNS"
        }
        (_, Allowed::Networks(_)) => {
            "the name of the endpoint leads to an address that allow_networks excludes, and is not dialled \
             there; ask the resolver why it answers so, or add a network to allow_networks in routes.toml"
        }
    };
    warn!(backend, %endpoint, via, %address, reason = reason.name(), %since, "{advice}");
}
