//! The checked, normalised server name.

use std::fmt;

/// The longest name that DNS can carry, without the dot of the root (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// The longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A host name as DNS and certificates use it: lower case, A-labels, no trailing dot, 1 to 253
/// bytes, labels of 1 to 63 bytes with letters, digits, `-` and `_`; never the text of an address.
///
/// ```
/// use portway::tls::{InvalidServerName, ServerName};
///
/// assert_eq!(ServerName::parse(b"Fleet.Example.com").unwrap().as_str(), "fleet.example.com");
/// assert_eq!(ServerName::parse(b"10.0.0.7"), Err(InvalidServerName("text of an address")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Box<str>);

/// The bytes are not a host name; the text names the rule that they break, such as "trailing dot".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidServerName(pub &'static str);

impl ServerName {
    /// Checks and lower-cases the name of a hello or of a route.
    pub fn parse(name: &[u8]) -> Result<Self, InvalidServerName> {
        if name.is_empty() {
            return Err(InvalidServerName("empty"));
        }
        if name.len() > MAX_NAME {
            return Err(InvalidServerName("over 253 bytes"));
        }
        let text = str::from_utf8(name).map_err(|_not_utf8| NOT_ASCII)?;
        if !text.is_ascii() {
            return Err(NOT_ASCII);
        }
        if text.ends_with('.') {
            return Err(InvalidServerName("trailing dot"));
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        if ends_in_number(text) {
            return Err(InvalidServerName("text of an address"));
        }
        Ok(Self(text.to_ascii_lowercase().into_boxed_str()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str) -> Result<(), InvalidServerName> {
    let foreign = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    match label.bytes().find(foreign) {
        _ if label.is_empty() => Err(InvalidServerName("empty label")),
        Some(b'*') => Err(InvalidServerName("wildcard")),
        Some(b':' | b'[') => Err(InvalidServerName("port or text of an address")),
        Some(_) => Err(InvalidServerName(
            "byte other than a letter, a digit, - and _",
        )),
        None if label.len() > MAX_LABEL => Err(InvalidServerName("label over 63 bytes")),
        None => Ok(()),
    }
}

/// Whether a resolver, a browser or a library might read the name as an IPv4 address: 10.0.0.7,
/// 127.1, 2130706433, 0x7f.1. It is so for every name whose last label is a number (WHATWG URL,
/// "ends in a number checker"), and no top-level domain is one.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

const NOT_ASCII: InvalidServerName = InvalidServerName("not ASCII: its A-label (xn--) is needed");

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
