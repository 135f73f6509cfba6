//! Bad inputs in place of a good hello, and good hellos that look odd: rows b01 to b97 of
//! `tests/ROWS.md`, over the wire.
//!
//! For each rejection: the client sees exactly this and then FIN, the outcome moves by one, the
//! log has one line, the backend is not dialled (invariant 7), and nothing stays active. Inputs that
//! are rejected for their form also go to a portway with fallback routes (invariant 2).

mod lane;
mod malformed;
mod many;
mod names;
mod not_tls;
mod odd;
mod slow;

use std::io::Write;

use lane::Lane;

use super::peers::End;

/// The answer to a rejected client.
#[derive(Clone, Copy, Debug)]
enum Seen {
    /// A fatal alert of this description, then FIN.
    Alert(u8),
    /// FIN alone.
    Fin,
    /// A page for a client that speaks HTTP without TLS, then FIN.
    Http400,
}

impl Seen {
    fn check(self, bytes: &[u8], end: End) {
        let text = String::from_utf8_lossy(bytes);
        match self {
            Self::Alert(description) => {
                assert_eq!(bytes, [0x15, 3, 3, 0, 2, 2, description], "{text}");
            }
            Self::Fin => assert_eq!(bytes, [0; 0], "{text}"),
            Self::Http400 => {
                assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
                assert!(text.contains("https"), "{text}");
            }
        }
        assert_eq!(end, End::Fin, "after {bytes:?}");
    }
}

/// Checks that each input is rejected in the same way, with named routes and with fallback routes.
fn rejects(inputs: &[Vec<u8>], seen: Seen, outcome: &str) {
    let lane = Lane::take();
    for input in inputs {
        // The answer may come before the last byte is out.
        lane.strict()
            .rejects(|client| drop(client.write_all(input)), seen, outcome);
        if outcome != "no_route" && outcome != "no_server_name" {
            lane.open()
                .rejects(|client| drop(client.write_all(input)), seen, outcome);
        }
    }
}

/// Checks that each input reaches the backend whole.
fn routes(inputs: &[Vec<u8>]) {
    let lane = Lane::take();
    for input in inputs {
        lane.strict().routes(&[input], std::time::Duration::ZERO);
    }
}

/// One test per row: the name, the inputs, what the client sees, and the outcome.
macro_rules! rejected {
    ($($name:ident: $inputs:expr => $seen:expr, $outcome:literal;)*) => {$(
        #[test]
        fn $name() {
            $crate::it::bad_inputs::rejects(&$inputs, $seen, $outcome);
        }
    )*};
}

/// One test per row: the name and the inputs, each of which is routed.
macro_rules! routed {
    ($($name:ident: $inputs:expr;)*) => {$(
        #[test]
        fn $name() {
            $crate::it::bad_inputs::routes(&$inputs);
        }
    )*};
}
use {rejected, routed};

/// 253 bytes, three labels of 63 and one of 61.
const LONG_NAME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
