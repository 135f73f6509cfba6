//! SOCKS5 to a proxy (RFC 1928), with user and password if there are any (RFC 1929).

use std::net::{IpAddr, SocketAddr};

use super::{Answer, FarEnd, Login, Step, quoted};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
/// The version of the messages of RFC 1929.
const LOGIN_VERSION: u8 = 1;

/// A proxy that would take the user but does not ask for one may choose to go without.
pub(super) const fn greeting(login: Option<&Login>) -> &'static [u8] {
    match login {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
    }
}

pub(super) fn read_method(peeked: &[u8], has_login: bool) -> Answer {
    match peeked {
        [] | [VERSION] => Answer::Partial,
        [VERSION, NO_AUTHENTICATION, ..] => Answer::Whole(Some(Step::Request), 2),
        [VERSION, USER_AND_PASSWORD, ..] if has_login => Answer::Whole(Some(Step::LogIn), 2),
        [VERSION, 0xff, ..] if has_login => Answer::refused(
            "SOCKS5: no acceptable methods (it takes neither no authentication nor user and password)",
        ),
        [VERSION, 0xff, ..] => Answer::refused(
            "SOCKS5: no acceptable methods (the proxy asks for a user and a password)",
        ),
        [VERSION, method, ..] => Answer::refused(format!(
            "SOCKS5: it chose the method {method}, which nobody offered"
        )),
        _ => not_socks5(peeked),
    }
}

pub(super) fn login(login: &Login) -> Vec<u8> {
    let mut message = vec![LOGIN_VERSION];
    for part in [&login.user, &login.password] {
        push_counted(&mut message, part);
    }
    message
}

pub(super) fn read_login(peeked: &[u8]) -> Answer {
    match peeked {
        [] | [_] => Answer::Partial,
        // Some proxies answer with the version of SOCKS.
        [LOGIN_VERSION | VERSION, 0, ..] => Answer::Whole(Some(Step::Request), 2),
        [LOGIN_VERSION | VERSION, status, ..] => Answer::refused(format!(
            "SOCKS5: user and password refused (status {status})"
        )),
        _ => not_socks5(peeked),
    }
}

pub(super) fn request(end: FarEnd<'_>) -> Vec<u8> {
    const CONNECT: u8 = 1;
    let mut message = vec![VERSION, CONNECT, 0];
    let port = match end {
        FarEnd::Address(address) => {
            push_address(&mut message, address);
            address.port()
        }
        FarEnd::Name(host, port) => {
            message.push(3);
            push_counted(&mut message, host.as_bytes());
            port
        }
    };
    message.extend(port.to_be_bytes());
    message
}

fn push_address(message: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            message.push(1);
            message.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            message.push(4);
            message.extend(ip.octets());
        }
    }
}

/// Adds a text behind its length. No text is longer: names and credentials are checked before.
fn push_counted(message: &mut Vec<u8>, text: &[u8]) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    message.push(length);
    message.extend(text.iter().take(usize::from(length)));
}

pub(super) fn read_reply(peeked: &[u8]) -> Answer {
    match peeked {
        [] | [VERSION] => Answer::Partial,
        [VERSION, 0, rest @ ..] => {
            // The address that the proxy is bound to; nobody needs it.
            let size = match rest {
                [] | [_] | [_, 3] => return Answer::Partial,
                [_, 1, ..] => 4 + 4 + 2,
                [_, 4, ..] => 4 + 16 + 2,
                [_, 3, length, ..] => 4 + 1 + usize::from(*length) + 2,
                [_, _, ..] => {
                    return Answer::refused("SOCKS5: its reply has an address of no known type");
                }
            };
            if peeked.len() < size {
                Answer::Partial
            } else {
                Answer::Whole(None, size)
            }
        }
        // A refusal may be cut short, so its address is not awaited.
        [VERSION, reply, ..] => {
            Answer::refused(format!("SOCKS5 reply {reply}: {}", meaning(*reply)))
        }
        _ => not_socks5(peeked),
    }
}

fn not_socks5(peeked: &[u8]) -> Answer {
    // Four bytes show whether it is HTTP; a proxy that sends fewer and waits is late.
    match peeked {
        b"H" | b"HT" | b"HTT" => Answer::Partial,
        [b'H', b'T', b'T', b'P', ..] => {
            Answer::refused("it answers in HTTP: write the via with http://")
        }
        _ => Answer::refused(format!("its answer is not SOCKS5: {}", quoted(peeked))),
    }
}

/// The words of RFC 1928 section 6.
const fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "a number without a meaning",
    }
}
