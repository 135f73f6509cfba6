//! Builds [`Settings`] from the mirror: every value checked, every default filled in. Where a value
//! is wrong its default stands in, so that the rest is checked too.

mod routes;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::file::{self, AdminBind, File};
use super::notes::{Notes, Section};
use super::path::Path;
use super::values::{self, Wrong};
use super::{Backend, Drain, Listener, Settings};
use crate::backend::Balance;
use crate::net::LegOptions;
use crate::snapshot::HelloLimits;
use crate::telemetry::Logged;
use crate::{admission, dial, relay};

const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9355);

/// A thread each; more is a typing error.
pub(super) const WORKERS: RangeInclusive<i64> = 1..=1024;
/// Far over what one machine has descriptors for.
pub(super) const CONNECTIONS: RangeInclusive<i64> = 1..=100_000_000;
/// Of an IPv6 address.
pub(super) const PREFIX: RangeInclusive<i64> = 1..=128;
/// From less than any hello to 16 times what Go and rustls take.
const HELLO_SIZE: RangeInclusive<u64> = 1 << 10..=1 << 20;
const DEFAULT_HELLO_SIZE: usize = 64 << 10;
/// From what keeps a slow path busy to more than any socket buffer.
const UNSENT: RangeInclusive<u64> = 16 << 10..=1 << 30;

/// Zero is no limit of time that anybody can keep.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=YEAR;
/// Zero means at once.
const DRAIN: RangeInclusive<Duration> = Duration::ZERO..=YEAR;
/// The kernel takes whole seconds up to 32,767 for `TCP_KEEPIDLE`.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(9);
const YEAR: Duration = Duration::from_hours(8766);

/// The words of `log.connections`.
pub(super) const LOGGED: [(&str, Logged); 2] =
    [("all", Logged::All), ("failures", Logged::Failures)];
/// The words of `balance`.
pub(super) const BALANCE: [(&str, Balance); 4] = [
    ("least_connections", Balance::LeastConnections),
    ("round_robin", Balance::RoundRobin),
    ("random", Balance::Random),
    ("source_hash", Balance::SourceHash),
];

pub(super) fn settings(file: &File, notes: &mut Notes<'_>) -> Settings {
    let workers = (notes.section(&[])).count("workers", file.workers, &WORKERS);
    let admin = admin(file, notes);
    let limits = admission_limits(&file.limits, notes.section(&["limits"]));
    let (hello, drain) = time_limits(&file.limits, notes.section(&["limits"]));
    let log =
        notes
            .section(&["log"])
            .choice("connections", file.log.connections.as_deref(), &LOGGED);
    let listeners = listeners(file, notes);
    let backends = backends(file, notes);
    let routes = routes::routes(file, &listeners, &backends, notes);
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

pub(super) fn admin(file: &File, notes: &mut Notes<'_>) -> Option<SocketAddr> {
    let mut section = notes.section(&["admin"]);
    let lost = &section.notes.lost;
    let is_lost = lost.has(&section.path) || lost.has(&section.path.key("bind"));
    match &file.admin.bind {
        // The default would meet with addresses that it was to keep clear of.
        None if is_lost => None,
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
            .count("client_ipv6_prefix", file.client_ipv6_prefix, &PREFIX)
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

fn time_limits(file: &file::Limits, mut section: Section<'_, '_>) -> (HelloLimits, Drain) {
    let mut duration = |key, text: &Option<String>, default, range| {
        section.duration(key, text.as_deref(), Duration::from_secs(default), range)
    };
    let timeout = duration(
        "client_hello_timeout",
        &file.client_hello_timeout,
        10,
        &TIMEOUT,
    );
    let drain = Drain {
        delay: duration("drain_delay", &file.drain_delay, 0, &DRAIN),
        timeout: duration("drain_timeout", &file.drain_timeout, 20, &DRAIN),
    };
    let max_size = (file.max_client_hello.as_deref())
        .and_then(|text| section.check("max_client_hello", values::size(text, &HELLO_SIZE)))
        .unwrap_or(DEFAULT_HELLO_SIZE);
    (HelloLimits { timeout, max_size }, drain)
}

fn listeners(file: &File, notes: &mut Notes<'_>) -> Vec<Listener> {
    if file.listeners.is_empty() && notes.lost.is_whole(&Path::of(&["listeners"])) {
        notes.fault(
            &Path::default(),
            "there are no listeners".to_owned(),
            "write [listeners.agents] and bind = [\"[::]:443\"]",
        );
    }
    let listener = |(name, file): (&String, &file::Listener)| {
        let mut section = notes.section(&["listeners", name]);
        section.check_name(name);
        let bind = Some(&*file.bind).filter(|bind| !bind.is_empty());
        if bind.is_none() {
            section.required("bind", "listens nowhere");
        }
        Listener {
            name: Arc::from(name.as_str()),
            bind: section.list("bind", bind, values::bind),
            clients: admission::Networks {
                allow: section.list(
                    "allow_clients",
                    file.allow_clients.as_deref(),
                    values::network,
                ),
                deny: section.list(
                    "deny_clients",
                    file.deny_clients.as_deref(),
                    values::network,
                ),
            },
        }
    };
    file.listeners.iter().map(listener).collect()
}

fn backends(file: &File, notes: &mut Notes<'_>) -> Vec<Backend> {
    if file.backends.is_empty() && notes.lost.is_whole(&Path::of(&["backends"])) {
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
    let endpoints = Some(&*file.endpoints).filter(|endpoints| !endpoints.is_empty());
    if endpoints.is_none() {
        section.required("endpoints", "has no endpoints");
    }
    let endpoints = section.list("endpoints", endpoints, values::endpoint);
    let balance = section.choice("balance", file.balance.as_deref(), &BALANCE);
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
        leg: LegOptions {
            keepalive: duration("keepalive", &file.keepalive, 60, &KEEPALIVE),
            max_unsent: (file.max_unsent.as_deref())
                .and_then(|text| section.check("max_unsent", values::size(text, &UNSENT)))
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or(LegOptions::DEFAULT.max_unsent),
        },
        splicing: relay::Splicing::default(),
    };
    // Where a value is wrong its default is used until it is mended: nothing is told of that default.
    let is_sure = |key, text: &Option<String>| {
        let is_right = |text: &str| values::duration(text, &TIMEOUT).is_ok();
        text.as_deref()
            .map_or_else(|| !section.notes.lost.has(&section.path.key(key)), is_right)
    };
    if dial.dial_timeout < dial.connect_timeout
        && is_sure("dial_timeout", &file.dial_timeout)
        && is_sure("connect_timeout", &file.connect_timeout)
    {
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
