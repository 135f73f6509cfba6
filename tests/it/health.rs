//! Checks of endpoints: what they find, what follows for clients, and when none is made.

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::doctor::servers::{self, Tls};
use super::far::shell;
use super::fixture::{NAME, PATIENCE, Portway, config, hello, message, pause, route, within};
use super::namespace::{granted, in_a_network};
use super::peers::{Backend, Refusing, read_to_end};
use super::resolver::server::Server;

const UNHEALTHY: &str = "an address of the endpoint is unhealthy";
const HEALTHY: &str = "an address of the endpoint is healthy again";
/// protocol_version: the answer of a server that has only TLS 1.3.
const ALERT_70: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 70];

/// Rules that lead to a verdict soon.
fn health(check: &str) -> String {
    format!("health = {{ check = \"{check}\", interval = \"1s\", timeout = \"1s\" }}")
}

/// The same for a test with a server that must not fail a check, however slow the machine is.
fn unhurried(check: &str) -> String {
    health(check).replace("\"1s\"", "\"4s\"")
}

/// Waits for a line about this address.
fn told(portway: &Portway, what: &str, address: SocketAddr) -> Value {
    let address = address.to_string();
    portway.program.wait(PATIENCE, |line| {
        message(line).starts_with(what) && line["fields"]["address"] == address.as_str()
    })
}

fn is_healthy(portway: &Portway, endpoint: impl Display) -> u64 {
    let labels = format!("{{backend=\"fleet\",endpoint=\"{endpoint}\"}}");
    portway.count(&format!("portway_endpoint_health{labels}"))
}

fn checks(portway: &Portway, backend: &str) -> f64 {
    let labels = [("backend", backend)];
    portway
        .metrics()
        .sum("portway_health_checks_total", &labels)
}

/// A server that takes every connection, and answers as long as it may.
fn answering(may_answer: &Arc<AtomicBool>) -> Backend {
    let may_answer = Arc::clone(may_answer);
    Backend::start(move |mut stream| {
        if may_answer.load(Ordering::SeqCst) {
            stream.write_all(&ALERT_70).unwrap();
        }
        read_to_end(&mut stream);
    })
}

/// The beginning of the answer of a server of TLS 1.3.
fn server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, a suite, no compression, and the extension supported_versions.
    body.extend([0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
    let length = u8::try_from(body.len()).unwrap();
    [vec![22, 3, 3, 0, length + 4, 2, 0, 0, length], body].concat()
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_client_until_it_is_healthy_again() {
    let may_answer = Arc::new(AtomicBool::new(false));
    let hanging = answering(&may_answer);
    let well = Tls::new(&[NAME]).start();
    let (hangs, works) = (hanging.address(), well.address());
    let keys = format!("balance = \"round_robin\"\n{}", unhurried("tls"));
    let portway = Portway::start(&config(&[hangs, works], "", &keys));
    let line = told(&portway, UNHEALTHY, hangs);
    let fields = &line["fields"];
    assert_eq!(fields["backend"], "fleet", "{line}");
    assert_eq!(fields["endpoint"], hangs.to_string(), "{line}");
    assert_eq!(
        fields["reason"], "the server stays silent for 4 s",
        "{line}"
    );
    assert_eq!([hangs, works].map(|it| is_healthy(&portway, it)), [0, 1]);
    let failed = format!(
        "portway_endpoint_addresses{{backend=\"fleet\",endpoint=\"{hangs}\",state=\"failed\"}}"
    );
    assert_eq!(portway.count(&failed), 1);
    for _ in 0..6 {
        let client = portway.client();
        let local = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(local);
        assert_eq!(line["endpoint"], works.to_string(), "{line}");
    }
    may_answer.store(true, Ordering::SeqCst);
    told(&portway, HEALTHY, hangs);
    assert_eq!(is_healthy(&portway, hangs), 1);
    assert_eq!(portway.count(&failed), 0);
}

#[test]
fn each_way_to_fail_a_tls_check_is_told_in_words_and_clients_are_served_if_all_fail() {
    let refusing = Refusing::new();
    let holding = Backend::holding();
    let (http, ssh) = (servers::http(), servers::ssh());
    let (closing, resetting) = (servers::closing(), servers::resetting());
    let unknown = Backend::start(|mut stream| {
        stream.write_all(&[0x15, 3, 3, 0, 2, 2, 112]).unwrap();
        read_to_end(&mut stream);
    });
    let words = [
        (refusing.address(), "the server refuses the connection"),
        (holding.address(), "the server stays silent for 1 s"),
        (
            http.address(),
            "the server speaks plain HTTP: \"HTTP/1.0 400 Bad Request\"",
        ),
        (
            ssh.address(),
            "the server speaks SSH: \"SSH-2.0-OpenSSH_9.2p1\"",
        ),
        (closing.address(), "the server closes the connection"),
        (resetting.address(), "the server resets the connection"),
        (
            unknown.address(),
            "the server sends alert 112 (unrecognized_name)",
        ),
    ];
    let endpoints = words.map(|(address, _)| address);
    let portway = Portway::start(&config(&endpoints, "", &health("tls")));
    for (address, words) in words {
        let line = told(&portway, UNHEALTHY, address);
        assert_eq!(line["fields"]["reason"], words, "{line}");
    }
    let client = portway.client();
    let local = client.local_addr().unwrap();
    drop(client);
    assert!(portway.line_of(local)["endpoint"].is_string());
}

#[test]
fn a_tcp_check_asks_for_a_connection_alone() {
    let holding = Backend::holding();
    let refusing = Refusing::new();
    let endpoints = [holding.address(), refusing.address()];
    let portway = Portway::start(&config(&endpoints, "", &health("tcp")));
    told(&portway, UNHEALTHY, refusing.address());
    assert_eq!(endpoints.map(|it| is_healthy(&portway, it)), [1, 0]);
    assert!(holding.accepted() > 0);
}

#[test]
fn addresses_of_a_family_that_the_machine_does_not_have_do_not_fail_beside_others() {
    in_a_network(|| {
        let dns = Server::start();
        let backend = Backend::holding();
        let port = backend.address().port();
        dns.lead("es.test", &["127.0.0.1", "2001:db8::1"]);
        let keys = format!("{}\n{}", unhurried("tcp"), dns.resolver());
        let endpoint = format!("endpoints = [\"es.test:{port}\"]");
        let toml = config(&[], "", &keys).replace("endpoints = []", &endpoint);
        let alone: SocketAddr = format!("[2001:db8::2]:{port}").parse().unwrap();
        let portway = Portway::start(&(toml + &route("alone", alone, &health("tcp"))));
        let line = told(&portway, UNHEALTHY, alone);
        let reason = line["fields"]["reason"].as_str().unwrap();
        // The second one comes from a machine whose kernel has no IPv6.
        let words = ["unreachable", "Address family not supported"];
        assert!(words.iter().any(|it| reason.contains(it)), "{line}");
        let results = |result| results(&portway, &format!("es.test:{port}"), result);
        within(PATIENCE, "checks of both families", || {
            (results("passed") > 3 && results("unknown") > 3).then_some(())
        });
        assert_eq!(results("failed"), 0);
        let lines = portway.program.all();
        let is_of_name = |line: &&Value| line["fields"]["endpoint"] == format!("es.test:{port}");
        let is_unhealthy = |line: &Value| message(line).starts_with(UNHEALTHY);
        assert!(!lines.iter().filter(is_of_name).any(is_unhealthy));
    });
}

#[test]
fn addresses_to_which_the_routes_of_the_machine_forbid_the_way_do_not_fail_beside_others() {
    const ROUTES: [(&str, &str); 3] = [
        ("unreachable", "2001:db8:1::1"),
        ("prohibit", "2001:db8:2::1"),
        ("blackhole", "2001:db8:3::1"),
    ];
    in_a_network(|| {
        for (kind, address) in ROUTES {
            let add = format!("ip -6 route add {kind} {address}");
            if granted(shell(&add)).is_none() {
                return;
            }
        }
        let dns = Server::start();
        let backend = Backend::holding();
        let port = backend.address().port();
        let endpoints = ROUTES.map(|(kind, address)| {
            dns.lead(&format!("{kind}.test"), &["127.0.0.1", address]);
            format!("{kind}.test:{port}")
        });
        let keys = format!("{}\n{}", unhurried("tcp"), dns.resolver());
        let written = format!("endpoints = {endpoints:?}");
        let toml = config(&[], "", &keys).replace("endpoints = []", &written);
        let portway = Portway::start(&toml);
        for endpoint in &endpoints {
            within(PATIENCE, "a check that finds no way", || {
                (results(&portway, endpoint, "unknown") > 0).then_some(())
            });
            assert_eq!(results(&portway, endpoint, "failed"), 0, "{endpoint}");
        }
    });
}

/// The checks of an endpoint of the backend `fleet` with this result.
fn results(portway: &Portway, endpoint: &str, result: &str) -> u64 {
    let labels = format!("backend=\"fleet\",endpoint=\"{endpoint}\",result=\"{result}\"");
    portway.count(&format!("portway_health_checks_total{{{labels}}}"))
}

#[test]
fn an_endpoint_is_as_healthy_as_its_addresses_that_the_machine_has_a_way_to() {
    in_a_network(|| {
        let dns = Server::start();
        let backend = Backend::holding();
        let (address, port) = (backend.address(), backend.address().port());
        let endpoint = format!("es.test:{port}");
        dns.lead("es.test", &["127.0.0.1", "2001:db8::1"]);
        let keys = format!("{}\n{}", unhurried("tcp"), dns.resolver());
        let toml = config(&[], "", &keys);
        let toml = toml.replace("endpoints = []", &format!("endpoints = [\"{endpoint}\"]"));
        let portway = Portway::start(&toml);
        within(PATIENCE, "checks of both families", || {
            let both = ["passed", "unknown"].map(|it| results(&portway, &endpoint, it));
            both.iter().all(|count| *count > 0).then_some(())
        });
        assert_eq!(is_healthy(&portway, &endpoint), 1);
        drop(backend);
        told(&portway, UNHEALTHY, address);
        assert_eq!(is_healthy(&portway, &endpoint), 0);
        let state = |state| {
            let labels = format!("backend=\"fleet\",endpoint=\"{endpoint}\",state=\"{state}\"");
            portway.count(&format!("portway_endpoint_addresses{{{labels}}}"))
        };
        assert_eq!(["healthy", "standby", "failed"].map(state), [0, 0, 2]);
        let _backend = Backend::echo_at(address);
        told(&portway, HEALTHY, address);
        assert_eq!(["healthy", "standby", "failed"].map(state), [1, 1, 0]);
        let lines = portway.program.all();
        let of_other = |line: &&Value| {
            let address = line["fields"]["address"].as_str();
            address.is_some_and(|address| address.contains("2001:db8::1"))
        };
        assert_eq!(lines.iter().find(of_other), None);
    });
}

#[test]
fn a_machine_with_ipv6_alone_uses_it_from_the_first_client_on_and_warns_of_nothing() {
    in_a_network(|| {
        let add = "ip -6 address add 2001:db8::2/128 dev lo nodad";
        if granted(shell(add)).is_none() {
            return;
        }
        let dns = Server::start();
        let backend = Backend::echo_at("[2001:db8::2]:0".parse().unwrap());
        let endpoint = format!("es.test:{}", backend.address().port());
        // Nothing leads to the first one here.
        dns.lead("es.test", &["192.0.2.1", "2001:db8::2"]);
        let keys = format!("{}\n{}", unhurried("tcp"), dns.resolver());
        let toml = config(&[], "", &keys);
        let toml = toml.replace("endpoints = []", &format!("endpoints = [\"{endpoint}\"]"));
        let portway = Portway::start(&toml);
        within(PATIENCE, "a check of IPv4", || {
            (results(&portway, &endpoint, "unknown") > 0).then_some(())
        });
        let client = portway.relayed();
        let local = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(local);
        assert_eq!(line.get("attempts"), None, "{line}");
        within(PATIENCE, "more checks of IPv4", || {
            (results(&portway, &endpoint, "unknown") > 3).then_some(())
        });
        assert_eq!(results(&portway, &endpoint, "failed"), 0);
        assert_eq!(is_healthy(&portway, &endpoint), 1);
        let lines = portway.program.all();
        let warns = |line: &&Value| line["level"] == "WARN" && line["fields"]["backend"] == "fleet";
        assert_eq!(lines.iter().find(warns), None);
    });
}

#[test]
fn servers_that_ask_for_a_certificate_or_have_only_tls_13_are_healthy_and_each_check_ends_with_a_fin()
 {
    let (mutual, ends) = Tls::new(&[NAME]).mutual().noting_ends();
    let newest = Tls::new(&[NAME]).tls13().start();
    let endpoints = [mutual.address(), newest.address()];
    let portway = Portway::start(&config(&endpoints, "", &unhurried("tls")));
    let results = |result| endpoints.map(|it| results(&portway, &it.to_string(), result));
    within(PATIENCE, "checks of both pass", || {
        results("passed")
            .into_iter()
            .all(|count| count >= 3)
            .then_some(())
    });
    assert_eq!(results("failed"), [0, 0]);
    assert_eq!(endpoints.map(|it| is_healthy(&portway, it)), [1, 1]);
    assert!(ends(3).iter().all(|end| *end == "fin"));
}

#[test]
fn the_checks_of_a_server_of_tls_13_only_are_no_failed_handshakes_at_a_portway_on_the_way() {
    let server = Tls::new(&[NAME]).tls13().start();
    let inner = Portway::start(&config(&[server.address()], "", ""));
    let name = format!("server_name = \"{NAME}\", interval");
    let health = unhurried("tls").replace("interval", &name);
    let endpoint = inner.address("agents");
    let edge = Portway::start(&config(&[endpoint], "", &health));
    within(PATIENCE, "checks pass", || {
        (results(&edge, &endpoint.to_string(), "passed") >= 3).then_some(())
    });
    let handshakes = |result| {
        let labels = format!("{{backend=\"fleet\",result=\"{result}\"}}");
        inner.count(&format!("portway_handshakes_total{labels}"))
    };
    within(PATIENCE, "each of them has ended", || {
        (handshakes("failed") + handshakes("abandoned") >= 3).then_some(())
    });
    // Only the first one asks for the certificate.
    assert_eq!(handshakes("failed"), 1);
}

#[test]
fn no_check_is_made_while_clients_reach_the_endpoint() {
    const INTERVAL: Duration = Duration::from_secs(5);
    let (tcp, tls) = (Backend::echo(), Backend::echo());
    let health = |check| {
        format!(
            "health = {{ check = \"{check}\", interval = \"{}s\" }}",
            INTERVAL.as_secs()
        )
    };
    let toml = config(&[tcp.address()], "", &health("tcp"));
    let toml = toml + &route("quiet", tls.address(), &health("tls"));
    let portway = Portway::start(&toml);
    // The first check may come before the first client. That of the other backend has no client.
    within(PATIENCE, "both are checked", || {
        (checks(&portway, "fleet") > 0.0 && checks(&portway, "quiet") > 0.0).then_some(())
    });
    let before = checks(&portway, "fleet");
    let begin = Instant::now();
    while begin.elapsed() < 3 * INTERVAL {
        drop(portway.relayed());
        pause(Duration::from_millis(50));
    }
    assert!((checks(&portway, "fleet") - before).abs() < 0.5);
    assert!(
        checks(&portway, "quiet") > 1.5,
        "without clients checks go on"
    );
    within(
        PATIENCE,
        "checks begin again behind the last client",
        || (checks(&portway, "fleet") > before).then_some(()),
    );
}

#[test]
fn no_tls_check_is_made_while_clients_get_answers() {
    const INTERVAL: Duration = Duration::from_secs(5);
    let may_answer = Arc::new(AtomicBool::new(true));
    let server = Backend::start(|mut stream| {
        servers::first_bytes(&mut stream);
        stream.write_all(&server_hello()).unwrap();
        read_to_end(&mut stream);
    });
    let keys = format!(
        "health = {{ check = \"tls\", interval = \"{}s\" }}",
        INTERVAL.as_secs()
    );
    // Clients are answered by an alert, or not at all: neither is a handshake.
    let other = answering(&may_answer);
    let toml = config(&[server.address()], "", &keys);
    let toml = toml + &route("other", other.address(), &keys);
    let portway = Portway::start(&toml);
    within(PATIENCE, "both are checked", || {
        (checks(&portway, "fleet") > 0.0 && checks(&portway, "other") > 0.0).then_some(())
    });
    let before = checks(&portway, "fleet");
    let begin = Instant::now();
    while begin.elapsed() < 3 * INTERVAL {
        for name in [NAME, "other.example"] {
            let hello = super::hello::Builder::new(name).build();
            let mut client = super::peers::connect(portway.address("agents"));
            client.write_all(&hello).unwrap();
            client.peek(&mut [0]).unwrap();
        }
        pause(Duration::from_millis(50));
    }
    assert!((checks(&portway, "fleet") - before).abs() < 0.5);
    assert!(checks(&portway, "other") > 1.5, "an alert proves nothing");
}

#[test]
fn a_reload_keeps_what_checks_have_found_and_one_without_checks_forgets_it() {
    let may_answer = Arc::new(AtomicBool::new(false));
    let hanging = answering(&may_answer);
    let well = answering(&Arc::new(AtomicBool::new(true)));
    let hangs = hanging.address();
    let toml = |keys: &str| config(&[hangs, well.address()], "", keys);
    let portway = Portway::start(&toml(&unhurried("tls")));
    told(&portway, UNHEALTHY, hangs);
    portway.reload_with(&toml(&(unhurried("tls") + "\nidle_timeout = \"2h\"")));
    assert_eq!(is_healthy(&portway, hangs), 0);
    let slower = unhurried("tls").replace("\"4s\"", "\"5s\"");
    portway.reload_with(&toml(&slower));
    assert_eq!(is_healthy(&portway, hangs), 0, "also by other rules");
    let lines = portway.program.all();
    let unhealthy = lines
        .iter()
        .filter(|line| message(line).starts_with(UNHEALTHY));
    assert_eq!(unhealthy.count(), 1);

    portway.reload_with(&toml(""));
    let healthy = format!(
        "portway_endpoint_addresses{{backend=\"fleet\",endpoint=\"{hangs}\",state=\"healthy\"}}"
    );
    within(PATIENCE, "nothing is known of it", || {
        (portway.count(&healthy) == 1).then_some(())
    });
    let page = portway.metrics().page;
    assert!(!page.contains("portway_endpoint_health{"), "{page}");
    assert!(!page.contains("portway_health_checks_total{"), "{page}");
}

#[test]
fn an_endpoint_that_a_reload_removes_is_neither_healthy_nor_unhealthy_while_it_has_connections() {
    let (removed, next) = (Backend::echo(), Backend::echo());
    let toml = |endpoint| config(&[endpoint], "", &health("tcp"));
    let portway = Portway::start(&toml(removed.address()));
    let _client = portway.relayed();
    let page = |series: &str| {
        let labels = format!("backend=\"fleet\",endpoint=\"{}\"", removed.address());
        let series = format!("\n{series}{{{labels}");
        portway.metrics().page.contains(&series)
    };
    assert!(page("portway_endpoint_health"));
    portway.reload_with(&toml(next.address()));
    assert_eq!(is_healthy(&portway, next.address()), 1);
    assert!(!page("portway_endpoint_health"));
    assert!(page("portway_health_checks_total"));
    assert!(page("portway_endpoint_connections"));
}

#[test]
fn a_portway_that_drains_makes_no_checks_for_clients_that_do_not_come() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", &health("tcp")));
    within(PATIENCE, "checks", || {
        (backend.accepted() > 1).then_some(())
    });
    let mut client = portway.client();
    // The process lives as long as this connection.
    client.write_all(&hello()).unwrap();
    client.read_exact(&mut hello()).unwrap();
    portway.signal(Signal::TERM);
    let address = portway.address("agents");
    within(PATIENCE, "closed listeners", || {
        TcpStream::connect(address).err()
    });
    // One check may be under way.
    pause(Duration::from_secs(1));
    let accepted = backend.accepted();
    pause(Duration::from_secs(4));
    assert_eq!(backend.accepted(), accepted);
    client.write_all(b"still here").unwrap();
    client.read_exact(&mut [0; 10]).unwrap();
}
