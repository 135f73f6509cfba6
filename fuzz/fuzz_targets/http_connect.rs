//! `read_connect` on any bytes: no panic, no more bytes than there are, no prefix has another answer than the whole,
//! bytes behind a request change nothing, and a target is read back from what it shows.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{Head, MOST_HEAD, Target, read_connect};

fuzz_target!(|bytes: &[u8]| {
    let whole = read_connect(bytes);
    match &whole {
        Head::Partial => assert!(bytes.len() < MOST_HEAD),
        Head::Connect(connect, size) => {
            let target = &connect.target;
            assert!(*size <= bytes.len() && *size <= MOST_HEAD && target.port > 0);
            assert_eq!(read_connect(&bytes[..*size]), whole);
            assert!(bytes[..*size].ends_with(b"\n"));
            let shown = target.to_string();
            assert_eq!(Target::parse(shown.as_bytes()).as_ref(), Ok(target));
            assert!(shown.bytes().all(|byte| matches!(byte, b'!'..=b'~')));
            if let Ok(login) = connect.authorization.login() {
                assert!(login.user.len() + login.password.len() < 512);
                assert!(!login.user.contains(&b':'));
            }
        }
        Head::Invalid(invalid) => {
            let reply = invalid.reply();
            assert!(matches!(reply.status, 400 | 405 | 431));
        }
    }
    let step = 1 + bytes.len() / 256;
    for end in (0..bytes.len()).step_by(step) {
        match read_connect(&bytes[..end]) {
            Head::Partial => {}
            early => assert_eq!(early, whole, "after {end} bytes"),
        }
    }
});
