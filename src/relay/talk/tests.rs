use proptest::prelude::*;

use super::*;

const UP: Direction = Direction::ClientToBackend;
const DOWN: Direction = Direction::BackendToClient;

fn record(kind: u8, length: u16) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend(length.to_be_bytes());
    record.resize(5 + usize::from(length), 0xaa);
    record
}

/// Application data of this length.
fn data(length: u16) -> Vec<u8> {
    record(23, length)
}

/// A conversation behind the hello and the first flight of the server, as in TLS 1.3 and as in TLS 1.2.
fn begun() -> [Talk; 2] {
    let mut new = Talk::default();
    new.pass(UP, &record(22, 517), 0);
    new.pass(DOWN, &[record(22, 122), record(20, 1)].concat(), 0);
    let mut old = new;
    new.pass(DOWN, &data(1500), 0);
    old.pass(DOWN, &record(22, 3000), 0);
    old.pass(
        UP,
        &[record(22, 100), record(20, 1), record(22, 40)].concat(),
        0,
    );
    old.pass(
        DOWN,
        &[record(22, 250), record(20, 1), record(22, 40)].concat(),
        0,
    );
    assert!(!new.is_answered() && !old.is_answered());
    [new, old]
}

/// The same with a request behind it. Each client sends the end of the handshake and the request together.
fn asked() -> [Talk; 2] {
    begun().map(|mut talk| {
        talk.pass(UP, &[record(20, 1), data(53), data(900)].concat(), 0);
        talk
    })
}

/// Whether a gap follows these parts of an answer, each with the seconds of silence before it.
fn answered(mut talk: Talk, parts: &[(u32, &[u8])]) -> bool {
    for (silence, part) in parts {
        talk.pass(DOWN, part, *silence);
    }
    talk.is_answered()
}

#[test]
fn an_answer_to_a_request_that_was_held_is_followed_by_a_gap() {
    for talk in asked() {
        assert!(answered(talk, &[(300, &data(700))]));
        assert!(answered(talk, &[(5, &data(200)), (0, &data(8900))]));
        // The last record of it is short, as the end of a chunked body is.
        assert!(answered(talk, &[(300, &data(700)), (0, &data(22))]));
    }
}

#[test]
fn session_tickets_do_not_answer_a_request() {
    for talk in asked() {
        let tickets = [data(250), data(250)].concat();
        assert!(!answered(talk, &[(0, &tickets)]));
        assert!(!answered(talk, &[(0, &data(250)), (1, &data(4000))]));
        // The beginning of a download looks the same.
        assert!(!answered(talk, &[(0, &tickets), (300, &data(700))]));
        let mut next = talk;
        next.pass(DOWN, &tickets, 0);
        next.pass(DOWN, &data(700), 300);
        next.pass(UP, &data(900), 1);
        assert!(answered(next, &[(300, &data(700))]));
        // The first request crosses the second ticket.
        let mut crossed = talk;
        crossed.pass(DOWN, &data(250), 0);
        crossed.pass(UP, &data(900), 0);
        assert!(!answered(crossed, &[(0, &data(250))]));
        assert!(!answered(crossed, &[(0, &data(250)), (300, &data(700))]));
    }
}

#[test]
fn two_requests_that_may_be_open_at_once_leave_no_gap() {
    for talk in asked() {
        // A check-in is held, and another stream of HTTP/2 gets its answer late.
        let mut both = talk;
        both.pass(UP, &data(500), 60);
        assert!(!answered(both, &[(10, &data(700))]));
        // The parts of one request come at once.
        let mut one = talk;
        one.pass(UP, &data(500), 1);
        assert!(answered(one, &[(10, &data(700))]));
    }
}

#[test]
fn every_byte_of_the_client_opens_a_request() {
    for mut talk in asked() {
        talk.pass(DOWN, &data(700), 300);
        assert!(talk.is_answered());
        let (mut one_byte, mut short) = (talk, talk);
        one_byte.pass(UP, &[23], 1);
        assert!(!one_byte.is_answered());
        // An answer to what came before that byte has crossed it.
        assert!(!answered(one_byte, &[(0, &data(100))]));
        short.pass(UP, &data(30), 1);
        assert!(!short.is_answered());
        talk.pass(UP, &data(900), 1);
        assert!(!talk.is_answered());
        assert!(answered(talk, &[(300, &data(700))]));
    }
}

#[test]
fn short_records_of_the_backend_answer_nothing() {
    for mut talk in asked() {
        // A Beats client that sends batches, and gets keep-alive ACKs meanwhile.
        for _ in 0..10 {
            talk.pass(DOWN, &data(28), 5);
            assert!(!talk.is_answered());
        }
        // HTTP/2 while a check-in is held: PING, its answer, then the answer to the check-in.
        talk.pass(UP, &data(34), 20);
        talk.pass(DOWN, &data(34), 0);
        assert!(!talk.is_answered());
        assert!(answered(talk, &[(10, &data(700))]));
    }
}

#[test]
fn a_download_has_no_gap_however_it_pauses() {
    for talk in asked() {
        let head = data(300);
        let part = data(16384);
        assert!(!answered(talk, &[(1, &head), (1, &part), (30, &part)]));
        assert!(!answered(talk, &[(0, &head), (7, &data(3000))]));
        assert!(
            !answered(talk, &[(300, &part)]),
            "larger than an answer to a check-in"
        );
        assert!(!answered(talk, &[(1, &data(9000)), (10, &data(9000))]));
        // A stream of small events: the first may look like an answer, each further one does not.
        assert!(!answered(talk, &[(10, &data(100)), (10, &data(100))]));
    }
}

#[test]
fn an_answer_in_the_middle_of_a_record_is_not_complete() {
    for talk in asked() {
        let whole = data(700);
        let (begin, rest) = whole.split_at(300);
        assert!(!answered(talk, &[(300, begin)]));
        assert!(answered(talk, &[(300, begin), (1, rest)]));
        assert!(!answered(talk, &[(300, &whole), (0, &whole[..5])]));
        assert!(!answered(talk, &[(300, &whole), (0, &whole[..1])]));
    }
}

#[test]
fn nothing_is_known_of_a_stream_that_passes_unseen_or_is_not_tls() {
    for direction in [UP, DOWN] {
        for mut talk in asked() {
            talk.lose(direction);
            assert!(!answered(talk, &[(300, &data(700))]));
        }
    }
    let mut other = Talk::default();
    other.pass(UP, b"GET / HTTP/1.1\r\n\r\n", 0);
    other.pass(DOWN, b"HTTP/1.1 200 OK\r\n\r\n", 300);
    assert!(!other.is_answered());
}

#[test]
fn early_data_is_no_mistake() {
    let mut talk = Talk::default();
    // The request comes with the hello, the flight of the server and its tickets behind it.
    talk.pass(UP, &[record(22, 600), data(900)].concat(), 0);
    talk.pass(DOWN, &[record(22, 122), data(200)].concat(), 0);
    talk.pass(UP, &[data(20), data(53)].concat(), 0);
    assert!(!answered(talk, &[(0, &data(250))]));
    // A hello retry request makes two flights of the handshake.
    let mut talk = Talk::default();
    talk.pass(UP, &record(22, 517), 0);
    talk.pass(DOWN, &record(22, 90), 0);
    talk.pass(UP, &[record(20, 1), record(22, 517)].concat(), 0);
    talk.pass(DOWN, &[record(22, 122), data(1500)].concat(), 0);
    assert!(!talk.is_answered());
    talk.pass(UP, &[data(53), data(900)].concat(), 0);
    assert!(!answered(talk, &[(0, &data(250))]));
    assert!(answered(talk, &[(300, &data(700))]));
}

proptest! {
    /// However the bytes of one moment are cut, they mean the same.
    #[test]
    fn a_gap_does_not_depend_on_how_the_answer_is_cut(
        lengths in prop::collection::vec(0..3000_u16, 1..5),
        missing in 0..80_usize,
        sizes in prop::collection::vec(1..2000_usize, 1..5),
    ) {
        let mut answer: Vec<u8> = lengths.into_iter().flat_map(data).collect();
        answer.truncate(answer.len() - missing.min(answer.len()));
        for talk in asked() {
            let whole = answered(talk, &[(300, &answer)]);
            let mut cut = talk;
            let (mut rest, mut silence) = (&answer[..], 300);
            for size in sizes.iter().cycle() {
                let (piece, behind) = rest.split_at(rest.len().min(*size));
                cut.pass(DOWN, piece, silence);
                (rest, silence) = (behind, 0);
                if rest.is_empty() {
                    break;
                }
            }
            // A cut inside of the first header hides the silence before it: then the connection is kept.
            prop_assert!(cut.is_answered() <= whole);
            if sizes.iter().all(|size| *size >= 5) && answer.get(3..5).is_some_and(|length| length > &[0, 60][..]) {
                prop_assert_eq!(cut.is_answered(), whole);
            }
        }
    }

    /// After any conversation, one more byte of the client ends a gap, and so does one more record.
    #[test]
    fn a_byte_of_the_client_always_ends_a_gap(
        steps in prop::collection::vec((any::<bool>(), 0..4000_u16, 0..20_u32), 0..30),
    ) {
        let [mut talk, _] = begun();
        for (up, length, silence) in steps {
            talk.pass(if up { UP } else { DOWN }, &data(length), silence);
            for more in [vec![23], data(0), data(30), data(100)] {
                let mut then = talk;
                then.pass(UP, &more, 0);
                prop_assert!(!then.is_answered());
            }
        }
    }
}
