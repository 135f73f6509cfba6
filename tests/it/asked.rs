//! Endpoints that are the name that the client asks for, with real DNS servers on loopback.

mod reloads;
mod shares;

use std::fmt::Display;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::fixture::{PATIENCE, Portway, alike, within};
use super::hello::Builder;
use super::peers::{self, ALERT_80, Backend, End, connect, read_to_end};
use super::resolver::server::{Reply, Server};
use super::resolver::{failures, free, ip};

/// The alert of an internal error.
/// The servers of these tests are on this machine.
const LOOPBACK: &str = "allow_networks = [\"127.0.0.0/8\"]";

/// A file whose backend `fleet` is the name that the client asks for, at this port.
fn file(port: impl Display, dns: &Server, keys: &str) -> String {
    let resolver = dns.resolver();
    format!(
        "[admin]\nbind = \"127.0.0.1:0\"\n\
         [listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
         [routes.fleet]\nserver_names = [\"*.es.test\", \"deep.a.es.test\"]\nbackend = \"fleet\"\n\
         [backends.fleet]\nendpoints = [\"{{server_name}}:{port}\"]\n{resolver}\n{keys}\n"
    )
}

/// Sends a hello for a name.
fn ask(portway: &Portway, name: &str) -> TcpStream {
    ask_from(portway, "127.0.0.1", name)
}

fn ask_from(portway: &Portway, client: &str, name: &str) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip(client), 0).into()).unwrap();
    socket.connect(&portway.address("agents").into()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = TcpStream::from(socket);
    client.write_all(&Builder::new(name).build()).unwrap();
    client
}

/// A connection to the name that is relayed.
fn relayed(portway: &Portway, name: &str) -> TcpStream {
    let mut client = ask(portway, name);
    await_echo(&mut client, name);
    client
}

fn await_echo(client: &mut TcpStream, name: &str) {
    let hello = Builder::new(name).build();
    let mut echoed = vec![0; hello.len()];
    client.read_exact(&mut echoed).unwrap();
    assert!(alike(&echoed, &hello));
}

/// The log line of a client that asks for the name and gets alert 80.
fn refused(portway: &Portway, name: &str) -> Value {
    let mut client = ask(portway, name);
    let address = client.local_addr().unwrap();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    drop(client);
    portway.line_of(address)
}

/// Two servers at one port, and their addresses.
fn two_servers() -> [Backend; 2] {
    let first = Backend::echo_at(free("127.0.0.2"));
    let second = SocketAddr::new(ip("127.0.0.3"), first.address().port());
    [first, Backend::echo_at(second)]
}

#[test]
fn the_name_that_the_client_asks_for_is_dialled() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.lead("one.es.test", &["127.0.0.2"]);
    dns.lead("two.es.test", &["127.0.0.3"]);
    let port = servers[0].address().port();
    let portway = Portway::start(&file(port, &dns, LOOPBACK));
    let one = relayed(&portway, "one.es.test");
    let two = relayed(&portway, "TWO.es.test");
    assert_eq!(servers.each_ref().map(Backend::accepted), [1, 1]);
    let labels = [
        ("backend", "fleet"),
        ("endpoint", &format!("{{server_name}}:{port}")),
    ];
    let metrics = portway.metrics();
    let sum = |metric| metrics.sum(metric, &labels);
    assert!((sum("portway_endpoint_connections") - 2.0).abs() < 0.5);
    assert!((sum("portway_endpoint_addresses") - 2.0).abs() < 0.5);
    assert!(sum("portway_endpoint_resolved_timestamp_seconds") > 0.5);
    assert!((metrics.sum("portway_endpoint_connections", &[]) - 2.0).abs() < 0.5);
    let address = one.local_addr().unwrap();
    drop((one, two));
    let line = portway.line_of(address);
    assert_eq!(line["endpoint"], format!("one.es.test:{port}"), "{line}");
    within(PATIENCE, "the connections are counted as closed", || {
        (portway.metrics().sum("portway_endpoint_connections", &[]) < 0.5).then_some(())
    });
}

#[test]
fn the_port_of_the_target_is_dialled() {
    // A port that is reserved at the address of portway: elsewhere many connections may have it there.
    let port = peers::free().port();
    let server = Backend::echo_at(SocketAddr::new(ip("127.0.0.2"), port));
    let dns = Server::start();
    dns.lead("one.es.test", &["127.0.0.2"]);
    let toml = file("{port}", &dns, LOOPBACK);
    let toml = toml.replace(
        "bind = [\"127.0.0.1:0\"]",
        &format!("bind = [\"127.0.0.1:{port}\"]"),
    );
    let toml = toml.replace(
        "backend = \"fleet\"",
        &format!("backend = \"fleet\"\nports = [{port}]"),
    );
    let portway = Portway::start(&toml);
    drop(relayed(&portway, "one.es.test"));
    assert_eq!(server.accepted(), 1);
}

#[test]
fn a_proxy_leads_to_the_host_and_port_of_its_target() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.lead("one.es.test", &["127.0.0.2"]);
    let port = servers[0].address().port();
    let toml = file("{port}", &dns, LOOPBACK);
    let toml = toml.replace(
        "[listeners.agents]",
        "[listeners.agents]\nprotocol = \"http_connect\"\nallow_clients = [\"127.0.0.0/8\"]",
    );
    let toml = toml.replace(
        "backend = \"fleet\"",
        &format!("backend = \"fleet\"\nports = [{port}]"),
    );
    let portway = Portway::start(&toml);
    let mut client = connect(portway.address("agents"));
    let request =
        format!("CONNECT one.es.test:{port} HTTP/1.1\r\nHost: one.es.test:{port}\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    client
        .write_all(&Builder::new("one.es.test").build())
        .unwrap();
    await_echo(&mut client, "one.es.test");
    assert_eq!(servers.each_ref().map(Backend::accepted), [1, 0]);
}

#[test]
fn a_name_without_an_address_is_refused_and_asked_for_again_only_later() {
    let dns = Server::start();
    let portway = Portway::start(&file(9, &dns, LOOPBACK));
    // The log has at most ten such lines per second.
    for _ in 0..8 {
        let line = refused(&portway, "none.es.test");
        assert_eq!(line["outcome"], "backend_unresolved", "{line}");
        assert_eq!(line["attempts"][0]["endpoint"], "none.es.test:9", "{line}");
        assert_eq!(line["attempts"][0]["reason"], "unresolved", "{line}");
        let error = line["attempts"][0]["error"].as_str().unwrap();
        assert!(error.contains("NXDOMAIN"), "{error}");
    }
    // One look-up asks for both families; the test may have taken longer than its answer holds.
    let asked = dns.asked("none.es.test").len();
    assert!((2..=6).contains(&asked), "{asked} queries");
    // Once it has an address, it is dialled there as soon as it may be asked for again.
    let server = Backend::echo_at(free("127.0.0.2"));
    portway.reload_with(&file(server.address().port(), &dns, LOOPBACK));
    dns.lead("none.es.test", &["127.0.0.2"]);
    drop(relayed(&portway, "none.es.test"));
}

#[test]
fn invariant_7_a_client_that_no_route_takes_causes_no_query() {
    let dns = Server::start();
    let portway = Portway::start(&file(9, &dns, LOOPBACK));
    for name in ["es.test", "a.b.es.test", "one.other.test"] {
        let mut client = ask(&portway, name);
        let address = client.local_addr().unwrap();
        read_to_end(&mut client);
        drop(client);
        assert_eq!(portway.line_of(address)["outcome"], "no_route");
    }
    // A look-up that follows shows that the server would have been asked by now.
    assert_eq!(
        refused(&portway, "one.es.test")["outcome"],
        "backend_unresolved"
    );
    let names = ["es.test", "a.b.es.test", "one.other.test"];
    assert!(names.iter().all(|name| dns.asked(name).is_empty()));
    assert!(!dns.asked("one.es.test").is_empty());
}

#[test]
fn invariant_10_a_client_reaches_no_address_that_is_not_public_unless_a_network_permits_it() {
    let (dns, inside) = (Server::start(), Backend::echo());
    let addresses = [
        "127.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "fd00::1",
        "64:ff9b::a00:1",
    ];
    let port = inside.address().port();
    let portway = Portway::start(&file(port, &dns, ""));
    for (number, address) in addresses.iter().enumerate() {
        let name = format!("n{number}.es.test");
        dns.lead(&name, &[address]);
        let line = refused(&portway, &name);
        assert_eq!(line["outcome"], "forbidden_address", "{line}");
        assert_eq!(line["attempts"][0]["reason"], "forbidden", "{line}");
    }
    assert!(failures(&portway, "forbidden") > 5.5);
    assert_eq!(inside.accepted(), 0);
    // A reload that permits it has the names looked up again.
    portway.reload_with(&file(port, &dns, LOOPBACK));
    drop(relayed(&portway, "n0.es.test"));
}

#[test]
fn invariant_10_a_client_that_asks_for_a_name_of_portway_itself_makes_no_loop() {
    let dns = Server::start();
    dns.lead("one.es.test", &["127.0.0.1"]);
    let bind = free("127.0.0.1");
    let toml = file(bind.port(), &dns, LOOPBACK);
    let portway =
        Portway::start(&toml.replace("bind = [\"127.0.0.1:0\"]", &format!("bind = [\"{bind}\"]")));
    let line = refused(&portway, "one.es.test");
    assert_eq!(line["outcome"], "backend_unresolved", "{line}");
    assert_eq!(line["attempts"][0]["reason"], "loop", "{line}");
    assert!(failures(&portway, "loop") > 0.5);
}

/// The name leads to a server at first, so its connections are not the first ones to be looked at.
#[test]
fn invariant_10_a_rebinding_answer_leads_neither_to_this_machine_nor_to_the_admin_address() {
    let (dns, admin) = (Server::start(), free("127.0.0.1"));
    let port = admin.port();
    let server = Backend::echo_at(SocketAddr::new(ip("127.0.0.2"), port));
    dns.lead("one.es.test", &["127.0.0.2"]);
    let everything = "allow_networks = [\"127.0.0.0/8\", \"0.0.0.0/0\"]";
    let toml = file(port, &dns, everything);
    let toml = toml.replacen("127.0.0.1:0", &admin.to_string(), 1);
    let portway = Portway::start(&toml);
    assert_eq!(portway.admin(), admin);
    drop(relayed(&portway, "one.es.test"));
    for (address, reason, outcome) in [
        ("0.0.0.0", "forbidden", "forbidden_address"),
        ("127.0.0.1", "loop", "backend_unresolved"),
    ] {
        dns.lead("one.es.test", &[address]);
        within(PATIENCE, "the name is looked up again", || {
            // They are many, and another one may get the port of one of them.
            drop(ask_from(&portway, "127.0.0.9", "one.es.test"));
            (failures(&portway, reason) > 0.5).then_some(())
        });
        let line = refused(&portway, "one.es.test");
        assert_eq!(line["outcome"], outcome, "{line}");
        assert_eq!(line["attempts"][0]["reason"], reason, "{line}");
    }
    dns.lead("one.es.test", &["127.0.0.2"]);
    let before = server.accepted();
    within(PATIENCE, "the name leads to the server again", || {
        drop(ask(&portway, "one.es.test"));
        (server.accepted() > before).then_some(())
    });
}

/// Checks that `one.es.test` has been looked up once since then: for two families, again for each if the answer did not come
/// within two seconds.
fn assert_asked_once(dns: &Server, begun: Instant) {
    let queries = dns.asked("one.es.test").len();
    let is_slow = begun.elapsed() > Duration::from_secs(2);
    let most = if is_slow { 5 } else { 2 };
    assert!((2..=most).contains(&queries), "{queries} queries");
}

#[test]
fn a_server_that_moves_is_found_after_a_dial_that_failed() {
    let (dns, first) = (Server::start(), Backend::echo_at(free("127.0.0.2")));
    let port = first.address().port();
    let reply = |address| Reply::Addresses(vec![ip(address)], 3600);
    dns.set("one.es.test", reply("127.0.0.2"));
    let begun = Instant::now();
    let portway = Portway::start(&file(port, &dns, LOOPBACK));
    drop(relayed(&portway, "one.es.test"));
    assert_asked_once(&dns, begun);
    drop(first);
    let second = Backend::echo_at(SocketAddr::new(ip("127.0.0.3"), port));
    dns.set("one.es.test", reply("127.0.0.3"));
    within(PATIENCE, "the name is looked up again", || {
        drop(ask(&portway, "one.es.test"));
        (second.accepted() > 0).then_some(())
    });
    drop(relayed(&portway, "one.es.test"));
}

#[test]
fn a_stale_answer_serves_while_dns_fails_and_is_refreshed_when_it_is_asked_for() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.lead("one.es.test", &["127.0.0.2"]);
    let portway = Portway::start(&file(servers[0].address().port(), &dns, LOOPBACK));
    drop(relayed(&portway, "one.es.test"));
    for reply in [Reply::Code(ResponseCode::ServFail), Reply::Silence] {
        dns.set("one.es.test", reply);
        let before = failures(&portway, "unresolved");
        within(PATIENCE, "a refresh fails", || {
            drop(relayed(&portway, "one.es.test"));
            (failures(&portway, "unresolved") > before).then_some(())
        });
        drop(relayed(&portway, "one.es.test"));
    }
    assert_eq!(servers[1].accepted(), 0);
    dns.lead("one.es.test", &["127.0.0.3"]);
    within(PATIENCE, "a refresh succeeds", || {
        drop(relayed(&portway, "one.es.test"));
        (servers[1].accepted() > 0).then_some(())
    });
}

#[test]
fn a_reload_that_leaves_the_backend_alone_keeps_what_is_known_of_its_names() {
    let (dns, servers) = (Server::start(), two_servers());
    dns.set("one.es.test", Reply::Addresses(vec![ip("127.0.0.2")], 3600));
    let toml = file(servers[0].address().port(), &dns, LOOPBACK);
    let portway = Portway::start(&toml);
    let mut held = relayed(&portway, "one.es.test");
    let before = dns.asked("one.es.test").len();
    portway.reload_with(&toml.replace("deep.a.es.test", "deep.b.es.test"));
    drop(relayed(&portway, "one.es.test"));
    assert_eq!(dns.asked("one.es.test").len(), before);
    // With another resolver it is asked for again, and the open connection goes on.
    let other = Server::start();
    other.lead("one.es.test", &["127.0.0.3"]);
    portway.reload_with(&file(servers[0].address().port(), &other, LOOPBACK));
    drop(relayed(&portway, "one.es.test"));
    assert_eq!(servers[1].accepted(), 1);
    held.write_all(b"more").unwrap();
    let mut echoed = [0; 4];
    held.read_exact(&mut echoed).unwrap();
    // A look-up that nobody answers takes the time of the dial, and is then refused.
    other.set("mute.es.test", Reply::Silence);
    let line = refused(&portway, "mute.es.test");
    assert_eq!(line["outcome"], "backend_unresolved", "{line}");
}
