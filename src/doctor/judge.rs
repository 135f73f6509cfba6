//! Judges what an address has answered. Pure, apart from the time that is given.

use std::time::{Duration, SystemTime};

use super::examine::Asked;
use super::finding::{Finding, Place, Problem};
use super::plan::Caller;
use super::{hellos, words};
use crate::control::probe::certificates::{self, Flaw};
use crate::control::probe::{Said, Unreached};
use crate::outcome::CertificateFlaw;
use crate::tls::certificate::Certificate;
use crate::tls::offer::{Kind, Shape};
use crate::tls::{self, ServerHello, Version};

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
        let is_of_server = matches!(why, Unreached::Server(_));
        let may_be_old =
            is_of_server && problem != Problem::LocalExhausted && self.place.is_named();
        let name = if may_be_old { words::OLD_ADDRESS } else { "" };
        self.place.error(problem, message, format!("{help}{name}"))
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
            findings.push(place.error(Problem::OldVersion, message, tls::TOO_OLD));
        }
        if let Some(hello) = self.open_hello(position) {
            findings.extend(self.judge_chain(hello, caller, &place));
        }
        findings
    }

    fn judge_chain(&self, hello: &ServerHello, caller: &Caller, place: &Place) -> Vec<Finding> {
        let chain = Certificate::chain(&hello.chain);
        let flaws = certificates::flaws(hello, &chain, self.now, |certificate| {
            let name = caller.server_name.as_ref()?;
            certificates::wrong_name(certificate, name, hello)
        });
        let flaws = flaws.into_iter();
        flaws.map(|flaw| of_flaw(flaw, caller, place)).collect()
    }
}

/// The finding for a flaw of a certificate. A name that doctor has made up makes it only a warning.
fn of_flaw(flaw: Flaw, caller: &Caller, place: &Place) -> Finding {
    let Flaw {
        kind,
        is_of_authority,
        message,
        help,
    } = flaw;
    let (problem, is_error, help) = match kind {
        CertificateFlaw::CertificateExpired => (Problem::CertificateExpired, true, help),
        CertificateFlaw::CertificateNotYetValid => (Problem::CertificateNotYetValid, true, help),
        CertificateFlaw::CertificateExpiresSoon => (Problem::CertificateExpiresSoon, false, help),
        CertificateFlaw::CertificateUnreadable => (Problem::CertificateUnreadable, true, help),
        CertificateFlaw::WrongName if caller.made_up => {
            let help = words::remedy_of_made_up(true);
            (Problem::WrongName, false, help)
        }
        CertificateFlaw::WrongName => (Problem::WrongName, true, help),
    };
    if is_error && !is_of_authority {
        place.error(problem, message, help)
    } else {
        place.warning(problem, message, help)
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
            (Problem::Alert, message, tls::remedy(*alert))
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

#[cfg(test)]
mod tests;
