//! Races between the two families of an endpoint's addresses.

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// An endpoint that is a name with these addresses.
fn named(addresses: &[SocketAddr]) -> Arc<Endpoint> {
    let target = Target::Name {
        host: "both.test".into(),
        port: 443,
    };
    let stats = Registry::new().endpoint("backend", "both.test:443");
    let endpoint = Endpoint::new(target, stats, Instant::now());
    endpoint.set_addresses(addresses);
    endpoint
}

/// Dials with these limits, beside `watch`, which never ends.
fn race(
    pool: &Pool,
    timeouts: Timeouts,
    watch: impl Future<Output = ()>,
) -> (Result<SocketAddr, Unreached>, Vec<Attempt>) {
    let attempts = RefCell::new(Vec::new());
    let request = Request {
        target: None,
        wish: &|| None,
        resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
        pool,
        client: "192.0.2.1".parse().unwrap(),
        timeouts: &timeouts,
        missed: &|attempt| attempts.borrow_mut().push(attempt),
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let dialled = runtime.unwrap().block_on(async {
        tokio::select! {
            dialled = backend(&request) => dialled.map(|it| it.endpoint.address().at()),
            () = watch => unreachable!(),
        }
    });
    (dialled, attempts.into_inner())
}

/// The same without limits that matter: an attempt that waits for one would wait for an hour.
fn patient(pool: &Pool) -> (Result<SocketAddr, Unreached>, Vec<Attempt>) {
    let timeouts = Timeouts {
        connect_timeout: HOUR,
        dial_timeout: HOUR,
    };
    race(pool, timeouts, std::future::pending())
}

fn states(endpoint: &Endpoint) -> Vec<AddressState> {
    let states = endpoint.states(Instant::now()).into_iter();
    states.map(|(_, state)| state).collect()
}

fn listening(at: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_family_that_does_not_answer_is_overtaken_by_the_other_one_and_is_not_blamed() {
    let (_queue, silent) = silent_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let endpoint = named(&[silent, good]);
    let pool = pool(&[&endpoint]);
    let begun = Instant::now();
    assert_eq!(patient(&pool), (Ok(good), Vec::new()));
    assert!(begun.elapsed() >= Duration::from_millis(250));
    assert_eq!(
        states(&endpoint),
        [AddressState::Standby, AddressState::Healthy]
    );
    let loser = Arc::clone(&endpoint.addresses()[0]);
    assert!(loser.is_healthy(), "it has not failed");
    assert_eq!(loser.connections(), 0);
    assert!(!loser.has_connected(begun), "and has not succeeded");
    assert!(loser.take_slot(1).is_ok(), "its slot is free");
    // The next client begins with the family that was faster.
    let candidates = pool.candidates("192.0.2.1".parse().unwrap(), Instant::now());
    let order = candidates.iter().map(|it| it.address.at());
    assert_eq!(order.collect::<Vec<_>>(), [good, silent]);
}

#[test]
fn a_family_that_has_connected_lately_stays_first_although_it_is_overtaken_once() {
    let (_queue, silent) = silent_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let endpoint = named(&[silent, good]);
    endpoint.addresses()[0].succeeded(Instant::now());
    assert_eq!(patient(&pool(&[&endpoint])), (Ok(good), Vec::new()));
    assert_eq!(
        states(&endpoint),
        [AddressState::Healthy, AddressState::Standby]
    );
}

#[test]
fn a_family_that_answers_in_time_is_alone() {
    let (_one, v6) = listening("[::1]:0");
    let (other, v4) = listening("127.0.0.1:0");
    let pool = pool(&[&named(&[v6, v4])]);
    for _ in 0..3 {
        assert_eq!(patient(&pool), (Ok(v6), Vec::new()));
    }
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "nobody has dialled it");
}

#[test]
fn a_family_that_refuses_lets_the_other_one_begin_at_once() {
    let (_closed, refused) = closed_port_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let endpoint = named(&[refused, good]);
    let (dialled, attempts) = patient(&pool(&[&endpoint]));
    assert_eq!(dialled, Ok(good));
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    assert_eq!(
        attempts[0].reason,
        AttemptFailure::Dial(DialFailure::Refused)
    );
    // It has failed, and has a trial after its penalty: the preference for a faster family would keep that away.
    assert_eq!(
        states(&endpoint),
        [AddressState::Failed, AddressState::Healthy]
    );
}

#[test]
fn with_both_families_silent_both_are_told_and_two_are_dialled_at_a_time() {
    let silent: Vec<_> = ["[::1]:0", "[::1]:0", "127.0.0.1:0", "127.0.0.1:0"]
        .map(silent_at)
        .into();
    let addresses: Vec<_> = silent.iter().map(|(_, at)| *at).collect();
    let endpoint = named(&addresses);
    let most = RefCell::new(0);
    let watch = async {
        loop {
            let now = endpoint.connections();
            most.replace_with(|most| now.max(*most));
            yield_now().await;
        }
    };
    let timeouts = Timeouts {
        connect_timeout: Duration::from_secs(1),
        dial_timeout: HOUR,
    };
    let (dialled, attempts) = race(&pool(&[&endpoint]), timeouts, watch);
    assert_eq!(dialled, Err(Unreached::Unavailable));
    let tried: Vec<_> = attempts.iter().filter_map(|it| it.address).collect();
    let families: Vec<_> = tried.iter().map(SocketAddr::is_ipv4).collect();
    assert_eq!(families[..2], [false, true], "{tried:?}");
    assert!(addresses.iter().all(|it| tried.contains(it)), "{tried:?}");
    assert_eq!((tried.len(), *most.borrow()), (4, 2));
}

#[test]
fn a_dial_that_has_little_time_begins_with_the_other_family_in_half_of_it() {
    let (_queue, silent) = silent_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let timeouts = Timeouts {
        connect_timeout: Duration::from_millis(490),
        dial_timeout: Duration::from_millis(490),
    };
    let pool = pool(&[&named(&[silent, good])]);
    let (dialled, attempts) = race(&pool, timeouts, std::future::pending());
    assert_eq!((dialled, attempts), (Ok(good), Vec::new()));
}

/// Limits that a silent address reaches soon.
const SHORT: Timeouts = Timeouts {
    connect_timeout: Duration::from_secs(1),
    dial_timeout: HOUR,
};

/// The addresses that were tried in vain.
fn tried(attempts: &[Attempt]) -> Vec<SocketAddr> {
    attempts.iter().filter_map(|it| it.address).collect()
}

/// Otherwise the other endpoint would win each time, and nobody would notice that the address is dead.
#[test]
fn a_silent_address_whose_other_family_has_failed_has_its_time_and_has_failed_then() {
    let (_queue, silent) = silent_at("[::1]:0");
    let (_closed, refused) = closed_port();
    let (_listener, good) = listening("127.0.0.1:0");
    let both = named(&[silent, refused]);
    both.failed(&both.addresses()[1], Instant::now());
    let pool = balanced(Balance::RoundRobin, &[&both, &endpoint(good)]);
    let (dialled, attempts) = race(&pool, SHORT, std::future::pending());
    assert_eq!((dialled, tried(&attempts)), (Ok(good), vec![silent]));
    assert_eq!(states(&both), [AddressState::Failed; 2]);
    // The next clients go to the endpoint that answers.
    let dials = [(); 2].map(|()| patient(&pool));
    assert_eq!(dials, [(); 2].map(|()| (Ok(good), Vec::new())));
}

#[test]
fn a_family_that_refuses_beside_a_silent_one_leaves_that_its_time() {
    let (_queue, silent) = silent_at("127.0.0.1:0");
    let (_closed, refused) = closed_port_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let both = named(&[silent, refused]);
    let several = named(&[silent, good, refused]);
    for endpoints in [vec![both, endpoint(good)], vec![several]] {
        let pool = balanced(Balance::RoundRobin, &endpoints.iter().collect::<Vec<_>>());
        let (dialled, attempts) = race(&pool, SHORT, std::future::pending());
        assert_eq!(
            (dialled, tried(&attempts)),
            (Ok(good), vec![refused, silent])
        );
        assert_eq!(states(&endpoints[0])[0], AddressState::Failed);
    }
}

/// There is nothing left to notice, and one of them may be back.
#[test]
fn two_families_that_have_failed_race_as_well() {
    let (_queue, silent) = silent_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let both = named(&[silent, good]);
    for address in both.addresses().iter() {
        both.failed(address, Instant::now());
    }
    assert_eq!(patient(&pool(&[&both])), (Ok(good), Vec::new()));
}

/// An endpoint whose first address of these is due for a trial.
fn on_trial(addresses: &[SocketAddr]) -> Arc<Endpoint> {
    let long_ago = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
    let stats = Registry::new().endpoint("backend", "both.test:443");
    let endpoint = Endpoint::new(Target::Address(addresses[0]), stats, long_ago);
    endpoint.set_addresses(addresses);
    endpoint.failed(&endpoint.addresses()[0], long_ago);
    endpoint
}

#[test]
fn beside_a_silent_trial_the_families_of_another_endpoint_race() {
    let (_one, trial) = silent_at("127.0.0.1:0");
    let (_other, silent) = silent_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let (both, due) = (named(&[silent, good]), on_trial(&[trial]));
    assert_eq!(patient(&pool(&[&due, &both])), (Ok(good), Vec::new()));
    assert_eq!(
        states(&both),
        [AddressState::Standby, AddressState::Healthy]
    );
}

#[test]
fn a_trial_that_connects_late_wins_over_two_families_that_are_silent() {
    let ([listener, ..], trial) = silent_at("127.0.0.1:0");
    let silent = ["[::1]:0", "127.0.0.1:0"].map(silent_at);
    let both = named(&silent.each_ref().map(|(_, at)| *at));
    let due = on_trial(&[trial]);
    let watch = async {
        while due.connections() + both.connections() < 3 {
            yield_now().await;
        }
        // There is room for the client now, which the kernel tells when it repeats the SYN.
        drop(listener.accept().unwrap());
        std::future::pending::<()>().await;
    };
    let timeouts = Timeouts {
        connect_timeout: HOUR,
        dial_timeout: HOUR,
    };
    let (dialled, attempts) = race(&pool(&[&due, &both]), timeouts, watch);
    assert_eq!((dialled, attempts), (Ok(trial), Vec::new()));
    assert_eq!(states(&due), [AddressState::Healthy]);
}

/// Its result is still to come, and says more than a race.
#[test]
fn a_family_on_trial_that_is_overtaken_keeps_its_failure() {
    let (_queue, silent) = silent_at("[::1]:0");
    let (_listener, good) = listening("127.0.0.1:0");
    let both = on_trial(&[silent, good]);
    assert_eq!(patient(&pool(&[&both])), (Ok(good), Vec::new()));
    assert_eq!(states(&both), [AddressState::Failed, AddressState::Healthy]);
}

/// A proxy that is connected may wait for the endpoint before it answers.
#[test]
fn the_families_of_a_proxy_that_gets_names_have_no_race() {
    let proxies = ["[::1]:0", "127.0.0.1:0"].map(listening);
    let endpoints = via::behind(&proxies.each_ref().map(|(_, at)| *at), &["es.test"]);
    let most = RefCell::new(0);
    let watch = async {
        loop {
            let now = endpoints[0].connections();
            most.replace_with(|most| now.max(*most));
            yield_now().await;
        }
    };
    let timeouts = Timeouts {
        connect_timeout: Duration::from_millis(700),
        dial_timeout: HOUR,
    };
    let endpoints: Vec<_> = endpoints.iter().collect();
    let (dialled, attempts) = race(&pool(&endpoints), timeouts, watch);
    assert_eq!(dialled, Err(Unreached::Unavailable));
    assert_eq!((attempts.len(), *most.borrow()), (2, 1));
}

#[test]
fn only_an_endpoint_of_two_families_makes_a_race() {
    let [one, other, v6] = ["127.0.0.1:1", "127.0.0.2:1", "[::1]:1"].map(|it| it.parse().unwrap());
    let is_due = |endpoint: &Arc<Endpoint>| {
        let pool = pool(&[endpoint]);
        let candidates = pool.candidates("192.0.2.1".parse().unwrap(), Instant::now());
        race::is_due(&candidates)
    };
    assert!(!is_due(&named(&[])));
    assert!(!is_due(&named(&[one])));
    assert!(!is_due(&named(&[one, other])));
    assert!(is_due(&named(&[one, other, v6])));
}
