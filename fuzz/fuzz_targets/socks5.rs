//! `read_greeting` and `read_request` on any bytes: no panic, no more bytes than there are, no prefix has another answer
//! than the whole, and a target is read back from what it shows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{Socks, Target, read_greeting, read_request};

/// Reads the whole and every prefix, and gives what the whole is.
fn read<T: std::fmt::Debug + PartialEq>(bytes: &[u8], read: impl Fn(&[u8]) -> Socks<T>) -> Socks<T> {
    let whole = read(bytes);
    for end in 0..bytes.len().min(600) {
        match read(&bytes[..end]) {
            Socks::Partial => {}
            early => assert_eq!(early, whole, "after {end} bytes"),
        }
    }
    whole
}

fuzz_target!(|bytes: &[u8]| {
    let size = match read(bytes, read_greeting) {
        Socks::Whole((), size) => size,
        Socks::Partial | Socks::Invalid(_) => 0,
    };
    assert!(size <= bytes.len());
    let rest = &bytes[size..];
    if let Socks::Whole(target, size) = read(rest, read_request) {
        assert!(size <= rest.len() && target.port > 0);
        let shown = target.to_string();
        assert_eq!(Target::parse(shown.as_bytes()).as_ref(), Ok(&target));
    }
});
