//! Reads from the first bytes of a server what a person needs to know: its hello with the certificates of TLS 1.2, its
//! alert, or the protocol that it speaks instead of TLS.

use std::fmt;

use tls_parser::{TlsRecordType, parse_tls_record_header};

use super::Version;

/// The most bytes of an answer that are read. A flight of TLS 1.2 has 2 to 6 KiB.
pub const MOST_ANSWER: usize = 64 << 10;
/// The most that a record in plain text may carry (RFC 8446 section 5.1).
const MAX_RECORD: usize = 1 << 14;
/// The most bytes that are kept of a line in another protocol.
const MAX_LINE: usize = 80;

/// The first thing that a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It chose a version. Up to TLS 1.2 this includes everything up to its ServerHelloDone.
    Hello(ServerHello),
    /// It refused with this alert.
    Alert(u8),
    /// It speaks another protocol.
    NotTls(Foreign),
    /// It breaks the rules of TLS; the text names the field.
    Malformed(&'static str),
    /// It ended or fell silent in the middle of an answer, after so many bytes.
    Cut(usize),
}

/// The facts of a ServerHello, and of the messages in clear behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version that the server chose.
    pub version: Version,
    /// Whether it asks for another hello, with a key of another group (RFC 8446 section 4.1.4).
    pub is_retry: bool,
    /// The protocol that it chose by ALPN; encrypted in TLS 1.3.
    pub alpn: Option<Box<[u8]>>,
    /// The certificates, the server's own first; encrypted in TLS 1.3.
    pub chain: Vec<Box<[u8]>>,
    /// Whether it asks for a certificate of the client; encrypted in TLS 1.3.
    pub asks_for_certificate: Option<bool>,
    /// The last alert of level "warning" before the hello, such as 112: it does not know the name, and goes on.
    pub warning: Option<u8>,
}

/// The first line of a server that does not speak TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    line: Box<[u8]>,
}

impl Foreign {
    /// The protocol, if its beginning is known.
    pub fn protocol(&self) -> Option<&'static str> {
        server_protocol(&self.line)
    }
}

/// The protocol of a server that does not speak TLS, if its first bytes are known.
pub fn server_protocol(bytes: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 10] = [
        (b"HTTP/", "plain HTTP"),
        (b"SSH-", "SSH"),
        (b"220", "SMTP or FTP"),
        (b"* OK", "IMAP"),
        (b"+OK", "POP3"),
        (b"-ERR", "Redis"),
        (
            b"ES\0",
            "the transport protocol of Elasticsearch without TLS",
        ),
        (b"1A", "Lumberjack (Beats) without TLS"),
        (b"2A", "Lumberjack (Beats) without TLS"),
        (b"RFB ", "VNC"),
    ];
    let mut known = BEGINNINGS.iter();
    let known = known.find(|(beginning, _)| bytes.starts_with(beginning));
    known.map(|(_, protocol)| *protocol)
}

/// Whether a stream that begins with this byte may be one of TLS: the types of its records (RFC 8446 section 5.1, RFC 6520).
pub const fn may_be_tls(first: u8) -> bool {
    matches!(first, 0x14..=0x18)
}

/// The line, escaped, so that bytes of a server cannot control a terminal.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.escape_ascii().fmt(f)
    }
}

/// Reads the bytes received so far. `None` means that more bytes decide; `has_ended` says that no more will come.
/// Once there is an answer, further bytes never change it. Bytes behind the first [`MOST_ANSWER`] are not read.
pub fn read_answer(received: &[u8], has_ended: bool) -> Option<Answer> {
    let received = received.get(..MOST_ANSWER).unwrap_or(received);
    let answer = match received {
        [] | [0x14..=0x18] => None,
        [0x14..=0x18, 3, ..] => read_records(received),
        _ => read_line(received, has_ended),
    };
    match answer {
        None if has_ended => Some(Answer::Cut(received.len())),
        None if received.len() == MOST_ANSWER => Some(Answer::Malformed("answer over 64 KiB")),
        answer => answer,
    }
}

fn read_line(received: &[u8], has_ended: bool) -> Option<Answer> {
    let most = received.get(..MAX_LINE).unwrap_or(received);
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let end = most.iter().position(is_end);
    let is_whole = end.is_some() || most.len() == MAX_LINE || has_ended;
    let line = most.get(..end.unwrap_or(most.len())).unwrap_or_default();
    is_whole.then(|| Answer::NotTls(Foreign { line: line.into() }))
}

/// Joins the messages in the records, up to the first thing that is not one.
fn read_records(received: &[u8]) -> Option<Answer> {
    let mut messages = Vec::new();
    let (mut warning, mut rest) = (None, received);
    let stop = loop {
        let (kind, payload, tail) = match next_record(rest) {
            Ok(Some(record)) => record,
            Ok(None) => break None,
            Err(field) => break Some(Answer::Malformed(field)),
        };
        rest = tail;
        match (kind, payload) {
            (TlsRecordType::Handshake, payload) => messages.extend_from_slice(payload),
            // Level 1 is a warning; close_notify (0) is an end at any level.
            (TlsRecordType::Alert, [1, alert]) if *alert > 0 => {
                // One behind the hello must not change an answer that was given.
                if messages.is_empty() {
                    warning = Some(*alert);
                }
            }
            (TlsRecordType::Alert, [_, alert]) => break Some(Answer::Alert(*alert)),
            (TlsRecordType::Alert, _) => break Some(Answer::Malformed("alert")),
            _ => break Some(Answer::Malformed("record type")),
        }
    };
    match read_flight(&mut Reader(&messages), warning) {
        Ok(hello) => Some(Answer::Hello(hello)),
        Err(Unread::Partial) => stop,
        Err(Unread::Malformed(field)) => Some(Answer::Malformed(field)),
    }
}

/// Type and payload of a record, and the bytes behind it.
type Record<'a> = (TlsRecordType, &'a [u8], &'a [u8]);

/// The first record, if it is whole.
fn next_record(bytes: &[u8]) -> Result<Option<Record<'_>>, &'static str> {
    let Ok((rest, header)) = parse_tls_record_header(bytes) else {
        return Ok(None);
    };
    if header.version.0 >> 8 != 3 {
        return Err("record version");
    }
    let length = usize::from(header.len);
    if length > MAX_RECORD && header.record_type != TlsRecordType::ApplicationData {
        return Err("record length");
    }
    let record = rest.split_at_checked(length);
    Ok(record.map(|(payload, tail)| (header.record_type, payload, tail)))
}

/// Why a message or a field cannot be read.
enum Unread {
    Partial,
    Malformed(&'static str),
}

const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_STATUS: u8 = 22;

/// The ServerHello; up to TLS 1.2 with the messages behind it (RFC 5246 section 7.3).
fn read_flight(messages: &mut Reader<'_>, warning: Option<u8>) -> Result<ServerHello, Unread> {
    let (SERVER_HELLO, body) = messages.message().ok_or(Unread::Partial)? else {
        return Err(Unread::Malformed("handshake type"));
    };
    let choice = Choice::read(&mut Reader(body)).ok_or(Unread::Malformed("ServerHello"))?;
    let mut hello = ServerHello {
        version: choice.version,
        is_retry: choice.is_retry,
        alpn: choice.alpn.map(Into::into),
        chain: Vec::new(),
        asks_for_certificate: None,
        warning,
    };
    if hello.version >= Version::TLS_1_3 {
        return Ok(hello);
    }
    let mut asks = false;
    loop {
        match messages.message().ok_or(Unread::Partial)? {
            (CERTIFICATE, body) => {
                let chain = read_chain(&mut Reader(body));
                hello.chain = chain.ok_or(Unread::Malformed("Certificate"))?;
            }
            (CERTIFICATE_REQUEST, _) => asks = true,
            (SERVER_KEY_EXCHANGE | CERTIFICATE_STATUS, _) => {}
            (SERVER_HELLO_DONE, _) => {
                hello.asks_for_certificate = Some(asks);
                return Ok(hello);
            }
            _ => return Err(Unread::Malformed("handshake type")),
        }
    }
}

/// The random of a ServerHello that asks for another hello (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// The version that a server chose, from the payload of the record that begins with its ServerHello. `None` if that is another
/// message, or ends before it shows the version. One with a key share of ML-KEM has 1,215 bytes, and comes in two segments
/// over IPv6 with its smallest MTU; Go and OpenSSL write the version in front of the share.
pub fn server_version(payload: &[u8]) -> Option<Version> {
    let mut message = Reader(payload);
    let (kind, length) = (message.number(1)?, message.number(3)?);
    if kind != usize::from(SERVER_HELLO) {
        return None;
    }
    let is_whole = message.0.len() >= length;
    let mut body = Reader(message.0.get(..length).unwrap_or(message.0));
    let version = Version(body.u16()?);
    body.take_bytes(32)?;
    body.vector8()?;
    // The cipher suite and the compression method.
    body.take_bytes(3)?;
    if !body.0.is_empty() {
        body.u16()?;
    }
    while !body.0.is_empty() {
        let (kind, mut content) = (body.u16()?, Reader(body.vector16()?));
        if kind == SUPPORTED_VERSIONS {
            return Some(Version(content.u16()?));
        }
    }
    is_whole.then_some(version)
}

/// The choices of a server in its ServerHello.
struct Choice<'a> {
    version: Version,
    is_retry: bool,
    alpn: Option<&'a [u8]>,
}

impl<'a> Choice<'a> {
    /// RFC 8446 section 4.1.3, RFC 5246 section 7.4.1.3.
    fn read(body: &mut Reader<'a>) -> Option<Self> {
        let version = Version(body.u16()?);
        let random = body.take_bytes(32)?;
        body.vector8()?;
        // The cipher suite and the compression method.
        body.take_bytes(3)?;
        let mut choice = Self {
            version,
            is_retry: random == RETRY,
            alpn: None,
        };
        if body.0.is_empty() {
            return Some(choice);
        }
        let mut extensions = Reader(body.vector16()?);
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let mut content = Reader(extensions.vector16()?);
            match kind {
                SUPPORTED_VERSIONS => choice.version = Version(content.u16()?),
                ALPN => choice.alpn = Some(Reader(content.vector16()?).vector8()?),
                _ => {}
            }
        }
        Some(choice)
    }
}

/// RFC 5246 section 7.4.2.
fn read_chain(body: &mut Reader<'_>) -> Option<Vec<Box<[u8]>>> {
    let mut list = Reader(body.vector24()?);
    let mut chain = Vec::new();
    while !list.0.is_empty() {
        chain.push(list.vector24()?.into());
    }
    Some(chain)
}

/// A cursor; `None` means that the field is not whole.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take_bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number in the order of the network.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        let bytes = self.take_bytes(bytes)?;
        Some((bytes.iter()).fold(0, |number, byte| (number << 8) | usize::from(*byte)))
    }

    fn u16(&mut self) -> Option<u16> {
        self.take_bytes(2)?
            .first_chunk()
            .copied()
            .map(u16::from_be_bytes)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.number(1)?;
        self.take_bytes(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number(2)?;
        self.take_bytes(length)
    }

    fn vector24(&mut self) -> Option<&'a [u8]> {
        let length = self.number(3)?;
        self.take_bytes(length)
    }

    /// Type and body of a handshake message.
    fn message(&mut self) -> Option<(u8, &'a [u8])> {
        let kind = *self.take_bytes(1)?.first()?;
        Some((kind, self.vector24()?))
    }
}

#[cfg(test)]
mod tests;
