//! Server names: none, invalid ones, ones without a route (B17, B23 to B41).

use std::time::Duration;

use super::Seen::Alert;
use super::lane::Lane;
use super::rejected;
use crate::it::hello::Builder;

fn names(names: &[&str]) -> Vec<Vec<u8>> {
    names
        .iter()
        .map(|name| Builder::new(name.as_bytes()).build())
        .collect()
}

fn of_length(length: usize) -> Vec<u8> {
    // Labels of 49 bytes, so that only the whole is too long.
    let name: Vec<u8> = (1..=length)
        .map(|at| if at % 50 == 0 { b'.' } else { b'a' })
        .collect();
    Builder::new(&name).build()
}

rejected! {
    b17_a_wildcard_is_one_label: names(&["a.b.wild.example", "wild.example"])
        => Alert(112), "no_route";
    b23_no_name_with_tls_1_3: [Builder::without_name().build()] => Alert(109), "no_server_name";
    b24_no_name_with_tls_1_2_or_no_extensions_at_all:
        [Builder::without_name().tls12().build(), Builder::without_name().without_extensions().build()]
        => Alert(112), "no_server_name";
    b25_an_unknown_name: names(&["unknown.example", "example", "fleet.example.org"])
        => Alert(112), "no_route";
    b26_dots_at_the_end_or_start_or_twice:
        names(&["fleet.example.", "fleet.example..", ".fleet.example", "fleet..example", "."])
        => Alert(112), "invalid_server_name";
    b28_an_empty_name: names(&[""]) => Alert(112), "invalid_server_name";
    b29_a_nul: names(&["\0fleet.example", "fleet\0.example", "fleet.example\0"])
        => Alert(112), "invalid_server_name";
    b30_too_long_a_name_or_label: [
        of_length(254), of_length(255), of_length(256), of_length(60_000),
        Builder::new([&[b'a'; 64][..], b".example"].concat()).build(),
    ] => Alert(112), "invalid_server_name";
    b34_an_ipv4_address: names(&["127.0.0.1", "10.1.2.3"]) => Alert(112), "invalid_server_name";
    b35_other_forms_of_addresses:
        names(&["::1", "[::1]", "fe80::1%eth0", "0x7f000001", "127.1", "2130706433"])
        => Alert(112), "invalid_server_name";
    b36_bytes_outside_ascii: [
        Builder::new("bücher.example".as_bytes()).build(),
        Builder::new("fleet\u{3002}example".as_bytes()).build(),
        Builder::new(b"fleet\xc0\xae.example").build(),
        Builder::new(b"\xff\xfe.example").build(),
    ] => Alert(112), "invalid_server_name";
    b37_control_characters: names(&[
        "x\r\n{\"outcome\":\"closed\",\"client\":\"forged\"}", "\u{1b}[31mred", "\u{7}", "\u{7f}",
    ]) => Alert(112), "invalid_server_name";
    b38_characters_with_a_meaning_elsewhere: names(&[
        "a\"b", "a\\b", "{}", "%n%s", "${jndi:ldap://x}", "<script>", "a b", "/../", "a,b=\"c\"}",
    ]) => Alert(112), "invalid_server_name";
    b39_a_wildcard_as_a_name: names(&["*.wild.example", "*", "**"])
        => Alert(112), "invalid_server_name";
    b40_names_of_the_inside_are_never_dialled: names(&[
        "metadata.google.internal", "169.254.169.254.nip.io", "kubernetes.default.svc", "localhost",
    ]) => Alert(112), "no_route";
}

#[test]
fn no_name_takes_the_route_for_no_name() {
    let lane = Lane::take();
    for hello in [
        Builder::without_name().build(),
        Builder::without_name().without_extensions().build(),
    ] {
        let logged = lane.open().routes(&[&hello], Duration::ZERO);
        assert!(
            logged["route"].as_str().unwrap().starts_with('n'),
            "{logged}"
        );
    }
}
