//! `read_hello` on any bytes: no panic, it asks for more than it has, no prefix has another answer
//! than the whole, what it says about another protocol is short and printable, and rustls reads the same name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::tls::{Progress, Protocol, Rejection, read_hello};

#[path = "../../tests/support/differential.rs"]
mod differential;

/// Small, so that short inputs reach it too.
const MAX: usize = 4 * 1024;

/// Whether the answer to a prefix holds for the whole: a protocol that was unknown may have got its name.
fn holds(early: &Progress<'_>, whole: &Progress<'_>) -> bool {
    match (early, whole) {
        (
            Progress::Rejected(Rejection::NotTls(Protocol::Unknown(_))),
            Progress::Rejected(Rejection::NotTls(named)),
        ) => !matches!(named, Protocol::Http(_) | Protocol::HttpToProxy(_)),
        _ => early == whole,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = vec![0; MAX];
    let whole = read_hello(bytes, MAX, &mut scratch);
    if let Progress::NeedMore { total } = whole {
        assert!(total > bytes.len() && total <= MAX);
    }

    if let Progress::Rejected(Rejection::NotTls(protocol)) = whole {
        let words = protocol.to_string();
        assert!(words.len() < 220 && words.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }

    // Every prefix of short inputs; of long ones those at which a waiting reader wakes up.
    let mut scratch = vec![0; MAX];
    let mut end = 0;
    while end < bytes.len() {
        match read_hello(&bytes[..end], MAX, &mut scratch) {
            Progress::NeedMore { total } => {
                assert!(total > end && total <= MAX);
                end = if bytes.len() <= 256 { end + 1 } else { total };
            }
            early => {
                assert!(holds(&early, &whole), "{early:?} after {end} bytes, then {whole:?}");
                end += 1 + bytes.len() / 64;
            }
        }
    }

    if let Err(difference) = differential::compare(bytes, MAX) {
        panic!("{difference}");
    }
});
