//! Limits of portway and of its machine, a path that is cut, and a reload that is refused.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{Look, curl, logged, read, says};
use crate::it::far::{FAR, beside_a_far_network};
use crate::it::fixture::{NAME, PATIENCE, Portway, config, hello, message};
use crate::it::namespace::in_a_network;
use crate::it::peers::{Backend, connect, fill, read_to_end};
use crate::it::process;

#[test]
fn a_limit_is_reached() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "max_connections = 1", ""));
    let look = Look(&portway);
    let held = portway.relayed();
    let url = format!("https://{}/", portway.address("agents"));
    let Some(said) = curl(&[&url]) else {
        return;
    };
    // The reset may come before curl knows that it is connected.
    let ends = ["reset by peer", "Failed to connect"];
    assert!(ends.iter().any(|end| said.contains(end)), "{said}");
    let line = portway.wait_line(|line| line["outcome"] == "overloaded");
    logged("limit_reached", &line);
    let remedy = "Raise limits.max_connections and what bounds it";
    look.status("overloaded", &["\"reason\":\"max_connections\"", remedy]);
    let limit = look.json()["limits"][0].take();
    assert_eq!(
        (&limit["name"], &limit["near"]),
        (&"max_connections".into(), &true.into())
    );
    look.doctor(&["max_connections  1 of "]);
    // The route is not the cause.
    look.explain(&[NAME], &["route        fleet (fleet.example)"]);
    drop(held);
}

/// Sets how many descriptors portway may have.
fn limit_descriptors(portway: &Portway, most: usize) {
    let pid = Pid::from_raw(i32::try_from(portway.pid()).unwrap());
    let limit = Rlimit {
        current: Some(u64::try_from(most).unwrap()),
        maximum: Some(process::raise_descriptors()),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// Silent clients take them all. Others wait in the queue of the kernel, until their own time limit.
#[test]
fn descriptors_are_out() {
    let backend = Backend::echo();
    let limits = "client_hello_timeout = \"60s\"";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    let look = Look(&portway);
    limit_descriptors(&portway, process::descriptors(portway.pid()) + 40);
    let address = portway.address("agents");
    let silent: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    let fails = |line: &Value| message(line) == "cannot accept: new connections wait";
    let line = portway.program.wait(PATIENCE, fails);
    logged("descriptors_out", &line);
    says(&line.to_string(), &["LimitNOFILE="]);
    let status = look.json();
    let limits = status["limits"].as_array().unwrap();
    let descriptors = limits
        .iter()
        .find(|it| it["name"] == "descriptors")
        .unwrap();
    assert_eq!(descriptors["near"], true, "{descriptors}");
    says(&read(&portway), &["Near or reached: descriptors"]);
    look.explain(&[NAME], &["route        fleet (fleet.example)"]);
    drop(silent);
}

/// A client at this port, which the kernel does not need to choose. It has sent its hello.
fn client_from(port: u16, portway: &Portway) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], port)).into())
        .unwrap();
    socket.connect(&portway.address("agents").into()).unwrap();
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&hello()).unwrap();
    client
}

#[test]
fn local_ports_are_out() {
    in_a_network(|| {
        let backend = Backend::holding();
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let look = Look(&portway);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61001").unwrap();
        let held = [50_001, 50_002].map(|port| client_from(port, &portway));
        backend.wait_accepted(2);
        let mut refused = client_from(50_003, &portway);
        read_to_end(&mut refused);
        let line = portway.line_of(refused.local_addr().unwrap());
        logged("no_local_port", &line);
        // It has no port towards the server either.
        look.doctor(&["cannot connect: ", "source_addresses"]);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61099").unwrap();
        let remedy = "more source_addresses, ulimit -n or memory";
        look.status("local_exhausted", &["no local port", remedy]);
        look.explain(&[NAME], &["route        fleet (fleet.example)"]);
        drop(held);
    });
}

/// Nothing comes from there any more, and nothing says so.
#[test]
fn the_path_to_the_backend_is_cut_in_silence() {
    beside_a_far_network(|far| {
        let address = format!("{FAR}:0").parse().unwrap();
        let backend = far.run(|| Backend::echo_at(address));
        let keys = "stall_timeout = \"10s\"\nconnect_timeout = \"300ms\"";
        let portway = Portway::start(&config(&[backend.address()], "", keys));
        let look = Look(&portway);
        let client = portway.relayed();
        far.cut();
        fill(&client);
        let line = portway.line_of(client.local_addr().unwrap());
        logged("path_cut", &line);
        look.status(
            "stalled",
            &["the path to it is dead", "detail says which one"],
        );
        look.explain(&[NAME], &["route        fleet (fleet.example)"]);
        look.doctor(&["nothing answers within 300ms (connect_timeout)"]);
    });
}

#[test]
fn a_reload_is_refused() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let look = Look(&portway);
    portway.write("[listeners.agents]\nbind = 7\n");
    look.explain(&[NAME], &["has faults: `portway check`"]);
    let reload = look.command(&["reload"]);
    says(&reload, &["agents.bind: 7 is a number"]);
    let told = portway
        .program
        .wait(PATIENCE, |line| message(line).contains("stays in force"));
    logged("reload_refused", &told);
    let refused = look.json()["configuration"]["refused_reload"].take();
    let fault = ["agents.bind: 7 is a number"];
    says(&refused.to_string(), &fault);
    says(&read(&portway), &fault);
    look.doctor(&fault);
    says(&look.command(&["check"]), &fault);
}
