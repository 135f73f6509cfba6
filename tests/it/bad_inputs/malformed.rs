//! Hellos that break the rules of their encoding or the limits (B22, B27, B31 to B33, B49 to
//! B66, B72, B73). The alerts follow OpenSSL where it has one.

use std::io::Write;
use std::time::Duration;

use super::Seen::Alert;
use super::lane::Lane;
use super::rejected;
use crate::it::hello::{Builder, extension, handshake, in_records, server_names, vector16};

const NAME: &[u8] = b"fleet.example";

/// The offset of the extension block's length in the body of the good hello: after version, random,
/// session id, ciphers and compression.
const BLOCK_AT: usize = 2 + 32 + 33 + 6 + 2;

fn good() -> Builder {
    Builder::new(NAME)
}

/// The good hello with another server_name extension.
fn with_names(body: impl AsRef<[u8]>) -> Vec<u8> {
    Builder::without_name()
        .extension(extension::SERVER_NAME, body)
        .build()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    crate::it::hello::record(kind, 0x0301, payload)
}

/// The message in records as long as allowed.
fn in_full(message: &[u8]) -> Vec<u8> {
    in_records(message, 0x0301, &[])
}

/// The good hello up to its extensions, and then `rest`.
fn before_extensions_and(rest: &[u8]) -> Vec<u8> {
    in_full(&handshake(1, &[&good().body()[..BLOCK_AT], rest].concat()))
}

/// The good list with another length in front of it.
fn list_length(change: i32) -> Vec<u8> {
    let mut list = server_names(&[(0, NAME)]);
    let length = i32::from(u16::from_be_bytes([list[0], list[1]])) + change;
    list[..2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    with_names(list)
}

/// The good extension block with another length in front of it.
fn block_length(length: impl Fn(u16) -> u16) -> Vec<u8> {
    let mut body = good().body();
    let changed = length(u16::from_be_bytes([body[BLOCK_AT], body[BLOCK_AT + 1]]));
    body[BLOCK_AT..][..2].copy_from_slice(&changed.to_be_bytes());
    in_full(&handshake(1, &body))
}

/// The good hello as a message of another type or length.
fn header(kind: u8, length: [u8; 3]) -> Vec<u8> {
    let mut message = good().message();
    message[0] = kind;
    message[1..4].copy_from_slice(&length);
    in_full(&message)
}

fn of_type(kind: u8) -> Vec<u8> {
    let message = good().message();
    header(kind, [message[1], message[2], message[3]])
}

/// The good hello in two records with something in between.
fn between(other: &[u8]) -> Vec<u8> {
    let message = good().message();
    let (one, two) = message.split_at(40);
    [&record(22, one)[..], other, &record(22, two)].concat()
}

/// A list that ends inside its extension by its own length, but runs into the next one.
fn list_past_its_extension() -> Vec<u8> {
    let mut list = server_names(&[(0, NAME)]);
    list[1] += 6;
    list[4] += 6;
    let hello = Builder::without_name().extension(extension::SERVER_NAME, list);
    hello.extension(0xfade, vec![b'x'; 20]).build()
}

fn sslv2(version: [u8; 2]) -> Vec<u8> {
    let head = [1, version[0], version[1], 0, 3, 0, 0, 0, 16, 0, 0, 0x2f];
    let hello = [&head[..], &[0xcd; 16]].concat();
    let length = u16::try_from(hello.len()).unwrap() | 0x8000;
    [&length.to_be_bytes()[..], &hello].concat()
}

rejected! {
    b22_sslv3: [good().tls12().version(0x0300).build()] => Alert(70), "unsupported_version";
    b27_an_empty_name_extension_or_list: [
        with_names(vec![]),
        with_names(vec![0, 0]),
    ] => Alert(50), "malformed_hello";
    b31_two_names_in_the_list: [
        with_names(server_names(&[(0, NAME), (0, b"other.example")])),
        with_names(server_names(&[(0, NAME), (0, NAME)])),
    ] => Alert(50), "malformed_hello";
    b32_a_name_of_another_type: [
        with_names(server_names(&[(1, NAME), (0, NAME)])),
        with_names(server_names(&[(1, NAME)])),
    ] => Alert(50), "malformed_hello";
    b33_the_name_extension_twice: [
        good().extension(extension::SERVER_NAME, server_names(&[(0, NAME)])).build(),
        good().extension(extension::SERVER_NAME, server_names(&[(0, b"other.example")])).build(),
        good().extension(0xfade, vec![]).extension(extension::SERVER_NAME, server_names(&[(0, NAME)])).build(),
    ] => Alert(47), "malformed_hello";
    b49_a_name_length_far_past_the_end:
        [with_names(vec![0, 7, 0, 0xff, 0xff, b'a', b'b', b'c', b'd'])]
        => Alert(50), "malformed_hello";
    b51_a_list_length_that_lies: [list_length(-4), list_length(1), list_length(0xff00)]
        => Alert(50), "malformed_hello";
    b52_an_extension_block_length_that_lies: [
        block_length(|length| length - 2), block_length(|length| length + 10),
        block_length(|_| 0xffff), block_length(|_| 0),
    ] => Alert(50), "malformed_hello";
    b53_a_list_past_its_extension: [list_past_its_extension()] => Alert(50), "malformed_hello";
    b54_too_long_a_session_id: [
        good().session_id(&[1; 33]).build(),
        good().session_id(&[1; 255]).build(),
    ] => Alert(50), "malformed_hello";
    b55_an_odd_cipher_list_or_no_compression: [
        good().ciphers(&[0x13, 1, 0x13]).build(),
        good().compression(&[]).build(),
    ] => Alert(50), "malformed_hello";
    b55_no_ciphers: [good().ciphers(&[]).build()] => Alert(47), "malformed_hello";
    b56_another_handshake_message: [of_type(0), of_type(2), of_type(113)]
        => Alert(10), "malformed_hello";
    b57_a_handshake_message_of_no_length: [record(22, &handshake(1, b""))]
        => Alert(50), "malformed_hello";
    b58_a_handshake_message_of_16_mb_is_not_waited_for: [header(1, [0xff; 3])]
        => Alert(47), "hello_too_large";
    b59_a_record_over_the_protocols_limit: [
        vec![22, 3, 1, 0x40, 0x01, 1], vec![22, 3, 1, 0xff, 0xff, 1],
    ] => Alert(22), "hello_too_large";
    b60_a_hello_over_the_limit_is_rejected_by_its_length:
        [header(1, [1, 0, 0])]
        => Alert(47), "hello_too_large";
    b61_a_record_of_no_length: [[record(22, b""), good().build()].concat(), between(&record(22, b""))]
        => Alert(10), "malformed_hello";
    b62_ten_thousand_records_of_no_length: [record(22, b"").repeat(10_000)]
        => Alert(10), "malformed_hello";
    b63_an_alert_first: [record(21, &[2, 40]), [record(21, &[1, 90]), good().build()].concat()]
        => Alert(10), "malformed_hello";
    b64_another_record_first: [
        [record(20, &[1]), good().build()].concat(), record(23, &[0; 40]),
        [record(24, &[1, 0, 1, 0]), good().build()].concat(),
    ] => Alert(10), "malformed_hello";
    b65_another_record_between: [between(&record(20, &[1])), between(&record(21, &[1, 90]))]
        => Alert(10), "malformed_hello";
    b66_a_hello_in_a_data_record: [record(23, &good().message())]
        => Alert(10), "malformed_hello";
    b72_garbage_in_a_record: [record(22, &[0xff; 60])] => Alert(10), "malformed_hello";
    b72_garbage_after_the_version: [[&[22, 3, 1][..], &[0xff; 60]].concat()]
        => Alert(22), "hello_too_large";
    b73_a_hello_of_sslv2: [sslv2([0, 2]), sslv2([3, 1])] => Alert(70), "unsupported_version";
    an_extension_cut_short_hides_no_name: [
        before_extensions_and(&vector16(&[0xfa, 0xde, 0])),
        before_extensions_and(&[2, 0xfa, 0xde]),
    ] => Alert(50), "malformed_hello";
}

/// Every row also goes to a portway with routes for any name and for none. These inputs represent all rows.
#[test]
fn invariant_2_what_cannot_be_parsed_reaches_no_fallback_route() {
    let lane = Lane::take();
    let rows = [
        (with_names([]), Alert(50), "malformed_hello"),
        (
            block_length(|length| length + 10),
            Alert(50),
            "malformed_hello",
        ),
        (between(&record(20, &[1])), Alert(10), "malformed_hello"),
        (header(1, [0xff; 3]), Alert(47), "hello_too_large"),
        (sslv2([0, 2]), Alert(70), "unsupported_version"),
        (
            Builder::new("fleet.example.").build(),
            Alert(112),
            "invalid_server_name",
        ),
        (
            Builder::new("127.0.0.1").build(),
            Alert(112),
            "invalid_server_name",
        ),
    ];
    for (input, seen, outcome) in rows {
        lane.open()
            .rejects(|client| client.write_all(&input).unwrap(), seen, outcome);
    }
}

/// Each row counts what the backend accepts. This one does so for a client that was served before.
#[test]
fn invariant_7_a_rejected_client_causes_no_dial() {
    let lane = Lane::take();
    lane.strict().routes(&[&good().build()], Duration::ZERO);
    for name in ["unknown.example", "localhost", "fleet.example.org"] {
        let hello = Builder::new(name).build();
        lane.strict().rejects(
            |client| client.write_all(&hello).unwrap(),
            Alert(112),
            "no_route",
        );
    }
}
