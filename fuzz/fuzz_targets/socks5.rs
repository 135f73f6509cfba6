//! `read_greeting`, `read_login` and `read_request` on any bytes: no panic, no more bytes than there are, no prefix has another answer
//! than the whole, and a target is read back from what it shows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{Method, Socks, Target, read_greeting, read_login, read_request};

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
    let mut rest = bytes;
    if let Socks::Whole((), size) = read(rest, |bytes| read_greeting(bytes, Method::None)) {
        assert!(size <= rest.len());
        rest = &rest[size..];
    } else if let Socks::Whole((), size) = read(rest, |bytes| read_greeting(bytes, Method::Login)) {
        assert!(size <= rest.len());
        rest = &rest[size..];
    }
    if let Socks::Whole(login, size) = read(rest, read_login) {
        assert_eq!(size, 3 + login.user.len() + login.password.len());
        rest = &rest[size..];
    }
    if let Socks::Whole(target, size) = read(rest, read_request) {
        assert!(size <= rest.len() && target.port > 0);
        let shown = target.to_string();
        assert_eq!(Target::parse(shown.as_bytes()).as_ref(), Ok(&target));
    }
});
