//! Names of endpoints, with a DNS server in a network of the test's own.

mod dns;
mod families;
mod resolv_conf;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::far::shell;
use super::fixture::{
    PATIENCE, PORTWAY, Portway, alike, config, hello, message, pause, route, within,
};
use super::namespace::{IPV6, granted_by, in_a_network};
use super::peers::{ALERT_80, Backend, End, read_to_end};
use dns::Dns;

const PORT: u16 = 8220;

/// An address of this network.
const fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

fn echo_at(ip: IpAddr) -> Backend {
    Backend::echo_at(SocketAddr::new(ip, PORT))
}

/// A routes.toml whose backend `fleet` has these endpoints.
fn file(endpoints: &[&str], balance: &str) -> String {
    let backend = format!("balance = \"{balance}\"");
    config(&[], "", &backend).replace("endpoints = []", &format!("endpoints = {endpoints:?}"))
}

/// A client with an address of its own, whose hello a backend has sent back.
fn client(portway: &Portway, number: u8) -> TcpStream {
    let mut client = begin(portway, number);
    is_echoed(&mut client);
    client
}

/// A client with an address of its own that has sent its hello.
fn begin(portway: &Portway, number: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&source(number).into()).unwrap();
    socket.connect(&portway.address("agents").into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&hello()).unwrap();
    client
}

const fn source(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, number)), 0)
}

fn is_echoed(client: &mut TcpStream) {
    let mut echoed = hello();
    client.read_exact(&mut echoed).unwrap();
    assert!(alike(&echoed, &hello()));
}

fn clients(portway: &Portway, count: u8) -> Vec<TcpStream> {
    (1..=count).map(|number| client(portway, number)).collect()
}

fn accepted(backends: &[Backend]) -> Vec<usize> {
    backends.iter().map(Backend::accepted).collect()
}

/// The one attempt that a client's line in the log has, and the outcome.
fn attempt(portway: &Portway, number: u8) -> (Value, Value) {
    let mut client = begin(portway, number);
    let address = client.local_addr().unwrap();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    let line = portway.line_of(address);
    let attempts = line["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{line}");
    (attempts[0].clone(), line["outcome"].clone())
}

/// The addresses of an endpoint: healthy, standby, failed.
fn states(portway: &Portway, endpoint: &str) -> [u64; 3] {
    let metrics = portway.metrics();
    ["healthy", "standby", "failed"].map(|state| {
        let labels = format!("backend=\"fleet\",endpoint=\"{endpoint}\",state=\"{state}\"");
        metrics.count(&format!("portway_endpoint_addresses{{{labels}}}"))
    })
}

/// The answer of `portway explain` for the name in the hello of these tests, as JSON.
fn explain(portway: &Portway) -> Value {
    let output = explained(portway, &["--output", "json"]);
    serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}"))
}

/// The same for people, or as the arguments say.
fn explained(portway: &Portway, arguments: &[&str]) -> String {
    within(PATIENCE, "it has the control socket", || {
        (portway.count("portway_control_socket_available") == 1).then_some(())
    });
    let mut command = Command::new(PORTWAY);
    command.args(["explain", "fleet.example", "--listener", "agents"]);
    command.args(arguments).arg("--config").arg(portway.file());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn connections_spread_over_the_addresses_of_a_name() {
    in_a_network(|| {
        let dns = Dns::start();
        dns.set("fleet.test", &[2, 3, 4, 5].map(ip));
        for balance in ["least_connections", "round_robin", "random"] {
            let backends = [2, 3, 4, 5].map(|last| echo_at(ip(last)));
            let portway = dns.portway(&file(&["fleet.test:8220"], balance));
            let portway = portway.until_known(4);
            assert_eq!(states(&portway, "fleet.test:8220"), [4, 0, 0]);
            let clients = clients(&portway, 80);
            let accepted = accepted(&backends);
            // By chance it is 20 with a standard deviation of 4.
            let most = if balance == "random" { 19 } else { 0 };
            let even = accepted.iter().all(|count| count.abs_diff(20) <= most);
            assert!(even, "{balance}: {accepted:?} of {}", clients.len());
        }
    });
}

/// The rule of docs/source-hash.md, a second time.
fn weight(client: IpAddr, name: &str) -> u64 {
    let IpAddr::V4(client) = client else {
        panic!("{client}")
    };
    let input = client.to_ipv6_mapped().octets().into_iter();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in input.chain(name.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

#[test]
fn source_hash_chooses_the_endpoint_as_written_and_then_its_address() {
    in_a_network(|| {
        let dns = Dns::start();
        let names = ["one.test:8220", "two.test:8220"];
        let addresses = [[ip(2), ip(3)], [ip(4), ip(5)]];
        dns.set("one.test", &addresses[0]);
        dns.set("two.test", &addresses[1]);
        let backends = [2, 3, 4, 5].map(|last| echo_at(ip(last)));
        let portway = dns.portway(&file(&names, "source_hash"));
        let portway = portway.until_known(4);
        let mut expected = [0; 4];
        for number in 1..=80 {
            let from = source(number).ip();
            let endpoint = usize::from(weight(from, names[1]) > weight(from, names[0]));
            let [one, other] =
                addresses[endpoint].map(|ip| weight(from, &SocketAddr::new(ip, PORT).to_string()));
            expected[2 * endpoint + usize::from(other > one)] += 1;
            let client = client(&portway, number);
            let address = client.local_addr().unwrap();
            drop(client);
            assert_eq!(portway.line_of(address)["endpoint"], names[endpoint]);
            assert_eq!(accepted(&backends), expected);
        }
        assert!(expected.iter().all(|count| *count > 0), "{expected:?}");
    });
}

#[test]
fn an_address_that_joins_takes_connections_and_one_that_leaves_keeps_its_open_ones() {
    in_a_network(|| {
        let dns = Dns::start();
        dns.set("fleet.test", &[ip(2), ip(3)]);
        let backends = [2, 3, 4, 5].map(|last| echo_at(ip(last)));
        let toml = file(&["fleet.test:8220"], "least_connections");
        let portway = dns.portway(&toml).until_known(2);
        let mut before = clients(&portway, 6);
        assert_eq!(accepted(&backends), [3, 3, 0, 0]);

        dns.set("fleet.test", &[3, 4, 5].map(ip));
        // A new endpoint of the name has the resolver asked at once.
        let other = route("other", SocketAddr::new(ip(9), PORT), "");
        portway.reload_with(&(toml + &other.replace("127.0.0.9", "fleet.test")));
        within(PATIENCE, "the answer is in use", || {
            (states(&portway, "fleet.test:8220") == [3, 0, 0]).then_some(())
        });
        // Those that join come up to what the one that stays has, and then all have the same.
        let after = clients(&portway, 6);
        assert_eq!(accepted(&backends), [3, 3, 3, 3]);
        let later = clients(&portway, 3);
        assert_eq!(accepted(&backends), [3, 4, 4, 4]);

        for client in &mut before {
            client.write_all(&hello()).unwrap();
            is_echoed(client);
        }
        let series = "portway_endpoint_connections{backend=\"fleet\",endpoint=\"fleet.test:8220\"}";
        let open = before.len() + after.len() + later.len();
        assert_eq!(portway.count(series), open as u64);
    });
}

#[test]
fn an_address_that_is_dead_fails_no_client_and_is_used_again_when_it_is_up() {
    in_a_network(|| {
        let dns = Dns::start();
        dns.set("fleet.test", &[2, 3, 4, 5].map(ip));
        let backends = [2, 3, 4].map(|last| echo_at(ip(last)));
        let portway = dns.portway(&file(&["fleet.test:8220"], "least_connections"));
        let portway = portway.until_known(4);
        let clients = clients(&portway, 60);
        let counts = accepted(&backends);
        assert_eq!(counts, [20; 3], "{} clients", clients.len());
        assert_eq!(states(&portway, "fleet.test:8220"), [3, 0, 1]);
        let told = explained(&portway, &[]);
        for line in [
            "endpoint     fleet.test:8220\n",
            "  127.0.0.2:8220: healthy, 20 connections\n",
            "  127.0.0.5:8220: failed, 0 connections\n",
        ] {
            assert!(told.contains(line), "{told}");
        }
        let known = explain(&portway);
        let address = |address: &str| {
            let mut all = known["addresses"].as_array().unwrap().iter();
            all.find(|known| known["address"] == address).unwrap()
        };
        let failed = json!({
            "endpoint": "fleet.test:8220", "address": "127.0.0.5:8220", "state": "failed", "connections": 0
        });
        assert_eq!(address("127.0.0.5:8220"), &failed);
        assert_eq!(address("127.0.0.4:8220")["connections"], 20);
        assert_eq!(known["addresses"].as_array().unwrap().len(), 4);
        let failures = portway.metrics();
        let failures = failures.sum("portway_dial_failures_total", &[("reason", "refused")]);
        assert!((1.0..10.0).contains(&failures), "{failures} attempts");

        let up = echo_at(ip(5));
        // After its penalty one client tries it.
        within(PATIENCE, "it is used again", || {
            pause(Duration::from_millis(50));
            drop(client(&portway, 1));
            (states(&portway, "fleet.test:8220") == [4, 0, 0]).then_some(())
        });
        let before = up.accepted();
        let more: Vec<_> = (0..10).map(|_| client(&portway, 1)).collect();
        assert_eq!(up.accepted() - before, more.len(), "it has the fewest");
    });
}

#[test]
fn a_server_of_both_families_counts_once_and_is_reached_by_either() {
    in_a_network(|| {
        let ipv6: IpAddr = "fd00::2".parse().unwrap();
        let added = shell("ip -6 address add fd00::2/128 dev lo nodad");
        if granted_by(IPV6, added).is_none() {
            return;
        }
        let dns = Dns::start();
        dns.set("both.test", &[ip(2), ipv6]);
        let (mut families, single) = ([ip(2), ipv6].map(|ip| Some(echo_at(ip))), echo_at(ip(3)));
        let portway = dns.portway(&file(
            &["both.test:8220", "127.0.0.3:8220"],
            "least_connections",
        ));
        let portway = portway.until_known(3);
        assert_eq!(states(&portway, "both.test:8220"), [1, 1, 0]);
        let held = clients(&portway, 80);
        assert_eq!(single.accepted(), 40, "of {}", held.len());
        let count = |backend: &Option<Backend>| backend.as_ref().map_or(0, Backend::accepted);
        let counts = families.each_ref().map(count);
        assert!(counts.contains(&40) && counts.contains(&0), "{counts:?}");

        // The other family is used as soon as the first one cannot be reached.
        let in_use = usize::from(counts[1] == 40);
        drop(families[in_use].take());
        let more = clients(&portway, 40);
        assert_eq!(states(&portway, "both.test:8220"), [1, 0, 1]);
        let counts = families.each_ref().map(count);
        assert!(counts[1 - in_use] > 0, "{counts:?} of {}", more.len());
    });
}

#[test]
fn a_name_that_does_not_resolve_says_so_until_it_does() {
    in_a_network(|| {
        let dns = Dns::start();
        let portway = dns.portway(&file(&["fleet.test:8220"], "least_connections"));
        let (attempt, outcome) = attempt(&portway, 1);
        assert_eq!(outcome, "backend_unresolved");
        assert_eq!(attempt["endpoint"], "fleet.test:8220", "{attempt}");
        assert_eq!(attempt["reason"], "unresolved", "{attempt}");
        let error = attempt["error"].as_str().unwrap();
        let warns = |line: &Value| {
            let fields = &line["fields"];
            message(line).contains("has no address") && fields["error"] == error
        };
        portway.program.wait(PATIENCE, warns);
        let told = explained(&portway, &[]);
        assert!(told.contains(&format!("  unresolved: {error}\n")), "{told}");
        let known = explain(&portway);
        assert_eq!(known["addresses"], json!([]), "{known}");
        let unresolved = json!([
            { "endpoint": "fleet.test:8220", "reason": "unresolved", "error": error }
        ]);
        assert_eq!(known["unresolved"], unresolved);
        let labels = "backend=\"fleet\",endpoint=\"fleet.test:8220\"";
        let resolved = format!("portway_endpoint_resolved_timestamp_seconds{{{labels}}}");
        let failures = format!("portway_resolve_failures_total{{{labels},reason=\"unresolved\"}}");
        let metrics = portway.metrics();
        assert!(metrics.count(&failures) > 0 && metrics.count(&resolved) == 0);
        assert_eq!(states(&portway, "fleet.test:8220"), [0, 0, 0]);

        let _backend = echo_at(ip(2));
        dns.set("fleet.test", &[ip(2)]);
        within(PATIENCE, "the name resolves", || {
            (portway.count(&resolved) > 0).then_some(())
        });
        drop(client(&portway, 1));
    });
}

#[test]
fn an_endpoint_that_leads_back_or_nowhere_says_so_in_the_line_of_its_client() {
    in_a_network(|| {
        let dns = Dns::start();
        let bind = |toml: String| toml.replace("[\"127.0.0.1:0\"]", "[\"127.0.0.1:8220\"]");
        for (address, reason, ends) in [
            ("127.0.0.1", "loop", "backend_unresolved"),
            ("0.0.0.0", "forbidden", "forbidden_address"),
        ] {
            dns.set("fleet.test", &[address.parse().unwrap()]);
            let portway = dns.portway(&bind(file(&["fleet.test:8220"], "random")));
            within(PATIENCE, "the answer came", || {
                let labels = [("reason", reason)];
                let failures = portway.metrics();
                let failures = failures.sum("portway_resolve_failures_total", &labels);
                (failures > 0.5).then_some(())
            });
            let (attempt, outcome) = attempt(&portway, 1);
            assert_eq!(outcome, ends);
            assert_eq!(attempt["endpoint"], "fleet.test:8220", "{attempt}");
            assert_eq!(attempt["reason"], reason, "{attempt}");
            assert_eq!(attempt["address"], format!("{address}:8220"), "{attempt}");
            let unresolved = &explain(&portway)["unresolved"][0];
            assert_eq!(unresolved["reason"], reason, "{unresolved}");
            assert_eq!(unresolved["address"], format!("{address}:8220"));
            let told = explained(&portway, &[]);
            let line = format!("  {reason}: {address}:8220 is ");
            assert!(told.contains(&line), "{told}");
        }
    });
}
