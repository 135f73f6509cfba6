//! Endpoints with a weight, that drain, or that are backups.

use std::collections::BTreeMap;

use super::*;

const PLAIN: Role = Role {
    weight: None,
    state: EndpointState::Ready,
    is_backup: false,
};
const BACKUP: Role = Role {
    is_backup: true,
    ..PLAIN
};
const DRAINS: Role = Role {
    state: EndpointState::Drain,
    ..PLAIN
};

const fn weight(weight: u16) -> Role {
    Role {
        weight: Some(weight),
        ..PLAIN
    }
}

/// Endpoints with these roles.
fn fixture(balance: Balance, endpoints: &[(&str, Role)]) -> Fixture {
    let names: Vec<&str> = endpoints.iter().map(|(name, _)| *name).collect();
    let roles: Vec<Role> = endpoints.iter().map(|(_, role)| *role).collect();
    let Fixture { pool, start } = super::fixture(balance, &names);
    Fixture {
        pool: pool.with_roles(&roles),
        start,
    }
}

fn set(endpoint: &Endpoint, addresses: &[&str]) {
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    endpoint.set_addresses(&addresses.collect::<Vec<_>>());
}

/// How many of so many connections each address gets, all of which stay open.
fn spread(fixture: &Fixture, connections: u32) -> BTreeMap<String, u32> {
    let mut held = Vec::new();
    let mut spread = BTreeMap::new();
    for number in 0..connections {
        let first = (fixture.pool.candidates(client(number), fixture.start)).remove(0);
        *spread.entry(first.address.at().to_string()).or_default() += 1;
        held.push(first.endpoint.enter(&first.address));
    }
    spread
}

/// Whether each address has its part of all, by chance or exactly.
fn assert_parts(balance: Balance, spread: &BTreeMap<String, u32>, parts: &[(&str, f64)]) {
    let all = f64::from(spread.values().sum::<u32>());
    let most = match balance {
        Balance::LeastConnections => 1.0,
        // The rest of a turn.
        Balance::RoundRobin => 5.0,
        // Five standard deviations, at most.
        Balance::Random | Balance::SourceHash => 5.0 * (all / 4.0).sqrt(),
    };
    for (address, part) in parts {
        let got = f64::from(spread.get(*address).copied().unwrap_or_default());
        let off = (got - part * all).abs();
        assert!(off <= most, "{balance:?} {address}: {spread:?}");
    }
}

#[test]
fn connections_spread_by_weight_with_every_balance() {
    for balance in ALL {
        let fixture = fixture(balance, &[(A, weight(1)), (B, weight(3)), (C, PLAIN)]);
        let spread = spread(&fixture, 5_000);
        assert_parts(balance, &spread, &[(A, 0.2), (B, 0.6), (C, 0.2)]);
    }
}

#[test]
fn the_addresses_of_an_endpoint_share_its_weight() {
    let addresses = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"];
    for balance in ALL {
        let fixture = fixture(balance, &[("es.test:1", weight(2)), (A, weight(2))]);
        set(&fixture.pool.endpoints()[0], &addresses);
        let spread = spread(&fixture, 4_000);
        assert_parts(balance, &spread, &[(A, 0.5)]);
        // By hash an endpoint is chosen first, and then one of its addresses.
        assert_parts(balance, &spread, &addresses.map(|it| (it, 0.125)));
    }
}

#[test]
fn without_a_weight_each_address_of_an_endpoint_counts_one() {
    for balance in [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::Random,
    ] {
        let fixture = fixture(balance, &[("es.test:1", PLAIN), (A, weight(2))]);
        set(&fixture.pool.endpoints()[0], &[B, C]);
        let spread = spread(&fixture, 4_000);
        assert_parts(balance, &spread, &[(A, 0.5), (B, 0.25), (C, 0.25)]);
    }
}

#[test]
fn weights_that_are_equal_change_no_choice_by_hash() {
    let plain = super::fixture(Balance::SourceHash, &[A, B, C]);
    let equal = [(A, weight(7)), (B, weight(7)), (C, weight(7))];
    let equal = fixture(Balance::SourceHash, &equal);
    for number in 0..1_000 {
        let client = client(number);
        assert_eq!(
            names(&plain.pool.candidates(client, plain.start)),
            names(&equal.pool.candidates(client, equal.start))
        );
    }
}

#[test]
fn a_higher_weight_moves_clients_only_to_that_endpoint() {
    let before = fixture(Balance::SourceHash, &[(A, weight(2)), (B, weight(2))]);
    let after = fixture(Balance::SourceHash, &[(A, weight(2)), (B, weight(4))]);
    let mut moved = 0;
    for number in 0..1_000 {
        let first = |fixture: &Fixture| {
            let candidates = fixture.pool.candidates(client(number), fixture.start);
            names(&candidates).remove(0)
        };
        let [before, after] = [first(&before), first(&after)];
        assert!(before == after || after == B);
        moved += u32::from(before != after);
    }
    // A sixth moves: from a half to two thirds.
    assert!((110..220).contains(&moved), "{moved}");
}

#[test]
fn an_endpoint_that_drains_is_no_candidate_and_keeps_its_connections() {
    for balance in ALL {
        let fixture = fixture(balance, &[(A, PLAIN), (B, DRAINS), (C, PLAIN)]);
        let kept = enter(&fixture.pool.endpoints()[1]);
        fixture.fail(0, 0.0);
        fixture.fail(2, 0.0);
        let mut order = fixture.order(0.0);
        order.sort_unstable();
        assert_eq!(order, [A, C], "even if all others have failed");
        assert_eq!(fixture.pool.endpoints()[1].connections(), 1);
        drop(kept);
        assert!(fixture.pool.has_draining() && !fixture.pool.is_draining());
    }
    let all = fixture(Balance::Random, &[(A, DRAINS), (B, DRAINS)]);
    assert!(all.pool.is_draining() && all.candidates(0.0).is_empty());
}

#[test]
fn a_backup_is_used_while_no_other_endpoint_is_available() {
    for balance in ALL {
        let fixture = fixture(balance, &[(A, BACKUP), (B, PLAIN), (C, PLAIN)]);
        let candidates = fixture.candidates(0.0);
        assert_eq!(candidates[2].endpoint.name().as_ref(), A);
        fixture.fail(1, 0.0);
        let order = fixture.order(1.0);
        assert_eq!(order, [C, A, B], "a backup goes before what has failed");
        fixture.fail(2, 0.0);
        assert_eq!(fixture.order(1.0)[0], A);
        // One client at a time tries the others again.
        let trial = fixture.candidates(10.0);
        assert!(trial[0].on_trial());
        assert_eq!(names(&trial)[1], A);
        succeed(&trial[0].endpoint);
        let back = names(&trial).remove(0);
        drop(trial);
        // The other one that failed may be on trial now.
        let order = fixture.order(10.0);
        let place = |name: &str| order.iter().position(|it| it == name);
        assert!(place(&back) < place(A), "{order:?}");
    }
}

#[test]
fn a_backup_that_failed_is_not_tried_again_before_it_is_needed() {
    for balance in ALL {
        let fixture = fixture(balance, &[(A, BACKUP), (B, PLAIN)]);
        fixture.fail(0, 0.0);
        for _ in 0..20 {
            assert_eq!(fixture.order(60.0), [B, A]);
        }
        fixture.fail(1, 60.0);
        let needed = fixture.candidates(61.0);
        assert_eq!(needed[0].endpoint.name().as_ref(), A);
    }
}

#[test]
fn backups_share_connections_as_others_do() {
    let backup = |weight| Role {
        weight: Some(weight),
        ..BACKUP
    };
    for balance in ALL {
        let endpoints = [(A, backup(1)), (B, backup(3)), (C, PLAIN)];
        let fixture = fixture(balance, &endpoints);
        fixture.fail(2, 0.0);
        let spread = spread(&fixture, 4_000);
        assert_parts(balance, &spread, &[(A, 0.25), (B, 0.75)]);
    }
}
