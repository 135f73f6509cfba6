//! The live connections that a query selects.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};

/// The answer to a query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connections {
    /// Connections of the process that the workers have looked at.
    pub total: u64,
    /// Those of them that match the filters, shown or not.
    pub matching: u64,
    /// The connections, in the order of `sort`.
    pub connections: Vec<Connection>,
    /// The value of `after` that gives the next page; absent on the last one, and with another order than `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Workers that did not answer in time: their connections are missing.
    pub silent_workers: usize,
}

/// A live connection. A field without a value is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// 16 hexadecimal digits, as in the log.
    pub id: String,
    /// The canonical address of the client.
    pub client: SocketAddr,
    /// The balancer whose PROXY header has the address of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxied_by: Option<SocketAddr>,
    /// The listener's name.
    pub listener: String,
    /// The host and port that the client of a proxy asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The host name of the hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The route's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The backend's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The endpoint, as in routes.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The address that was dialled: of the endpoint, or of the proxy that gets its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Our address on the leg to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_local: Option<SocketAddr>,
    /// The step of its life.
    pub phase: Phase,
    /// Whether it is to end in its next gap.
    #[serde(default)]
    pub leaving: bool,
    /// Milliseconds since it was accepted.
    pub age_ms: u64,
    /// Seconds since the last byte passed; absent before the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<u32>,
    /// Bytes relayed to the backend.
    pub bytes_client_to_backend: u64,
    /// Bytes relayed to the client.
    pub bytes_backend_to_client: u64,
    /// Attempts to connect that have failed.
    #[serde(default)]
    pub failed_attempts: usize,
    /// The generation of the configuration that it took on arrival.
    pub config: u64,
}

/// The steps in the life of a connection, in their order.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    EnumString,
    IntoStaticStr,
    VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// portway waits for a PROXY header, a CONNECT request or the messages of SOCKS5.
    Front,
    /// portway waits for the client hello, or refuses the client.
    Hello,
    /// portway connects to the backend.
    Dial,
    /// Bytes pass in both directions.
    Relay,
    /// One side has closed, and bytes pass in the other direction.
    HalfClosed,
}

impl Phase {
    /// The value of the field.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The part of one worker in the answer to a query.
#[derive(Debug, Default)]
pub struct Seen {
    /// The connections of the worker.
    pub total: u64,
    /// Those of them that match.
    pub matching: u64,
    /// The first ones in the order of the query, as many as it asks for. Each has its place in that order.
    pub rows: Vec<(u64, Connection)>,
    /// The place of the last one that was considered, if others come after it.
    pub up_to: Option<u64>,
}

impl Connections {
    /// Joins the parts of all workers. Ids are places only if `by_id`.
    pub fn join(parts: Vec<Seen>, silent_workers: usize, limit: usize, by_id: bool) -> Self {
        let mut joined = Self {
            silent_workers,
            ..Self::default()
        };
        let mut up_to = None;
        let mut rows = Vec::new();
        for part in parts {
            joined.total += part.total;
            joined.matching += part.matching;
            up_to = part.up_to.into_iter().chain(up_to).min();
            rows.extend(part.rows);
        }
        rows.sort_by(|(one, a), (other, b)| (one, &a.id).cmp(&(other, &b.id)));
        if by_id {
            // A worker with more than it has sent may have some of those in between.
            rows.retain(|(place, _)| up_to.is_none_or(|up_to| *place <= up_to));
            if rows.len() > limit {
                up_to = rows.get(limit.saturating_sub(1)).map(|(place, _)| *place);
            }
            joined.next = up_to.map(|place| format!("{place:016x}"));
        }
        rows.truncate(limit);
        joined.connections = rows.into_iter().map(|(_, row)| row).collect();
        joined
    }
}
