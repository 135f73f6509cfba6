//! Unusual hellos that must reach a backend.

use super::hello::{Builder, extension, server_names};
use super::*;

#[test]
fn b01_minimal_tls12_hello_has_its_name() {
    let hello = Builder::new(NAME).tls12().session_id(&[]).build();
    let expected = Facts {
        name: Some(NAME.to_owned()),
        alpn: Vec::new(),
        version: 0x0303,
        ech: false,
        size: hello.len(),
    };
    assert_eq!(facts(&hello), expected);
}

#[test]
fn b11_name_behind_15_kib_of_other_extensions_is_found() {
    let late = Builder::without_name()
        .extension(extension::PADDING, vec![0; 15 << 10])
        .extension(
            extension::SERVER_NAME,
            server_names(&[(0, NAME.as_bytes())]),
        );
    assert_eq!(name(&late.build()), NAME);
}

#[test]
fn b12_early_data_behind_the_hello_is_not_looked_at() {
    let mut bytes = Builder::new(NAME).build();
    let size = bytes.len();
    bytes.extend(hello::record(0x17, 0x0303, &[0; 16_384]).repeat(6));
    assert_eq!(facts(&bytes).size, size);
}

#[test]
fn b13_ech_is_told_and_the_outer_name_used() {
    let plain = Builder::new(NAME);
    assert!(!facts(&plain.build()).ech);
    let ech = plain.extension(extension::ENCRYPTED_CLIENT_HELLO, [0; 200]);
    let facts = facts(&ech.build());
    assert!(facts.ech);
    assert_eq!(facts.name.as_deref(), Some(NAME));
}

#[test]
fn b15_name_of_253_bytes_is_read_whole() {
    let long = format!(
        "{}{}",
        format!("{}.", "a".repeat(63)).repeat(3),
        "b".repeat(61)
    );
    assert_eq!(long.len(), 253);
    assert_eq!(name(&Builder::new(&long).build()), long);
}

#[test]
fn b18_versions_of_grease_alone_fall_back_to_the_legacy_version() {
    let grease = Builder::new(NAME)
        .without(extension::SUPPORTED_VERSIONS)
        .extension(extension::SUPPORTED_VERSIONS, [4, 0x0a, 0x0a, 0xfa, 0xfa]);
    assert_eq!(facts(&grease.build()).version, 0x0303);
}

#[test]
fn b18_grease_beside_versions_is_left_out() {
    let versions = [8, 0xfa, 0xfa, 0x03, 0x03, 0x03, 0x04, 0x03, 0x02];
    let mixed = Builder::new(NAME)
        .without(extension::SUPPORTED_VERSIONS)
        .extension(extension::SUPPORTED_VERSIONS, versions);
    assert_eq!(facts(&mixed.build()).version, 0x0304);
}

#[test]
fn b18_only_equal_bytes_are_grease() {
    let alike = Builder::new(NAME)
        .without(extension::SUPPORTED_VERSIONS)
        .extension(extension::SUPPORTED_VERSIONS, [2, 0x1a, 0x2a]);
    assert_eq!(facts(&alike.build()).version, 0x1a2a);
}

#[test]
fn b18_big_ticket_many_ciphers_and_empty_alpn_are_the_backends_business() {
    let session_ticket = 35;
    let big = Builder::new(NAME)
        .extension(session_ticket, vec![1; 8 << 10])
        .ciphers(&[0x13, 0x01].repeat(100))
        .extension(extension::ALPN, []);
    let facts = facts(&big.build());
    assert_eq!(facts.name.as_deref(), Some(NAME));
    assert!(facts.alpn.is_empty());
}

#[test]
fn b18_empty_alpn_list_offers_nothing() {
    let empty = Builder::new(NAME).extension(extension::ALPN, [0, 0]);
    assert!(facts(&empty.build()).alpn.is_empty());
}

#[test]
fn alpn_keeps_the_clients_order() {
    let hello = Builder::new(NAME).alpn(&["h2", "http/1.1"]).build();
    assert_eq!(facts(&hello).alpn, ["h2", "http/1.1"]);
}

#[test]
fn b19_minor_version_of_the_record_means_nothing() {
    for version in [0x0300, 0x0301, 0x0302, 0x0303, 0x0304, 0x03ff] {
        assert_eq!(
            name(&Builder::new(NAME).record_version(version).build()),
            NAME
        );
    }
}

#[test]
fn b20_b21_client_versions_from_tls10_up_are_read_as_sent() {
    for version in [0x0301, 0x0302, 0x0303, 0x0304, 0x0505, 0xffff] {
        let hello = Builder::new(NAME).tls12().version(version).build();
        assert_eq!(facts(&hello).version, version);
    }
}

#[test]
fn b23_hello_without_a_name_tells_tls13() {
    let facts = facts(&Builder::without_name().build());
    assert_eq!((facts.name, facts.version), (None, 0x0304));
}

#[test]
fn b24_hello_without_a_name_or_without_extensions_tells_tls12() {
    let tls12 = Builder::without_name().tls12();
    for hello in [tls12.clone(), tls12.without_extensions()] {
        let facts = facts(&hello.build());
        assert_eq!((facts.name, facts.version), (None, 0x0303));
    }
}

#[test]
fn b24_empty_extension_block_is_not_a_name() {
    let mut body = Builder::new(NAME).without_extensions().body();
    body.extend([0, 0]);
    assert_eq!(
        facts(&hello::in_records(&hello::handshake(1, &body), 0x0301, &[])).name,
        None
    );
}

#[test]
fn b43_unknown_extensions_of_any_size_hide_nothing() {
    for size in [0, 1, 60_000] {
        let unknown = Builder::new(NAME).extension_first(0x1234, vec![0xff; size]);
        assert_eq!(name(&unknown.build()), NAME);
    }
}

#[test]
fn b43_known_extensions_with_foreign_content_hide_nothing() {
    let read_here = [
        extension::SERVER_NAME,
        extension::ALPN,
        extension::SUPPORTED_VERSIONS,
    ];
    for kind in (0..=60).filter(|kind| !read_here.contains(kind)) {
        for content in [&[][..], &[0xff; 3]] {
            let odd = Builder::new(NAME)
                .without(kind)
                .extension_first(kind, content);
            assert_eq!(name(&odd.build()), NAME, "extension {kind}");
        }
    }
}

#[test]
fn b44_five_thousand_empty_extensions_hide_nothing() {
    let many = (0x1000..0x1000 + 5_000)
        .fold(Builder::without_name(), |hello, kind| {
            hello.extension(kind, [])
        })
        .extension(
            extension::SERVER_NAME,
            server_names(&[(0, NAME.as_bytes())]),
        );
    assert_eq!(name(&many.build()), NAME);
}

#[test]
fn b45_second_extension_of_another_type_is_the_backends_business() {
    let twice = Builder::new(NAME)
        .extension(extension::SUPPORTED_GROUPS, [0, 2, 0x00, 0x17])
        .alpn(&["h2"])
        .alpn(&["http/1.1"]);
    let facts = facts(&twice.build());
    assert_eq!(facts.name.as_deref(), Some(NAME));
    assert_eq!(facts.alpn, ["h2"], "the first list counts");
}

#[test]
fn b46_pre_shared_key_need_not_be_last() {
    let early = Builder::new(NAME).extension_first(extension::PRE_SHARED_KEY, [0; 100]);
    assert_eq!(name(&early.build()), NAME);
}

#[test]
fn b47_second_message_in_the_same_record_is_not_looked_at() {
    let first = Builder::new(NAME).message();
    let both = [first.clone(), hello::handshake(20, &[1; 12])].concat();
    let bytes = hello::in_records(&both, 0x0301, &[]);
    assert_eq!(facts(&bytes).size, 5 + first.len());
    assert_eq!(
        decided_after(&bytes),
        5 + first.len(),
        "waits for no more than the hello"
    );
}

#[test]
fn b47_record_over_the_limit_may_hold_a_hello_within_it() {
    let hello = Builder::new(NAME).message();
    let record = [hello.clone(), vec![0; 4_000]].concat();
    let bytes = hello::in_records(&record, 0x0301, &[]);
    let mut scratch = [0; 1_024];
    let progress = read_hello(&bytes, 1_024, &mut scratch);
    assert!(matches!(progress, Progress::Hello(found) if found.size == 5 + hello.len()));
}

#[test]
fn odd_names_are_handed_over_as_sent() {
    // B28, B29, B34, B37: what is wrong with them is for `ServerName` to say.
    for odd in [
        &b""[..],
        b"local\0host",
        b"\0",
        b"192.0.2.7",
        b"a\r\nb",
        &[0xff; 300],
    ] {
        assert_eq!(name(&Builder::new(odd).build()), text(odd));
    }
}
