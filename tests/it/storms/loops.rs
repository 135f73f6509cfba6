//! Connections that come back to portway on ways that routes.toml does not show: DNAT, and another relay. And equal
//! hellos that have another cause.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::it::fixture::{PATIENCE, Portway, config, hello, route, within};
use crate::it::hello::Builder;
use crate::it::namespace::{CONNTRACK, granted_by, in_a_network};
use crate::it::peers::{ALERT_80, Backend, End, connect, free, read_to_end};

/// An endpoint that no interface has.
const FAR: &str = "192.0.2.7:8220";
/// The source of connections to it, until a rule changes it.
const NEAR: &str = "10.9.0.1";

/// A client of another route of the same portway, which is connected before the loop and used after it.
struct Neighbour {
    client: TcpStream,
    _backend: Backend,
}

impl Neighbour {
    fn route(backend: &Backend) -> String {
        route("other", backend.address(), "")
    }

    fn connect(portway: &Portway, backend: Backend) -> Self {
        let mut client = connect(portway.address("agents"));
        let hello = Builder::new("other.example").build();
        client.write_all(&hello).unwrap();
        client.read_exact(&mut hello.clone()).unwrap();
        Self {
            client,
            _backend: backend,
        }
    }

    fn is_undisturbed(&mut self) {
        self.client.write_all(b"still here").unwrap();
        let mut echoed = [0; 10];
        self.client.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b"still here");
    }
}

fn accepted(portway: &Portway) -> u64 {
    portway.count("portway_connections_accepted_total{listener=\"agents\"}")
}

/// A client whose connection loops gets an answer, and the log of portway names the endpoint. Returns the line.
fn is_told(portway: &Portway, endpoint: &str) -> Value {
    let mut client = portway.client();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    drop(client);
    let line = portway.wait_line(|line| line["outcome"] == "looped");
    let attempts = line["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1, "{line}");
    assert_eq!(attempts[0]["endpoint"], endpoint, "{line}");
    assert_eq!(attempts[0]["reason"], "loop", "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("3 connections"), "{line}");
    assert!(
        detail.contains("DNAT") && detail.contains("another relay"),
        "{line}"
    );
    line
}

fn run(program: &str, arguments: &str) -> Result<(), String> {
    let mut command = Command::new(program);
    let output = command.args(arguments.split(' ')).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    output
        .status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{program}: {told}"))
}

/// Sends connections to the far endpoint to `listener` instead.
fn lead_back(listener: SocketAddr, masquerades: bool) -> Result<(), String> {
    run("ip", &format!("address add {NEAR}/32 dev lo"))?;
    run("ip", "route add 192.0.2.7/32 dev lo src 127.0.0.1")?;
    let rule = format!("-t nat -A OUTPUT -p tcp -d 192.0.2.7 -j DNAT --to {listener}");
    run("iptables", &rule)?;
    if masquerades {
        let port = listener.port();
        let rule = format!(
            "-t nat -A POSTROUTING -p tcp -d 127.0.0.1 --dport {port} -m conntrack --ctstate DNAT -j MASQUERADE"
        );
        run("iptables", &rule)?;
    }
    Ok(())
}

/// The address of the clients that come back.
fn loops_by_dnat(masquerades: bool, seen: &str) {
    in_a_network(|| {
        let (backend, spare) = (Backend::echo(), Backend::echo());
        // The endpoint that is dialled is the second one, so that it is not named by chance.
        let reserve = format!("{{ address = \"{}\", backup = true }}", spare.address());
        let toml = config(&[FAR.parse().unwrap()], "", "")
            .replace(&format!("[\"{FAR}\"]"), &format!("[{reserve}, \"{FAR}\"]"));
        let portway = Portway::start(&(toml + &Neighbour::route(&backend)));
        let listener = portway.address("agents");
        if granted_by(CONNTRACK, lead_back(listener, masquerades)).is_none() {
            return;
        }
        let mut neighbour = Neighbour::connect(&portway, backend);
        let before = accepted(&portway);
        let line = is_told(&portway, FAR);
        let client: SocketAddr = line["client"].as_str().unwrap().parse().unwrap();
        assert_eq!(client.ip().to_string(), seen, "{line}");
        assert_eq!(
            accepted(&portway) - before,
            4,
            "the client's and three rounds"
        );
        neighbour.is_undisturbed();
        // Each client gets an answer, and nothing is left of a loop.
        drop(is_told(&portway, FAR));
        let active = "portway_connections_active{listener=\"agents\"}";
        within(PATIENCE, "only the neighbour is left", || {
            (portway.count(active) == 1).then_some(())
        });
        assert_eq!(accepted(&portway) - before, 8);
        neighbour.is_undisturbed();
    });
}

#[test]
fn a_loop_by_dnat_ends_after_three_rounds_and_is_named() {
    loops_by_dnat(false, "127.0.0.1");
}

#[test]
fn a_loop_by_dnat_with_masquerading_ends_after_three_rounds_and_is_named() {
    loops_by_dnat(true, NEAR);
}

/// A routes.toml that listens here and leads there.
fn relay(from: SocketAddr, to: SocketAddr) -> String {
    config(&[to], "", "").replace("bind = [\"127.0.0.1:0\"]", &format!("bind = [\"{from}\"]"))
}

#[test]
fn two_relays_that_lead_to_each_other_end_the_loop_and_name_it() {
    let (one, two) = (free(), free());
    let backend = Backend::echo();
    let first = Portway::start(&(relay(one, two) + &Neighbour::route(&backend)));
    let second = Portway::start(&relay(two, one));
    let mut neighbour = Neighbour::connect(&first, backend);
    let before = accepted(&first);
    drop(is_told(&first, &two.to_string()));
    assert_eq!(accepted(&first) - before, 4);
    assert_eq!(accepted(&second), 3);
    neighbour.is_undisturbed();
}

/// A client of `agents` that has sent this hello.
fn client(portway: &Portway, hello: &[u8]) -> TcpStream {
    let mut client = connect(portway.address("agents"));
    client.write_all(hello).unwrap();
    client
}

#[test]
fn equal_hellos_are_refused_only_while_three_of_them_wait_for_an_answer() {
    let backend = Backend::holding();
    let endpoint = backend.address().to_string();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let equal = hello();
    let mut waiting: Vec<_> = (1..=3)
        .map(|count| {
            let client = client(&portway, &equal);
            backend.wait_accepted(count);
            client
        })
        .collect();
    let mut fourth = client(&portway, &equal);
    assert_eq!(read_to_end(&mut fourth), (ALERT_80.to_vec(), End::Fin));
    let line = portway.line_of(fourth.local_addr().unwrap());
    assert_eq!(line["outcome"], "looped", "{line}");
    assert_eq!(line["attempts"][0]["endpoint"], *endpoint, "{line}");
    assert_eq!(line["backend"], "fleet", "{line}");
    // Another hello is let through, and so is an equal one after another has gone.
    let _other = portway.client();
    backend.wait_accepted(4);
    let gone = waiting.remove(0);
    let address = gone.local_addr().unwrap();
    crate::it::peers::reset(gone);
    portway.line_of(address);
    let _again = client(&portway, &equal);
    backend.wait_accepted(5);
}

#[test]
fn equal_hellos_that_a_backend_has_answered_are_no_loop() {
    let backend = Backend::echo();
    let toml = format!("workers = 2\n{}", config(&[backend.address()], "", ""));
    let portway = Portway::start(&toml);
    let equal = hello();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = client(&portway, &equal);
            client.read_exact(&mut equal.clone()).unwrap();
            client
        })
        .collect();
    assert_eq!(backend.accepted(), clients.len());
}
