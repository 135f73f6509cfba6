//! What a dial tells its endpoint.

use std::net::TcpListener;

use tokio::runtime::{Builder, LocalOptions};

use super::*;
use crate::backend::{Balance, Endpoint, Target};
use crate::telemetry::Registry;

fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    let stats = Registry::new().endpoint("backend", &address.to_string());
    Arc::new(Endpoint::new(
        Target::Address(address),
        stats,
        Instant::now(),
    ))
}

fn pool(endpoints: &[&Arc<Endpoint>]) -> Pool {
    let endpoints = endpoints.iter().map(|&endpoint| Arc::clone(endpoint));
    Pool::new(
        "backend".into(),
        endpoints.collect(),
        Balance::LeastConnections,
    )
}

/// Dials a pool; whether it was reached, and the attempts that failed.
fn dial(pool: &Pool) -> (Result<(), Unreached>, Vec<Attempt>) {
    let request = Request {
        pool,
        client: "192.0.2.1".parse().unwrap(),
        limits: Limits {
            connect_timeout: Duration::from_secs(4),
            dial_timeout: Duration::from_secs(9),
        },
        keepalive: Keepalive(Duration::from_mins(1)),
    };
    let mut attempts = Vec::new();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let dialled = runtime
        .unwrap()
        .block_on(async { backend(request, &mut attempts).await.map(drop) });
    (dialled, attempts)
}

fn first(pool: &Pool) -> Arc<str> {
    let candidates = pool.candidates("192.0.2.1".parse().unwrap(), Instant::now());
    Arc::clone(candidates[0].endpoint.name())
}

#[test]
fn a_dial_that_succeeds_gives_the_endpoint_its_turn_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = endpoint(listener.local_addr().unwrap());
    let busy = endpoint("192.0.2.2:443".parse().unwrap());
    let _connection = busy.enter();
    let both = pool(&[&good, &busy]);

    good.failed(Instant::now());
    assert_eq!(first(&both), *busy.name(), "who failed goes last");
    assert_eq!(dial(&pool(&[&good])).0, Ok(()));
    assert_eq!(first(&both), *good.name());
}

#[test]
fn a_dial_that_fails_sends_the_endpoint_back_and_tells_why() {
    // Bound and not listening: refused, and nobody else gets the port meanwhile.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed
        .bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    let address = closed.local_addr().unwrap().as_socket().unwrap();
    let bad = endpoint(address);
    let busy = endpoint("192.0.2.2:443".parse().unwrap());
    let _connection = busy.enter();
    let both = pool(&[&bad, &busy]);

    assert_eq!(first(&both), *bad.name());
    let (dialled, attempts) = dial(&pool(&[&bad]));
    assert_eq!(dialled, Err(Unreached::Unavailable));
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].reason, DialFailure::Refused);
    assert_eq!(first(&both), *busy.name());
}
