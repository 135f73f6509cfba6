//! The limits of this machine that a relay meets first, and how near they are.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::thread;

use serde::Serialize;

use super::finding::{Finding, Place, Problem};
use crate::admission::{Bounds, Machine};
use crate::config::Settings;

/// The part of a limit, in percent, from which it is near.
const NEAR: u64 = 80;
/// Pages of 4 KiB that the pipes of a worker take: eight pipes of 1 MiB.
const PAGES_OF_WORKER: u64 = 8 * 256;
/// Connections that an accept queue must hold at least: a site that comes back after an outage dials at once.
const LEAST_QUEUE: u64 = 1024;

/// One limit, and what is in use of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gauge {
    /// Its name.
    pub name: &'static str,
    /// The address that it is about, for local ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// How much is in use, or needed; absent if that does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// The limit.
    pub limit: u64,
    /// The unit and the meaning, for people.
    pub text: &'static str,
    /// The remedy once it is near.
    #[serde(skip)]
    remedy: &'static str,
    /// Whether it is near.
    pub near: bool,
}

impl Gauge {
    fn new(
        name: &'static str,
        [used, limit]: [u64; 2],
        text: &'static str,
        remedy: &'static str,
    ) -> Self {
        Self {
            name,
            address: None,
            used: Some(used),
            limit,
            text,
            remedy,
            near: used.saturating_mul(100) >= limit.saturating_mul(NEAR),
        }
    }

    /// The warning, if it is near.
    pub(super) fn finding(&self) -> Option<Finding> {
        let place = Place {
            address: self.address,
            ..Place::default()
        };
        let Self { limit, text, .. } = self;
        let used = self.used.map(|used| format!("{used} of "));
        let address = self.address.map(|address| format!(" {address}"));
        let [used, address] = [used, address].map(Option::unwrap_or_default);
        let message = format!("{used}{limit} {text}{address}");
        self.near
            .then(|| place.warning(Problem::MachineLimit, message, self.remedy))
    }
}

/// The limits that can be read here. `addresses` are those of endpoints that connections go to.
pub(super) fn gauges(settings: &Settings, addresses: &[SocketAddr]) -> Vec<Gauge> {
    let mut gauges = vec![connections(settings)];
    gauges.extend(read("fs/file-nr").and_then(|text| system_descriptors(&text)));
    gauges.extend(local_ports(addresses));
    gauges.extend(read("fs/pipe-user-pages-soft").and_then(|text| pipe_pages(&text, settings)));
    gauges.extend(read("net/core/somaxconn").and_then(|text| accept_queue(&text)));
    let conntrack = ["count", "max"].map(|end| read(&format!("net/netfilter/nf_conntrack_{end}")));
    if let [Some(count), Some(max)] = conntrack {
        gauges.extend(tracked(&count, &max));
    }
    gauges
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()
}

/// The connections that routes.toml allows, against what descriptors and memory allow here.
fn connections(settings: &Settings) -> Gauge {
    let bounds = Bounds::new(&settings.limits, Machine::read());
    let [max, machine] = [bounds.max_connections, bounds.machine_max_connections];
    Gauge {
        near: max > machine,
        ..Gauge::new(
            "max_connections",
            [max, machine].map(|count| count as u64),
            "connections that descriptors and memory allow in this shell; a service may have other limits",
            "raise LimitNOFILE= of the unit or `ulimit -n`, and the memory, or lower limits.max_connections",
        )
    }
}

/// `file-nr`: allocated, allocated and free, the most.
fn system_descriptors(text: &str) -> Option<Gauge> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
    let mut number = || numbers.next()?.ok();
    let (allocated, free, max) = (number()?, number()?, number()?);
    Some(Gauge::new(
        "descriptors",
        [allocated.saturating_sub(free), max],
        "open descriptors of the whole system",
        "raise the sysctl fs.file-max",
    ))
}

/// The pages that the pipes of all workers take.
fn pipe_pages(text: &str, settings: &Settings) -> Option<Gauge> {
    let limit: u64 = text.trim().parse().ok()?;
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = settings.workers.map_or_else(cores, NonZeroUsize::get);
    let pages = PAGES_OF_WORKER.saturating_mul(workers as u64);
    // There is no limit if it is 0.
    (limit > 0).then(|| Gauge {
        near: pages > limit,
        ..Gauge::new(
            "pipe_pages",
            [pages, limit],
            "pages that the pipes of the workers take at most; an ordinary user gets small pipes beyond the limit",
            "raise the sysctl fs.pipe-user-pages-soft; until then portway copies bulk flows, which takes more CPU",
        )
    })
}

fn accept_queue(text: &str) -> Option<Gauge> {
    let limit = text.trim().parse().ok()?;
    Some(Gauge {
        used: None,
        near: limit < LEAST_QUEUE,
        ..Gauge::new(
            "somaxconn",
            [0, limit],
            "connections that may wait in the queue of a listening socket",
            "raise the sysctl net.core.somaxconn to 4096 or more: a site that comes back at once overflows the queue",
        )
    })
}

fn tracked(count: &str, max: &str) -> Option<Gauge> {
    let number = |text: &str| text.trim().parse().ok();
    Some(Gauge::new(
        "nf_conntrack",
        [number(count)?, number(max)?],
        "connections that the firewall of this machine tracks",
        "raise the sysctl net.netfilter.nf_conntrack_max: beyond it the kernel drops packets of new connections",
    ))
}

/// The local ports in use towards each of these addresses. Only addresses that some port is used for are listed
/// apart; the range is listed in any case.
fn local_ports(addresses: &[SocketAddr]) -> Vec<Gauge> {
    let range = read("net/ipv4/ip_local_port_range").and_then(|text| ports_in_range(&text));
    let Some(range) = range else {
        return Vec::new();
    };
    let mut used: HashMap<SocketAddr, u64> =
        addresses.iter().map(|address| (*address, 0)).collect();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(file) = File::open(table) {
            count_towards(file, &mut used);
        }
    }
    let mut used: Vec<_> = used.into_iter().collect();
    used.sort_unstable();
    let used = used.into_iter();
    used.map(|(address, used)| ports_towards(address, [used, range]))
        .collect()
}

fn ports_towards(address: SocketAddr, numbers: [u64; 2]) -> Gauge {
    Gauge {
        address: Some(address),
        ..Gauge::new(
            "local_ports",
            numbers,
            "local ports in use towards",
            "widen the sysctl net.ipv4.ip_local_port_range, or give the backend source_addresses or more endpoints",
        )
    }
}

/// `ip_local_port_range`: the first and the last.
fn ports_in_range(text: &str) -> Option<u64> {
    let mut ends = text.split_ascii_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

/// Counts the sockets of a table in `/proc/net` whose other end is one of the addresses. It takes the memory of one
/// line: the table of a large relay has hundreds of megabytes.
fn count_towards(table: impl Read, used: &mut HashMap<SocketAddr, u64>) {
    for line in BufReader::new(table).lines().map_while(Result::ok) {
        let remote = line
            .split_ascii_whitespace()
            .nth(2)
            .and_then(socket_address);
        if let Some(count) = remote.and_then(|remote| used.get_mut(&remote)) {
            *count += 1;
        }
    }
}

/// An address as in `0100007F:1F90`: words in the byte order of this machine, a port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    let mut rest = ip;
    while !rest.is_empty() {
        let (word, tail) = rest.split_at_checked(8)?;
        bytes.extend(u32::from_str_radix(word, 16).ok()?.to_ne_bytes());
        rest = tail;
    }
    let ipv4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
    let ipv6 = <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from);
    let ip = ipv4.or(ipv6).ok()?.to_canonical();
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
