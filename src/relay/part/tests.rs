//! The end in a gap, between real sockets.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use super::super::tests::{PATIENCE, block_on, end, joined, means, pair};
use crate::outcome::{ClosedBy, Direction, Outcome};
use crate::relay::{End, Parting, Splicing};

/// A record of application data.
fn data(length: u8) -> Vec<u8> {
    let mut record = vec![23, 3, 3, 0, length];
    record.resize(5 + usize::from(length), 0xaa);
    record
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
        let flow = &means.flow;
        flow.drain_in_gap();
        flow.gap.pass(Direction::ClientToBackend, &data(100), 0);
        flow.gap.pass(Direction::BackendToClient, &data(100), 300);
        for _ in 0..5 {
            flow.step();
        }
        tokio::time::timeout(PATIENCE, relay)
            .await
            .expect("the relay ends")
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
