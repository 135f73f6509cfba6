//! Records: how a hello may be cut, and which lengths decide at once.

use super::hello::{Builder, MAX_RECORD, extension, handshake, in_records, record};
use super::*;

const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 1, 0];
const CHANGE_CIPHER_SPEC: [u8; 6] = [0x14, 3, 3, 0, 1, 1];
const EMPTY_RECORD: [u8; 5] = [0x16, 3, 1, 0, 0];
const UNEXPECTED: (u8, &str) = (10, "record type");
const OVER_LIMIT: Rejection = Rejection::TooLarge(AlertDescription::IllegalParameter);
const RECORD_OVERFLOW: Rejection = Rejection::TooLarge(AlertDescription::RecordOverflow);

#[test]
fn b05_one_byte_records_keep_the_name_whole() {
    let bytes = Builder::new(NAME).records(&[1]).build();
    assert_eq!(name(&bytes), NAME);
    assert_eq!(
        facts(&bytes).size,
        bytes.len(),
        "the size counts the header of every record"
    );
}

#[test]
fn b06_b07_record_boundary_anywhere_changes_no_fact() {
    let hello = Builder::new(NAME).alpn(&["h2"]);
    let message = hello.message();
    let whole = facts(&hello.build());
    for cut in 1..message.len() {
        let bytes = in_records(&message, 0x0301, &[cut, MAX_RECORD]);
        assert_eq!(
            facts(&bytes),
            Facts {
                size: bytes.len(),
                ..whole.clone()
            },
            "cut at {cut}"
        );
    }
}

#[test]
fn b07_handshake_header_in_four_records_is_joined() {
    let bytes = Builder::new(NAME)
        .records(&[1, 1, 1, 1, 40, 2, 1_000])
        .build();
    assert_eq!(name(&bytes), NAME);
}

#[test]
fn b09_full_record_is_taken() {
    let hello = Builder::new(NAME).padded_to(MAX_RECORD);
    assert_eq!(hello.message().len(), MAX_RECORD);
    assert_eq!(facts(&hello.build()).size, 5 + MAX_RECORD);
}

#[test]
fn b10_hello_of_20_kb_in_two_records_is_taken() {
    let bytes = Builder::new(NAME).padded_to(20_000).build();
    assert_eq!(bytes.len(), 20_000 + 2 * 5);
    assert_eq!(facts(&bytes).size, bytes.len());
    assert_eq!(name(&bytes), NAME);
}

#[test]
fn b10_limit_counts_the_headers_and_is_exact() {
    for records in [&[][..], &[100]] {
        let bytes = Builder::new(NAME).records(records).build();
        let mut scratch = vec![0; bytes.len()];
        let within = read_hello(&bytes, bytes.len(), &mut scratch);
        assert!(matches!(within, Progress::Hello(_)));
        let over = read_hello(&bytes, bytes.len() - 1, &mut scratch);
        assert_eq!(over, Progress::Rejected(OVER_LIMIT));
    }
}

#[test]
fn b50_hello_shorter_than_it_says_is_waited_for() {
    let message = Builder::new(NAME).message();
    for claimed in 1..=4 {
        let body = [&message[4..], &vec![0; claimed]].concat();
        let longer = handshake(1, &body);
        // One record that says so too, and one that ends where the bytes do.
        let truthful = in_records(&longer, 0x0301, &[]);
        let sent = truthful.len() - claimed;
        assert_eq!(answer(&truthful[..sent]), Answer::NeedMore(truthful.len()));
        let closed = in_records(&longer[..message.len()], 0x0301, &[]);
        assert_eq!(answer(&closed), Answer::NeedMore(closed.len() + 5));
    }
}

#[test]
fn b58_handshake_length_over_the_limit_is_rejected_at_once() {
    let header = [0x16, 3, 1, 2, 0, 1, 0xff, 0xff, 0xff];
    assert_eq!(rejection(&header), OVER_LIMIT);
    assert_eq!(decided_after(&header), 9);
    let alone = [0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff];
    assert_eq!(
        rejection(&alone),
        OVER_LIMIT,
        "without waiting for a second record"
    );
}

#[test]
fn b59_record_over_the_protocols_limit_is_rejected_at_once() {
    for length in [16_385_u16, 16_640, 0xffff] {
        let [high, low] = length.to_be_bytes();
        assert_eq!(rejection(&[0x16, 3, 1, high, low]), RECORD_OVERFLOW);
    }
}

#[test]
fn b59_later_record_over_the_protocols_limit_is_rejected_at_once() {
    let mut bytes = in_records(&Builder::new(NAME).message()[..50], 0x0301, &[]);
    bytes.extend([0x16, 3, 1, 0x40, 1]);
    assert_eq!(rejection(&bytes), RECORD_OVERFLOW);
}

#[test]
fn b60_truthful_hello_of_66_kb_is_rejected_by_its_header() {
    let hello = Builder::new(NAME).ciphers(&[0x13, 0x01].repeat(15_000));
    let bytes = hello.padded_to(66_000).build();
    assert_eq!(rejection(&bytes), OVER_LIMIT);
    assert_eq!(rejection(&bytes[..9]), OVER_LIMIT, "nine bytes suffice");
}

#[test]
fn b60_record_headers_that_must_come_are_counted_before_they_come() {
    // Four records, each with 5 bytes of its own.
    let message = MAX - 4 * 5 + 1;
    let bytes = Builder::new(NAME)
        .ciphers(&[0x13, 0x01].repeat(1_000))
        .padded_to(message)
        .build();
    assert_eq!(bytes.len(), MAX + 1);
    assert_eq!(rejection(&bytes[..9]), OVER_LIMIT);
}

#[test]
fn b60_many_small_records_reach_the_limit_too() {
    let bytes = Builder::new(NAME).padded_to(12_000).records(&[1]).build();
    assert_eq!(read(&bytes), Answer::Rejected(OVER_LIMIT));
}

#[test]
fn b61_b62_empty_record_is_rejected_at_the_first() {
    let expected = (10, "empty record");
    assert_eq!(malformed(&EMPTY_RECORD), expected);
    assert_eq!(malformed(&EMPTY_RECORD.repeat(20_000)), expected);
    let message = Builder::new(NAME).message();
    for cut in [1, 4, 60] {
        let between = [
            record(0x16, 0x0301, &message[..cut]),
            EMPTY_RECORD.to_vec(),
            record(0x16, 0x0301, &message[cut..]),
        ];
        assert_eq!(malformed(&between.concat()), expected, "after {cut} bytes");
    }
}

#[test]
fn b63_b64_b66_other_records_may_not_come_first() {
    let fatal = [0x15, 3, 3, 0, 2, 2, 40];
    let tls13_like = record(0x17, 0x0303, &[0; 60]);
    let heartbeat = record(0x18, 0x0303, &[1, 0, 3, 1, 2, 3]);
    for bytes in [
        &ALERT[..],
        &fatal,
        &CHANGE_CIPHER_SPEC,
        &tls13_like,
        &heartbeat,
    ] {
        assert_eq!(malformed(bytes), UNEXPECTED);
        assert_eq!(decided_after(bytes), 2, "type and major version suffice");
    }
}

#[test]
fn b65_other_records_may_not_come_between_fragments() {
    let message = Builder::new(NAME).message();
    for other in [&ALERT[..], &CHANGE_CIPHER_SPEC, b"G"] {
        let first = record(0x16, 0x0301, &message[..60]);
        let bytes = [&first, other, &record(0x16, 0x0301, &message[60..])].concat();
        assert_eq!(malformed(&bytes), UNEXPECTED);
        assert_eq!(decided_after(&bytes), first.len() + 1, "the type suffices");
    }
}

#[test]
fn b67_later_record_of_another_major_version_is_malformed() {
    let message = Builder::new(NAME).message();
    let bytes = [
        record(0x16, 0x0301, &message[..60]),
        record(0x16, 0x0401, &message[60..]),
    ];
    assert_eq!(malformed(&bytes.concat()), (50, "record version"));
}

#[test]
fn waits_for_each_header_and_then_for_the_end_and_no_more() {
    let message = Builder::new(NAME).message();
    let bytes = in_records(&message, 0x0301, &[100, MAX_RECORD]);
    let mut waits = vec![0];
    while let Answer::NeedMore(total) = read(&bytes[..waits[waits.len() - 1]]) {
        waits.push(total);
    }
    assert_eq!(waits, [0, 1, 2, 5, 9, 105, 110, bytes.len()]);
}

#[test]
fn hello_in_one_record_is_borrowed_from_the_peeked_bytes() {
    let bytes = Builder::new(NAME).build();
    let Progress::Hello(hello) = read_hello(&bytes, MAX, &mut []) else {
        panic!("no scratch is needed");
    };
    assert!(
        bytes
            .as_ptr_range()
            .contains(&hello.server_name.unwrap().as_ptr())
    );
}

#[test]
fn scratch_that_is_too_small_does_not_panic() {
    let bytes = Builder::new(NAME)
        .records(&[9])
        .extension(extension::PADDING, [0; 9])
        .build();
    assert_eq!(
        read_hello(&bytes, MAX, &mut [0; 20]),
        Progress::Rejected(OVER_LIMIT)
    );
}
