//! Programs and devices on the way that end or forget silent connections: `docs/middleboxes.md` describes them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::far::{Far, NEAR, beside_a_far_network, shell};
use super::fixture::{NAME, Portway, config, pause, route};
use super::hello::Builder;
use super::namespace::{CONNTRACK, granted_by};
use super::others::{Other, Program};
use super::peers::{Backend, End, connect, free, is_timeout, read_to_end};

/// Which relay of somebody else ends a connection after three seconds without a byte, and the keys with its limit.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `timeout client` and `timeout server`.
    Haproxy,
    /// `timeout tunnel`.
    HaproxyTunnel,
    /// `proxy_timeout` of the stream module.
    Nginx,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Haproxy, Self::HaproxyTunnel, Self::Nginx];

    /// Starts it in front of a server, and returns its address too; `None` if the machine does not have it.
    fn start(self, server: SocketAddr) -> Option<(Other, SocketAddr)> {
        let address = free();
        let haproxy = |limits: &str| {
            let relay = format!("listen agents\n bind {address}\n server one {server}\n");
            (
                Program::Haproxy,
                format!(" timeout connect 5s\n{limits}{relay}"),
            )
        };
        let (program, text) = match self {
            Self::Haproxy => haproxy(" timeout client 3s\n timeout server 3s\n"),
            Self::HaproxyTunnel => {
                haproxy(" timeout client 60s\n timeout server 60s\n timeout tunnel 3s\n")
            }
            Self::Nginx => {
                let relay = format!("listen {address}; proxy_pass {server}; proxy_timeout 3s;");
                (Program::Nginx, format!("stream {{ server {{ {relay} }} }}"))
            }
        };
        Some((Other::start(program, address, &text)?, address))
    }
}

/// A client whose hello for this name has been sent back.
fn echoed(address: SocketAddr, name: &str) -> TcpStream {
    let mut client = connect(address);
    echo(&mut client, name);
    client
}

fn echo(client: &mut TcpStream, name: &str) {
    let hello = Builder::new(name).build();
    client.write_all(&hello).unwrap();
    client.read_exact(&mut hello.clone()).unwrap();
}

/// The line of the connection that has relayed bytes.
fn line(portway: &Portway) -> Value {
    portway.wait_line(|line| line["bytes_client_to_backend"].as_u64() > Some(0))
}

#[test]
fn a_relay_in_front_that_loses_patience_looks_like_a_client_that_closes() {
    for kind in Kind::ALL {
        let backend = Backend::echo();
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let Some((_relay, address)) = kind.start(portway.address("agents")) else {
            continue;
        };
        let mut client = echoed(address, NAME);
        let line = line(&portway);
        assert_eq!(line["outcome"], "closed", "{kind:?}: {line}");
        assert_eq!(line["closed_by"], "client", "{kind:?}: {line}");
        assert_eq!(line.get("detail"), None, "{kind:?}: {line}");
        assert!(line["duration_ms"].as_f64().unwrap() > 2900.0, "{line}");
        assert_eq!(read_to_end(&mut client).1, End::Fin, "{kind:?}");
    }
}

#[test]
fn a_relay_behind_that_loses_patience_looks_like_a_backend_that_closes() {
    for kind in Kind::ALL {
        let backend = Backend::echo();
        let Some((_relay, address)) = kind.start(backend.address()) else {
            continue;
        };
        let portway = Portway::start(&config(&[address], "", ""));
        let mut client = portway.relayed();
        assert_eq!(read_to_end(&mut client), (Vec::new(), End::Fin), "{kind:?}");
        drop(client);
        let line = line(&portway);
        assert_eq!(line["outcome"], "closed", "{kind:?}: {line}");
        assert_eq!(line["closed_by"], "backend", "{kind:?}: {line}");
    }
}

/// Makes the network in the middle forget a connection after 15 s without a packet, and believe none that it does not
/// know. The probes of a connection are 10 s apart at least.
const FORGETS: &str = "echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose && \
     echo 15 >/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";

/// From now on it drops packets of connections that it does not know.
const DROPS: &str =
    "iptables -F FORWARD && iptables -A FORWARD -m conntrack --ctstate INVALID -j DROP";

/// From now on it answers such packets with a RST, as the NAT of a cloud does.
const RESETS: &str = "iptables -F FORWARD && \
     iptables -A FORWARD -p tcp -m conntrack --ctstate INVALID -j REJECT --reject-with tcp-reset";

/// More than the time after which it forgets.
const SILENCE: Duration = Duration::from_secs(20);

/// Runs a test with a network behind such a firewall: the network in the middle, and the one behind.
fn behind_a_firewall(test: impl FnOnce(&Far, &Far) + Send) {
    beside_a_far_network(|middle| {
        let end = middle.behind_a_hop(1500);
        let forgetting = middle.run(|| shell(DROPS).and_then(|()| shell(FORGETS)));
        if granted_by(CONNTRACK, forgetting).is_some() {
            test(middle, &end);
        }
    });
}

/// Routes for `fleet`, whose connections have probes each second, and for `silent`, whose connections have none.
fn two_routes(address: SocketAddr, limits: &str) -> String {
    let toml = config(&[address], "", "keepalive = \"1s\"")
        + &route("silent", address, &format!("keepalive = \"9h\"\n{limits}"));
    let bind = format!("bind = [\"{NEAR}:0\"]");
    toml.replace("bind = [\"127.0.0.1:0\"]", &bind)
}

#[test]
fn keepalive_keeps_clients_in_the_table_of_a_firewall_that_forgets_the_others() {
    behind_a_firewall(|middle, end| {
        let backend = Backend::echo();
        let portway = Portway::start(&two_routes(backend.address(), "idle_timeout = \"30s\""));
        let at = portway.address("agents");
        let mut kept = end.run(|| echoed(at, NAME));
        let [mut dropped, mut reset] = [(); 2].map(|()| end.run(|| echoed(at, "silent.example")));
        pause(SILENCE);
        echo(&mut kept, NAME);
        // The bytes of a client that is forgotten get lost, and it hears nothing, or a RST that is not from portway.
        dropped
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        dropped.write_all(b"lost").unwrap();
        assert!(is_timeout(&dropped.read(&mut [0]).unwrap_err()));
        middle.run(|| shell(RESETS)).unwrap();
        reset.write_all(b"lost").unwrap();
        assert_eq!(read_to_end(&mut reset).1, End::Reset);
        let hello = Builder::new("silent.example").build().len() as u64;
        for client in [&dropped, &reset] {
            let line = portway.line_of(client.local_addr().unwrap());
            assert_eq!(line["outcome"], "idle_timeout", "{line}");
            assert_eq!(line["closed_by"], "portway", "{line}");
            assert_eq!(line["bytes_client_to_backend"], hello, "{line}");
        }
        echo(&mut kept, NAME);
    });
}

#[test]
fn keepalive_keeps_backends_in_the_table_of_a_firewall_that_forgets_the_others() {
    behind_a_firewall(|middle, end| {
        let listener = end.run(|| TcpListener::bind("10.0.1.2:0").unwrap());
        let backend = listener.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        drop(stream.write_all(&buffer[..count]));
                    }
                });
            }
        });
        let limits = "idle_timeout = \"30s\"\nstall_timeout = \"5s\"";
        let portway = Portway::start(&two_routes(backend, limits));
        let at = portway.address("agents");
        let mut kept = echoed(at, NAME);
        let [mut dropped, mut reset] = [(); 2].map(|()| echoed(at, "silent.example"));
        pause(SILENCE);
        echo(&mut kept, NAME);
        // Where a RST comes back for bytes to a backend that is forgotten, the log shows one of the backend.
        middle.run(|| shell(RESETS)).unwrap();
        reset.write_all(b"lost").unwrap();
        let lost = portway.line_of(reset.local_addr().unwrap());
        assert_eq!(lost["outcome"], "backend_reset", "{lost}");
        assert_eq!(lost["closed_by"], "backend", "{lost}");
        middle.run(|| shell(DROPS)).unwrap();
        dropped.write_all(b"lost").unwrap();
        let lost = portway.line_of(dropped.local_addr().unwrap());
        assert_eq!(lost["outcome"], "stalled", "{lost}");
        assert_eq!(lost["closed_by"], "portway", "{lost}");
        assert_eq!(lost["bytes_unacknowledged"], 4, "{lost}");
        echo(&mut kept, NAME);
    });
}
