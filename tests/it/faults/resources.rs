//! Running out of descriptors, and many connections (F14).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::it::fixture::{PATIENCE, Portway, config, hello, message, pause, route, within};
use crate::it::hello::Builder;
use crate::it::namespace::in_a_network;
use crate::it::peers::{ALERT_80, Backend, End, connect, read_to_end, reset};
use crate::it::process;

/// A number of descriptors as the value of a metric.
fn count(descriptors: u64) -> f64 {
    f64::from(u32::try_from(descriptors).unwrap())
}

fn limit_descriptors(portway: &Portway, most: u64) {
    let pid = Pid::from_raw(i32::try_from(portway.pid()).unwrap());
    let maximum = process::raise_descriptors();
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(maximum),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[test]
fn f14_without_descriptors_nothing_spins_and_service_comes_back() {
    let maximum = process::raise_descriptors();
    let backend = Backend::echo();
    let limits = "client_hello_timeout = \"60s\"";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    let mut held = portway.relayed();
    let used = u64::try_from(process::descriptors(portway.pid())).unwrap();
    let before = portway.metric("process_open_fds");
    limit_descriptors(&portway, used + 40);
    // Without a hello, each accepted connection keeps its descriptor.
    let waiting: Vec<_> = (0..500)
        .map(|_| connect(portway.address("agents")))
        .collect();
    within(PATIENCE, "all descriptors are taken", || {
        (process::descriptors(portway.pid()) + 2 >= usize::try_from(used + 40).unwrap())
            .then_some(())
    });
    let before_pause = process::ticks(portway.pid());
    pause(Duration::from_secs(2));
    let ticks = process::ticks(portway.pid()) - before_pause;
    assert!(ticks <= 20, "{ticks} of 200 ticks of processor time");
    // Descriptors are reserved for admin and for what it reads. Otherwise these values would be old.

    let page = portway.metrics();
    let open = page.get("process_open_fds");
    assert!(open > count(used + 30), "{open} now, {before} before");
    assert_eq!(page.count("process_max_fds"), used + 40);
    let failures = "portway_accept_errors_total{reason=\"descriptors\"}";
    assert!(page.count(failures) > 0);
    let warns = |line: &Value| message(line) == "cannot accept: new connections wait";
    let warning = portway.program.wait(PATIENCE, warns);
    let remedy = warning["fields"]["remedy"].as_str().unwrap();
    assert!(remedy.contains("LimitNOFILE="), "{remedy}");
    held.write_all(b"still").unwrap();
    held.read_exact(&mut [0; 5]).unwrap();
    let told = portway.program.all();
    assert!(
        told.len() < 40,
        "{} lines about it: {}",
        told.len(),
        portway.program.tail()
    );
    limit_descriptors(&portway, maximum);
    drop(portway.relayed());
    drop(waiting);
}

#[test]
fn without_a_descriptor_for_the_dial_the_client_is_told_so() {
    let maximum = process::raise_descriptors();
    let backend = Backend::echo();
    let limits = "client_hello_timeout = \"60s\"";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    let descriptors = || process::descriptors(portway.pid());
    limit_descriptors(&portway, u64::try_from(descriptors() + 20).unwrap());
    // Silent clients take all descriptors. The first client that gets none waits in the queue.
    let mut silent = Vec::new();
    let fails = |line: &Value| message(line) == "cannot accept: new connections wait";
    let mut client = loop {
        let before = descriptors();
        let client = connect(portway.address("agents"));
        let is_accepted = within(PATIENCE, "it is accepted, or none is left for it", || {
            // In this order: the attempt behind the last client fails too.
            let has_failed = portway.program.find(fails).is_some();
            let is_accepted = descriptors() > before;
            (is_accepted || has_failed).then_some(is_accepted)
        });
        if !is_accepted {
            break client;
        }
        silent.push(client);
    };
    client.write_all(&hello()).unwrap();
    // It takes the one that becomes free, and none is left for the dial.
    reset(silent.pop().unwrap());
    let (bytes, end) = read_to_end(&mut client);
    assert_eq!((bytes, end), (ALERT_80.to_vec(), End::Fin));
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "local_exhausted", "{line}");
    let detail = line["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(&backend.address().to_string()), "{line}");
    assert!(detail.contains("ulimit -n"), "{line}");
    limit_descriptors(&portway, maximum);
    drop(portway.relayed());
}

#[test]
fn f16_without_a_local_port_for_the_dial_the_log_says_towards_whom_and_what_helps() {
    in_a_network(|| {
        let (backend, other) = (Backend::holding(), Backend::echo());
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        // From now on there are two ports towards each address.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61001").unwrap();
        let client = |port| client_from(port, &portway);
        let _held = [50_001, 50_002].map(client);
        backend.wait_accepted(2);
        let mut refused = client(50_003);
        let (bytes, end) = read_to_end(&mut refused);
        assert_eq!((bytes, end), (ALERT_80.to_vec(), End::Fin));
        let line = portway.line_of(refused.local_addr().unwrap());
        assert_eq!(line["outcome"], "local_exhausted", "{line}");
        let detail = line["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(&backend.address().to_string()), "{line}");
        assert!(detail.contains("no local port"), "{line}");
        assert!(detail.contains("net.ipv4.ip_local_port_range"), "{line}");
        assert!(detail.contains("61000 to 61001"), "{line}");
        assert!(detail.contains("source_addresses"), "{line}");
        // There are two ports towards another server too.
        let both = config(&[backend.address()], "", "") + &route("other", other.address(), "");
        portway.reload_with(&both);
        let hello = Builder::new("other.example").build();
        let mut client = client_with(50_004, &portway, &hello);
        let mut echoed = vec![0; hello.len()];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, hello);
    });
}

/// A client at this port, which the kernel does not need to choose. It has sent its hello.
fn client_from(port: u16, portway: &Portway) -> TcpStream {
    client_with(port, portway, &hello())
}

fn client_with(port: u16, portway: &Portway, hello: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = SocketAddr::from(([127, 0, 0, 1], port));
    socket.bind(&own.into()).unwrap();
    socket.connect(&portway.address("agents").into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(hello).unwrap();
    client
}

/// Each source address has the ports of the range towards each endpoint: the bind takes none of them for itself.
#[test]
fn each_source_address_adds_the_ports_of_the_range_towards_each_endpoint() {
    in_a_network(|| {
        let backends = [Backend::holding(), Backend::holding()];
        let sources = "source_addresses = [\"127.0.0.2\", \"127.0.0.3\"]";
        let endpoints = [0, 1].map(|number: usize| backends[number].address());
        let portway = Portway::start(&config(&endpoints, "", sources));
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61001").unwrap();
        // Two ports, two sources, two endpoints.
        let _held: Vec<_> = (50_001..=50_008)
            .map(|port| client_from(port, &portway))
            .collect();
        for backend in &backends {
            backend.wait_accepted(4);
        }
        let mut refused = client_from(50_009, &portway);
        let (bytes, end) = read_to_end(&mut refused);
        assert_eq!((bytes, end), (ALERT_80.to_vec(), End::Fin));
        let line = portway.line_of(refused.local_addr().unwrap());
        assert_eq!(line["outcome"], "local_exhausted", "{line}");
        // Each source was tried towards each endpoint.
        let attempts = line["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 4, "{line}");
        for attempt in attempts {
            assert_eq!(attempt["reason"], "local_exhausted", "{line}");
            let error = attempt["error"].as_str().unwrap();
            assert!(error.contains(" from 127.0.0."), "{line}");
            assert!(error.contains("61000 to 61001"), "{line}");
        }
    });
}

#[test]
fn a_source_address_that_the_host_does_not_have_is_told_to_the_operator() {
    in_a_network(|| {
        let backend = Backend::holding();
        let sources = "source_addresses = [\"192.0.2.9\"]";
        let portway = Portway::start(&config(&[backend.address()], "", sources));
        let mut client = portway.client();
        assert_eq!(read_to_end(&mut client).1, End::Fin);
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "local_exhausted", "{line}");
        let detail = line["detail"].as_str().unwrap_or_default();
        assert!(
            detail.contains("from 192.0.2.9: this host does not have"),
            "{line}"
        );
        assert!(detail.contains("source_addresses"), "{line}");
    });
}

#[test]
fn three_thousand_connections_from_one_address_are_all_served() {
    process::raise_descriptors();
    let backend = Backend::holding();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let clients: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..375).map(|_| portway.client()).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    backend.wait_accepted(3000);
    let metrics = portway.metrics();
    let refused = metrics.sum("portway_connections_closed_total", &[]);
    assert!(
        refused < 0.5,
        "{refused} of {} ended: {:?}",
        clients.len(),
        metrics.outcomes("agents")
    );
}
