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
    /// A status line for a client that takes portway for a proxy, then FIN.
    Http405,
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
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let length = format!("Content-Length: {}\r\n", body.len());
                assert!(head.contains(&length), "{text}");
                assert!(body.contains("https://"), "{text}");
            }
            Self::Http405 => {
                // Go shows the words behind the status and nothing else.
                let words = text.strip_prefix("HTTP/1.1 405 ").unwrap();
                let words = words.lines().next().unwrap();
                assert!(words.contains("not an HTTP proxy"), "{text}");
                assert!(words.contains("remove proxy_url"), "{text}");
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let length = format!("Content-Length: {}\r\n", body.len());
                assert!(head.contains(&length), "{text}");
                // curl shows the body.
                assert!(body.contains(words), "{text}");
            }
        }
        assert_eq!(end, End::Fin, "after {bytes:?}");
    }
}

/// Each input is rejected alike, with named routes and with fallback routes. The `detail` of the log begins with
/// these words; after "" there may be none.
fn rejects(inputs: &[Vec<u8>], seen: Seen, outcome: &str, words: &str) {
    let lane = Lane::take();
    for input in inputs {
        // The answer may come before the last byte is out.
        let logged = lane
            .strict()
            .rejects(|client| drop(client.write_all(input)), seen, outcome);
        let detail = logged["detail"].as_str().unwrap_or_default();
        assert!(detail.starts_with(words), "{logged}");
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

/// One test a row: the name, the inputs, what the client sees, the outcome, and the words that `detail` begins with
/// if they are named.
macro_rules! rejected {
    ($($name:ident: $inputs:expr => $seen:expr, $outcome:literal $(, $words:literal)?;)*) => {$(
        #[test]
        fn $name() {
            $crate::it::bad_inputs::rejects(&$inputs, $seen, $outcome, concat!($($words)?));
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
