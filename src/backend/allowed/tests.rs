use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn networks(networks: &[&str]) -> Allowed {
    let networks = networks.iter().map(|network| network.parse().unwrap());
    Allowed::Networks(networks.collect())
}

/// An IPv4 address, and every IPv6 address that leads to it.
fn forms(v4: Ipv4Addr) -> [IpAddr; 4] {
    let [a, b, c, d] = v4.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    [
        v4.into(),
        v4.to_ipv6_mapped().into(),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into(),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into(),
    ]
}

#[test]
fn without_a_list_every_address_of_a_server_is_permitted() {
    for v4 in [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.255",
        "255.255.255.255",
    ] {
        for address in forms(v4.parse().unwrap()) {
            assert!(!Allowed::Servers.permits(address), "{address}");
        }
    }
    for address in ["::", "ff02::1", "ffff::1"] {
        assert!(!Allowed::Servers.permits(ip(address)), "{address}");
    }
    for v4 in [
        "127.0.0.1",
        "10.255.255.255",
        "169.254.169.254",
        "192.0.2.1",
    ] {
        for address in forms(v4.parse().unwrap()) {
            assert!(Allowed::Servers.permits(address), "{address}");
        }
    }
    for address in ["::1", "fe80::1", "2001:db8::1", "fd00:ec2::254"] {
        assert!(Allowed::Servers.permits(ip(address)), "{address}");
    }
}

/// Addresses that are not public, and those beside their ranges.
const V4: [&str; 2] = [
    "0.0.0.0 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 \
     192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 240.0.0.1 \
     255.255.255.255",
    "9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.1 192.167.255.255 192.169.0.0 \
     198.17.255.255 198.20.0.0 223.255.255.255",
];
const V6: [&str; 2] = [
    ":: ::1 ::a00:1 64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:db8::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 \
     fec0::1 ff02::1",
    "2001:4860::1 2600::1 2a00:1450::1 64:ff9b:2::1",
];

#[test]
fn where_clients_choose_the_name_only_public_addresses_are_permitted_without_a_list() {
    for ((v4, v6), is_public) in V4.iter().zip(V6).zip([false, true]) {
        let forms = v4
            .split_whitespace()
            .flat_map(|v4| forms(v4.parse().unwrap()));
        for address in forms.chain(v6.split_whitespace().map(ip)) {
            assert_eq!(Allowed::Public.permits(address), is_public, "{address}");
        }
    }
}

/// The networks of a list, an address, and whether they permit it.
const TABLE: &[(&[&str], &str, bool)] = &[
    (&["10.0.0.0/8"], "10.0.0.1", true),
    (&["10.0.0.0/8"], "11.0.0.1", false),
    (&["10.0.0.0/8", "192.0.2.0/24"], "192.0.2.9", true),
    (&["10.0.0.0/8"], "2001:db8::1", false),
    (&["0.0.0.0/0"], "192.0.2.9", true),
    (&["0.0.0.0/0"], "2001:db8::1", false),
    (&["::/0"], "2001:db8::1", true),
    (&["::/0"], "192.0.2.9", false),
    // Special addresses: a wider network does not permit them, one inside their range does.
    (&["0.0.0.0/0"], "127.0.0.1", false),
    (&["126.0.0.0/7"], "127.0.0.1", false),
    (&["127.0.0.0/8"], "127.0.0.1", true),
    (&["0.0.0.0/0", "127.0.0.1/32"], "127.0.0.1", true),
    (&["127.0.0.1/32"], "127.0.0.2", false),
    (&["0.0.0.0/0"], "169.254.169.254", false),
    (&["169.254.0.0/16"], "169.254.169.254", true),
    (&["169.254.169.254/32"], "169.254.169.254", true),
    (&["0.0.0.0/0"], "0.0.0.0", false),
    (&["0.0.0.0/1"], "0.1.2.3", false),
    (&["0.0.0.0/8"], "0.0.0.0", true),
    (&["0.0.0.0/0"], "224.0.0.1", false),
    (&["239.0.0.0/8"], "239.1.1.1", true),
    (&["0.0.0.0/0"], "255.255.255.255", false),
    (&["255.255.255.255/32"], "255.255.255.255", true),
    (&["0.0.0.0/0"], "168.63.129.16", false),
    (&["168.63.129.16/32"], "168.63.129.16", true),
    (&["0.0.0.0/0"], "168.63.129.17", true),
    (&["100.64.0.0/10"], "100.100.100.200", false),
    (&["100.64.0.0/10"], "100.100.100.201", true),
    (&["::/0"], "::1", false),
    (&["::1/128"], "::1", true),
    (&["::/0"], "::", false),
    (&["::/128"], "::", true),
    (&["::/0"], "fe80::1", false),
    (&["fe80::/10"], "fe80::1", true),
    (&["fe80::/64"], "fe80::1", true),
    (&["::/0"], "ff02::1", false),
    (&["ff00::/8"], "ff02::1", true),
    (&["fd00::/8"], "fd00::7", true),
    (&["fd00::/8"], "fd00:ec2::254", false),
    (&["fd00:ec2::254/128"], "fd00:ec2::254", true),
    // Such an address is judged by the IPv4 address in it, and by nothing else.
    (&["10.0.0.0/8"], "::ffff:10.0.0.1", true),
    (&["10.0.0.0/8"], "64:ff9b::10.0.0.1", true),
    (&["10.0.0.0/8"], "2002:a00:1::1", true),
    (&["::/0"], "64:ff9b::10.0.0.1", false),
    (&["64:ff9b::/96"], "64:ff9b::10.0.0.1", false),
    (&["2002::/16"], "2002:a00:1::1", false),
    (&["0.0.0.0/0", "::/0"], "64:ff9b::127.0.0.1", false),
    (&["0.0.0.0/0", "::/0"], "64:ff9b::169.254.169.254", false),
    (&["0.0.0.0/0", "::/0"], "2002:7f00:1::1", false),
    (&["0.0.0.0/0", "::/0"], "2002:a9fe:a9fe::1", false),
    (&["127.0.0.0/8"], "64:ff9b::127.0.0.1", true),
    // An address just outside those prefixes is one of IPv6.
    (&["::/0"], "64:ff9b:1::10.0.0.1", true),
    (&["::/0"], "2003:a00:1::1", true),
];

#[test]
fn a_list_permits_its_networks_and_special_addresses_only_by_a_network_inside_their_range() {
    for (list, address, permitted) in TABLE {
        let found = networks(list).permits(ip(address));
        assert_eq!(found, *permitted, "{address} with {list:?}");
    }
}

#[test]
fn every_form_of_an_address_is_judged_alike() {
    for list in [
        &["10.0.0.0/8"][..],
        &["0.0.0.0/0", "::/0"],
        &["127.0.0.0/8"],
        &["169.254.0.0/16", "::/0"],
    ] {
        let allowed = networks(list);
        for v4 in [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "8.8.8.8",
        ] {
            let forms = forms(v4.parse().unwrap());
            let judged = forms.map(|form| allowed.permits(form));
            assert_eq!(judged, [judged[0]; 4], "{v4} with {list:?}");
        }
    }
}

#[test]
fn a_special_address_tells_its_range_and_others_none() {
    let range = |address| special(ip(address)).map(|range| range.to_string());
    assert_eq!(range("127.0.0.1").as_deref(), Some("127.0.0.0/8"));
    assert_eq!(range("64:ff9b::7f00:1").as_deref(), Some("127.0.0.0/8"));
    assert_eq!(range("fe80::1").as_deref(), Some("fe80::/10"));
    assert_eq!(range("10.0.0.1"), None);
    assert_eq!(range("2001:db8::1"), None);
}

#[test]
fn a_network_whose_addresses_are_judged_by_their_ipv4_address_is_recognised() {
    let is = |network: &str| embeds(network.parse().unwrap());
    for network in [
        "64:ff9b::/96",
        "64:ff9b::10.0.0.0/104",
        "2002::/16",
        "2002:a00::/24",
        "::ffff:0:0/96",
    ] {
        assert!(is(network), "{network}");
    }
    for network in [
        "::/0",
        "64:ff9b::/64",
        "2000::/3",
        "10.0.0.0/8",
        "2001:db8::/32",
    ] {
        assert!(!is(network), "{network}");
    }
}
