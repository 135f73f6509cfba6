use std::collections::HashSet;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{Acceptor, ServerConfig};
use rustls::{ProtocolVersion, ServerConnection};

use super::*;
use crate::tls::{self, Answer, Progress, Version, read_answer, read_hello};

const KINDS: [Kind; 3] = [Kind::Tls12, Kind::Classic, Kind::PostQuantum];
const SHAPES: [Shape; 3] = [Shape::Whole, Shape::TwoSegments, Shape::TwoRecords];

fn name() -> ServerName {
    ServerName::parse(b"fleet.example.com").unwrap()
}

fn protocols() -> Vec<Box<[u8]>> {
    vec![Box::from(*b"h2"), Box::from(*b"http/1.1")]
}

#[test]
fn every_hello_is_one_that_rustls_and_portway_read_alike() {
    for (kind, shape) in KINDS
        .into_iter()
        .flat_map(|kind| SHAPES.map(|shape| (kind, shape)))
    {
        let parts = parts(&message(kind, Some(&name()), &protocols()), shape);
        let bytes = parts.concat();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut bytes.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        let hello = accepted.client_hello();
        assert_eq!(hello.server_name(), Some("fleet.example.com"));
        let alpn: Vec<&[u8]> = hello.alpn().unwrap().collect();
        assert_eq!(alpn, [&b"h2"[..], b"http/1.1"]);
        let mut scratch = vec![0; 1 << 14];
        let Progress::Hello(read) = read_hello(&bytes, 1 << 14, &mut scratch) else {
            panic!("{kind:?} {shape:?}");
        };
        assert_eq!(read.server_name, Some(&b"fleet.example.com"[..]));
        assert_eq!(read.size, bytes.len());
        let newest = if kind == Kind::Tls12 {
            Version(0x0303)
        } else {
            Version::TLS_1_3
        };
        assert_eq!(read.version, newest);
    }
}

#[test]
fn a_hello_without_a_name_has_neither_the_extension_nor_alpn() {
    for kind in KINDS {
        let bytes = record(&message(kind, None, &[]));
        let mut scratch = vec![0; 1 << 14];
        let Progress::Hello(read) = read_hello(&bytes, 1 << 14, &mut scratch) else {
            panic!()
        };
        assert_eq!((read.server_name, read.alpn.as_bytes()), (None, &b""[..]));
    }
}

#[test]
fn the_sizes_are_those_of_real_clients() {
    let size = |kind| record(&message(kind, Some(&name()), &[])).len();
    let classic = size(Kind::Classic);
    assert!((200..600).contains(&classic), "{classic}");
    // Go 1.26 sends 1,509 bytes, over one segment of Ethernet.
    let large = size(Kind::PostQuantum);
    assert!((1461..1800).contains(&large), "{large}");
}

#[test]
fn two_segments_are_the_whole_hello_and_two_records_share_its_message() {
    let message = message(Kind::Classic, Some(&name()), &[]);
    let whole = parts(&message, Shape::Whole).concat();
    let segments = parts(&message, Shape::TwoSegments);
    assert_eq!((segments.len(), segments.concat()), (2, whole.clone()));
    let records = parts(&message, Shape::TwoRecords);
    assert_eq!((records.len(), records[0].len()), (1, whole.len() + 5));
}

#[test]
fn numbers_of_the_key_of_ml_kem_are_below_its_modulus() {
    let mut rng = Rng::with_seed(1);
    let key = ml_kem_768(&mut rng);
    assert_eq!(key.len(), 1184);
    for pair in key[..1152].chunks(3) {
        let low = u16::from(pair[0]) | u16::from(pair[1] & 0x0f) << 8;
        let high = u16::from(pair[1] >> 4) | u16::from(pair[2]) << 4;
        assert!(low < 3329 && high < 3329, "{low} {high}");
    }
    let seen: HashSet<&[u8]> = key.chunks(3).collect();
    assert!(seen.len() > 300, "they vary");
}

fn server(
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["fleet.example.com".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_protocol_versions(versions).with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    Arc::new(config)
}

/// The bytes that a server of rustls answers to a hello.
fn answer_of(config: &Arc<ServerConfig>, hello: &[u8]) -> Vec<u8> {
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    connection.read_tls(&mut &*hello).unwrap();
    // An error has become an alert.
    drop(connection.process_new_packets());
    let mut answer = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut answer).unwrap();
    }
    answer
}

#[test]
fn rustls_answers_every_hello_and_portway_reads_the_answer() {
    let both = server(rustls::ALL_VERSIONS, &[b"h2"]);
    for (kind, shape) in KINDS
        .into_iter()
        .flat_map(|kind| SHAPES.map(|shape| (kind, shape)))
    {
        let hello = parts(&message(kind, Some(&name()), &protocols()), shape).concat();
        let bytes = answer_of(&both, &hello);
        for end in 0..bytes.len() {
            let early = read_answer(&bytes[..end], false);
            assert!(early.is_none() || early == read_answer(&bytes, false));
        }
        let Some(Answer::Hello(answer)) = read_answer(&bytes, false) else {
            panic!("{kind:?} {shape:?}: {bytes:?}");
        };
        assert!(!answer.is_retry, "the key share of X25519 is taken");
        if kind == Kind::Tls12 {
            assert_eq!(answer.version.0, u16::from(ProtocolVersion::TLSv1_2));
            assert_eq!(
                (answer.chain.len(), answer.asks_for_certificate),
                (1, Some(false))
            );
            assert_eq!(answer.alpn.as_deref(), Some(&b"h2"[..]));
        } else {
            assert_eq!(answer.version, Version::TLS_1_3);
        }
    }
}

#[test]
fn a_server_of_tls_13_alone_answers_a_hello_of_tls_12_with_protocol_version() {
    let only = server(&[&rustls::version::TLS13], &[]);
    let hello = record(&message(Kind::Tls12, Some(&name()), &[]));
    let answer = read_answer(&answer_of(&only, &hello), false);
    assert_eq!(
        answer,
        Some(Answer::Alert(tls::AlertDescription::ProtocolVersion as u8))
    );
}
