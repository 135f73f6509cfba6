//! Tests that rustls sees the name by which we route in the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "support/corpus.rs"]
mod corpus;
#[path = "support/differential.rs"]
mod differential;
#[expect(dead_code, reason = "the builder has more than this test needs")]
#[path = "support/hello.rs"]
mod hello;

use differential::{Verdict, compare};
use hello::{Builder, extension, in_records, server_names};

const MAX: usize = 64 * 1024;
const NAME: &str = "fleet.example.com";

/// One way to damage a hello.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        8 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        8 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        2 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..5))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        2 => (any::<Index>(), 1..5_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        1 => any::<Index>().prop_map(Damage::Truncate),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
            Self::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + count);
                bytes.drain(at..end);
            }
            Self::Truncate(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
}

#[test]
fn captured_hellos_have_the_same_name() {
    for (client, bytes) in corpus::captures().unwrap() {
        assert_eq!(compare(&bytes, MAX), Ok(Verdict::Same), "{client}");
        for size in [1, 7, 100] {
            let records = in_records(&bytes[5..], 0x0301, &[size]);
            assert_eq!(
                compare(&records, MAX),
                Ok(Verdict::Same),
                "{client} by {size}"
            );
        }
    }
}

#[test]
fn unusual_hellos_have_the_same_name() {
    let plain = Builder::new(NAME);
    for hello in [
        plain.clone().tls12(),
        plain.clone().alpn(&["h2", "http/1.1"]),
        plain.clone().version(0x0505).record_version(0x0300),
        plain.clone().session_id(&[]),
        plain.clone().extension_first(0x1234, [0xff; 500]),
        plain.clone().padded_to(20_000),
        plain.records(&[1]),
        Builder::new("FLEET.Example.com"),
        Builder::new("_es.1.example.com"),
        Builder::new("169.254.169.254.nip.io"),
        Builder::without_name(),
        Builder::without_name().tls12(),
    ] {
        assert_eq!(compare(&hello.build(), MAX), Ok(Verdict::Same), "{hello:?}");
    }
}

#[test]
fn each_listed_refusal_of_rustls_is_one_that_exists() {
    let plain = Builder::new(NAME);
    let second_message = [plain.message(), hello::handshake(20, &[1; 12])].concat();
    let second_message = in_records(&second_message, 0x0301, &[]);
    let cut_behind_the_hello = &second_message[..second_message.len() - 1];
    let without_algorithms = plain
        .clone()
        .without(extension::SIGNATURE_ALGORITHMS)
        .build();
    let repeated = plain
        .clone()
        .extension(extension::SUPPORTED_GROUPS, [0, 2, 0, 0x1d])
        .build();
    let broken = plain
        .without(extension::SUPPORTED_GROUPS)
        .extension(10, [0xff])
        .build();
    let hyphen = Builder::new("-fleet.example.com").build();
    for (bytes, verdict) in [
        (&broken[..], Verdict::RefusedForAnotherExtension),
        (&repeated, Verdict::RefusedForAnotherExtension),
        (&without_algorithms, Verdict::RefusedForWhatIsOffered),
        (&second_message, Verdict::RefusedForBytesBehind),
        (&hyphen, Verdict::RefusedForHyphens),
        (cut_behind_the_hello, Verdict::WaitsForTheRecord),
    ] {
        assert_eq!(compare(bytes, MAX), Ok(verdict));
    }
}

#[test]
fn names_that_rustls_reads_otherwise_are_not_routed() {
    let twice = server_names(&[(0, NAME.as_bytes()), (1, b"other.example.com")]);
    let two_types = Builder::without_name().extension(extension::SERVER_NAME, twice);
    for hello in [
        Builder::new("192.0.2.7"),
        Builder::new("fleet.example.com."),
        two_types,
    ] {
        assert_eq!(compare(&hello.build(), MAX), Ok(Verdict::NotRouted));
    }
}

#[test]
fn damaged_hellos_never_have_two_names() {
    let mut sources: Vec<Vec<u8>> = corpus::captures()
        .unwrap()
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    let plain = Builder::new(NAME);
    sources.extend([
        plain.build(),
        plain.clone().records(&[9]).build(),
        plain.tls12().build(),
    ]);
    let sources = Arc::new(sources);

    let cases = Config {
        cases: 6_000,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, b"the same damage whenever it runs");
    let mut runner = TestRunner::new_with_rng(cases, seed);
    let verdicts = std::cell::RefCell::new(BTreeMap::<Verdict, usize>::new());
    let input = (any::<Index>(), prop::collection::vec(damage(), 1..5));
    let result = runner.run(&input, |(source, damages)| {
        let mut bytes = source.get(&sources).clone();
        for damage in damages {
            damage.apply(&mut bytes);
        }
        let verdict = compare(&bytes, MAX).map_err(TestCaseError::fail)?;
        *verdicts.borrow_mut().entry(verdict).or_default() += 1;
        Ok(())
    });
    result.unwrap();
    let verdicts = verdicts.into_inner();
    println!("{verdicts:?}");
    assert!(
        verdicts[&Verdict::Same] > 1_000,
        "too few of the cases say anything: {verdicts:?}"
    );
}

#[test]
fn hello_of_rustls_itself_has_its_name() {
    let bytes = hello_of_rustls().unwrap();
    assert_eq!(compare(&bytes, MAX), Ok(Verdict::Same));
}

/// The corpus is written only on request: `PORTWAY_TEST_CAPTURE=1`.
#[test]
fn the_hello_of_this_rustls_has_the_name() {
    let hello = hello_of_rustls().unwrap();
    assert!(
        hello
            .windows(NAME.len())
            .any(|window| window == NAME.as_bytes())
    );
    if std::env::var_os("PORTWAY_TEST_CAPTURE").is_some() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/rustls.bin");
        std::fs::write(corpus, hello).unwrap();
    }
}

fn hello_of_rustls() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = NAME.try_into()?;
    let mut client = rustls::ClientConnection::new(Arc::new(config), name)?;
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes)?;
    Ok(bytes)
}
