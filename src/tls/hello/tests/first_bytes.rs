//! Bytes that are not TLS, and how early that is known.

use super::*;

/// The protocol that a client speaks instead of TLS, in the words of the log.
fn protocol(bytes: &[u8]) -> String {
    let rejection = rejection(bytes);
    let Rejection::NotTls(protocol) = rejection else {
        panic!("{rejection:?} for {}", text(bytes))
    };
    protocol.to_string()
}

fn is_unknown(bytes: &[u8]) -> bool {
    protocol(bytes).starts_with("an unknown protocol")
}

#[test]
fn b67_record_of_another_major_version_is_not_tls() {
    for major in (0..=255).filter(|major| *major != 3) {
        let bytes = [0x16, major, 0, 0, 60, 1, 0, 0, 56];
        assert!(is_unknown(&bytes));
        assert_eq!(decided_after(&bytes), 2);
    }
}

#[test]
fn b68_noise_is_not_tls_after_at_most_five_bytes() {
    for bytes in [
        &[0; 100][..],
        &[0xff; 5],
        &[0x7f; 16_000],
        b"\r\n\r\n",
        &[0x80, 0, 2, 0, 2],
    ] {
        assert!(is_unknown(bytes));
        assert!(decided_after(bytes) <= 5);
    }
}

#[test]
fn b70_http1_requests_are_known_by_their_method() {
    for method in [
        "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE",
    ] {
        let request = format!("{method} / HTTP/1.1\r\n");
        let http = Rejection::NotTls(Protocol::Http(method));
        assert_eq!(rejection(request.as_bytes()), http);
        assert_eq!(decided_after(request.as_bytes()), method.len() + 2);
        for url in ["http://es.example:9200/", "HTTPS://es.example"] {
            let request = format!("{method} {url} HTTP/1.1\r\n");
            let to_a_proxy = Rejection::NotTls(Protocol::HttpToProxy(method));
            assert_eq!(rejection(request.as_bytes()), to_a_proxy);
            assert_eq!(decided_after(request.as_bytes()), method.len() + 2);
        }
        let waits = format!("{method} ");
        assert_eq!(answer(waits.as_bytes()), Answer::NeedMore(method.len() + 2));
    }
    let whole_server = Rejection::NotTls(Protocol::Http("OPTIONS"));
    assert_eq!(rejection(b"OPTIONS * HTTP/1.1\r\n"), whole_server);
    let connect = b"CONNECT fleet.example.com:8220 HTTP/1.1\r\n";
    let to_a_proxy = Rejection::NotTls(Protocol::HttpToProxy("CONNECT"));
    assert_eq!(rejection(connect), to_a_proxy);
    assert_eq!(decided_after(connect), "CONNECT ".len());
    let long = [b"POST /api HTTP/1.1\r\n\r\n".to_vec(), vec![b'x'; MAX]].concat();
    assert_eq!(rejection(&long), Rejection::NotTls(Protocol::Http("POST")));
}

#[test]
fn b70_start_of_a_method_waits_for_the_shortest_that_it_may_be() {
    for (start, total) in [("P", 4), ("PO", 5), ("C", 8), ("GET", 4), ("OPT", 8)] {
        assert_eq!(answer(start.as_bytes()), Answer::NeedMore(total), "{start}");
    }
}

#[test]
fn b70_http2_preface_and_what_is_only_like_a_method_are_not_http1() {
    for (bytes, decided) in [
        (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], 2),
        (b"GETTING", 4),
        (b"get / HTTP/1.1\r\n", 1),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n", 2),
        (b"PROPFIND / HTTP/1.1\r\n", 2),
    ] {
        assert!(!protocol(bytes).contains("URL"), "{}", text(bytes));
        assert_eq!(decided_after(bytes), decided, "{}", text(bytes));
    }
}

/// The first bytes of clients of other protocols, and how portway names these.
const OTHERS: [(&[u8], &str); 16] = [
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2 without TLS"),
    (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\n",
        "PROXY protocol v1",
    ),
    (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "PROXY protocol v2"),
    (b"\x04\x01\x01\xbb\xc0\x00\x02\x01\0", "SOCKS4"),
    (b"\x05\x01\0", "SOCKS5"),
    (b"\x05\x04\0\x01\x02\x80", "SOCKS5"),
    (b"SSH-2.0-x\r\n", "SSH"),
    (b"2W\0\0\0\x642C\0\0\x04\0", "Lumberjack"),
    (b"1W\0\0\0\x0a1D\0\0\0\x01", "Lumberjack"),
    (
        b"ES\0\0\0\x2b\0\0\0\0\0\0\0\x01\x08",
        "the transport protocol of Elasticsearch",
    ),
    (
        b"<34>1 2026-01-15T02:41:07Z plc-7 app - - - text\n",
        "syslog",
    ),
    (b"<191>Jan 15 02:41:07 plc-7 text\n", "syslog"),
    (b"<7>text\n", "syslog"),
    (
        b"\x03\0\0\x2f\x2a\xe0\0\0\0\0\0Cookie: mstshash=hello\r\n",
        "RDP",
    ),
    (b"\0\0\0\x45\xffSMB\x72\0\0\0\0\x18\x01\x28", "SMB"),
    (b"\0\0\0\xe4\xfeSMB\x40\0\x01\0\0\0\0\0", "SMB"),
];

#[test]
fn b71_b97_other_protocols_are_named() {
    for (bytes, name) in OTHERS {
        let words = protocol(bytes);
        assert!(words.starts_with(name), "{}: {words}", text(bytes));
    }
}

#[test]
fn b71_what_only_resembles_a_protocol_is_not_named_after_it() {
    let mysql = b"\x20\0\0\x01\x85\xa6\xff\x01";
    let postgres = b"\0\0\0\x08\x04\xd2\x16\x2f";
    let dce_rpc = b"\x05\0\x0b\x03\x10\0\0\0";
    let bytes: [&[u8]; 11] = [
        mysql,
        postgres,
        dce_rpc,
        b"EHLO a\r\n",
        b"PROXYING",
        b"\r\n\r\n",
        b"2Wheels",
        b"ESX",
        b"<html>",
        b"<999>",
        b"\x04\x03\0",
    ];
    for bytes in bytes {
        assert!(is_unknown(bytes), "{}: {}", text(bytes), protocol(bytes));
    }
}

/// However the bytes are cut: each beginning is waited with, unknown, or has the name of the whole.
#[test]
fn b71_b97_a_beginning_has_no_other_name_than_the_whole() {
    for (bytes, name) in OTHERS {
        let mut named = 0;
        for end in 0..=bytes.len() {
            let Answer::Rejected(Rejection::NotTls(protocol)) = read(&bytes[..end]) else {
                assert_eq!(named, 0, "{name} is forgotten after {end} bytes");
                continue;
            };
            if matches!(protocol, Protocol::Unknown(_)) {
                assert_eq!(named, 0, "{name} is forgotten after {end} bytes");
            } else {
                named += 1;
                assert!(
                    protocol.to_string().starts_with(name),
                    "{protocol} after {end}"
                );
            }
        }
        assert!(named > 0, "{name}");
    }
}

#[test]
fn b69_of_an_unknown_protocol_the_first_bytes_are_quoted_escaped_and_no_more() {
    let words = protocol(b"\x1b[1m\"\n\0\xff and a secret");
    assert_eq!(
        words,
        r#"an unknown protocol that begins with "\x1b[1m\"\n\x00\xff""#
    );
    let words = protocol(b"PASS secret\r\n");
    assert_eq!(words, r#"an unknown protocol that begins with "PASS sec""#);
    for byte in 0..=255 {
        let Answer::Rejected(Rejection::NotTls(protocol)) = read(&[byte; 300]) else {
            continue;
        };
        let words = protocol.to_string();
        assert!(words.len() < 150, "{words}");
        assert!(
            words.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "{words}"
        );
    }
}

#[test]
fn b72_garbage_behind_a_tls_like_start_is_rejected_or_waited_for() {
    assert_eq!(
        malformed(&[0x16, 3, 1, 0x20, 0x20, 0x20, 0x20, 0x20, 0x20]).0,
        10
    );
    assert_eq!(
        malformed(&[&[0x16, 3, 1, 0, 60, 1, 0, 0, 56][..], &[0xff; 56]].concat()).0,
        50
    );
    let overflow = Rejection::TooLarge(AlertDescription::RecordOverflow);
    assert_eq!(rejection(&[0x16, 3, 1, 0xff, 0xff]), overflow);
    assert_eq!(
        answer(&[0x16, 3, 1, 0, 60, 1, 0, 0, 56]),
        Answer::NeedMore(65)
    );
}

#[test]
fn b73_ssl2_hellos_are_an_unsupported_version() {
    // With a header of two or three bytes; for SSLv2 itself and for SSLv3 and later.
    for header in [&[0x80, 0x2e][..], &[0xff, 0xff], &[0, 0x2e, 3]] {
        for version in [[0, 2], [3, 0], [3, 1], [3, 3]] {
            let bytes = [header, &[1], &version, &[0, 21, 0, 0, 0, 16], &[7; 37]].concat();
            assert_eq!(rejection(&bytes), Rejection::UnsupportedVersion);
            assert!(decided_after(&bytes) <= header.len() + 3);
        }
    }
}

#[test]
fn first_byte_is_waited_for_alone_and_then_the_header() {
    assert_eq!(answer(&[]), Answer::NeedMore(1));
    assert_eq!(answer(&[0x16]), Answer::NeedMore(2));
    assert_eq!(answer(&[0x16, 3]), Answer::NeedMore(5));
}
