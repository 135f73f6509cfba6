//! Builds [`Settings`] from the file: checks every value and fills in every default. It uses the default
//! in place of a value that is wrong, so that the rest is checked too.

mod admin;
mod endpoints;
mod health;
mod routes;

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::notes::Notes;
use super::section::Section;
use super::values;
use super::{Backend, Drain, Listener, Settings};
use crate::backend::{Allowed, Dialling, NameRules, Target, Via};
use crate::credentials::Users;
use crate::net::{Keepalive, LegOptions};
use crate::routing::NetworkSet;
use crate::snapshot::HelloLimits;
use crate::telemetry::LogRules;
use crate::wire::ListenerProtocol;
use crate::{admission, dial, relay};
pub(super) use admin::bind as admin;
use admin::status_pages;

/// Most DNS servers of one backend. A look-up asks two at a time.
const MOST_DNS_SERVERS: usize = 8;

pub(super) fn settings(notes: &mut Notes<'_>) -> Settings {
    let workers = notes.section(&[]).read("workers", values::count);
    let admin = admin(notes);
    let status_pages = status_pages(notes);
    let limits = admission_limits(&mut notes.section(&["limits"]));
    let (hello, drain) = time_limits(&mut notes.section(&["limits"]));
    let log = log_rules(&mut notes.section(&["log"]));
    let listeners = listeners(notes);
    let backends = backends(notes);
    let routes = routes::routes(&listeners, &backends, notes);
    Settings {
        workers: workers.and_then(NonZeroUsize::new),
        admin,
        status_pages,
        limits,
        hello,
        drain,
        log,
        listeners,
        backends,
        routes,
    }
}

fn admission_limits(section: &mut Section<'_, '_>) -> admission::Quotas {
    let mut count = |key| section.read(key, values::count);
    let limits = admission::Quotas {
        max_connections: count("max_connections"),
        max_pending_connections: count("max_pending_connections"),
        max_pending_per_client: count("max_pending_per_client"),
        max_connections_per_client: count("max_connections_per_client"),
        accept_rate: count("accept_rate"),
        accept_rate_per_client: count("accept_rate_per_client"),
        client_ipv6_prefix: section
            .read("client_ipv6_prefix", values::count)
            .unwrap_or_default(),
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
    let rate = ("accept_rate", limits.accept_rate);
    let rate_each = ("accept_rate_per_client", limits.accept_rate_per_client);
    within([pending, all]);
    within([pending_each, pending]);
    within([each, all]);
    within([rate_each, rate]);
    limits
}

fn time_limits(section: &mut Section<'_, '_>) -> (HelloLimits, Drain) {
    let hello = HelloLimits {
        timeout: section.duration("client_hello_timeout"),
        max_size: section
            .read("max_client_hello", values::size)
            .unwrap_or_default(),
    };
    let drain = Drain {
        delay: section.duration("drain_delay"),
        timeout: section.duration("drain_timeout"),
        takeover_timeout: section.duration("takeover_timeout"),
    };
    (hello, drain)
}

fn log_rules(section: &mut Section<'_, '_>) -> LogRules {
    let connections = section.read("connections", values::choice);
    LogRules {
        connections: connections.unwrap_or_default(),
        format: section.read("format", values::choice),
        interval: section.read("interval", values::duration),
    }
}

fn listeners(notes: &mut Notes<'_>) -> Vec<Listener> {
    let help = "write [listeners.agents] and bind = [\"[::]:443\"]";
    let names = notes.names("listeners", help);
    let listener = |name| {
        let mut section = notes.section(&["listeners", name]);
        section.check_name(name);
        section.require("bind", "it has no bind, and listens nowhere");
        let protocol = protocol(&mut section);
        Listener {
            name: Arc::from(name),
            bind: section.list("bind", values::bind),
            protocol,
            freebind: (section.read("freebind", values::boolean)).unwrap_or_default(),
            users: section.file("credentials_file", Users::parse).map(Arc::new),
            balancers: balancers(name, section.notes),
            clients: admission::Networks {
                allow: (section.list("allow_clients", values::network).into_iter()).collect(),
                deny: (section.list("deny_clients", values::network).into_iter()).collect(),
            },
        }
    };
    names.into_iter().map(listener).collect()
}

/// The networks of the balancers before a listener.
fn balancers(listener: &str, notes: &mut Notes<'_>) -> NetworkSet {
    let mut section = notes.section(&["listeners", listener, "proxy_protocol"]);
    if section.table.is_some() {
        section.require(
            "trusted",
            "it trusts no balancer, and so reads no PROXY header",
        );
    }
    section
        .list("trusted", values::network)
        .into_iter()
        .collect()
}

/// The protocol of a listener, which must have a place for the password that it asks for.
fn protocol(section: &mut Section<'_, '_>) -> ListenerProtocol {
    let faults = section.notes.faults.count();
    let protocol: Option<ListenerProtocol> = section.read("protocol", values::choice);
    let protocol = protocol.unwrap_or_default();
    let is_sure = section.notes.faults.count() == faults && !section.is_lost("protocol");
    if is_sure && !protocol.is_proxy() && section.value("credentials_file").is_some() {
        section.notes.fault(
            &section.path.key("credentials_file"),
            "the clients of a tls listener send no password".to_owned(),
            "leave it out, or write protocol = \"http_connect\" or \"socks5\"",
        );
    }
    protocol
}

fn backends(notes: &mut Notes<'_>) -> Vec<Backend> {
    let help = "write [backends.fleet] and endpoints = [\"fleet-1.internal:8220\"]";
    let names = notes.names("backends", help);
    let backend = |name| backend(name, &mut notes.section(&["backends", name]));
    names.into_iter().map(backend).collect()
}

fn backend(name: &str, section: &mut Section<'_, '_>) -> Backend {
    section.check_name(name);
    section.require("endpoints", "it has no endpoints");
    let (endpoints, roles) = endpoints::endpoints(section);
    let via = via(section);
    let balance = section.read("balance", values::choice);
    let names = name_rules((name, via.is_some()), &endpoints, section);
    let send_proxy_protocol = section.read("send_proxy_protocol", values::choice);
    let checks = health::checks((name, send_proxy_protocol), section.notes);
    let leaving = health::leaving(section);
    Backend {
        name: Arc::from(name),
        endpoints,
        roles,
        names,
        via,
        send_proxy_protocol,
        balance: balance.unwrap_or_default(),
        checks,
        leaving,
        dial: dial_limits(section),
        dialling: Dialling {
            max_dials: section.read("max_dials", values::count).unwrap_or(1),
            source_addresses: section.list("source_addresses", values::source).into(),
        },
        relay: relay::Rules {
            idle_timeout: section.duration("idle_timeout"),
            half_close_timeout: section.duration("half_close_timeout"),
            stall_timeout: section.duration("stall_timeout"),
            peer_timeout: section.read("peer_timeout", values::duration),
            leg: LegOptions {
                keepalive: keepalive(name, section),
                max_unsent: section.read("max_unsent", values::size).unwrap_or_default(),
            },
            splicing: relay::Splicing::default(),
        },
    }
}

/// The proxy, with the user and the password for it.
fn via(section: &mut Section<'_, '_>) -> Option<Via> {
    let via = section.read("via", |text, _| values::via(text));
    if let Some(via) = via {
        let parse = |text: &str| values::login(via.protocol(), text).map(Some);
        let login = section.file("via_credentials_file", parse);
        return Some(via.with_login(login.flatten()));
    }
    let is_absent = section.value("via").is_none() && !section.is_lost("via");
    if is_absent && section.value("via_credentials_file").is_some() {
        section.notes.fault(
            &section.path.key("via_credentials_file"),
            "there is no proxy that gets the user and the password".to_owned(),
            "leave it out, or write via with the URL of the proxy",
        );
    }
    None
}

fn name_rules(
    (name, has_via): (&str, bool),
    endpoints: &[Target],
    section: &mut Section<'_, '_>,
) -> NameRules {
    let networks = section.list("allow_networks", values::network_of_servers);
    let mut section = section.notes.section(&["backends", name, "resolver"]);
    if section.table.is_some() {
        section.require("servers", "it has no servers, and asks nobody");
    }
    let servers = section.list("servers", values::dns_server);
    if servers.len() > MOST_DNS_SERVERS {
        section.notes.fault(
            &section.path.key("servers"),
            format!("{} servers are too many", servers.len()),
            format!("write at most {MOST_DNS_SERVERS}: two or three are enough"),
        );
    }
    let is_ours = !has_via || !servers.is_empty();
    NameRules {
        resolver: (!servers.is_empty()).then(|| servers.into()),
        allowed: match networks.as_slice() {
            // Clients choose the name. A proxy that resolves it judges by its own rules.
            [] if is_ours && endpoints.iter().any(Target::is_asked) => Allowed::Public,
            [] => Allowed::default(),
            networks => Allowed::Networks(networks.into()),
        },
    }
}

/// The probes, which may be a table or the idle time alone.
fn keepalive(name: &str, section: &mut Section<'_, '_>) -> Keepalive {
    let idle = section.duration("keepalive");
    let mut section = section.notes.section(&["backends", name, "keepalive"]);
    Keepalive {
        idle: match section.table {
            Some(_) => section.duration("idle"),
            None => idle,
        },
        interval: section.duration("interval"),
        probes: section.read("probes", values::count).unwrap_or(1),
    }
}

fn dial_limits(section: &mut Section<'_, '_>) -> dial::Timeouts {
    let faults = section.notes.faults.count();
    let limits = dial::Timeouts {
        connect_timeout: section.duration("connect_timeout"),
        dial_timeout: section.duration("dial_timeout"),
    };
    // If the value is wrong, the default is used in its place, so do not report a fault of that default.
    let is_sure = section.notes.faults.count() == faults
        && !section.is_lost("connect_timeout")
        && !section.is_lost("dial_timeout");
    if is_sure && limits.dial_timeout < limits.connect_timeout {
        let [attempt, all] =
            [limits.connect_timeout, limits.dial_timeout].map(humantime::format_duration);
        let key = match section.value("dial_timeout") {
            Some(_) => "dial_timeout",
            None => "connect_timeout",
        };
        section.notes.fault(
            &section.path.key(key),
            format!(
                "one attempt may take {attempt} (connect_timeout), and all together only {all} (dial_timeout)"
            ),
            format!("write a dial_timeout of at least \"{attempt}\", or a shorter connect_timeout"),
        );
    }
    limits
}
