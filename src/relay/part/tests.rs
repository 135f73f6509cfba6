//! The end in a gap, between real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;
use tokio::task::yield_now;

use super::super::tests::{block_on, end, joined, means, pair, relayed};
use crate::outcome::{ClosedBy, Direction, Outcome};
use crate::relay::{End, Flow, Parting, Splicing};

/// A record of application data.
fn data(length: u8) -> Vec<u8> {
    let mut record = vec![23, 3, 3, 0, length];
    record.resize(5 + usize::from(length), 0xaa);
    record
}

/// Lets a drain find a gap behind an answer.
fn find_a_gap(flow: &Flow) {
    flow.drain_in_gap();
    // It begins as TLS does.
    let handshake = [22, 3, 3, 0, 1, 2];
    flow.gap.pass(Direction::BackendToClient, &handshake, 0);
    flow.gap.pass(Direction::ClientToBackend, &data(100), 0);
    flow.gap.pass(Direction::BackendToClient, &data(100), 300);
    for _ in 0..5 {
        flow.step();
    }
}

/// Lets a relay begin whose request has been answered and whose drain has found a gap. Returns its end and the result
/// of what the client does.
fn parted<T: Send + 'static>(
    script: impl FnOnce(TcpStream, TcpStream) -> T + Send + 'static,
) -> (End, T) {
    let (client, client_leg) = pair();
    let (backend, backend_leg) = pair();
    let script = thread::spawn(move || script(client, backend));
    let end = block_on(async {
        let means = means(Splicing::Bulk);
        let relay = joined(client_leg, backend_leg, &means);
        find_a_gap(&means.flow);
        relayed(relay).await
    });
    (end, script.join().unwrap())
}

fn drained(parting: Parting, detail: Option<&str>) -> End {
    End {
        parting: Some(parting),
        detail: detail.map(Into::into),
        ..end(Outcome::Drained, ClosedBy::Portway)
    }
}

#[test]
fn both_sides_get_a_fin_in_a_gap_and_the_relay_ends_with_the_client() {
    let (end, ()) = parted(|mut client, mut backend| {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
        // A client says goodbye with an alert.
        client.write_all(&data(19)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
    });
    assert_eq!(end, drained(Parting::Clean, None));
}

#[test]
fn a_request_behind_the_fin_is_told_and_does_not_reach_the_backend() {
    let (end, ()) = parted(|mut client, mut backend| {
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        client.write_all(&data(100)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    });
    let detail =
        "the client sent a request while portway closed the connection: it was not passed on";
    assert_eq!(end, drained(Parting::Crossed, Some(detail)));
}

#[test]
fn a_half_closed_connection_has_no_gap_and_loses_nothing() {
    let (mut client, client_leg) = pair();
    let (mut backend, backend_leg) = pair();
    let (half_closed, has_half_closed) = oneshot::channel();
    let (looked, has_looked) = mpsc::channel();
    let script = thread::spawn(move || {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
        half_closed.send(()).unwrap();
        has_looked.recv().unwrap();
        backend.write_all(&data(100)).unwrap();
        drop(backend);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        rest
    });
    let end_of_relay = block_on(async {
        let means = means(Splicing::Bulk);
        let relay = joined(client_leg, backend_leg, &means);
        let drain = async {
            has_half_closed.await.unwrap();
            find_a_gap(&means.flow);
            // The relay has its turn, and looks.
            for _ in 0..10 {
                yield_now().await;
            }
            looked.send(()).unwrap();
        };
        tokio::join!(relayed(relay), drain).0
    });
    assert_eq!(script.join().unwrap(), data(100));
    assert_eq!(end_of_relay, end(Outcome::Closed, ClosedBy::Client));
}
