//! `read_proxy_header` on any bytes: no panic, no more bytes than there are or than a header may have, no prefix has
//! another answer than the whole, and its ends are read back from the headers that portway writes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{Introduction, MOST_HEADER, ProxyHeader, ProxyVersion, read_proxy_header};

fuzz_target!(|bytes: &[u8]| {
    let whole = read_proxy_header(bytes);
    match whole {
        ProxyHeader::Partial => assert!(bytes.len() < MOST_HEADER),
        ProxyHeader::Whole(ends, size) => {
            assert!((1..=bytes.len().min(MOST_HEADER)).contains(&size));
            assert_eq!(read_proxy_header(&bytes[..size]), whole);
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let header = version.header(&Introduction { ends, ..Introduction::CHECK });
                assert_eq!(read_proxy_header(&header), ProxyHeader::Whole(ends, header.len()));
            }
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
