//! Takes the certificates that a check has seen, and warns of those that clients refuse, or will soon.

use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::Turns;
use super::check::{PROTOCOL_VERSION, asked_name};
use crate::backend::{Presented, Unseen};
use crate::control::probe::Said;
use crate::control::probe::certificates::{self, Flaw};
use crate::outcome::CertificateFlaw;
use crate::routing::Pattern;
use crate::tls::certificate::Certificate;
use crate::tls::{Answer, ServerHello, ServerName, Version};

/// How long the log says nothing more about the same kind of flaw at an address, nor about the same certificates at
/// another address of the endpoint.
const QUIET: Duration = Duration::from_hours(24);

impl Turns {
    /// Takes the certificates in an answer, and logs their flaws. A server that fails a check keeps those that it has
    /// shown before.
    pub(super) fn take_certificates(&self, said: &Said, now: Instant) {
        if !self.endpoint.shows_certificates() {
            // A reload has ended such checks while this one was under way.
            return;
        }
        let (certificates, flaws) = match said {
            Said::Answer(Answer::Hello(hello)) if hello.version < Version::TLS_1_3 => {
                let chain = Certificate::chain(&hello.chain);
                let flaws = self.flaws(hello, &chain);
                let seen = Some(chain).filter(|chain| !chain.is_empty());
                (seen.ok_or(Unseen::Unreadable), flaws)
            }
            Said::Answer(Answer::Hello(_) | Answer::Alert(PROTOCOL_VERSION)) => {
                (Err(Unseen::Encrypted), Vec::new())
            }
            Said::Answer(_) | Said::Closed | Said::Reset | Said::Nothing => return,
        };
        let before = self.address.presented();
        let mut presented = Presented {
            seen_at: SystemTime::now(),
            server_name: asked_name(&self.endpoint, &self.checks),
            certificates,
            warned: before.map(|before| before.warned).unwrap_or_default(),
        };
        let is_new = |flaw: &Flaw| !self.has_warned(&presented, flaw.kind, now);
        let new: Vec<Flaw> = flaws.into_iter().filter(is_new).collect();
        for flaw in new {
            presented.warned[flaw.kind] = Some(now);
            self.warn(&presented, &flaw);
        }
        self.address.present(Some(presented));
    }

    fn flaws(&self, hello: &ServerHello, chain: &[Certificate]) -> Vec<Flaw> {
        let wrong_name = |certificate: &Certificate| self.wrong_name(certificate, hello);
        certificates::flaws(hello, chain, SystemTime::now(), wrong_name)
    }

    /// Whether the certificate is not for the name that the check asks for. Clients use that of `server_name`. The host of
    /// the endpoint is only a guess, and the certificate may be for a name of a route instead.
    fn wrong_name(&self, certificate: &Certificate, hello: &ServerHello) -> Option<Flaw> {
        let name = asked_name(&self.endpoint, &self.checks)?;
        let flaw = certificates::wrong_name(certificate, &name, hello)?;
        let help = if self.checks.server_name.is_some() {
            "put the name into the server's certificate, or correct server_name of health"
        } else if self.names.borrow().iter().any(|it| is_for(certificate, it)) {
            return None;
        } else {
            "write a name that clients use into server_name of health, or put it into the server's certificate"
        };
        Some(Flaw { help, ..flaw })
    }

    /// Whether the log has such a line already.
    fn has_warned(&self, presented: &Presented, kind: CertificateFlaw, now: Instant) -> bool {
        let is_recent = |presented: &Presented| {
            let at = presented.warned[kind];
            at.is_some_and(|at| now.saturating_duration_since(at) < QUIET)
        };
        let addresses = self.endpoint.addresses();
        let mut others = addresses.iter().filter_map(|other| other.presented());
        let is_alike = |other: &Presented| other.certificates == presented.certificates;
        is_recent(presented) || others.any(|other| is_alike(&other) && is_recent(&other))
    }

    fn warn(&self, presented: &Presented, flaw: &Flaw) {
        let server_name = presented.server_name.as_ref();
        warn!(
            backend = self.endpoint.stats().backend(),
            endpoint = %self.endpoint.name(),
            address = %self.address.at(),
            server_name = server_name.map(ServerName::as_str),
            problem = flaw.kind.name(),
            reason = flaw.message,
            help = flaw.help,
            "clients refuse a certificate of the endpoint, or will soon"
        );
    }
}

/// Whether the certificate is for a name that the pattern takes.
fn is_for(certificate: &Certificate, pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Any => true,
        Pattern::Exact(name) => certificate.covers(name),
        Pattern::OneLabel(suffix) | Pattern::AnyDepth(suffix) => {
            let suffix = format!(".{}", suffix.as_str());
            let mut names = certificate.names.iter();
            names.any(|name| name.to_ascii_lowercase().ends_with(&suffix))
        }
    }
}

#[cfg(test)]
mod tests;
