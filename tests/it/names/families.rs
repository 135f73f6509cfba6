//! A name with an address of each family: the one that the resolver prefers may not answer (RFC 8305).

use serde_json::Value;

use super::*;
use crate::it::peers::Unanswering;

const ENDPOINT: &str = "both.test:8220";
const OUTRUN: &str = "portway_dials_outrun_total";

/// Of addresses that are not local to the host, the resolver prefers IPv6 (RFC 6724 section 2.1).
const V4: &str = "192.0.2.2";
const V6: &str = "2001:db8::2";

/// Runs a test in a network where `both.test` has an address of each family.
fn with_both_families(test: impl FnOnce(&Dns) + Send) {
    in_a_network(|| {
        let add =
            format!("ip address add {V4}/32 dev lo && ip -6 address add {V6}/128 dev lo nodad");
        if granted_by(IPV6, shell(&add)).is_none() {
            return;
        }
        let dns = Dns::start();
        dns.set("both.test", &[V4, V6].map(|ip| ip.parse().unwrap()));
        test(&dns);
    });
}

fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), PORT)
}

fn start(dns: &Dns, keys: &str) -> Portway {
    let toml = config(&[], "", keys);
    let toml = toml.replace("endpoints = []", &format!("endpoints = [\"{ENDPOINT}\"]"));
    let portway = dns.portway(&toml).until_known(2);
    let known = explain(&portway);
    let first = &known["addresses"][0]["address"];
    assert_eq!(first, &at(V6).to_string(), "IPv6 comes first: {known}");
    portway
}

/// The line of a client that was served.
fn served(portway: &Portway) -> Value {
    let client = portway.relayed();
    let address = client.local_addr().unwrap();
    drop(client);
    portway.line_of(address)
}

fn sum(portway: &Portway, metric: &str) -> u64 {
    // A count is exact.
    format!("{}", portway.metrics().sum(metric, &[]))
        .parse()
        .unwrap()
}

#[test]
fn a_client_is_served_over_ipv4_soon_where_ipv6_does_not_answer() {
    with_both_families(|dns| {
        let (_silent, backend) = (Unanswering::at(at(V6)), Backend::echo_at(at(V4)));
        // Only the race can help the client.
        let portway = start(dns, "connect_timeout = \"1h\"\ndial_timeout = \"1h\"");
        let line = served(&portway);
        assert!(line["dial_ms"].as_f64().unwrap() >= 250.0, "{line}");
        assert_eq!(line.get("attempts"), None, "{line}");
        let local = line["backend_local"].as_str().unwrap();
        assert!(local.starts_with("192.0.2.2:"), "{line}");
        assert_eq!(sum(&portway, OUTRUN), 1);
        assert_eq!(sum(&portway, "portway_dial_failures_total"), 0);
        assert_eq!(sum(&portway, "portway_endpoint_connections"), 0);
        assert_eq!(states(&portway, ENDPOINT), [1, 1, 0]);
        portway.program.wait(PATIENCE, |line| {
            message(line).contains("one of the other family")
                && line["fields"]["endpoint"] == ENDPOINT
        });
        // The others begin with the family that was faster.
        portway.relays_at_once(20);
        assert_eq!((sum(&portway, OUTRUN), backend.accepted()), (1, 21));
    });
}

#[test]
fn a_client_is_served_over_ipv4_at_once_where_ipv6_refuses() {
    with_both_families(|dns| {
        let _backend = Backend::echo_at(at(V4));
        let portway = start(dns, "connect_timeout = \"1h\"\ndial_timeout = \"1h\"");
        let line = served(&portway);
        let attempts = line["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{line}");
        assert_eq!(attempts[0]["address"], at(V6).to_string(), "{line}");
        assert_eq!(attempts[0]["reason"], "refused", "{line}");
        assert_eq!(sum(&portway, OUTRUN), 0, "there was no race");
        assert_eq!(states(&portway, ENDPOINT), [1, 0, 1]);
    });
}

#[test]
fn a_server_that_dies_while_its_other_family_refuses_is_noticed_and_passed_over() {
    with_both_families(|dns| {
        // Nothing listens at its IPv4 address.
        let (_silent, other) = (Unanswering::at(at(V6)), Backend::echo_at(at("127.0.0.3")));
        let keys = "connect_timeout = \"1s\"\nbalance = \"round_robin\"";
        let endpoints = format!("endpoints = [\"{ENDPOINT}\", \"{}\"]", other.address());
        let toml = config(&[], "", keys).replace("endpoints = []", &endpoints);
        let portway = dns.portway(&toml).until_known(3);
        // One of two clients begins with the dead server, and has its addresses tried.
        let lines = [(); 2].map(|()| served(&portway));
        let attempts = lines.iter().filter_map(|line| line["attempts"].as_array());
        let reasons: Vec<_> = attempts.flatten().map(|it| &it["reason"]).collect();
        assert_eq!(reasons, ["refused", "timeout"], "{lines:?}");
        assert_eq!(states(&portway, ENDPOINT), [0, 0, 2]);
        // The next ones do not wait for it.
        portway.relays_at_once(20);
        // On a slow machine one may have been tried again.
        assert!(sum(&portway, "portway_dial_failures_total") >= 2);
        assert_eq!(other.accepted(), 22);
    });
}

#[test]
fn the_family_that_the_resolver_prefers_is_alone_where_it_answers() {
    with_both_families(|dns| {
        let [v4, v6] = [V4, V6].map(|ip| Backend::echo_at(at(ip)));
        let portway = start(dns, "");
        portway.relays_at_once(20);
        assert_eq!((v4.accepted(), v6.accepted()), (0, 20));
        assert_eq!(sum(&portway, OUTRUN), 0);
    });
}

#[test]
fn a_client_of_a_name_whose_families_are_both_silent_is_told_of_both() {
    with_both_families(|dns| {
        let _silent = [V6, V4].map(|ip| Unanswering::at(at(ip)));
        let portway = start(dns, "connect_timeout = \"2s\"\ndial_timeout = \"20s\"");
        let mut client = portway.client();
        let address = client.local_addr().unwrap();
        assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "backend_unavailable", "{line}");
        let attempts = line["attempts"].as_array().unwrap().iter();
        let told: Vec<_> = attempts.map(|it| (&it["address"], &it["reason"])).collect();
        let [v6, v4] = [V6, V4].map(|ip| Value::from(at(ip).to_string()));
        let timeout = Value::from("timeout");
        assert_eq!(told, [(&v6, &timeout), (&v4, &timeout)], "{line}");
        assert_eq!(sum(&portway, OUTRUN), 0);
    });
}

/// A dial that lost gives its turn back, so that the next client of the address gets it at once.
#[test]
fn a_dial_that_was_outrun_leaves_its_turn_to_others() {
    with_both_families(|dns| {
        let silent = Unanswering::at(at(V6));
        let backend = Backend::echo_at(at(V4));
        let limits = "max_dials = 1\nconnect_timeout = \"1h\"\ndial_timeout = \"1h\"";
        let portway = start(dns, limits);
        portway.relays_at_once(8);
        assert!(sum(&portway, OUTRUN) >= 1);
        drop((silent, backend));
        // With IPv4 gone a client dials IPv6 again: nobody has its turn any more.
        let _answers = Backend::echo_at(at(V6));
        drop(portway.relayed());
        assert_eq!(states(&portway, ENDPOINT), [1, 0, 1]);
    });
}

#[test]
fn an_ipv6_address_is_unreachable_on_a_host_where_ipv6_is_turned_off_and_not_without_a_port() {
    in_a_network(|| {
        let off = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
        let turned_off = std::fs::write(off, "1");
        if granted_by(IPV6, turned_off.map_err(|fault| format!("{off}: {fault}"))).is_none() {
            return;
        }
        let endpoint = format!("endpoints = [\"{}\"]", at(V6));
        let portway = Portway::start(&config(&[], "", "").replace("endpoints = []", &endpoint));
        let (attempt, outcome) = attempt(&portway, 1);
        assert_eq!(outcome, "backend_unavailable", "{attempt}");
        assert_eq!(attempt["reason"], "unreachable", "{attempt}");
    });
}
