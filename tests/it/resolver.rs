//! The DNS servers of a backend, with a server that gives every nasty answer (rows f17 to f20).

pub(super) mod server;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use serde_json::Value;

use super::fixture::{PATIENCE, Portway, config, hello, message, route, within};
use super::hello::Builder;
use super::peers::{ALERT_80, Backend, End, connect, free_at, read_to_end};
use server::{Reply, Server};

/// A routes.toml whose backend `fleet` has these endpoints and further keys.
fn file(endpoints: &[String], keys: &str) -> String {
    config(&[], "", keys).replace("endpoints = []", &format!("endpoints = {endpoints:?}"))
}

fn at(host: &str, address: SocketAddr) -> String {
    format!("{host}:{}", address.port())
}

/// The log line of a client of `agents` that is refused with alert 80.
fn refused(portway: &Portway) -> Value {
    let mut client = connect(portway.address("agents"));
    let address = client.local_addr().unwrap();
    client.write_all(&hello()).unwrap();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    portway.line_of(address)
}

/// Look-ups of the backend `fleet` that failed for this reason.
pub(super) fn failures(portway: &Portway, reason: &str) -> f64 {
    let labels = [("backend", "fleet"), ("reason", reason)];
    portway
        .metrics()
        .sum("portway_resolve_failures_total", &labels)
}

/// Waits for one more look-up that fails for this reason.
fn await_failure(portway: &Portway, reason: &str) {
    let before = failures(portway, reason);
    within(PATIENCE, "a look-up fails", || {
        (failures(portway, reason) > before).then_some(())
    });
}

/// The addresses in use of all endpoints.
fn healthy(portway: &Portway) -> f64 {
    portway
        .metrics()
        .sum("portway_endpoint_addresses", &[("state", "healthy")])
}

#[test]
fn f17_the_last_good_addresses_stay_whatever_goes_wrong_with_dns() {
    let (dns, backend) = (Server::start(), Backend::echo());
    dns.lead("es.test", &["127.0.0.1"]);
    let portway = Portway::start(&file(&[at("es.test", backend.address())], &dns.resolver()));
    let portway = portway.until_known(1);
    drop(portway.relayed());
    for (reply, error) in [
        (Reply::Code(ResponseCode::ServFail), "SERVFAIL"),
        (Reply::Code(ResponseCode::NXDomain), "NXDOMAIN"),
        (Reply::Code(ResponseCode::Refused), "REFUSED"),
        (Reply::Silence, "no DNS server answers"),
        (Reply::Addresses(Vec::new(), 60), "no address"),
    ] {
        dns.set("es.test", reply);
        await_failure(&portway, "unresolved");
        drop(portway.relayed());
        // It was warned of once, with the first error, and the others came within a minute.
        if error == "SERVFAIL" {
            let warns = |line: &Value| {
                let told = line["fields"]["error"].as_str().unwrap_or_default();
                message(line).contains("stay in use") && told.contains(error)
            };
            portway.program.wait(PATIENCE, warns);
        }
    }
    dns.lead("es.test", &["127.0.0.1"]);
    let again = |line: &Value| message(line).contains("resolves again");
    portway.program.wait(PATIENCE, again);
    drop(portway.relayed());
}

#[test]
fn f17_at_the_start_the_client_of_a_name_without_an_answer_is_told_and_others_are_served() {
    let (dns, backend) = (Server::start(), Backend::echo());
    for (reply, error) in [
        (Reply::Code(ResponseCode::ServFail), "SERVFAIL"),
        (Reply::Code(ResponseCode::NXDomain), "NXDOMAIN"),
        (Reply::Silence, "no DNS server answers"),
    ] {
        dns.set("es.test", reply);
        let endpoints = [at("es.test", backend.address())];
        let toml = file(&endpoints, &dns.resolver()) + &route("other", backend.address(), "");
        let portway = Portway::start(&toml);
        let mut other = connect(portway.address("agents"));
        let hello = Builder::new("other.example").build();
        other.write_all(&hello).unwrap();
        let mut echoed = vec![0; hello.len()];
        other.read_exact(&mut echoed).unwrap();
        await_failure(&portway, "unresolved");
        let line = refused(&portway);
        assert_eq!(line["outcome"], "backend_unresolved", "{line}");
        let told = line["attempts"][0]["error"].as_str().unwrap();
        assert!(told.contains(error), "{told}");
        let ask = format!("dig @127.0.0.1 -p {} es.test", dns.address().port());
        let warns = |line: &Value| message(line).contains(&ask);
        portway.program.wait(PATIENCE, warns);
    }
}

#[test]
fn f17_servers_that_are_gone_are_passed_over() {
    let (dns, silent, backend) = (Server::start(), Server::start(), Backend::echo());
    dns.lead("es.test", &["127.0.0.1"]);
    silent.set("es.test", Reply::Silence);
    let closed = free("127.0.0.1");
    let servers = [closed, silent.address(), dns.address()].map(|it| it.to_string());
    let resolver = format!("resolver = {{ servers = {servers:?} }}");
    let portway = Portway::start(&file(&[at("es.test", backend.address())], &resolver));
    within(PATIENCE, "the name resolves", || {
        (healthy(&portway) > 0.5).then_some(())
    });
    drop(portway.relayed());
}

#[test]
fn f17_servers_that_fail_or_refuse_are_passed_over() {
    let backend = Backend::echo();
    let hosts: Vec<String> = (0..16).map(|number| format!("es-{number}.test")).collect();
    let endpoints: Vec<String> = hosts.iter().map(|it| at(it, backend.address())).collect();
    for code in [ResponseCode::Refused, ResponseCode::ServFail] {
        let (fails, dns) = (Server::start(), Server::start());
        for host in &hosts {
            fails.set(host, Reply::Code(code));
            dns.lead(host, &["127.0.0.1"]);
        }
        let servers = [fails.address(), dns.address()].map(|it| it.to_string());
        let resolver = format!("resolver = {{ servers = {servers:?} }}");
        let portway = Portway::start(&file(&endpoints, &resolver));
        within(PATIENCE, "every name resolves", || {
            (healthy(&portway) > 15.5).then_some(())
        });
        assert!(failures(&portway, "unresolved") < 0.5, "{code}");
        drop(portway.relayed());
    }
}

#[test]
fn f17_the_addresses_stay_while_only_ipv6_is_answered() {
    let (dns, backend) = (Server::start(), Backend::echo());
    dns.lead("es.test", &["127.0.0.1"]);
    let portway = Portway::start(&file(&[at("es.test", backend.address())], &dns.resolver()));
    let portway = portway.until_known(1);
    drop(portway.relayed());
    for v4 in [Reply::Code(ResponseCode::ServFail), Reply::Silence] {
        // Nothing listens there.
        let v6 = Reply::Addresses(vec![ip("::1")], 0);
        dns.set("es.test", Reply::Families(Box::new([v4, v6])));
        await_failure(&portway, "unresolved");
        drop(portway.relayed());
    }
}

#[test]
fn f18_a_name_that_leads_to_this_machine_or_its_metadata_service_is_not_dialled() {
    let (dns, inside) = (Server::start(), Backend::echo());
    let addresses = [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "64:ff9b::7f00:1",
    ];
    let everything = "allow_networks = [\"0.0.0.0/0\", \"::/0\"]";
    let endpoints = [at("es.test", inside.address())];
    let keys = format!("{}\n{everything}", dns.resolver());
    for address in addresses {
        dns.lead("es.test", &[address]);
        let portway = Portway::start(&file(&endpoints, &keys));
        within(PATIENCE, "the answer came", || {
            (failures(&portway, "forbidden") > 0.5).then_some(())
        });
        let line = refused(&portway);
        assert_eq!(line["outcome"], "forbidden_address", "{line}");
        assert_eq!(line["attempts"][0]["reason"], "forbidden", "{line}");
        assert_eq!(line["alert"], 80, "{line}");
        let warns = |line: &Value| message(line).contains("allow_networks excludes");
        portway.program.wait(PATIENCE, warns);
    }
    assert_eq!(inside.accepted(), 0);
}

#[test]
fn f18_a_rebinding_answer_takes_only_the_addresses_away_that_are_not_allowed() {
    let (dns, inside) = (Server::start(), Backend::echo());
    dns.lead("es.test", &["127.0.0.1"]);
    let endpoints = [at("es.test", inside.address())];
    let keys = |networks: &str| format!("{}\nallow_networks = [{networks}]", dns.resolver());
    let narrow = file(&endpoints, &keys("\"127.0.0.1/32\""));
    let portway = Portway::start(&narrow).until_known(1);
    drop(portway.relayed());
    // Later the name leads to another address of this machine as well, and then only there.
    dns.lead("es.test", &["127.0.0.2", "127.0.0.1", "169.254.169.254"]);
    portway.program.wait(PATIENCE, |line| {
        line["fields"]["address"] == at("127.0.0.2", inside.address())
    });
    drop(portway.relayed());
    dns.lead("es.test", &["127.0.0.2"]);
    await_failure(&portway, "forbidden");
    assert_eq!(refused(&portway)["outcome"], "forbidden_address");
    // A reload that allows it has the name looked up at once.
    portway.reload_with(&file(&endpoints, &keys("\"127.0.0.0/8\"")));
    within(PATIENCE, "the address is allowed", || {
        (healthy(&portway) > 0.5).then_some(())
    });
    // And one that no longer does takes it away at once, whatever DNS says then.
    dns.set("es.test", Reply::Silence);
    portway.reload_with(&narrow);
    assert_eq!(refused(&portway)["outcome"], "forbidden_address");
}

#[test]
fn f18_a_name_that_leads_to_the_own_listener_is_a_loop_whatever_is_allowed() {
    let dns = Server::start();
    dns.lead("es.test", &["127.0.0.1"]);
    let keys = format!("{}\nallow_networks = [\"127.0.0.0/8\"]", dns.resolver());
    let portway = Portway::start(&file(&["es.test:9".to_owned()], &keys));
    for own in [portway.address("agents"), portway.admin()] {
        portway.reload_with(&file(&[at("es.test", own)], &keys));
        await_failure(&portway, "loop");
        let line = refused(&portway);
        assert_eq!(line["outcome"], "backend_unresolved", "{line}");
        assert_eq!(line["attempts"][0]["reason"], "loop", "{line}");
    }
}

#[test]
fn f19_a_very_long_answer_comes_over_tcp_and_is_used_in_part() {
    // The second answer is almost as long as one can be: its length has 16 bits.
    for (count, bytes) in [(500, 10_000), (2_880, 65_000)] {
        let (dns, backend) = (Server::start(), Backend::echo());
        let mut addresses = vec!["127.0.0.1".to_owned()];
        addresses.extend((1..count).map(|n| format!("127.1.{}.{}", n / 250, 1 + n % 250)));
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        dns.lead("es.test", &addresses);
        let portway = Portway::start(&file(&[at("es.test", backend.address())], &dns.resolver()));
        let total = |portway: &Portway| portway.metrics().sum("portway_endpoint_addresses", &[]);
        within(PATIENCE, "the answer came", || {
            (total(&portway) > 0.5).then_some(())
        });
        assert!((total(&portway) - 64.0).abs() < 0.5, "{}", total(&portway));
        let asked = dns.asked("es.test");
        assert!(asked.iter().any(|it| it.over_tcp), "{asked:?}");
        assert!(asked.iter().any(|it| !it.over_tcp), "{asked:?}");
        assert!(dns.longest_answer() > bytes, "{}", dns.longest_answer());
    }
}

#[test]
fn f19_an_answer_that_is_cut_short_and_does_not_come_over_tcp_is_no_answer() {
    for (is_refused, words) in [(false, "no DNS server answers"), (true, "too long for UDP")] {
        let (dns, backend) = (Server::start(), Backend::echo());
        dns.lead("es.test", &["127.0.0.1"]);
        let endpoints = [at("es.test", backend.address())];
        let portway = Portway::start(&file(&endpoints, &dns.resolver()));
        let portway = portway.until_known(1);
        drop(portway.relayed());
        if is_refused {
            dns.refuse_tcp();
        }
        // Nothing listens there.
        dns.set("es.test", Reply::Truncated(Ipv4Addr::new(127, 0, 0, 9)));
        await_failure(&portway, "unresolved");
        drop(portway.relayed());
        let over_tcp = dns.asked("es.test").iter().any(|it| it.over_tcp);
        assert_eq!(over_tcp, !is_refused);
        // At the start there is no other address, and the client hears of it.
        let portway = Portway::start(&file(&endpoints, &dns.resolver()));
        await_failure(&portway, "unresolved");
        let line = refused(&portway);
        assert_eq!(line["outcome"], "backend_unresolved", "{line}");
        let error = line["attempts"][0]["error"].as_str().unwrap();
        assert!(error.contains(words), "{error}");
        // Another server has the whole answer.
        let whole = Server::start();
        whole.lead("es.test", &["127.0.0.1"]);
        let servers = [dns.address(), whole.address()].map(|it| it.to_string());
        let both = format!("resolver = {{ servers = {servers:?} }}");
        portway.reload_with(&file(&endpoints, &both));
        within(PATIENCE, "the name resolves", || {
            (healthy(&portway) > 0.5).then_some(())
        });
        drop(portway.relayed());
    }
}

#[test]
fn f19_a_time_to_live_of_nothing_or_of_decades_is_bounded() {
    let (dns, backend) = (Server::start(), Backend::echo());
    let address = || vec![ip("127.0.0.1")];
    dns.set("none.test", Reply::Addresses(address(), 0));
    dns.set("long.test", Reply::Addresses(address(), 1 << 31));
    let endpoints = ["none.test", "long.test"].map(|host| at(host, backend.address()));
    let begun = Instant::now();
    let portway = Portway::start(&file(&endpoints, &dns.resolver()));
    // Each look-up asks for both families.
    // A server that is slow to answer is asked again, so these are three look-ups at least.
    within(PATIENCE, "look-ups", || {
        (dns.asked("none.test").len() >= 12).then_some(())
    });
    assert!(
        begun.elapsed() > Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    assert!(dns.asked("long.test").len() < 6);
    drop(portway.relayed());
}

#[test]
fn f19_aliases_in_a_circle_are_followed_a_few_times_and_one_that_ends_is_followed() {
    let (dns, backend) = (Server::start(), Backend::echo());
    dns.set("a.test", Reply::Alias("b.test."));
    dns.set("b.test", Reply::Alias("a.test."));
    let endpoints = [at("a.test", backend.address())];
    let toml = file(&endpoints, &dns.resolver());
    let portway = Portway::start(&toml);
    await_failure(&portway, "unresolved");
    let asked = dns.asked("a.test").len() + dns.asked("b.test").len();
    assert!(asked < 100, "{asked} queries");
    assert_eq!(refused(&portway)["outcome"], "backend_unresolved");
    dns.set("b.test", Reply::Alias("c.test."));
    dns.lead("c.test", &["127.0.0.1"]);
    within(PATIENCE, "the alias leads to an address", || {
        (healthy(&portway) > 0.5).then_some(())
    });
    drop(portway.relayed());
}

#[test]
fn f20_look_ups_that_hang_delay_no_name_of_another_resolver() {
    let (hanging, dns, backend) = (Server::start(), Server::start(), Backend::echo());
    let mut endpoints = Vec::new();
    for number in 0..200 {
        let host = format!("hangs-{number}.test");
        hanging.set(&host, Reply::Silence);
        endpoints.push(at(&host, backend.address()));
    }
    let address = backend.address();
    let other = route("other", address, &hanging.resolver());
    let other = other.replace(&format!("[\"{address}\"]"), &format!("{endpoints:?}"));
    dns.lead("es.test", &["127.0.0.1"]);
    let toml = file(&[at("es.test", address)], &dns.resolver());
    let portway = Portway::start(&(toml + &other)).until_known(1);
    portway.relays_at_once(10);
    // While they hang, a change of the other name is noticed as soon as its answer is no longer fresh.
    dns.lead("es.test", &["127.0.0.2", "127.0.0.1"]);
    let begun = Instant::now();
    within(PATIENCE, "the new answer is in use", || {
        (healthy(&portway) > 1.5).then_some(())
    });
    // Behind the others it would come after minutes: eight of them are looked up at once, each for seconds.
    assert!(
        begun.elapsed() < Duration::from_mins(1),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn backends_with_different_dns_servers_share_no_answers() {
    let servers = [Server::start(), Server::start()];
    let backends = [
        Backend::echo_at(free("127.0.0.2")),
        Backend::echo_at(free("127.0.0.3")),
    ];
    servers[0].lead("es.test", &["127.0.0.2"]);
    servers[1].lead("es.test", &["127.0.0.3"]);
    let endpoint = |index: usize| at("es.test", backends[index].address());
    let address = backends[1].address();
    let other = route("other", address, &servers[1].resolver());
    let other = other.replace(&format!("\"{address}\""), &format!("\"{}\"", endpoint(1)));
    let portway = Portway::start(&(file(&[endpoint(0)], &servers[0].resolver()) + &other));
    let portway = portway.until_known(2);
    drop(portway.relayed());
    let mut client = connect(portway.address("agents"));
    let hello = Builder::new("other.example").build();
    client.write_all(&hello).unwrap();
    let line = portway
        .program
        .find(|line| message(line).contains("cannot resolve"));
    assert_eq!(line, None);
    backends[1].wait_accepted(1);
    assert_eq!(backends[0].accepted(), 1);
    // After a reload a third one is asked before the next connection; the open ones go on.
    let mut held = portway.relayed();
    let third = Server::start();
    third.lead("es.test", &["127.0.0.4"]);
    let moved = Backend::echo_at(SocketAddr::new(
        ip("127.0.0.4"),
        backends[0].address().port(),
    ));
    portway.reload_with(&file(&[endpoint(0)], &third.resolver()));
    drop(portway.relayed());
    assert_eq!((backends[0].accepted(), moved.accepted()), (2, 1));
    held.write_all(&hello).unwrap();
    let mut echoed = vec![0; hello.len()];
    held.read_exact(&mut echoed).unwrap();
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A free address of this machine, which stays reserved.
pub(super) fn free(ip: &str) -> SocketAddr {
    free_at(self::ip(ip))
}
