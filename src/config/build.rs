//! Builds [`Settings`] from the mirror: every value checked, every default filled in. Where a value
//! is wrong its default stands in, so that the rest is checked too.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Path;
use super::file::{self, AdminBind, File};
use super::keys;
use super::notes::{Notes, Section};
use super::values::{self, Wrong};
use super::{Backend, Listener, Settings};
use crate::backend::Balance;
use crate::routing::{Route, Table, Tie};
use crate::snapshot::HelloLimits;
use crate::telemetry::Logged;
use crate::{admission, control, dial, relay};

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9355);

/// A thread each; more is a typing error.
const WORKERS: RangeInclusive<i64> = 1..=1024;
/// Far over what one machine has descriptors for.
const CONNECTIONS: RangeInclusive<i64> = 1..=100_000_000;
/// From less than any hello to 16 times what Go and rustls take.
const HELLO_SIZE: RangeInclusive<u64> = 1 << 10..=1 << 20;
const DEFAULT_HELLO_SIZE: usize = 64 << 10;

/// Zero is no limit of time that anybody can keep.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=YEAR;
/// Zero means at once.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=YEAR;
/// The kernel takes whole seconds up to 32,767 for `TCP_KEEPIDLE`.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(9);
const YEAR: Duration = Duration::from_hours(8766);

pub(super) fn settings(file: &File, notes: &mut Notes<'_>) -> Settings {
    let workers = (notes.section(&[])).count("workers", file.workers, &WORKERS);
    let admin = admin(file, notes);
    let limits = admission_limits(&file.limits, notes.section(&["limits"]));
    let (hello, drain) = time_limits(&file.limits, notes.section(&["limits"]));
    let log = notes.section(&["log"]).choice(
        "connections",
        file.log.connections.as_deref(),
        &[("all", Logged::All), ("failures", Logged::Failures)],
    );
    let listeners = listeners(file, notes);
    let backends = backends(file, notes);
    let routes = routes(file, &listeners, &backends, notes);
    Settings {
        workers: workers.and_then(NonZeroUsize::new),
        admin,
        limits,
        hello,
        drain,
        log,
        listeners,
        backends,
        routes,
    }
}

fn admin(file: &File, notes: &mut Notes<'_>) -> Option<SocketAddr> {
    let mut section = notes.section(&["admin"]);
    match &file.admin.bind {
        None => Some(ADMIN),
        Some(AdminBind::Address(text)) => section.check("bind", values::bind(text)),
        Some(AdminBind::Switch(false)) => None,
        Some(AdminBind::Switch(true)) => section.check(
            "bind",
            Err(Wrong {
                message: "true is no address".to_owned(),
                help: format!("write \"{ADMIN}\", or false for none"),
            }),
        ),
    }
}

fn admission_limits(file: &file::Limits, mut section: Section<'_, '_>) -> admission::Limits {
    let mut count = |key, value| section.count(key, value, &CONNECTIONS);
    let limits = admission::Limits {
        max_connections: count("max_connections", file.max_connections),
        max_pending_connections: count("max_pending_connections", file.max_pending_connections),
        max_pending_per_client: count("max_pending_per_client", file.max_pending_per_client),
        max_connections_per_client: count(
            "max_connections_per_client",
            file.max_connections_per_client,
        ),
        client_ipv6_prefix: section
            .count("client_ipv6_prefix", file.client_ipv6_prefix, &(1..=128))
            .and_then(|prefix| u8::try_from(prefix).ok())
            .unwrap_or(64),
    };
    let mut within = |[part, whole]: [(&str, Option<usize>); 2]| {
        if let ((key, Some(part)), (whole_key, Some(whole))) = (part, whole)
            && part > whole
        {
            section.notes.fault(
                &section.path.key(key),
                format!("{part} is more than {whole_key} = {whole}"),
                format!("write at most {whole}"),
            );
        }
    };
    let all = ("max_connections", limits.max_connections);
    let pending = ("max_pending_connections", limits.max_pending_connections);
    let pending_each = ("max_pending_per_client", limits.max_pending_per_client);
    let each = (
        "max_connections_per_client",
        limits.max_connections_per_client,
    );
    within([pending, all]);
    within([pending_each, pending]);
    within([each, all]);
    limits
}

fn time_limits(
    file: &file::Limits,
    mut section: Section<'_, '_>,
) -> (HelloLimits, control::drain::Limits) {
    let mut duration = |key, text: &Option<String>, default, range| {
        section.duration(key, text.as_deref(), Duration::from_secs(default), range)
    };
    let timeout = duration(
        "client_hello_timeout",
        &file.client_hello_timeout,
        10,
        &TIMEOUT,
    );
    let drain = control::drain::Limits {
        delay: duration("drain_delay", &file.drain_delay, 0, &DRAIN),
        timeout: duration("drain_timeout", &file.drain_timeout, 20, &DRAIN),
    };
    let max_size = (file.max_client_hello.as_deref())
        .and_then(|text| section.check("max_client_hello", values::size(text, &HELLO_SIZE)))
        .unwrap_or(DEFAULT_HELLO_SIZE);
    (HelloLimits { timeout, max_size }, drain)
}

fn listeners(file: &File, notes: &mut Notes<'_>) -> Vec<Listener> {
    if file.listeners.is_empty() {
        notes.fault(
            &Path::default(),
            "there are no listeners".to_owned(),
            "write [listeners.agents] and bind = [\"[::]:443\"]",
        );
    }
    let listener = |(name, file): (&String, &file::Listener)| {
        let mut section = notes.section(&["listeners", name]);
        section.check_name(name);
        if file.bind.is_empty() {
            section.required("bind", "listens nowhere");
        }
        Listener {
            name: Arc::from(name.as_str()),
            bind: section.list("bind", &file.bind, values::bind),
            clients: admission::Networks {
                allow: section.list("allow_clients", &file.allow_clients, values::network),
                deny: section.list("deny_clients", &file.deny_clients, values::network),
            },
        }
    };
    file.listeners.iter().map(listener).collect()
}

fn backends(file: &File, notes: &mut Notes<'_>) -> Vec<Backend> {
    if file.backends.is_empty() {
        notes.fault(
            &Path::default(),
            "there are no backends".to_owned(),
            "write [backends.fleet] and endpoints = [\"fleet-1.internal:8220\"]",
        );
    }
    (file.backends.iter())
        .map(|(name, file)| backend(name, file, notes.section(&["backends", name])))
        .collect()
}

fn backend(name: &str, file: &file::Backend, mut section: Section<'_, '_>) -> Backend {
    section.check_name(name);
    if file.endpoints.is_empty() {
        section.required("endpoints", "has no endpoints");
    }
    let endpoints = section.list("endpoints", &file.endpoints, values::endpoint);
    let balance = section.choice(
        "balance",
        file.balance.as_deref(),
        &[
            ("least_connections", Balance::LeastConnections),
            ("round_robin", Balance::RoundRobin),
            ("random", Balance::Random),
            ("source_hash", Balance::SourceHash),
        ],
    );
    let mut duration = |key, text: &Option<String>, default, range| {
        section.duration(key, text.as_deref(), Duration::from_secs(default), range)
    };
    let dial = dial::Limits {
        connect_timeout: duration("connect_timeout", &file.connect_timeout, 4, &TIMEOUT),
        dial_timeout: duration("dial_timeout", &file.dial_timeout, 9, &TIMEOUT),
    };
    let relay = relay::Limits {
        idle_timeout: duration("idle_timeout", &file.idle_timeout, 75 * 60, &TIMEOUT),
        half_close_timeout: duration("half_close_timeout", &file.half_close_timeout, 60, &TIMEOUT),
        stall_timeout: duration("stall_timeout", &file.stall_timeout, 600, &TIMEOUT),
        keepalive: duration("keepalive", &file.keepalive, 60, &KEEPALIVE),
        bulk_after: relay::BULK_AFTER,
    };
    if dial.dial_timeout < dial.connect_timeout {
        let [attempt, all] =
            [dial.connect_timeout, dial.dial_timeout].map(humantime::format_duration);
        let key = match file.dial_timeout {
            Some(_) => "dial_timeout",
            None => "connect_timeout",
        };
        section.notes.fault(
            &section.path.key(key),
            format!("all attempts together have {all}, one of them {attempt}"),
            format!("write a dial_timeout of at least \"{attempt}\", or a shorter connect_timeout"),
        );
    }
    Backend {
        name: Arc::from(name),
        endpoints,
        balance,
        dial,
        relay,
    }
}

fn routes(
    file: &File,
    listeners: &[Listener],
    backends: &[Backend],
    notes: &mut Notes<'_>,
) -> Table {
    if file.routes.is_empty() {
        notes.fault(
            &Path::default(),
            "there are no routes".to_owned(),
            "write [routes.fleet], server_names = [\"fleet.example.com\"] and backend = \"fleet\"",
        );
    }
    let listeners: Vec<&Arc<str>> = listeners.iter().map(|listener| &listener.name).collect();
    let backends: Vec<&Arc<str>> = backends.iter().map(|backend| &backend.name).collect();
    let routes = (file.routes.iter())
        .map(|(name, file)| {
            let mut section = notes.section(&["routes", name]);
            section.check_name(name);
            route(name, file, [&listeners, &backends], &mut section)
        })
        .collect();
    Table::build(routes).unwrap_or_else(|ties| {
        for tie in ties {
            report_tie(&tie, notes);
        }
        Table::default()
    })
}

fn route(
    name: &str,
    file: &file::Route,
    [listeners, backends]: [&[&Arc<str>]; 2],
    section: &mut Section<'_, '_>,
) -> Route {
    let no_server_name = file.no_server_name.unwrap_or(false);
    if file.server_names.is_none() && !no_server_name {
        section.required("server_names", "takes no connection");
    }
    for (key, list) in [
        ("server_names", &file.server_names),
        ("listeners", &file.listeners),
        ("alpn", &file.alpn),
        ("clients", &file.clients),
    ] {
        if list.as_ref().is_some_and(Vec::is_empty) {
            section.notes.fault(
                &section.path.key(key),
                "an empty list".to_owned(),
                "leave the key out, or write a value",
            );
        }
    }
    if file.backend.is_none() {
        section.required("backend", "leads nowhere");
    }
    let backend = (file.backend.as_ref())
        .and_then(|name| section.check("backend", known("backend", name, backends)));
    Route {
        name: Arc::from(name),
        server_names: section.list(
            "server_names",
            file.server_names.as_deref().unwrap_or_default(),
            values::server_name,
        ),
        no_server_name,
        listeners: section.list(
            "listeners",
            file.listeners.as_deref().unwrap_or_default(),
            |name| known("listener", name, listeners).map(|_| Arc::from(name)),
        ),
        alpn: section.list(
            "alpn",
            file.alpn.as_deref().unwrap_or_default(),
            values::alpn,
        ),
        clients: section.list(
            "clients",
            file.clients.as_deref().unwrap_or_default(),
            values::network,
        ),
        backend: backend.unwrap_or(0),
    }
}

/// The position of what is named, among those of its kind.
fn known(kind: &str, name: &str, among: &[&Arc<str>]) -> Result<usize, Wrong> {
    let position = among.binary_search_by(|known| (***known).cmp(name));
    position.ok().ok_or_else(|| Wrong {
        message: format!("there is no {kind} {name:?}"),
        help: match keys::nearest(name, among.iter().map(|known| &***known)) {
            Some(known) => format!("did you mean {known:?}?"),
            None => format!("write a table [{kind}s.{name}], or the name of one that is there"),
        },
    })
}

fn report_tie(tie: &Tie, notes: &mut Notes<'_>) {
    let [first, second] = &tie.routes;
    let (key, what) = match &tie.pattern {
        Some(pattern) => ("server_names", format!("\"{pattern}\"")),
        None => (
            "no_server_name",
            "a connection without a server name".to_owned(),
        ),
    };
    let path = |name| Path::of(&["routes", name, key]);
    notes.clash(
        [&path(second), &path(first)],
        format!("the routes {first:?} and {second:?} could both take {what}"),
        "leave it out of one of them, or give one more conditions: listeners, alpn or clients",
    );
}
