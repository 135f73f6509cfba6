//! Rows b01 to b73 of `tests/ROWS.md`, as far as bytes alone decide. Every answer is held against the
//! laws of [`answer`], so each row is also a test of cuts, waiting and trailing bytes.

use super::*;

#[path = "../../../tests/support/corpus.rs"]
mod corpus;
mod cuts;
mod first_bytes;
#[path = "../../../tests/support/hello.rs"]
mod hello;
mod malformed;
mod records;
mod routed;

const MAX: usize = 64 * 1024;
const NAME: &str = "fleet.example.com";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Hello(Facts),
    NeedMore(usize),
    Rejected(Rejection),
}

/// A [`ClientHello`] that owns what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Facts {
    name: Option<String>,
    alpn: Vec<String>,
    version: u16,
    ech: bool,
    size: usize,
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn read(bytes: &[u8]) -> Answer {
    match read_hello(bytes, MAX, &mut vec![0; MAX]) {
        Progress::NeedMore { total } => {
            assert!(
                total > bytes.len(),
                "waits for {total} with {} there",
                bytes.len()
            );
            assert!(total <= MAX, "waits for {total}, over the limit");
            Answer::NeedMore(total)
        }
        Progress::Rejected(rejection) => Answer::Rejected(rejection),
        Progress::Hello(hello) => Answer::Hello(Facts {
            name: hello.server_name.map(text),
            alpn: hello.alpn.iter().map(text).collect(),
            version: hello.version.0,
            ech: hello.ech,
            size: hello.size,
        }),
    }
}

/// Whether an answer to a beginning is the one to the whole: it is the same, or a protocol that was unknown has
/// got its name, which changes nothing for the client.
fn agree(early: &Answer, whole: &Answer) -> bool {
    let other = |answer: &Answer| match answer {
        Answer::Rejected(Rejection::NotTls(protocol)) => Some(*protocol),
        Answer::Hello(_) | Answer::NeedMore(_) | Answer::Rejected(_) => None,
    };
    match (other(early), other(whole)) {
        (Some(Protocol::Unknown(_)), Some(named)) => {
            !matches!(named, Protocol::Http(_) | Protocol::HttpToProxy(_))
        }
        _ => early == whole,
    }
}

/// The answer to these bytes, and that it keeps the laws: whoever waits for as many bytes as asked
/// comes to the same answer; no prefix has another one; and no byte behind it changes it.
fn answer(bytes: &[u8]) -> Answer {
    let answer = read(bytes);
    let mut there = 0;
    while let Answer::NeedMore(total) = read(&bytes[..there]) {
        if total > bytes.len() {
            there = bytes.len();
            break;
        }
        there = total;
    }
    let waited = read(&bytes[..there]);
    assert!(
        agree(&waited, &answer),
        "waiting leads to {waited:?}, not {answer:?}"
    );
    if bytes.len() <= 2048 {
        for end in 0..bytes.len() {
            let early = read(&bytes[..end]);
            assert!(
                matches!(early, Answer::NeedMore(_)) || agree(&early, &answer),
                "{early:?} after {end} bytes, then {answer:?}"
            );
        }
    }
    if !matches!(answer, Answer::NeedMore(_)) {
        let later = read(&[bytes, &[0xff; 8]].concat());
        assert!(
            agree(&answer, &later),
            "what follows changes {answer:?} to {later:?}"
        );
    }
    answer
}

/// The facts of bytes that must be a whole hello.
fn facts(bytes: &[u8]) -> Facts {
    let answer = answer(bytes);
    let Answer::Hello(facts) = answer else {
        panic!("no hello but {answer:?}")
    };
    facts
}

/// The name in bytes that must be a whole hello with one.
fn name(bytes: &[u8]) -> String {
    facts(bytes).name.expect("a server name")
}

/// Why bytes are rejected, as they must be.
fn rejection(bytes: &[u8]) -> Rejection {
    let answer = answer(bytes);
    let Answer::Rejected(rejection) = answer else {
        panic!("not rejected but {answer:?}")
    };
    rejection
}

/// The alert and the field of bytes that must be malformed.
fn malformed(bytes: &[u8]) -> (u8, &'static str) {
    let rejection = rejection(bytes);
    let Rejection::Malformed(alert, field) = rejection else {
        panic!("not malformed but {rejection:?}")
    };
    (alert as u8, field)
}

/// How many bytes suffice to come to an answer.
fn decided_after(bytes: &[u8]) -> usize {
    let undecided = |end: &usize| matches!(read(&bytes[..*end]), Answer::NeedMore(_));
    (0..=bytes.len()).take_while(undecided).count()
}
