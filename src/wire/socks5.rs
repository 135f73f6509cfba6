//! The greeting and the request of a SOCKS5 client (RFC 1928), and its user and password between them (RFC 1929).

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{InvalidTarget, Login, Target};

const VERSION: u8 = 5;
/// The methods of authentication that portway knows (section 3).
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
/// The version of the message with user and password (RFC 1929 section 2).
const LOGIN_VERSION: u8 = 1;
/// The command that opens a connection to the target (section 4).
const CONNECT: u8 = 1;

/// A method of authentication (section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// None: the client goes on with its request.
    None,
    /// User and password.
    Login,
}

impl Method {
    const fn number(self) -> u8 {
        match self {
            Self::None => NO_AUTHENTICATION,
            Self::Login => USER_AND_PASSWORD,
        }
    }

    /// The answer to a greeting that offers this method.
    pub const fn reply(self) -> SocksReply {
        match self {
            Self::None => SocksReply::Method,
            Self::Login => SocksReply::LoginMethod,
        }
    }
}

/// The first bytes of a client, as far as they are a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Socks<T> {
    /// A message whose end has not come yet.
    Partial,
    /// A whole message, which has so many bytes.
    Whole(T, usize),
    /// Anything else.
    Invalid(InvalidSocks),
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidSocks {
    /// It does not begin with the version 5.
    NotSocks5,
    /// The client does not offer the method that portway takes.
    NoMethod,
    /// It is not a message with user and password.
    NotALogin,
    /// The client wants something else than to connect.
    Command,
    /// It asks for no host and port.
    Target(InvalidTarget),
}

impl InvalidSocks {
    /// The answer to the client; none if it would not understand one.
    pub const fn reply(self) -> Option<SocksReply> {
        match self {
            Self::NotSocks5 => None,
            Self::NoMethod => Some(SocksReply::NoAcceptableMethod),
            Self::NotALogin => Some(SocksReply::LoginRefused),
            Self::Command => Some(SocksReply::CommandNotSupported),
            Self::Target(_) => Some(SocksReply::GeneralFailure),
        }
    }

    /// The words of the log.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::NotSocks5 => "not SOCKS5: the client's proxy URL must begin with socks5://",
            Self::NoMethod => {
                "the client insists on authentication: remove user and password from its proxy URL"
            }
            Self::NotALogin => {
                "the client's second message is not a user and a password (RFC 1929)"
            }
            Self::Command => "the client asks for another SOCKS command than CONNECT",
            Self::Target(InvalidTarget(rule)) => rule,
        }
    }
}

/// The answer to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksReply {
    /// To the greeting: the client may go on.
    Method,
    /// To the greeting: user and password come next.
    LoginMethod,
    /// To the greeting: it may not.
    NoAcceptableMethod,
    /// To user and password: the client may go on.
    LoginAccepted,
    /// To user and password: it may not.
    LoginRefused,
    /// To the request: the tunnel is open.
    Succeeded,
    /// To the request: it cannot be understood.
    GeneralFailure,
    /// To the request: no route takes the target, or portway does not admit the client.
    NotAllowed,
    /// To the request: it is not CONNECT.
    CommandNotSupported,
}

impl SocksReply {
    /// The whole message. The address that the tunnel is bound to is left unspecified, as many proxies do.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::Method => &[VERSION, NO_AUTHENTICATION],
            Self::LoginMethod => &[VERSION, USER_AND_PASSWORD],
            Self::NoAcceptableMethod => &[VERSION, 0xff],
            Self::LoginAccepted => &[LOGIN_VERSION, 0],
            Self::LoginRefused => &[LOGIN_VERSION, 1],
            Self::Succeeded => &[VERSION, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            Self::GeneralFailure => &[VERSION, 1, 0, 1, 0, 0, 0, 0, 0, 0],
            Self::NotAllowed => &[VERSION, 2, 0, 1, 0, 0, 0, 0, 0, 0],
            Self::CommandNotSupported => &[VERSION, 7, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }

    /// Its meaning, in words of the RFC.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Method => "no authentication required",
            Self::LoginMethod => "username and password required",
            Self::NoAcceptableMethod => "no acceptable methods",
            Self::LoginAccepted => "user and password accepted",
            Self::LoginRefused => "user and password refused",
            Self::Succeeded => "succeeded",
            Self::GeneralFailure => "general SOCKS server failure",
            Self::NotAllowed => "connection not allowed by ruleset",
            Self::CommandNotSupported => "command not supported",
        }
    }
}

/// Reads the greeting (section 3): the methods of authentication that the client offers, one of which must be `wanted`.
pub fn read_greeting(peeked: &[u8], wanted: Method) -> Socks<()> {
    match peeked {
        [] | [VERSION] => Socks::Partial,
        [VERSION, count, rest @ ..] => match rest.split_at_checked(usize::from(*count)) {
            None => Socks::Partial,
            Some((methods, _)) if methods.contains(&wanted.number()) => {
                Socks::Whole((), 2 + methods.len())
            }
            Some(_) => Socks::Invalid(InvalidSocks::NoMethod),
        },
        _ => Socks::Invalid(InvalidSocks::NotSocks5),
    }
}

/// Reads user and password (RFC 1929 section 2), which have at most 255 bytes each.
pub fn read_login(peeked: &[u8]) -> Socks<Login> {
    let rest = match peeked {
        [] | [LOGIN_VERSION] => return Socks::Partial,
        [LOGIN_VERSION, rest @ ..] => rest,
        _ => return Socks::Invalid(InvalidSocks::NotALogin),
    };
    let Some((user, rest)) = counted(rest) else {
        return Socks::Partial;
    };
    let Some((password, _)) = counted(rest) else {
        return Socks::Partial;
    };
    let login = Login {
        user: user.into(),
        password: password.into(),
    };
    Socks::Whole(login, 3 + user.len() + password.len())
}

/// The bytes behind their number, and the rest.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*count))
}

/// Reads the request (section 4): the target.
pub fn read_request(peeked: &[u8]) -> Socks<Target> {
    match peeked {
        [] | [VERSION] | [VERSION, CONNECT] | [VERSION, CONNECT, _] => Socks::Partial,
        [VERSION, CONNECT, _, kind, rest @ ..] => target(*kind, rest),
        [VERSION, ..] => Socks::Invalid(InvalidSocks::Command),
        _ => Socks::Invalid(InvalidSocks::NotSocks5),
    }
}

/// The address and port of a request, which has 4 bytes before them (section 5).
fn target(kind: u8, rest: &[u8]) -> Socks<Target> {
    let (target, size) = match (kind, rest) {
        (1, [a, b, c, d, port @ ..]) => {
            let address = Ipv4Addr::new(*a, *b, *c, *d);
            let Some(port) = port.first_chunk() else {
                return Socks::Partial;
            };
            (
                Target::of_address(address.into(), u16::from_be_bytes(*port)),
                10,
            )
        }
        (4, _) => {
            let Some((address, port)) = rest.split_first_chunk::<16>() else {
                return Socks::Partial;
            };
            let Some(port) = port.first_chunk() else {
                return Socks::Partial;
            };
            let address = Ipv6Addr::from(*address);
            (
                Target::of_address(address.into(), u16::from_be_bytes(*port)),
                22,
            )
        }
        (3, [length, rest @ ..]) => {
            let length = usize::from(*length);
            let Some((host, port)) = rest.split_at_checked(length) else {
                return Socks::Partial;
            };
            let Some(port) = port.first_chunk() else {
                return Socks::Partial;
            };
            (Target::of_name(host, u16::from_be_bytes(*port)), 7 + length)
        }
        (1 | 3, _) => return Socks::Partial,
        _ => (
            Err(InvalidTarget(
                "the type of address is none of IPv4, IPv6 and a name",
            )),
            0,
        ),
    };
    match target {
        Ok(target) => Socks::Whole(target, size),
        Err(invalid) => Socks::Invalid(InvalidSocks::Target(invalid)),
    }
}
