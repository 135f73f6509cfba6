//! The clients that were refused: a bounded table of each worker, which counts the ends of its connections.
//!
//! A client chooses its names, so it could fill the table with them. Therefore one network has only so many rows with
//! names of their own for one cause, and one more row for all other names. A new row takes the place of the one that
//! was seen the longest time ago.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Refused, remedy};
use crate::outcome::{DialFailure, Limit, Outcome};
use crate::telemetry::{ClientText, Time};

/// Rows of one worker.
const ROWS: usize = 256;
/// Rows of one network and one cause that have a name.
const NAMES: usize = 16;
/// Bytes of a name that are kept, as many as the log shows.
const LONGEST_NAME: usize = 256;
/// Bytes of a detail that are kept.
const LONGEST_DETAIL: usize = 200;

/// Why a connection failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    /// How it ended.
    pub outcome: Outcome,
    /// The limit that rejected it.
    pub limit: Option<Limit>,
    /// Why the last attempt to connect failed, if that is how it ended.
    pub dial: Option<DialFailure>,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct End<'e> {
    /// The canonical address of the client.
    pub client: IpAddr,
    /// The server name or the target that it asked for, as sent.
    pub name: Option<&'e [u8]>,
    /// Why it failed.
    pub cause: Cause,
    /// Its listener.
    pub listener: &'e Arc<str>,
    /// Its backend, if one was chosen.
    pub backend: Option<&'e Arc<str>>,
    /// The `detail` in the log.
    pub detail: Option<&'e str>,
    /// When it ended.
    pub at: SystemTime,
}

/// The table of one worker.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    rows: Vec<Row>,
    /// The hash of each row, so that a look-up reads little memory.
    hashes: Vec<u64>,
    hasher: RandomState,
    /// Counts the ends, so that the order in which rows were seen is known.
    ends: u64,
    forgotten: u64,
}

#[derive(Clone, Debug)]
struct Row {
    network: IpNet,
    name: Name,
    cause: Cause,
    client: IpAddr,
    listener: Arc<str>,
    backend: Option<Arc<str>>,
    detail: Option<String>,
    count: u64,
    seen: u64,
    first: SystemTime,
    last: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    None,
    One(Box<[u8]>),
    /// Any name that has no row of its own.
    Others,
}

/// The network that a client is counted in: a /24 of IPv4 or a /64 of IPv6.
pub fn client_network(client: IpAddr) -> IpNet {
    let network = match client {
        IpAddr::V4(address) => Ipv4Net::new(address, 24).map(IpNet::V4),
        IpAddr::V6(address) => Ipv6Net::new(address, 64).map(IpNet::V6),
    };
    network.map_or_else(|_too_long| client.into(), |network| network.trunc())
}

impl Refusals {
    /// Counts the end of a connection, if there is something to do about it.
    pub fn add(&mut self, end: &End<'_>) {
        if remedy(end.cause.outcome, end.cause.limit).is_none() {
            return;
        }
        self.ends += 1;
        let network = client_network(end.client);
        let name = end
            .name
            .map(|name| name.get(..LONGEST_NAME).unwrap_or(name));
        let cause = end.cause;
        let is_it = |row: &Row, name: Option<&[u8]>| {
            row.network == network && row.cause == cause && row.name.is(name)
        };
        let mut hash = self.hasher.hash_one((network, name, cause));
        if let Some(row) = self.find(hash, |row| is_it(row, name)) {
            row.note(end);
            return;
        }
        let mut name = name.map_or(Name::None, |name| Name::One(name.into()));
        let is_alike = |row: &&Row| {
            matches!(row.name, Name::One(_)) && row.network == network && row.cause == cause
        };
        if name != Name::None && self.rows.iter().filter(is_alike).count() >= NAMES {
            name = Name::Others;
            hash = self.hasher.hash_one((network, cause));
            let is_it = |row: &Row| {
                row.name == Name::Others && row.network == network && row.cause == cause
            };
            if let Some(row) = self.find(hash, is_it) {
                row.note(end);
                return;
            }
        }
        self.insert(hash, Row::new(network, name, end));
    }

    fn find(&mut self, hash: u64, is_it: impl Fn(&Row) -> bool) -> Option<&mut Row> {
        let seen = self.ends;
        let rows = self.hashes.iter().zip(&mut self.rows);
        let mut rows = rows.filter(|(of_row, _)| **of_row == hash);
        let (_, row) = rows.find(|(_, row)| is_it(row))?;
        row.seen = seen;
        Some(row)
    }

    fn insert(&mut self, hash: u64, row: Row) {
        let row = Row {
            seen: self.ends,
            ..row
        };
        if self.rows.len() < ROWS {
            self.rows.push(row);
            self.hashes.push(hash);
            return;
        }
        let rows = self.rows.iter_mut().zip(&mut self.hashes);
        if let Some((oldest, of_oldest)) = rows.min_by_key(|(row, _)| row.seen) {
            self.forgotten += oldest.count;
            *oldest = row;
            *of_oldest = hash;
        }
    }

    /// The rows of all workers, those seen last first, and how many connections have no row any more.
    pub fn join(parts: Vec<Self>) -> (Vec<Refused>, u64) {
        let mut joined: HashMap<_, Row> = HashMap::new();
        let mut forgotten = 0;
        for part in parts {
            forgotten += part.forgotten;
            for row in part.rows {
                let key = (row.network, row.name.clone(), row.cause);
                let row = match joined.remove(&key) {
                    None => row,
                    Some(other) => other.with(row),
                };
                joined.insert(key, row);
            }
        }
        let mut rows: Vec<Row> = joined.into_values().collect();
        rows.sort_by_key(|row| Reverse((row.last, row.count)));
        let left_out = rows.get(ROWS..).unwrap_or_default();
        forgotten += left_out.iter().map(|row| row.count).sum::<u64>();
        rows.truncate(ROWS);
        (rows.into_iter().map(Row::shown).collect(), forgotten)
    }
}

impl Name {
    fn is(&self, name: Option<&[u8]>) -> bool {
        match (self, name) {
            (Self::None, None) => true,
            (Self::One(own), Some(name)) => **own == *name,
            _ => false,
        }
    }
}

impl Row {
    fn new(network: IpNet, name: Name, end: &End<'_>) -> Self {
        Self {
            network,
            name,
            cause: end.cause,
            client: end.client,
            listener: Arc::clone(end.listener),
            backend: end.backend.cloned(),
            detail: end.detail.map(|detail| bounded(detail).to_owned()),
            count: 1,
            seen: 0,
            first: end.at,
            last: end.at,
        }
    }

    /// Notes one more end. It allocates only if the detail is longer than each before.
    fn note(&mut self, end: &End<'_>) {
        self.count += 1;
        self.last = end.at;
        self.client = end.client;
        if !Arc::ptr_eq(&self.listener, end.listener) {
            self.listener = Arc::clone(end.listener);
        }
        self.backend = end.backend.cloned();
        if let Some(detail) = end.detail {
            let own = self.detail.get_or_insert_default();
            own.clear();
            own.push_str(bounded(detail));
        }
    }

    /// The same row of two workers.
    fn with(self, other: Self) -> Self {
        let (older, newer) = if self.last <= other.last {
            (self, other)
        } else {
            (other, self)
        };
        Self {
            count: older.count + newer.count,
            first: older.first.min(newer.first),
            detail: newer.detail.or(older.detail),
            ..newer
        }
    }

    fn shown(self) -> Refused {
        let Cause {
            outcome,
            limit,
            dial,
        } = self.cause;
        let reason = limit.map(Limit::name).or(dial.map(DialFailure::name));
        Refused {
            clients: self.network.to_string(),
            client: self.client.to_string(),
            many_names: self.name == Name::Others,
            name: match self.name {
                Name::One(name) => Some(ClientText(&name).to_string()),
                Name::None | Name::Others => None,
            },
            outcome: outcome.name().to_owned(),
            reason: reason.map(str::to_owned),
            listener: self.listener.to_string(),
            backend: self.backend.map(|backend| backend.to_string()),
            detail: self.detail,
            nearest: None,
            count: self.count,
            first_seen: Time(self.first).to_string(),
            last_seen: Time(self.last).to_string(),
            remedy: remedy(outcome, limit).unwrap_or_default().to_owned(),
        }
    }
}

fn bounded(detail: &str) -> &str {
    let end = detail.floor_char_boundary(LONGEST_DETAIL);
    detail.get(..end).unwrap_or(detail)
}
