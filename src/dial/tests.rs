//! Tests of what an endpoint learns from a dial.

mod asked;
mod draining;
mod families;
mod start;
mod via;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::*;
use crate::backend::{Balance, Endpoint, Target, Unresolved};
use crate::outcome::{AddressState, DialFailure, ResolveFailure};
use crate::telemetry::Registry;

fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    let stats = Registry::new().endpoint("backend", &address.to_string());
    Endpoint::new(Target::Address(address), stats, Instant::now())
}

fn pool(endpoints: &[&Arc<Endpoint>]) -> Pool {
    balanced(Balance::LeastConnections, endpoints)
}

fn balanced(balance: Balance, endpoints: &[&Arc<Endpoint>]) -> Pool {
    let endpoints = endpoints.iter().map(|&endpoint| Arc::clone(endpoint));
    Pool::new("backend".into(), endpoints.collect(), balance)
}

/// A connection to the endpoint's address.
fn enter(endpoint: &Arc<Endpoint>) -> InUse {
    endpoint.enter(&endpoint.addresses()[0])
}

const TIMEOUTS: Timeouts = Timeouts {
    connect_timeout: Duration::from_secs(4),
    dial_timeout: Duration::from_secs(9),
};

/// Dials a pool; returns whether it was reached, and the attempts that failed.
fn dial(pool: &Pool) -> (Result<(), Unreached>, Vec<Attempt>) {
    dial_for(pool, None)
}

fn dial_for(pool: &Pool, asked: Option<&str>) -> (Result<(), Unreached>, Vec<Attempt>) {
    let attempts = RefCell::new(Vec::new());
    let target = asked.map(|asked| crate::wire::Target::parse(asked.as_bytes()).unwrap());
    let request = Request {
        target: target.as_ref(),
        wish: &|| None,
        resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
        pool,
        client: "192.0.2.1".parse().unwrap(),
        timeouts: &TIMEOUTS,
        missed: &|attempt| attempts.borrow_mut().push(attempt),
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let dialled = runtime
        .unwrap()
        .block_on(async { backend(&request).await.map(drop) });
    (dialled, attempts.into_inner())
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
    let both = balanced(Balance::RoundRobin, &[&good, &busy]);

    good.failed(&good.addresses()[0], Instant::now());
    assert_eq!(first(&both), *busy.name(), "who failed goes last");
    assert_eq!(dial(&pool(&[&good])).0, Ok(()));
    let firsts = [first(&both), first(&both)];
    assert!(firsts.contains(good.name()), "they take turns again");
}

/// A socket that is bound and does not listen: connections are refused, and no other test gets the port.
fn closed_port() -> (Socket, SocketAddr) {
    closed_port_at("127.0.0.1:0")
}

fn closed_port_at(any: &str) -> (Socket, SocketAddr) {
    let any: SocketAddr = any.parse().unwrap();
    let socket = Socket::new(Domain::for_address(any), Type::STREAM, None).unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

#[test]
fn an_address_that_fails_goes_behind_the_others_of_its_endpoint() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (_closed, refused) = closed_port();
    let endpoint = endpoint(refused);
    endpoint.set_addresses(&[refused, listener.local_addr().unwrap()]);
    // Round robin takes the first address first, and would take it again after the next one.
    let pool = balanced(Balance::RoundRobin, &[&endpoint]);
    let failed = [(); 3].map(|()| {
        let (dialled, attempts) = dial(&pool);
        assert_eq!(dialled, Ok(()));
        attempts.len()
    });
    assert_eq!(failed, [1, 0, 0]);
    assert_eq!(endpoint.addresses().len(), 2);
}

#[test]
fn a_dial_tries_sixteen_addresses_of_an_endpoint_and_then_the_next_endpoint() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed: Vec<_> = (0..20).map(|_| closed_port()).collect();
    let refused: Vec<_> = closed.iter().map(|(_, address)| *address).collect();
    let (many, good) = (
        endpoint(refused[0]),
        endpoint(listener.local_addr().unwrap()),
    );
    many.set_addresses(&refused);
    let (dialled, attempts) = dial(&balanced(Balance::RoundRobin, &[&many, &good]));
    assert_eq!((dialled, attempts.len()), (Ok(()), ATTEMPTS_AT_ENDPOINT));
    // The addresses that were left out come first now.
    let (dialled, attempts) = dial(&pool(&[&many]));
    assert_eq!(
        (dialled, attempts.len()),
        (Err(Unreached::Unavailable), ATTEMPTS_AT_ENDPOINT)
    );
    let tried: Vec<_> = attempts.iter().filter_map(|it| it.address).collect();
    assert!(
        refused[16..].iter().all(|it| tried[..4].contains(it)),
        "{tried:?}"
    );
}

#[test]
fn a_trial_is_one_of_the_sixteen_attempts() {
    let closed: Vec<_> = (0..20).map(|_| closed_port()).collect();
    let refused: Vec<_> = closed.iter().map(|(_, address)| *address).collect();
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let stats = Registry::new().endpoint("backend", "endpoint");
    let many = Endpoint::new(Target::Address(refused[0]), stats, long_ago);
    many.set_addresses(&refused);
    many.failed(&many.addresses()[0], long_ago);
    let (dialled, attempts) = dial(&balanced(Balance::RoundRobin, &[&many]));
    assert_eq!(dialled, Err(Unreached::Unavailable));
    let tried: Vec<_> = attempts.iter().filter_map(|it| it.address).collect();
    assert!(tried.contains(&refused[0]), "the trial: {tried:?}");
    assert_eq!(tried.len(), ATTEMPTS_AT_ENDPOINT);
}

#[test]
fn many_dead_addresses_of_one_family_do_not_keep_a_dial_from_the_other_family() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let closed: Vec<_> = (0..20).map(|_| closed_port()).collect();
    let mut addresses: Vec<_> = closed.iter().map(|(_, address)| *address).collect();
    let both = endpoint(addresses[0]);
    addresses.push(listener.local_addr().unwrap());
    both.set_addresses(&addresses);
    let (dialled, attempts) = dial(&pool(&[&both]));
    assert_eq!((dialled, attempts.len()), (Ok(()), ATTEMPTS_AT_ENDPOINT));
}

#[test]
fn a_dial_that_fails_sends_the_endpoint_back_and_tells_why() {
    let (_closed, address) = closed_port();
    let bad = endpoint(address);
    let busy = endpoint("192.0.2.2:443".parse().unwrap());
    let _connection = enter(&busy);
    let both = pool(&[&bad, &busy]);

    assert_eq!(first(&both), *bad.name());
    let (dialled, attempts) = dial(&pool(&[&bad]));
    assert_eq!(dialled, Err(Unreached::Unavailable));
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        attempts[0].reason,
        AttemptFailure::Dial(DialFailure::Refused)
    );
    assert_eq!(first(&both), *busy.name());
}

/// The kernel does not connect to a link-local address without an interface: EINVAL, which has no reason of its own.
#[test]
fn an_error_without_a_reason_of_its_own_is_told_in_the_words_of_the_system() {
    let (dialled, attempts) = dial(&pool(&[&endpoint("[fe80::1]:443".parse().unwrap())]));
    assert_eq!((dialled, attempts.len()), (Err(Unreached::Unavailable), 1));
    assert_eq!(attempts[0].reason, AttemptFailure::Dial(DialFailure::Other));
    let error = attempts[0].error.as_deref().unwrap();
    assert!(error.contains("Invalid argument"), "{error}");
}

#[test]
fn a_dial_is_forbidden_only_if_every_endpoint_leads_to_forbidden_addresses_alone() {
    let address: SocketAddr = "127.0.0.1:443".parse().unwrap();
    let named = |why| {
        let target = Target::Name {
            host: "es.test".into(),
            port: 443,
        };
        let stats = Registry::new().endpoint("backend", "endpoint");
        let endpoint = Endpoint::new(target, stats, Instant::now());
        endpoint.set_unresolved(why);
        endpoint
    };
    let forbidden = || named(Unresolved::excluded(ResolveFailure::Forbidden, address));
    let looping = named(Unresolved::excluded(ResolveFailure::Loop, address));
    let unknown = named(Unresolved::failed("no such host".into()));
    let (one, other) = (forbidden(), forbidden());
    assert_eq!(dial(&pool(&[&one])).0, Err(Unreached::Forbidden));
    let (dialled, attempts) = dial(&pool(&[&one, &other]));
    assert_eq!((dialled, attempts.len()), (Err(Unreached::Forbidden), 2));
    for third in [&looping, &unknown] {
        let dialled = dial(&pool(&[&one, third, &other])).0;
        assert_eq!(dialled, Err(Unreached::Unresolved));
    }
    // The endpoint that tells it apart counts, also behind the last one that a log line names.
    let many: Vec<_> = (0..40).map(|_| forbidden()).collect();
    let mut many: Vec<_> = many.iter().collect();
    assert_eq!(dial(&pool(&many)).0, Err(Unreached::Forbidden));
    many.push(&unknown);
    let (dialled, attempts) = dial(&pool(&many));
    assert_eq!(dialled, Err(Unreached::Unresolved));
    assert_eq!(attempts.len(), MOST_UNRESOLVED);
}

#[test]
fn a_dial_without_any_address_tells_why_each_endpoint_has_none() {
    let address: SocketAddr = "127.0.0.1:443".parse().unwrap();
    let stats = || Registry::new().endpoint("backend", "endpoint");
    let named = |host: &str| {
        let target = Target::Name {
            host: host.into(),
            port: 443,
        };
        Endpoint::new(target, stats(), Instant::now())
    };
    let [new, unknown, looping] = ["new.test", "unknown.test", "loop.test"].map(named);
    unknown.set_unresolved(Unresolved::failed("no such host".into()));
    looping.set_unresolved(Unresolved::excluded(ResolveFailure::Loop, address));
    let all = pool(&[&new, &unknown, &looping]);
    let (dialled, attempts) = dial(&all);
    assert_eq!(dialled, Err(Unreached::Unresolved));
    let told = attempts.iter().map(|it| {
        let error = it.error.as_deref();
        (&*it.endpoint, it.reason.name(), it.address, error)
    });
    let expected = [
        (
            "new.test:443",
            "unresolved",
            None,
            Some("the name has not been looked up yet"),
        ),
        ("unknown.test:443", "unresolved", None, Some("no such host")),
        ("loop.test:443", "loop", Some(address), None),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    // With an address there is nothing to report, even if the last look-up failed.
    let (_closed, refused) = closed_port();
    unknown.set_addresses(&[refused]);
    let (dialled, attempts) = dial(&all);
    assert_eq!((dialled, attempts.len()), (Err(Unreached::Unavailable), 1));
    unknown.set_addresses(&[]);
    assert_eq!(unknown.unresolved(), None);
    // A log line names a limited number of endpoints.
    let many: Vec<_> = (0..40).map(|_| named("new.test")).collect();
    assert_eq!(
        dial(&pool(&many.iter().collect::<Vec<_>>())).1.len(),
        MOST_UNRESOLVED
    );
}

/// Listens with a full queue: a client that connects gets no answer.
fn silent() -> ([Socket; 3], SocketAddr) {
    silent_at("127.0.0.1:0")
}

fn silent_at(any: &str) -> ([Socket; 3], SocketAddr) {
    let any: SocketAddr = any.parse().unwrap();
    let [listener, one, other] =
        [(); 3].map(|()| Socket::new(Domain::for_address(any), Type::STREAM, None).unwrap());
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    for client in [&one, &other] {
        client.set_nonblocking(true).unwrap();
        drop(client.connect(&address));
    }
    ([listener, one, other], address.as_socket().unwrap())
}

#[test]
fn an_attempt_without_its_time_says_nothing_about_the_address() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let (_queue, silent) = silent();
        let [short, second, hour] = [20, 1_000, 3_600_000].map(Duration::from_millis);
        for (connect_timeout, dial_timeout, state) in [
            (hour, short, AddressState::Healthy),
            (second, second, AddressState::Failed),
            (short, hour, AddressState::Failed),
        ] {
            let endpoint = endpoint(silent);
            let pool = pool(&[&endpoint]);
            let attempts = RefCell::new(0);
            let request = Request {
                target: None,
                wish: &|| None,
                resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
                pool: &pool,
                client: "192.0.2.1".parse().unwrap(),
                timeouts: &Timeouts {
                    connect_timeout,
                    dial_timeout,
                },
                missed: &|_| *attempts.borrow_mut() += 1,
            };
            let dialled = backend(&request).await.map(drop);
            assert_eq!(dialled, Err(Unreached::Unavailable));
            assert_eq!(*attempts.borrow(), 1, "it is logged");
            assert_eq!(
                endpoint.states(Instant::now())[0].1,
                state,
                "{connect_timeout:?}"
            );
        }
    });
}

#[test]
fn the_attempts_of_a_trial_are_told_while_the_other_endpoints_are_tried() {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(async {
        let (_closed, refused) = closed_port();
        let (_queue, silent) = silent();
        let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let trial = Endpoint::new(
            Target::Address(refused),
            Registry::new().endpoint("backend", "trial"),
            long_ago,
        );
        trial.failed(&trial.addresses()[0], long_ago);
        let both = pool(&[&endpoint(silent), &trial]);
        let candidates = both.candidates("192.0.2.1".parse().unwrap(), Instant::now());
        assert!(candidates[0].on_trial());
        let hour = Duration::from_hours(1);
        let none = pool(&[]);
        let dial = Dial {
            wished: None,
            connect_timeout: hour,
            deadline: Instant::now() + hour,
            endpoints: none.shared(),
            resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
        };
        let attempts = RefCell::new(Vec::new());
        let missed = |attempt: Attempt| attempts.borrow_mut().push(attempt.address);
        let told = async {
            while attempts.borrow().is_empty() {
                yield_now().await;
            }
        };
        tokio::select! {
            dialled = dial.race(candidates, &missed) => panic!("{:?}", dialled.map(drop)),
            told = timeout(Duration::from_mins(1), told) => told.unwrap(),
        }
        assert_eq!(*attempts.borrow(), [Some(refused)]);
    });
}
