//! The meaning of one answer or one silence of a proxy for the other candidates.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use super::*;
use crate::backend::{Proxy, Via, Way};
use crate::wire::TunnelProtocol;

/// A proxy that answers everything with these bytes.
fn proxy(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 1024];
            drop(stream.read(&mut request));
            drop(stream.write_all(answer));
            // A reset could overtake the answer.
            drop(stream.read(&mut request));
        }
    });
    address
}

const OPEN: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 403 Forbidden\r\n\r\n";

/// Endpoints behind a proxy with these addresses.
pub(super) fn behind(addresses: &[SocketAddr], names: &[&str]) -> Vec<Arc<Endpoint>> {
    let host = "proxy.test".into();
    let name = Target::Name { host, port: 3128 };
    let via = Arc::new(Via::new(TunnelProtocol::Http, name));
    let endpoint = |name: &&str| {
        let target = Target::Name {
            host: (*name).into(),
            port: 9200,
        };
        let stats = Registry::new().endpoint("backend", name);
        let way = Way::ByName(Arc::clone(&via));
        let endpoint = Endpoint::reached(way, target, stats, Instant::now());
        endpoint.set_addresses(addresses);
        endpoint
    };
    names.iter().map(endpoint).collect()
}

fn in_turn(endpoints: &[Arc<Endpoint>]) -> Pool {
    balanced(Balance::RoundRobin, &endpoints.iter().collect::<Vec<_>>())
}

fn states(endpoint: &Endpoint) -> Vec<AddressState> {
    endpoint
        .states(Instant::now())
        .iter()
        .map(|(_, state)| *state)
        .collect()
}

#[test]
fn a_refusal_is_not_asked_for_again_at_the_other_addresses_of_the_proxy() {
    let endpoints = behind(&[proxy(REFUSED), proxy(REFUSED)], &["es-1.test"]);
    let (dialled, attempts) = dial(&in_turn(&endpoints));
    let words = "http://proxy.test:3128: HTTP/1.1 403 Forbidden";
    assert_eq!(dialled, Err(Unreached::Refused(words.into())));
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    let attempt = &attempts[0];
    assert_eq!(
        attempt.reason,
        AttemptFailure::Dial(DialFailure::ViaRefused)
    );
    assert_eq!(attempt.error.as_deref(), Some("HTTP/1.1 403 Forbidden"));
    assert_eq!(attempt.via.as_deref(), Some("http://proxy.test:3128"));
    assert_eq!(states(&endpoints[0]), [AddressState::Failed; 2]);
}

#[test]
fn an_address_of_the_proxy_that_is_dead_is_tried_once_and_goes_last_for_every_endpoint() {
    let (_closed, dead) = closed_port();
    let endpoints = behind(&[dead, proxy(OPEN)], &["es-1.test", "es-2.test"]);
    let pool = in_turn(&endpoints);
    let (dialled, attempts) = dial(&pool);
    assert_eq!((dialled, attempts.len()), (Ok(()), 1), "{attempts:?}");
    for endpoint in &endpoints {
        let both = [AddressState::Failed, AddressState::Healthy];
        assert_eq!(states(endpoint), both);
    }
    assert_eq!(dial(&pool).1, []);

    let all_dead = behind(&[dead], &["es-1.test", "es-2.test", "es-3.test"]);
    let (dialled, attempts) = dial(&in_turn(&all_dead));
    assert_eq!((dialled, attempts.len()), (Err(Unreached::Unavailable), 1));
}

#[test]
fn a_refusal_beside_an_address_that_is_dead_leaves_the_backend_unavailable() {
    let (_closed, dead) = closed_port();
    let endpoints = behind(&[dead, proxy(REFUSED)], &["es-1.test"]);
    let (dialled, attempts) = dial(&in_turn(&endpoints));
    assert_eq!((dialled, attempts.len()), (Err(Unreached::Unavailable), 2));
}

#[test]
fn the_endpoint_after_a_refused_one_is_asked_for() {
    let endpoints = behind(
        &[proxy(REFUSED), proxy(REFUSED)],
        &["es-1.test", "es-2.test"],
    );
    let (dialled, attempts) = dial(&in_turn(&endpoints));
    assert!(matches!(dialled, Err(Unreached::Refused(_))));
    let asked: Vec<_> = attempts.iter().map(|it| &*it.endpoint).collect();
    assert_eq!(asked, ["es-1.test:9200", "es-2.test:9200"]);
}

#[test]
fn a_refusal_of_a_trial_is_not_asked_for_again_beside_it() {
    let endpoints = behind(&[proxy(REFUSED), proxy(REFUSED)], &["es-1.test"]);
    let long_ago = Instant::now();
    endpoints[0].failed(&endpoints[0].addresses()[0], long_ago);
    let pool = in_turn(&endpoints);
    let candidates = || {
        let later = long_ago + Duration::from_secs(11);
        pool.candidates("192.0.2.1".parse().unwrap(), later)
    };
    assert!(candidates()[0].on_trial());
    let hour = Duration::from_hours(1);
    let attempts = RefCell::new(0);
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let dialled = runtime.unwrap().block_on(async {
        let dial = Dial {
            wished: None,
            connect_timeout: hour,
            deadline: Instant::now() + hour,
            endpoints: pool.shared(),
            resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
        };
        dial.race(candidates(), &|_| *attempts.borrow_mut() += 1)
            .await
    });
    assert!(matches!(dialled, Err(Failure::Refused(_))), "{dialled:?}");
    assert_eq!(*attempts.borrow(), 1);
}

/// An endpoint with these addresses behind a proxy that gets addresses, and the proxy.
fn by_address(proxy: &[SocketAddr], addresses: &[&str]) -> (Arc<Endpoint>, Arc<Endpoint>) {
    let name = |host: &str, port| Target::Name {
        host: host.into(),
        port,
    };
    let via = Via::new(TunnelProtocol::Http, name("proxy.test", 3128));
    let via = Arc::new(via);
    let reached = |way: Way, target: Target| {
        let stats = Registry::new().endpoint("backend", &target.to_string());
        Endpoint::reached(way, target, stats, Instant::now())
    };
    let itself = reached(Way::ToProxy(Arc::clone(&via)), via.proxy().clone());
    itself.set_addresses(proxy);
    let way = Way::ByAddress(Proxy::new("backend".into(), via, Arc::clone(&itself)));
    let endpoint = reached(way, name("es.test", 9200));
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    endpoint.set_addresses(&addresses.collect::<Vec<_>>());
    (endpoint, itself)
}

#[test]
fn a_refusal_concerns_one_address_where_the_proxy_gets_addresses() {
    let (endpoint, itself) = by_address(&[proxy(REFUSED)], &["192.0.2.1:9200", "192.0.2.2:9200"]);
    let (dialled, attempts) = dial(&in_turn(&[Arc::clone(&endpoint)]));
    let words = "http://proxy.test:3128: HTTP/1.1 403 Forbidden";
    assert_eq!(dialled, Err(Unreached::Refused(words.into())));
    let asked: Vec<_> = attempts.iter().map(|it| it.address.unwrap()).collect();
    let wanted: Vec<_> = endpoint.addresses().iter().map(|it| it.at()).collect();
    assert_eq!(asked, wanted);
    assert_eq!(states(&endpoint), [AddressState::Failed; 2]);
    assert_eq!(states(&itself), [AddressState::Healthy]);
}

#[test]
fn the_addresses_of_a_proxy_that_gets_addresses_have_states_of_their_own() {
    let (_closed, dead) = closed_port();
    let addresses = ["192.0.2.1:9200", "192.0.2.2:9200"];
    let (endpoint, itself) = by_address(&[dead, proxy(OPEN)], &addresses);
    let pool = in_turn(&[Arc::clone(&endpoint)]);
    // The proxy is used at an address by chance, until the dead one is known.
    let attempts: Vec<_> = (0..50).flat_map(|_| reached(&pool)).collect();
    let [attempt] = attempts.as_slice() else {
        panic!("{attempts:?}");
    };
    assert_eq!(&*attempt.endpoint, "http://proxy.test:3128");
    assert_eq!(attempt.address, Some(dead));
    assert_eq!(attempt.reason, AttemptFailure::Dial(DialFailure::Refused));
    assert_eq!(states(&endpoint), [AddressState::Healthy; 2]);
    let states_of_proxy = [AddressState::Failed, AddressState::Healthy];
    assert_eq!(states(&itself), states_of_proxy);
    assert_eq!((endpoint.connections(), itself.connections()), (0, 0));
}

/// A proxy that closes each connection when a request has come, as a balancer does whose proxies are dead.
fn closing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            drop(stream.read(&mut [0; 1024]));
        }
    });
    address
}

#[test]
fn an_address_of_the_proxy_that_only_accepts_goes_last_and_the_next_one_is_used() {
    let (endpoint, itself) = by_address(&[closing(), proxy(OPEN)], &["192.0.2.1:9200"]);
    let pool = in_turn(&[Arc::clone(&endpoint)]);
    for _ in 0..30 {
        assert_eq!(dial(&pool).0, Ok(()));
    }
    assert_eq!(states(&endpoint), [AddressState::Healthy]);
    let states_of_proxy = [AddressState::Failed, AddressState::Healthy];
    assert_eq!(states(&itself), states_of_proxy);
    let (endpoint, itself) = by_address(&[closing(), closing()], &["192.0.2.1:9200"]);
    let (dialled, attempts) = dial(&in_turn(&[Arc::clone(&endpoint)]));
    assert_eq!(dialled, Err(Unreached::Unavailable));
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(states(&endpoint), [AddressState::Healthy]);
    assert_eq!(states(&itself), [AddressState::Failed; 2]);
}

/// The attempts that failed in a dial that reached the backend.
fn reached(pool: &Pool) -> Vec<Attempt> {
    let (dialled, attempts) = dial(pool);
    assert_eq!(dialled, Ok(()));
    attempts
}

#[test]
fn a_proxy_that_is_dead_at_all_its_addresses_is_tried_once_for_all_addresses_behind_it() {
    let (closed, also_closed) = (closed_port(), closed_port());
    let addresses = ["192.0.2.1:9200", "192.0.2.2:9200", "192.0.2.3:9200"];
    let (endpoint, itself) = by_address(&[closed.1, also_closed.1], &addresses);
    let (dialled, attempts) = dial(&in_turn(&[Arc::clone(&endpoint)]));
    assert_eq!(dialled, Err(Unreached::Unavailable));
    assert_eq!(attempts.len(), 2, "{attempts:?}");
    assert_eq!(states(&endpoint), [AddressState::Healthy; 3]);
    assert_eq!(states(&itself), [AddressState::Failed; 2]);
}
