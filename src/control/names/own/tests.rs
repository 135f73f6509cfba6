use namespace::{IPV6, Namespace, granted_by};

use super::*;
use crate::required;

#[expect(dead_code, reason = "shared with tests/it.rs, which uses the rest")]
#[path = "../../../../tests/support/namespace.rs"]
mod namespace;

fn own(bound: &[&str], address: &str) -> bool {
    let bound = bound.iter().map(|bound| bound.parse().unwrap()).collect();
    Own::new(bound).contains(address.parse().unwrap(), false)
}

#[test]
fn a_specific_bind_is_its_own_address_only() {
    assert!(own(&["127.0.0.1:443"], "127.0.0.1:443"));
    assert!(own(&["[::1]:443"], "[::1]:443"));
    assert!(!own(&["127.0.0.1:443"], "127.0.0.2:443"));
    assert!(!own(&["127.0.0.1:443"], "127.0.0.1:444"));
}

#[test]
fn a_wildcard_bind_is_every_local_address_of_its_families() {
    assert!(own(&["[::]:443"], "[::1]:443"));
    assert!(own(&["[::]:443"], "127.0.0.1:443"));
    assert!(own(&["0.0.0.0:443"], "127.9.9.9:443"));
    assert!(!own(&["0.0.0.0:443"], "[::1]:443"));
    // TEST-NET-1 is on no host.
    assert!(!own(&["[::]:443"], "192.0.2.1:443"));
    assert!(!own(&["[::]:443"], "127.0.0.1:444"));
}

#[test]
fn an_address_that_leads_to_one_by_its_ipv4_address_is_own_too() {
    assert!(own(&["127.0.0.1:443"], "[64:ff9b::127.0.0.1]:443"));
    assert!(own(&["0.0.0.0:443"], "[2002:7f00:1::1]:443"));
    assert!(!own(&["127.0.0.1:443"], "[64:ff9b::127.0.0.1]:444"));
    assert!(!own(&["127.0.0.1:443"], "[64:ff9b::127.0.0.2]:443"));
}

#[test]
fn an_address_of_an_interface_is_local_to_a_wildcard_bind_by_the_route_to_it() {
    let addresses = "ip address add 192.0.2.7/24 dev lo && ip -6 address add fd00::7/64 dev lo nodad && \
                     ip -6 address add fe80::7/64 dev lo nodad &&";
    let Some(host) = granted_by(IPV6, Namespace::start(addresses)) else {
        return;
    };
    host.run(|| {
        // Loopback is always the first interface.
        for local in ["192.0.2.7:443", "[fd00::7]:443", "[fe80::7%1]:443"] {
            assert!(own(&["[::]:443"], local), "{local}");
        }
        for remote in ["192.0.3.7:443", "[fd01::7]:443", "[fe80::6%1]:443"] {
            assert!(!own(&["[::]:443"], remote), "{remote}");
        }
    });
}

#[test]
fn a_bind_at_a_link_local_address_is_that_of_its_interface_only() {
    assert!(own(&["[fe80::1%2]:443"], "[fe80::1%2]:443"));
    assert!(!own(&["[fe80::1%2]:443"], "[fe80::1%3]:443"));
    // Other addresses are the same on every interface.
    assert!(own(&["[2001:db8::1]:443"], "[2001:db8::1%3]:443"));
}

#[test]
fn the_wildcard_as_a_target_is_loopback() {
    assert!(own(&["127.0.0.1:443"], "0.0.0.0:443"));
    assert!(own(&["[::1]:443"], "[::]:443"));
    assert!(own(&["[::]:443"], "0.0.0.0:443"));
}

#[test]
fn mapped_addresses_are_canonical_and_others_keep_their_scope() {
    let mapped = "[::ffff:192.0.2.1]:0".parse().unwrap();
    assert_eq!(canonical(mapped, 443), "192.0.2.1:443".parse().unwrap());
    let scoped = "[fe80::1%3]:0".parse().unwrap();
    assert_eq!(canonical(scoped, 443), "[fe80::1%3]:443".parse().unwrap());
}
