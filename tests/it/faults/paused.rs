//! A process that was stopped for longer than its limits (a snapshot, a freezer, SIGSTOP): bytes that
//! came meanwhile count, however late portway looks at them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::it::fixture::{PATIENCE, Portway, alike, config, hello, pause, within};
use crate::it::peers::{Backend, DIGEST, End, connect, read_to_end};
use crate::it::process;

/// Stops portway, lets something happen, and lets it go on after its limits of five seconds.
fn paused<T>(portway: &Portway, meanwhile: impl FnOnce() -> T) -> T {
    portway.signal(Signal::STOP);
    let happened = meanwhile();
    pause(Duration::from_secs(8));
    portway.signal(Signal::CONT);
    happened
}

/// Whether portway sleeps, by the state in /proc (`S`).
fn sleeps(portway: &Portway) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", portway.pid())).unwrap();
    tasks.into_iter().all(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('S'))
    })
}

#[test]
fn f33_a_hello_that_was_whole_in_time_is_routed_after_a_pause() {
    let backend = Backend::echo();
    let limits = "client_hello_timeout = \"5s\"";
    let portway = Portway::start(&config(&[backend.address()], limits, ""));
    let mut client = connect(portway.address("agents"));
    let hello = hello();
    let (first, rest) = hello.split_at(100);
    client.write_all(first).unwrap();
    // portway has looked at the part, and waits for more.
    let series = "portway_connections_accepted_total{listener=\"agents\"}";
    within(PATIENCE, "portway has looked at the part", || {
        (portway.count(series) == 1 && sleeps(&portway)).then_some(())
    });
    paused(&portway, || client.write_all(rest).unwrap());
    let mut echoed = vec![0; hello.len()];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(echoed, hello);
}

#[test]
fn f33_a_backend_that_was_connected_in_time_is_used_after_a_pause() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    // One connection fits into the queue. The first segment of the next one is lost, and the kernel
    // sends it again after a second.
    listener.listen(0).unwrap();
    let listener = TcpListener::from(listener);
    let address = listener.local_addr().unwrap();
    let queued = connect(address);
    let limits = "connect_timeout = \"5s\"\ndial_timeout = \"5s\"";
    let portway = Portway::start(&config(&[address], "", limits));
    let mut client = portway.client();
    within(PATIENCE, "portway dials", || {
        let mut sockets = process::sockets().into_iter();
        sockets
            .any(|it| it.remote == address && it.is_dialling())
            .then_some(())
    });
    // If portway gave up before the pause, nobody comes any more.
    listener.set_nonblocking(true).unwrap();
    let accept = || within(PATIENCE, "a connection", || listener.accept().ok()).0;
    let mut backend = paused(&portway, || {
        drop(accept());
        drop(queued);
        accept()
    });
    let mut received = vec![0; hello().len()];
    backend.read_exact(&mut received).unwrap();
    assert!(alike(&received, &hello()));
    drop(backend);
    assert_eq!(read_to_end(&mut client).1, End::Fin);
}

#[test]
fn f33_a_connection_whose_peer_spoke_in_time_is_not_idle_after_a_pause() {
    // It answers nothing before the end, which would be another byte.
    let backend = Backend::digesting();
    let keys = "idle_timeout = \"5s\"";
    let portway = Portway::start(&config(&[backend.address()], "", keys));
    let mut clients: Vec<_> = (0..20).map(|_| portway.client()).collect();
    let passes = |bytes: usize| {
        let up = "portway_bytes_total{backend=\"fleet\",direction=\"client_to_backend\"}";
        within(PATIENCE, "the bytes pass", || {
            (portway.count(up) == 20 * bytes as u64).then_some(())
        });
    };
    passes(hello().len());
    paused(&portway, || {
        for client in &mut clients {
            client.write_all(b"x").unwrap();
        }
    });
    passes(hello().len() + 1);
    // Two ticks, and less than the limit.
    pause(Duration::from_millis(2500));
    let outcomes = portway.metrics().outcomes("agents");
    assert!(outcomes.is_empty(), "{outcomes:?}");
    for client in &mut clients {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(client).0.len(), DIGEST);
    }
}
