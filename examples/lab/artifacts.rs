//! A stand-in for artifacts.elastic.co: one large file, whose digest shows whether it arrived whole.

use std::fmt::Write;

use http_body_util::Full;
use hyper::StatusCode;
use hyper::body::Bytes;
use sha2::{Digest, Sha512};

use crate::server::{Answer, Call, json};

/// The path of the agent's package.
pub(crate) const PACKAGE: &str = "/downloads/beats/elastic-agent/elastic-agent-9.5.1.tar.gz";
/// A real package has several hundred MiB.
const SIZE: usize = 4 * 1024 * 1024;

/// The bytes of the package.
pub(crate) fn package() -> Bytes {
    let mut state = 1_u32;
    let mut bytes = Vec::with_capacity(SIZE);
    while bytes.len() < SIZE {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend(state.to_be_bytes());
    }
    bytes.into()
}

/// The digest by which an agent checks it.
pub(crate) fn digest(package: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha512::digest(package) {
        // Writing into a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Answers a request for the package or for its digest.
pub(crate) fn answer(call: &Call, package: &Bytes) -> Answer {
    if call.path == PACKAGE {
        return Answer::new(Full::new(package.clone()));
    }
    if call.path.strip_suffix(".sha512") == Some(PACKAGE) {
        return Answer::new(Full::from(digest(package)));
    }
    json(StatusCode::NOT_FOUND, &serde_json::json!({}))
}
