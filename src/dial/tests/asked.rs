//! Names that clients ask for: when a dial makes them be looked up again.

use tokio::sync::mpsc;

use super::*;
use crate::backend::{Found, Lookup};
use crate::tls::ServerName;

const FRESH: Duration = Duration::from_hours(1);

/// A backend whose endpoint is `{server_name}`, and its look-ups.
fn asked() -> (Pool, [mpsc::Receiver<Lookup>; 2]) {
    let stats = Registry::new().endpoint("backend", "{server_name}:443");
    let target = Target::Asked { port: Some(443) };
    let endpoint = Endpoint::new(target, stats, Instant::now());
    let lanes = endpoint.names().unwrap().serve();
    (balanced(Balance::RoundRobin, &[&endpoint]), lanes)
}

/// Dials the name for a client, while look-ups in `lane` are answered with these addresses. Returns how many attempts
/// failed.
fn reach(pool: &Pool, lane: &mut mpsc::Receiver<Lookup>, addresses: &[SocketAddr]) -> usize {
    let failed = RefCell::new(0);
    let name = ServerName::parse(b"es.test").unwrap();
    let request = Request {
        target: None,
        wish: &|| Some(wish(&name)),
        resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
        pool,
        client: "192.0.2.1".parse().unwrap(),
        timeouts: &TIMEOUTS,
        missed: &|_| *failed.borrow_mut() += 1,
    };
    let answers = async {
        while let Some(lookup) = lane.recv().await {
            lookup.endpoint().set_addresses(addresses);
            lookup.answered(Instant::now() + FRESH);
        }
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        tokio::select! {
            dialled = backend(&request) => drop(dialled.unwrap()),
            () = answers => unreachable!(),
        }
    });
    failed.into_inner()
}

fn wish(name: &ServerName) -> Wish<'_> {
    Wish {
        name,
        port: 443,
        client: "192.0.2.1".parse().unwrap(),
    }
}

/// Whether a client that comes in so many seconds is served without a look-up. If there is one, it is answered.
fn is_fresh_in(seconds: u64, pool: &Pool, known: &mut mpsc::Receiver<Lookup>) -> bool {
    let name = ServerName::parse(b"es.test").unwrap();
    let later = Instant::now() + Duration::from_secs(seconds);
    let found = pool.names().unwrap().find(None, &wish(&name), later);
    assert!(matches!(found, Ok(Found::Now(_))), "it is usable");
    let Ok(lookup) = known.try_recv() else {
        return true;
    };
    lookup.answered(later + FRESH);
    false
}

#[test]
fn a_name_keeps_its_time_to_live_while_one_of_its_addresses_is_dead_and_is_not_dialled() {
    let (pool, [mut new, mut known]) = asked();
    let (_closed, dead) = closed_port();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [dead, listener.local_addr().unwrap()];
    // A dial that fails at the dead address asks for others, although it reaches the name.
    assert_eq!(reach(&pool, &mut new, &addresses), 1);
    assert!(!is_fresh_in(2, &pool, &mut known));
    // The next ones do not try it, and learn nothing that DNS could know better.
    for _ in 0..3 {
        assert_eq!(reach(&pool, &mut known, &addresses), 0);
    }
    assert!(is_fresh_in(60, &pool, &mut known));
}
