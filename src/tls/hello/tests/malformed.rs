//! Hellos that break the encoding.

use super::hello::{Builder, extension, handshake, in_records, server_names};
use super::*;

const DECODE_ERROR: u8 = 50;
const ILLEGAL_PARAMETER: u8 = 47;
const UNEXPECTED_MESSAGE: u8 = 10;

/// Where the extensions begin in the body of `Builder::new` without further calls.
const EXTENSIONS: usize = 2 + 32 + 33 + 6 + 2;

fn with_server_name(content: impl AsRef<[u8]>) -> Vec<u8> {
    Builder::without_name()
        .extension_first(extension::SERVER_NAME, content)
        .build()
}

fn from_body(body: &[u8]) -> Vec<u8> {
    in_records(&handshake(1, body), 0x0301, &[])
}

#[test]
fn b22_ssl3_and_older_in_the_hello_are_unsupported() {
    for version in [0x0000, 0x0002, 0x0200, 0x0300] {
        let old = Builder::new(NAME).version(version).build();
        assert_eq!(rejection(&old), Rejection::UnsupportedVersion);
    }
}

#[test]
fn b27_empty_server_name_extension_or_list_is_malformed() {
    for content in [&[][..], &[0, 0]] {
        assert_eq!(
            malformed(&with_server_name(content)),
            (DECODE_ERROR, "server_name")
        );
    }
}

#[test]
fn b31_two_host_names_are_malformed() {
    for second in [NAME, "other.example.com"] {
        let two = server_names(&[(0, NAME.as_bytes()), (0, second.as_bytes())]);
        assert_eq!(
            malformed(&with_server_name(two)),
            (DECODE_ERROR, "server_name")
        );
    }
}

#[test]
fn b32_other_name_types_are_malformed_first_last_or_alone() {
    let name = NAME.as_bytes();
    for names in [
        &[(1, name), (0, name)][..],
        &[(0, name), (1, name)],
        &[(1, name)],
        &[(255, name)],
    ] {
        let content = server_names(names);
        assert_eq!(
            malformed(&with_server_name(content)),
            (DECODE_ERROR, "server_name")
        );
    }
}

#[test]
fn b33_second_server_name_extension_is_illegal() {
    for second in [NAME, "other.example.com"] {
        let twice = Builder::new(NAME).extension(
            extension::SERVER_NAME,
            server_names(&[(0, second.as_bytes())]),
        );
        let expected = (ILLEGAL_PARAMETER, "second server_name extension");
        assert_eq!(malformed(&twice.build()), expected);
    }
}

#[test]
fn b49_name_length_over_the_hello_is_malformed() {
    let lie = [0, 7, 0, 0xff, 0xff, b'a', b'b', b'c', b'd'];
    assert_eq!(
        malformed(&with_server_name(lie)),
        (DECODE_ERROR, "server_name")
    );
}

#[test]
fn b49_shortest_hello_with_a_lying_name_length_is_malformed() {
    let mut body = vec![3, 3];
    body.extend([0; 32]);
    body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
    body.extend([0, 11, 0, 0, 0, 7, 0, 5, 0, 0xff, 0xff, b'a', b'b']);
    assert_eq!(malformed(&from_body(&body)), (DECODE_ERROR, "server_name"));
}

#[test]
fn b51_lying_list_length_is_malformed() {
    let good = server_names(&[(0, NAME.as_bytes())]);
    let length = u16::from_be_bytes([good[0], good[1]]);
    for lie in [length - 4, length - 1, length + 1, 0xffff] {
        let content = [&lie.to_be_bytes()[..], &good[2..]].concat();
        assert_eq!(
            malformed(&with_server_name(content)),
            (DECODE_ERROR, "server_name")
        );
    }
}

#[test]
fn b52_lying_length_of_the_extensions_is_malformed() {
    let good = Builder::new(NAME).body();
    let length = u16::from_be_bytes([good[EXTENSIONS], good[EXTENSIONS + 1]]);
    assert_eq!(usize::from(length), good.len() - EXTENSIONS - 2);
    for (lie, field) in [
        (length - 2, "bytes after the extensions"),
        (length + 10, "extensions"),
        (0xffff, "extensions"),
        (0, "bytes after the extensions"),
    ] {
        let mut body = good.clone();
        body[EXTENSIONS..EXTENSIONS + 2].copy_from_slice(&lie.to_be_bytes());
        assert_eq!(malformed(&from_body(&body)), (DECODE_ERROR, field));
    }
}

#[test]
fn b52_extension_that_runs_past_the_block_is_malformed() {
    let mut body = Builder::new(NAME).without_extensions().body();
    for tail in [
        &[0, 4, 0x12, 0x34, 0, 1][..],
        &[0, 3, 0x12, 0x34, 0],
        &[0, 1, 0x12],
    ] {
        body.truncate(EXTENSIONS);
        body.extend(tail);
        assert_eq!(malformed(&from_body(&body)), (DECODE_ERROR, "extension"));
    }
}

#[test]
fn b52_one_byte_behind_the_compression_methods_is_malformed() {
    let mut body = Builder::new(NAME).without_extensions().body();
    body.push(0);
    assert_eq!(malformed(&from_body(&body)), (DECODE_ERROR, "extensions"));
}

#[test]
fn b53_name_list_may_not_reach_into_the_next_extension() {
    let mut content = server_names(&[(0, NAME.as_bytes())]);
    content.truncate(content.len() - 4);
    let reaching = Builder::without_name()
        .extension_first(extension::PADDING, [0; 32])
        .extension_first(extension::SERVER_NAME, content);
    assert_eq!(malformed(&reaching.build()), (DECODE_ERROR, "server_name"));
}

#[test]
fn b54_session_id_over_32_bytes_is_malformed() {
    assert_eq!(name(&Builder::new(NAME).session_id(&[0; 32]).build()), NAME);
    for length in [33, 255] {
        let long = Builder::new(NAME).session_id(&vec![0; length]).build();
        assert_eq!(malformed(&long), (DECODE_ERROR, "session id"));
    }
}

#[test]
fn b55_odd_ciphers_no_cipher_and_no_compression_are_malformed() {
    let good = Builder::new(NAME);
    for (hello, expected) in [
        (
            good.clone().ciphers(&[0x13, 0x01, 0x13]),
            (DECODE_ERROR, "cipher suites"),
        ),
        (
            good.clone().ciphers(&[]),
            (ILLEGAL_PARAMETER, "no cipher suite"),
        ),
        (good.compression(&[]), (DECODE_ERROR, "compression methods")),
    ] {
        assert_eq!(malformed(&hello.build()), expected);
    }
}

#[test]
fn b56_other_handshake_messages_are_unexpected() {
    for kind in [0, 2, 113] {
        let other = in_records(&handshake(kind, &Builder::new(NAME).body()), 0x0301, &[]);
        assert_eq!(malformed(&other), (UNEXPECTED_MESSAGE, "handshake type"));
        assert_eq!(decided_after(&other), 9, "the handshake header suffices");
    }
}

#[test]
fn b57_empty_handshake_message_is_malformed() {
    let empty = in_records(&handshake(1, &[]), 0x0301, &[]);
    assert_eq!(malformed(&empty), (DECODE_ERROR, "handshake length"));
}

#[test]
fn hello_that_ends_inside_a_field_is_malformed() {
    let body = Builder::new(NAME).body();
    for end in 1..body.len() {
        let cut = in_records(&handshake(1, &body[..end]), 0x0301, &[]);
        if end == EXTENSIONS {
            assert_eq!(
                facts(&cut).name,
                None,
                "a hello may end before its extensions"
            );
        } else {
            assert_eq!(malformed(&cut).0, DECODE_ERROR, "cut to {end} bytes");
        }
    }
}

#[test]
fn ambiguous_alpn_is_malformed() {
    for content in [
        &[0][..],
        &[0, 3, 2, b'h', b'2', 0],
        &[0, 4, 2, b'h', b'2'],
        &[0, 2, 2, b'h'],
    ] {
        let odd = Builder::new(NAME).extension(extension::ALPN, content);
        let expected = (DECODE_ERROR, "application_layer_protocol_negotiation");
        assert_eq!(malformed(&odd.build()), expected, "{content:?}");
    }
}

#[test]
fn supported_versions_that_do_not_add_up_are_malformed() {
    for content in [&[][..], &[3, 3, 4, 3], &[2, 3, 4, 0], &[4, 3, 4]] {
        let odd = Builder::new(NAME)
            .without(extension::SUPPORTED_VERSIONS)
            .extension(extension::SUPPORTED_VERSIONS, content);
        assert_eq!(
            malformed(&odd.build()),
            (DECODE_ERROR, "supported_versions"),
            "{content:?}"
        );
    }
}
