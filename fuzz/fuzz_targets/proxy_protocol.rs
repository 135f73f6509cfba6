//! `read_proxy_header` on any bytes: no panic, no more bytes than there are or than a header may have, and no prefix has
//! another answer than the whole.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{MOST_HEADER, ProxyHeader, read_proxy_header};

fuzz_target!(|bytes: &[u8]| {
    let whole = read_proxy_header(bytes);
    match whole {
        ProxyHeader::Partial => assert!(bytes.len() < MOST_HEADER),
        ProxyHeader::Whole(_, size) => {
            assert!((1..=bytes.len().min(MOST_HEADER)).contains(&size));
            assert_eq!(read_proxy_header(&bytes[..size]), whole);
        }
        ProxyHeader::Invalid(_) => {}
    }
    for end in 0..bytes.len().min(600) {
        match read_proxy_header(&bytes[..end]) {
            ProxyHeader::Partial => {}
            early => assert_eq!(early, whole, "after {end} bytes"),
        }
    }
});
