//! What is no TLS, and how soon that is known.

use super::*;

const NOT_TLS: Rejection = Rejection::NotTls { http: false };
const HTTP: Rejection = Rejection::NotTls { http: true };

#[test]
fn b67_record_of_another_major_version_is_not_tls() {
    for major in (0..=255).filter(|major| *major != 3) {
        let bytes = [0x16, major, 0, 0, 60, 1, 0, 0, 56];
        assert_eq!(rejection(&bytes), NOT_TLS);
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
        assert_eq!(rejection(bytes), NOT_TLS);
        assert!(decided_after(bytes) <= 5);
    }
}

#[test]
fn b70_http1_requests_are_known_by_their_method() {
    for method in [
        "GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE",
    ] {
        let request = format!("{method} / HTTP/1.1\r\n");
        assert_eq!(rejection(request.as_bytes()), HTTP, "{method}");
        assert_eq!(decided_after(request.as_bytes()), method.len() + 1);
    }
    let long = [b"POST /api HTTP/1.1\r\n\r\n".to_vec(), vec![b'x'; MAX]].concat();
    assert_eq!(rejection(&long), HTTP);
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
        assert_eq!(rejection(bytes), NOT_TLS, "{}", text(bytes));
        assert_eq!(decided_after(bytes), decided, "{}", text(bytes));
    }
}

#[test]
fn b71_other_protocols_are_not_tls() {
    let rdp = [
        3, 0, 0, 0x13, 0x0e, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0,
    ];
    let mysql = [0x20, 0, 0, 1, 0x85, 0xa6, 0xff, 0x01];
    let postgres = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
    let socks5 = [5, 1, 0];
    let proxy_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    for bytes in [
        b"SSH-2.0-x\r\n",
        &b"EHLO a\r\n"[..],
        &rdp,
        &mysql,
        &postgres,
        &socks5,
        proxy_v2,
    ] {
        assert_eq!(rejection(bytes), NOT_TLS, "{}", text(bytes));
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
