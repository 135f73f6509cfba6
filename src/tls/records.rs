//! Follows the records of a TLS stream by their headers, as its bytes pass.

/// Type, version and length (RFC 8446 section 5.1).
const HEADER: u8 = 5;
/// The most that an encrypted record may carry: 2^14 bytes and the expansion that TLS 1.2 permits (RFC 5246 section 6.2.3).
const MAX_RECORD: u16 = (1 << 14) + 2048;

/// The place in a TLS stream, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Records(Place);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind `have` bytes of a header. The length's high byte counts once it is there.
    Header { have: u8, kind: u8, high: u8 },
    /// In the payload of a record.
    Payload { content: Content, left: u16 },
    /// The stream is not TLS, or some of its bytes were not seen.
    Lost,
}

/// The content of a record, as far as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Application data, or in TLS 1.3 anything encrypted, of more than 60 bytes.
    Long,
    /// The same of at most 60 bytes: an alert, or in HTTP/2 an answer to a PING, which says nothing about a request.
    Short,
    /// An alert or a part of a handshake, by its type.
    Other,
}

impl Content {
    /// The most bytes of a record that says nothing about a request. An HTTP/2 server sends WINDOW_UPDATE and answers
    /// PING in records of 30 to 53 bytes.
    const SHORT: u16 = 60;
}

/// An event in a TLS stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The header of a record is complete.
    Begins(Content),
    /// The record is complete.
    Ends(Content),
}

impl Default for Records {
    fn default() -> Self {
        Self(Place::Header {
            have: 0,
            kind: 0,
            high: 0,
        })
    }
}

impl Records {
    /// Follows the next bytes of the stream, and tells each event.
    pub fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Event)) {
        loop {
            let next = match self.0 {
                Place::Lost => return,
                Place::Payload { content, left } => {
                    let skipped = bytes.len().min(left.into());
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    // At most `left`, which is a u16.
                    let left = left - u16::try_from(skipped).unwrap_or(left);
                    if left > 0 {
                        self.0 = Place::Payload { content, left };
                        return;
                    }
                    tell(Event::Ends(content));
                    Self::default().0
                }
                Place::Header { have, kind, high } => {
                    let Some((&byte, rest)) = bytes.split_first() else {
                        return;
                    };
                    bytes = rest;
                    header(have, kind, high, byte)
                }
            };
            if let Place::Payload { content, .. } = next {
                tell(Event::Begins(content));
            }
            self.0 = next;
        }
    }

    /// Some bytes pass unseen: from now on nothing is known.
    pub const fn lose(&mut self) {
        self.0 = Place::Lost;
    }

    /// Whether the stream is at the end of a record, or at its start.
    pub const fn is_between(self) -> bool {
        matches!(self.0, Place::Header { have: 0, .. })
    }
}

/// The place behind one more byte of a header.
fn header(have: u8, kind: u8, high: u8, byte: u8) -> Place {
    let (kind, high) = match have {
        0 => (byte, high),
        // The major version of every TLS; SSLv2 and other protocols have another byte here.
        1 if byte != 3 => return Place::Lost,
        3 => (kind, byte),
        _ => (kind, high),
    };
    if have + 1 < HEADER {
        let have = have + 1;
        return Place::Header { have, kind, high };
    }
    let left = u16::from_be_bytes([high, byte]);
    let content = match kind {
        23 if left > Content::SHORT => Content::Long,
        23 => Content::Short,
        20..=22 => Content::Other,
        _ => return Place::Lost,
    };
    if left > MAX_RECORD {
        return Place::Lost;
    }
    Place::Payload { content, left }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, length: u16) -> Vec<u8> {
        let mut record = vec![kind, 3, 3];
        record.extend(length.to_be_bytes());
        record.resize(5 + usize::from(length), 0xaa);
        record
    }

    /// The events of a stream that passes in pieces of these sizes, in turn, and the place behind it.
    fn passed(stream: &[u8], sizes: &[usize]) -> (Vec<Event>, Records) {
        let (mut records, mut events) = (Records::default(), Vec::new());
        let mut rest = stream;
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*size));
            records.pass(piece, |event| events.push(event));
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
        let contents = [
            Content::Other,
            Content::Other,
            Content::Short,
            Content::Long,
            Content::Other,
        ];
        let expected = contents.map(|content| [Event::Begins(content), Event::Ends(content)]);
        assert_eq!(events, expected.concat());
        assert!(records.is_between());
    }

    #[test]
    fn an_empty_record_begins_and_ends() {
        let (events, records) = passed(&record(23, 0), &[5]);
        assert_eq!(
            events,
            [Event::Begins(Content::Short), Event::Ends(Content::Short)]
        );
        assert!(records.is_between());
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
}
