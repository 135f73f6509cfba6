//! The answers to the first questions of an operator: who is refused and why, and which backend fails and how.

use std::time::Duration;

use super::words::span;
use super::{Address, Backend, CertificateSeen, Endpoint, Refused, Status};
use crate::outcome::{AddressState, CertificateFlaw};

/// Rows of the refused that have the same cause.
#[derive(Debug)]
pub struct SameCause<'s> {
    /// The outcome.
    pub outcome: &'s str,
    /// The limit that was reached, or why the last attempt to connect failed.
    pub reason: Option<&'s str>,
    /// The remedy.
    pub remedy: &'s str,
    /// Connections in all rows.
    pub count: u64,
    /// The rows, those seen last first.
    pub rows: Vec<&'s Refused>,
}

/// The refused by cause, that of the last one first.
pub fn causes(refused: &[Refused]) -> Vec<SameCause<'_>> {
    let mut causes: Vec<SameCause<'_>> = Vec::new();
    for row in refused {
        let (outcome, reason) = (row.outcome.as_str(), row.reason.as_deref());
        let mut known = causes.iter_mut();
        match known.find(|it| (it.outcome, it.reason) == (outcome, reason)) {
            Some(cause) => {
                cause.count += row.count;
                cause.rows.push(row);
            }
            None => causes.push(SameCause {
                outcome,
                reason,
                remedy: &row.remedy,
                count: row.count,
                rows: vec![row],
            }),
        }
    }
    causes
}

/// A backend that fails.
#[derive(Debug)]
pub struct Failing<'s> {
    /// The backend.
    pub backend: &'s Backend,
    /// The faults of its endpoints, in a few words each.
    pub faults: Vec<String>,
    /// Its connections that failed, those seen last first.
    pub failures: Vec<&'s Refused>,
}

/// The backends with a fault at an endpoint, and those whose connections have failed in the last minute.
pub fn failing(status: &Status) -> Vec<Failing<'_>> {
    let judged = status.backends.iter().map(|backend| Failing {
        backend,
        faults: backend.endpoints.iter().flat_map(faults).collect(),
        failures: failures(status, &backend.name),
    });
    let is_failing =
        |it: &Failing<'_>| !it.faults.is_empty() || it.backend.rates.failures_per_s > 0.0;
    judged.filter(is_failing).collect()
}

fn failures<'s>(status: &'s Status, backend: &str) -> Vec<&'s Refused> {
    let rows = status.refused.iter();
    rows.filter(|row| row.backend.as_deref() == Some(backend))
        .collect()
}

fn faults(endpoint: &Endpoint) -> impl Iterator<Item = String> {
    let unresolved = endpoint.unresolved.iter();
    let kept = if endpoint.addresses.is_empty() {
        ""
    } else {
        "; its addresses are those of an older look-up"
    };
    let unresolved = unresolved.map(move |why| format!("{}: {why}{kept}", endpoint.name));
    let troubles = endpoint.addresses.iter().filter_map(|it| {
        let (name, trouble) = (&endpoint.name, trouble(it)?);
        let address = it.address.to_string();
        Some(if *name == address {
            format!("{name}: {trouble}")
        } else {
            format!("{name}, {address}: {trouble}")
        })
    });
    unresolved.chain(troubles)
}

fn trouble(address: &Address) -> Option<String> {
    let checks = address.unhealthy.then(|| "its checks fail".to_owned());
    let dials = address.penalty_ms.map(|left| match left {
        0 => "its last dial failed; the next client tries it".to_owned(),
        left => format!(
            "its last dial failed; ranked last for {}",
            span(Duration::from_millis(left))
        ),
    });
    let state = (address.state == AddressState::Failed && checks.is_none() && dials.is_none())
        .then(|| address.state.name().to_owned());
    let certificate = address.certificate.as_ref().and_then(of_certificate);
    let parts = [checks, dials, state, certificate].into_iter().flatten();
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The flaw of the dates of the certificates, in words.
fn of_certificate(seen: &CertificateSeen) -> Option<String> {
    let flaws = [
        (CertificateFlaw::CertificateExpired, "expired on"),
        (CertificateFlaw::CertificateExpiresSoon, "expires on"),
    ];
    let day = seen.not_after.as_deref()?.split('T').next()?;
    let flaw = flaws
        .into_iter()
        .find(|(flaw, _)| flaw.name() == seen.state);
    let words = flaw.map(|(_, words)| format!("a certificate of it {words} {day}"));
    let is_early = seen.state == CertificateFlaw::CertificateNotYetValid.name();
    words.or_else(|| is_early.then(|| "a certificate of it is not valid yet".to_owned()))
}
