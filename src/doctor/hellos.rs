//! Finds hellos that get lost on the way, although they mean the same as others that are answered: servers and
//! devices exist that read one segment or one record and no further.

use super::examine::Asked;
use super::finding::{Finding, Place, Problem};
use super::hello::{Kind, Shape};
use super::probe::Said;
use super::words;
use crate::tls::Answer;

/// How far a hello got, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Unanswered,
    Refused,
    Accepted,
}

const SEGMENTS: &str = "a device on the way, or the server, does not join the segments of a hello. Post-quantum hellos always arrive in \
     two: turn its TLS inspection off, update it, or send the agents another way";
const RECORDS: &str = "a device on the way, or the server, does not join the records of a hello. Few clients send such hellos: update \
     it, or turn its TLS inspection off";
const SIZE: &str = "agents of 2025 and later send such a hello (Go 1.24: X25519MLKEM768). A device on the way, or the server, takes \
     only hellos that fit one segment: turn its TLS inspection off, update it, or set GODEBUG=tlsmlkem=0 for the agents";

/// The findings for hellos of the first caller that were sent to one address.
pub(super) fn lost(place: &Place, asked: &[Asked]) -> Vec<Finding> {
    let sent = Sent(asked);
    let mut findings = Vec::new();
    let classic = sent.of(Kind::Classic, Shape::Whole);
    let large = sent.of(Kind::PostQuantum, Shape::Whole);
    if let Some((good, bad)) = worse(classic, large) {
        let what = format!(
            "the server answers a hello of classic size ({} bytes), and not one of post-quantum size ({} bytes)",
            good.bytes, bad.bytes
        );
        findings.push(finding(place, &what, bad, SIZE));
    }
    for (shape, what, help) in [
        (
            Shape::TwoSegments,
            "the server answers a whole hello, and not one that arrives in two segments",
            SEGMENTS,
        ),
        (
            Shape::TwoRecords,
            "the server answers a hello in one record, and not one in two records",
            RECORDS,
        ),
    ] {
        let kinds = [Kind::Classic, Kind::PostQuantum];
        let of = |kind| worse(sent.of(kind, Shape::Whole), sent.of(kind, shape));
        if let Some((_, bad)) = kinds.into_iter().find_map(of) {
            findings.push(finding(place, what, bad, help));
        }
    }
    findings
}

fn finding(place: &Place, what: &str, bad: &Asked, help: &str) -> Finding {
    let deed = match &bad.result {
        Ok(exchange) => format!("it {}", words::deed(&exchange.said)),
        Err(error) => format!("the connection fails: {error}"),
    };
    place.error(Problem::HelloLost, format!("{what}: {deed}"), help)
}

struct Sent<'a>(&'a [Asked]);

impl<'a> Sent<'a> {
    fn of(&self, kind: Kind, shape: Shape) -> Option<&'a Asked> {
        self.0.iter().find(|asked| {
            let question = asked.question;
            question.caller == 0 && question.kind == kind && question.shape == shape
        })
    }
}

/// Both, if the second got less far.
fn worse<'a>(good: Option<&'a Asked>, bad: Option<&'a Asked>) -> Option<(&'a Asked, &'a Asked)> {
    let (good, bad) = (good?, bad?);
    (reach(bad) < reach(good)).then_some((good, bad))
}

fn reach(asked: &Asked) -> Reach {
    match asked.result.as_ref().map(|exchange| &exchange.said) {
        Ok(Said::Answer(Answer::Hello(_))) => Reach::Accepted,
        Ok(Said::Answer(Answer::Alert(_) | Answer::NotTls(_))) => Reach::Refused,
        Ok(
            Said::Answer(Answer::Malformed(_) | Answer::Cut(_))
            | Said::Closed
            | Said::Reset
            | Said::Nothing,
        )
        | Err(_) => Reach::Unanswered,
    }
}

#[cfg(test)]
mod tests;
