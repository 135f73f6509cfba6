use std::io;
use std::time::Duration;

use super::*;
use crate::control::probe::{Exchange, Unreached};
use crate::doctor::examine::Question;
use crate::tls::{ServerHello, Version};

fn hello() -> Said {
    Said::Answer(Answer::Hello(ServerHello {
        version: Version::TLS_1_3,
        is_retry: false,
        alpn: None,
        chain: Vec::new(),
        asks_for_certificate: None,
        warning: None,
    }))
}

/// The sentences where `bad` came back for the forms of which `is_bad` is true, and a hello for the others.
fn sentences(bad: &Said, is_bad: impl Fn(Kind, Shape) -> bool) -> Vec<String> {
    let kinds = [(Kind::Classic, 267), (Kind::PostQuantum, 1494)];
    let shapes = [Shape::Whole, Shape::TwoSegments, Shape::TwoRecords];
    let forms = kinds
        .into_iter()
        .flat_map(|kind| shapes.map(|shape| (kind, shape)));
    let asked = forms.map(|((kind, bytes), shape)| Asked {
        question: Question {
            caller: 0,
            kind,
            shape,
        },
        bytes,
        result: Ok(Exchange {
            connect: Duration::ZERO,
            first_byte: None,
            said: if is_bad(kind, shape) {
                bad.clone()
            } else {
                hello()
            },
        }),
    });
    let asked: Vec<Asked> = asked.collect();
    let findings = lost(&Place::default(), &asked);
    assert!(
        findings
            .iter()
            .all(|it| it.problem == Problem::HelloLost && !it.help.is_empty())
    );
    findings
        .into_iter()
        .map(|finding| finding.message)
        .collect()
}

#[test]
fn a_server_that_treats_all_alike_is_fine() {
    for said in [hello(), Said::Answer(Answer::Alert(40)), Said::Nothing] {
        assert_eq!(sentences(&said, |_, _| true), [""; 0]);
    }
}

#[test]
fn each_form_that_is_lost_is_told_in_words() {
    let segments = |_, shape| shape == Shape::TwoSegments;
    assert_eq!(
        sentences(&Said::Nothing, segments),
        [
            "the server answers a whole hello, and not one that arrives in two segments: it stays silent for 5 s"
        ]
    );
    let only_large = |kind, shape| kind == Kind::PostQuantum && shape == Shape::TwoSegments;
    assert_eq!(sentences(&Said::Closed, only_large).len(), 1);
    let records = |_, shape| shape == Shape::TwoRecords;
    assert_eq!(
        sentences(&Said::Answer(Answer::Alert(50)), records),
        [
            "the server answers a hello in one record, and not one in two records: it sends alert 50 (decode_error)"
        ]
    );
    let large = |kind, _| kind == Kind::PostQuantum;
    assert_eq!(
        sentences(&Said::Reset, large),
        [
            "the server answers a hello of classic size (267 bytes), and not one of post-quantum size (1494 bytes): \
             it resets the connection"
        ]
    );
    let all = |kind, shape| kind == Kind::PostQuantum || shape != Shape::Whole;
    assert_eq!(sentences(&Said::Nothing, all).len(), 3);
    // A refusal is less than a hello, and more than silence.
    let alert = Said::Answer(Answer::Alert(40));
    assert_eq!(sentences(&alert, only_large).len(), 1);
}

#[test]
fn a_connection_that_fails_is_asked_again_and_shows_nothing_of_its_hello() {
    let asked = |shape, result: io::Result<Said>| Asked {
        question: Question {
            caller: 0,
            kind: Kind::Classic,
            shape,
        },
        bytes: 267,
        result: result.map_err(Unreached::Server).map(|said| Exchange {
            connect: Duration::ZERO,
            first_byte: None,
            said,
        }),
    };
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    let asked = [
        asked(Shape::Whole, Ok(hello())),
        asked(Shape::TwoRecords, Err(refused)),
        asked(Shape::TwoSegments, Ok(Said::Nothing)),
    ];
    let findings = lost(&Place::default(), &asked);
    assert_eq!(findings.len(), 1);
    assert!(findings[0].message.contains("segments"), "{findings:?}");
    let [_, records, segments] = [0, 1, 2].map(|at| asked[at].question);
    assert_eq!(suspect(&asked, &[]), Some(1));
    assert_eq!(suspect(&asked, &[records]), Some(2));
    assert_eq!(suspect(&asked, &[records, segments]), None);
}
