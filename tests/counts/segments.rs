//! Segments of a connection, as the kernel counts them in the test's own network.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::fixture::{Portway, config, hello};
use super::namespace::{counter, in_a_network};
use super::peers::{Backend, End, connect, read_to_end};

const CONNECTIONS: u32 = 50;

/// A backend that answers a hello with 1 KiB, reads 1 KiB and waits for the end.
fn answering() -> Backend {
    Backend::start(|mut stream| {
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&super::answer()).unwrap();
        stream.read_exact(&mut [0; 1024]).unwrap();
        drop(read_to_end(&mut stream));
    })
}

/// A connection from its first byte to its end; `say_hello` sends the hello.
fn short(portway: &Portway, say_hello: impl FnOnce(&mut TcpStream)) {
    let mut client = connect(portway.address("agents"));
    say_hello(&mut client);
    client.read_exact(&mut [0; 1024]).unwrap();
    client.write_all(&[0x17; 1024]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut client), (vec![], End::Fin));
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "closed", "{line}");
}

/// The budget covers both legs and both peers: opening, the hello, 1 KiB each way and closing. One of these
/// segments, the acknowledgement of the hello, could go with the answer, but then a hello in parts would be late.
#[test]
fn a_short_connection_costs_the_segments_of_its_budget() {
    const BUDGET: f64 = 22.2;
    in_a_network(|| {
        let backend = answering();
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let sent = || counter("snmp", "Tcp:", "OutSegs").unwrap();
        let connection = || short(&portway, |client| client.write_all(&hello()).unwrap());
        connection();
        let before = sent();
        for _ in 0..CONNECTIONS {
            connection();
        }
        let each = f64::from(u32::try_from(sent() - before).unwrap()) / f64::from(CONNECTIONS);
        println!("{each} segments a connection");
        assert!(each <= BUDGET, "{each} segments, the budget is {BUDGET}");
    });
}

/// Nagle's algorithm holds the second part of a hello back until the first one is acknowledged. A
/// delayed acknowledgement comes 40 ms later, and the kernel counts it.
#[test]
fn the_parts_of_a_hello_are_acknowledged_without_delay() {
    in_a_network(|| {
        let backend = answering();
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let delayed = || counter("netstat", "TcpExt:", "DelayedACKs").unwrap();
        let before = delayed();
        for _ in 0..CONNECTIONS {
            short(&portway, |client| {
                client.set_nodelay(false).unwrap();
                let hello = hello();
                let (first, second) = hello.split_at(100);
                client.write_all(first).unwrap();
                client.write_all(second).unwrap();
            });
        }
        let late = delayed() - before;
        println!("{late} delayed acknowledgements of {CONNECTIONS} hellos in parts");
        // One or two may come from a busy machine that delays a thread for 40 ms.
        assert!(late < u64::from(CONNECTIONS) / 5, "{late} of {CONNECTIONS}");
    });
}
