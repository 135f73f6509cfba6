//! Endpoints with addresses of both families: which one new connections use.

use super::*;

#[test]
fn the_family_of_the_first_address_is_in_use_as_long_as_one_of_it_is_in_health() {
    for balance in ALL {
        for (first, other) in [(&V4[..2], &V6[..]), (&V6[..], &V4[..2])] {
            let fixture = named(balance, &[first[0], other[0], other[1], first[1]]);
            for _ in 0..10 {
                let order = fixture.addresses(0.0);
                assert!(first.contains(&order[0].as_str()), "{order:?}");
                assert!(other.contains(&order[2].as_str()), "{order:?}");
            }
            fixture.fail_address(first[0], 0.0);
            let order = fixture.addresses(0.0);
            assert_eq!((order[0].as_str(), order[3].as_str()), (first[1], first[0]));

            // With its last one the other family comes into use, until one of the first is well again.
            fixture.fail_address(first[1], 1.0);
            let order = fixture.addresses(1.0);
            assert!(other.contains(&order[0].as_str()), "{order:?}");
            assert_eq!(order[2..], [first[0], first[1]]);
            fixture.address(first[1]).succeeded(Instant::now());
            assert_eq!(fixture.addresses(1.0)[0], first[1]);
        }
    }
}

#[test]
fn a_family_that_failed_is_tried_again_where_it_would_be_used() {
    for balance in ALL {
        // With `source_hash` the client's weights choose neither family, whichever of them is larger.
        for number in 0..20 {
            let fixture = named(balance, &[V6[0], V4[0]]);
            let candidates = |seconds| fixture.pool.candidates(client(number), fixture.at(seconds));
            fixture.fail_address(V6[0], 0.0);
            let trial = candidates(10.0);
            assert_eq!(
                shown(&trial),
                [V6[0], V4[0]],
                "{balance:?}, client {number}"
            );
            assert!(trial[0].on_trial());
            trial[0].address.succeeded(Instant::now());
            drop(trial);

            // An address that would only be on standby gets no trial.
            fixture.fail_address(V4[0], 20.0);
            let candidates = candidates(30.0);
            assert_eq!(shown(&candidates), [V6[0], V4[0]]);
            assert!(candidates.iter().all(|it| !it.on_trial()));
        }
    }
}

#[test]
fn a_family_that_is_not_in_use_is_shown_as_standby_also_after_a_failure() {
    let fixture = named(Balance::LeastConnections, &[V6[0], V4[0]]);
    let states = || {
        let states = fixture.states().into_iter();
        states.map(|(_, state)| state).collect::<Vec<_>>()
    };
    let [healthy, standby, failed] = [
        AddressState::Healthy,
        AddressState::Standby,
        AddressState::Failed,
    ];
    fixture.fail_address(V4[0], 0.0);
    // No dial would try it again, so otherwise it would be shown as failed for ever.
    assert_eq!(states(), [healthy, standby]);
    fixture.fail_address(V6[0], 0.0);
    assert_eq!(states(), [failed, failed]);
    fixture.address(V4[0]).succeeded(Instant::now());
    assert_eq!(states(), [failed, healthy]);
    fixture.address(V6[0]).succeeded(Instant::now());
    assert_eq!(states(), [healthy, standby]);
}

#[test]
fn where_both_families_have_failed_both_are_tried_again() {
    for balance in ALL {
        let fixture = named(balance, &[V6[0], V4[0]]);
        fixture.fail_address(V4[0], 0.0);
        fixture.fail_address(V6[0], 5.0);
        let candidates = fixture.candidates(10.0);
        assert_eq!(shown(&candidates), [V4[0], V6[0]], "{balance:?}");
        assert!(candidates[0].on_trial(), "{balance:?}");
    }
}

#[test]
fn an_endpoint_of_two_families_takes_no_more_connections_than_one_of_a_single_family() {
    let fixture = fixture(Balance::LeastConnections, &["es.test:1", A]);
    set(fixture.endpoint(), &[V4[0], V6[0]]);
    let enter_hundred = || {
        let firsts = (0..100).map(|_| fixture.candidates(0.0).remove(0));
        let held = firsts.map(|first| first.endpoint.enter(&first.address));
        held.collect::<Vec<_>>()
    };
    let counts = || [V4[0], V6[0]].map(|address| fixture.address(address).connections());
    let _held = enter_hundred();
    assert_eq!(counts(), [50, 0]);
    // The other family takes the place of one that cannot be reached.
    fixture.fail_address(V4[0], 0.0);
    let _more = enter_hundred();
    assert_eq!(counts(), [50, 75]);
    let states = [AddressState::Failed, AddressState::Healthy];
    assert_eq!(
        fixture
            .states()
            .into_iter()
            .map(|it| it.1)
            .collect::<Vec<_>>(),
        states
    );
}
