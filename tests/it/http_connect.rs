//! Listeners that are HTTP proxies: what a client gets for each request, and where its bytes go (invariant 13).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::fixture::{Portway, route};
use super::hello::Builder;
use super::peers::{Backend, connect, read_to_end};

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A file with the listener `proxy`, and further keys of it.
fn config(listener: &str, routes: &str) -> String {
    format!(
        "admin.bind = \"127.0.0.1:0\"\n\
         [listeners.proxy]\nbind = [\"127.0.0.1:0\"]\nprotocol = \"http_connect\"\n{listener}\n{routes}"
    )
}

/// A portway with the listener `proxy` and a route `fleet` for `fleet.example`.
fn start(backend: &Backend) -> Portway {
    Portway::start(&config("", &route("fleet", backend.address(), "")))
}

fn client(portway: &Portway) -> TcpStream {
    connect(portway.address("proxy"))
}

/// Sends a request and then a hello of this name, and returns what comes back: the answer, and what a hello got.
fn tunnel(client: &mut TcpStream, target: &str, hello: &[u8]) -> Vec<u8> {
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = vec![0; OPEN.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), OPEN);
    client.write_all(hello).unwrap();
    let mut echoed = vec![0; hello.len()];
    let count = client.read(&mut echoed).unwrap();
    if count > 7 {
        client.read_exact(&mut echoed[count..]).unwrap();
        echoed
    } else {
        echoed.truncate(count);
        echoed
    }
}

fn line(portway: &Portway, client: &TcpStream) -> Value {
    portway.line_of(client.local_addr().unwrap())
}

#[test]
fn a_tunnel_carries_the_hello_and_nothing_of_the_request() {
    let backend = Backend::echo();
    let portway = start(&backend);
    let hello = Builder::new("fleet.example").build();
    // Go leaves the dot of the root in the request, and takes it out of the hello.
    for target in ["fleet.example:443", "FLEET.example.:8220"] {
        let mut client = client(&portway);
        assert_eq!(tunnel(&mut client, target, &hello), hello);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client).0, b"");
        let line = line(&portway, &client);
        let normal = target.to_lowercase().replace(".:", ":");
        assert_eq!(
            (&line["outcome"], &line["target"]),
            (&"closed".into(), &normal.into())
        );
        assert_eq!(line["bytes_client_to_backend"], hello.len(), "{line}");
    }
}

#[test]
fn a_request_may_come_byte_by_byte_or_together_with_the_hello() {
    let backend = Backend::echo();
    let portway = start(&backend);
    let hello = Builder::new("fleet.example").build();
    let request = b"CONNECT fleet.example:443 HTTP/1.1\r\nHost: fleet.example:443\r\n\r\n";
    let mut all = request.to_vec();
    all.extend(&hello);
    for size in [1, 7, all.len()] {
        let mut client = client(&portway);
        client.set_nodelay(true).unwrap();
        for part in all.chunks(size) {
            client.write_all(part).unwrap();
        }
        let mut answer = vec![0; OPEN.len() + hello.len()];
        client.read_exact(&mut answer).unwrap();
        let (open, echoed) = answer.split_at(OPEN.len());
        assert_eq!(
            (open, echoed),
            (OPEN.as_bytes(), &*hello),
            "in parts of {size}"
        );
    }
}

/// Its own TLS settings may be what fails, so an operator must see it; a check of a balancer sends nothing.
#[test]
fn a_client_that_closes_after_its_request_is_no_probe() {
    let backend = Backend::echo();
    let portway = start(&backend);
    let mut client = client(&portway);
    let request = b"CONNECT fleet.example:443 HTTP/1.1\r\n\r\n";
    client.write_all(request).unwrap();
    let mut answer = vec![0; OPEN.len()];
    client.read_exact(&mut answer).unwrap();
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(
        (&line["outcome"], &line["closed_by"]),
        (&"hello_eof".into(), &"client".into())
    );
    assert_eq!(
        line["detail"],
        "the client closed after portway had answered its request to the proxy"
    );
    assert_eq!(line["target"], "fleet.example:443");
}

/// The request, the first line of the answer, the outcome and its detail.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (
        "CONNECT flete.example:443 HTTP/1.1\r\n\r\n",
        "403 portway has no route for this host and port: compare the URL with the routes of portway",
        "target_denied",
        "",
    ),
    (
        "CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n",
        "403 portway has no route for this host and port: compare the URL with the routes of portway",
        "target_denied",
        "the target is an address, and no route with no_server_name takes its port here",
    ),
    (
        "CONNECT fleet.example HTTP/1.1\r\n\r\n",
        "400 a CONNECT request names a host and a port",
        "invalid_proxy_request",
        "the target is not host:port",
    ),
    (
        "CONNECT fleet.example:0 HTTP/1.1\r\n\r\n",
        "400 a CONNECT request names a host and a port",
        "invalid_proxy_request",
        "the port is not a number from 1 to 65535",
    ),
    (
        "CONNECT [fe80::1%25eth0]:443 HTTP/1.1\r\n\r\n",
        "400 a CONNECT request names a host and a port",
        "invalid_proxy_request",
        "the address has a zone",
    ),
    (
        "CONNECT fleet.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "400 a CONNECT request has no body",
        "invalid_proxy_request",
        "a CONNECT request has no body",
    ),
    (
        "CONNECT fleet.example:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "400 a CONNECT request has no body",
        "invalid_proxy_request",
        "a CONNECT request has no body",
    ),
    (
        "GET http://fleet.example/ HTTP/1.1\r\nHost: fleet.example\r\n\r\n",
        "405 portway relays only TLS: write the URL of the server with https://",
        "invalid_proxy_request",
        "plain HTTP: the client's URL must begin with https://",
    ),
    (
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "400 portway expects a CONNECT request of HTTP/1.1 here",
        "invalid_proxy_request",
        "portway expects a CONNECT request of HTTP/1.1 here",
    ),
    (
        "\u{16}\u{3}\u{1}\u{2}",
        "400 portway speaks plain HTTP here: write the URL of the proxy with http://",
        "invalid_proxy_request",
        "TLS: the client's proxy URL must begin with http://",
    ),
];

fn refused(portway: &Portway, sent: &str) -> (String, Value) {
    let mut client = client(portway);
    client.write_all(sent.as_bytes()).unwrap();
    let (answer, _) = read_to_end(&mut client);
    let answer = String::from_utf8(answer).unwrap();
    let first = answer.lines().next().unwrap_or_default().to_owned();
    // portway waits for the client's end before it writes the line.
    let address = client.local_addr().unwrap();
    drop(client);
    (first, portway.line_of(address))
}

#[test]
fn invariant_13_a_request_that_no_route_takes_is_refused_in_words_and_reaches_nobody() {
    let backend = Backend::echo();
    let portway = start(&backend);
    for &(sent, status, outcome, detail) in REFUSED {
        let (first, line) = refused(&portway, sent);
        assert_eq!(first, format!("HTTP/1.1 {status}"), "{sent}");
        assert_eq!(line["outcome"], outcome, "{sent}: {line}");
        assert_eq!(
            line["detail"].as_str().unwrap_or_default(),
            detail,
            "{sent}"
        );
        assert_eq!(line["closed_by"], "portway", "{line}");
    }
    let long = format!(
        "CONNECT fleet.example:443 HTTP/1.1\r\na: {}",
        "b".repeat(20_000)
    );
    let (first, line) = refused(&portway, &long);
    let status = "431 the request is larger than 16 KiB or has over 64 fields";
    assert_eq!(first, format!("HTTP/1.1 {status}"), "{line}");
    // The nearest name helps the operator, and is not for strangers.
    let (_, line) = refused(&portway, REFUSED[0].0);
    assert_eq!(line["nearest"], "fleet.example", "{line}");
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn invariant_13_a_hello_for_another_name_than_the_target_is_refused_before_any_dial() {
    let backend = Backend::echo();
    let routes = route("fleet", backend.address(), "") + &route("other", backend.address(), "");
    let portway = Portway::start(&config("", &routes));
    let hellos = [
        Builder::new("other.example").build(),
        Builder::without_name().build(),
    ];
    for (hello, words) in hellos
        .iter()
        .zip(["has the server name other.example", "has no server name"])
    {
        let mut client = client(&portway);
        let answer = tunnel(&mut client, "fleet.example:443", hello);
        assert_eq!(answer, [0x15, 3, 3, 0, 2, 2, 49]);
        let line = line(&portway, &client);
        assert_eq!(
            (&line["outcome"], &line["alert"]),
            (&"name_mismatch".into(), &49.into())
        );
        let detail = format!("the client asked for fleet.example:443, and its hello {words}");
        assert_eq!(line["detail"], detail, "{line}");
    }
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn what_comes_behind_the_request_and_is_no_hello_is_refused_in_the_tunnel() {
    let backend = Backend::echo();
    let portway = start(&backend);
    let mut client = client(&portway);
    let request = "CONNECT fleet.example:443 HTTP/1.1\r\n\r\n";
    client.write_all(request.repeat(2).as_bytes()).unwrap();
    let (answer, _) = read_to_end(&mut client);
    assert_eq!(answer, OPEN.as_bytes());
    let line = line(&portway, &client);
    assert_eq!(line["outcome"], "not_tls", "{line}");
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn a_target_that_is_an_address_leads_to_that_endpoint_of_a_route_for_clients_without_a_name() {
    let (one, other) = (Backend::echo(), Backend::echo());
    let addresses = [one.address(), other.address()].map(|it| it.to_string());
    let routes = format!(
        "[backends.fleet]\nendpoints = {addresses:?}\nbalance = \"round_robin\"\n\
         [routes.fleet]\nno_server_name = true\nbackend = \"fleet\"\n"
    );
    let portway = Portway::start(&config("", &routes));
    let hello = Builder::without_name().build();
    for _ in 0..4 {
        let mut client = client(&portway);
        assert_eq!(tunnel(&mut client, &addresses[1], &hello), hello);
        drop(client);
    }
    assert_eq!((one.accepted(), other.accepted()), (0, 4));

    // A server beside it, which no endpoint names.
    let beside = Backend::echo().address();
    let (first, line) = refused(&portway, &format!("CONNECT {beside} HTTP/1.1\r\n\r\n"));
    assert!(first.starts_with("HTTP/1.1 403 "), "{first}");
    let detail = format!("{beside} is not an address of an endpoint of the route's backend");
    assert_eq!(
        (&line["outcome"], &line["detail"]),
        (&"target_denied".into(), &detail.into())
    );
}

/// Which route takes the hello is known only in the tunnel, where a client understands nothing but alerts.
#[test]
fn a_target_that_is_an_address_of_another_route_than_that_of_the_hello_is_refused_in_the_tunnel() {
    let (plain, h2) = (Backend::echo(), Backend::echo());
    let routes = format!(
        "[backends.plain]\nendpoints = [\"{}\"]\n[backends.h2]\nendpoints = [\"{}\"]\n\
         [routes.plain]\nno_server_name = true\nbackend = \"plain\"\n\
         [routes.h2]\nno_server_name = true\nalpn = [\"h2\"]\nbackend = \"h2\"\n",
        plain.address(),
        h2.address()
    );
    let portway = Portway::start(&config("", &routes));
    let hello = Builder::without_name().alpn(&["h2"]).build();
    let target = plain.address().to_string();
    let mut client = client(&portway);
    let answer = tunnel(&mut client, &target, &hello);
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49]);
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "target_denied", "{line}");
    assert_eq!(
        (&line["route"], &line["backend"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!((plain.accepted(), h2.accepted()), (0, 0));
}

/// The name of the endpoint may yet lead to the address: so the request is not wrong, and the log says what fails.
#[test]
fn a_target_that_is_an_address_of_a_backend_without_addresses_is_reported_as_unresolved() {
    let routes = "[backends.fleet]\nendpoints = [\"fleet.invalid:8220\"]\n\
                  [routes.fleet]\nno_server_name = true\nbackend = \"fleet\"\n";
    let portway = Portway::start(&config("", routes));
    let hello = Builder::without_name().build();
    let mut client = client(&portway);
    let answer = tunnel(&mut client, "192.0.2.7:8220", &hello);
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 80]);
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "backend_unresolved", "{line}");
    assert_eq!(line["attempts"][0]["endpoint"], "fleet.invalid:8220");
    // At another port the name cannot lead to it.
    let (first, line) = refused(&portway, "CONNECT 192.0.2.7:9200 HTTP/1.1\r\n\r\n");
    assert!(first.starts_with("HTTP/1.1 403 "), "{first}");
    assert_eq!(line["outcome"], "target_denied", "{line}");
}

#[test]
fn routes_with_ports_take_the_port_of_the_target() {
    let (fleet, elasticsearch) = (Backend::echo(), Backend::echo());
    let route = |name: &str, port: u16, at: SocketAddr| {
        format!(
            "[backends.{name}]\nendpoints = [\"{at}\"]\n\
             [routes.{name}]\nserver_names = [\"elastic.example\"]\nports = [{port}]\nbackend = \"{name}\"\n"
        )
    };
    let routes =
        route("fleet", 8220, fleet.address()) + &route("es", 9200, elasticsearch.address());
    let portway = Portway::start(&config("", &routes));
    let hello = Builder::new("elastic.example").build();
    for (port, name) in [(8220, "fleet"), (9200, "es")] {
        let mut client = client(&portway);
        assert_eq!(
            tunnel(&mut client, &format!("elastic.example:{port}"), &hello),
            hello
        );
        let address = client.local_addr().unwrap();
        drop(client);
        assert_eq!(portway.line_of(address)["route"], name);
    }
    let (first, line) = refused(&portway, "CONNECT elastic.example:443 HTTP/1.1\r\n\r\n");
    assert!(first.starts_with("HTTP/1.1 403 "), "{first}");
    let detail = "at port 443 no route takes this name; routes take it at 8220, 9200";
    assert_eq!(line["detail"], detail);
}

#[test]
fn a_client_that_is_not_admitted_is_refused_in_words() {
    let backend = Backend::echo();
    let of_listener = config(
        "deny_clients = [\"127.0.0.0/8\"]",
        &route("fleet", backend.address(), ""),
    );
    let of_route =
        config("", &route("fleet", backend.address(), "")) + "clients = [\"10.0.0.0/8\"]\n";
    let with_alpn = of_route.clone() + "alpn = [\"h2\"]\n";
    for toml in [of_listener, of_route, with_alpn] {
        let portway = Portway::start(&toml);
        let (first, line) = refused(&portway, "CONNECT fleet.example:443 HTTP/1.1\r\n\r\n");
        let words = "HTTP/1.1 403 portway does not admit this client";
        assert!(first.starts_with(words), "{first}");
        assert_eq!(line["outcome"], "client_denied", "{line}");
    }
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn a_request_that_never_ends_shares_the_time_limit_of_the_hello() {
    let backend = Backend::echo();
    let toml = config("", &route("fleet", backend.address(), ""))
        + "[limits]\nclient_hello_timeout = \"2s\"\n";
    let portway = Portway::start(&toml);
    let mut slow = client(&portway);
    slow.write_all(b"CONNECT fleet.example:443 HTTP/1.1\r\n")
        .unwrap();
    assert_eq!(read_to_end(&mut slow).0, b"");
    let told = line(&portway, &slow);
    assert_eq!(told["outcome"], "hello_timeout");
    assert_eq!(
        told["detail"],
        "the CONNECT request is not complete after 36 bytes"
    );
    // The answer does not begin the time again.
    let mut silent = client(&portway);
    silent
        .write_all(b"CONNECT fleet.example:443 HTTP/1.1\r\n\r\n")
        .unwrap();
    assert_eq!(read_to_end(&mut silent).0, OPEN.as_bytes());
    assert_eq!(line(&portway, &silent)["outcome"], "hello_timeout");
}
