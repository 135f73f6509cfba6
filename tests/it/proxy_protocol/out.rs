//! PROXY headers that portway sends to a backend.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use super::{TRUSTED, V1, V2_LOCAL, file, line_from, start, v2, v2_from};
use crate::it::fixture::{NAME, PATIENCE, PORTWAY, Portway, hello};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, Refusing, connect, read_to_end, reset};

/// A backend that takes so many bytes before it echoes, and hands them to the test.
fn taking(size: usize) -> (Backend, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel();
    let backend = Backend::start(move |mut stream| {
        let mut header = vec![0; size];
        if stream.read_exact(&mut header).is_err() {
            return;
        }
        // The test may be over.
        drop(sender.send(header));
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    });
    (backend, receiver)
}

fn route(endpoints: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(SocketAddr::to_string).collect();
    format!(
        "[backends.fleet]\nendpoints = {endpoints:?}\n{keys}\n\
         [routes.fleet]\nserver_names = [\"{NAME}\"]\nbackend = \"fleet\"\n"
    )
}

/// Sends these bytes before a hello, which must come back alone. Returns the address of the socket.
fn visit(portway: &Portway, before: &[u8], hello: &[u8]) -> SocketAddr {
    let mut client = connect(portway.address("agents"));
    client.write_all(&[before, hello].concat()).unwrap();
    let mut echoed = vec![0; hello.len()];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, hello);
    client.local_addr().unwrap()
}

/// A field of version 2.
fn field(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap();
    [&[kind], &length.to_be_bytes()[..], value].concat()
}

/// The block of version 2 for a client of portway over IPv4, without fields.
fn block(client: SocketAddr, portway: SocketAddr) -> Vec<u8> {
    let ports = [client, portway].map(|end| end.port().to_be_bytes());
    [&[127, 0, 0, 1, 127, 0, 0, 1], ports.concat().as_slice()].concat()
}

#[test]
fn a_backend_gets_one_header_before_the_hello() {
    let (backend, headers) = taking(b"PROXY TCP4 127.0.0.1 127.0.0.1 10000 10000\r\n".len());
    let portway = start(
        "",
        &route(&[backend.address()], "send_proxy_protocol = \"v1\""),
    );
    let client = visit(&portway, &[], &hello());
    let to = portway.address("agents").port();
    let wanted = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {to}\r\n", client.port());
    assert_eq!(headers.recv().unwrap(), wanted.into_bytes());
    let line = portway.line_of(client);
    // The header is not a part of what the client sent.
    assert_eq!(line["bytes_client_to_backend"], hello().len(), "{line}");
    assert_eq!(
        (&line["outcome"], &line["backend_local"].is_string()),
        (&"closed".into(), &true)
    );

    let fields = field(2, NAME.as_bytes());
    let (backend, headers) = taking(16 + 12 + fields.len());
    portway.reload_with(&file(
        "",
        &route(&[backend.address()], "send_proxy_protocol = \"v2\""),
    ));
    let client = visit(&portway, &[], &hello());
    let block = [block(client, portway.address("agents")), fields].concat();
    assert_eq!(headers.recv().unwrap(), v2(0x11, &block));
}

#[test]
fn version_2_has_the_server_name_and_the_protocols_of_the_hello() {
    let hello = Builder::new(NAME).alpn(&["h2", "http/1.1"]).build();
    let fields = [
        field(2, NAME.as_bytes()),
        field(1, b"\0\x0c\x02h2\x08http/1.1"),
    ]
    .concat();
    let (backend, headers) = taking(16 + 12 + fields.len());
    let portway = start(
        "",
        &route(&[backend.address()], "send_proxy_protocol = \"v2\""),
    );
    let client = visit(&portway, &[], &hello);
    let block = [block(client, portway.address("agents")), fields].concat();
    assert_eq!(headers.recv().unwrap(), v2(0x11, &block));
}

#[test]
fn f42_two_relays_in_a_row_keep_the_address_of_the_client() {
    let fields = field(2, NAME.as_bytes());
    let (backend, headers) = taking(16 + 12 + fields.len());
    let send = "send_proxy_protocol = \"v2\"";
    let second = start(TRUSTED, &route(&[backend.address()], send));
    let first = start(TRUSTED, &route(&[second.address("agents")], send));
    // The client of the balancer before the first one.
    let balancer = visit(&first, &v2_from(7), &hello());
    let mut wanted = v2(
        0x11,
        &[
            &[192, 0, 2, 1, 198, 51, 100, 2, 0, 7, 0x20, 0x1c],
            &fields[..],
        ]
        .concat(),
    );
    assert_eq!(headers.recv().unwrap(), wanted);
    let line = line_from(&first, balancer);
    assert_eq!(
        (&line["client"], &line["outcome"]),
        (&"192.0.2.1:7".into(), &"closed".into())
    );
    let of_second = second.wait_line(|line| line["client"] == "192.0.2.1:7");
    assert_eq!(of_second["proxied_by"], line["backend_local"]);

    // A client of the first one itself, behind a header without an address.
    let client = visit(&first, V2_LOCAL, &hello());
    wanted = v2(
        0x11,
        &[block(client, first.address("agents")), fields].concat(),
    );
    assert_eq!(headers.recv().unwrap(), wanted);
}

#[test]
fn an_attempt_that_fails_neither_loses_nor_repeats_the_header() {
    let refusing = Refusing::new();
    let (backend, headers) = taking(V1.len());
    let keys = "send_proxy_protocol = \"v1\"\nbalance = \"round_robin\"";
    let portway = start(
        TRUSTED,
        &route(&[refusing.address(), backend.address()], keys),
    );
    for _ in 0..4 {
        visit(&portway, V1, &hello());
        assert_eq!(headers.recv().unwrap(), V1);
    }
    let refused = format!(
        "portway_dial_failures_total{{backend=\"fleet\",endpoint=\"{}\",reason=\"refused\"}}",
        refusing.address()
    );
    assert!(portway.count(&refused) > 0);
}

/// A proxy that opens one tunnel, and hands on what comes through it first.
fn proxy(to: SocketAddr, size: usize) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let mut first = vec![0; size];
        client.read_exact(&mut first).unwrap();
        sender.send(first).unwrap();
        let mut server = TcpStream::connect(to).unwrap();
        let mut back = server.try_clone().unwrap();
        let mut to_client = client.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut back, &mut to_client));
        drop(std::io::copy(&mut client, &mut server));
    });
    (address, receiver)
}

#[test]
fn the_header_passes_through_the_tunnel_of_a_proxy() {
    let backend = Backend::echo();
    let (address, headers) = proxy(backend.address(), V1.len());
    let keys = format!("via = \"http://{address}\"\nsend_proxy_protocol = \"v1\"");
    let portway = start(TRUSTED, &route(&[backend.address()], &keys));
    visit(&portway, V1, &hello());
    assert_eq!(headers.recv().unwrap(), V1);
}

/// A backend that reports the first bytes of each connection, and resets it.
fn reporting(size: usize) -> (Backend, Receiver<Vec<u8>>) {
    let (sender, receiver) = channel();
    let backend = Backend::start(move |mut stream| {
        let mut first = vec![0; size];
        if stream.read_exact(&mut first).is_ok() {
            drop(sender.send(first));
        }
    });
    (backend, receiver)
}

#[test]
fn checks_and_doctor_speak_for_portway_itself() {
    for (version, header) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", V2_LOCAL)] {
        let (backend, headers) = reporting(header.len() + 1);
        let keys = format!(
            "send_proxy_protocol = \"{version}\"\nhealth = {{ check = \"tls\", interval = \"1s\", timeout = \"1s\" }}"
        );
        let portway = start("", &route(&[backend.address()], &keys));
        // A TLS record begins behind the header.
        let wanted = [header, &[0x16]].concat();
        assert_eq!(headers.recv_timeout(PATIENCE).unwrap(), wanted);
        let file = portway.file().to_owned();
        let mut command = Command::new(PORTWAY);
        let output = command
            .args(["doctor", "--config"])
            .arg(file)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{output:?}");
        // Those of checks came as well.
        let told = headers.try_iter().take(50).collect::<Vec<_>>();
        assert!(
            told.len() > 1 && told.iter().all(|first| *first == wanted),
            "{told:?}"
        );
    }
}

#[test]
fn a_backend_that_is_gone_before_its_header_is_one_that_closed_early() {
    let backend = Backend::start(reset);
    let portway = start(
        "",
        &route(&[backend.address()], "send_proxy_protocol = \"v2\""),
    );
    // Fewer than the lines that are logged in a second.
    for _ in 0..8 {
        let mut client = portway.client();
        let (answer, _) = read_to_end(&mut client);
        assert!(answer.is_empty(), "{answer:?}");
        let line = portway.line_of(client.local_addr().unwrap());
        let outcome = line["outcome"].as_str().unwrap();
        assert!(
            ["backend_closed_early", "backend_reset"].contains(&outcome),
            "{line}"
        );
    }
}
