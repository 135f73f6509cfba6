use proptest::prelude::*;
use strum::VariantArray;

use super::*;
use crate::tls::{AlertDescription, alert_name};

fn vector(bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - bytes..], content].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [vec![kind], vector(3, body)].concat()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [vec![kind, 3, 3], vector(2, payload)].concat()
}

fn server_hello(version: u16, random: [u8; 32], extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(vector(2, content));
    }
    let version = version.to_be_bytes();
    let body = [
        &version[..],
        &random,
        &vector(1, &[7; 32]),
        &[0x13, 1, 0],
        &vector(2, &list),
    ];
    message(2, &body.concat())
}

/// The messages of a server of TLS 1.2 that asks for a certificate and speaks HTTP/2.
fn flight() -> Vec<u8> {
    let alpn = vector(2, &vector(1, b"h2"));
    let chain = [vector(3, &[1; 700]), vector(3, &[2; 900])].concat();
    [
        server_hello(0x0303, [5; 32], &[(0xff01, vec![0]), (16, alpn)]),
        message(11, &vector(3, &chain)),
        message(22, &[1, 0, 0, 0]),
        message(12, &[3; 300]),
        message(13, &[1, 1, 0, 0, 0, 0]),
        message(14, &[]),
    ]
    .concat()
}

/// Cuts messages into records of this size.
fn records(messages: &[u8], size: usize) -> Vec<u8> {
    let pieces = messages.chunks(size);
    pieces.flat_map(|piece| record(22, piece)).collect()
}

fn hello(answer: Option<Answer>) -> ServerHello {
    match answer {
        Some(Answer::Hello(hello)) => hello,
        other => panic!("{other:?}"),
    }
}

fn tls13() -> Vec<u8> {
    let hello = server_hello(
        0x0303,
        [5; 32],
        &[(43, vec![3, 4]), (51, vec![0, 29, 0, 0])],
    );
    [record(22, &hello), record(20, &[1]), record(23, &[9; 60])].concat()
}

/// No prefix has another answer than the whole, and once it is known it stays.
fn assert_prefixes(bytes: &[u8]) -> Option<Answer> {
    let whole = read_answer(bytes, false);
    let mut known = None;
    for end in 0..=bytes.len() {
        let answer = read_answer(&bytes[..end], false);
        if known.is_some() || answer.is_some() {
            assert_eq!(answer, whole, "after {end} of {}", bytes.len());
        }
        known = answer;
    }
    whole
}

#[test]
fn a_flight_of_tls_12_shows_certificates_protocol_and_request() {
    for size in [1, 4, 5, 100, 1 << 14] {
        let hello = hello(assert_prefixes(&records(&flight(), size)));
        assert_eq!(hello.version, Version(0x0303));
        assert_eq!(hello.alpn.as_deref(), Some(&b"h2"[..]));
        assert_eq!(hello.asks_for_certificate, Some(true));
        let sizes: Vec<_> = hello.chain.iter().map(|der| der.len()).collect();
        assert_eq!(sizes, [700, 900]);
        assert!(!hello.is_retry && hello.warning.is_none());
    }
}

#[test]
fn a_server_of_tls_12_without_request_and_extensions_asks_for_nothing() {
    let body = [&[3, 1][..], &[5; 32], &[0], &[0, 0x2f, 0]].concat();
    let messages = [
        message(2, &body),
        message(11, &vector(3, &[])),
        message(14, &[]),
    ]
    .concat();
    let hello = hello(assert_prefixes(&record(22, &messages)));
    assert_eq!(hello.version, Version(0x0301));
    assert_eq!(hello.asks_for_certificate, Some(false));
    assert!(hello.chain.is_empty() && hello.alpn.is_none());
}

#[test]
fn a_hello_of_tls_13_is_known_before_what_is_encrypted() {
    let tls13_hello = hello(assert_prefixes(&tls13()));
    assert_eq!(tls13_hello.version, Version::TLS_1_3);
    assert_eq!(tls13_hello.asks_for_certificate, None);
    let retry = server_hello(0x0303, RETRY, &[(43, vec![3, 4])]);
    assert!(hello(assert_prefixes(&record(22, &retry))).is_retry);
}

#[test]
fn a_fatal_alert_is_an_answer_and_a_warning_goes_with_the_hello() {
    let fatal = record(21, &[2, 40]);
    assert_eq!(assert_prefixes(&fatal), Some(Answer::Alert(40)));
    // close_notify is an end, whatever its level.
    assert_eq!(
        read_answer(&record(21, &[1, 0]), false),
        Some(Answer::Alert(0))
    );
    let warned = [record(21, &[1, 112]), records(&flight(), 100)].concat();
    assert_eq!(hello(assert_prefixes(&warned)).warning, Some(112));
    // One behind the hello comes too late.
    let late = [
        &tls13()[..5 + 4 + 2 + 32 + 33 + 3 + 2 + 14],
        &record(21, &[1, 112]),
    ]
    .concat();
    assert_eq!(hello(assert_prefixes(&late)).warning, None);
    // A refusal in the middle of a flight.
    let half = &flight()[..200];
    let refused = [record(22, half), fatal].concat();
    assert_eq!(assert_prefixes(&refused), Some(Answer::Alert(40)));
}

#[test]
fn other_protocols_are_known_by_their_first_line() {
    for (sent, line, protocol) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n"[..],
            "HTTP/1.1 400 Bad Request",
            Some("plain HTTP"),
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "SSH-2.0-OpenSSH_9.2",
            Some("SSH"),
        ),
        (
            b"220 mail.example ESMTP\r\n",
            "220 mail.example ESMTP",
            Some("SMTP or FTP"),
        ),
        (
            b"-ERR unknown command\r\n",
            "-ERR unknown command",
            Some("Redis"),
        ),
        (b"hello\x1b[2J\n", "hello\\x1b[2J", None),
    ] {
        let Some(Answer::NotTls(foreign)) = assert_prefixes(sent) else {
            panic!("{line}");
        };
        assert_eq!(
            (foreign.to_string().as_str(), foreign.protocol()),
            (line, protocol)
        );
    }
    // Without the end of a line: at once if no more comes, and at the latest after 80 bytes.
    assert_eq!(read_answer(b"SSH-2.0", false), None);
    let Some(Answer::NotTls(foreign)) = read_answer(b"SSH-2.0", true) else {
        panic!()
    };
    assert_eq!(foreign.to_string(), "SSH-2.0");
    let Some(Answer::NotTls(foreign)) = assert_prefixes(&[b'x'; 300]) else {
        panic!()
    };
    assert_eq!(foreign.to_string(), "x".repeat(80));
}

#[test]
fn records_that_break_the_rules_are_told_by_their_field() {
    let malformed = |bytes: &[u8]| match assert_prefixes(bytes) {
        Some(Answer::Malformed(field)) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(malformed(&[22, 3, 3, 0x40, 1]), "record length");
    assert_eq!(
        malformed(&[&record(22, &[2])[..], &[22, 9, 9, 0, 1]].concat()),
        "record version"
    );
    assert_eq!(malformed(&record(20, &[1])), "record type");
    assert_eq!(malformed(&record(21, &[2])), "alert");
    // A client hello: somebody echoes.
    assert_eq!(
        malformed(&record(22, &message(1, &[3; 40]))),
        "handshake type"
    );
    assert_eq!(malformed(&record(22, &message(2, &[3; 40]))), "ServerHello");
    let hello = server_hello(0x0303, [5; 32], &[]);
    assert_eq!(
        malformed(&record(
            22,
            &[&hello[..], &message(11, &[0, 9, 9])].concat()
        )),
        "Certificate"
    );
    assert_eq!(
        malformed(&record(22, &[&hello[..], &message(20, &[])].concat())),
        "handshake type"
    );
}

#[test]
fn an_end_in_the_middle_is_told_with_the_bytes_that_came() {
    assert_eq!(read_answer(&[], true), Some(Answer::Cut(0)));
    assert_eq!(read_answer(&[22], true), Some(Answer::Cut(1)));
    let flight = records(&flight(), 100);
    let most = flight.len() - 1;
    assert_eq!(read_answer(&flight[..most], true), Some(Answer::Cut(most)));
    // A whole one is not changed by the end.
    assert_eq!(read_answer(&flight, true), read_answer(&flight, false));
}

#[test]
fn an_answer_has_a_bound() {
    let endless = records(&message(2, &vec![3; 1 << 20]), 1 << 14);
    assert_eq!(read_answer(&endless[..MOST_ANSWER - 1], false), None);
    let told = Some(Answer::Malformed("answer over 64 KiB"));
    assert_eq!(read_answer(&endless[..MOST_ANSWER], false), told);
    assert_eq!(read_answer(&endless, false), told);
}

#[test]
fn the_alerts_of_portway_have_their_names_in_the_registry() {
    for alert in AlertDescription::VARIANTS {
        assert_eq!(alert_name(*alert as u8), Some(alert.name()));
    }
    assert_eq!(alert_name(255), None);
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(records(&flight(), 100)),
        Just(tls13()),
        (20_u8..25, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, body)| record(kind, &body)),
        (0_u8..25, prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(kind, body)| record(22, &message(kind, &body))),
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Any bytes: no panic, and no answer that more bytes would change.
    #[test]
    fn answers_do_not_depend_on_the_cuts(stream in any_stream(), cut in any::<prop::sample::Index>()) {
        assert_prefixes(&stream);
        let end = cut.index(stream.len() + 1);
        prop_assert!(read_answer(&stream[..end], true).is_some());
    }

    /// A flight with one byte changed is read or refused, in any division into records.
    #[test]
    fn a_damaged_flight_is_read_without_a_panic(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        size in 1_usize..2000,
    ) {
        let mut messages = flight();
        let at = at.index(messages.len());
        messages[at] = byte;
        prop_assert!(read_answer(&records(&messages, size), true).is_some());
    }
}

#[test]
fn the_answers_of_real_servers_are_read() {
    macro_rules! seed {
        ($name:literal) => {
            assert_prefixes(include_bytes!(concat!(
                "../../../fuzz/corpus/answer/",
                $name
            )))
        };
    }
    let mutual = hello(seed!("openssl_tls12_mutual.bin"));
    let go = hello(seed!("go_tls12.bin"));
    for (hello, asks) in [(mutual, true), (go, false)] {
        assert_eq!((hello.version.0, hello.chain.len()), (0x0303, 1));
        assert_eq!(hello.asks_for_certificate, Some(asks));
    }
    for answer in [seed!("openssl_tls13.bin"), seed!("go_mlkem.bin")] {
        assert_eq!(hello(answer).version, Version::TLS_1_3);
    }
    assert_eq!(
        seed!("openssl_protocol_version.bin"),
        Some(Answer::Alert(70))
    );
    for (answer, protocol) in [(seed!("http.bin"), "plain HTTP"), (seed!("ssh.bin"), "SSH")] {
        let Some(Answer::NotTls(foreign)) = answer else {
            panic!("{protocol}");
        };
        assert_eq!(foreign.protocol(), Some(protocol));
    }
}
