//! All that `portway doctor` has seen, as parts for programs.

use std::net::SocketAddr;

use serde::Serialize;

use super::finding::{Finding, Severity};
use super::machine::Gauge;
use crate::telemetry::Millis;
use crate::tls::Version;
use crate::tls::certificate::Certificate;

/// The result of the command.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The endpoints, in the order of their backends.
    pub endpoints: Vec<Endpoint>,
    /// The limits of this machine.
    pub machine: Vec<Gauge>,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings are so bad.
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.severity == severity)
            .count()
    }
}

/// One endpoint.
#[derive(Debug, Serialize)]
pub struct Endpoint {
    /// Its backend.
    pub backend: String,
    /// As in routes.toml; for a proxy, its URL.
    pub endpoint: String,
    /// Its role, if routes.toml gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The proxy through which it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// How long the look-up of its name took; absent for an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_ms: Option<Millis>,
    /// Its addresses, in the order of the resolver.
    pub addresses: Vec<Address>,
}

/// One address of an endpoint.
#[derive(Debug, Serialize)]
pub struct Address {
    /// As it was dialled; behind a proxy that gets names, that of the proxy.
    pub address: SocketAddr,
    /// How long the first connection took; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_ms: Option<Millis>,
    /// The answers for each server name.
    pub names: Vec<Name>,
    /// The answers to each form of a hello with the first name.
    pub hellos: Vec<Hello>,
}

/// The answer to hellos with one server name.
#[derive(Debug, Serialize)]
pub struct Name {
    /// The name; null for a hello without one.
    pub server_name: Option<String>,
    /// Whether doctor has made the name up, for a wildcard, or sends none because it knows none.
    pub made_up: bool,
    /// The answer to a hello of TLS 1.3.
    #[serde(flatten)]
    pub answer: Answer,
    /// The version that the server chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Version>,
    /// The protocol that the server chose by ALPN, in TLS 1.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// Whether the server asks for a certificate of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks_for_certificate: Option<bool>,
    /// The certificates, the server's own first.
    pub certificates: Vec<Certificate>,
    /// Why no certificate can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_unseen: Option<String>,
}

/// The answer to one form of a hello.
#[derive(Debug, Serialize)]
pub struct Hello {
    /// `classic` or `post_quantum`.
    pub hello: &'static str,
    /// `whole`, `two_segments` or `two_records`.
    pub arrival: &'static str,
    /// Its size.
    pub bytes: usize,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// The first thing that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// `server_hello`, `alert`, `not_tls`, `malformed`, `cut`, `closed`, `reset`, `none` or `failed`.
    pub answer: &'static str,
    /// The same in words: a sentence whose subject is the server.
    pub answer_text: String,
    /// The number of the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<u8>,
    /// The time from the hello to the first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<Millis>,
}
