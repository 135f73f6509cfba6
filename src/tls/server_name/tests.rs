//! Rows of `tests/ROWS.md` that concern the name itself: b14 to b16, b26, b28 to b30, b34 to b40.

use proptest::prelude::*;

use super::*;

fn accepted(name: &str) -> String {
    match ServerName::parse(name.as_bytes()) {
        Ok(name) => name.to_string(),
        Err(error) => panic!("{name:?}: {error:?}"),
    }
}

/// The rule that each of the names breaks.
#[track_caller]
fn broken<N: AsRef<[u8]>>(rule: &str, names: impl IntoIterator<Item = N>) {
    for name in names {
        let name = name.as_ref();
        let parsed = ServerName::parse(name).map_err(|InvalidServerName(rule)| rule);
        assert_eq!(parsed, Err(rule), "{}", name.escape_ascii());
    }
}

const FOREIGN_BYTE: &str = "byte other than a letter, a digit, - and _";

#[test]
fn b14_case_does_not_matter() {
    for name in [
        "fleet.example.com",
        "FLEET.EXAMPLE.COM",
        "FlEeT.eXample.CoM",
    ] {
        assert_eq!(accepted(name), "fleet.example.com");
    }
}

#[test]
fn b15_b30_name_of_253_bytes_passes_and_of_254_does_not() {
    let most = format!(
        "{}{}",
        format!("{}.", "a".repeat(63)).repeat(3),
        "b".repeat(61)
    );
    assert_eq!(most.len(), 253);
    assert_eq!(accepted(&most), most);
    broken(
        "over 253 bytes",
        [254, 255, 256, 65_535].map(|length| vec![b'a'; length]),
    );
    broken("over 253 bytes", [format!("{most}.")]);
}

#[test]
fn b16_underscore_a_label_and_labels_of_digits_pass() {
    for name in [
        "_agent.example.com",
        "es_1.example.com",
        "xn--mnchen-3ya.example",
        "1.2.3.4.example",
        "365.example",
        "0x7f.example",
        "a-b.example",
        "localhost",
        "es-1",
    ] {
        assert_eq!(accepted(name), name);
    }
}

#[test]
fn b26_dots_that_are_too_many_are_invalid() {
    broken(
        "trailing dot",
        ["fleet.example.com.", "fleet.example.com..", "."],
    );
    broken(
        "empty label",
        [".fleet.example.com", "a..b", "fleet..example.com"],
    );
}

#[test]
fn b28_empty_name_is_invalid() {
    broken("empty", [""]);
}

#[test]
fn b29_nul_is_invalid_anywhere() {
    broken(
        FOREIGN_BYTE,
        ["\0local", "local\0host", "localhost\0", "\0"],
    );
}

#[test]
fn b30_label_over_63_bytes_is_invalid() {
    let label = "a".repeat(63);
    assert_eq!(
        accepted(&format!("{label}.example")),
        format!("{label}.example")
    );
    broken(
        "label over 63 bytes",
        [format!("a{label}.example"), format!("www.a{label}")],
    );
}

#[test]
fn b34_b35_text_of_an_ipv4_address_is_invalid() {
    let ipv4 = [
        "192.0.2.7",
        "10.0.0.256",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "0",
    ];
    broken("text of an address", ipv4);
    broken(
        "text of an address",
        [
            "0x7f.0x0.0x0.0x1",
            "0177.0.0.01",
            "example.0x",
            "example.0X1f",
            "example.7",
        ],
    );
}

#[test]
fn b35_text_of_an_ipv6_address_and_ports_are_invalid() {
    let colons = [
        "::1",
        "[::1]",
        "fe80::1%eth0",
        "2001:db8::7",
        "::ffff:192.0.2.7",
    ];
    broken("port or text of an address", colons);
    broken(
        "port or text of an address",
        ["fleet.example.com:8220", "192.0.2.7:443"],
    );
}

#[test]
fn b36_bytes_outside_ascii_are_invalid() {
    let wide = [
        "münchen.example".as_bytes(),
        "fleet。example".as_bytes(),
        b"\xc0\xafx",
        b"\xff",
    ];
    broken("not ASCII: its A-label (xn--) is needed", wide);
}

#[test]
fn b37_b38_bytes_that_could_forge_log_lines_or_markup_are_invalid() {
    let forged = [
        "a\r\n{\"outcome\":\"closed\"}",
        "\x1b[31mred",
        "a\x07",
        "a\x7f",
    ];
    broken(FOREIGN_BYTE, forged);
    let markup = [
        "\"",
        "\\",
        "{}",
        "%n",
        "${jndi-ldap}",
        "<script>",
        "a b",
        "/etc/passwd",
        "a\tb",
    ];
    broken(FOREIGN_BYTE, markup);
}

#[test]
fn b39_wildcards_are_patterns_and_no_names() {
    broken(
        "wildcard",
        ["*.example.com", "*", "**", "**.example.com", "www.*.com"],
    );
}

#[test]
fn b40_names_of_the_inside_are_names() {
    for name in [
        "metadata.google.internal",
        "169.254.169.254.nip.io",
        "kubernetes.default.svc",
        "localhost",
    ] {
        assert_eq!(accepted(name), name);
    }
}

proptest! {
    /// The text of any address that the standard library reads is never a name.
    #[test]
    fn no_address_is_a_name(bits in any::<u128>()) {
        let v6 = std::net::Ipv6Addr::from_bits(bits);
        let [_, _, _, _, _, _, _, _, _, _, _, _, v4 @ ..] = bits.to_be_bytes();
        prop_assert!(ServerName::parse(v6.to_string().as_bytes()).is_err());
        let v4 = std::net::Ipv4Addr::from(v4);
        prop_assert!(ServerName::parse(v4.to_string().as_bytes()).is_err());
    }

    /// A name that was accepted is accepted again, and is the same.
    #[test]
    fn parsing_a_parsed_name_changes_nothing(name in "[a-zA-Z0-9._-]{1,80}") {
        if let Ok(once) = ServerName::parse(name.as_bytes()) {
            prop_assert_eq!(ServerName::parse(once.as_str().as_bytes()), Ok(once));
        }
    }
}
