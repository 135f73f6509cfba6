//! The parsers of portway and nothing else: the fuzzer builds everything that it depends on with a sanitizer, which
//! took minutes for the whole of portway.

pub mod tls;
pub mod wire;
