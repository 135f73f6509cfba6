use std::cell::Cell;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::backend::{Check, Target};
use crate::tls::{Progress, ServerName, Version, read_hello};

/// The checks of the first address of an endpoint that is written so. `server_name` is that of the rules.
pub(super) fn turns(endpoint: Target, check: Check, server_name: Option<&str>) -> Turns {
    let stats = Registry::new().endpoint("fleet", &endpoint.to_string());
    let endpoint = Endpoint::new(endpoint, stats, Instant::now());
    if endpoint.addresses().is_empty() {
        let addresses = ["127.0.0.1:1", "127.0.0.2:1"];
        endpoint.set_addresses(&addresses.map(|address| address.parse().unwrap()));
    }
    endpoint.check(Some(check));
    let checks = Checks {
        check,
        interval: SYNC,
        timeout: SYNC,
        unhealthy_after: 1,
        healthy_after: 1,
        server_name: server_name.map(|name| ServerName::parse(name.as_bytes()).unwrap()),
        header: None,
    };
    let planned = Planned {
        endpoint: Arc::clone(&endpoint),
        checks: Arc::new(checks),
        names: Names::default(),
    };
    let permits = Arc::new(Semaphore::new(1));
    Turns::new(&planned, &endpoint.addresses()[0], &permits)
}

#[test]
fn a_check_that_ends_when_a_reload_has_ended_the_checks_leaves_the_address_as_it_is() {
    let target = Target::Address("127.0.0.1:1".parse().unwrap());
    let turns = turns(target, Check::Tcp, None);
    let fail = || turns.conclude(Found::Failed(String::new())).is_unhealthy();
    assert!(fail());
    turns.endpoint.check(None);
    assert!(!fail());
    assert!(turns.address.is_healthy());
}

#[tokio::test]
async fn a_check_without_a_way_is_noted_unless_a_reload_has_ended_the_checks_and_asks_for_no_look_up()
 {
    let target = Target::Address("127.0.0.1:1".parse().unwrap());
    let turns = turns(target, Check::Tcp, None);
    for check in [None, Some(Check::Tcp)] {
        turns.endpoint.check(check);
        let standing = turns.conclude(Found::OutOfReach);
        assert_eq!(standing.is_out_of_reach(), check.is_some());
        assert!(!standing.is_unhealthy());
    }
    let stale = timeout(Duration::ZERO, turns.endpoint.stale()).await;
    assert!(stale.is_err(), "no dial of a client has failed");
}

/// A server that answers as one of TLS 1.3 only, where it listens, and how many connections it has had.
async fn server() -> (SocketAddr, Rc<Cell<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Rc::new(Cell::new(0)));
    let counter = Rc::clone(&count);
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counter.set(counter.get() + 1);
            stream.write_all(&[0x15, 3, 3, 0, 2, 2, 70]).await.unwrap();
        }
    });
    (address, count)
}

#[tokio::test(flavor = "local")]
async fn a_client_that_is_served_makes_a_tls_check_needless_for_an_hour_and_a_tcp_check_for_good() {
    let (address, connections) = server().await;
    let now = Instant::now();
    let old = now.checked_sub(LOOK).unwrap();
    for (check, looked, made) in [
        (Check::Tls, None, 1),
        (Check::Tls, Some(now), 0),
        (Check::Tls, Some(old), 1),
        (Check::Tcp, None, 0),
        (Check::Tcp, Some(old), 0),
    ] {
        connections.set(0);
        let turns = turns(Target::Address(address), check, None);
        let mut after = looked;
        turns.turn(true, &mut after).await;
        assert_eq!(connections.get(), made, "{check:?} {looked:?}");
        assert_eq!(after != looked, made > 0, "{check:?} {looked:?}");
        assert_eq!(turns.address.presented().is_some(), made > 0);
        turns.turn(false, &mut after).await;
        assert_eq!(connections.get(), made + 1, "{check:?} {looked:?}");
    }
}

/// A server of TLS 1.3 only, where it listens, and the newest version in each hello that it has had.
async fn newest() -> (SocketAddr, Rc<RefCell<Vec<Version>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let offered: Rc<RefCell<Vec<Version>>> = Rc::default();
    let (address, versions) = (listener.local_addr().unwrap(), Rc::clone(&offered));
    spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut bytes, mut scratch) = (Vec::new(), vec![0; 4096]);
            let version = loop {
                stream.read_buf(&mut bytes).await.unwrap();
                if let Progress::Hello(hello) = read_hello(&bytes, 4096, &mut scratch) {
                    break hello.version;
                }
            };
            let mut answer = vec![0x15, 3, 3, 0, 2, 2, 70];
            if version == Version::TLS_1_3 {
                // A hello with a suite and the extension supported_versions.
                answer = vec![0x16, 3, 3, 0, 50, 2, 0, 0, 46, 3, 3];
                answer.extend([7; 32]);
                answer.extend([0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
            }
            stream.write_all(&answer).await.unwrap();
            versions.borrow_mut().push(version);
        }
    });
    (address, offered)
}

#[tokio::test(flavor = "local")]
async fn a_server_of_tls_13_only_gets_a_hello_that_it_refuses_once_an_hour() {
    let (address, offered) = newest().await;
    let turns = turns(Target::Address(address), Check::Tls, None);
    let mut looked = None;
    for _ in 0..3 {
        assert!(!turns.turn(false, &mut looked).await.is_unhealthy());
    }
    looked = Instant::now().checked_sub(LOOK);
    for _ in 0..2 {
        assert!(!turns.turn(false, &mut looked).await.is_unhealthy());
    }
    let (new, old) = (Version::TLS_1_3, Version::TLS_1_2);
    assert_eq!(*offered.borrow(), [old, new, new, old, new]);
    let presented = turns.address.presented().unwrap();
    assert_eq!(presented.certificates, Err(Unseen::Encrypted));
}

#[tokio::test(flavor = "local")]
async fn a_check_that_fails_while_a_client_is_served_says_nothing_about_health() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::Address(listener.local_addr().unwrap());
    drop(listener);
    let turns = turns(target, Check::Tls, None);
    assert!(!turns.turn(true, &mut None).await.is_unhealthy());
    assert!(turns.turn(false, &mut None).await.is_unhealthy());
}
