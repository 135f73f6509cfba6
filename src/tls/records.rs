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

    const fn of(kind: Kind, length: u16) -> Self {
        match kind {
            Kind::Data if length > Self::SHORT => Self::Long,
            Kind::Data => Self::Short,
            Kind::ChangeCipherSpec | Kind::Alert | Kind::Handshake => Self::Other,
        }
    }
}

/// The type of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// change_cipher_spec.
    ChangeCipherSpec,
    /// An alert. TLS 1.3 hides it in application data once it has keys.
    Alert,
    /// A part of a handshake.
    Handshake,
    /// Application data, or in TLS 1.3 anything encrypted.
    Data,
}

/// The beginning of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its type.
    pub kind: Kind,
    /// The length of its payload.
    pub length: u16,
    /// As much of the payload as has arrived together with the last byte of the header.
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// The lengths of an alert that TLS 1.3 hides in application data: level, description, inner type, tag of 16. The JDK pads
    /// each record with 16 bytes. Two bytes of data look the same, or 18 without padding.
    const ALERTS: [u16; 2] = [19, 35];

    /// The content, as far as the header says.
    pub const fn content(&self) -> Content {
        Content::of(self.kind, self.length)
    }

    /// Whether it has the form of an alert that TLS 1.3 hides in application data.
    pub fn is_hidden_alert(&self) -> bool {
        self.kind == Kind::Data && Self::ALERTS.contains(&self.length)
    }

    /// The number of an alert in clear.
    pub fn alert(&self) -> Option<u8> {
        match (self.kind, self.length, self.payload) {
            (Kind::Alert, 2, [_level, alert]) => Some(*alert),
            _ => None,
        }
    }
}

/// An event in a TLS stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The header of a record is complete.
    Begins(Record<'a>),
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
    pub fn pass<'a>(&mut self, mut bytes: &'a [u8], mut tell: impl FnMut(Event<'a>)) {
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
                    match header(have, kind, high, byte) {
                        Header::Partial(place) => place,
                        Header::Whole(kind, length) => {
                            let payload = bytes.get(..length.into()).unwrap_or(bytes);
                            let record = Record {
                                kind,
                                length,
                                payload,
                            };
                            tell(Event::Begins(record));
                            Place::Payload {
                                content: record.content(),
                                left: length,
                            }
                        }
                    }
                }
            };
            self.0 = next;
        }
    }

    /// Some bytes pass unseen: from now on nothing is known.
    pub const fn lose(&mut self) {
        self.0 = Place::Lost;
    }

    /// Whether the stream is not TLS, or some of its bytes were not seen.
    pub const fn is_lost(self) -> bool {
        matches!(self.0, Place::Lost)
    }

    /// Whether the stream is at the end of a record, or at its start.
    pub const fn is_between(self) -> bool {
        matches!(self.0, Place::Header { have: 0, .. })
    }
}

/// A header with one more byte.
enum Header {
    Partial(Place),
    Whole(Kind, u16),
}

fn header(have: u8, kind: u8, high: u8, byte: u8) -> Header {
    let (kind, high) = match have {
        0 => (byte, high),
        // The major version of every TLS; SSLv2 and other protocols have another byte here.
        1 if byte != 3 => return Header::Partial(Place::Lost),
        3 => (kind, byte),
        _ => (kind, high),
    };
    if have + 1 < HEADER {
        let have = have + 1;
        return Header::Partial(Place::Header { have, kind, high });
    }
    let length = u16::from_be_bytes([high, byte]);
    let kind = match kind {
        20 => Kind::ChangeCipherSpec,
        21 => Kind::Alert,
        22 => Kind::Handshake,
        23 => Kind::Data,
        _ => return Header::Partial(Place::Lost),
    };
    if length > MAX_RECORD {
        return Header::Partial(Place::Lost);
    }
    Header::Whole(kind, length)
}

#[cfg(test)]
mod tests;
