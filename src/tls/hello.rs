//! Reads from the client hello what routing and the log need.

use tls_parser::{
    SNIType, TlsExtension, TlsExtensionType, parse_tls_extension_sni_hostname,
    parse_tls_extension_unknown,
};

use super::record::Message;
use super::{AlertDescription, Protocol, Version, not_tls, record};

/// The result of reading the bytes that were peeked so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// A complete hello.
    Hello(ClientHello<'a>),
    /// Nothing can be decided before `total` bytes have arrived. `total` is always greater than the bytes
    /// given, and never over the limit: a hello that must become longer is rejected instead.
    NeedMore {
        /// The count to wait for, from byte 0.
        total: usize,
    },
    /// The hello must not be routed.
    Rejected(Rejection),
}

/// Why bytes are not a hello that may be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The bytes are not a TLS record but another protocol.
    NotTls(Protocol),
    /// SSLv2 or SSLv3.
    UnsupportedVersion,
    /// The lengths say that the hello is over the limit, or a record over 2^14.
    TooLarge(AlertDescription),
    /// The hello breaks the encoding; the text names the field.
    Malformed(AlertDescription, &'static str),
}

/// The facts of a hello that routing and the log use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello<'a> {
    /// The host name of the `server_name` extension as sent, unchecked: see
    /// [`ServerName::parse`](super::ServerName::parse).
    pub server_name: Option<&'a [u8]>,
    /// The protocols offered by ALPN.
    pub alpn: Alpn<'a>,
    /// The highest version offered, without GREASE.
    pub version: Version,
    /// Encrypted Client Hello is offered: the name is the outer one.
    pub ech: bool,
    /// Bytes from the first record header to the end of the hello.
    pub size: usize,
}

/// The protocol list of an ALPN extension (RFC 7301), as on the wire: a length byte before each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alpn<'a>(&'a [u8]);

impl<'a> Alpn<'a> {
    /// Wraps the list without its own length.
    pub const fn new(list: &'a [u8]) -> Self {
        Self(list)
    }

    /// The list as on the wire.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The first protocols of the list, as many as fit in 255 bytes. portway keeps only these, so that a client
    /// cannot choose the size. The lists of real clients are far shorter.
    pub fn head(self) -> &'a [u8] {
        const MOST: usize = 255;
        let sizes = self.iter().map(|protocol| 1 + protocol.len());
        let ends = sizes.scan(0, |end, size| {
            *end += size;
            Some(*end)
        });
        let end = ends.take_while(|end| *end <= MOST).last().unwrap_or(0);
        self.0.get(..end).unwrap_or_default()
    }

    /// The protocols in the order of the client's preference; ends at the first that is cut short.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let (protocol, tail) = tail.split_at_checked(usize::from(*length))?;
            rest = tail;
            Some(protocol)
        })
    }
}

/// Reads a hello from the bytes peeked so far. `max` bounds the hello with its record headers;
/// `scratch` (at least `max` bytes) takes the joined message if it comes in several records. Bytes after
/// the hello, in its last record or behind it, are not read.
pub fn read_hello<'a>(peeked: &'a [u8], max: usize, scratch: &'a mut [u8]) -> Progress<'a> {
    let message = not_tls::refuse_other_protocols(peeked)
        .and_then(|()| record::client_hello(peeked, max, scratch));
    match message.map(|Message { body, size }| parse(body, size)) {
        Ok(Ok(hello)) => Progress::Hello(hello),
        Ok(Err(rejection)) => Progress::Rejected(rejection),
        Err(undecided_or_rejected) => undecided_or_rejected,
    }
}

/// The body of a client hello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2).
fn parse(body: &[u8], size: usize) -> Result<ClientHello<'_>, Rejection> {
    let mut body = Reader(body);
    let version = Version(body.u16("client version")?);
    if version <= Version::SSL_3 {
        return Err(Rejection::UnsupportedVersion);
    }
    body.take_bytes(32, "random")?;
    if body.vector8("session id")?.len() > 32 {
        return Err(undecodable("session id"));
    }
    let ciphers = body.vector16("cipher suites")?;
    if ciphers.len() % 2 == 1 {
        return Err(undecodable("cipher suites"));
    }
    if ciphers.is_empty() {
        return Err(illegal("no cipher suite"));
    }
    if body.vector8("compression methods")?.is_empty() {
        return Err(undecodable("compression methods"));
    }
    let hello = ClientHello {
        server_name: None,
        alpn: Alpn::default(),
        version,
        ech: false,
        size,
    };
    // Before TLS 1.3 a hello may end here, even without the length of extensions.
    if body.0.is_empty() {
        return Ok(hello);
    }
    let extensions = body.vector16("extensions")?;
    body.end("bytes after the extensions")?;
    read_extensions(extensions, hello)
}

/// Reads the extensions that matter here, and skips each other one by its length, so that the content of an
/// unknown extension cannot hide the next one.
fn read_extensions<'a>(
    mut rest: &'a [u8],
    mut hello: ClientHello<'a>,
) -> Result<ClientHello<'a>, Rejection> {
    let mut alpn = None;
    while !rest.is_empty() {
        let Ok((tail, TlsExtension::Unknown(kind, body))) = parse_tls_extension_unknown(rest)
        else {
            return Err(undecodable("extension"));
        };
        rest = tail;
        match kind {
            TlsExtensionType::ServerName => {
                // With two names, portway could route by one while the backend answers for the other.
                if hello.server_name.is_some() {
                    return Err(illegal("second server_name extension"));
                }
                hello.server_name = Some(host_name(body)?);
            }
            TlsExtensionType::ApplicationLayerProtocolNegotiation => {
                let offered = protocols(body)?;
                hello.alpn = *alpn.get_or_insert(offered);
            }
            TlsExtensionType::SupportedVersions => {
                hello.version = highest_version(body)?.unwrap_or(hello.version);
            }
            ENCRYPTED_CLIENT_HELLO => hello.ech = true,
            _ => {}
        }
    }
    Ok(hello)
}

/// The one host name of a `server_name` extension. RFC 6066 section 3 allows one name of a type and
/// defines one type; like OpenSSL, this accepts exactly that.
fn host_name(body: &[u8]) -> Result<&[u8], Rejection> {
    const FIELD: &str = "server_name";
    let mut body = Reader(body);
    let list = body.vector16(FIELD)?;
    body.end(FIELD)?;
    match parse_tls_extension_sni_hostname(list) {
        Ok(([], (SNIType::HostName, name))) => Ok(name),
        _ => Err(undecodable(FIELD)),
    }
}

/// The protocols of an ALPN extension. Empty lists and names are left to the backend; a list that can be read
/// in two ways is refused.
fn protocols(body: &[u8]) -> Result<Alpn<'_>, Rejection> {
    const FIELD: &str = "application_layer_protocol_negotiation";
    if body.is_empty() {
        return Ok(Alpn::default());
    }
    let mut body = Reader(body);
    let list = body.vector16(FIELD)?;
    body.end(FIELD)?;
    let mut entries = Reader(list);
    while !entries.0.is_empty() {
        entries.vector8(FIELD)?;
    }
    Ok(Alpn(list))
}

/// The highest of the supported versions (RFC 8446 section 4.2.1), if any is not GREASE.
fn highest_version(body: &[u8]) -> Result<Option<Version>, Rejection> {
    const FIELD: &str = "supported_versions";
    let mut body = Reader(body);
    let mut list = Reader(body.vector8(FIELD)?);
    body.end(FIELD)?;
    let mut highest = None;
    while !list.0.is_empty() {
        let version = list.u16(FIELD)?;
        if !is_grease(version) {
            highest = highest.max(Some(Version(version)));
        }
    }
    Ok(highest)
}

/// Reserved values that keep servers tolerant (RFC 8701): 0x0a0a, 0x1a1a, …, 0xfafa.
const fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && high & 0x0f == 0x0a
}

/// A cursor; each method names the field that it reads, for the log.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take_bytes(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], Rejection> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(undecodable(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8, Rejection> {
        let (first, rest) = self.0.split_first().ok_or(undecodable(field))?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, Rejection> {
        Ok(u16::from_be_bytes([self.u8(field)?, self.u8(field)?]))
    }

    fn vector8(&mut self, field: &'static str) -> Result<&'a [u8], Rejection> {
        let length = self.u8(field)?;
        self.take_bytes(usize::from(length), field)
    }

    fn vector16(&mut self, field: &'static str) -> Result<&'a [u8], Rejection> {
        let length = self.u16(field)?;
        self.take_bytes(usize::from(length), field)
    }

    const fn end(&self, field: &'static str) -> Result<(), Rejection> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(undecodable(field))
        }
    }
}

const fn undecodable(field: &'static str) -> Rejection {
    Rejection::Malformed(AlertDescription::DecodeError, field)
}

const fn illegal(field: &'static str) -> Rejection {
    Rejection::Malformed(AlertDescription::IllegalParameter, field)
}

/// RFC 9849. The table of the parser does not have it.
const ENCRYPTED_CLIENT_HELLO: TlsExtensionType = TlsExtensionType(0xfe0d);

#[cfg(test)]
mod tests;
