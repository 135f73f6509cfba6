//! `Step::read` on any bytes: no panic, no more bytes than there are, words that are bounded and in ASCII, and no prefix has
//! another answer than the whole. The first byte chooses the step.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portway::wire::{Answer, Login, MOST_ANSWER, Refused, Step, TunnelProtocol};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, bytes)) = bytes.split_first() else {
        return;
    };
    let credentials = Login::for_proxy(TunnelProtocol::Socks5, "agent", "secret").unwrap();
    let credentials = (first & 0x80 != 0).then_some(&credentials);
    let step = match first % 5 {
        0 => Step::Connect,
        1 => Step::Wait(MOST_ANSWER / 2),
        2 => Step::Greet,
        3 => Step::LogIn,
        _ => Step::Request,
    };
    let whole = step.read(bytes, credentials);
    match &whole {
        Answer::Partial => assert!(bytes.len() < MOST_ANSWER),
        Answer::Whole(_, size) => assert!((1..=bytes.len().min(MOST_ANSWER)).contains(size)),
        Answer::Refused(Refused(words)) => {
            let is_shown = |byte: u8| matches!(byte, b' '..=b'~' | b'\t');
            assert!(words.len() < 250 && words.bytes().all(is_shown), "{words}");
        }
    }
    for end in 0..bytes.len().min(600) {
        match (step.read(&bytes[..end], credentials), &whole) {
            (Answer::Partial, _) | (Answer::Refused(_), Answer::Refused(_)) => {}
            (early, whole) => assert_eq!(&early, whole, "after {end} bytes"),
        }
    }
});
