//! Finds hellos that get lost on the way, although they mean the same as others that are answered: servers and
//! devices exist that read one segment or one record and no further.

use super::examine::{Asked, Question};
use super::finding::{Finding, Place, Problem};
use super::words;
use crate::control::probe::Said;
use crate::tls::Answer;
use crate::tls::offer::{Kind, Shape};

/// How far a hello got, the best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Unanswered,
    Refused,
    Accepted,
}

/// A form of a hello that gets less far than another one.
struct Lost<'a> {
    what: String,
    bad: &'a Asked,
    help: &'static str,
}

const SEGMENTS: &str = "a device on the way, or the server, does not join the segments of a hello. Post-quantum hellos always arrive in \
     two: turn its TLS inspection off, update it, or send the agents another way";
const RECORDS: &str = "a device on the way, or the server, does not join the records of a hello. Few clients send such hellos: update \
     it, or turn its TLS inspection off";
const SIZE: &str = "agents of 2025 and later send such a hello (Go 1.24: X25519MLKEM768). A device on the way, or the server, takes \
     only hellos that fit one segment: turn its TLS inspection off, update it, or set GODEBUG=tlsmlkem=0 for the agents";

/// The findings for hellos of the first caller that were sent to one address.
pub(super) fn lost(place: &Place, asked: &[Asked]) -> Vec<Finding> {
    let findings = forms(asked).into_iter().filter_map(|lost| {
        let deed = words::deed(said(lost.bad)?);
        let message = format!("{}: it {deed}", lost.what);
        Some(place.error(Problem::HelloLost, message, lost.help))
    });
    findings.collect()
}

/// The position of a hello that seems lost, or whose connection failed, apart from those that were asked `again`.
pub(super) fn suspect(asked: &[Asked], again: &[Question]) -> Option<usize> {
    let lost: Vec<Question> = forms(asked).iter().map(|lost| lost.bad.question).collect();
    asked.iter().position(|asked| {
        let seems_lost = asked.result.is_err() || lost.contains(&asked.question);
        seems_lost && !again.contains(&asked.question)
    })
}

fn forms(asked: &[Asked]) -> Vec<Lost<'_>> {
    let sent = Sent(asked);
    let mut forms = Vec::new();
    let classic = sent.of(Kind::Classic, Shape::Whole);
    let large = sent.of(Kind::PostQuantum, Shape::Whole);
    if let Some((good, bad)) = worse(classic, large) {
        let what = format!(
            "the server answers a hello of classic size ({} bytes), and not one of post-quantum size ({} bytes)",
            good.bytes, bad.bytes
        );
        forms.push(Lost {
            what,
            bad,
            help: SIZE,
        });
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
            let what = what.to_owned();
            forms.push(Lost { what, bad, help });
        }
    }
    forms
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
    (reach(said(bad)?) < reach(said(good)?)).then_some((good, bad))
}

/// The reaction to a hello; there is none if its connection failed.
fn said(asked: &Asked) -> Option<&Said> {
    let exchange = asked.result.as_ref().ok()?;
    Some(&exchange.said)
}

const fn reach(said: &Said) -> Reach {
    match said {
        Said::Answer(Answer::Hello(_)) => Reach::Accepted,
        Said::Answer(Answer::Alert(_) | Answer::NotTls(_)) => Reach::Refused,
        Said::Answer(Answer::Malformed(_) | Answer::Cut(_))
        | Said::Closed
        | Said::Reset
        | Said::Nothing => Reach::Unanswered,
    }
}

#[cfg(test)]
mod tests;
