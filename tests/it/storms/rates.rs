//! New connections above `accept_rate` and `accept_rate_per_client`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::it::fixture::{PATIENCE, Portway, config, hello, within};
use crate::it::peers::Backend;

/// A client with an address of its own, and its connection if it is let in; otherwise it has been reset. The reset
/// may come before the connect has returned, before the write or after it.
fn come(portway: &Portway, number: u8) -> (SocketAddr, Option<TcpStream>) {
    let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 2, number)), 0);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&source.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    if socket.connect(&portway.address("agents").into()).is_err() {
        return (address, None);
    }
    let mut client = TcpStream::from(socket);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent = client.write_all(&hello());
    let mut echoed = hello();
    let answered = sent.and_then(|()| client.read_exact(&mut echoed));
    (address, answered.ok().map(|()| client))
}

/// Checks how many of those that came in this time were let in: the burst at least, and no more than the rate allows.
fn is_by_rate(let_in: usize, rate: u32, time: Duration) {
    let most = f64::from(rate) * (1.0 + time.as_secs_f64()) + 1.0;
    let counted = f64::from(u32::try_from(let_in).unwrap());
    assert!(
        counted >= f64::from(rate) && counted <= most,
        "{let_in} at {rate} per second in {time:?}"
    );
}

/// Waits until so many connections have been counted as refused by the limit: their clients may know it earlier.
fn are_counted(portway: &Portway, limit: &str, refused: usize) {
    let series = format!("portway_limit_rejections_total{{limit=\"{limit}\"}}");
    within(PATIENCE, "each refusal is counted", || {
        (portway.count(&series) == refused as u64).then_some(())
    });
}

#[test]
fn a_client_above_its_rate_is_reset_and_another_one_is_not() {
    let backend = Backend::echo();
    let toml = |limits| config(&[backend.address()], limits, "");
    let portway = Portway::start(&toml("accept_rate_per_client = 2"));
    let begun = Instant::now();
    let came: Vec<_> = (0..12).map(|_| come(&portway, 1)).collect();
    let time = begun.elapsed();
    let (in_, out): (Vec<_>, Vec<_>) = came.into_iter().partition(|(_, client)| client.is_some());
    is_by_rate(in_.len(), 2, time);
    are_counted(&portway, "accept_rate_per_client", out.len());
    assert!(come(&portway, 2).1.is_some(), "another client");
    if let Some((address, _)) = out.first() {
        let line = portway.line_of(*address);
        assert_eq!(line["outcome"], "rate_limited", "{line}");
        assert_eq!(line["limit"], "accept_rate_per_client", "{line}");
        assert_eq!(line["closed_by"], "portway", "{line}");
        assert_eq!(line.get("alert"), None, "{line}");
    }
    for (_, client) in in_ {
        let mut client = client.unwrap();
        client.write_all(b"still here").unwrap();
        client.read_exact(&mut [0; 10]).unwrap();
    }
    // It is let in again later, and with a higher rate at once.
    within(PATIENCE, "the client's turn", || come(&portway, 1).1);
    portway.reload_with(&toml("accept_rate_per_client = 1000"));
    let limit = "portway_limit{limit=\"accept_rate_per_client\"}";
    assert_eq!(portway.count(limit), 1000);
    let again = (0..12).filter_map(|_| come(&portway, 1).1);
    assert_eq!(again.count(), 12);
}

#[test]
fn two_thousand_connections_at_once_are_let_in_by_the_rate_over_all_workers_and_the_log_stays_short()
 {
    const RATE: u32 = 100;
    let backend = Backend::echo();
    let toml = config(&[backend.address()], &format!("accept_rate = {RATE}"), "");
    let portway = Portway::start(&format!("workers = 4\n{toml}"));
    let begun = Instant::now();
    let clients: Vec<_> = thread::scope(|scope| {
        let threads = (0..20).map(|number| {
            let portway = &portway;
            scope.spawn(move || {
                (0..100)
                    .filter_map(|_| come(portway, number).1)
                    .collect::<Vec<_>>()
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let time = begun.elapsed();
    is_by_rate(clients.len(), RATE, time);
    let refused = 2000 - clients.len();
    println!(
        "{} of 2,000 were let in, and {refused} reset, in {time:?}",
        clients.len()
    );
    are_counted(&portway, "accept_rate", refused);
    let lines = portway.connections.all();
    let lines = lines
        .iter()
        .filter(|line| line["outcome"] == "rate_limited" && line["limit"] == "accept_rate");
    // Ten in each second that has begun.
    assert!(lines.count() as u64 <= 10 * (time.as_secs() + 2));
}
