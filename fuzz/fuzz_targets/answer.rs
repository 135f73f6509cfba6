//! `read_answer` on any bytes: no panic, no prefix has another answer than the whole, and an end always decides.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::tls::read_answer;

fuzz_target!(|bytes: &[u8]| {
    let whole = read_answer(bytes, false);
    for end in 0..bytes.len().min(600) {
        if let Some(early) = read_answer(&bytes[..end], false) {
            assert_eq!(Some(early), whole, "after {end} bytes");
        }
    }
    assert!(read_answer(bytes, true).is_some());
});
