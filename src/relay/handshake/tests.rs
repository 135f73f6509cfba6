use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::outcome::{ClosedBy, Direction, Outcome};
use crate::relay::end::End;
use crate::relay::talk::Talk;
use crate::relay::tests::limits;
use crate::relay::{Flow, Splicing, Terms};
use crate::telemetry::Registry;
use crate::tls::Version;

const UP: Direction = Direction::ClientToBackend;
const DOWN: Direction = Direction::BackendToClient;
const UNKNOWN_CA: [u8; 7] = [21, 3, 3, 0, 2, 2, 48];
const CLOSING: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    [&[kind, 3, 3][..], &length.to_be_bytes(), payload].concat()
}

/// A record that is encrypted, or of which only the length counts.
fn blank(kind: u8, length: usize) -> Vec<u8> {
    record(kind, &vec![0xaa; length])
}

fn data(length: usize) -> Vec<u8> {
    blank(23, length)
}

fn change() -> Vec<u8> {
    record(20, &[1])
}

/// A ServerHello, with the extension of TLS 1.3 if it is one.
fn server_hello(version: Version) -> Vec<u8> {
    let mut body = vec![3, 3.min(u8::try_from(version.0 & 0xff).unwrap())];
    body.extend([0x11; 32]);
    body.extend([0, 0x13, 1, 0]);
    if version == Version::TLS_1_3 {
        body.extend([0, 6, 0, 43, 0, 2, 3, 4]);
    }
    let mut message = vec![2, 0, 0, u8::try_from(body.len()).unwrap()];
    message.extend(body);
    record(22, &message)
}

/// The bytes of one side, with the seconds of silence before them.
type Step<'a> = (Direction, u32, Vec<u8>);

fn told(steps: &[Step<'_>]) -> Talk {
    let mut talk = Talk::default();
    talk.pass(UP, &blank(22, 517), 0);
    for (direction, silence, bytes) in steps {
        talk.pass(*direction, bytes, *silence);
    }
    talk
}

fn watched(steps: &[Step<'_>]) -> Watch {
    told(steps).watch()
}

/// The first flight of a backend of TLS 1.3.
fn new_flight() -> Step<'static> {
    let flight = [
        server_hello(Version::TLS_1_3),
        change(),
        data(23),
        data(1200),
        data(280),
        data(53),
    ];
    (DOWN, 0, flight.concat())
}

/// The first flight of a backend of TLS 1.2, which shows its certificate.
fn old_flight() -> Step<'static> {
    let flight = [server_hello(Version::TLS_1_2), blank(22, 3000)];
    (DOWN, 0, flight.concat())
}

/// The message of TLS 1.2 with the client's certificates: none, or one.
fn certificate(bytes: usize) -> Vec<u8> {
    let list = u8::try_from(bytes).unwrap();
    let mut message = vec![11, 0, 0, list + 3, 0, 0, list];
    message.resize(7 + bytes, 0xaa);
    record(22, &message)
}

#[test]
fn a_handshake_is_completed_once_both_sides_have_finished() {
    let new = [
        new_flight(),
        (UP, 0, [change(), data(53)].concat()),
        (DOWN, 0, data(250)),
    ];
    for (steps, result) in [
        (&new[..1], Handshake::Abandoned),
        (&new[..2], Handshake::Completed),
        (&new[..], Handshake::Completed),
    ] {
        let watch = watched(steps);
        assert_eq!(watch.result(), result);
        assert_eq!(watch.is_completed(), steps.len() == 3);
        assert_eq!(watch.version(), Some(Version::TLS_1_3));
        assert_eq!(watch.said(), Some(BackendAnswer::ServerHello));
    }
    assert_eq!(watched(&new).asks_for_certificate(), Some(false));

    let key = record(22, &[16, 0, 0, 33]);
    let old = [
        old_flight(),
        (UP, 0, [key, change(), blank(22, 40)].concat()),
        (DOWN, 0, [blank(22, 200), change(), blank(22, 40)].concat()),
    ];
    assert_eq!(watched(&old[..2]).result(), Handshake::Abandoned);
    let watch = watched(&old);
    assert!(watch.is_completed());
    assert_eq!(watch.version(), Some(Version::TLS_1_2));
    assert_eq!(watch.asks_for_certificate(), Some(false));

    // A session is resumed: the backend finishes first, and nobody can see whether it would ask.
    let resumed = [
        (
            DOWN,
            0,
            [server_hello(Version::TLS_1_2), change(), blank(22, 40)].concat(),
        ),
        (UP, 0, [change(), blank(22, 40), data(700)].concat()),
    ];
    assert_eq!(watched(&resumed[..1]).result(), Handshake::Abandoned);
    assert!(watched(&resumed).is_completed());
    assert_eq!(watched(&resumed).asks_for_certificate(), None);
}

#[test]
fn another_hello_and_early_data_are_no_failures() {
    let retried = [
        (DOWN, 0, [server_hello(Version::TLS_1_3), change()].concat()),
        (UP, 0, [change(), blank(22, 550)].concat()),
        new_flight(),
        (UP, 0, data(53)),
        (DOWN, 0, data(250)),
    ];
    assert!(watched(&retried).is_completed());
    // Of any length, also that of an alert.
    for early in [19, 100, 900] {
        let steps = [
            (UP, 0, data(early)),
            (
                DOWN,
                0,
                [server_hello(Version::TLS_1_3), change(), data(23), data(53)].concat(),
            ),
            (UP, 0, [data(early), data(21), data(53)].concat()),
            (DOWN, 0, data(400)),
        ];
        let watch = watched(&steps);
        assert!(watch.is_completed());
        assert_eq!(watch.asks_for_certificate(), Some(false));
    }
}

#[test]
fn a_client_that_refuses_in_tls_1_3_sends_a_record_of_the_length_of_an_alert_first() {
    let steps = [new_flight(), (UP, 0, [change(), data(19)].concat())];
    let watch = watched(&steps);
    assert_eq!(watch.result(), Handshake::Failed);
    assert_eq!(watch.alert(Side::Client), None, "it is encrypted");
    // The bytes that the backend sends meanwhile change nothing.
    let crossed = [&steps[..], &[(DOWN, 0, data(250))]].concat();
    assert_eq!(watched(&crossed).result(), Handshake::Failed);
    let went_on = [&steps[..], &[(UP, 0, data(53))]].concat();
    assert_eq!(watched(&went_on).result(), Handshake::Completed);
}

#[test]
fn a_client_that_gives_up_in_tls_1_3_refuses_nothing() {
    // user_canceled, then close_notify.
    for length in [19, 35] {
        let gave_up = [new_flight(), (UP, 0, [data(length), data(length)].concat())];
        assert_eq!(watched(&gave_up).result(), Handshake::Abandoned);
    }
    // It has waited for the rest of the backend's flight.
    let timed_out = [new_flight(), (UP, LATE, data(19))];
    assert_eq!(watched(&timed_out).result(), Handshake::Abandoned);
}

#[test]
fn who_closes_behind_a_refusal_in_clear_still_refuses() {
    for piece in [true, false] {
        for (direction, side) in [(UP, Side::Client), (DOWN, Side::Backend)] {
            let mut steps = vec![];
            if side == Side::Client {
                steps.push(old_flight());
            }
            if piece {
                steps.push((direction, 0, [UNKNOWN_CA, CLOSING].concat()));
            } else {
                steps.push((direction, 0, UNKNOWN_CA.to_vec()));
                steps.push((direction, 0, CLOSING.to_vec()));
            }
            let watch = watched(&steps);
            assert_eq!(watch.result(), Handshake::Failed);
            assert_eq!(watch.alert(side), Some(48));
        }
    }
}

/// A client with a certificate that sends a long request in pieces, and the answer to nobody.
#[test]
fn a_client_that_goes_on_sending_was_not_refused() {
    let flight = (UP, 0, [data(900), data(280), data(53)].concat());
    let closing = (DOWN, 0, data(19));
    for silence in [PAUSE, 60] {
        let steps = [
            new_flight(),
            flight.clone(),
            (UP, silence, data(900)),
            closing.clone(),
        ];
        let watch = watched(&steps);
        assert_eq!(watch.result(), Handshake::Completed);
    }
    // So much that the rest passes in a pipe.
    let mut talk = told(&[new_flight(), flight]);
    talk.lose(UP);
    talk.pass(DOWN, &closing.2, 0);
    assert_eq!(talk.watch().result(), Handshake::Completed);
}

#[test]
fn a_handshake_that_a_pipe_hides_is_counted_once() {
    let registry = Registry::new();
    let flow = Flow::new(Instant::now());
    let terms = Terms::new(limits(Splicing::Always), registry.backend("fleet"));
    flow.begin(Arc::new(terms), 100);
    let flights = [(UP, blank(22, 517)), (DOWN, new_flight().2), (UP, data(53))];
    for (direction, bytes) in flights {
        flow.pass(direction, &bytes, 100);
        flow.add(direction, 1, 100);
    }
    let counted = || {
        let series = "portway_handshakes_total{backend=\"fleet\",result=\"completed\"}";
        registry.render().contains(&format!("{series} 1\n"))
    };
    assert!(!counted());
    flow.lend(UP, 100);
    assert!(counted());
    drop(flow);
    assert!(counted());
}

#[test]
fn an_upload_with_pauses_keeps_what_was_seen_of_the_handshake() {
    // A client without session tickets: the backend says nothing before its answer.
    let mut steps = vec![new_flight(), (UP, 0, [data(53), data(700)].concat())];
    for _ in 0..3 {
        steps.push((UP, 2, data(700)));
    }
    assert!(watched(&steps).is_completed());
    steps.push((DOWN, 6, data(400)));
    assert!(watched(&steps).is_completed());
}

#[test]
fn the_first_answer_of_a_backend_counts_although_the_client_sends_rubbish() {
    for (answer, said, result) in [
        (
            old_flight().2,
            BackendAnswer::ServerHello,
            Handshake::Unseen,
        ),
        (UNKNOWN_CA.to_vec(), BackendAnswer::Alert, Handshake::Unseen),
        (
            b"HTTP/1.1 400".to_vec(),
            BackendAnswer::NotTls,
            Handshake::NotTls,
        ),
    ] {
        let watch = watched(&[(UP, 0, b"rubbish".to_vec()), (DOWN, 0, answer)]);
        assert_eq!(watch.said().unwrap_or(BackendAnswer::Alert), said);
        assert_eq!(watch.result(), result);
    }
}

#[test]
fn a_certificate_that_comes_in_pieces_is_not_taken_for_none() {
    let message = certificate(90);
    let key = record(22, &[16, 0, 0, 33]);
    for at in 1..message.len() {
        let (begin, rest) = message.split_at(at);
        let steps = [
            old_flight(),
            (UP, 0, begin.to_vec()),
            (UP, 0, [rest, &key].concat()),
        ];
        assert_ne!(watched(&steps).asks_for_certificate(), Some(false), "{at}");
    }
}

#[test]
fn a_server_hello_in_two_segments_shows_its_version() {
    // With a key share of ML-KEM behind the version.
    let mut body = vec![3, 3];
    body.extend([0x11; 32]);
    body.push(32);
    body.extend([0x22; 32]);
    body.extend([
        0x13, 1, 0, 4, 110, 0, 43, 0, 2, 3, 4, 0, 51, 4, 100, 0x11, 0xec, 4, 96,
    ]);
    body.extend([0x33; 1120]);
    let mut message = vec![2, 0, 4, 182];
    message.extend(body);
    let hello = record(22, &message);
    assert_eq!(hello.len(), 1215);
    let (begin, rest) = hello.split_at(1208);
    let steps = [
        (DOWN, 0, begin.to_vec()),
        (DOWN, 0, [rest, &change(), &data(1200)].concat()),
        (UP, 0, data(19)),
    ];
    let watch = watched(&steps);
    assert_eq!(watch.version(), Some(Version::TLS_1_3));
    assert_eq!(watch.result(), Handshake::Failed);
}

#[test]
fn an_alert_in_clear_is_a_refusal_with_its_number() {
    for flight in [old_flight(), new_flight()] {
        let watch = watched(&[flight, (UP, 0, UNKNOWN_CA.to_vec())]);
        assert_eq!(watch.result(), Handshake::Failed);
        assert_eq!(watch.alert(Side::Client), Some(48));
        assert_eq!(watch.alert(Side::Backend), None);
    }
    let watch = watched(&[(DOWN, 0, vec![21, 3, 3, 0, 2, 2, 112])]);
    assert_eq!(watch.result(), Handshake::Failed);
    assert_eq!(watch.said(), Some(BackendAnswer::Alert));
    assert_eq!(watch.alert(Side::Backend), Some(112));
    // A warning that it does not know the name, and then its hello.
    let warned = [(DOWN, 0, vec![21, 3, 3, 0, 2, 1, 112]), old_flight()];
    let watch = watched(&warned);
    assert_eq!(watch.result(), Handshake::Abandoned);
    assert_eq!(watch.alert(Side::Backend), None);
    assert_eq!(watch.said(), Some(BackendAnswer::ServerHello));
}

#[test]
fn who_only_closes_refuses_nothing() {
    assert_eq!(watched(&[]).result(), Handshake::Abandoned);
    assert_eq!(watched(&[]).said(), None);
    for flight in [old_flight(), new_flight()] {
        let closed = watched(&[flight.clone(), (UP, 0, CLOSING.to_vec())]);
        assert_eq!(closed.result(), Handshake::Abandoned);
        let canceled = [[21, 3, 3, 0, 2, 1, 90], CLOSING].concat();
        let canceled = watched(&[flight, (UP, 0, canceled)]);
        assert_eq!(canceled.result(), Handshake::Abandoned);
    }
    let closed = watched(&[(DOWN, 0, CLOSING.to_vec())]);
    assert_eq!(closed.result(), Handshake::Abandoned);
    // A client that finishes and closes, with and without a certificate, and a backend that closes too.
    for flight in [vec![data(53)], vec![data(900), data(280), data(53)]] {
        let steps = [
            new_flight(),
            (UP, 0, flight.concat()),
            (UP, 0, data(19)),
            (DOWN, 0, data(19)),
        ];
        assert_eq!(watched(&steps).result(), Handshake::Completed);
    }
}

#[test]
fn a_backend_refuses_a_certificate_at_once_or_not_at_all() {
    let flight = |lengths: &[usize]| {
        lengths
            .iter()
            .map(|length| data(*length))
            .collect::<Vec<_>>()
    };
    let refused = |lengths: &[usize], silence| {
        watched(&[
            new_flight(),
            (UP, 0, flight(lengths).concat()),
            (DOWN, silence, data(19)),
        ])
    };
    for (lengths, asks) in [
        (&[25, 53][..], true),
        (&[25, 69], true),
        (&[61], true),
        (&[1500, 280, 53], true),
        (&[1500, 280, 53, 900], true),
    ] {
        let watch = refused(lengths, 0);
        assert_eq!(watch.result(), Handshake::Failed, "{lengths:?}");
        assert_eq!(watch.asks_for_certificate(), Some(asks));
        // Nobody has used the connection.
        assert_eq!(refused(lengths, LATE).result(), Handshake::Completed);
    }
    // There was nothing to refuse: the backend closes a connection.
    for lengths in [&[53][..], &[69], &[53, 900]] {
        assert_eq!(refused(lengths, 0).result(), Handshake::Completed);
        assert_eq!(refused(lengths, 0).asks_for_certificate(), Some(false));
    }
    // A ticket or an answer behind it shows that the backend went on.
    let steps = [
        new_flight(),
        (UP, 0, flight(&[1500, 280, 53, 900]).concat()),
        (DOWN, 0, [data(19), data(300)].concat()),
    ];
    assert!(watched(&steps).is_completed());
}

#[test]
fn a_peer_that_pads_its_records_is_understood() {
    // As the JDK does.
    let refused = watched(&[new_flight(), (UP, 0, [change(), data(35)].concat())]);
    assert_eq!(refused.result(), Handshake::Failed);
    for (flight, asks, result) in [
        (vec![data(69)], false, Handshake::Completed),
        (vec![data(85)], false, Handshake::Completed),
        (vec![data(41), data(69)], true, Handshake::Failed),
        (vec![data(93)], true, Handshake::Failed),
        (
            vec![data(800), data(150), data(69)],
            true,
            Handshake::Failed,
        ),
    ] {
        let steps = [new_flight(), (UP, 0, flight.concat()), (DOWN, 0, data(35))];
        let watch = watched(&steps);
        assert_eq!(watch.asks_for_certificate(), Some(asks));
        assert_eq!(watch.result(), result);
        // A client that closes behind its flight.
        let closing = [&steps[..2], &[(UP, 0, data(35))], &steps[2..]].concat();
        assert_eq!(watched(&closing).result(), Handshake::Completed);
    }
}

/// The watch after some steps, if a side closes then, and after some more.
fn closed(steps: &[Step<'_>], side: Side, more: &[Step<'_>]) -> Watch {
    let mut talk = told(steps);
    talk.close(side);
    for (direction, silence, bytes) in more {
        talk.pass(*direction, bytes, *silence);
    }
    talk.watch()
}

#[test]
fn an_alert_to_a_peer_that_has_closed_refuses_nothing() {
    // A client goes away in the handshake, and the backend says so with an alert.
    let decode_error = (DOWN, 0, vec![21, 3, 3, 0, 2, 2, 50]);
    let hidden = (DOWN, 0, data(19));
    for (flight, alert) in [
        (new_flight(), &hidden),
        (new_flight(), &decode_error),
        (old_flight(), &decode_error),
    ] {
        let watch = closed(
            std::slice::from_ref(&flight),
            Side::Client,
            std::slice::from_ref(alert),
        );
        assert_eq!(watch.result(), Handshake::Abandoned);
        assert_eq!(watch.alert(Side::Backend), None);
        // Before the backend has answered.
        let watch = closed(&[], Side::Client, &[flight, alert.clone()]);
        assert_eq!(watch.result(), Handshake::Abandoned);
        assert_eq!(watch.said(), Some(BackendAnswer::ServerHello));
        assert!(watch.version().is_some());
    }
    // A client that closes behind its flight, without close_notify, and a backend that answers with it.
    let flight = (UP, 0, [data(900), data(280), data(53)].concat());
    let watch = closed(
        &[new_flight(), flight],
        Side::Client,
        std::slice::from_ref(&hidden),
    );
    assert_eq!(watch.result(), Handshake::Completed);
    // A backend that is killed, and a client that complains.
    for flight in [new_flight(), old_flight()] {
        let watch = closed(&[flight], Side::Backend, &[(UP, 0, UNKNOWN_CA.to_vec())]);
        assert_eq!(watch.result(), Handshake::Abandoned);
        assert_eq!(watch.alert(Side::Client), None);
    }
    let finished = (UP, 0, [blank(22, 40), change(), blank(22, 40)].concat());
    let watch = closed(
        &[old_flight(), finished],
        Side::Backend,
        &[(UP, 0, UNKNOWN_CA.to_vec())],
    );
    assert_eq!(watch.result(), Handshake::Abandoned);
}

#[test]
fn what_a_peer_refuses_before_the_other_one_closes_stays_refused() {
    let refused = [new_flight(), (UP, 0, data(19))];
    for side in [Side::Client, Side::Backend] {
        assert_eq!(closed(&refused, side, &[]).result(), Handshake::Failed);
    }
    // The answer to a hello, although the client has closed behind it.
    let unknown = (DOWN, 0, vec![21, 3, 3, 0, 2, 2, 112]);
    let watch = closed(&[], Side::Client, &[unknown]);
    assert_eq!(watch.result(), Handshake::Failed);
    assert_eq!(watch.alert(Side::Backend), Some(112));
    // The answer to a certificate in TLS 1.2.
    let flight = [certificate(90), blank(22, 40), change(), blank(22, 40)].concat();
    let steps = [old_flight(), (UP, 0, flight)];
    let watch = closed(&steps, Side::Client, &[(DOWN, 0, UNKNOWN_CA.to_vec())]);
    assert_eq!(watch.alert(Side::Backend), Some(48));
    // Another protocol.
    let mut talk = told(&[]);
    talk.close(Side::Client);
    talk.pass(DOWN, b"HTTP/1.1 400", 0);
    assert_eq!(talk.watch().result(), Handshake::NotTls);
}

#[test]
fn a_missing_certificate_is_seen_in_tls_1_2_too() {
    for (sent, found) in [
        (0, ClientCertificate::Missing),
        (90, ClientCertificate::Sent),
    ] {
        let steps = [
            old_flight(),
            (
                UP,
                0,
                [certificate(sent), blank(22, 40), change(), blank(22, 40)].concat(),
            ),
            (DOWN, 0, vec![21, 3, 3, 0, 2, 2, 116]),
        ];
        let watch = watched(&steps);
        assert_eq!(watch.certificate, found);
        assert_eq!(watch.result(), Handshake::Failed);
        assert_eq!(watch.alert(Side::Backend), Some(116));
    }
}

#[test]
fn a_backend_that_does_not_speak_tls_is_quoted() {
    for (bytes, quoted) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH-2.0-"),
        (b"x", "x"),
    ] {
        let talk = told(&[(DOWN, 0, bytes.to_vec())]);
        assert_eq!(talk.watch().result(), Handshake::NotTls);
        assert_eq!(talk.watch().said(), Some(BackendAnswer::NotTls));
        assert_eq!(talk.foreign().unwrap().to_string(), quoted);
        // In the smallest pieces too.
        let pieces: Vec<_> = bytes.iter().map(|byte| (DOWN, 0, vec![*byte])).collect();
        assert_eq!(told(&pieces).foreign().unwrap().to_string(), quoted);
    }
    // It only begins like a record, or with a record of a stream that is under way.
    for answer in [vec![22, 9, 9, 0, 1, 2], data(100)] {
        let talk = told(&[(DOWN, 0, answer)]);
        assert_eq!(talk.watch().result(), Handshake::NotTls);
        let ended = End {
            outcome: Outcome::Closed,
            closed_by: ClosedBy::Backend,
            detail: None,
            unacknowledged: 0,
            parting: None,
        };
        let detail = explain(ended, talk).detail.unwrap();
        assert!(detail.contains("does not begin a handshake"), "{detail}");
    }
}

#[test]
fn nothing_is_claimed_about_what_was_not_seen() {
    let refusal = (UP, 0, data(19));
    let whole = new_flight().2;
    let (begin, rest) = whole.split_at(20);
    let cut = [
        (DOWN, 0, begin.to_vec()),
        (DOWN, 0, rest.to_vec()),
        refusal.clone(),
    ];
    let watch = watched(&cut);
    assert_eq!(watch.result(), Handshake::Unseen);
    assert_eq!(watch.said(), Some(BackendAnswer::ServerHello));
    assert_eq!(watch.version(), None);
    for direction in [UP, DOWN] {
        let mut talk = told(&[new_flight()]);
        talk.lose(direction);
        talk.pass(UP, &refusal.2, 0);
        assert_eq!(talk.watch().result(), Handshake::Unseen);
    }
    // Another message than a ServerHello.
    let echo = watched(&[(DOWN, 0, record(22, &[1, 0, 0, 2, 3, 3])), refusal]);
    assert_eq!(echo.result(), Handshake::Unseen);
}

#[test]
fn only_an_end_by_the_peers_is_explained_by_the_handshake() {
    let refused = told(&[new_flight(), (UP, 0, data(19))]);
    let end = |outcome| End {
        outcome,
        closed_by: ClosedBy::Backend,
        detail: None,
        unacknowledged: 0,
        parting: None,
    };
    for (outcome, then) in [
        (Outcome::Closed, Outcome::HandshakeFailed),
        (Outcome::ClientReset, Outcome::HandshakeFailed),
        (Outcome::BackendReset, Outcome::HandshakeFailed),
        (Outcome::IdleTimeout, Outcome::IdleTimeout),
        (Outcome::Drained, Outcome::Drained),
        (Outcome::BackendClosedEarly, Outcome::BackendClosedEarly),
    ] {
        let explained = explain(end(outcome), refused);
        assert_eq!(explained.outcome, then);
        assert_eq!(explained.detail.is_some(), then == Outcome::HandshakeFailed);
        // Although the other side may have closed first.
        let by = if explained.detail.is_some() {
            ClosedBy::Client
        } else {
            ClosedBy::Backend
        };
        assert_eq!(explained.closed_by, by);
    }
    let other = told(&[(DOWN, 0, b"HTTP/1.1 400".to_vec())]);
    let explained = explain(end(Outcome::Closed), other);
    assert_eq!(explained.outcome, Outcome::BackendNotTls);
    assert_eq!(
        explained.detail.as_deref(),
        Some(
            "the backend speaks plain HTTP, which begins with \"HTTP/1.1\": turn on TLS at the server, or correct the port \
             in endpoints: portway passes TLS on and adds none"
        )
    );
    assert_eq!(
        explain(end(Outcome::Closed), told(&[new_flight()])),
        end(Outcome::Closed)
    );
}

proptest! {
    /// However the bytes of a handshake are cut, no failure is made up and no other one is found.
    #[test]
    fn a_cut_hides_facts_and_invents_none(
        up in prop::sample::select(vec![vec![53], vec![25, 53], vec![900, 280, 53], vec![19], vec![53, 900]]),
        down in prop::sample::select(vec![vec![], vec![19], vec![250], vec![19, 250]]),
        is_new: bool,
        sizes in prop::collection::vec(1..400_usize, 1..6),
    ) {
        let first = if is_new { new_flight() } else { old_flight() };
        let flight = |lengths: Vec<usize>| lengths.into_iter().flat_map(data).collect::<Vec<u8>>();
        let steps = [first, (UP, 0, flight(up)), (DOWN, 0, flight(down))];
        let whole = watched(&steps);
        let mut cut = Talk::default();
        cut.pass(UP, &blank(22, 517), 0);
        for (direction, _, bytes) in &steps {
            let mut rest = &bytes[..];
            for size in sizes.iter().cycle() {
                let (piece, behind) = rest.split_at(rest.len().min(*size));
                if !piece.is_empty() {
                    cut.pass(*direction, piece, 0);
                }
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
        }
        let cut = cut.watch();
        prop_assert!(cut.result() == whole.result() || cut.result() == Handshake::Unseen);
        prop_assert!(cut.version().is_none() || cut.version() == whole.version());
        prop_assert!(cut.alert.is_none() || cut.alert == whole.alert);
    }

    #[test]
    fn any_bytes_are_watched_without_a_panic(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..20),
    ) {
        let mut talk = Talk::default();
        for (up, bytes) in pieces {
            talk.pass(if up { UP } else { DOWN }, &bytes, 0);
        }
        _ = talk.watch().result();
    }
}
