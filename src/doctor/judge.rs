//! Judges what an address has answered. Pure, apart from the time that is given.

use std::time::{Duration, SystemTime};

use super::certificate::{Certificate, SHOWN_NAMES, day};
use super::examine::Asked;
use super::finding::{Finding, Place, Problem};
use super::plan::Caller;
use super::{hellos, words};
use crate::control::probe::{Said, Unreached};
use crate::telemetry::list;
use crate::tls::offer::{Kind, Shape};
use crate::tls::{self, ServerHello, ServerName, Version};

/// How long before its end a certificate is worth a warning.
const SOON: Duration = Duration::from_hours(14 * 24);
/// unrecognized_name (RFC 6066 section 3).
const UNRECOGNIZED_NAME: u8 = 112;

/// An address, with what was asked of it.
pub(super) struct Examined<'a> {
    /// The backend, the endpoint and the address.
    pub(super) place: &'a Place,
    pub(super) callers: &'a [Caller],
    pub(super) asked: &'a [Asked],
    pub(super) connect_timeout: Duration,
    pub(super) now: SystemTime,
}

impl Examined<'_> {
    /// Everything that is wrong with it.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let Some(first) = self.asked.first() else {
            return Vec::new();
        };
        if let Err(error) = &first.result {
            return vec![self.unreached(error)];
        }
        if self.answers_nothing() {
            // One sentence for all of them.
            let made_up = self.callers.iter().all(|caller| caller.made_up);
            let refusal = refusal(first, self.place, made_up);
            return refusal.into_iter().collect();
        }
        let names = self.callers.iter().enumerate();
        let names = names.flat_map(|(position, caller)| self.judge_name(position, caller));
        let mut errors = self.asked.iter().filter_map(|it| it.result.as_ref().err());
        let rest = match errors.next() {
            // Where connections fail, a hello without an answer shows nothing.
            Some(error) => vec![self.reached_at_times(error)],
            None => hellos::lost(self.place, self.asked),
        };
        names.chain(rest).collect()
    }

    fn answers_nothing(&self) -> bool {
        self.asked.iter().all(|asked| {
            let said = asked.result.as_ref().map(|exchange| &exchange.said);
            matches!(
                said,
                Err(_) | Ok(Said::Nothing | Said::Closed | Said::Reset)
            )
        })
    }

    fn unreached(&self, why: &Unreached) -> Finding {
        let (problem, message, help) = words::unreached(why, self.connect_timeout);
        self.place.error(problem, message, help)
    }

    /// The first connection was made, and a later one failed twice.
    fn reached_at_times(&self, error: &Unreached) -> Finding {
        let finding = self.unreached(error);
        if finding.problem == Problem::LocalExhausted {
            return finding;
        }
        let message = format!("some connections are made, and another one fails twice: {error}");
        let help = "look at the connection limits of the server, and of the firewalls on the way";
        self.place.error(finding.problem, message, help)
    }

    /// The exchange for a caller with a hello in one piece.
    pub(super) fn whole(&self, caller: usize, kind: Kind) -> Option<&Asked> {
        self.asked.iter().find(|asked| {
            let question = asked.question;
            question.caller == caller && question.kind == kind && question.shape == Shape::Whole
        })
    }

    pub(super) fn said(&self, caller: usize, kind: Kind) -> Option<&Said> {
        let exchange = self.whole(caller, kind)?.result.as_ref().ok()?;
        Some(&exchange.said)
    }

    /// The hello that has certificates: that of TLS 1.2, or the other one of an old server.
    pub(super) fn open_hello(&self, caller: usize) -> Option<&ServerHello> {
        let of = |kind| match self.said(caller, kind)? {
            Said::Answer(tls::Answer::Hello(hello)) if !hello.chain.is_empty() => Some(hello),
            Said::Answer(_) | Said::Closed | Said::Reset | Said::Nothing => None,
        };
        of(Kind::Tls12).or_else(|| of(Kind::Classic))
    }

    fn judge_name(&self, position: usize, caller: &Caller) -> Vec<Finding> {
        let place = self.place.of_name(caller.name());
        let asked = self.whole(position, Kind::Classic);
        let mut findings: Vec<Finding> = asked
            .and_then(|asked| refusal(asked, &place, caller.made_up))
            .into_iter()
            .collect();
        if let Some(Said::Answer(tls::Answer::Hello(hello))) = self.said(position, Kind::Classic)
            && hello.version < Version::TLS_1_2
        {
            let message = format!("the server speaks TLS {} and nothing newer", hello.version);
            findings.push(place.error(Problem::OldVersion, message, words::TOO_OLD));
        }
        if let Some(hello) = self.open_hello(position) {
            findings.extend(self.judge_chain(hello, caller, &place));
        }
        findings
    }

    fn judge_chain(&self, hello: &ServerHello, caller: &Caller, place: &Place) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (position, der) in hello.chain.iter().enumerate() {
            let Some(certificate) = Certificate::read(der) else {
                if position == 0 {
                    findings.push(place.error(
                        Problem::CertificateUnreadable,
                        "the certificate cannot be read".to_owned(),
                        "look at the server's certificate: openssl s_client -connect shows it",
                    ));
                }
                continue;
            };
            findings.extend(self.judge_time(&certificate, position, place));
            if position == 0
                && let Some(name) = &caller.server_name
                && !certificate.covers(name)
            {
                findings.push(wrong_name(&certificate, caller, name, place, hello));
            }
        }
        findings
    }

    fn judge_time(
        &self,
        certificate: &Certificate,
        position: usize,
        place: &Place,
    ) -> Option<Finding> {
        let Certificate {
            subject,
            not_before,
            not_after,
            ..
        } = certificate;
        let which = match position {
            0 => "the certificate".to_owned(),
            _ => format!("the certificate of the authority {subject}"),
        };
        let [from, to] = [*not_before, *not_after].map(day);
        if self.now > *not_after {
            let message = format!("{which} expired on {to}");
            let problem = Problem::CertificateExpired;
            return Some(match position {
                0 => place.error(problem, message, "renew it at the server"),
                _ => place.warning(problem, message, words::OTHER_WAY),
            });
        }
        if self.now < *not_before {
            let message = format!("{which} is valid only from {from} on");
            let help = "check the clock of this machine, or renew the certificate at the server";
            let problem = Problem::CertificateNotYetValid;
            return Some(match position {
                0 => place.error(problem, message, help),
                _ => place.warning(problem, message, words::OTHER_WAY),
            });
        }
        let left = not_after.duration_since(self.now).unwrap_or_default();
        (left < SOON).then(|| {
            let days = words::days(left.as_secs() / 86_400);
            let message = format!("{which} expires on {to}, in {days}");
            place.warning(
                Problem::CertificateExpiresSoon,
                message,
                "renew it at the server",
            )
        })
    }
}

/// Why an answer is not a hello.
fn refusal(asked: &Asked, place: &Place, made_up: bool) -> Option<Finding> {
    let exchange = asked.result.as_ref().ok()?;
    let deed = words::deed(&exchange.said);
    let (problem, message, help) = match &exchange.said {
        Said::Answer(tls::Answer::Hello(_)) => return None,
        Said::Answer(tls::Answer::Alert(alert)) => {
            let message = match place.server_name.as_deref() {
                Some(name) => format!("the server {deed} to a hello for {name}"),
                None => format!("the server {deed} to a hello without a server name"),
            };
            (Problem::Alert, message, words::remedy_of(*alert))
        }
        Said::Answer(tls::Answer::NotTls(_)) => (
            Problem::NotTls,
            format!("the server does not speak TLS there: it {deed}"),
            "turn on TLS at the server, or correct the port in endpoints: portway passes TLS on and adds none",
        ),
        Said::Answer(tls::Answer::Malformed(_) | tls::Answer::Cut(_)) => (
            Problem::BadAnswer,
            format!("the answer is not one of TLS: the server {deed}"),
            "look at the log of the server, and for a device on the way that changes what passes",
        ),
        Said::Nothing => (
            Problem::Silent,
            format!("something accepts the connection, and then {deed}"),
            "check that a TLS server listens at this port, and that no load balancer or firewall accepts for it",
        ),
        Said::Closed | Said::Reset => (
            Problem::Closed,
            format!("the server {deed} without an answer to the hello"),
            "check that a TLS server listens at this port; look at its log, and at its connection limit",
        ),
    };
    let may_be_the_name = matches!(
        exchange.said,
        Said::Answer(tls::Answer::Alert(_)) | Said::Closed | Said::Reset
    );
    Some(if made_up && may_be_the_name {
        let known = place.server_name.is_some();
        place.warning(problem, message, words::remedy_of_made_up(known))
    } else {
        place.error(problem, message, help)
    })
}

fn wrong_name(
    certificate: &Certificate,
    caller: &Caller,
    name: &ServerName,
    place: &Place,
    hello: &ServerHello,
) -> Finding {
    let names = match certificate.names.len() {
        0 => "no name at all, and clients ignore its common name".to_owned(),
        _ => list(&certificate.names, SHOWN_NAMES),
    };
    let does_not_know = match hello.warning {
        Some(UNRECOGNIZED_NAME) => "; the server warns that it does not know the name",
        Some(_) | None => "",
    };
    let message = format!("the certificate is not for {name}: it has {names}{does_not_know}");
    if caller.made_up {
        let help = words::remedy_of_made_up(true);
        place.warning(Problem::WrongName, message, help)
    } else {
        let help = "put the name into the server's certificate, or correct server_names or the backend of the route";
        place.error(Problem::WrongName, message, help)
    }
}

#[cfg(test)]
mod tests;
