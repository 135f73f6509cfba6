//! Peers that vanish: no FIN and no RST, only silence.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use serde_json::Value;

use crate::it::far::{FAR, Far, NEAR, beside_a_far_network, shell};
use crate::it::fixture::{NAME, PATIENCE, Portway, config, hello, route, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, Unanswering, connect};

/// A portway that listens on the cable.
fn listening_near(toml: &str) -> Portway {
    let bind = format!("bind = [\"{NEAR}:0\"]");
    Portway::start(&toml.replace("bind = [\"127.0.0.1:0\"]", &bind))
}

/// A client at the other end of the cable whose hello, which is for this name, has been sent back.
fn relayed(far: &Far, portway: &Portway, name: &str) -> TcpStream {
    let mut client = far.run(|| connect(portway.address("agents")));
    echoed(&mut client, name);
    client
}

fn echoed(client: &mut TcpStream, name: &str) {
    let hello = Builder::new(name).build();
    client.write_all(&hello).unwrap();
    client.read_exact(&mut hello.clone()).unwrap();
}

/// The line of a connection whose peer was given up, and its detail.
fn given_up(line: &Value, outcome: &str) -> String {
    assert_eq!(line["outcome"], outcome, "{line}");
    assert_eq!(line["closed_by"], "portway", "{line}");
    line["detail"].as_str().unwrap().to_owned()
}

/// A backend at the other end of the cable that reads the hello for this name, may send it back, and does nothing more.
fn far_backend(far: &Far, name: &'static str, is_echoing: bool) -> SocketAddr {
    let listener = far.run(|| TcpListener::bind((FAR, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = Builder::new(name).build();
        stream.read_exact(&mut hello).unwrap();
        if is_echoing {
            stream.write_all(&hello).unwrap();
        }
        drop(stream.read(&mut [0]));
    });
    address
}

/// Whether the kernel runs this timer for its connection to a peer, which is far: 02 for keepalive, when all is
/// acknowledged, and 04 for the probes of a closed window.
fn has_timer(peer: SocketAddr, timer: &str) -> bool {
    let remote = format!(" 0200000A:{:04X} ", peer.port());
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let mut lines = table.lines().filter(|line| line.contains(&remote));
    lines.any(|line| line.contains(&format!(" {timer}:")))
}

#[test]
fn a_peer_that_answers_no_keepalive_probe_is_told_with_the_count_and_the_time() {
    beside_a_far_network(|far| {
        let backend = Backend::echo();
        let keepalive = "keepalive = \"1s\"";
        let away = far_backend(far, "away.example", true);
        let mute = far_backend(far, "mute.example", false);
        let toml = config(&[backend.address()], "", keepalive)
            + &route("away", away, keepalive)
            + &route("mute", mute, keepalive);
        let portway = listening_near(&toml);
        let client = relayed(far, &portway, NAME);
        let mut here = connect(portway.address("agents"));
        echoed(&mut here, "away.example");
        let mut unanswered = connect(portway.address("agents"));
        let hello = Builder::new("mute.example").build();
        unanswered.write_all(&hello).unwrap();
        let passed = "portway_bytes_total{backend=\"mute\",direction=\"client_to_backend\"}";
        let peers = [client.local_addr().unwrap(), away, mute];
        within(PATIENCE, "all bytes are acknowledged", || {
            let is_passed = portway.count(passed) == hello.len() as u64;
            let is_silent = |peer| has_timer(peer, "02");
            (is_passed && peers.into_iter().all(is_silent)).then_some(())
        });
        far.cut();
        for (client, outcome, peer) in [
            (client, "client_reset", "client"),
            (here, "backend_reset", "backend"),
            (unanswered, "backend_closed_early", "backend"),
        ] {
            let detail = given_up(&portway.line_of(client.local_addr().unwrap()), outcome);
            let words = format!(
                "the {peer} answered none of 3 keepalive probes; nothing has come from it for "
            );
            let time = detail.strip_prefix(&words);
            let time = time.unwrap_or_else(|| panic!("{detail}"));
            let time = time.split(';').next().unwrap();
            // A second, and three intervals of ten.
            let seconds = humantime::parse_duration(time).unwrap().as_secs();
            assert!((30..300).contains(&seconds), "{detail}");
        }
    });
}

/// A backend that echoes the hello, and then sends 1000 bytes for each message.
fn sending() -> (Backend, Sender<()>) {
    let (send, told) = channel();
    let told = Mutex::new(told);
    let backend = Backend::start(move |mut stream| {
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&hello()).unwrap();
        while told.lock().unwrap().recv().is_ok() {
            stream.write_all(&[0x17; 1000]).unwrap();
        }
    });
    (backend, send)
}

/// The kernel gives up after some seconds, and not after a quarter of an hour.
fn give_up_soon() {
    std::fs::write("/proc/sys/net/ipv4/tcp_retries2", "3").unwrap();
}

/// The detail of a client that is lost before the backend sends more.
fn lost_while_it_is_sent_to(
    client: impl FnOnce(&Portway) -> TcpStream,
    lose: impl FnOnce(),
) -> String {
    let (backend, send) = sending();
    let portway = listening_near(&config(&[backend.address()], "", ""));
    let client = client(&portway);
    give_up_soon();
    lose();
    send.send(()).unwrap();
    let line = portway.line_of(client.local_addr().unwrap());
    given_up(&line, "client_reset")
}

/// The words after the count in the detail of a client that left packets of this kind unanswered.
fn unanswered<'a>(detail: &'a str, kind: &str) -> &'a str {
    let words = detail.strip_prefix("the client answered none of ").unwrap();
    let (count, words) = words.split_once(' ').unwrap();
    assert!(count.parse::<u8>().unwrap() >= 2, "{detail}");
    let words = words.strip_prefix(kind);
    words.unwrap_or_else(|| panic!("{detail}"))
}

#[test]
fn a_client_that_acknowledges_nothing_is_told_by_the_retransmissions() {
    beside_a_far_network(|far| {
        let detail = lost_while_it_is_sent_to(|portway| relayed(far, portway, NAME), || far.cut());
        let rest = unanswered(&detail, "retransmissions; ");
        assert!(
            rest.starts_with("nothing has come from it for "),
            "{detail}"
        );
    });
}

#[test]
fn the_report_of_a_router_about_a_lost_client_is_logged() {
    beside_a_far_network(|hop| {
        let end = hop.behind_a_hop(1500);
        let client = |portway: &Portway| relayed(&end, portway, NAME);
        let detail = lost_while_it_is_sent_to(client, || hop.refuse_to_forward());
        let rest = unanswered(&detail, "retransmissions; ");
        assert!(
            rest.contains("; the network reports: No route to host"),
            "{detail}"
        );
    });
}

#[test]
fn a_client_that_is_gone_with_a_closed_window_is_told_by_the_window_probes() {
    beside_a_far_network(|far| {
        let backend = Backend::flooding();
        let portway = listening_near(&config(&[backend.address()], "", ""));
        let mut client = far.run(|| connect(portway.address("agents")));
        client.write_all(&hello()).unwrap();
        let address = client.local_addr().unwrap();
        within(PATIENCE, "the window is closed", || {
            has_timer(address, "04").then_some(())
        });
        give_up_soon();
        far.cut();
        let detail = given_up(&portway.line_of(address), "client_reset");
        unanswered(&detail, "window probes; ");
    });
}

/// Destroys sockets of this machine, as an operator or a network policy does.
fn destroy_sockets_to(client: &TcpStream) {
    let port = client.local_addr().unwrap().port();
    shell(&format!(
        "ss --kill --no-header --tcp dst {FAR} dport = :{port}"
    ))
    .unwrap();
}

#[test]
fn a_socket_that_is_destroyed_on_this_machine_is_neither_a_fault_of_portway_nor_a_reset_of_the_client()
 {
    beside_a_far_network(|far| {
        let (backend, silent) = (Backend::echo(), Unanswering::new());
        let long = "connect_timeout = \"1h\"\ndial_timeout = \"1h\"";
        let toml = config(&[backend.address()], "", "") + &route("away", silent.address(), long);
        let portway = listening_near(&toml);

        let waiting = far.run(|| connect(portway.address("agents")));
        let mut begun = far.run(|| connect(portway.address("agents")));
        begun.write_all(&hello()[..40]).unwrap();
        let mut dialling = far.run(|| connect(portway.address("agents")));
        dialling
            .write_all(&Builder::new("away.example").build())
            .unwrap();
        let relayed = relayed(far, &portway, NAME);
        within(PATIENCE, "the dial has begun", || {
            let dials = portway.metrics();
            let dials = dials.sum("portway_endpoint_connections", &[("backend", "away")]);
            (dials > 0.5).then_some(())
        });
        for (client, outcome) in [
            (waiting, "hello_eof"),
            (begun, "hello_eof"),
            (dialling, "client_reset"),
            (relayed, "client_reset"),
        ] {
            destroy_sockets_to(&client);
            let line = portway.line_of(client.local_addr().unwrap());
            let detail = given_up(&line, outcome);
            assert!(
                detail.starts_with("the client was cut off on this machine"),
                "{line}"
            );
            drop(client.shutdown(Shutdown::Both));
        }
    });
}
