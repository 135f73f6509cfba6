//! Joins the records of a handshake message. A client may cut its hello into records at any
//! place (RFC 8446 section 5.1), even inside the server name.

use tls_parser::{TlsHandshakeType, TlsRecordType, parse_tls_record_header};

use super::{AlertDescription, Progress, Rejection};

/// Type, version and length of a record.
const RECORD_HEADER: usize = 5;
/// The most that a record in plain text may carry (RFC 8446 section 5.1).
const MAX_RECORD: usize = 1 << 14;
/// Type and length of a handshake message.
const HANDSHAKE_HEADER: usize = 4;

/// A complete client hello without its handshake header.
pub(super) struct Message<'a> {
    pub(super) body: &'a [u8],
    /// Bytes from the first record header to the end of the message.
    pub(super) size: usize,
}

/// Finds the client hello at the start of the stream. It is borrowed from `peeked` if one record
/// holds it. Otherwise it is joined in `scratch`, once it is complete.
pub(super) fn client_hello<'a>(
    peeked: &'a [u8],
    max: usize,
    scratch: &'a mut [u8],
) -> Result<Message<'a>, Progress<'static>> {
    let mut fragments = Fragments::new(peeked, max);
    let mut header = [0; HANDSHAKE_HEADER];
    fragments.copy_to(&mut header)?;
    let length = body_length(header)?;
    let mut missing = length;
    while missing > 0 {
        missing -= fragments.next(missing)?.len();
    }

    let size = fragments.position;
    let message = if size == RECORD_HEADER + HANDSHAKE_HEADER + length {
        peeked
            .get(RECORD_HEADER..size)
            .ok_or(Progress::NeedMore { total: size })?
    } else {
        let joined = scratch
            .get_mut(..HANDSHAKE_HEADER + length)
            .ok_or(TOO_LARGE)?;
        Fragments::new(peeked, max).copy_to(joined)?;
        joined
    };
    Ok(Message {
        body: message.get(HANDSHAKE_HEADER..).unwrap_or_default(),
        size,
    })
}

fn body_length([kind, high, middle, low]: [u8; 4]) -> Result<usize, Progress<'static>> {
    if kind != u8::from(TlsHandshakeType::ClientHello) {
        return Err(malformed(
            AlertDescription::UnexpectedMessage,
            "handshake type",
        ));
    }
    match (usize::from(high) << 16) | (usize::from(middle) << 8) | usize::from(low) {
        0 => Err(malformed(AlertDescription::DecodeError, "handshake length")),
        length => Ok(length),
    }
}

/// The stream of handshake bytes in the records at the start of `peeked`.
struct Fragments<'a> {
    peeked: &'a [u8],
    max: usize,
    position: usize,
    /// Bytes of the current record behind `position`.
    left: usize,
}

impl<'a> Fragments<'a> {
    const fn new(peeked: &'a [u8], max: usize) -> Self {
        Self {
            peeked,
            max,
            position: 0,
            left: 0,
        }
    }

    /// The next bytes that one record has, at least one and at most `wanted`.
    fn next(&mut self, wanted: usize) -> Result<&'a [u8], Progress<'static>> {
        let headers = wanted.saturating_sub(self.left).div_ceil(MAX_RECORD) * RECORD_HEADER;
        if self.position + wanted + headers > self.max {
            return Err(TOO_LARGE);
        }
        if self.left == 0 {
            self.left = record_length(self.peeked, self.position)?;
            self.position += RECORD_HEADER;
        }
        let count = wanted.min(self.left);
        let end = self.position + count;
        let bytes = self
            .peeked
            .get(self.position..end)
            .ok_or(Progress::NeedMore { total: end })?;
        self.position = end;
        self.left -= count;
        Ok(bytes)
    }

    fn copy_to(&mut self, out: &mut [u8]) -> Result<(), Progress<'static>> {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = out.get_mut(filled..) {
            let bytes = self.next(rest.len())?;
            rest.iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            filled += bytes.len();
        }
        Ok(())
    }
}

/// The payload of the record at `position`, 1 to 2^14 bytes.
fn record_length(peeked: &[u8], position: usize) -> Result<usize, Progress<'static>> {
    let bytes = peeked.get(position..).unwrap_or_default();
    if bytes
        .first()
        .is_some_and(|kind| *kind != u8::from(TlsRecordType::Handshake))
    {
        return Err(malformed(
            AlertDescription::UnexpectedMessage,
            "record type",
        ));
    }
    let Ok((_, header)) = parse_tls_record_header(bytes) else {
        return Err(Progress::NeedMore {
            total: position + RECORD_HEADER,
        });
    };
    // Ignore the minor version (RFC 8446 section 5.1): 3.0 to 3.4 are in use.
    if header.version.0 >> 8 != 3 {
        return Err(malformed(AlertDescription::DecodeError, "record version"));
    }
    match usize::from(header.len) {
        0 => Err(malformed(
            AlertDescription::UnexpectedMessage,
            "empty record",
        )),
        length if length > MAX_RECORD => Err(Progress::Rejected(Rejection::TooLarge(
            AlertDescription::RecordOverflow,
        ))),
        length => Ok(length),
    }
}

const TOO_LARGE: Progress<'static> =
    Progress::Rejected(Rejection::TooLarge(AlertDescription::IllegalParameter));

const fn malformed(alert: AlertDescription, field: &'static str) -> Progress<'static> {
    Progress::Rejected(Rejection::Malformed(alert, field))
}
