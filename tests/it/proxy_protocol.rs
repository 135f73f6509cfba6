//! PROXY headers of balancers: which addresses count, and what portway does with bytes that are not a header. Rows b87 to b98.
//!
//! The balancer of these tests is 127.0.0.1, and a client that portway does not trust is 127.0.0.2.

mod out;
mod peers;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::fixture::{NAME, PATIENCE, PORTWAY, Portway, alike, hello, route, within};
use super::hello::Builder;
use super::peers::{Backend, End, connect, read_to_end};

const TRUSTED: &str = "proxy_protocol = { trusted = [\"127.0.0.1/32\"] }\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 49153 8220\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A header of version 2 with this family and block.
fn v2(family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap();
    let begin = b"\r\n\r\n\0\r\nQUIT\n\x21";
    [&begin[..], &[family], &length.to_be_bytes(), block].concat()
}

/// That of a client from 192.0.2.1 with this port, whose destination has port 8220.
fn v2_from(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    v2(
        0x11,
        &[192, 0, 2, 1, 198, 51, 100, 2, high, low, 0x20, 0x1c],
    )
}

/// portway with one listener `agents`, which has these further keys, and these further tables.
fn start(listener: &str, tables: &str) -> Portway {
    Portway::start(&file(listener, tables))
}

fn file(listener: &str, tables: &str) -> String {
    format!(
        "admin.bind = \"127.0.0.1:0\"\n[listeners.agents]\nbind = [\"127.0.0.1:0\"]\n{listener}\n{tables}"
    )
}

fn to(backend: &Backend) -> String {
    route("fleet", backend.address(), "")
}

/// Sends these bytes behind each other, in parts of this size.
fn send(client: &mut TcpStream, bytes: &[u8], size: usize) {
    for part in bytes.chunks(size) {
        client.write_all(part).unwrap();
    }
}

/// Sends the header and a hello, which must come back alone. Returns the line of the log.
fn relayed(portway: &Portway, header: &[u8], size: usize) -> Value {
    let mut client = connect(portway.address("agents"));
    let balancer = client.local_addr().unwrap();
    send(&mut client, &[header, &hello()].concat(), size);
    let mut echoed = hello();
    client.read_exact(&mut echoed).unwrap();
    assert!(alike(&echoed, &hello()));
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), (Vec::new(), End::Fin));
    line_from(portway, balancer)
}

/// The line of the connection that came from this socket, or for which it spoke.
fn line_from(portway: &Portway, socket: SocketAddr) -> Value {
    let socket = socket.to_string();
    let is_it = |line: &Value| line["client"] == *socket || line["proxied_by"] == *socket;
    portway.wait_line(is_it)
}

/// Sends these bytes, and returns what comes back, how it ends, and the line of the log.
fn refused(portway: &Portway, client: TcpStream, sent: &[u8]) -> (Vec<u8>, End, Value) {
    let mut client = client;
    client.write_all(sent).unwrap();
    let (answer, end) = read_to_end(&mut client);
    (
        answer,
        end,
        line_from(portway, client.local_addr().unwrap()),
    )
}

/// A client of `agents` that is not a balancer.
fn stranger(portway: &Portway) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own: SocketAddr = "127.0.0.2:0".parse().unwrap();
    socket.bind(&own.into()).unwrap();
    socket.connect(&portway.address("agents").into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn b94_a_header_is_taken_to_its_last_byte_whatever_its_parts_are() {
    let backend = Backend::echo();
    let portway = start(TRUSTED, &to(&backend));
    for (header, port) in [(V1.to_vec(), 49153), (v2_from(7), 7)] {
        for size in [1, 13, usize::MAX] {
            let line = relayed(&portway, &header, size);
            let client = format!("192.0.2.1:{port}");
            assert_eq!(
                (&line["client"], &line["outcome"]),
                (&client.into(), &"closed".into()),
                "{line}"
            );
            assert_eq!(line["bytes_client_to_backend"], hello().len(), "{line}");
        }
    }
    // A client whose address is not trusted needs no header.
    let mut client = stranger(&portway);
    client.write_all(&hello()).unwrap();
    let mut echoed = hello();
    client.read_exact(&mut echoed).unwrap();
    assert!(alike(&echoed, &hello()));
    let own = client.local_addr().unwrap();
    drop(client);
    let line = line_from(&portway, own);
    assert_eq!(
        (&line["client"], line.get("proxied_by")),
        (&own.to_string().into(), None)
    );
}

#[test]
fn b88_b89_without_an_address_in_the_header_that_of_the_socket_holds() {
    let backend = Backend::echo();
    let portway = start(TRUSTED, &to(&backend));
    for header in [V1_UNKNOWN, V2_LOCAL, &v2(0x31, &[0; 216])] {
        let line = relayed(&portway, header, 1);
        assert!(
            line["client"].as_str().unwrap().starts_with("127.0.0.1:"),
            "{line}"
        );
        assert_eq!(line.get("proxied_by"), None, "{line}");
    }
}

#[test]
fn b89_a_balancer_that_closes_behind_its_header_is_a_probe() {
    let backend = Backend::echo();
    // The balancer is none of these, and does not ask as a client.
    let listener = format!("{TRUSTED}allow_clients = [\"192.0.2.0/24\"]\n");
    let portway = start(&listener, &to(&backend));
    for header in [&[][..], V2_LOCAL, V1_UNKNOWN, V1] {
        let mut client = connect(portway.address("agents"));
        client.write_all(header).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), (Vec::new(), End::Fin));
    }
    let probes =
        "portway_connections_closed_total{listener=\"agents\",backend=\"-\",outcome=\"probe\"}";
    within(PATIENCE, "four probes", || {
        (portway.count(probes) == 4).then_some(())
    });
    let asking = [V2_LOCAL, &hello()].concat();
    let (_, _, line) = refused(&portway, connect(portway.address("agents")), &asking);
    assert_eq!(line["outcome"], "client_denied", "{line}");
    let mut client = connect(portway.address("agents"));
    client.write_all(&V1[..20]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let line = line_from(&portway, client.local_addr().unwrap());
    assert_eq!(
        (&line["outcome"], &line["detail"]),
        (
            &"hello_eof".into(),
            &"the connection ended in the middle of the PROXY header".into()
        )
    );
}

#[test]
fn b87_b91_b92_b93_b96_what_a_balancer_must_not_send_is_reset() {
    let backend = Backend::echo();
    let portway = start(TRUSTED, &to(&backend));
    let header = v2_from(7);
    let with = |length: u8, more: &[u8]| {
        let mut header = [&header, more].concat();
        header[15] = length;
        header
    };
    let cases = [
        (
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            "is not of its family",
        ),
        (
            [b"PROXY UNKNOWN ", &[b'x'; 100][..]].concat(),
            "at most 107 bytes",
        ),
        (with(11, &[]), "shorter than the addresses"),
        (with(16, &[0xea, 0xff, 0xff, 0]), "goes beyond the end"),
        (with(19, &[3, 0, 4, 1, 2, 3, 4]), "checksum"),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
            "larger than 4 KiB",
        ),
        (Vec::new(), "a PROXY header is required from this address"),
    ];
    for (sent, words) in cases {
        let sent = [sent, hello()].concat();
        let (answer, end, line) = refused(&portway, connect(portway.address("agents")), &sent);
        assert_eq!((answer, end), (Vec::new(), End::Reset), "{line}");
        assert_eq!(line["outcome"], "invalid_proxy_header", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(words), "{line}");
    }
    let ended = "portway_connections_closed_total{listener=\"agents\",backend=\"-\",outcome=\"invalid_proxy_header\"}";
    assert_eq!((portway.count(ended), backend.accepted()), (7, 0));
}

#[test]
fn b95_a_header_from_somebody_else_is_not_read() {
    let backend = Backend::echo();
    for protocol in ["tls", "http_connect", "socks5"] {
        let listener = format!("{TRUSTED}protocol = \"{protocol}\"");
        let portway = start(&listener, &to(&backend));
        for header in [V1.to_vec(), v2_from(7)] {
            let (answer, end, line) =
                refused(&portway, stranger(&portway), &[header, hello()].concat());
            assert_eq!((answer, end), (Vec::new(), End::Fin), "{line}");
            assert_eq!(line["outcome"], "not_tls", "{line}");
            let detail = line["detail"].as_str().unwrap();
            let words = ": turn it off at the balancer, or trust it in proxy_protocol.trusted";
            assert!(
                detail.starts_with("PROXY protocol v") && detail.ends_with(words),
                "{line}"
            );
        }
    }
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn b98_a_second_header_is_not_tls() {
    let backend = Backend::echo();
    for protocol in ["tls", "http_connect", "socks5"] {
        let listener = format!("{TRUSTED}protocol = \"{protocol}\"");
        let portway = start(&listener, &to(&backend));
        let sent = [V1, &v2_from(7), &hello()].concat();
        let (answer, end, line) = refused(&portway, connect(portway.address("agents")), &sent);
        assert_eq!((answer, end), (Vec::new(), End::Fin), "{line}");
        assert_eq!(
            (&line["outcome"], &line["client"]),
            (&"not_tls".into(), &"192.0.2.1:49153".into())
        );
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.starts_with("a second PROXY header"), "{line}");
    }
}

#[test]
fn a_header_shares_the_time_limit_of_the_hello() {
    let backend = Backend::echo();
    let limits = "[limits]\nclient_hello_timeout = \"3s\"\n";
    let portway = start(TRUSTED, &(to(&backend) + limits));
    let (answer, end, line) = refused(&portway, connect(portway.address("agents")), &V1[..9]);
    assert_eq!((answer, end), (Vec::new(), End::Fin));
    assert_eq!(
        (&line["outcome"], &line["detail"]),
        (
            &"hello_timeout".into(),
            &"the PROXY header is not complete after 9 bytes".into()
        )
    );
}

#[test]
fn networks_judge_the_address_in_the_header() {
    let backend = Backend::echo();
    let fleet = to(&backend) + "clients = [\"192.0.2.0/24\"]\n";
    let portway = start(
        &format!("{TRUSTED}allow_clients = [\"192.0.2.0/24\", \"198.51.100.0/24\"]"),
        &fleet,
    );
    assert_eq!(relayed(&portway, V1, usize::MAX)["route"], "fleet");
    let by_route = b"PROXY TCP4 198.51.100.9 198.51.100.2 1 2\r\n";
    let by_listener = b"PROXY TCP4 203.0.113.9 198.51.100.2 1 2\r\n";
    for (header, words) in [
        (&by_route[..], "the clients of the routes"),
        (by_listener, "allow_clients or deny_clients"),
        // The balancer itself is not in the networks either.
        (V2_LOCAL, "allow_clients or deny_clients"),
    ] {
        let sent = [header, &hello()].concat();
        let (_, _, line) = refused(&portway, connect(portway.address("agents")), &sent);
        assert_eq!(
            (&line["outcome"], &line["alert"]),
            (&"client_denied".into(), &49.into()),
            "{line}"
        );
        assert!(
            line["detail"].as_str().unwrap().starts_with(words),
            "{line}"
        );
    }
}

/// Opens a connection behind this header, and waits until its hello has come back.
fn open(portway: &Portway, header: &[u8]) -> TcpStream {
    let mut client = connect(portway.address("agents"));
    client.write_all(&[header, &hello()].concat()).unwrap();
    client.read_exact(&mut hello()).unwrap();
    client
}

#[test]
fn limits_per_client_count_the_address_in_the_header_and_never_the_balancer() {
    let backend = Backend::echo();
    let limits = "[limits]\nmax_connections_per_client = 2\nmax_pending_per_client = 2\n";
    let portway = start(TRUSTED, &(to(&backend) + limits));
    let _balancer = [V2_LOCAL; 4].map(|header| open(&portway, header));
    // They have no header yet, so nobody knows whose they are.
    let address = portway.address("agents");
    let _pending = [(); 4].map(|()| connect(address));
    let _client = [V1, &v2_from(7)].map(|header| open(&portway, header));
    let _other = open(&portway, b"PROXY TCP4 192.0.2.2 198.51.100.2 1 2\r\n");
    let (answer, end, line) = refused(&portway, connect(address), &v2_from(8));
    assert_eq!((answer, end), (Vec::new(), End::Reset), "{line}");
    assert_eq!(
        (&line["outcome"], &line["limit"], &line["client"]),
        (
            &"overloaded".into(),
            &"max_connections_per_client".into(),
            &"192.0.2.1:8".into()
        )
    );
}

#[test]
fn accept_rate_holds_for_a_balancer_that_names_no_client_and_not_for_its_checks() {
    let backend = Backend::echo();
    let limits = "[limits]\naccept_rate = 1\n";
    let portway = start(TRUSTED, &(to(&backend) + limits));
    for _ in 0..5 {
        let mut check = connect(portway.address("agents"));
        check.write_all(V2_LOCAL).unwrap();
        check.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut check), (Vec::new(), End::Fin));
    }
    drop(open(&portway, V2_LOCAL));
    // A slow machine may need more than the second that the rate gives to one connection.
    let limited = within(PATIENCE, "one is too many", || {
        let mut client = connect(portway.address("agents"));
        // The reset may come before the last byte is sent.
        let sent = client.write_all(&[V2_LOCAL, &hello()].concat());
        let is_reset = sent.is_err() || client.read_exact(&mut hello()).is_err();
        is_reset.then(|| client.local_addr().unwrap())
    });
    let line = line_from(&portway, limited);
    assert_eq!(
        (&line["outcome"], &line["limit"]),
        (&"rate_limited".into(), &"accept_rate".into()),
        "{line}"
    );
}

#[test]
fn a_header_in_a_tunnel_is_told_to_the_client_of_the_proxy() {
    let backend = Backend::echo();
    let portway = start("protocol = \"http_connect\"", &to(&backend));
    let mut client = connect(portway.address("agents"));
    client
        .write_all(b"CONNECT fleet.example:443 HTTP/1.1\r\nHost: fleet.example\r\n\r\n")
        .unwrap();
    within(PATIENCE, "the tunnel is open", || {
        let mut answer = [0; 64];
        let peeked = client.peek(&mut answer).unwrap();
        answer[..peeked].ends_with(b"\r\n\r\n").then_some(())
    });
    let (_, end, line) = refused(&portway, client, &[V1, &hello()].concat());
    assert_eq!((end, &line["outcome"]), (End::Fin, &"not_tls".into()));
    let detail = line["detail"].as_str().unwrap();
    assert!(
        detail.contains("in the tunnel") && detail.contains("send_proxy_protocol"),
        "{line}"
    );
}

#[test]
fn the_endpoint_of_source_hash_follows_the_address_in_the_header() {
    let backends = [Backend::echo(), Backend::echo()];
    let endpoints = backends
        .each_ref()
        .map(|backend| backend.address().to_string());
    let portway = start(
        TRUSTED,
        &format!(
            "[backends.fleet]\nendpoints = {endpoints:?}\nbalance = \"source_hash\"\n\
             [routes.fleet]\nserver_names = [\"{NAME}\"]\nbackend = \"fleet\"\n"
        ),
    );
    // The chance that 32 addresses have one endpoint is below one in two billions.
    for client in 1..=32 {
        let header = format!("PROXY TCP4 192.0.2.{client} 198.51.100.2 1 2\r\n");
        let twice =
            [(); 2].map(|()| relayed(&portway, header.as_bytes(), usize::MAX)["endpoint"].clone());
        assert_eq!(twice[0], twice[1], "192.0.2.{client}");
    }
    assert!(backends.iter().all(|backend| backend.accepted() > 0));
}

#[test]
fn the_destination_port_of_the_header_is_the_port_of_the_target() {
    let backends = [Backend::echo(), Backend::echo()];
    let tables = [(8220, "one", &backends[0]), (9200, "two", &backends[1])].map(|(port, name, backend)| {
        format!(
            "[backends.{name}]\nendpoints = [\"{}\"]\n\
             [routes.{name}]\nserver_names = [\"{NAME}\"]\nports = [{port}]\nbackend = \"{name}\"\n",
            backend.address()
        )
    });
    let portway = start(TRUSTED, &tables.concat());
    for (port, route) in [(8220, "one"), (9200, "two")] {
        let header = format!("PROXY TCP4 192.0.2.1 198.51.100.2 1 {port}\r\n");
        assert_eq!(
            relayed(&portway, header.as_bytes(), usize::MAX)["route"],
            route
        );
    }
    let sent = [V1_UNKNOWN, &hello()].concat();
    let (_, _, line) = refused(&portway, connect(portway.address("agents")), &sent);
    let port = portway.address("agents").port();
    let detail = format!("at port {port} no route takes this name; routes take it at 8220, 9200");
    assert_eq!(
        (&line["outcome"], &line["detail"]),
        (&"no_route".into(), &detail.into())
    );
}

#[test]
fn a_proxy_listener_reads_its_request_behind_the_header() {
    let backend = Backend::echo();
    let connect_request = format!("CONNECT {NAME}:443 HTTP/1.1\r\n\r\n").into_bytes();
    let length = u8::try_from(NAME.len()).unwrap();
    let socks = [&[5, 1, 0, 5, 1, 0, 3, length], NAME.as_bytes(), &[1, 0xbb]].concat();
    let opened = b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec();
    let accepted = vec![5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for (protocol, request, answer) in [
        ("http_connect", connect_request, opened),
        ("socks5", socks, accepted),
    ] {
        let listener =
            format!("{TRUSTED}allow_clients = [\"192.0.2.1/32\"]\nprotocol = \"{protocol}\"");
        let portway = start(&listener, &to(&backend));
        let hello = Builder::new(NAME).build();
        for size in [1, usize::MAX] {
            let mut client = connect(portway.address("agents"));
            send(&mut client, &[V1, &request, &hello].concat(), size);
            let mut got = vec![0; answer.len() + hello.len()];
            client.read_exact(&mut got).unwrap();
            assert_eq!(got, [&*answer, &hello].concat());
            let balancer = client.local_addr().unwrap();
            drop(client);
            let line = line_from(&portway, balancer);
            assert_eq!(
                (&line["client"], &line["target"]),
                (&"192.0.2.1:49153".into(), &format!("{NAME}:443").into())
            );
        }
    }
}

#[test]
fn explain_takes_the_address_and_the_port_in_the_header() {
    let backend = Backend::echo();
    let route = to(&backend) + "clients = [\"192.0.2.0/24\"]\nports = [8220]\n";
    let portway = start(TRUSTED, &route);
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(PORTWAY);
        command
            .args(["explain", NAME, "--config"])
            .arg(portway.file());
        let output = command.args(arguments).output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        String::from_utf8(told).unwrap()
    };
    let told = explain(&["--client", "192.0.2.7", "--port", "8220"]);
    let from = "client from  the PROXY header if the connection comes from proxy_protocol.trusted (127.0.0.1/32), otherwise the socket\n";
    assert!(
        told.contains(from) && told.contains("route        fleet"),
        "{told}"
    );
    let told = explain(&["--client", "127.0.0.1", "--port", "8220"]);
    assert!(
        told.contains("client from  the socket, which is that of a balancer itself: it is in proxy_protocol.trusted"),
        "{told}"
    );
    let told = explain(&["--client", "192.0.2.7"]);
    assert!(
        told.contains("add --port with the destination port of the PROXY header"),
        "{told}"
    );
}
