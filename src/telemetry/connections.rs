//! The connection log: one line for each connection that has ended, and with `log.interval` some while it is open.

mod ecs;
mod fields;
mod format;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use enum_map::EnumMap;
use serde::Serialize;

pub use format::{ClientText, Id, Millis, Protocols, Time, json};

use super::lines::Lines;
use super::metrics::Registry;
use super::{Form, LogRules, Logged};
use crate::outcome::{AttemptFailure, BackendAnswer, ClosedBy, Handshake, Limit, Outcome};
use crate::tls::Version;

/// Most lines of one outcome in one second; the rest is summed up.
const LINES_PER_SECOND: u32 = 10;

/// A connection that has ended, or is open for a while. `docs/log.md` explains each field and is tested against this list.
/// A field without a value is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// When the connection ended, or the line was written.
    pub time: Time,
    /// Unique within a run of the program.
    pub id: Id,
    /// Absent once the connection has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The generation of the configuration that the connection took on arrival.
    pub config: u64,
    /// The canonical address of the client.
    pub client: SocketAddr,
    /// The balancer whose PROXY header has the address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxied_by: Option<SocketAddr>,
    /// The listener's name.
    pub listener: &'a str,
    /// The host and port that the client of a proxy asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The host name of the hello, as sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<ClientText<'a>>,
    /// The name or pattern of routes.toml that was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// The protocols offered by ALPN.
    #[serde(skip_serializing_if = "Protocols::is_empty")]
    pub alpn: Protocols<'a>,
    /// The highest TLS version offered, as on the wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_offered: Option<Version>,
    /// The TLS version that the backend chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_negotiated: Option<Version>,
    /// The route's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// The backend's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<&'a str>,
    /// The endpoint, as in routes.toml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<&'a str>,
    /// The address of the endpoint that is connected, unless a proxy knows it alone. The schema of Elastic has a field for it.
    #[serde(skip)]
    pub backend_address: Option<SocketAddr>,
    /// The proxy through which the backend is reached, as in routes.toml.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<&'a str>,
    /// Our address on the leg to the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_local: Option<SocketAddr>,
    /// The attempts that failed.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub attempts: &'a [Attempt],
    /// From accept to a complete hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hello_ms: Option<Millis>,
    /// From the choice of the backend to a connected endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_ms: Option<Millis>,
    /// From the connected endpoint to its first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<Millis>,
    /// The first thing that the backend said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_answer: Option<BackendAnswer>,
    /// How the TLS handshake ended, as far as its records show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<Handshake>,
    /// Whether the backend asked for a certificate of the client, where that can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_asked: Option<bool>,
    /// The number of the alert in clear with which the backend refused the handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_alert: Option<u8>,
    /// The same of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_alert: Option<u8>,
    /// From accept to the end, or to the line.
    pub duration_ms: Millis,
    /// Bytes relayed to the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_client_to_backend: Option<u64>,
    /// Bytes relayed to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_backend_to_client: Option<u64>,
    /// Relayed bytes that portway's reset has discarded, because their receiver had not acknowledged
    /// them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_unacknowledged: Option<u64>,
    /// The smoothed time from a packet to the client to its acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_rtt_ms: Option<Millis>,
    /// Packets that were sent to the client again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_retransmits: Option<u32>,
    /// The same of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_rtt_ms: Option<Millis>,
    /// The same of the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_retransmits: Option<u32>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The side that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<ClosedBy>,
    /// The number of the alert that the client got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<u8>,
    /// Says what was wrong. portway writes this text; words of a client in it are escaped and bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'a str>,
    /// The limit that rejected the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Bytes of the hello that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hello_bytes: Option<usize>,
    /// Bytes that portway waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hello_expected: Option<usize>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has not ended.
    Open,
}

/// A failed attempt to reach an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The endpoint, as in routes.toml.
    #[serde(serialize_with = "format::shared")]
    pub endpoint: Arc<str>,
    /// The proxy that was dialled in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<Box<str>>,
    /// The address that was tried, or that must not be dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Why it failed.
    pub reason: AttemptFailure,
    /// The error of the resolver, in the words of the system; the words of the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<str>>,
    /// How long the dial took.
    #[serde(rename = "ms", skip_serializing_if = "Option::is_none")]
    pub took: Option<Millis>,
}

/// The log. Workers share it; nothing in it waits.
pub struct ConnectionLog {
    lines: Lines,
    form: Arc<Form>,
    only_failures: AtomicBool,
    /// Milliseconds; 0 if there is none.
    interval: AtomicU64,
    registry: Arc<Registry>,
    started: Instant,
    /// For each outcome the second in which it last occurred (high half, counted from `started`), and
    /// how often it occurred in that second (low half).
    windows: EnumMap<Outcome, AtomicU64>,
}

/// The lines of an outcome above [`LINES_PER_SECOND`].
#[derive(Serialize)]
struct Excess {
    time: Time,
    outcome: Outcome,
    suppressed: u32,
}

impl ConnectionLog {
    /// A log that writes to `lines`, in this form.
    pub fn new(lines: Lines, form: Arc<Form>, rules: LogRules, registry: Arc<Registry>) -> Self {
        let log = Self {
            lines,
            form,
            only_failures: AtomicBool::default(),
            interval: AtomicU64::default(),
            registry,
            started: Instant::now(),
            windows: EnumMap::default(),
        };
        log.adopt(rules);
        log
    }

    /// Follows these rules from now on.
    pub fn adopt(&self, rules: LogRules) {
        self.form.adopt(rules.format);
        self.only_failures
            .store(rules.connections == Logged::Failures, Ordering::Relaxed);
        let interval = rules.interval.unwrap_or_default().as_millis();
        let interval = u64::try_from(interval).unwrap_or(u64::MAX);
        self.interval.store(interval, Ordering::Relaxed);
    }

    /// Whether the end of a connection is logged: `log.connections` wants it, and its outcome has lines left in
    /// this second. Call it once per connection, before the line is made.
    pub fn wants(&self, outcome: Outcome) -> bool {
        self.wants_at(outcome, self.second())
    }

    /// How long a connection is open when it gets a line, and then another one.
    pub fn interval(&self) -> Option<Duration> {
        let millis = self.interval.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Logs the end of a connection that is wanted, or one that is open.
    pub fn log(&self, line: &Line<'_>) {
        self.write(line, || ecs::Record::new(line));
    }

    /// Counts a line that is left out.
    pub fn leave_out(&self) {
        self.registry.lines_suppressed.add(1);
    }

    /// Writes the sums of what was suppressed up to the last whole second. Call it every second.
    pub fn sum_up(&self) {
        self.sum_up_before(self.second());
    }

    /// Writes everything that is left, with the sums; `false` if that takes longer than `timeout`. It blocks
    /// the thread, so call it only at the end of the program.
    pub fn finish(&self, timeout: Duration) -> bool {
        self.sum_up_before(u32::MAX);
        self.lines.finish(timeout)
    }

    fn write<E: Serialize>(&self, line: &impl Serialize, ecs: impl FnOnce() -> E) {
        let format = self.form.get();
        self.lines.send(format::line(format, line, ecs));
    }

    fn second(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn wants_at(&self, outcome: Outcome, second: u32) -> bool {
        let is_closed = outcome == Outcome::Closed;
        let unwanted =
            outcome == Outcome::Probe || is_closed && self.only_failures.load(Ordering::Relaxed);
        if unwanted {
            return false;
        }
        let is_allowed = is_closed || self.is_allowed(outcome, second);
        if !is_allowed {
            self.leave_out();
        }
        is_allowed
    }

    fn is_allowed(&self, outcome: Outcome, second: u32) -> bool {
        // If workers race when a new second begins, the later one counts in the new second.
        let step = |old| match unpack(old) {
            (at, count) if at >= second => pack(at, count.saturating_add(1)),
            _ => pack(second, 1),
        };
        // The closure always gives a value, so this cannot fail.
        let (Ok(old) | Err(old)) =
            self.windows[outcome]
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(step(old)));
        let (at, count) = unpack(step(old));
        if count == 1 && at == second {
            self.write_sum(outcome, unpack(old).1);
        }
        count <= LINES_PER_SECOND
    }

    fn sum_up_before(&self, second: u32) {
        for (outcome, window) in &self.windows {
            let is_over = |old| {
                let (at, count) = unpack(old);
                (at < second && count > 0).then_some(pack(at, 0))
            };
            if let Ok(old) = window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_over) {
                self.write_sum(outcome, unpack(old).1);
            }
        }
    }

    fn write_sum(&self, outcome: Outcome, count: u32) {
        let suppressed = count.saturating_sub(LINES_PER_SECOND);
        if suppressed > 0 {
            let line = Excess {
                time: Time(SystemTime::now()),
                outcome,
                suppressed,
            };
            self.write(&line, || ecs::Sum::new(&line));
        }
    }
}

const fn pack(second: u32, count: u32) -> u64 {
    ((second as u64) << 32) | count as u64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "takes the two halves apart"
)]
const fn unpack(window: u64) -> (u32, u32) {
    ((window >> 32) as u32, window as u32)
}
