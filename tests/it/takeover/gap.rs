//! Agents in a takeover: a check-in that is held is answered, and its connection ends between two requests.

mod paths;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use super::with_ports;
use crate::it::fixture::{NAME, PATIENCE, Portway, pause, within};
use crate::it::peers::{Backend, connect};

/// Bytes of a request, as of a check-in.
pub(crate) const REQUEST: usize = 900;
/// The first byte of a request that is answered at once.
pub(crate) const AT_ONCE: u8 = b'o';
/// Longer than portway takes an answer for one to a request that was held.
pub(crate) const HELD: Duration = Duration::from_secs(7);

const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) type Client = StreamOwned<ClientConnection, TcpStream>;
type Served = StreamOwned<ServerConnection, TcpStream>;

/// The TLS of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tls {
    version: &'static SupportedProtocolVersion,
    tickets: usize,
}

pub(crate) const EVERY: [Tls; 3] = [
    Tls {
        version: &TLS13,
        tickets: 2,
    },
    Tls {
        version: &TLS13,
        tickets: 0,
    },
    Tls {
        version: &TLS12,
        tickets: 0,
    },
];

/// A server that gives each connection to `serve`, and the configuration of its clients.
fn server(
    tls: Tls,
    address: SocketAddr,
    serve: impl Fn(Served) + Send + Sync + 'static,
) -> (Backend, Arc<ClientConfig>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = CertificateDer::from(cert.der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ServerConfig::builder_with_protocol_versions(&[tls.version]);
    let mut config = config
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.send_tls13_tickets = tls.tickets;
    let config = Arc::new(config);
    let backend = Backend::start_at(address, move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        serve(StreamOwned::new(connection, stream));
    });
    let client = ClientConfig::builder();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (backend, Arc::new(client))
}

/// Connects through portway, and sends a request behind one that is answered. The first request of a connection may
/// have session tickets behind it, so it has no gap.
pub(crate) fn request(portway: &Portway, tls: &Arc<ClientConfig>) -> Client {
    let mut client = connected(portway, tls);
    client.write_all(&[AT_ONCE; REQUEST]).unwrap();
    client.read_exact(&mut [0; 700]).unwrap();
    client.write_all(&[b'r'; REQUEST]).unwrap();
    client
}

/// Connects through portway and sends a request.
fn first_request(portway: &Portway, tls: &Arc<ClientConfig>) -> Client {
    let mut client = connected(portway, tls);
    client.write_all(&[b'r'; REQUEST]).unwrap();
    client
}

/// Connects through portway, with a handshake as soon as something is written.
pub(crate) fn connected(portway: &Portway, tls: &Arc<ClientConfig>) -> Client {
    let name = NAME.try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(tls), name).unwrap();
    let client = StreamOwned::new(connection, connect(portway.address("agents")));
    client.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// A server that holds each request until it may answer.
#[derive(Default)]
pub(crate) struct Holding {
    held: AtomicUsize,
    may_answer: Mutex<bool>,
    changed: Condvar,
}

impl Holding {
    pub(crate) fn start(self: &Arc<Self>, tls: Tls) -> (Backend, Arc<ClientConfig>) {
        let holding = Arc::clone(self);
        server(tls, LOCAL, move |mut served| {
            let mut request = [0; REQUEST];
            while served.read_exact(&mut request).is_ok() {
                if request[0] == AT_ONCE {
                    served.write_all(&[b'a'; 700]).unwrap();
                    continue;
                }
                holding.held.fetch_add(1, Ordering::SeqCst);
                let may_answer = holding.may_answer.lock().unwrap();
                let waits = |may_answer: &mut bool| !*may_answer;
                drop(holding.changed.wait_while(may_answer, waits).unwrap());
                served.write_all(&[b'a'; 700]).unwrap();
            }
        })
    }

    pub(crate) fn wait_held(&self, count: usize) {
        within(PATIENCE, "the server holds the request", || {
            (self.held.load(Ordering::SeqCst) == count).then_some(())
        });
    }

    pub(crate) fn answer(&self) {
        *self.may_answer.lock().unwrap() = true;
        self.changed.notify_all();
    }
}

/// Reads an answer and then the FIN, without a close_notify: portway has none to send.
pub(crate) fn read_answer_and_end(client: &mut Client) {
    let mut answer = [0; 700];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [b'a'; 700]);
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
}

#[test]
fn a_check_in_that_is_held_outlives_a_takeover_and_its_connection_ends_behind_the_answer() {
    thread::scope(|scope| {
        for tls in EVERY {
            scope.spawn(move || {
                let is_first = tls.tickets == 0;
                let request = if is_first { first_request } else { request };
                let holding = Arc::new(Holding::default());
                let (backend, tls) = holding.start(tls);
                let limits = "drain_timeout = \"1s\"\ntakeover_timeout = \"365d\"";
                let mut portway = Portway::start(&with_ports(backend.address(), limits));
                let mut client = request(&portway, &tls);
                holding.wait_held(1);
                let next = portway.start_beside(&["--takeover"]);
                portway.tells("draining");
                pause(HELD);
                holding.answer();
                read_answer_and_end(&mut client);
                let local = client.sock.local_addr().unwrap();
                drop(client);
                let line = portway.line_of(local);
                assert_eq!(line["outcome"], "drained", "{line}");
                assert_eq!(line["closed_by"], "portway", "{line}");
                assert_eq!(line["detail"], serde_json::Value::Null, "{line}");
                assert_eq!(portway.wait_exit().code(), Some(0));
                // The next check-in reaches the new process.
                let mut client = request(&next, &tls);
                client.read_exact(&mut [0; 700]).unwrap();
            });
        }
    });
}

#[test]
fn a_stop_waits_for_a_check_in_that_is_held_and_ends_its_connection_behind_the_answer() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let limits = "drain_timeout = \"365d\"";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let mut client = request(&portway, &tls);
    holding.wait_held(1);
    portway.signal(Signal::TERM);
    portway.tells("draining");
    pause(HELD);
    holding.answer();
    read_answer_and_end(&mut client);
    drop(client);
    assert_eq!(portway.wait_exit().code(), Some(0));
}

#[test]
fn a_request_that_crosses_the_end_of_its_connection_is_counted_and_never_reaches_the_backend() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let limits = "takeover_timeout = \"365d\"";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let mut client = request(&portway, &tls);
    holding.wait_held(1);
    // Another connection, without a request, keeps the old process alive.
    let mut other = connected(&portway, &tls);
    other.conn.complete_io(&mut other.sock).unwrap();
    let next = portway.start_beside(&["--takeover"]);
    portway.tells("draining");
    pause(HELD);
    holding.answer();
    read_answer_and_end(&mut client);
    client.write_all(&[b'r'; REQUEST]).unwrap();
    let local = client.sock.local_addr().unwrap();
    client.sock.shutdown(Shutdown::Write).unwrap();
    let line = portway.line_of(local);
    assert_eq!(line["outcome"], "drained", "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.ends_with("it was not passed on"), "{detail}");
    // The new process shows the counters of the old one.
    within(PATIENCE, "the request is counted", || {
        let crossed = "portway_drain_crossed_total{process=\"predecessor\"}";
        (next.metrics().find(crossed) == Some(1)).then_some(())
    });
    drop(other);
    assert_eq!(portway.wait_exit().code(), Some(0));
    let ended = portway.tells("the drain has ended");
    let fields = &ended["fields"];
    assert_eq!(fields["ended_between_requests"], 1, "{ended}");
    assert_eq!(fields["requests_crossed"], 1, "{ended}");
    assert_eq!(fields["reset_by_portway"], 0, "{ended}");
    assert_eq!(fields["ended_by_themselves"], 1, "{ended}");
    assert_eq!(holding.held.load(Ordering::SeqCst), 1);
}

#[test]
fn a_download_that_pauses_outlives_a_takeover_whole() {
    const PARTS: [(u64, usize); 5] = [(0, 300), (7, 3000), (1, 15_000), (3, 9000), (7, 70_000)];
    let (backend, tls) = server(EVERY[0], LOCAL, |mut served| {
        served.read_exact(&mut [0; REQUEST]).unwrap();
        for (seconds, size) in PARTS {
            pause(Duration::from_secs(seconds));
            served.write_all(&vec![b'd'; size]).unwrap();
            served.flush().unwrap();
        }
        served.conn.send_close_notify();
        served.flush().unwrap();
    });
    // The search for a gap has begun for every connection after a tenth of this time.
    let limits = "takeover_timeout = \"60s\"";
    let mut portway = Portway::start(&with_ports(backend.address(), limits));
    let mut client = first_request(&portway, &tls);
    client.read_exact(&mut [0; 300]).unwrap();
    let _next = portway.start_beside(&["--takeover"]);
    portway.tells("draining");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    let size: usize = PARTS.iter().map(|(_, size)| size).sum();
    assert_eq!(rest.len(), size - 300);
    drop(client);
    assert_eq!(portway.wait_exit().code(), Some(0));
}
