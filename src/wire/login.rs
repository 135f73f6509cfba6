//! The user and password of a proxy's client: from a field of its request (RFC 7617), or from a message of SOCKS5
//! (RFC 1929).

use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Reply, SocksReply};

/// The most bytes of a user, a colon and a password in a request. Both parts of a SOCKS5 message are shorter.
const MOST_LOGIN: usize = 512;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user and a password, as a client sends them, or portway to a proxy. Nothing shows them: `Debug` leaves them out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Login {
    /// The user, in bytes.
    pub user: Box<[u8]>,
    /// The password, in bytes.
    pub password: Box<[u8]>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

/// The `Proxy-Authorization` fields of a request. `Debug` leaves their values out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Authorization<'p> {
    /// There is none.
    None,
    /// The value of the only one.
    One(&'p [u8]),
    /// There are several, so it is unclear which one counts.
    Several,
}

impl fmt::Debug for Authorization<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::One(_) => "One",
            Self::Several => "Several",
        })
    }
}

impl Authorization<'_> {
    /// The user and password of the field.
    pub fn login(self) -> Result<Login, Unauthorized> {
        let value = match self {
            Self::None => return Err(Unauthorized::Missing),
            Self::Several => return Err(Unauthorized::Malformed),
            Self::One(value) => value.trim_ascii(),
        };
        let end = value.iter().position(|byte| *byte == b' ');
        let (scheme, text) = value.split_at(end.unwrap_or(value.len()));
        if !scheme.eq_ignore_ascii_case(b"Basic") {
            return Err(Unauthorized::NotBasic);
        }
        let mut decoded = [0; MOST_LOGIN];
        let decoded = BASE64
            .decode_slice(text.trim_ascii_start(), &mut decoded)
            .ok()
            .and_then(|size| decoded.get(..size))
            .ok_or(Unauthorized::Malformed)?;
        let colon = decoded.iter().position(|byte| *byte == b':');
        match colon.and_then(|colon| decoded.split_at_checked(colon)) {
            Some((user, [_, password @ ..])) => Ok(Login {
                user: user.into(),
                password: password.into(),
            }),
            _ => Err(Unauthorized::Malformed),
        }
    }
}

/// Why a client's user and password do not let it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthorized {
    /// It sent none.
    Missing,
    /// It sent them by another scheme than Basic.
    NotBasic,
    /// They are not the base64 of a user, a colon and a password.
    Malformed,
    /// The user is unknown, or has another password.
    Wrong,
    /// Too many others wait for their check, or the time limit of the hello has passed.
    Unchecked,
}

impl Unauthorized {
    /// The answer to a CONNECT request.
    pub const fn reply(self) -> Reply {
        let (status, phrase) = match self {
            Self::Missing => (
                407,
                "portway asks for a user and a password: write them into the URL of the proxy, http://USER:PASSWORD@HOST:PORT",
            ),
            Self::NotBasic => (
                407,
                "portway takes a user and a password by Basic authentication only",
            ),
            Self::Malformed => (
                407,
                "the Proxy-Authorization of the request is not a user and a password in base64",
            ),
            Self::Wrong => (
                407,
                "portway does not know this user and password: compare them with the credentials_file of portway",
            ),
            Self::Unchecked => (
                503,
                "portway has too many passwords to check: try again in a minute",
            ),
        };
        Reply { status, phrase }
    }

    /// The answer to a message of SOCKS5. A client without user and password gets it to its greeting.
    pub const fn socks_reply(self) -> SocksReply {
        match self {
            Self::Missing => SocksReply::NoAcceptableMethod,
            Self::NotBasic | Self::Malformed | Self::Wrong | Self::Unchecked => {
                SocksReply::LoginRefused
            }
        }
    }

    /// The words of the log.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Missing => "the client sent no user and password",
            Self::NotBasic => "the client's Proxy-Authorization has another scheme than Basic",
            Self::Malformed => "the client's Proxy-Authorization is not a user and a password",
            Self::Wrong => "the user is unknown, or the password is wrong",
            Self::Unchecked => {
                "not checked: too many passwords wait for their check, or the check took longer than client_hello_timeout allows"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login(user: &[u8], password: &[u8]) -> Login {
        Login {
            user: user.into(),
            password: password.into(),
        }
    }

    #[test]
    fn basic_credentials_are_read_as_clients_write_them() {
        for (value, [user, password]) in [
            // RFC 7617 section 2 and 2.1.
            (
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
                ["Aladdin", "open sesame"],
            ),
            ("Basic dGVzdDoxMjPCow==", ["test", "123\u{a3}"]),
            (
                "bASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ",
                ["Aladdin", "open sesame"],
            ),
            (
                "Basic   QWxhZGRpbjpvcGVuIHNlc2FtZQ==  ",
                ["Aladdin", "open sesame"],
            ),
            ("Basic Og==", ["", ""]),
            ("Basic YTpiOmM=", ["a", "b:c"]),
        ] {
            let read = Authorization::One(value.as_bytes()).login();
            assert!(
                read == Ok(login(user.as_bytes(), password.as_bytes())),
                "{value}"
            );
        }
    }

    #[test]
    fn other_values_are_refused_with_their_reason() {
        let long = format!("Basic {}", "QTpB".repeat(200));
        for (value, wanted) in [
            (Authorization::None, Unauthorized::Missing),
            (Authorization::Several, Unauthorized::Malformed),
            (Authorization::One(b""), Unauthorized::NotBasic),
            (Authorization::One(b"Bearer QTpB"), Unauthorized::NotBasic),
            (Authorization::One(b"Negotiate"), Unauthorized::NotBasic),
            (Authorization::One(b"BasicQTpB"), Unauthorized::NotBasic),
            (Authorization::One(b"Basic"), Unauthorized::Malformed),
            (Authorization::One(b"Basic QQ=="), Unauthorized::Malformed),
            (
                Authorization::One(b"Basic QTpB QTpB"),
                Unauthorized::Malformed,
            ),
            (Authorization::One(b"Basic a:b"), Unauthorized::Malformed),
            (Authorization::One(b"Basic \xff"), Unauthorized::Malformed),
            (Authorization::One(long.as_bytes()), Unauthorized::Malformed),
        ] {
            assert_eq!(value.login(), Err(wanted), "{value:?}");
        }
    }

    #[test]
    fn invariant_14_debug_leaves_user_and_password_out() {
        let value = b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        let authorization = Authorization::One(value);
        let shown = format!("{authorization:?} {:?}", authorization.login());
        assert_eq!(shown, "One Ok(Login)");
    }

    #[test]
    fn every_phrase_is_one_line_of_ascii() {
        for reason in [
            Unauthorized::Missing,
            Unauthorized::NotBasic,
            Unauthorized::Malformed,
            Unauthorized::Wrong,
            Unauthorized::Unchecked,
        ] {
            let Reply { phrase, .. } = reason.reply();
            assert!(
                phrase.bytes().all(|byte| matches!(byte, b' '..=b'~')),
                "{phrase}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_user_and_password_of_a_request_is_read_back(
            user in prop::collection::vec(any::<u8>().prop_filter("", |byte| *byte != b':'), 0..200),
            password in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let both = [&user[..], b":", &password].concat();
            let mut text = [0; 800];
            let size = BASE64.encode_slice(&both, &mut text).unwrap();
            let value = [b"Basic ", &text[..size]].concat();
            prop_assert!(Authorization::One(&value).login() == Ok(login(&user, &password)));
        }

        #[test]
        fn no_value_makes_the_parser_panic_or_is_longer_than_it_may_be(
            value in prop::collection::vec(any::<u8>(), 0..900),
            begins_well in any::<bool>(),
        ) {
            let start: &[u8] = if begins_well { b"Basic " } else { b"" };
            let value = [start, &value].concat();
            if let Ok(login) = Authorization::One(&value).login() {
                prop_assert!(login.user.len() + login.password.len() < MOST_LOGIN);
            }
        }
    }
}
