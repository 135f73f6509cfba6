//! The user and password that a proxy of the site asks for.

use super::TunnelProtocol;
use crate::wire::Login;

/// The rule that a user and a password break, in words without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidLogin(pub &'static str);

/// Most bytes of a user or a password in SOCKS5, which have one byte for their length (RFC 1929 section 2).
const MOST_SOCKS: usize = 255;
/// The same for HTTP, so that a request stays far below what proxies take.
const MOST_HTTP: usize = 1024;

impl Login {
    /// A user and a password for a proxy of the site, if its protocol can carry them.
    pub fn for_proxy(
        protocol: TunnelProtocol,
        user: &str,
        password: &str,
    ) -> Result<Self, InvalidLogin> {
        let invalid = |rule| Err(InvalidLogin(rule));
        // The first colon ends the user in Basic (RFC 7617 section 2), and in the line of a file.
        if user.contains(':') {
            return invalid("the user contains a colon");
        }
        if user.is_empty() {
            return invalid("the user is empty");
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return invalid("the user or the password contains a control character");
        }
        let fits = |most| user.len() <= most && password.len() <= most;
        match protocol {
            TunnelProtocol::Http if !fits(MOST_HTTP) => {
                invalid("the user or the password has more than 1,024 bytes")
            }
            TunnelProtocol::Socks5 if !fits(MOST_SOCKS) => {
                invalid("the user or the password has more than 255 bytes, the most of SOCKS5")
            }
            TunnelProtocol::Socks5 if password.is_empty() => {
                invalid("the password is empty, which SOCKS5 does not allow")
            }
            TunnelProtocol::Http | TunnelProtocol::Socks5 => Ok(Self {
                user: user.as_bytes().into(),
                password: password.as_bytes().into(),
            }),
        }
    }
}
