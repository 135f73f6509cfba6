//! `read_hello` on any bytes: it does not panic, asks for more than it has, gives no prefix another answer
//! than the whole, and reads the same name as rustls.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::tls::{Progress, read_hello};

#[path = "../../tests/support/differential.rs"]
mod differential;

/// Small, so that short inputs reach it too.
const MAX: usize = 4 * 1024;

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = vec![0; MAX];
    let whole = read_hello(bytes, MAX, &mut scratch);
    if let Progress::NeedMore { total } = whole {
        assert!(total > bytes.len() && total <= MAX);
    }

    // Every prefix of short inputs; for long ones only the prefixes at which a waiting reader wakes up.
    let mut scratch = vec![0; MAX];
    let mut end = 0;
    while end < bytes.len() {
        match read_hello(&bytes[..end], MAX, &mut scratch) {
            Progress::NeedMore { total } => {
                assert!(total > end && total <= MAX);
                end = if bytes.len() <= 256 { end + 1 } else { total };
            }
            early => {
                assert_eq!(early, whole, "another answer after {end} bytes");
                end += 1 + bytes.len() / 64;
            }
        }
    }

    if let Err(difference) = differential::compare(bytes, MAX) {
        panic!("{difference}");
    }
});
