//! Captured hellos and random bytes: prefixes, records, noise.

use proptest::prelude::*;

use super::hello::{Builder, in_records};
use super::*;

/// The handshake message of a capture in one record.
fn message(capture: &[u8]) -> &[u8] {
    &capture[5..]
}

#[test]
fn b02_captured_hellos_have_the_name_they_were_made_with() {
    let captures = corpus::captures().unwrap();
    assert!(captures.len() >= 10, "{} captures", captures.len());
    for (client, bytes) in captures {
        let facts = facts(&bytes);
        assert_eq!(facts.name.as_deref(), Some(NAME), "{client}");
        assert_eq!(facts.size, bytes.len(), "{client}");
    }
}

#[test]
fn b04_every_prefix_of_a_captured_hello_waits_for_exactly_the_rest() {
    for (client, bytes) in corpus::captures().unwrap() {
        for end in 9..bytes.len() {
            let answer = read(&bytes[..end]);
            assert_eq!(
                answer,
                Answer::NeedMore(bytes.len()),
                "{client}, {end} bytes"
            );
        }
    }
}

#[test]
fn b06_every_cut_of_a_captured_hello_in_two_records_changes_no_fact() {
    for (client, bytes) in corpus::captures().unwrap() {
        let whole = read(&bytes);
        let Answer::Hello(whole) = whole else {
            panic!("{client}: {whole:?}")
        };
        for cut in 1..message(&bytes).len() {
            let records = in_records(message(&bytes), 0x0301, &[cut, 16_384]);
            let expected = Facts {
                size: bytes.len() + 5,
                ..whole.clone()
            };
            assert_eq!(
                read(&records),
                Answer::Hello(expected),
                "{client}, cut at {cut}"
            );
        }
    }
}

#[test]
fn versions_and_protocols_of_captured_hellos_are_those_of_their_clients() {
    for (client, bytes) in corpus::captures().unwrap() {
        let facts = facts(&bytes);
        let version = if client.ends_with("tls12") {
            0x0303
        } else {
            0x0304
        };
        assert_eq!(facts.version, version, "{client}");
        let browser = matches!(&*client, "chrome" | "firefox" | "safari");
        assert_eq!(
            facts.ech,
            matches!(&*client, "chrome" | "firefox"),
            "{client}"
        );
        if browser || matches!(&*client, "curl" | "go_h2") {
            assert_eq!(facts.alpn, ["h2", "http/1.1"], "{client}");
        }
    }
}

proptest! {
    #[test]
    fn b07_any_records_give_the_same_name(
        sizes in prop::collection::vec(1..400_usize, 1..40),
        name_length in 1..200_usize,
    ) {
        let sent = "n".repeat(name_length);
        let bytes = Builder::new(&sent).records(&sizes).build();
        prop_assert_eq!(name(&bytes), sent);
    }

    #[test]
    fn b69_random_bytes_keep_the_laws(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        answer(&bytes);
    }

    #[test]
    fn b69_random_bytes_behind_a_header_keep_the_laws(
        body in prop::collection::vec(any::<u8>(), 1..600),
        sizes in prop::collection::vec(1..400_usize, 1..5),
    ) {
        answer(&in_records(&hello::handshake(1, &body), 0x0301, &sizes));
    }

    #[test]
    fn b69_damaged_captures_keep_the_laws(
        capture in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let captures = corpus::captures().unwrap();
        let mut bytes = capture.get(&captures).1.clone();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        answer(&bytes);
    }
}
