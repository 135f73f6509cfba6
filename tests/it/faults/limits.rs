//! Connections that end at a limit, and the keepalive that finds dead peers.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::it::fixture::{PATIENCE, Portway, config, hello, pause, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, End, connect, read_to_end};

/// Waits until the connection is reset at its limit of a few seconds; returns the log line.
fn ends(portway: &Portway, client: &mut TcpStream, outcome: &str) -> Value {
    assert_eq!(read_to_end(client), (vec![], End::Reset));
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], outcome, "{line}");
    assert_eq!(line["closed_by"], "portway", "{line}");
    line
}

#[test]
fn a_connection_without_a_byte_ends_at_its_idle_timeout() {
    let backend = Backend::echo();
    let limits = "idle_timeout = \"5s\"";
    let portway = Portway::start(&config(&[backend.address()], "", limits));
    let mut client = portway.relayed();
    // Busy for longer than the limit, and then silent.
    for _ in 0..160 {
        pause(Duration::from_millis(50));
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let line = ends(&portway, &mut client, "idle_timeout");
    let ms = line["duration_ms"].as_f64().unwrap();
    assert!((12_900.0..120_000.0).contains(&ms), "{line}");
}

#[test]
fn a_half_closed_connection_without_a_byte_ends_at_its_own_timeout() {
    let backend = Backend::holding();
    let limits = "half_close_timeout = \"2s\"";
    let portway = Portway::start(&config(&[backend.address()], "", limits));
    let mut client = portway.client();
    client.shutdown(Shutdown::Write).unwrap();
    let line = ends(&portway, &mut client, "half_close_timeout");
    let ms = line["duration_ms"].as_f64().unwrap();
    assert!((1900.0..20_000.0).contains(&ms), "{line}");
}

/// Seconds until the next keepalive probe of the socket between these addresses.
fn probe_in(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let hex = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => {
            let ip = u32::from_ne_bytes(ip.octets());
            format!("{ip:08X}:{:04X}", address.port())
        }
        IpAddr::V6(_) => unreachable!("the tests use IPv4"),
    };
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let pair = format!(" {} {} ", hex(local), hex(remote));
    let line = table.lines().find(|line| line.contains(&pair))?;
    // The field says which timer runs, and when it ends in hundredths of a second.
    let ticks = line.split_whitespace().nth(5)?.strip_prefix("02:")?;
    Some(u64::from_str_radix(ticks, 16).unwrap() / 100)
}

#[test]
fn the_keepalive_of_a_backend_holds_on_both_legs() {
    let (tell, peer) = mpsc::channel();
    let backend = Backend::start(move |mut stream| {
        tell.send(stream.peer_addr().unwrap()).unwrap();
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&hello()).unwrap();
        drop(read_to_end(&mut stream));
    });
    let keepalive = "keepalive = \"25s\"";
    let portway = Portway::start(&config(&[backend.address()], "", keepalive));
    let client = portway.relayed();
    let legs = [
        (portway.address("agents"), client.local_addr().unwrap()),
        (peer.recv().unwrap(), backend.address()),
    ];
    for (ours, other) in legs {
        // Until its last byte is acknowledged another timer runs; then it has the default of 45 s
        // until the worker comes across the connection.
        let what = format!("keepalive towards {other}");
        let seconds = within(PATIENCE, &what, || {
            probe_in(ours, other).filter(|seconds| *seconds <= 25)
        });
        assert!(seconds > 0, "{what}: {seconds} s");
    }
}

/// A client that asks for a name without a route.
fn unknown(portway: &Portway) -> TcpStream {
    let mut client = connect(portway.address("agents"));
    let hello = Builder::new("unknown.example").build();
    client.write_all(&hello).unwrap();
    client
}

#[test]
fn a_refused_client_that_goes_on_sending_is_cut() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = unknown(&portway);
    let block = vec![0x17; 64 << 10];
    let mut sent = 0;
    while client.write_all(&block).is_ok() {
        sent += block.len();
        assert!(sent < 64 << 20, "the peer takes everything");
    }
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "no_route", "{line}");
}

#[test]
fn a_refused_client_that_does_nothing_more_is_let_go() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = unknown(&portway);
    let line = portway.line_of(client.local_addr().unwrap());
    let ms = line["duration_ms"].as_f64().unwrap();
    assert!((900.0..10_000.0).contains(&ms), "{line}");
    assert_eq!(read_to_end(&mut client).1, End::Fin);
}
