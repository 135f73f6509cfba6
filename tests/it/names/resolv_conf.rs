//! The system's resolver and its resolv.conf, which an operator may change at any time.

use std::fs;

use super::*;

/// Lines that no resolver should stumble over: comments, an unknown word, unknown options, a server with a scope, a word
/// without its value, very long lines, bytes that are not UTF-8, and a last line without an end.
fn odd(server: IpAddr) -> Vec<u8> {
    let long = "x".repeat(70_000);
    let mut lines = format!(
        "# a comment\n; another one\nfrobnicate yes\n\
         options edns0 trust-ad no-such-option:7 timeout:1\nnameserver\nnameserver not-an-address\n\
         nameserver fe80::1%nowhere0\nsortlist 10.0.0.0/8\nsearch {}.test\n{long}\n",
        &long[..240]
    )
    .into_bytes();
    lines.extend(b"\xff\xfe\x01\n\n");
    lines.extend(format!("nameserver {server}").bytes());
    lines
}

/// The time of the last look-up that succeeded.
fn resolved(portway: &Portway) -> u64 {
    let labels = "backend=\"fleet\",endpoint=\"fleet.test:8220\"";
    portway.count(&format!(
        "portway_endpoint_resolved_timestamp_seconds{{{labels}}}"
    ))
}

#[test]
fn a_resolv_conf_that_changes_is_read_again_and_its_odd_lines_are_skipped() {
    in_a_network(|| {
        let (first, second) = (Dns::start(), Dns::start_at(Ipv4Addr::new(127, 0, 0, 3)));
        first.set("fleet.test", &[ip(2)]);
        second.set("fleet.test", &[ip(4)]);
        let backends = [2, 4].map(|last| echo_at(ip(last)));
        let toml = file(&["fleet.test:8220"], "least_connections");
        let portway = first.portway(&toml);
        drop(client(&portway, 1));
        assert_eq!(accepted(&backends), [1, 0]);
        assert!(resolved(&portway) > 0);
        fs::write(first.resolv_conf(), odd(ip(3))).unwrap();
        // The old server is gone with the file that named it.
        drop(first);
        // A new endpoint of the name has the resolver asked at once.
        let other = route("other", SocketAddr::new(ip(9), PORT), "");
        portway.reload_with(&(toml + &other.replace("127.0.0.9", "fleet.test")));
        within(PATIENCE, "the answer of the new server is in use", || {
            drop(client(&portway, 1));
            (backends[1].accepted() > 0).then_some(())
        });
    });
}
