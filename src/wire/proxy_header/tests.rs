use proptest::prelude::*;

use super::*;

const HELLO: &[u8] = &[0x16, 3, 1, 2, 0, 1];
const IPV4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0xc0, 1, 1, 0xbb];

fn ends(client: &str, destination: &str) -> Ends {
    Ends {
        client: client.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// A header of version 2 with this command, family and block.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap();
    [
        v2::SIGNATURE,
        &[command, family],
        &length.to_be_bytes(),
        block,
    ]
    .concat()
}

/// A field behind the addresses.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&[kind], &length.to_be_bytes()[..], value].concat()
}

fn of_v4(fields: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[IPV4, fields].concat())
}

/// Reads the header on each of its prefixes, alone and with a hello behind it.
fn read(header: &[u8]) -> ProxyHeader {
    let whole = read_proxy_header(header);
    let with_hello = [header, HELLO].concat();
    assert_eq!(read_proxy_header(&with_hello), whole, "with a hello");
    for end in 0..header.len() {
        let early = read_proxy_header(&header[..end]);
        let is_invalid = matches!(early, ProxyHeader::Invalid(_)) && early == whole;
        assert!(
            early == ProxyHeader::Partial || is_invalid,
            "{end}: {early:?}"
        );
    }
    whole
}

fn is_invalid(header: &[u8]) -> bool {
    matches!(read(header), ProxyHeader::Invalid(_))
}

#[test]
fn both_versions_say_the_same_ends() {
    let v4 = ends("192.0.2.1:49153", "198.51.100.2:443");
    let text = b"PROXY TCP4 192.0.2.1 198.51.100.2 49153 443\r\n";
    assert_eq!(read(text), ProxyHeader::Whole(Some(v4), text.len()));
    assert_eq!(read(&of_v4(&[])), ProxyHeader::Whole(Some(v4), 28));

    let v6 = ends("[2001:db8::1]:1", "[2001:db8::2]:65535");
    let text = b"PROXY TCP6 2001:db8::1 2001:DB8::2 1 65535\r\n";
    assert_eq!(read(text), ProxyHeader::Whole(Some(v6), text.len()));
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let [client, destination] = ["2001:db8::1", "2001:db8::2"].map(octets);
    let block = [&client[..], &destination, &[0, 1, 255, 255]].concat();
    assert_eq!(
        read(&v2(0x21, 0x21, &block)),
        ProxyHeader::Whole(Some(v6), 52)
    );
}

#[test]
fn an_ipv4_address_in_ipv6_form_is_an_ipv4_address() {
    let text = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 7 8\r\n";
    let wanted = ends("192.0.2.1:7", "[2001:db8::2]:8");
    assert_eq!(read(text), ProxyHeader::Whole(Some(wanted), text.len()));
}

#[test]
fn b87_a_line_that_breaks_a_rule_is_no_header() {
    let longest = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe 65535 65535\r\n";
    assert!(matches!(
        read(longest.as_bytes()),
        ProxyHeader::Whole(Some(_), 104)
    ));
    for line in [
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 00\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    ] {
        assert!(is_invalid(line.as_bytes()), "{line:?}");
    }
    assert!(is_invalid(b"PROXY TCP4 192.0.2.1 198.51.100.2 1 \xff\r\n"));
}

#[test]
fn b87_a_line_ends_after_107_bytes() {
    let of = |size: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(size - 16));
    assert_eq!(read(of(107).as_bytes()), ProxyHeader::Whole(None, 107));
    assert!(is_invalid(of(108).as_bytes()));
    let endless = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 5000]].concat();
    assert_eq!(read_proxy_header(&endless[..106]), ProxyHeader::Partial);
    assert!(matches!(
        read_proxy_header(&endless[..107]),
        ProxyHeader::Invalid(_)
    ));
}

#[test]
fn b88_unknown_is_a_header_without_ends() {
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 what 1 \r\n"] {
        assert_eq!(read(line.as_bytes()), ProxyHeader::Whole(None, line.len()));
    }
}

#[test]
fn b89_a_local_command_discards_whatever_it_has() {
    for (family, block) in [(0, &[][..]), (0x11, &[]), (0x11, IPV4), (0xff, &[1, 2, 3])] {
        let header = v2(0x20, family, block);
        assert_eq!(read(&header), ProxyHeader::Whole(None, header.len()));
    }
}

#[test]
fn b90_the_addresses_of_another_family_are_passed_over() {
    let unix = [0; 216];
    for (family, block) in [
        (0x00, &[][..]),
        (0x00, IPV4),
        (0x12, IPV4),
        (0x31, &unix),
        (0x20, &[]),
        (0x32, &unix),
    ] {
        let header = v2(0x21, family, block);
        assert_eq!(
            read(&header),
            ProxyHeader::Whole(None, header.len()),
            "{family}"
        );
    }
}

#[test]
fn b90_a_family_or_transport_that_the_protocol_does_not_define_is_refused() {
    for family in [0x41, 0xf1, 0x13, 0x1f, 0xff] {
        assert!(is_invalid(&v2(0x21, family, IPV4)), "{family}");
    }
}

#[test]
fn b91_a_header_that_is_shorter_than_its_addresses_is_none() {
    for (family, size) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        for short in [0, 1, size - 1] {
            assert!(
                is_invalid(&v2(0x21, family, &vec![0; short])),
                "{family} {short}"
            );
        }
        let whole = v2(0x21, family, &vec![0; size]);
        assert!(matches!(read(&whole), ProxyHeader::Whole(..)), "{family}");
    }
}

#[test]
fn b92_a_field_that_goes_beyond_the_header_is_invalid() {
    let unknown = [field(0xea, b"vpce-1"), field(4, &[0; 40]), field(0, &[])].concat();
    assert!(matches!(
        read(&of_v4(&unknown)),
        ProxyHeader::Whole(Some(_), _)
    ));
    let hello = [&[0xea], &[0, 6][..], b"vpce-"].concat();
    for fields in [&[1][..], &[1, 0], &[1, 0, 1], &[1, 255, 255, 0], &hello] {
        assert!(is_invalid(&of_v4(fields)), "{fields:?}");
    }
}

#[test]
fn b93_a_header_of_more_than_4_kib_is_refused_by_its_length() {
    let padded = |size: usize| field(4, &vec![0; size - FIXED_AND_IPV4 - 3]);
    assert!(matches!(
        read(&of_v4(&padded(MOST_HEADER))),
        ProxyHeader::Whole(Some(_), MOST_HEADER)
    ));
    assert!(is_invalid(&of_v4(&padded(MOST_HEADER + 1))));
    let head = [v2::SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
    assert!(is_invalid(&head));
    let local = [v2::SIGNATURE, &[0x20, 0, 0xff, 0xff]].concat();
    assert!(is_invalid(&local));
}

const FIXED_AND_IPV4: usize = 16 + IPV4.len();

#[test]
fn another_version_or_command_is_refused_by_its_byte() {
    for byte in [0x00, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        let begin = [v2::SIGNATURE, &[byte]].concat();
        assert!(is_invalid(&begin), "{byte:#x}");
    }
}

#[test]
fn bytes_that_begin_no_header_are_refused_at_once() {
    for other in [
        HELLO,
        b"GET / HTTP/1.1\r\n",
        b"\n",
        b"\r\r",
        b"Q",
        b"PROXY/",
    ] {
        assert!(is_invalid(other), "{other:?}");
    }
    assert_eq!(read_proxy_header(&[]), ProxyHeader::Partial);
}

#[test]
fn a_checksum_is_that_of_the_header_with_zeros_in_its_place() {
    // The value of "123456789" is the check of the algorithm's catalogue.
    assert_eq!(
        crc32c::Crc32c::default().with(b"123456789").value(),
        0xe306_9283
    );
    let with = |sum: u32| of_v4(&[field(3, &sum.to_be_bytes()), field(4, &[7])].concat());
    let right = crc32c::Crc32c::default().with(&with(0)).value();
    assert!(matches!(read(&with(right)), ProxyHeader::Whole(Some(_), _)));
    assert!(is_invalid(&with(right ^ 1)));
    assert!(is_invalid(&of_v4(&field(3, &[0; 3]))));
    assert!(is_invalid(&of_v4(&field(3, &[0; 5]))));
}

#[test]
fn the_signature_alone_says_the_version() {
    assert_eq!(ProxyVersion::of(b"PROXY "), Some(ProxyVersion::V1));
    assert_eq!(ProxyVersion::of(v2::SIGNATURE), Some(ProxyVersion::V2));
    for other in [&b"PROXY"[..], &v2::SIGNATURE[..11], b"", HELLO] {
        assert_eq!(ProxyVersion::of(other), None);
    }
}

fn introduction<'i>(client: &str, destination: &str) -> Introduction<'i> {
    Introduction {
        ends: Some(ends(client, destination)),
        ..Introduction::CHECK
    }
}

#[test]
fn b99_a_header_of_one_family_has_exactly_these_bytes() {
    let v4 = introduction("192.0.2.1:49153", "198.51.100.2:443");
    let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 49153 443\r\n";
    assert_eq!(ProxyVersion::V1.header(&v4), line);
    assert_eq!(ProxyVersion::V2.header(&v4), of_v4(&[]));
    let with_fields = Introduction {
        server_name: Some("fleet.example.com"),
        alpn: b"\x02h2",
        ..v4
    };
    assert_eq!(ProxyVersion::V1.header(&with_fields), line);
    let fields = [field(2, b"fleet.example.com"), field(1, b"\0\x03\x02h2")].concat();
    assert_eq!(ProxyVersion::V2.header(&with_fields), of_v4(&fields));
}

#[test]
fn b99_an_ipv4_address_beside_an_ipv6_one_is_written_in_ipv6_form() {
    let mixed = introduction("192.0.2.1:7", "[2001:db8::2]:8");
    let line = b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 7 8\r\n";
    assert_eq!(ProxyVersion::V1.header(&mixed), line);
    let client = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    let destination = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let block = [&client[..], &destination, &[0, 7, 0, 8]].concat();
    assert_eq!(ProxyVersion::V2.header(&mixed), v2(0x21, 0x21, &block));
    let other_way = introduction("[2001:db8::2]:8", "192.0.2.1:7");
    let line = b"PROXY TCP6 2001:db8::2 ::ffff:192.0.2.1 8 7\r\n";
    assert_eq!(ProxyVersion::V1.header(&other_way), line);
}

#[test]
fn a_check_speaks_for_nobody_else() {
    assert_eq!(
        ProxyVersion::V1.header(&Introduction::CHECK),
        b"PROXY UNKNOWN\r\n"
    );
    assert_eq!(
        ProxyVersion::V2.header(&Introduction::CHECK),
        v2(0x20, 0, &[])
    );
}

const BEGINNINGS: &[&[u8]] = &[
    b"",
    b"PROXY TCP4 ",
    b"PROXY TCP6 ::1 ",
    v2::SIGNATURE,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x20",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x30",
];

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_or_take_more_than_there_are(
        start in prop::sample::select(BEGINNINGS),
        bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let all = [start, &bytes].concat();
        let whole = read_proxy_header(&all);
        if let ProxyHeader::Whole(_, size) = whole {
            prop_assert!(size > 0 && size <= all.len().min(MOST_HEADER));
        }
        for end in 0..all.len() {
            match read_proxy_header(&all[..end]) {
                ProxyHeader::Partial => {}
                early @ (ProxyHeader::Whole(..) | ProxyHeader::Invalid(_)) => prop_assert_eq!(early, whole, "after {} bytes", end),
            }
        }
    }
    #[test]
    fn a_header_that_is_written_says_the_same_ends_when_it_is_read(
        client in any::<(std::net::IpAddr, u16)>(),
        destination in any::<(std::net::IpAddr, u16)>(),
        name in prop::option::of("[a-z0-9.-]{1,253}"),
        alpn in prop::collection::vec(any::<u8>(), 0..255),
    ) {
        let ends = Ends::new(client.into(), destination.into());
        let introduction = Introduction {
            ends: Some(ends),
            server_name: name.as_deref(),
            alpn: &alpn,
        };
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let header = version.header(&introduction);
            prop_assert!(header.len() < 600);
            prop_assert_eq!(ProxyVersion::of(&header), Some(version));
            prop_assert_eq!(read(&header), ProxyHeader::Whole(Some(ends), header.len()));
        }
    }
}
