//! Who else may speak first: HTTP, SSLv2, anything. Told apart by as few bytes as possible, for a
//! client that waits for an answer sends no more of them.

use super::{Progress, Rejection};

/// The methods of HTTP/1 (RFC 9110 section 9, RFC 5789), each with the blank that ends it. The
/// preface of HTTP/2 is none: its sender could not read an answer of HTTP/1.
const HTTP_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
];

/// Ends in an error unless the bytes begin like a TLS record of any type.
pub(super) fn refuse_other_protocols(peeked: &[u8]) -> Result<(), Progress<'static>> {
    match peeked {
        [] => Err(Progress::NeedMore { total: 1 }),
        // change_cipher_spec to heartbeat; major version 3 is SSLv3 and everything after it.
        [0x14..=0x18] => Err(Progress::NeedMore { total: 2 }),
        [0x14..=0x18, 3, ..] => Ok(()),
        [0x80..=0xff, ..] => Err(ssl2(peeked, 2)),
        [0, ..] => Err(ssl2(peeked, 3)),
        _ => Err(http(peeked)),
    }
}

/// The SSLv2 hello, also the one that old clients use to ask for SSLv3 and later (RFC 5246
/// appendix E.2): a header of 2 or 3 bytes, type 1, the version.
fn ssl2(peeked: &[u8], header: usize) -> Progress<'static> {
    match peeked.get(header..).unwrap_or_default() {
        [] | [1] | [1, 0] => Progress::NeedMore { total: header + 3 },
        [1, 0, 2, ..] | [1, 3, ..] => Progress::Rejected(Rejection::UnsupportedVersion),
        _ => Progress::Rejected(Rejection::NotTls { http: false }),
    }
}

fn http(peeked: &[u8]) -> Progress<'static> {
    let http = HTTP_METHODS.iter().any(|method| peeked.starts_with(method));
    let unfinished = HTTP_METHODS
        .iter()
        .filter(|method| method.starts_with(peeked));
    match unfinished.map(|method| method.len()).min() {
        Some(total) if !http => Progress::NeedMore { total },
        _ => Progress::Rejected(Rejection::NotTls { http }),
    }
}
