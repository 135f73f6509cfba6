//! Listeners that are SOCKS5 proxies: what a client gets for each message, and where its bytes go (invariant 13).

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use super::fixture::{Portway, route};
use super::hello::Builder;
use super::peers::{Backend, End, connect, read_to_end};

const GREETING: &[u8] = &[5, 1, 0];
const METHOD: &[u8] = &[5, 0];
const OPEN: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];

fn start(listener: &str, routes: &str) -> Portway {
    Portway::start(&format!(
        "admin.bind = \"127.0.0.1:0\"\n\
         [listeners.proxy]\nbind = [\"127.0.0.1:0\"]\nprotocol = \"socks5\"\n{listener}\n{routes}"
    ))
}

/// A request for a name.
fn named(name: &str, port: u16) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [&[5, 1, 0, 3, length], name.as_bytes(), &port.to_be_bytes()].concat()
}

/// A request for an address.
fn addressed(address: SocketAddr) -> Vec<u8> {
    let (kind, octets) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (4, ip.octets().to_vec()),
    };
    [&[5, 1, 0, kind], &*octets, &address.port().to_be_bytes()].concat()
}

fn client(portway: &Portway) -> TcpStream {
    connect(portway.address("proxy"))
}

/// Sends these bytes, and returns what comes back until portway closes, with the line of the log.
fn refused(portway: &Portway, sent: &[u8]) -> (Vec<u8>, Value) {
    let mut client = client(portway);
    client.write_all(sent).unwrap();
    let (answer, end) = read_to_end(&mut client);
    assert_eq!(end, End::Fin);
    let address = client.local_addr().unwrap();
    drop(client);
    (answer, portway.line_of(address))
}

#[test]
fn a_tunnel_carries_the_hello_and_nothing_of_the_messages() {
    let backend = Backend::echo();
    let portway = start("", &route("fleet", backend.address(), ""));
    let hello = Builder::new("fleet.example").build();
    let all = [GREETING, &named("Fleet.example.", 5044), &hello].concat();
    // At once, as an impatient client sends it, and in parts of any size.
    for size in [1, 5, all.len()] {
        let mut client = client(&portway);
        client.set_nodelay(true).unwrap();
        for part in all.chunks(size) {
            client.write_all(part).unwrap();
        }
        let mut answer = vec![0; METHOD.len() + OPEN.len() + hello.len()];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(
            answer,
            [METHOD, OPEN, &hello].concat(),
            "in parts of {size}"
        );
        let address = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(address);
        assert_eq!(
            (&line["target"], &line["route"]),
            (&"fleet.example:5044".into(), &"fleet".into())
        );
    }
}

#[test]
fn a_client_that_closes_after_its_greeting_or_its_request_is_no_probe() {
    let backend = Backend::echo();
    let portway = start("", &route("fleet", backend.address(), ""));
    for (sent, answer) in [
        (GREETING.to_vec(), METHOD.to_vec()),
        (
            [GREETING, &named("fleet.example", 443)].concat(),
            [METHOD, OPEN].concat(),
        ),
    ] {
        let mut client = client(&portway);
        client.write_all(&sent).unwrap();
        let mut answered = answer.clone();
        client.read_exact(&mut answered).unwrap();
        assert_eq!(answered, answer);
        let address = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "hello_eof", "{line}");
        let detail = "the client closed after portway had answered its request to the proxy";
        assert_eq!(line["detail"], detail, "{line}");
    }
}

#[test]
fn invariant_13_a_message_that_no_route_takes_is_refused_and_reaches_nobody() {
    let backend = Backend::echo();
    let portway = start("", &route("fleet", backend.address(), ""));
    let metadata = addressed("169.254.169.254:80".parse().unwrap());
    let reply = |code| [METHOD, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    let cases: &[(&[u8], Vec<u8>, &str, &str)] = &[
        (
            &[&[5, 1, 0][..], &named("flete.example", 443)].concat(),
            reply(2),
            "target_denied",
            "",
        ),
        (
            &[GREETING, &metadata].concat(),
            reply(2),
            "target_denied",
            "the target is an address, and no route with no_server_name takes its port here",
        ),
        (
            &[GREETING, &named("fleet.example", 0)].concat(),
            reply(1),
            "invalid_proxy_request",
            "the port is not a number from 1 to 65535",
        ),
        (
            &[GREETING, &[5, 3]].concat(),
            reply(7),
            "invalid_proxy_request",
            "the client asks for another SOCKS command than CONNECT",
        ),
        (
            &[5, 1, 2],
            vec![5, 0xff],
            "invalid_proxy_request",
            "the client insists on authentication: remove user and password from its proxy URL",
        ),
        (
            b"CONNECT fleet.example:443 HTTP/1.1\r\n\r\n",
            Vec::new(),
            "invalid_proxy_request",
            "not SOCKS5: the client's proxy URL must begin with socks5://",
        ),
    ];
    for (sent, answer, outcome, detail) in cases {
        let (got, line) = refused(&portway, sent);
        assert_eq!(&got, answer, "{line}");
        assert_eq!(line["outcome"], *outcome, "{line}");
        assert_eq!(
            line["detail"].as_str().unwrap_or_default(),
            *detail,
            "{line}"
        );
    }
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn invariant_13_a_hello_for_another_name_than_the_target_is_refused_before_any_dial() {
    let backend = Backend::echo();
    let portway = start("", &route("fleet", backend.address(), ""));
    let hello = Builder::new("other.example").build();
    let all = [GREETING, &named("fleet.example", 443), &hello].concat();
    let (answer, line) = refused(&portway, &all);
    assert_eq!(answer, [METHOD, OPEN, &[0x15, 3, 3, 0, 2, 2, 49]].concat());
    assert_eq!(line["outcome"], "name_mismatch", "{line}");
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn a_target_that_is_an_address_leads_to_that_endpoint() {
    let ips: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let backends = ips.map(|ip| Backend::echo_at(SocketAddr::new(ip, 0)));
    let addresses = backends.each_ref().map(Backend::address);
    let routes = format!(
        "[backends.fleet]\nendpoints = {:?}\n[routes.fleet]\nno_server_name = true\nbackend = \"fleet\"\n",
        addresses.map(|it| it.to_string())
    );
    let portway = start("", &routes);
    let hello = Builder::without_name().build();
    for (address, accepted) in addresses.into_iter().zip([[1, 0], [1, 1]]) {
        let mut client = client(&portway);
        let all = [GREETING, &addressed(address), &hello].concat();
        client.write_all(&all).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = [METHOD, OPEN, &hello].concat();
        assert_eq!(read_to_end(&mut client), (answer, End::Fin), "{address}");
        let line = portway.line_of(client.local_addr().unwrap());
        let address = address.to_string();
        let told = [&line["outcome"], &line["target"], &line["endpoint"]];
        assert_eq!(told, ["closed", &address, &address], "{line}");
        assert_eq!(backends.each_ref().map(Backend::accepted), accepted);
    }
}

#[test]
fn a_client_that_is_not_admitted_is_refused_before_its_greeting_or_after_its_request() {
    let backend = Backend::echo();
    let all = [GREETING, &named("fleet.example", 443)].concat();
    let base = route("fleet", backend.address(), "");
    let portway = start("deny_clients = [\"127.0.0.0/8\"]", &base);
    let (answer, line) = refused(&portway, &all);
    assert_eq!(
        (answer, &line["outcome"]),
        (vec![5, 0xff], &"client_denied".into())
    );
    let portway = start("", &(base + "clients = [\"10.0.0.0/8\"]\n"));
    let (answer, line) = refused(&portway, &all);
    assert_eq!(answer, [METHOD, &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]].concat());
    assert_eq!(line["outcome"], "client_denied", "{line}");
}

#[test]
fn a_message_that_never_ends_shares_the_time_limit_of_the_hello() {
    let backend = Backend::echo();
    let limits = "[limits]\nclient_hello_timeout = \"2s\"\n";
    let portway = start("", &(route("fleet", backend.address(), "") + limits));
    let (answer, line) = refused(&portway, &[GREETING, &[5, 1, 0, 3, 200]].concat());
    assert_eq!(answer, METHOD);
    assert_eq!(
        (&line["outcome"], &line["detail"]),
        (
            &"hello_timeout".into(),
            &"the SOCKS5 request is not complete after 5 bytes".into()
        )
    );
}
