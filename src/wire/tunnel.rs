//! The messages of portway to a proxy of the site (`backends.N.via`) that get it a tunnel to an endpoint, and the answers.
//!
//! [`Step::message`] gives the bytes to send, and [`Step::read`] judges the bytes that have arrived. Nobody else
//! knows the two protocols.

mod http;
mod login;
mod socks5;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;

use super::Login;
pub use login::InvalidLogin;

/// The most bytes of all answers before a tunnel is open, with their blank lines.
pub const MOST_ANSWER: usize = 16 << 10;

/// Most characters of a proxy's words that a person gets to see.
const MOST_SHOWN: usize = 120;

/// The protocol of a proxy of the site: the scheme of `backends.N.via`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TunnelProtocol {
    /// CONNECT of HTTP/1.1 (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS5 (RFC 1928).
    Socks5,
}

impl TunnelProtocol {
    /// The scheme of its URL.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
        }
    }
}

/// The other end of a tunnel. A name goes to the proxy as it is, and the proxy resolves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FarEnd<'e> {
    /// An address without a zone.
    Address(SocketAddr),
    /// A host name of at most 254 bytes, and a port.
    Name(&'e str, u16),
}

/// An IPv6 address is in brackets.
impl fmt::Display for FarEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// One message to a proxy, and the answer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The CONNECT request.
    Connect,
    /// Nothing is sent: informational answers of so many bytes have come, and the final one is due.
    Wait(usize),
    /// The greeting of SOCKS5.
    Greet,
    /// User and password (RFC 1929).
    LogIn,
    /// The request of SOCKS5.
    Request,
}

/// The bytes of a proxy, as far as they are an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Its end has not come yet.
    Partial,
    /// An answer of so many bytes, after which this step is due. `None`: the tunnel is open, and the next byte is
    /// that of the endpoint.
    Whole(Option<Step>, usize),
    /// The proxy does not open the tunnel.
    Refused(Refused),
}

/// Why a proxy does not open a tunnel, in words that begin with those of the proxy. They are bounded and in ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Box<str>);

impl Answer {
    fn refused(words: impl Into<Box<str>>) -> Self {
        Self::Refused(Refused(words.into()))
    }
}

impl Step {
    /// The first step.
    pub const fn first(protocol: TunnelProtocol) -> Self {
        match protocol {
            TunnelProtocol::Http => Self::Connect,
            TunnelProtocol::Socks5 => Self::Greet,
        }
    }

    /// The bytes to send.
    pub fn message(self, end: FarEnd<'_>, login: Option<&Login>) -> Vec<u8> {
        match self {
            Self::Connect => http::request(end, login),
            Self::Wait(_) => Vec::new(),
            Self::Greet => socks5::greeting(login).to_vec(),
            Self::LogIn => login.map(socks5::login).unwrap_or_default(),
            Self::Request => socks5::request(end),
        }
    }

    /// Judges the bytes that have arrived since the message was sent. Bytes behind the answer are not looked at.
    pub fn read(self, peeked: &[u8], login: Option<&Login>) -> Answer {
        match self {
            Self::Connect => http::read(peeked, 0, login.is_some()),
            Self::Wait(before) => http::read(peeked, before, login.is_some()),
            Self::Greet => socks5::read_method(peeked, login.is_some()),
            Self::LogIn => socks5::read_login(peeked),
            Self::Request => socks5::read_reply(peeked),
        }
    }
}

/// The first words of a proxy that is not what `via` says, for a person.
fn quoted(peeked: &[u8]) -> String {
    let line = peeked.split(|byte| matches!(byte, b'\r' | b'\n')).next();
    let line = line.unwrap_or_default();
    let mut shown = line.escape_ascii().to_string();
    shown.truncate(MOST_SHOWN);
    shown
}
