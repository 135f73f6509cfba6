//! Hellos that come slowly, partly or never; urgent bytes; limits (B03, B50, B74 to B84).

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::Seen::{Alert, Fin};
use super::lane::Lane;
use crate::it::fixture::{NAME, PATIENCE, Portway, config, hello, pause, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, DIGEST, End, connect, read_to_end, reset, send_urgent};
use crate::it::process;

/// A hello whose length field says that it is `missing` bytes longer than it is.
fn longer_than_it_is(missing: u8) -> Vec<u8> {
    let mut bytes = hello();
    bytes[8] += missing;
    bytes
}

#[test]
fn b03_a_hello_of_one_byte_at_a_time_costs_nearly_nothing() {
    let backend = Backend::digesting();
    let limits = "client_hello_timeout = \"60s\"";
    let toml = config(&[backend.address()], limits, "");
    let portway = Portway::start(&format!("workers = 2\n{toml}"));
    let bytes = Builder::new(NAME).padded_to(500).build();
    let (last, others) = bytes.split_last().unwrap();
    let mut client = connect(portway.address("agents"));
    let begin = Instant::now();
    let before = process::wake_ups(portway.pid());
    for byte in others {
        client.write_all(&[*byte]).unwrap();
        // Time for a wake-up per byte.
        pause(Duration::from_millis(4));
    }
    let woken = process::wake_ups(portway.pid()) - before;
    // An idle portway wakes about seven times a second: workers and control tick.
    let ticks = 10 * (begin.elapsed().as_secs() + 1);
    println!("{woken} wake-ups for {} bytes", others.len());
    let many = others.len() as u64 / 10 + ticks;
    assert!(woken < many, "{woken} wake-ups, of which {ticks} are ticks");
    client.write_all(&[*last]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        read_to_end(&mut client).0.len(),
        DIGEST,
        "routed and answered"
    );
}

#[test]
fn a_byte_behind_a_slow_hello_is_not_held_back() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = connect(portway.address("agents"));
    let (one, two) = (&hello()[..60], &hello()[60..]);
    client.write_all(one).unwrap();
    pause(Duration::from_millis(100));
    client.write_all(two).unwrap();
    client.read_exact(&mut hello()).unwrap();
    // A socket that waited for a whole hello must not wait for as many bytes again.
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn b50_a_hello_that_promises_more_is_waited_for_until_the_timeout() {
    let lane = Lane::take();
    for missing in [1, 4] {
        let bytes = longer_than_it_is(missing);
        lane.open()
            .times_out(|client| client.write_all(&bytes).unwrap());
        let cut = |client: &mut TcpStream| {
            client.write_all(&bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        };
        lane.open().rejects(cut, Fin, "hello_eof");
    }
}

#[test]
fn b74_silence_ends_at_the_timeout() {
    Lane::take().strict().times_out(|_| {});
}

#[test]
fn b75_open_and_close_is_a_probe() {
    Lane::take().strict().counts_as_probe(drop);
}

#[test]
fn b75_open_and_half_close_is_a_probe() {
    Lane::take().strict().counts_as_probe(|mut client| {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), (vec![], End::Fin));
    });
}

#[test]
fn b76_open_and_reset_is_a_probe() {
    Lane::take().strict().counts_as_probe(reset);
}

#[test]
fn b77_a_part_and_fin_is_over_at_once() {
    // The limit of the hello is longer than the test is patient, so only the FIN can end the connection.
    let backend = Backend::digesting();
    let limits = "client_hello_timeout = \"5m\"";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    for part in [1, 5, 40] {
        let mut client = connect(portway.address("agents"));
        client.write_all(&hello()[..part]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(&mut client), (vec![], End::Fin));
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "hello_eof", "{line}");
    }
    let hello_eof = [("hello_eof".to_owned(), 3.0)].into();
    assert_eq!(portway.metrics().outcomes("agents"), hello_eof);
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn b77_the_log_tells_how_much_of_the_hello_came() {
    let backend = Backend::digesting();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = connect(portway.address("agents"));
    let bytes = Builder::new(NAME).padded_to(1562 - 5).build();
    client.write_all(&bytes[..1200]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let line = portway.line_of(client.local_addr().unwrap());
    assert_eq!(line["outcome"], "hello_eof", "{line}");
    assert_eq!(line["hello_bytes"], 1200, "{line}");
    assert_eq!(line["hello_expected"], 1562, "{line}");
}

#[test]
fn b76_a_part_and_reset_is_an_early_end_too() {
    let backend = Backend::digesting();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = connect(portway.address("agents"));
    let address = client.local_addr().unwrap();
    client.write_all(&hello()[..40]).unwrap();
    reset(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "hello_eof", "{line}");
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn b78_the_timeout_is_for_the_whole_hello_not_for_a_byte() {
    let trickle = |client: &mut TcpStream| {
        client
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        for byte in hello() {
            // Sends a byte every 200 ms until the relay has closed.
            if client.write_all(&[byte]).is_err() || client.peek(&mut [0]).is_ok() {
                break;
            }
        }
    };
    Lane::take().strict().times_out(trickle);
}

#[test]
fn b80_an_urgent_byte_inside_a_hello_ends_at_the_timeout() {
    let urgent = |client: &mut TcpStream| {
        let bytes = hello();
        client.write_all(&bytes[..20]).unwrap();
        send_urgent(client, bytes[20]);
        client.write_all(&bytes[21..]).unwrap();
    };
    Lane::take().strict().times_out(urgent);
}

#[test]
fn b80_an_urgent_byte_after_the_hello_passes_in_line() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = connect(portway.address("agents"));
    let bytes = hello();
    client.write_all(&bytes).unwrap();
    let mut echoed = vec![0; bytes.len()];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, bytes);
    client.write_all(b"before").unwrap();
    send_urgent(&client, b'!');
    client.write_all(b"after").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (rest, end) = read_to_end(&mut client);
    assert_eq!(
        (String::from_utf8(rest).unwrap().as_str(), end),
        ("before!after", End::Fin)
    );
}

#[test]
fn b81_a_client_over_its_pending_connections_is_reset() {
    let backend = Backend::digesting();
    let portway = Portway::start(&config(
        &[backend.address()],
        "max_pending_per_client = 4",
        "",
    ));
    let held: Vec<_> = (0..4).map(|_| connect(portway.address("agents"))).collect();
    wait_active(&portway, 4);
    expect_overloaded(&portway, "max_pending_per_client");
    drop(held);
    assert_eq!(backend.accepted(), 0);
}

#[test]
fn by_default_a_client_has_half_of_the_pending_places_and_others_still_come_in() {
    let backend = Backend::echo();
    let limits = "max_pending_connections = 40";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    let address = portway.address("agents");
    let mut held: Vec<_> = (0..20).map(|_| connect(address)).collect();
    wait_active(&portway, 20);
    expect_overloaded(&portway, "max_pending_per_client");

    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    socket.bind(&other.into()).unwrap();
    socket.connect(&address.into()).unwrap();
    held.push(TcpStream::from(socket));
    // Only the one above was refused: each of the others is served.
    let bytes = hello();
    for client in held.iter_mut().rev() {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&bytes).unwrap();
        client.read_exact(&mut vec![0; bytes.len()]).unwrap();
    }
}

#[test]
fn b82_a_connection_over_the_limit_is_reset_and_others_are_not_touched() {
    let backend = Backend::echo();
    let limits = "max_connections = 3\nmax_pending_connections = 3\nmax_pending_per_client = 3";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    let bytes = hello();
    let mut held: Vec<_> = (0..3).map(|_| connect(portway.address("agents"))).collect();
    for client in &mut held {
        client.write_all(&bytes).unwrap();
        client.read_exact(&mut vec![0; bytes.len()]).unwrap();
    }
    expect_overloaded(&portway, "max_connections");
    for client in &mut held {
        client.write_all(b"still here").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
    }
    assert_eq!(backend.accepted(), 3);
}

/// Waits until the relay has accepted so many connections: each worker accepts for itself, in any order.
fn wait_active(portway: &Portway, count: u64) {
    let active = "portway_connections_active{listener=\"agents\"}";
    within(PATIENCE, "all are held", || {
        (portway.count(active) == count).then_some(())
    });
}

fn expect_overloaded(portway: &Portway, limit: &str) {
    let rejections = format!("portway_limit_rejections_total{{limit=\"{limit}\"}}");
    let before = portway.metric(&rejections);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // The reset may come before the connect has returned, before the write or after it.
    match socket.connect(&portway.address("agents").into()) {
        Ok(()) => {
            let mut client = TcpStream::from(socket);
            drop(client.write_all(&hello()));
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let (bytes, end) = read_to_end(&mut client);
            assert!(bytes.is_empty(), "{bytes:?}");
            // If the write has reported the reset, the read sees only an end.
            assert_ne!(end, End::Silence);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "overloaded", "{line}");
    assert!(line.to_string().contains(limit), "{line}");
    assert!((portway.metric(&rejections) - before - 1.0).abs() < 0.5);
}

#[test]
fn b84_a_large_hello_in_segments_of_one_byte_does_not_deadlock() {
    let backend = Backend::digesting();
    let portway = Portway::start(&config(
        &[backend.address()],
        "client_hello_timeout = \"5s\"",
        "",
    ));
    let bytes = Builder::new(NAME).padded_to(16 << 10).build();
    let mut client = connect(portway.address("agents"));
    SockRef::from(&client).set_tcp_nodelay(true).unwrap();
    // Beyond the receive buffer's overhead the writes end only when the relay gives up.
    drop(bytes.iter().try_for_each(|byte| client.write_all(&[*byte])));
    drop(client.shutdown(Shutdown::Write));
    let (answer, end) = read_to_end(&mut client);
    assert_eq!(end, End::Fin);
    assert!(answer.is_empty() || answer.len() == DIGEST, "{answer:?}");
    let line = portway.line_of(client.local_addr().unwrap());
    let outcome = line["outcome"].as_str().unwrap();
    assert!(["closed", "hello_timeout"].contains(&outcome), "{line}");
}

#[test]
fn a_client_outside_the_allowed_networks_is_told_so() {
    let backend = Backend::digesting();
    let routed = config(&[backend.address()], "", "");
    let denied = routed.replace(
        "[listeners.agents]",
        "[listeners.agents]\ndeny_clients = [\"127.0.0.0/8\"]",
    );
    let by_route = routed + "clients = [\"10.0.0.0/8\"]\n";
    for (toml, rule) in [(denied, "of the listener"), (by_route, "of the routes")] {
        let portway = Portway::start(&toml);
        let mut client = connect(portway.address("agents"));
        client.write_all(&hello()).unwrap();
        let (bytes, end) = read_to_end(&mut client);
        Alert(49).check(&bytes, end);
        client.shutdown(Shutdown::Write).unwrap();
        let line = portway.line_of(client.local_addr().unwrap());
        assert_eq!(line["outcome"], "client_denied", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(rule), "{line}");
        assert_eq!(backend.accepted(), 0);
    }
}
