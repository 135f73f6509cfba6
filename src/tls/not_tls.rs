//! Recognises clients that do not speak TLS: HTTP, SSLv2, others. They are refused from as few bytes as
//! possible, because a client that waits for an answer sends no more. Their protocol is named from all bytes that arrived.

use std::fmt;

use super::{Progress, Rejection};

/// The methods of HTTP/1 (RFC 9110 section 9, RFC 5789), each with the space that ends it. The
/// preface of HTTP/2 is not among them: its sender could not read an answer of HTTP/1.
const HTTP_METHODS: [&str; 9] = [
    "GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ",
];

/// The protocol that a client speaks instead of TLS.
///
/// The first bytes decide whether it is HTTP/1, so more bytes never change that. Any other protocol is
/// unknown until enough bytes have arrived, and then keeps its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1 with this method.
    Http(&'static str),
    /// HTTP/1 to a proxy: CONNECT (RFC 9110 section 9.3.6), or this method with a whole URL.
    HttpToProxy(&'static str),
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.4), as gRPC speaks it.
    Http2,
    /// The PROXY protocol of balancers, in text.
    ProxyV1,
    /// The same in binary.
    ProxyV2,
    /// SOCKS4 and 4a.
    Socks4,
    /// RFC 1928.
    Socks5,
    /// RFC 4253 section 4.2.
    Ssh,
    /// Sent by Beats and agents to Logstash.
    Lumberjack,
    /// Spoken between nodes and remote clusters of Elasticsearch.
    Transport,
    /// RFC 5424 and RFC 3164: a priority in angle brackets.
    Syslog,
    /// Remote desktops of Windows.
    Rdp,
    /// Shares of Windows.
    Smb,
    /// None of these, or too few bytes to tell.
    Unknown(Beginning),
}

impl Protocol {
    /// Whether only the client of a proxy speaks so.
    pub const fn is_to_a_proxy(self) -> bool {
        matches!(self, Self::HttpToProxy(_) | Self::Socks4 | Self::Socks5)
    }

    /// Whether only a balancer speaks so.
    pub const fn is_of_a_balancer(self) -> bool {
        matches!(self, Self::ProxyV1 | Self::ProxyV2)
    }

    /// The protocol of bytes that do not begin a TLS record.
    fn of(peeked: &[u8]) -> Self {
        match peeked {
            [b'P', b'R', b'I', b' ', b'*', b' ', b'H', ..] => Self::Http2,
            [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => Self::ProxyV1,
            [b'\r', b'\n', b'\r', b'\n', 0, b'\r', b'\n', b'Q', ..] => Self::ProxyV2,
            // Version, command; version, number of methods. A 5 before a 0 is DCE/RPC.
            [4, 1 | 2, ..] => Self::Socks4,
            [5, 1..=16, ..] => Self::Socks5,
            [b'S', b'S', b'H', b'-', ..] => Self::Ssh,
            // Version, type and the size of the first window, which is below 2^24.
            [b'1' | b'2', b'W', 0, ..] => Self::Lumberjack,
            // The length of a message follows, which is below 2^24 at the beginning.
            [b'E', b'S', 0, ..] => Self::Transport,
            [b'<', b'0'..=b'9', b'>', ..]
            | [b'<', b'0'..=b'9', b'0'..=b'9', b'>', ..]
            | [b'<', b'1', b'0'..=b'9', b'0'..=b'9', b'>', ..] => Self::Syslog,
            // A request to connect (X.224) in a packet of TPKT (RFC 1006).
            [3, 0, _, _, _, 0xe0, ..] => Self::Rdp,
            [0, _, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..] => Self::Smb,
            _ => Self::Unknown(Beginning::of(peeked)),
        }
    }
}

/// Says what arrived and what to do about it, for the log and for `explain`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http(method) => {
                return write!(f, "HTTP {method}: the client's URL must begin with https://");
            }
            Self::HttpToProxy(method) => {
                return write!(
                    f,
                    "HTTP {method} to a proxy: portway is not an HTTP proxy here; remove proxy_url, HTTPS_PROXY \
                     or HTTP_PROXY from the client's settings, or give it a listener with \
                     protocol = \"http_connect\""
                );
            }
            Self::Http2 => "HTTP/2 without TLS: the client must use TLS",
            Self::ProxyV1 => {
                "PROXY protocol v1: turn it off at the balancer, or trust it in proxy_protocol.trusted"
            }
            Self::ProxyV2 => {
                "PROXY protocol v2: turn it off at the balancer, or trust it in proxy_protocol.trusted"
            }
            Self::Socks4 => {
                "SOCKS4: portway speaks SOCKS5 at most; remove proxy_url from the client's settings"
            }
            Self::Socks5 => {
                "SOCKS5: portway is not a SOCKS proxy here; remove proxy_url from the client's settings, or give \
                 it a listener with protocol = \"socks5\""
            }
            Self::Ssh => "SSH: most often a scanner, about which you need to do nothing",
            Self::Lumberjack => {
                "Lumberjack (Beats) without TLS: enable ssl in the client's Logstash output"
            }
            Self::Transport => {
                "the transport protocol of Elasticsearch without TLS: enable ssl for it at the client"
            }
            Self::Syslog => "syslog without TLS: the sender must use TLS",
            Self::Rdp => "RDP: most often a scanner, about which you need to do nothing",
            Self::Smb => "SMB: most often a scanner, about which you need to do nothing",
            Self::Unknown(beginning) => {
                return write!(f, "an unknown protocol that begins with \"{beginning}\"");
            }
        })
    }
}

/// The first bytes of a peer: enough for a person to see what it speaks, and too few for a secret behind
/// a command such as `PASS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    bytes: [u8; Self::MOST],
    count: u8,
}

impl Beginning {
    const MOST: usize = 8;

    /// The first of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut beginning = Self::default();
        beginning.extend(bytes);
        beginning
    }

    /// Adds the next bytes, as long as there is room.
    pub fn extend(&mut self, bytes: &[u8]) {
        let room = self.bytes.iter_mut().skip(self.count.into());
        for (to, from) in room.zip(bytes) {
            *to = *from;
            self.count += 1;
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.count.into()).unwrap_or_default()
    }
}

/// Escaped, so that bytes of a peer cannot control a terminal.
impl fmt::Display for Beginning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().escape_ascii().fmt(f)
    }
}

/// Returns an error unless the bytes begin like a TLS record of any type.
pub(super) fn refuse_other_protocols(peeked: &[u8]) -> Result<(), Progress<'static>> {
    match peeked {
        [] => Err(Progress::NeedMore { total: 1 }),
        // change_cipher_spec to heartbeat; major version 3 is SSLv3 and everything after it.
        [0x14..=0x18] => Err(Progress::NeedMore { total: 2 }),
        [0x14..=0x18, 3, ..] => Ok(()),
        [0x80..=0xff, ..] => Err(ssl2(peeked, 2)),
        [0, ..] => Err(ssl2(peeked, 3)),
        _ => Err(http_or_other(peeked)),
    }
}

/// The SSLv2 hello, also the one that old clients use to ask for SSLv3 and later (RFC 5246
/// appendix E.2): a header of 2 or 3 bytes, type 1, the version.
fn ssl2(peeked: &[u8], header: usize) -> Progress<'static> {
    match peeked.get(header..).unwrap_or_default() {
        [] | [1] | [1, 0] => Progress::NeedMore { total: header + 3 },
        [1, 0, 2, ..] | [1, 3, ..] => Progress::Rejected(Rejection::UnsupportedVersion),
        _ => Progress::Rejected(Rejection::NotTls(Protocol::of(peeked))),
    }
}

fn http_or_other(peeked: &[u8]) -> Progress<'static> {
    let mut methods = HTTP_METHODS.iter();
    if let Some(method) = methods.find(|method| peeked.starts_with(method.as_bytes())) {
        return http(method, peeked.get(method.len()));
    }
    let methods = HTTP_METHODS.iter();
    let begun = methods.filter(|method| method.as_bytes().starts_with(peeked));
    match begun.map(|method| method.len()).min() {
        Some(total) => Progress::NeedMore { total },
        None => Progress::Rejected(Rejection::NotTls(Protocol::of(peeked))),
    }
}

/// A request with this method and blank, of whose target the first byte is known. Only a whole URL begins with
/// a letter, and only a client of a proxy sends one (RFC 9112 section 3.2.2).
fn http(method: &'static str, target: Option<&u8>) -> Progress<'static> {
    let protocol = match (method.trim_end(), target) {
        ("CONNECT", _) => Protocol::HttpToProxy("CONNECT"),
        (_, None) => {
            let total = method.len() + 1;
            return Progress::NeedMore { total };
        }
        (method, Some(b'a'..=b'z' | b'A'..=b'Z')) => Protocol::HttpToProxy(method),
        (method, Some(_)) => Protocol::Http(method),
    };
    Progress::Rejected(Rejection::NotTls(protocol))
}
