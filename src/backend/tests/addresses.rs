//! Endpoints with several addresses.

mod families;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::*;
use crate::outcome::AddressState;

const V4: [&str; 4] = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"];
const V6: [&str; 2] = ["[2001:db8::1]:1", "[2001:db8::2]:1"];

fn set(endpoint: &Endpoint, addresses: &[&str]) {
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    endpoint.set_addresses(&addresses.collect::<Vec<_>>());
}

/// An endpoint of this name with these addresses, the only one of its pool.
fn named(balance: Balance, addresses: &[&str]) -> Fixture {
    let fixture = fixture(balance, &["es.test:1"]);
    set(&fixture.pool.endpoints()[0], addresses);
    fixture
}

impl Fixture {
    fn endpoint(&self) -> &Arc<Endpoint> {
        &self.pool.endpoints()[0]
    }

    fn address(&self, address: &str) -> Arc<Address> {
        let at: SocketAddr = address.parse().unwrap();
        let addresses = self.endpoint().addresses();
        Arc::clone(addresses.iter().find(|it| it.at() == at).unwrap())
    }

    fn fail_address(&self, address: &str, seconds: f64) {
        let address = self.address(address);
        self.endpoint().failed(&address, self.at(seconds));
    }

    /// The addresses in the order in which a client tries them.
    fn addresses(&self, seconds: f64) -> Vec<String> {
        shown(&self.candidates(seconds))
    }

    fn states(&self) -> Vec<(String, AddressState)> {
        self.states_at(0.0)
    }

    fn states_at(&self, seconds: f64) -> Vec<(String, AddressState)> {
        let states = self.endpoint().states(self.at(seconds)).into_iter();
        states
            .map(|(it, state)| (it.at().to_string(), state))
            .collect()
    }
}

fn shown(candidates: &[Candidate]) -> Vec<String> {
    let addresses = candidates.iter().map(|it| it.address.at().to_string());
    addresses.collect()
}

#[test]
fn connections_spread_over_all_addresses_of_all_endpoints_alike() {
    for balance in [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::Random,
    ] {
        let fixture = fixture(balance, &["es.test:1", A]);
        set(fixture.endpoint(), &V4);
        let mut held = Vec::new();
        let mut firsts = BTreeMap::new();
        for _ in 0..1_000 {
            let first = fixture.candidates(0.0).remove(0);
            *firsts.entry(first.address.at()).or_insert(0) += 1;
            held.push(first.endpoint.enter(&first.address));
        }
        assert_eq!(firsts.len(), 5, "{balance:?}: {firsts:?}");
        // By chance it is 200 with a standard deviation of 13.
        let most = if balance == Balance::Random { 80 } else { 0 };
        let even = firsts
            .values()
            .all(|count| 200_i32.abs_diff(*count) <= most);
        assert!(even, "{balance:?}: {firsts:?}");
        let of_endpoint = fixture.endpoint().connections();
        let of_addresses = fixture.endpoint().addresses();
        let of_addresses = of_addresses.iter().map(|it| it.connections());
        assert_eq!(of_endpoint, of_addresses.sum::<u32>());
    }
}

/// The endpoint by its name, as it always was, and then its addresses by the same rule.
#[test]
fn source_hash_chooses_the_endpoint_and_then_the_address() {
    let fixture = fixture(Balance::SourceHash, &["one.test:1", "two.test:1", A]);
    set(&fixture.pool.endpoints()[0], &V4);
    set(&fixture.pool.endpoints()[1], &[V4[3], V4[1]]);
    let by_name = self::fixture(Balance::SourceHash, &["one.test:1", "two.test:1", A]);
    for endpoint in by_name.pool.endpoints() {
        set(endpoint, &[A]);
    }
    for number in 0..200 {
        let client = client(number);
        let candidates = fixture.pool.candidates(client, fixture.start);
        let mut endpoints = names(&candidates);
        endpoints.dedup();
        let expected = by_name.pool.candidates(client, by_name.start);
        assert_eq!(endpoints, names(&expected), "each endpoint is one block");
        for block in candidates.chunk_by(|one, next| one.endpoint.name() == next.endpoint.name()) {
            let weights = shown(block).into_iter();
            let weights = weights.map(|address| source_hash::weight(client, &address));
            assert!(weights.is_sorted_by(|one, next| one > next), "{block:?}");
        }
    }
}

#[test]
fn an_address_that_stays_keeps_its_failures_and_its_connections() {
    for balance in ALL {
        let fixture = named(balance, &V4[..3]);
        fixture.fail_address(V4[0], 0.0);
        let busy = fixture.address(V4[1]);
        let _connection = fixture.endpoint().enter(&busy);
        // In another order, with one that is new and without one.
        set(fixture.endpoint(), &[V4[3], V4[1], V4[0]]);
        let order = fixture.addresses(1.0);
        assert_eq!((order.len(), order[2].as_str()), (3, V4[0]), "{balance:?}");
        assert!(Arc::ptr_eq(&busy, &fixture.address(V4[1])));
        if balance == Balance::LeastConnections {
            assert_eq!(order, [V4[3], V4[1], V4[0]]);
        }
    }
}

#[test]
fn an_address_that_leaves_takes_no_connection_and_comes_back_as_it_was() {
    let fixture = named(Balance::LeastConnections, &V4[..2]);
    let connection = fixture.endpoint().enter(&fixture.address(V4[0]));
    fixture.fail_address(V4[0], 0.0);
    set(fixture.endpoint(), &V4[1..3]);
    assert!(!fixture.addresses(0.0).contains(&V4[0].to_owned()));
    assert_eq!(fixture.endpoint().connections(), 1);

    // It comes back while the connection is open, twice over a look-up without it.
    set(fixture.endpoint(), &V4[2..]);
    set(fixture.endpoint(), &V4[..2]);
    assert_eq!(fixture.address(V4[0]).connections(), 1);
    assert_eq!(fixture.addresses(0.0), [V4[1], V4[0]], "it has failed");

    set(fixture.endpoint(), &V4[1..2]);
    drop(connection);
    set(fixture.endpoint(), &V4[..2]);
    let states = [
        (V4[0].to_owned(), AddressState::Failed),
        (V4[1].to_owned(), AddressState::Healthy),
    ];
    assert_eq!(fixture.states(), states, "nobody has reached it since");
    assert_eq!(fixture.endpoint().connections(), 0);
}

#[test]
fn an_address_that_left_unhealthy_comes_back_without_what_checks_have_found_if_they_have_ended() {
    let checks = health::checks();
    for balance in ALL {
        let fixture = named(balance, &V4[..2]);
        let endpoint = fixture.endpoint();
        endpoint.check(Some(Check::Tcp));
        fixture
            .address(V4[0])
            .checked(false, &checks, fixture.start);
        set(endpoint, &V4[1..2]);
        set(endpoint, &V4[..2]);
        assert_eq!(fixture.states()[0].1, AddressState::Failed, "{balance:?}");

        set(endpoint, &V4[1..2]);
        endpoint.check(None);
        set(endpoint, &V4[..2]);
        assert_eq!(fixture.states()[0].1, AddressState::Healthy, "{balance:?}");
    }
}

#[test]
fn a_trial_is_that_of_one_address() {
    for balance in [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::Random,
    ] {
        let fixture = named(balance, &V4[..3]);
        fixture.fail_address(V4[0], 0.0);
        fixture.fail_address(V4[1], 0.0);
        let one = fixture.candidates(10.0);
        let other = fixture.candidates(10.0);
        assert!(one[0].on_trial() && other[0].on_trial(), "{balance:?}");
        assert_ne!(one[0].address.at(), other[0].address.at());
        assert_eq!(fixture.addresses(10.0)[0], V4[2], "both trials are taken");
        one[0].address.succeeded(Instant::now());
        let back = one[0].address.at().to_string();
        assert!(fixture.states().contains(&(back, AddressState::Healthy)));
    }
}

#[test]
fn the_page_counts_the_addresses_by_state() {
    let registry = Registry::new();
    let target = Target::Name {
        host: "es.test".into(),
        port: 1,
    };
    let stats = registry.endpoint("fleet", "es.test:1");
    let endpoint = Endpoint::new(target, stats, Instant::now());
    let counts = || {
        let page = registry.render();
        ["healthy", "standby", "failed"].map(|state| {
            let labels = format!("{{backend=\"fleet\",endpoint=\"es.test:1\",state=\"{state}\"}} ");
            let line = format!("portway_endpoint_addresses{labels}");
            let count = page.lines().find_map(|it| it.strip_prefix(&line));
            count.map(|count| count.parse::<u32>().unwrap())
        })
    };
    assert_eq!(counts(), [Some(0), Some(0), Some(0)]);
    set(&endpoint, &[V4[0], V6[0], V4[1], V4[2]]);
    assert_eq!(counts(), [Some(3), Some(1), Some(0)]);
    fail(&endpoint, Instant::now());
    assert_eq!(counts(), [Some(2), Some(1), Some(1)]);
    drop(endpoint);
    assert_eq!(counts(), [Some(0), Some(0), Some(0)]);
}

#[test]
fn an_address_is_gone_once_three_answers_in_a_row_have_not_had_it() {
    let fixture = named(Balance::Random, &V4[..2]);
    let (endpoint, left) = (fixture.endpoint(), fixture.address(V4[0]));
    let answer = |addresses: &[&str]| {
        set(endpoint, addresses);
        endpoint.note_answer();
    };
    let connection = endpoint.enter(&left);
    let other = endpoint.enter(&fixture.address(V4[1]));
    answer(&V4[1..2]);
    answer(&V4[1..2]);
    // A reload judges the addresses anew: that is not an answer.
    set(endpoint, &V4[1..2]);
    set(endpoint, &V4[1..3]);
    assert!(!connection.is_gone());
    // One that has it makes all before it forgotten.
    answer(&V4[..2]);
    answer(&V4[1..3]);
    answer(&V4[1..4]);
    assert!(!connection.is_gone());
    answer(&V4[1..2]);
    assert!(connection.is_gone());
    assert!(!other.is_gone());
    answer(&V4[..2]);
    assert!(!connection.is_gone());
}
