use proptest::prelude::*;

use super::*;

fn record(kind: u8, length: u16) -> Vec<u8> {
    let mut record = vec![kind, 3, 3];
    record.extend(length.to_be_bytes());
    record.resize(5 + usize::from(length), 0xaa);
    record
}

/// An event without the part of the payload that has arrived, which depends on the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Begins(Kind, u16),
    Ends(Content),
}

impl From<Event<'_>> for Told {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Begins(record) => Self::Begins(record.kind, record.length),
            Event::Ends(content) => Self::Ends(content),
        }
    }
}

/// The events of a stream that passes in pieces of these sizes, in turn, and the place behind it.
fn passed(stream: &[u8], sizes: &[usize]) -> (Vec<Told>, Records) {
    let (mut records, mut events) = (Records::default(), Vec::new());
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        let (piece, behind) = rest.split_at(rest.len().min(*size));
        records.pass(piece, |event| events.push(Told::from(event)));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    (events, records)
}

#[test]
fn records_are_told_by_type_and_length() {
    let stream = [
        record(22, 517),
        record(20, 1),
        record(23, 60),
        record(23, 61),
        record(21, 2),
    ]
    .concat();
    let (events, records) = passed(&stream, &[1 << 20]);
    let expected = [
        (Kind::Handshake, 517, Content::Other),
        (Kind::ChangeCipherSpec, 1, Content::Other),
        (Kind::Data, 60, Content::Short),
        (Kind::Data, 61, Content::Long),
        (Kind::Alert, 2, Content::Other),
    ];
    let expected =
        expected.map(|(kind, length, content)| [Told::Begins(kind, length), Told::Ends(content)]);
    assert_eq!(events, expected.concat());
    assert!(records.is_between());
}

#[test]
fn an_empty_record_begins_and_ends() {
    let (events, records) = passed(&record(23, 0), &[5]);
    assert_eq!(
        events,
        [Told::Begins(Kind::Data, 0), Told::Ends(Content::Short)]
    );
    assert!(records.is_between());
}

#[test]
fn an_alert_in_clear_has_its_number_and_a_hidden_one_only_its_length() {
    let alerts = |stream: &[u8]| {
        let mut alerts = Vec::new();
        Records::default().pass(stream, |event| {
            if let Event::Begins(record) = event {
                alerts.push((record.alert(), record.is_hidden_alert()));
            }
        });
        alerts
    };
    let clear = [21, 3, 3, 0, 2, 2, 48];
    assert_eq!(alerts(&clear), [(Some(48), false)]);
    assert_eq!(
        alerts(&[&clear[..], &clear].concat()),
        [(Some(48), false); 2]
    );
    assert_eq!(
        alerts(&clear[..6]),
        [(None, false)],
        "its number is missing"
    );
    assert_eq!(alerts(&record(21, 26)), [(None, false)], "encrypted");
    assert_eq!(alerts(&record(23, 19)), [(None, true)]);
    assert_eq!(alerts(&record(23, 20)), [(None, false)]);
    assert_eq!(alerts(&record(22, 19)), [(None, false)]);
}

#[test]
fn a_stream_that_is_not_tls_is_lost_for_good() {
    for stream in [
        &b"SSH-2.0-OpenSSH"[..],
        b"GET / HTTP/1.1\r\n",
        &[0x80, 0x2e, 1, 3, 1],
        &[23, 2, 0, 0, 1],
        &[24, 3, 3, 0, 1, 0],
        &[23, 3, 3, 0x48, 1],
    ] {
        let (events, mut records) = passed(stream, &[3]);
        assert_eq!(events, []);
        assert!(records.is_lost());
        records.pass(&record(23, 100), |event| panic!("{event:?}"));
        assert!(!records.is_between());
    }
}

#[test]
fn bytes_that_pass_unseen_are_the_end_of_what_is_known() {
    let mut records = Records::default();
    records.lose();
    records.pass(&record(23, 100), |event| panic!("{event:?}"));
    assert!(!records.is_between());
}

proptest! {
    #[test]
    fn the_events_do_not_depend_on_how_the_stream_is_cut(
        stream in prop::collection::vec((20..=23_u8, 0..200_u16), 0..8),
        cut in 0..300_usize,
        sizes in prop::collection::vec(1..40_usize, 1..6),
    ) {
        let mut stream: Vec<u8> = stream.into_iter().flat_map(|(kind, length)| record(kind, length)).collect();
        stream.truncate(stream.len().saturating_sub(cut));
        let whole = passed(&stream, &[stream.len().max(1)]);
        prop_assert_eq!(&passed(&stream, &sizes), &whole);
        prop_assert_eq!(&passed(&stream, &[1]), &whole);
    }

    #[test]
    fn any_bytes_are_followed_without_a_panic(
        stream in prop::collection::vec(any::<u8>(), 0..2000),
        sizes in prop::collection::vec(1..40_usize, 1..6),
    ) {
        let whole = passed(&stream, &[stream.len().max(1)]);
        prop_assert_eq!(passed(&stream, &sizes), whole);
    }
}
