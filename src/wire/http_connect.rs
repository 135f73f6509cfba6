//! The CONNECT request of a client (RFC 9110 section 9.3.6).

use std::mem::MaybeUninit;

use httparse::{Error, Header, Request, Status};

use super::{Authorization, InvalidTarget, Reply, Target};

/// The most bytes of a request, with its blank line.
pub const MOST_HEAD: usize = 16 << 10;

/// The most header fields of a request; real clients send less than ten.
const MOST_FIELDS: usize = 64;

/// The first bytes of a client, as far as they are a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head<'p> {
    /// A request whose end has not come yet.
    Partial,
    /// A CONNECT request, which has so many bytes, with its blank line.
    Connect(Connect<'p>, usize),
    /// Anything else.
    Invalid(InvalidRequest),
}

/// The parts of a request that count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'p> {
    /// Where the client wants to go.
    pub target: Target,
    /// Its user and password.
    pub authorization: Authorization<'p>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRequest {
    /// The client speaks TLS with the proxy.
    Tls,
    /// A request of plain HTTP, in any form.
    NotConnect,
    /// It is larger than [`MOST_HEAD`], or has too many fields.
    TooLarge,
    /// It is not HTTP/1.
    Malformed,
    /// It announces a body, behind which another request could hide.
    Body,
    /// It asks for no host and port.
    Target(InvalidTarget),
}

impl InvalidRequest {
    /// The answer to the client.
    pub const fn reply(self) -> Reply {
        let (status, phrase) = match self {
            Self::Tls => (
                400,
                "portway speaks plain HTTP here: write the URL of the proxy with http://",
            ),
            Self::NotConnect => (
                405,
                "portway relays only TLS: write the URL of the server with https://",
            ),
            Self::TooLarge => (
                431,
                "the request is larger than 16 KiB or has over 64 fields",
            ),
            Self::Malformed => (400, "portway expects a CONNECT request of HTTP/1.1 here"),
            Self::Body => (400, "a CONNECT request has no body"),
            Self::Target(_) => (400, "a CONNECT request names a host and a port"),
        };
        Reply { status, phrase }
    }

    /// The words of the log.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Target(InvalidTarget(rule)) => rule,
            Self::Tls => "TLS: the client's proxy URL must begin with http://",
            Self::NotConnect => "plain HTTP: the client's URL must begin with https://",
            Self::TooLarge | Self::Malformed | Self::Body => self.reply().phrase,
        }
    }
}

/// Reads the request at the beginning of `peeked`. Bytes behind it are not looked at.
pub fn read_connect(peeked: &[u8]) -> Head<'_> {
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut request = Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(peeked, &mut fields);
    match parsed {
        Ok(Status::Complete(size)) if size <= MOST_HEAD => match judge(&request) {
            Ok(connect) => Head::Connect(connect, size),
            Err(invalid) => Head::Invalid(invalid),
        },
        Ok(Status::Partial) if peeked.len() < MOST_HEAD => Head::Partial,
        Ok(_) | Err(Error::TooManyHeaders) => Head::Invalid(InvalidRequest::TooLarge),
        // Every record of TLS begins so; no method does.
        Err(_) if matches!(peeked, [0x14..=0x18, ..]) => Head::Invalid(InvalidRequest::Tls),
        Err(_) => Head::Invalid(InvalidRequest::Malformed),
    }
}

fn judge<'p>(request: &Request<'_, 'p>) -> Result<Connect<'p>, InvalidRequest> {
    match request.method {
        Some("CONNECT") => {}
        // Methods have case (RFC 9110 section 9.1), and this client means no plain HTTP.
        Some(method) if method.eq_ignore_ascii_case("CONNECT") => {
            return Err(InvalidRequest::Malformed);
        }
        _ => return Err(InvalidRequest::NotConnect),
    }
    if request.headers.iter().any(announces_body) {
        return Err(InvalidRequest::Body);
    }
    let authority = request.path.unwrap_or_default();
    let target = Target::parse(authority.as_bytes()).map_err(InvalidRequest::Target)?;
    Ok(Connect {
        target,
        authorization: authorization(request.headers),
    })
}

fn authorization<'p>(fields: &[Header<'p>]) -> Authorization<'p> {
    let is_it = |field: &&Header<'_>| field.name.eq_ignore_ascii_case("proxy-authorization");
    let mut found = fields.iter().filter(is_it);
    match (found.next(), found.next()) {
        (None, _) => Authorization::None,
        (Some(field), None) => Authorization::One(field.value),
        (Some(_), Some(_)) => Authorization::Several,
    }
}

/// Some clients say that a request without a body has 0 bytes of it.
fn announces_body(field: &Header<'_>) -> bool {
    field.name.eq_ignore_ascii_case("transfer-encoding")
        || (field.name.eq_ignore_ascii_case("content-length") && field.value != b"0")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(fields: &str) -> String {
        format!(
            "CONNECT fleet.example.com:443 HTTP/1.1\r\nHost: fleet.example.com:443\r\n{fields}\r\n"
        )
    }

    fn connect(text: &str) -> Head<'static> {
        with(Authorization::None, text)
    }

    fn with<'p>(authorization: Authorization<'p>, text: &str) -> Head<'p> {
        let target = Target::parse(b"fleet.example.com:443").unwrap();
        let connect = Connect {
            target,
            authorization,
        };
        Head::Connect(connect, text.len())
    }

    #[test]
    fn requests_of_real_clients_are_read() {
        for fields in [
            // Go 1.26, curl 8, urllib3 2, undici 7.
            "User-Agent: Go-http-client/1.1\r\n",
            "User-Agent: curl/8.14.1\r\nProxy-Connection: Keep-Alive\r\n",
            "",
            "connection: close\r\nContent-Length: 0\r\n",
        ] {
            let text = request(fields);
            assert_eq!(read_connect(text.as_bytes()), connect(&text));
        }
        let old = "CONNECT fleet.example.com:443 HTTP/1.0\r\n\r\n";
        assert_eq!(read_connect(old.as_bytes()), connect(old));
    }

    #[test]
    fn credentials_are_found_in_the_head_and_not_behind_it() {
        let field = "proxy-Authorization: Basic YTpi\r\n";
        let one = request(field);
        let found = with(Authorization::One(b"Basic YTpi"), &one);
        assert_eq!(read_connect(one.as_bytes()), found);
        let behind = one.clone() + field;
        assert_eq!(read_connect(behind.as_bytes()), found);
        let two = request(&format!("{field}A: b\r\n{field}"));
        assert_eq!(
            read_connect(two.as_bytes()),
            with(Authorization::Several, &two)
        );
        // That of the server inside the tunnel.
        let other = request("Authorization: Basic YTpi\r\n");
        assert_eq!(read_connect(other.as_bytes()), connect(&other));
    }

    #[test]
    fn what_is_no_connect_request_is_refused_with_its_reason() {
        let judged = |text: &str| match read_connect(text.as_bytes()) {
            Head::Invalid(invalid) => invalid,
            other @ (Head::Partial | Head::Connect(..)) => panic!("{text}: {other:?}"),
        };
        for text in [
            "GET http://fleet.example.com/ HTTP/1.1\r\nHost: fleet.example.com\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(judged(text), InvalidRequest::NotConnect, "{text}");
        }
        for text in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "connect fleet.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT fleet.example.com:443\r\n\r\n",
            "CONNECT fleet.example.com:443 HTTP/1.1\r\nHost fleet\r\n\r\n",
            "CONNECT fleet.example.com:443 HTTP/1.1\r\nA: b\0\r\n\r\n",
            "\u{5}\u{1}\0",
            "SSH-2.0-x\r\n",
        ] {
            assert_eq!(judged(text), InvalidRequest::Malformed, "{text}");
        }
        for fields in [
            "Content-Length: 1\r\n",
            "content-length: 0, 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "transfer-encoding: identity\r\n",
        ] {
            assert_eq!(judged(&request(fields)), InvalidRequest::Body, "{fields}");
        }
        assert_eq!(judged("\u{16}\u{3}\u{1}"), InvalidRequest::Tls);
        let many = request(&"a: b\r\n".repeat(MOST_FIELDS));
        assert_eq!(judged(&many), InvalidRequest::TooLarge);
        let long = request(&format!("a: {}\r\n", "b".repeat(MOST_HEAD)));
        assert_eq!(judged(&long), InvalidRequest::TooLarge);
        let endless = long.trim_end();
        assert_eq!(judged(endless), InvalidRequest::TooLarge);
    }

    #[test]
    fn a_request_of_the_most_bytes_is_read_and_one_more_is_too_many() {
        let fill = MOST_HEAD - request("a: \r\n").len();
        let text = |more| request(&format!("a: {}\r\n", "b".repeat(fill + more)));
        assert_eq!(read_connect(text(0).as_bytes()), connect(&text(0)));
        let invalid = Head::Invalid(InvalidRequest::TooLarge);
        assert_eq!(read_connect(text(1).as_bytes()), invalid);
    }

    #[test]
    fn every_phrase_is_one_line_of_ascii() {
        for invalid in [
            InvalidRequest::Tls,
            InvalidRequest::NotConnect,
            InvalidRequest::TooLarge,
            InvalidRequest::Malformed,
            InvalidRequest::Body,
            InvalidRequest::Target(InvalidTarget("")),
        ] {
            let Reply { phrase, .. } = invalid.reply();
            assert!(
                phrase.bytes().all(|byte| matches!(byte, b' '..=b'~')),
                "{phrase}"
            );
        }
    }

    proptest! {
        #[test]
        fn every_prefix_of_a_request_is_partial_and_bytes_behind_it_change_nothing(
            names in prop::collection::vec("[A-Za-z-]{1,20}", 0..20),
            value in "[ -~]{0,40}",
            behind in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let fields = names.iter().map(|name| format!("X-{name}: {value}\r\n"));
            let text = request(&format!("{}Proxy-Authorization: {value}\r\n", fields.collect::<String>()));
            let value = value.trim_matches(' ').as_bytes();
            for end in 0..text.len() {
                prop_assert_eq!(read_connect(&text.as_bytes()[..end]), Head::Partial);
            }
            let mut more = text.clone().into_bytes();
            more.extend(&behind);
            prop_assert_eq!(read_connect(&more), with(Authorization::One(value), &text));
        }

        #[test]
        fn no_bytes_make_the_parser_panic_or_take_more_than_there_are(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            for start in ["", "CONNECT ", "CONNECT a:1 HTTP/1.1\r\n"] {
                let mut all = start.as_bytes().to_vec();
                all.extend(&bytes);
                if let Head::Connect(_, size) = read_connect(&all) {
                    prop_assert!(size <= all.len());
                }
            }
        }
    }
}
