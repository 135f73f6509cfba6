//! The greeting and the request of a SOCKS5 client (RFC 1928).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{InvalidTarget, Target};

const VERSION: u8 = 5;
/// The method without authentication (section 3).
const NO_AUTHENTICATION: u8 = 0;
/// The command that opens a connection to the target (section 4).
const CONNECT: u8 = 1;

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
    /// The client insists on authentication.
    NoMethod,
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
    /// To the greeting: it may not.
    NoAcceptableMethod,
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
            Self::NoAcceptableMethod => &[VERSION, 0xff],
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
            Self::NoAcceptableMethod => "no acceptable methods",
            Self::Succeeded => "succeeded",
            Self::GeneralFailure => "general SOCKS server failure",
            Self::NotAllowed => "connection not allowed by ruleset",
            Self::CommandNotSupported => "command not supported",
        }
    }
}

/// Reads the greeting (section 3): the methods of authentication that the client offers.
pub fn read_greeting(peeked: &[u8]) -> Socks<()> {
    match peeked {
        [] | [VERSION] => Socks::Partial,
        [VERSION, count, rest @ ..] => match rest.split_at_checked(usize::from(*count)) {
            None => Socks::Partial,
            Some((methods, _)) if methods.contains(&NO_AUTHENTICATION) => {
                Socks::Whole((), 2 + methods.len())
            }
            Some(_) => Socks::Invalid(InvalidSocks::NoMethod),
        },
        _ => Socks::Invalid(InvalidSocks::NotSocks5),
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(kind: u8, address: &[u8], port: u16) -> Vec<u8> {
        [&[5, 1, 0, kind], address, &port.to_be_bytes()].concat()
    }

    fn named(name: &str, port: u16) -> Vec<u8> {
        let length = u8::try_from(name.len()).unwrap();
        request(3, &[&[length], name.as_bytes()].concat(), port)
    }

    fn shown(bytes: &[u8]) -> Result<String, InvalidSocks> {
        match read_request(bytes) {
            Socks::Whole(target, size) => {
                assert_eq!(size, bytes.len());
                Ok(target.to_string())
            }
            Socks::Invalid(invalid) => Err(invalid),
            Socks::Partial => panic!("{bytes:?} is partial"),
        }
    }

    #[test]
    fn a_greeting_is_answered_if_it_offers_to_go_without_authentication() {
        assert_eq!(read_greeting(&[5, 1, 0]), Socks::Whole((), 3));
        assert_eq!(read_greeting(&[5, 3, 2, 0, 1, 9]), Socks::Whole((), 5));
        for none in [&[5, 0][..], &[5, 1, 2], &[5, 2, 1, 2]] {
            assert_eq!(read_greeting(none), Socks::Invalid(InvalidSocks::NoMethod));
        }
        for other in [&b"\x04\x01"[..], b"CONNECT", b"\x16\x03"] {
            assert_eq!(
                read_greeting(other),
                Socks::Invalid(InvalidSocks::NotSocks5)
            );
        }
    }

    #[test]
    fn a_request_names_a_target_in_each_of_three_ways() {
        assert_eq!(
            shown(&request(1, &[10, 0, 0, 7], 9200)).unwrap(),
            "10.0.0.7:9200"
        );
        let v6: Ipv6Addr = "fd00::7".parse().unwrap();
        assert_eq!(
            shown(&request(4, &v6.octets(), 443)).unwrap(),
            "[fd00::7]:443"
        );
        let mapped: Ipv6Addr = "::ffff:10.0.0.7".parse().unwrap();
        assert_eq!(
            shown(&request(4, &mapped.octets(), 1)).unwrap(),
            "10.0.0.7:1"
        );
        for name in ["ES.example.com", "es.example.com."] {
            assert_eq!(shown(&named(name, 9200)).unwrap(), "es.example.com:9200");
        }
        assert_eq!(shown(&named("10.0.0.7", 9200)).unwrap(), "10.0.0.7:9200");
    }

    #[test]
    fn what_asks_for_no_target_is_refused_with_its_reason() {
        for bytes in [
            named("es.example.com", 0),
            named("", 443),
            named("es example.com", 443),
            named("2130706433", 443),
            named(&format!("{}a", "a.".repeat(127)), 443),
            request(1, &[10, 0, 0, 7], 0),
            request(2, &[], 443),
        ] {
            let invalid = shown(&bytes).unwrap_err();
            assert!(
                matches!(invalid, InvalidSocks::Target(_)),
                "{bytes:?}: {invalid:?}"
            );
        }
        // BIND and UDP ASSOCIATE.
        for command in [0, 2, 3] {
            assert_eq!(shown(&[5, command]), Err(InvalidSocks::Command));
        }
        assert_eq!(shown(&[4, 1]), Err(InvalidSocks::NotSocks5));
    }

    proptest! {
        #[test]
        fn every_prefix_of_a_request_is_partial_and_bytes_behind_it_change_nothing(
            name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,9}",
            port in 1..u16::MAX,
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let v6 = request(4, &[0xfd; 16], port);
            for bytes in [named(&name, port), request(1, &[10, 0, 0, 7], port), v6] {
                for end in 0..bytes.len() {
                    prop_assert_eq!(read_request(&bytes[..end]), Socks::Partial);
                }
                let whole = read_request(&bytes);
                prop_assert!(matches!(whole, Socks::Whole(..)));
                prop_assert_eq!(read_request(&[bytes, behind.clone()].concat()), whole);
            }
        }

        #[test]
        fn no_bytes_make_the_parser_panic_or_take_more_than_there_are(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            begins_well in any::<bool>(),
        ) {
            let start: &[u8] = if begins_well { &[5, 1, 0] } else { &[] };
            let all = [start, &bytes].concat();
            if let Socks::Whole(_, size) = read_request(&all) {
                prop_assert!(size <= all.len());
            }
            if let Socks::Whole((), size) = read_greeting(&all) {
                prop_assert!(size <= all.len());
            }
        }
    }
}
