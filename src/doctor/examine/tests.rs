use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{future, thread};

use super::*;
use crate::doctor::finding::{Finding, Place};

/// A server that sends an alert, and closes on the first `losing` hellos that are larger than a kilobyte. Returns the
/// findings, and how many connections there were.
async fn findings(losing: usize) -> (Vec<Finding>, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let lost = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let (mut stream, lost) = (stream.unwrap(), Arc::clone(&lost));
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                let is_large = stream.read(&mut bytes).unwrap() > 1024;
                if !(is_large && lost.fetch_add(1, Ordering::SeqCst) < losing) {
                    // handshake_failure
                    stream.write_all(&[21, 3, 3, 0, 2, 2, 40]).unwrap();
                    drop(stream.read_to_end(&mut Vec::new()));
                }
            });
        }
    });
    let caller = Caller {
        server_name: None,
        made_up: false,
        alpn: Vec::new(),
        ports: Vec::new(),
    };
    let examiner = Examiner::new();
    let second = Duration::from_secs(1);
    let way = Way::Direct(address);
    let asked = examiner
        .address((way, None), Arc::new([caller]), second)
        .await;
    let findings = hellos::lost(&Place::default(), &asked);
    (findings, connections.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_hello_that_is_lost_once_is_asked_again_and_one_that_is_lost_twice_is_told() {
    assert_eq!(findings(0).await, (Vec::new(), 7));
    assert_eq!(findings(1).await, (Vec::new(), 8));
    let (told, connections) = findings(usize::MAX).await;
    assert_eq!((told.len(), connections), (1, 8), "{told:?}");
    assert!(told[0].message.contains("post-quantum"), "{told:?}");
}

#[tokio::test]
async fn a_look_up_takes_a_permit_and_an_address_takes_none() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let rules = NameRules {
        resolver: Some(Arc::new([silent.local_addr().unwrap()])),
        ..NameRules::default()
    };
    let name = Target::Name {
        host: "fleet.example".into(),
        port: 443,
    };
    let examiner = Examiner::new();
    let one = examiner.resolve(&name, &rules);
    tokio::select! {
        biased;
        found = one => panic!("{found:?}"),
        () = async {
            assert_eq!(examiner.lookups.available_permits(), usize::from(LOOKUPS - 1));
        } => {}
    }
    assert_eq!(examiner.lookups.available_permits(), usize::from(LOOKUPS));
    let _all = examiner.lookups.acquire_many(LOOKUPS.into()).await.unwrap();
    let address = "10.0.0.1:443".parse().unwrap();
    let target = Target::Address(address);
    tokio::select! {
        biased;
        (_, found) = examiner.resolve(&target, &rules) => assert_eq!(found.unwrap(), [address]),
        () = future::ready(()) => panic!("an address waits for the look-ups of names"),
    }
}
