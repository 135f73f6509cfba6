//! Every prefix, every split, and what each answer means.

use proptest::prelude::*;

use super::*;

const ES: FarEnd<'_> = FarEnd::Name("es.internal.", 9200);

fn credentials(protocol: TunnelProtocol, user: &str, password: &str) -> Login {
    Login::for_proxy(protocol, user, password).unwrap()
}

fn refused(answer: Answer) -> String {
    match answer {
        Answer::Refused(Refused(words)) => words.into(),
        other @ (Answer::Partial | Answer::Whole(..)) => panic!("{other:?}"),
    }
}

/// A proxy whose bytes arrive in parts of these sizes. Returns the messages that it gets, and the bytes that are left
/// for the endpoint, or the words of the refusal.
fn converse(
    protocol: TunnelProtocol,
    credentials: Option<&Login>,
    answers: &[u8],
    sizes: impl Iterator<Item = usize>,
) -> (Vec<Vec<u8>>, Result<Vec<u8>, String>) {
    let mut step = Step::first(protocol);
    let mut messages = vec![step.message(ES, credentials)];
    let mut sizes = sizes.chain(std::iter::repeat(usize::MAX));
    let (mut from, mut until) = (0, 0);
    loop {
        match step.read(&answers[from..until], credentials) {
            Answer::Partial => {
                assert!(until < answers.len(), "the answer is whole by now");
                until = until
                    .saturating_add(sizes.next().unwrap())
                    .min(answers.len());
            }
            Answer::Whole(next, size) => {
                assert!(size <= until - from, "no more than there is");
                from += size;
                let Some(next) = next else {
                    return (messages, Ok(answers[from..].to_vec()));
                };
                step = next;
                messages.push(step.message(ES, credentials));
            }
            Answer::Refused(Refused(words)) => return (messages, Err(words.into())),
        }
    }
}

#[test]
fn a_connect_request_names_the_endpoint_as_routes_toml_does() {
    let text = |end: FarEnd<'_>| String::from_utf8(Step::Connect.message(end, None)).unwrap();
    let request = "CONNECT es.internal.:9200 HTTP/1.1\r\nHost: es.internal.:9200\r\n\r\n";
    assert_eq!(text(ES), request);
    for (address, shown) in [
        ("10.0.0.7:9200", "10.0.0.7:9200"),
        ("[fd00::7]:443", "[fd00::7]:443"),
    ] {
        let end = FarEnd::Address(address.parse().unwrap());
        let request = format!("CONNECT {shown} HTTP/1.1\r\nHost: {shown}\r\n\r\n");
        assert_eq!(text(end), request);
    }
}

#[test]
fn a_connect_request_carries_user_and_password_as_basic() {
    // The example of RFC 7617 section 2.
    let aladdin = credentials(TunnelProtocol::Http, "Aladdin", "open sesame");
    let request = Step::Connect.message(ES, Some(&aladdin));
    let request = String::from_utf8(request).unwrap();
    let field = "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
    assert!(request.ends_with(field), "{request}");
    let empty = credentials(TunnelProtocol::Http, "u", "");
    let request = Step::Connect.message(ES, Some(&empty));
    assert!(
        String::from_utf8(request)
            .unwrap()
            .contains("Basic dTo=\r\n")
    );
}

#[test]
fn credentials_that_a_protocol_cannot_carry_are_refused_in_words_without_them() {
    use TunnelProtocol::{Http, Socks5};
    let long = "secret".repeat(200);
    for (protocol, user, password) in [
        (Http, "us:er", "secret"),
        (Http, "", "secret"),
        (Http, "user", "sec\r\nret"),
        (Http, "user", &long),
        (Socks5, "user", ""),
        (Socks5, &long[..256], "secret"),
        (Socks5, "user", &long[..256]),
    ] {
        let Err(InvalidLogin(rule)) = Login::for_proxy(protocol, user, password) else {
            panic!("{protocol:?} {user:?} {password:?}");
        };
        assert!(!rule.contains("secret"), "{rule}");
    }
    let longest = credentials(Socks5, &long[..255], &long[..255]);
    assert_eq!(Step::LogIn.message(ES, Some(&longest)).len(), 3 + 2 * 255);
    assert!(!format!("{longest:?}").contains("secret"), "{longest:?}");
}

#[test]
fn a_tunnel_opens_with_any_status_of_success_and_leaves_what_is_behind_it() {
    for head in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nVia: 1.1 squid\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 299\r\n\r\n",
        "HTTP/1.1 204 \r\nodd field: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let answers = [head.as_bytes(), b"\x16\x03"].concat();
        for size in 1..=answers.len() {
            let sizes = std::iter::repeat(size);
            let (messages, left) = converse(TunnelProtocol::Http, None, &answers, sizes);
            assert_eq!(left.as_deref(), Ok(&b"\x16\x03"[..]), "{head}");
            assert!(messages[1..].iter().all(Vec::is_empty), "{head}");
        }
    }
}

#[test]
fn any_other_status_is_a_refusal_with_its_line() {
    let words = |text: &str| refused(Step::Connect.read(text.as_bytes(), None));
    // The rest of the head says nothing more, so it is not awaited.
    assert_eq!(
        words("HTTP/1.1 403 Forbidden\r\n"),
        "HTTP/1.1 403 Forbidden"
    );
    assert_eq!(words("HTTP/1.0 502 \r\n\r\n"), "HTTP/1.0 502");
    assert_eq!(
        words("HTTP/1.1 301 Moved\r\nLocation: x"),
        "HTTP/1.1 301 Moved"
    );
    assert_eq!(
        words("HTTP/1.1 101 Switching\r\n\r\n"),
        "HTTP/1.1 101 Switching"
    );
    let authentication = words("HTTP/1.1 407 Proxy Authentication Required\r\n");
    assert!(authentication.ends_with("(the proxy asks for a user and a password)"));
    let user = credentials(TunnelProtocol::Http, "agent", "secret");
    for line in ["407 Proxy Authentication Required", "401 Unauthorized"] {
        let answer = format!("HTTP/1.1 {line}\r\n");
        let wrong = refused(Step::Connect.read(answer.as_bytes(), Some(&user)));
        assert!(wrong.ends_with("(the proxy refuses the user and the password)"));
        assert!(wrong.contains(line), "{wrong}");
    }
    let long = words(&format!("HTTP/1.1 403 {}\r\n", "x".repeat(5000)));
    assert_eq!(long.len(), MOST_SHOWN);
    assert_eq!(words("HTTP/1.1 403 \u{fc}\r\n"), "HTTP/1.1 403");
}

#[test]
fn what_is_not_http_is_a_refusal_that_says_what_it_is() {
    let words = |bytes: &[u8]| refused(Step::Connect.read(bytes, None));
    assert!(words(b"\x15\x03\x03").contains("TLS"));
    assert!(words(b"\x05\xff").contains("socks5://"));
    let ssh = words(b"SSH-2.0-\x1b[0m\r\nmore");
    assert_eq!(ssh, "its answer is not HTTP/1: SSH-2.0-\\x1b[0m");
    assert!(words(b"HTTP/2.0 200 OK\r\n\r\n").contains("not HTTP/1"));
    assert!(words(b"HTTP/1.1 20 OK\r\n\r\n").contains("not HTTP/1"));
    assert!(words(&[0; 300]).len() < 200);
}

#[test]
fn an_answer_has_at_most_16_kib_with_the_informational_ones() {
    let head = |size: usize| {
        let fill = size - "HTTP/1.1 200 OK\r\na: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(fill))
    };
    let whole = head(MOST_ANSWER);
    let read = |step: Step, bytes: &str| step.read(bytes.as_bytes(), None);
    assert_eq!(
        read(Step::Connect, &whole),
        Answer::Whole(None, MOST_ANSWER)
    );
    assert!(refused(read(Step::Connect, &head(MOST_ANSWER + 1))).contains("16 KiB"));
    assert_eq!(
        read(Step::Connect, &whole[..MOST_ANSWER - 1]),
        Answer::Partial
    );
    let endless = head(MOST_ANSWER + 9);
    assert!(refused(read(Step::Connect, &endless[..MOST_ANSWER])).contains("16 KiB"));
    let early = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10_000);
    let (messages, left) = converse(
        TunnelProtocol::Http,
        None,
        early.as_bytes(),
        std::iter::empty(),
    );
    assert!(left.unwrap_err().contains("16 KiB"));
    assert!(messages.len() < 1000, "{}", messages.len());
}

#[test]
fn a_socks_proxy_is_asked_for_a_name_or_an_address() {
    assert_eq!(Step::Greet.message(ES, None), [5, 1, 0]);
    let named = [&[5, 1, 0, 3, 12][..], b"es.internal.", &[0x23, 0xf0]].concat();
    assert_eq!(Step::Request.message(ES, None), named);
    let v4 = FarEnd::Address("10.0.0.7:443".parse().unwrap());
    assert_eq!(
        Step::Request.message(v4, None),
        [5, 1, 0, 1, 10, 0, 0, 7, 1, 0xbb]
    );
    let v6 = FarEnd::Address("[fd00::7]:443".parse().unwrap());
    let message = Step::Request.message(v6, None);
    assert_eq!((&message[..4], message.len()), (&[5, 1, 0, 4][..], 22));
}

#[test]
fn a_socks_tunnel_opens_with_and_without_credentials() {
    let user = credentials(TunnelProtocol::Socks5, "agent", "pass:word");
    let login = [&[1, 5][..], b"agent", &[9], b"pass:word"].concat();
    let replies: [&[u8]; 3] = [
        &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 3, 2, b'p', b'x', 0, 1],
        &[[5, 0, 0, 4].as_slice(), &[0; 18]].concat(),
    ];
    for reply in replies {
        for (given, methods, said) in [
            (None, &[5, 0][..], 1),
            (Some(&user), &[5, 0], 1),
            (Some(&user), &[5, 2, 1, 0], 2),
        ] {
            let answers = [methods, reply, b"\x16\x03"].concat();
            for size in 1..=answers.len() {
                let sizes = std::iter::repeat(size);
                let (messages, left) = converse(TunnelProtocol::Socks5, given, &answers, sizes);
                assert_eq!(left.as_deref(), Ok(&b"\x16\x03"[..]));
                assert_eq!(messages.len(), 1 + said, "{methods:?}");
                assert_eq!(messages.contains(&login), said == 2);
            }
        }
    }
}

#[test]
fn each_refusal_of_a_socks_proxy_is_told_in_the_words_of_the_rfc() {
    for (reply, words) in [
        (1, "general SOCKS server failure"),
        (2, "connection not allowed by ruleset"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not supported"),
        (8, "address type not supported"),
        (9, "a number without a meaning"),
    ] {
        let told = refused(Step::Request.read(&[5, reply], None));
        assert_eq!(told, format!("SOCKS5 reply {reply}: {words}"));
    }
    let user = credentials(TunnelProtocol::Socks5, "agent", "secret");
    for (step, bytes, given, words) in [
        (Step::Greet, &[5, 0xff][..], None, "asks for a user"),
        (Step::Greet, &[5, 0xff], Some(&user), "neither"),
        (Step::Greet, &[5, 2], None, "method 2"),
        (Step::Greet, &[5, 1], Some(&user), "method 1"),
        (
            Step::Greet,
            b"HTTP/1.1 400 Bad Request\r\n",
            None,
            "http://",
        ),
        (Step::Greet, &[4, 0], None, "not SOCKS5"),
        (
            Step::LogIn,
            &[1, 1],
            Some(&user),
            "user and password refused",
        ),
        (Step::Request, &[5, 0, 0, 2], None, "no known type"),
    ] {
        let told = refused(step.read(bytes, given));
        assert!(told.contains(words), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

const STEPS: [Step; 5] = [
    Step::Connect,
    Step::Wait(1000),
    Step::Greet,
    Step::LogIn,
    Step::Request,
];

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_or_take_more_than_there_are(
        start in prop::sample::select(&["", "HTTP/1.1 200", "HTTP/1.1 100 \r\n\r\n", "\u{5}\0\0\u{3}"][..]),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        has_credentials in any::<bool>(),
    ) {
        let user = credentials(TunnelProtocol::Socks5, "agent", "secret");
        let all = [start.as_bytes(), &bytes].concat();
        for step in STEPS {
            let given = has_credentials.then_some(&user);
            let whole = step.read(&all, given);
            if let Answer::Whole(_, size) = whole {
                prop_assert!(size > 0 && size <= all.len());
            }
            if let Answer::Refused(Refused(words)) = &whole {
                prop_assert!(words.len() < 250, "{}", words);
                prop_assert!(words.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')), "{}", words);
            }
            for end in 0..all.len() {
                match (step.read(&all[..end], given), &whole) {
                    (Answer::Partial, _) | (Answer::Refused(_), Answer::Refused(_)) => {}
                    (early, whole) => prop_assert_eq!(&early, whole, "after {} bytes", end),
                }
            }
        }
    }

    #[test]
    fn any_split_of_the_answers_opens_the_same_tunnel(
        fields in prop::collection::vec("[A-Za-z-]{1,12}: [ -~]{0,30}\r\n", 0..9),
        interim in 0..4_usize,
        sizes in prop::collection::vec(1..40_usize, 0..60),
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let head = |status: &str| format!("HTTP/1.1 {status}\r\n{}\r\n", fields.concat());
        let heads = head("103 Early Hints").repeat(interim) + &head("200 OK");
        let answers = [heads.as_bytes(), &behind].concat();
        let (_, left) = converse(TunnelProtocol::Http, None, &answers, sizes.iter().copied());
        prop_assert_eq!(left, Ok(behind.clone()));
        let answers = [&[5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0], &*behind].concat();
        let (_, left) = converse(TunnelProtocol::Socks5, None, &answers, sizes.into_iter());
        prop_assert_eq!(left, Ok(behind));
    }
}
