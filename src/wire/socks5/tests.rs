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
    let read = |greeting| read_greeting(greeting, Method::None);
    assert_eq!(read(&[5, 1, 0]), Socks::Whole((), 3));
    assert_eq!(read(&[5, 3, 2, 0, 1, 9]), Socks::Whole((), 5));
    for none in [&[5, 0][..], &[5, 1, 2], &[5, 2, 1, 2]] {
        assert_eq!(read(none), Socks::Invalid(InvalidSocks::NoMethod));
    }
    for other in [&b"\x04\x01"[..], b"CONNECT", b"\x16\x03"] {
        assert_eq!(read(other), Socks::Invalid(InvalidSocks::NotSocks5));
    }
}

#[test]
fn a_greeting_must_offer_user_and_password_where_they_are_asked_for() {
    let read = |greeting| read_greeting(greeting, Method::Login);
    assert_eq!(read(&[5, 1, 2]), Socks::Whole((), 3));
    assert_eq!(read(&[5, 2, 0, 2, 1, 1]), Socks::Whole((), 4));
    for none in [&[5, 0][..], &[5, 1, 0], &[5, 2, 1, 0]] {
        assert_eq!(read(none), Socks::Invalid(InvalidSocks::NoMethod));
    }
}

#[test]
fn user_and_password_are_read_to_their_last_byte() {
    let login = |user: &str, password: &str, size| {
        let login = Login {
            user: user.as_bytes().into(),
            password: password.as_bytes().into(),
        };
        Socks::Whole(login, size)
    };
    assert!(read_login(b"\x01\x03abc\x02de\x05\x01") == login("abc", "de", 8));
    assert!(read_login(b"\x01\x00\x00") == login("", "", 3));
    let longest = [&[1, 255][..], &[b'u'; 255], &[255], &[b'p'; 255]].concat();
    assert!(read_login(&longest) == login(&"u".repeat(255), &"p".repeat(255), 513));
    for other in [&b"\x05\x01"[..], b"\x00"] {
        assert_eq!(read_login(other), Socks::Invalid(InvalidSocks::NotALogin));
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
    fn every_prefix_of_user_and_password_is_partial_and_bytes_behind_them_change_nothing(
        user in prop::collection::vec(any::<u8>(), 0..256),
        password in prop::collection::vec(any::<u8>(), 0..256),
        behind in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let [users, passwords] = [user.len(), password.len()].map(|it| u8::try_from(it).unwrap());
        let bytes = [&[1, users][..], &user, &[passwords], &password].concat();
        for end in 0..bytes.len() {
            prop_assert_eq!(read_login(&bytes[..end]), Socks::Partial);
        }
        let login = Login { user: user.into(), password: password.into() };
        let whole = Socks::Whole(login, bytes.len());
        prop_assert!(read_login(&bytes) == whole);
        prop_assert!(read_login(&[bytes, behind].concat()) == whole);
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
        for method in [Method::None, Method::Login] {
            if let Socks::Whole((), size) = read_greeting(&all, method) {
                prop_assert!(size <= all.len());
            }
        }
        let login = [&[1][..], &bytes].concat();
        if let Socks::Whole(_, size) = read_login(&login) {
            prop_assert!(size <= login.len());
        }
    }
}
