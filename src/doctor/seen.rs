//! The answers of an address, as parts for the report. Pure.

use std::net::SocketAddr;

use super::examine::Asked;
use super::judge::Examined;
use super::plan::Caller;
use super::report::{Address, Answer, Hello, Name};
use super::words;
use crate::control::probe::Said;
use crate::telemetry::Millis;
use crate::tls::certificate::Certificate;
use crate::tls::offer::{Kind, Shape};
use crate::tls::{self, Version};

/// Alerts with which a server of TLS 1.3 refuses an older version: protocol_version, handshake_failure, and
/// insufficient_security.
const REFUSALS: [u8; 3] = [70, 40, 71];

impl Examined<'_> {
    /// The address, for the report.
    pub(super) fn report(&self, address: SocketAddr) -> Address {
        let first = self
            .asked
            .first()
            .and_then(|asked| asked.result.as_ref().ok());
        let names = self.callers.iter().enumerate();
        let names = names.filter_map(|(position, caller)| self.report_name(position, caller));
        let hellos = self.asked.iter().filter(|asked| asked.question.caller == 0);
        Address {
            address,
            connect_ms: first.map(|exchange| Millis(exchange.connect)),
            names: names.collect(),
            hellos: hellos.filter_map(report_hello).collect(),
        }
    }

    fn report_name(&self, position: usize, caller: &Caller) -> Option<Name> {
        let asked = self.whole(position, Kind::Classic)?;
        let open = self.open_hello(position);
        let chain = open.map(|hello| hello.chain.as_slice()).unwrap_or_default();
        let unseen = self.said(position, Kind::Tls12).filter(|_| open.is_none());
        let version = version(asked).or(open.map(|hello| hello.version));
        Some(Name {
            server_name: caller.name().map(str::to_owned),
            made_up: caller.made_up,
            answer: answer(asked),
            tls: version,
            alpn: open
                .and_then(|hello| hello.alpn.as_deref())
                .map(|alpn| alpn.escape_ascii().to_string()),
            asks_for_certificate: open.and_then(|hello| hello.asks_for_certificate),
            certificates: Certificate::chain(chain),
            certificate_unseen: unseen.map(|said| unseen_because(said, version)),
        })
    }
}

/// Why the answer to a hello of TLS 1.2 shows no certificate.
fn unseen_because(said: &Said, version: Option<Version>) -> String {
    if let Said::Answer(tls::Answer::Alert(alert)) = said
        && REFUSALS.contains(alert)
        && version >= Some(Version::TLS_1_3)
    {
        return "the server speaks TLS 1.3 only, which encrypts its certificate, also for checks (health)"
            .to_owned();
    }
    format!("to a hello of TLS 1.2 the server {}", words::deed(said))
}

fn version(asked: &Asked) -> Option<Version> {
    match &asked.result.as_ref().ok()?.said {
        Said::Answer(tls::Answer::Hello(hello)) => Some(hello.version),
        Said::Answer(_) | Said::Closed | Said::Reset | Said::Nothing => None,
    }
}

fn report_hello(asked: &Asked) -> Option<Hello> {
    Some(Hello {
        hello: match asked.question.kind {
            // It has no other forms.
            Kind::Tls12 => return None,
            Kind::Classic => "classic",
            Kind::PostQuantum => "post_quantum",
        },
        arrival: match asked.question.shape {
            Shape::Whole => "whole",
            Shape::TwoSegments => "two_segments",
            Shape::TwoRecords => "two_records",
        },
        bytes: asked.bytes,
        answer: answer(asked),
    })
}

fn answer(asked: &Asked) -> Answer {
    match &asked.result {
        Ok(exchange) => Answer {
            answer: words::kind(&exchange.said),
            answer_text: words::deed(&exchange.said),
            alert: match exchange.said {
                Said::Answer(tls::Answer::Alert(alert)) => Some(alert),
                Said::Answer(_) | Said::Closed | Said::Reset | Said::Nothing => None,
            },
            first_byte_ms: exchange.first_byte.map(Millis),
        },
        Err(error) => Answer {
            answer: "failed",
            answer_text: format!("cannot be reached: {error}"),
            alert: None,
            first_byte_ms: None,
        },
    }
}
