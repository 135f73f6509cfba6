//! Endpoints that checks have found unhealthy, beside others.

use super::*;
use crate::outcome::AddressState;

pub(super) fn checks() -> Checks {
    Checks {
        check: Check::Tcp,
        interval: Duration::from_mins(1),
        timeout: Duration::from_secs(4),
        unhealthy_after: 1,
        healthy_after: 1,
        server_name: None,
        header: None,
    }
}

/// A check of the first address of an endpoint.
fn check(fixture: &Fixture, endpoint: usize, has_passed: bool) {
    let addresses = fixture.pool.endpoints()[endpoint].addresses();
    addresses[0].checked(has_passed, &checks(), fixture.start);
}

/// Of a hundred clients, how many get the first endpoint, which has the fewest connections.
fn percent(fixture: &Fixture, seconds: f64) -> u32 {
    let firsts = firsts(&fixture.pool, fixture.at(seconds), 10_000);
    firsts.get(A).map_or(0, |count| count / 100)
}

#[test]
fn an_address_that_returns_gets_its_clients_little_by_little() {
    let fixture = fixture(Balance::LeastConnections, &[A, B, C]);
    let _held = [1, 2].map(|other| enter(&fixture.pool.endpoints()[other]));
    assert_eq!(
        percent(&fixture, 1000.0),
        100,
        "at the beginning all are alike"
    );
    fixture.fail(0, 0.0);
    let first = &fixture.pool.endpoints()[0].addresses()[0];
    first.succeeded(fixture.at(20.0));
    assert_eq!(percent(&fixture, 20.0), 100, "one dial says little");
    fixture.fail(0, 30.0);
    fixture.fail(0, 50.0);
    first.succeeded(fixture.at(100.0));
    let percents = [100.0, 115.0, 130.0, 145.0, 160.0].map(|at| percent(&fixture, at));
    let expected = [0, 25, 50, 75, 100];
    let is_near = |(one, other): (&u32, u32)| one.abs_diff(other) <= 3;
    assert!(percents.iter().zip(expected).all(is_near), "{percents:?}");

    first.checked(false, &checks(), fixture.at(200.0));
    first.checked(true, &checks(), fixture.at(200.0));
    assert_eq!(
        percent(&fixture, 200.0),
        0,
        "also after checks have found it well"
    );
    assert_eq!(percent(&fixture, 260.0), 100);
}

#[test]
fn an_unhealthy_endpoint_is_the_last_and_no_client_tries_it_first() {
    for balance in ALL {
        let fixture = fixture(balance, &[A, B, C]);
        check(&fixture, 0, false);
        // Its dial failed too, and that penalty is over.
        fixture.fail(0, 0.0);
        fixture.fail(1, 600.0);
        for _ in 0..20 {
            let candidates = fixture.candidates(601.0);
            assert_eq!(names(&candidates), [C, B, A], "{balance:?}");
            assert!(candidates.iter().all(|it| !it.on_trial()), "{balance:?}");
        }
        check(&fixture, 0, true);
        let candidates = fixture.candidates(601.0);
        assert_eq!(names(&candidates)[2], B, "{balance:?}");
    }
}

#[test]
fn where_all_are_unhealthy_each_is_a_candidate_and_those_whose_dial_failed_are_last() {
    for balance in ALL {
        let fixture = fixture(balance, &[A, B, C]);
        (0..3).for_each(|endpoint| check(&fixture, endpoint, false));
        fixture.fail(1, 0.0);
        let order = fixture.order(1.0);
        assert_eq!((order.len(), order[2].as_str()), (3, B), "{balance:?}");
    }
}

#[test]
fn an_endpoint_that_drains_is_no_better_place_for_the_clients_of_an_unhealthy_one() {
    let Fixture { pool, start } = fixture(Balance::Random, &[A, B]);
    let unhealthy = enter(&pool.endpoints()[0]);
    unhealthy.endpoint().addresses()[0].checked(false, &checks(), start);
    assert!(unhealthy.is_unhealthy_in(&pool));
    assert!(unhealthy.has_healthy_others(&pool));
    let drains = Role {
        state: EndpointState::Drain,
        ..Role::default()
    };
    let pool = pool.with_roles(&[Role::default(), drains]);
    assert!(!unhealthy.has_healthy_others(&pool));
}

#[test]
fn the_same_address_as_a_new_value_is_no_better_place_and_another_one_of_its_name_is() {
    let before = fixture(Balance::Random, &["es.test:1"]);
    let after = fixture(Balance::Random, &["es.test:1"]);
    let lead = |fixture: &Fixture, addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        fixture.pool.endpoints()[0].set_addresses(&addresses.collect::<Vec<_>>());
    };
    lead(&before, &["10.0.0.1:1"]);
    lead(&after, &["10.0.0.1:1"]);
    let in_use = enter(&before.pool.endpoints()[0]);
    // Nobody checks the old value any more.
    let fail = |fixture: &Fixture| {
        let addresses = fixture.pool.endpoints()[0].addresses();
        addresses[0].checked(false, &checks(), fixture.start);
    };
    fail(&before);
    assert!(in_use.is_unhealthy_in(&before.pool));
    assert!(!in_use.is_unhealthy_in(&after.pool));
    fail(&after);
    assert!(in_use.is_unhealthy_in(&after.pool));
    assert!(!in_use.has_healthy_others(&after.pool));
    lead(&after, &["10.0.0.1:1", "10.0.0.2:1"]);
    assert!(in_use.has_healthy_others(&after.pool));
}

/// An endpoint whose name has an address of each family, and another one.
fn with_both_families() -> Fixture {
    let fixture = fixture(Balance::LeastConnections, &["es.test:1", A]);
    let addresses = [V4, V6].map(|address| address.parse().unwrap());
    fixture.pool.endpoints()[0].set_addresses(&addresses);
    fixture.pool.endpoints()[0].check(Some(Check::Tcp));
    fixture
}

const V4: &str = "10.0.0.1:1";
const V6: &str = "[2001:db8::1]:1";

#[test]
fn an_address_out_of_reach_makes_no_endpoint_healthy_and_is_the_very_last() {
    let fixture = with_both_families();
    let endpoint = &fixture.pool.endpoints()[0];
    let [v4, v6] = [0, 1].map(|position| Arc::clone(&endpoint.addresses()[position]));
    assert!(endpoint.may_use_other_family(&v6));
    v6.unreached();
    assert_eq!(endpoint.states(fixture.start)[1].1, AddressState::Standby);
    assert!(v4.is_healthy() && !v6.is_healthy());

    v4.checked(false, &checks(), fixture.start);
    let states = endpoint.states(fixture.start);
    assert!(states.iter().all(|it| it.1 == AddressState::Failed));
    for seconds in [0.0, 600.0] {
        let candidates = fixture.candidates(seconds);
        let order = candidates.iter().map(|it| it.address.at().to_string());
        assert_eq!(order.collect::<Vec<_>>(), [A, V4, V6]);
        assert!(candidates.iter().all(|it| !it.on_trial()));
    }
    // If the other family is out of reach too, the endpoint has failed, and that must show.
    assert!(!endpoint.may_use_other_family(&v4));
    v6.checked(true, &checks(), fixture.start);
    assert_eq!(endpoint.states(fixture.start)[1].1, AddressState::Healthy);
}

#[test]
fn an_address_out_of_reach_is_no_better_place_for_the_clients_of_an_unhealthy_one() {
    let Fixture { pool, start } = with_both_families();
    let in_use = enter(&pool.endpoints()[0]);
    in_use.endpoint().addresses()[0].checked(false, &checks(), start);
    let other = Arc::clone(&pool.endpoints()[1]);
    other.failed(&other.addresses()[0], start);
    assert!(in_use.has_healthy_others(&pool));
    in_use.endpoint().addresses()[1].unreached();
    assert!(!in_use.has_healthy_others(&pool));
}

#[test]
fn in_turn_all_unhealthy_endpoints_share_the_clients() {
    let fixture = fixture(Balance::RoundRobin, &[A, B, C]);
    (0..3).for_each(|endpoint| check(&fixture, endpoint, false));
    let firsts = firsts(&fixture.pool, fixture.at(1.0), 30);
    assert_eq!([A, B, C].map(|name| firsts[name]), [10; 3]);
}

#[test]
fn a_check_that_passes_ends_the_failure_of_a_dial() {
    let fixture = fixture(Balance::RoundRobin, &[A, B]);
    let state = || fixture.pool.endpoints()[0].states(Instant::now())[0].1;
    fixture.fail(0, 0.0);
    assert_eq!(state(), AddressState::Failed);
    check(&fixture, 0, true);
    assert_eq!(state(), AddressState::Healthy);
    check(&fixture, 0, false);
    assert_eq!(state(), AddressState::Failed);
}

#[test]
fn a_dial_that_succeeds_does_not_make_an_unhealthy_address_healthy() {
    let fixture = fixture(Balance::RoundRobin, &[A, B]);
    check(&fixture, 0, false);
    succeed(&fixture.pool.endpoints()[0]);
    assert_eq!(fixture.order(0.0), [B, A]);
    fixture.pool.endpoints()[0].check(None);
    assert_eq!(fixture.order(0.0)[0], B, "the turn goes on");
    assert_eq!(fixture.order(0.0)[0], A);
}

#[test]
fn a_client_proves_as_much_as_a_check_asks_and_no_longer_than_until_a_dial_fails() {
    let fixture = fixture(Balance::Random, &[A]);
    let endpoint = &fixture.pool.endpoints()[0];
    let address = Arc::clone(&endpoint.addresses()[0]);
    let in_use = endpoint.enter(&address);
    let served = |seconds| {
        [Check::Tcp, Check::Tls].map(|check| address.has_served(check, fixture.at(seconds)))
    };
    assert_eq!(served(0.0), [false, false]);
    address.succeeded(fixture.at(10.0));
    assert_eq!(served(9.0), [true, false]);
    assert!(address.has_connected(fixture.at(9.0)));
    assert!(!address.has_connected(fixture.at(10.0)));
    in_use.answered(fixture.at(11.0));
    assert_eq!(served(9.0), [true, true]);
    assert_eq!(served(10.5), [false, true]);
    assert_eq!(served(11.0), [false, false]);
    fixture.fail(0, 12.0);
    assert_eq!(served(9.0), [false, false]);
}
