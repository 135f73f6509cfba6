//! Hellos that look odd but are good: they are routed, and not a byte is changed (B01, B02, B05 to
//! B21, B42 to B48).

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use super::lane::Lane;
use super::{LONG_NAME, routed};
use crate::it::fixture::{Portway, config, route};
use crate::it::hello::{Builder, extension, handshake, record, server_names};
use crate::it::peers::{Backend, End, connect, digest, read_to_end};

const NAME: &[u8] = b"fleet.example";

fn hello(name: &str) -> Vec<u8> {
    Builder::new(name).build()
}

fn good() -> Builder {
    Builder::new(NAME)
}

fn in_records_of(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes
        .iter()
        .map(|size| good().records(&[*size]).build())
        .collect()
}

/// A hello whose name comes after `padding` bytes of another extension.
fn name_after(padding: usize) -> Vec<u8> {
    let hello = Builder::without_name().extension(0xfade, vec![0; padding]);
    hello
        .extension(extension::SERVER_NAME, server_names(&[(0, NAME)]))
        .build()
}

/// A hello of rustls: TLS 1.3 and 1.2, key shares and all.
fn of_rustls() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "fleet.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

routed! {
    b01_a_minimal_hello: [good().build()];
    b02_a_hello_of_rustls: [of_rustls()];
    b05_records_of_one_byte: in_records_of(&[1]);
    b06_a_record_boundary_inside_the_name: in_records_of(&[good().message().len() - 5]);
    b07_record_boundaries_everywhere: in_records_of(&[2, 3, 5, 7, 11, 43, 60]);
    b09_a_full_record: [good().padded_to(1 << 14).build()];
    b10_twenty_kilobytes_in_two_records: [good().padded_to(20_000).build()];
    b11_the_name_last_after_much_else: [name_after(15_000)];
    b12_early_data_behind_the_hello: [[good().build(), vec![0x17; 100_000]].concat()];
    b13_encrypted_client_hello_is_routed_by_its_outer_name:
        [good().extension(0xfe0d, vec![0; 200]).build()];
    b14_upper_and_mixed_case: [hello("FLEET.EXAMPLE"), hello("fLeEt.ExAmPlE")];
    b15_the_longest_name: [hello(LONG_NAME)];
    b16_underscore_a_label_and_digits:
        [hello("fleet_1.example"), hello("xn--bcher-kva.example"), hello("123.example")];
    b17_one_label_under_a_wildcard: [hello("a.wild.example")];
    b18_grease_a_long_ticket_many_ciphers_and_empty_alpn: [
        good().without(extension::SUPPORTED_VERSIONS).extension(43, vec![4, 0x0a, 0x0a, 0xfa, 0xfa]).build(),
        good().extension(35, vec![9; 8192]).build(),
        good().ciphers(&[0x13; 200]).build(),
        good().extension(16, vec![0, 0]).build(),
    ];
    b19_other_record_versions: [good().record_version(0x0300).build(), good().record_version(0x0304).build()];
    b20_a_version_of_the_future: [good().version(0x0505).build()];
    b21_tls_1_0_and_1_1: [
        good().tls12().version(0x0301).build(), good().tls12().version(0x0302).build(),
    ];
    b42_a_second_hello_with_another_name_passes: [[good().build(), hello("other.example")].concat()];
    b43_an_unknown_extension_of_none_or_sixty_kilobytes:
        [good().extension(0xfade, vec![]).build(), good().extension(0xfade, vec![0; 60_000]).build()];
    b44_five_thousand_extensions: [
        (0x1000..0x1000 + 5000).fold(good(), |hello, kind| hello.extension(kind, vec![])).build()
    ];
    b45_another_extension_twice:
        [good().extension(0xfade, vec![1]).extension(0xfade, vec![2]).build()];
    b46_a_pre_shared_key_that_is_not_last:
        [good().extension(41, vec![0; 60]).extension(0xfade, vec![]).build()];
    b47_a_second_message_in_the_same_record:
        [record(22, 0x0301, &[good().message(), handshake(11, &[0; 30])].concat())];
}

#[test]
fn b08_a_large_hello_in_two_segments_is_waited_for() {
    let hello = good().padded_to(1800).build();
    let (one, two) = hello.split_at(1400);
    Lane::take()
        .strict()
        .routes(&[one, two], Duration::from_millis(200));
}

#[test]
fn a_name_is_logged_in_lower_case_with_its_route_and_backend() {
    let line = Lane::take()
        .strict()
        .routes(&[&hello("FLEET.EXAMPLE")], Duration::ZERO);
    assert_eq!(line["server_name"], "fleet.example", "{line}");
    assert!(line["route"].as_str().unwrap().starts_with('r'), "{line}");
    assert!(line["backend"].as_str().unwrap().starts_with('b'), "{line}");
    assert!(
        line["endpoint"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
}

#[test]
fn b48_the_host_inside_does_not_change_the_route() {
    let (fleet, other) = (Backend::digesting(), Backend::digesting());
    let toml = config(&[fleet.address()], "", "") + &route("other", other.address(), "");
    let portway = Portway::start(&toml);
    let request = b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n";
    let sent = [
        good().build(),
        record(23, 0x0303, request),
        request.to_vec(),
    ]
    .concat();
    let mut client = connect(portway.address("agents"));
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let expected = (digest(&sent), End::Fin);
    assert_eq!(read_to_end(&mut client), expected);
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(
        (&line["route"], &line["backend"]),
        (&"fleet".into(), &"fleet".into())
    );
    assert_eq!((fleet.accepted(), other.accepted()), (1, 0));
}
