//! `read_hello` allocates nothing, whatever the client sends: connections that still wait for their
//! hello must not cost memory whose size the client chooses.

use portway::tls::{Progress, read_hello};

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/corpus.rs"]
mod corpus;
#[expect(dead_code, reason = "the builder has more than this test needs")]
#[path = "support/hello.rs"]
mod hello;

use allocations::ALLOCATIONS;
use hello::{Builder, extension};

const MAX: usize = 64 * 1024;

/// Reads the hello at every length. Returns the number of allocations, and whether it was routed.
fn allocations(bytes: &[u8], scratch: &mut [u8]) -> (usize, bool) {
    let before = ALLOCATIONS.get();
    let mut routed = false;
    let step = 1 + bytes.len() / 500;
    for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
        routed = matches!(
            read_hello(bytes.get(..end).unwrap_or_default(), MAX, scratch),
            Progress::Hello(_)
        );
    }
    (ALLOCATIONS.get() - before, routed)
}

#[test]
fn allocations_are_seen() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![0_u8; 100]));
    assert_eq!(ALLOCATIONS.get(), before + 1);
}

#[test]
fn reading_a_hello_allocates_nothing() {
    let mut scratch = vec![0; MAX];
    for (client, bytes) in corpus::captures().unwrap() {
        assert_eq!(allocations(&bytes, &mut scratch), (0, true), "{client}");
    }
    let name = "fleet.example.com";
    let many = (0x1000..0x2388).fold(Builder::new(name), |hello, kind| hello.extension(kind, []));
    let big = Builder::new(name)
        .padded_to(60_000)
        .ciphers(&[0x13, 0x01].repeat(500));
    for hello in [
        many,
        big.clone(),
        big.clone().records(&[100]),
        big.alpn(&["h2"; 40]),
    ] {
        assert_eq!(allocations(&hello.build(), &mut scratch), (0, true));
    }
}

#[test]
fn rejecting_a_hello_allocates_nothing() {
    let mut scratch = vec![0; MAX];
    let twice = Builder::new("a.example").extension(extension::SERVER_NAME, [0, 0]);
    let ssl3 = Builder::new("a.example").version(0x0300);
    let lying = Builder::without_name().extension(extension::SERVER_NAME, vec![0xff; 60_000]);
    for bytes in [
        twice.build(),
        ssl3.build(),
        lying.build(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ] {
        let last = read_hello(&bytes, MAX, &mut scratch);
        assert!(matches!(last, Progress::Rejected(_)), "{last:?}");
        assert_eq!(allocations(&bytes, &mut scratch), (0, false));
    }
}
