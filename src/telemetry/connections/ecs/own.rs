//! The fields that the schema does not have.

use std::net::SocketAddr;

use serde::Serialize;

use crate::outcome::{BackendAnswer, ClosedBy, Handshake, Limit, Outcome};
use crate::telemetry::connections::format::{Id, Millis, Protocols};
use crate::telemetry::connections::{Attempt, Line, Phase};
use crate::tls::Version;

/// Everything of a line that the schema has no field for, under the names of the other formats.
#[derive(Serialize)]
pub(super) struct Own<'a> {
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    config: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxied_by: Option<SocketAddr>,
    listener: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest: Option<&'a str>,
    #[serde(skip_serializing_if = "Protocols::is_empty")]
    alpn: Protocols<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_offered: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    attempts: &'a [Attempt],
    #[serde(skip_serializing_if = "Option::is_none")]
    hello_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dial_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_answer: Option<BackendAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<Handshake>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_asked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_alert: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_alert: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_unacknowledged: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_rtt_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_retransmits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_rtt_ms: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_retransmits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<ClosedBy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alert: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hello_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hello_expected: Option<usize>,
}

impl<'a> Own<'a> {
    /// Takes the line apart, so that no field of it is forgotten: `_` are those that the schema has.
    #[expect(clippy::too_many_lines, reason = "a line for each field")]
    pub(super) fn new(line: &'a Line<'a>) -> Self {
        let &Line {
            time: _,
            id,
            phase,
            config,
            client: _,
            proxied_by,
            listener,
            ref target,
            server_name: _,
            ref nearest,
            alpn,
            tls_offered,
            tls_negotiated: _,
            route,
            backend,
            endpoint,
            backend_address: _,
            via,
            backend_local: _,
            attempts,
            hello_ms,
            dial_ms,
            first_byte_ms,
            backend_answer,
            handshake,
            client_certificate_asked,
            backend_alert,
            client_alert,
            duration_ms: _,
            bytes_client_to_backend: _,
            bytes_backend_to_client: _,
            bytes_unacknowledged,
            client_rtt_ms,
            client_retransmits,
            backend_rtt_ms,
            backend_retransmits,
            outcome,
            closed_by,
            alert,
            detail: _,
            limit,
            hello_bytes,
            hello_expected,
        } = line;
        Self {
            id,
            phase,
            config,
            proxied_by,
            listener,
            target: target.as_deref(),
            nearest: nearest.as_deref(),
            alpn,
            tls_offered,
            route,
            backend,
            endpoint,
            via,
            attempts,
            hello_ms,
            dial_ms,
            first_byte_ms,
            backend_answer,
            handshake,
            client_certificate_asked,
            backend_alert,
            client_alert,
            bytes_unacknowledged,
            client_rtt_ms,
            client_retransmits,
            backend_rtt_ms,
            backend_retransmits,
            outcome,
            closed_by,
            alert,
            limit,
            hello_bytes,
            hello_expected,
        }
    }
}
