//! Every bad input at the proxy listeners, with what the client gets: rows b100 to b116 of `tests/ROWS.md`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::hello::Builder;
use super::peers::{End, is_timeout, read_to_end};

/// A proxy listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// `protocol = "http_connect"`.
    Http,
    /// `protocol = "socks5"`.
    Socks,
}

impl Front {
    /// The name of its listener in [`file`].
    pub(crate) const fn listener(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks => "socks",
        }
    }
}

/// How the client sends its bytes, all of which it first has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// At once; then it waits.
    AtOnce,
    /// At once; then it closes its direction.
    ThenFin,
    /// So many at once, and the others one by one for as long as portway listens.
    Trickle(usize),
}

/// The bytes of a client, and everything that comes of them.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// That of `tests/ROWS.md`.
    pub(crate) row: &'static str,
    pub(crate) front: Front,
    pub(crate) sent: Vec<u8>,
    pub(crate) pace: Pace,
    /// Every byte that the client gets, before a FIN.
    pub(crate) answer: Vec<u8>,
    pub(crate) outcome: &'static str,
    /// That of the log line; "" if it has none. `{sent}` is for the bytes that came before the time limit.
    pub(crate) detail: String,
}

/// The bytes that a client got, and how many it had sent by then.
pub(crate) struct Got {
    pub(crate) answer: Vec<u8>,
    pub(crate) end: End,
    pub(crate) sent: usize,
}

impl Input {
    /// Sends the bytes, and reads to the end.
    pub(crate) fn send(&self, client: &mut TcpStream) -> Got {
        let (mut answer, mut sent) = (Vec::new(), self.sent.len());
        match self.pace {
            Pace::AtOnce => client.write_all(&self.sent).unwrap(),
            Pace::ThenFin => {
                client.write_all(&self.sent).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            }
            Pace::Trickle(at_once) => sent = trickle(client, &self.sent, at_once, &mut answer),
        }
        let (rest, end) = read_to_end(client);
        answer.extend(rest);
        Got { answer, end, sent }
    }
}

/// Sends a byte every tenth of a second, until portway closes. Returns how many bytes it has sent.
fn trickle(client: &mut TcpStream, bytes: &[u8], at_once: usize, answer: &mut Vec<u8>) -> usize {
    client.write_all(&bytes[..at_once]).unwrap();
    let patience = client.read_timeout().unwrap();
    let pause = Duration::from_millis(100);
    client.set_read_timeout(Some(pause)).unwrap();
    let mut sent = at_once;
    let mut buffer = [0; 256];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend(&buffer[..count]),
            Err(error) => {
                assert!(is_timeout(&error), "{error}");
                client.write_all(&bytes[sent..=sent]).unwrap();
                sent += 1;
            }
        }
    }
    client.set_read_timeout(patience).unwrap();
    sent
}

/// The ports that routes take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// With any name under `*.es.test`.
    pub(crate) names: u16,
    /// With an address.
    pub(crate) addresses: u16,
}

/// The time that a client has for its request and its hello, in seconds.
pub(crate) const SECONDS: u64 = 3;

/// A routes.toml with both listeners, a backend that is the name of the client, and one at `address`.
pub(crate) fn file(ports: Ports, address: &str, resolver: &str) -> String {
    let Ports { names, addresses } = ports;
    format!(
        "admin.bind = \"127.0.0.1:0\"\n\
         limits.client_hello_timeout = \"{SECONDS}s\"\n\
         [listeners.http]\nbind = [\"127.0.0.1:0\"]\nprotocol = \"http_connect\"\n\
         [listeners.socks]\nbind = [\"127.0.0.1:0\"]\nprotocol = \"socks5\"\n\
         [backends.names]\nendpoints = [\"{{server_name}}:{{port}}\"]\n{resolver}\n\
         allow_networks = [\"127.0.0.0/8\"]\n\
         [routes.names]\nserver_names = [\"*.es.test\"]\nports = [{names}]\nbackend = \"names\"\n\
         [backends.addresses]\nendpoints = [\"{address}:{addresses}\"]\n\
         [routes.addresses]\nno_server_name = true\nports = [{addresses}]\nbackend = \"addresses\"\n"
    )
}

/// A name that the route takes.
const NAME: &str = "one.es.test";
const OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const GREETING: &[u8] = &[5, 1, 0];
const METHOD: &[u8] = &[5, 0];
const SUCCEEDED: u8 = 0;
const GENERAL_FAILURE: u8 = 1;
const NOT_ALLOWED: u8 = 2;
const COMMAND_NOT_SUPPORTED: u8 = 7;
/// The answer to plain HTTP in a tunnel.
const USE_HTTPS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 59\r\n\
    Connection: close\r\n\r\nThis port speaks TLS, not plain HTTP: use an https:// URL.\n";

const NOT_CONNECT: &str = "portway expects a CONNECT request of HTTP/1.1 here";
const NOT_SOCKS: &str = "not SOCKS5: the client's proxy URL must begin with socks5://";
const NO_TARGET: &str = "a CONNECT request names a host and a port";
const NO_ROUTE: &str =
    "portway has no route for this host and port: compare the URL with the routes of portway";
const TOO_LARGE: &str = "the request is larger than 16 KiB or has over 64 fields";
const NOT_A_PORT: &str = "the port is not a number from 1 to 65535";
const NO_NUMBER: &str =
    "the target is an address, and no route with no_server_name takes its port here";
const SECOND: &str =
    "another request to a proxy came behind the one that portway had answered, and no TLS hello";

/// The whole answer of an HTTP proxy that refuses.
fn status(code: u16, phrase: &str) -> Vec<u8> {
    let field = if code == 405 {
        "Allow: CONNECT\r\n"
    } else {
        ""
    };
    format!("HTTP/1.1 {code} {phrase}\r\n{field}Content-Length: 0\r\nConnection: close\r\n\r\n")
        .into()
}

/// The answer to a greeting, and then this reply to the request.
fn reply(code: u8) -> Vec<u8> {
    [METHOD, &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]].concat()
}

fn connect(target: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

/// A greeting and a request for a host as text.
fn socks(host: impl AsRef<[u8]>, port: u16) -> Vec<u8> {
    let host = host.as_ref();
    let length = u8::try_from(host.len()).unwrap();
    [GREETING, &[5, 1, 0, 3, length], host, &port.to_be_bytes()].concat()
}

/// A greeting and a request for an address of 4 or 16 bytes.
fn socks_address(address: &[u8], port: u16) -> Vec<u8> {
    let kind = if address.len() == 4 { 1 } else { 4 };
    [GREETING, &[5, 1, 0, kind], address, &port.to_be_bytes()].concat()
}

fn hello(name: &str) -> Vec<u8> {
    Builder::new(name).build()
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// The alert of a client that is refused in its tunnel.
fn alert(description: u8) -> [u8; 7] {
    [0x15, 3, 3, 0, 2, 2, description]
}

/// The table while it is written.
struct Table {
    ports: Ports,
    row: &'static str,
    inputs: Vec<Input>,
}

impl Table {
    fn add(
        &mut self,
        front: Front,
        sent: impl AsRef<[u8]>,
        answer: impl AsRef<[u8]>,
        (outcome, detail): (&'static str, impl Into<String>),
    ) -> &mut Input {
        self.inputs.push(Input {
            row: self.row,
            front,
            sent: sent.as_ref().to_vec(),
            pace: Pace::AtOnce,
            answer: answer.as_ref().to_vec(),
            outcome,
            detail: detail.into(),
        });
        self.inputs.last_mut().unwrap()
    }

    /// A request that portway does not accept.
    fn http(&mut self, sent: impl AsRef<[u8]>, code: u16, phrase: &str, detail: &str) {
        let told = ("invalid_proxy_request", detail);
        self.add(Front::Http, sent, status(code, phrase), told);
    }

    /// A message that portway does not accept.
    fn socks(&mut self, sent: impl AsRef<[u8]>, answer: impl AsRef<[u8]>, detail: &str) {
        let told = ("invalid_proxy_request", detail);
        self.add(Front::Socks, sent, answer, told);
    }

    /// A target that no route takes, at both listeners.
    fn denied(&mut self, target: &str, socks: impl AsRef<[u8]>, detail: &str) {
        let told = ("target_denied", detail);
        self.add(Front::Http, connect(target), status(403, NO_ROUTE), told);
        self.add(Front::Socks, socks, reply(NOT_ALLOWED), told);
    }

    /// Bytes in the tunnel to a name that a route takes, at both listeners; then this comes behind the answer.
    fn in_tunnel(&mut self, sent: &[u8], then: &[u8], (outcome, detail): (&'static str, &str)) {
        let port = self.ports.names;
        let request = connect(&format!("{NAME}:{port}"));
        let told = (outcome, detail);
        let (all, answer) = (joined(&[request.as_bytes(), sent]), joined(&[OPEN, then]));
        self.add(Front::Http, all, answer, told);
        let (all, answer) = (
            joined(&[&socks(NAME, port), sent]),
            joined(&[&reply(SUCCEEDED), then]),
        );
        self.add(Front::Socks, all, answer, told);
    }
}

/// The whole table.
pub(crate) fn inputs(ports: Ports) -> Vec<Input> {
    let mut table = Table {
        ports,
        row: "",
        inputs: Vec::new(),
    };
    for &(row, add) in ROWS {
        table.row = row;
        add(&mut table);
    }
    table.inputs
}

/// The rows, which `tests/rows.rs` reads here.
macro_rules! rejected {
    ($($row:ident: $add:expr;)*) => {
        const ROWS: &[(&str, fn(&mut Table))] = &[$((stringify!($row), $add)),*];
    };
}

rejected! {
    b100_a_request_or_message_that_is_too_large: too_large;
    b101_a_request_that_comes_slowly_or_in_part: slow;
    b102_bytes_behind_the_request_that_are_not_a_hello: behind_the_request;
    b103_http2: http2;
    b104_plain_http: plain_http;
    b105_two_requests_at_once: two_requests;
    b106_a_hello_for_another_name_than_the_target: names_that_differ;
    b107_the_address_of_a_metadata_service: metadata;
    b108_an_ipv6_address_with_a_zone: zones;
    b109_a_port_that_is_none: ports_that_are_none;
    b110_a_name_that_is_too_long: long_names;
    b111_a_request_with_a_body: bodies;
    b112_a_target_that_no_route_takes: without_a_route;
    b113_other_messages_of_socks: other_messages;
    b114_a_broken_request: broken_requests;
    b115_a_host_that_is_neither_a_name_nor_an_address: no_host;
    b116_a_client_that_closes_in_the_middle: cut_short;
}

fn too_large(table: &mut Table) {
    let begin = format!("CONNECT {NAME}:{} HTTP/1.1\r\n", table.ports.names);
    let long = "b".repeat(20_000);
    let flood = vec![b'A'; 48 << 10];
    for sent in [
        format!("{begin}a: {long}"),
        format!("{begin}a: {long}\r\n\r\n"),
        format!("{begin}{}\r\n", "a: b\r\n".repeat(65)),
        format!("CONNECT {long}"),
    ] {
        table.http(sent, 431, TOO_LARGE, TOO_LARGE);
    }
    table.http(&flood, 431, TOO_LARGE, TOO_LARGE);
    table.socks(&flood, b"", NOT_SOCKS);
    let fives = vec![5; 48 << 10];
    let insists =
        "the client insists on authentication: remove user and password from its proxy URL";
    table.socks(&fives, [5, 0xff], insists);
    let command = "the client asks for another SOCKS command than CONNECT";
    let answer = reply(COMMAND_NOT_SUPPORTED);
    table.socks(joined(&[GREETING, &fives]), answer, command);
    let behind = joined(&[&socks(NAME, 81), &fives]);
    let told = ("target_denied", elsewhere(table.ports, 81));
    table.add(Front::Socks, behind, reply(NOT_ALLOWED), told);
}

fn slow(table: &mut Table) {
    let port = table.ports.names;
    let (http, socks) = (connect(&format!("{NAME}:{port}")), socks(NAME, port));
    let (front, late) = (
        Front::Http,
        "the CONNECT request is not complete after {sent} bytes",
    );
    let told = ("hello_timeout", late);
    table.add(front, "", "", told);
    table.add(front, &http[..40], "", told);
    table.add(front, &http, "", told).pace = Pace::Trickle(1);
    let (front, late) = (
        Front::Socks,
        "the SOCKS5 request is not complete after {sent} bytes",
    );
    let told = ("hello_timeout", late);
    table.add(front, "", "", told);
    // 255 methods, of which none is the wanted one yet.
    let methods = joined(&[&[5, 255], &[1; 255]]);
    table.add(front, methods, "", told).pace = Pace::Trickle(1);
    let greeted = format!("the SOCKS5 request is not complete after {} bytes", 9);
    let told = ("hello_timeout", greeted);
    table.add(front, &socks[..GREETING.len() + 9], METHOD, told);
    // The answer does not begin the time again.
    let told = ("hello_timeout", "");
    let (sent, hello) = (http.into_bytes(), hello(NAME));
    let size = sent.len();
    table
        .add(Front::Http, joined(&[&sent, &hello]), OPEN, told)
        .pace = Pace::Trickle(size);
    let (sent, size) = (joined(&[&socks, &hello]), socks.len());
    table.add(Front::Socks, sent, reply(SUCCEEDED), told).pace = Pace::Trickle(size);
}

fn behind_the_request(table: &mut Table) {
    let not_tls = |detail| ("not_tls", detail);
    let plain = "HTTP GET: the client's URL must begin with https://";
    let get = format!("GET /_security/user HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    table.in_tunnel(get.as_bytes(), USE_HTTPS, not_tls(plain));
    let unknown = "an unknown protocol that begins with \"smuggled\"";
    table.in_tunnel(b"smuggled bytes", b"", not_tls(unknown));
    let hello = hello(NAME);
    // Behind a request that is refused, a hello for a route is nothing but bytes.
    let told = ("target_denied", elsewhere(table.ports, 81));
    let sent = joined(&[connect(&format!("{NAME}:81")).as_bytes(), &hello]);
    table.add(Front::Http, sent, status(403, NO_ROUTE), told.clone());
    let sent = joined(&[&socks(NAME, 81), &hello]);
    table.add(Front::Socks, sent, reply(NOT_ALLOWED), told);
    let good = connect(&format!("{NAME}:{}", table.ports.names));
    let sent = format!("{}{good}", connect("nobody"));
    table.http(sent, 400, NO_TARGET, "the target is not host:port");
}

fn http2(table: &mut Table) {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let preface = joined(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings]);
    table.http(&preface, 400, NOT_CONNECT, NOT_CONNECT);
    table.socks(&preface, b"", NOT_SOCKS);
    let detail = "HTTP/2 without TLS: the client must use TLS";
    table.in_tunnel(&preface, b"", ("not_tls", detail));
}

fn plain_http(table: &mut Table) {
    let (phrase, detail) = (
        "portway relays only TLS: write the URL of the server with https://",
        "plain HTTP: the client's URL must begin with https://",
    );
    let at = format!("{NAME}:{}", table.ports.names);
    for request in [
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://user:word@{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("POST http://{at}/_bulk HTTP/1.1\r\nHost: {at}\r\nContent-Length: 2\r\n\r\n{{}}"),
        "OPTIONS * HTTP/1.1\r\n\r\n".to_owned(),
    ] {
        table.http(&request, 405, phrase, detail);
        table.socks(&request, b"", NOT_SOCKS);
    }
}

fn two_requests(table: &mut Table) {
    let port = table.ports.names;
    let (http, socks) = (connect(&format!("{NAME}:{port}")), socks(NAME, port));
    let told = ("not_tls", SECOND);
    table.in_tunnel(http.as_bytes(), b"", told);
    table.in_tunnel(&socks, b"", told);
    let metadata = "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\n\r\n";
    table.in_tunnel(metadata.as_bytes(), b"", told);
    table.in_tunnel(&[4, 1, 1, 187, 169, 254, 169, 254, 0], b"", told);
    // The second greeting is not a request.
    let kind = "the type of address is none of IPv4, IPv6 and a name";
    table.socks(joined(&[GREETING, &socks]), reply(GENERAL_FAILURE), kind);
}

fn names_that_differ(table: &mut Table) {
    let Ports { names, addresses } = table.ports;
    // The first one would have this route too.
    for (hello, words) in [
        (hello("two.es.test"), "has the server name two.es.test"),
        (hello("fleet.example"), "has the server name fleet.example"),
        (hello("a.one.es.test"), "has the server name a.one.es.test"),
        (Builder::without_name().build(), "has no server name"),
    ] {
        let detail = format!("the client asked for {NAME}:{names}, and its hello {words}");
        table.in_tunnel(&hello, &alert(49), ("name_mismatch", &detail));
    }
    let told = ("invalid_server_name", "text of an address");
    table.in_tunnel(&hello("169.254.169.254"), &alert(112), told);
    // A target that is an address wants a hello without a name.
    let detail = format!(
        "the client asked for 127.0.0.3:{addresses}, and its hello has the server name {NAME}"
    );
    let told = ("name_mismatch", detail);
    let request = connect(&format!("127.0.0.3:{addresses}"));
    let sent = joined(&[request.as_bytes(), &hello(NAME)]);
    let answer = joined(&[OPEN, &alert(49)]);
    table.add(Front::Http, sent, answer, told.clone());
    let sent = joined(&[&socks_address(&[127, 0, 0, 3], addresses), &hello(NAME)]);
    let answer = joined(&[&reply(SUCCEEDED), &alert(49)]);
    table.add(Front::Socks, sent, answer, told);
}

fn metadata(table: &mut Table) {
    let port = table.ports.addresses;
    let ip = [169, 254, 169, 254];
    let mapped = joined(&[&[0; 10], &[0xff; 2], &ip]);
    let other =
        format!("169.254.169.254:{port} is not an address of an endpoint of the route's backend");
    for (port, detail) in [(80, NO_NUMBER), (port, &*other)] {
        table.denied(
            &format!("169.254.169.254:{port}"),
            socks_address(&ip, port),
            detail,
        );
        let (target, host) = (
            format!("[::ffff:169.254.169.254]:{port}"),
            "[::ffff:a9fe:a9fe]",
        );
        table.denied(&target, socks_address(&mapped, port), detail);
        table.denied(&format!("{host}:{port}"), socks(host, port), detail);
        let told = ("target_denied", detail);
        table.add(
            Front::Socks,
            socks("169.254.169.254", port),
            reply(NOT_ALLOWED),
            told,
        );
    }
    for host in ["2852039166", "0xa9fea9fe", "169.254.43518"] {
        let detail = "text of an address";
        table.http(connect(&format!("{host}:{port}")), 400, NO_TARGET, detail);
        table.socks(socks(host, port), reply(GENERAL_FAILURE), detail);
    }
}

fn zones(table: &mut Table) {
    let port = table.ports.addresses;
    let (zone, name) = ("the address has a zone", "port or text of an address");
    for (host, detail) in [
        ("[fe80::1%eth0]", zone),
        ("[fe80::1%25eth0]", zone),
        ("[::ffff:169.254.169.254%1]", zone),
        ("fe80::1%eth0", name),
    ] {
        table.http(connect(&format!("{host}:{port}")), 400, NO_TARGET, detail);
        table.socks(socks(host, port), reply(GENERAL_FAILURE), detail);
    }
    // At SOCKS an address of 16 bytes has no place for a zone.
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let sent = socks_address(&link_local, port);
    let detail =
        format!("[fe80::1]:{port} is not an address of an endpoint of the route's backend");
    table.denied(&format!("[fe80::1]:{port}"), sent, &detail);
}

fn ports_that_are_none(table: &mut Table) {
    for port in ["0", "00", "65536", "+443", "", "443x", "-1"] {
        let sent = connect(&format!("{NAME}:{port}"));
        table.http(sent, 400, NO_TARGET, NOT_A_PORT);
    }
    let answer = reply(GENERAL_FAILURE);
    table.socks(socks(NAME, 0), &answer, NOT_A_PORT);
    table.socks(socks_address(&[127, 0, 0, 3], 0), &answer, NOT_A_PORT);
    table.socks(socks_address(&[0; 16], 0), &answer, NOT_A_PORT);
}

fn long_names(table: &mut Table) {
    let port = table.ports.names;
    let detail = "over 253 bytes";
    for length in [254, 255, 256] {
        let rest = length - ".es.test".len();
        let last = if rest.is_multiple_of(2) { "aa" } else { "a" };
        let name = format!("{}{last}.es.test", "a.".repeat((rest - 1) / 2));
        assert_eq!(name.len(), length);
        table.http(connect(&format!("{name}:{port}")), 400, NO_TARGET, detail);
        // The length of a name at SOCKS is one byte.
        if length < 256 {
            table.socks(socks(&name, port), reply(GENERAL_FAILURE), detail);
        }
    }
    let (label, detail) = (format!("{}.es.test", "a".repeat(64)), "label over 63 bytes");
    table.http(connect(&format!("{label}:{port}")), 400, NO_TARGET, detail);
    table.socks(socks(&label, port), reply(GENERAL_FAILURE), detail);
}

fn bodies(table: &mut Table) {
    let phrase = "a CONNECT request has no body";
    let begin = format!("CONNECT {NAME}:{} HTTP/1.1\r\n", table.ports.names);
    for rest in [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 0, 5\r\n\r\nhello",
        "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: identity\r\n\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        table.http(format!("{begin}{rest}"), 400, phrase, phrase);
    }
}

/// The detail of a name under the wildcard at a port that no route takes.
fn elsewhere(ports: Ports, port: u16) -> String {
    let Ports { names, .. } = ports;
    format!("at port {port} no route takes this name; routes take it at {names}")
}

fn without_a_route(table: &mut Table) {
    let port = table.ports.names;
    let detail = elsewhere(table.ports, 81);
    table.denied(&format!("{NAME}:81"), socks(NAME, 81), &detail);
    for name in [
        "es.test",
        "a.one.es.test",
        "one.es.test.example",
        "localhost",
    ] {
        table.denied(&format!("{name}:{port}"), socks(name, port), "");
    }
    table.denied(
        &format!("127.0.0.1:{port}"),
        socks_address(&[127, 0, 0, 1], port),
        NO_NUMBER,
    );
}

fn other_messages(table: &mut Table) {
    let port = table.ports.names;
    let request = socks(NAME, port)[GREETING.len()..].to_vec();
    let command = "the client asks for another SOCKS command than CONNECT";
    for number in [0, 2, 3, 0xf0] {
        let mut request = request.clone();
        request[1] = number;
        let sent = joined(&[GREETING, &request]);
        table.socks(sent, reply(COMMAND_NOT_SUPPORTED), command);
    }
    let kind = "the type of address is none of IPv4, IPv6 and a name";
    for number in [0, 2, 5, 255] {
        let mut request = request.clone();
        request[3] = number;
        table.socks(joined(&[GREETING, &request]), reply(GENERAL_FAILURE), kind);
    }
    let insists =
        "the client insists on authentication: remove user and password from its proxy URL";
    for greeting in [&[5, 0][..], &[5, 1, 2], &[5, 2, 1, 2]] {
        table.socks(joined(&[greeting, &request]), [5, 0xff], insists);
    }
    // SOCKS4 and 4a, TLS, and a request of another version behind a good greeting.
    let socks4a = joined(&[&[4, 1, 1, 187, 0, 0, 0, 1, 0], NAME.as_bytes(), &[0]]);
    for sent in [&[4, 1, 1, 187, 127, 0, 0, 3, 0][..], &socks4a, &hello(NAME)] {
        table.socks(sent, b"", NOT_SOCKS);
    }
    table.socks(joined(&[GREETING, &socks4a]), METHOD, NOT_SOCKS);
}

fn broken_requests(table: &mut Table) {
    let at = format!("{NAME}:{}", table.ports.names);
    for sent in [
        format!("connect {at} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {at}\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.2\r\n\r\n"),
        format!("CONNECT {at} HTTP/2.0\r\n\r\n"),
        format!("CONNECT  {at} HTTP/1.1\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nHost {at}\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nHost : {at}\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nA: b\0\r\n\r\n"),
        format!("CONNECT {at} HTTP/1.1\r\nA: b\rc\r\n\r\n"),
        "\u{5}\u{1}\0".to_owned(),
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
    ] {
        table.http(sent, 400, NOT_CONNECT, NOT_CONNECT);
    }
    let phrase = "portway speaks plain HTTP here: write the URL of the proxy with http://";
    let detail = "TLS: the client's proxy URL must begin with http://";
    table.http(hello(NAME), 400, phrase, detail);
}

fn no_host(table: &mut Table) {
    let port = table.ports.names;
    for (host, detail) in [
        ("", "empty"),
        (".", "empty"),
        ("one..es.test", "empty label"),
        (".one.es.test", "empty label"),
        ("*.es.test", "wildcard"),
        (
            "user@one.es.test",
            "byte other than a letter, a digit, - and _",
        ),
        ("one.es.test/", "byte other than a letter, a digit, - and _"),
        ("one.es.test:443", "port or text of an address"),
        ("[one.es.test]", "the brackets hold no IPv6 address"),
        ("[127.0.0.3]", "the brackets hold no IPv6 address"),
    ] {
        table.http(connect(&format!("{host}:{port}")), 400, NO_TARGET, detail);
        table.socks(socks(host, port), reply(GENERAL_FAILURE), detail);
    }
    table.http(connect(NAME), 400, NO_TARGET, "the target is not host:port");
    let answer = reply(GENERAL_FAILURE);
    table.socks(
        socks(b"\xffone.es.test", port),
        &answer,
        "the host is not a name",
    );
    table.socks(
        socks("one\0.es.test", port),
        &answer,
        "byte other than a letter, a digit, - and _",
    );
    table.socks(
        socks("b\u{fc}cher.es.test", port),
        &answer,
        "not ASCII: its A-label (xn--) is needed",
    );
}

fn cut_short(table: &mut Table) {
    let port = table.ports.names;
    let (http, socks) = (connect(&format!("{NAME}:{port}")), socks(NAME, port));
    let told = ("hello_eof", "");
    table.add(Front::Http, &http[..40], "", told).pace = Pace::ThenFin;
    table.add(Front::Socks, [5], "", told).pace = Pace::ThenFin;
    table.add(Front::Socks, &socks[..12], METHOD, told).pace = Pace::ThenFin;
    let told = (
        "hello_eof",
        "the client closed after portway had answered its request to the proxy",
    );
    table.add(Front::Http, http, OPEN, told).pace = Pace::ThenFin;
    table.add(Front::Socks, GREETING, METHOD, told).pace = Pace::ThenFin;
    table.add(Front::Socks, socks, reply(SUCCEEDED), told).pace = Pace::ThenFin;
}
