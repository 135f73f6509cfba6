mod addresses;
mod health;
mod roles;
mod slots;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::telemetry::{EndpointStats, Registry};

/// A pool with a clock that the test sets.
struct Fixture {
    pool: Pool,
    start: Instant,
}

fn fixture(balance: Balance, endpoints: &[&str]) -> Fixture {
    let start = Instant::now();
    let endpoint = |name: &&str| {
        let target = if let Ok(address) = name.parse() {
            Target::Address(address)
        } else {
            let (host, port) = name.split_once(':').unwrap();
            Target::Name {
                host: host.into(),
                port: port.parse().unwrap(),
            }
        };
        Endpoint::new(target, stats(), start)
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    Fixture {
        pool: Pool::new("fleet".into(), endpoints, balance),
        start,
    }
}

impl Fixture {
    fn at(&self, seconds: f64) -> Instant {
        self.start + Duration::from_secs_f64(seconds)
    }

    fn fail(&self, endpoint: usize, seconds: f64) {
        fail(&self.pool.endpoints()[endpoint], self.at(seconds));
    }

    fn candidates(&self, seconds: f64) -> Vec<Candidate> {
        self.pool.candidates(CLIENT, self.at(seconds))
    }

    fn order(&self, seconds: f64) -> Vec<String> {
        names(&self.candidates(seconds))
    }
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const A: &str = "127.0.0.1:1";
const B: &str = "127.0.0.1:2";
const C: &str = "127.0.0.1:3";
const ALL: [Balance; 4] = [
    Balance::LeastConnections,
    Balance::RoundRobin,
    Balance::Random,
    Balance::SourceHash,
];

fn names(candidates: &[Candidate]) -> Vec<String> {
    candidates
        .iter()
        .map(|candidate| candidate.endpoint.name().to_string())
        .collect()
}

/// A dial of the first address fails.
fn fail(endpoint: &Endpoint, now: Instant) {
    endpoint.failed(&endpoint.addresses()[0], now);
}

/// A dial of the first address succeeds.
fn succeed(endpoint: &Endpoint) {
    endpoint.addresses()[0].succeeded(Instant::now());
}

/// A connection to the first address.
fn enter(endpoint: &Arc<Endpoint>) -> InUse {
    endpoint.enter(&endpoint.addresses()[0])
}

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

/// How often each endpoint comes first.
fn firsts(pool: &Pool, now: Instant, clients: u32) -> HashMap<String, u32> {
    let mut firsts = HashMap::new();
    for number in 0..clients {
        let candidates = pool.candidates(client(number), now);
        *firsts
            .entry(candidates[0].endpoint.name().to_string())
            .or_default() += 1;
    }
    firsts
}

#[test]
fn an_endpoint_is_a_candidate_once_it_has_an_address() {
    for balance in ALL {
        let fixture = fixture(balance, &["es.test:9200"]);
        assert!(fixture.candidates(0.0).is_empty());
        let address = "192.0.2.7:9200".parse().unwrap();
        fixture.pool.endpoints()[0].set_addresses(&[address]);
        let candidates = fixture.candidates(0.0);
        assert_eq!(names(&candidates), ["es.test:9200"]);
        assert_eq!(candidates[0].address.at(), address);
    }
}

#[test]
fn an_endpoint_given_as_an_address_has_it_from_the_start() {
    assert_eq!(
        fixture(Balance::Random, &["[::1]:9200"]).order(0.0),
        ["[::1]:9200"]
    );
}

#[test]
fn a_failed_endpoint_goes_last_and_is_never_left_out() {
    for balance in ALL {
        let fixture = fixture(balance, &[A, B, C]);
        fixture.fail(1, 0.0);
        for _ in 0..20 {
            let order = fixture.order(9.9);
            assert_eq!((order.len(), order[2].as_str()), (3, B), "{balance:?}");
        }
    }
}

#[test]
fn failed_endpoints_come_in_the_order_in_which_their_penalties_end() {
    let fixture = fixture(Balance::LeastConnections, &[A, B, C]);
    fixture.fail(1, 0.0);
    fixture.fail(0, 1.0);
    fixture.fail(2, 2.0);
    assert_eq!(fixture.order(3.0), [B, A, C]);
}

#[test]
fn the_penalty_doubles_from_ten_to_sixty_seconds_and_a_success_resets_it() {
    let fixture = fixture(Balance::LeastConnections, &[A, B]);
    let mut now = 0.0;
    for penalty in [10.0, 20.0, 40.0, 60.0, 60.0] {
        fixture.fail(0, now);
        assert_eq!(fixture.order(now + penalty - 0.1), [B, A], "{penalty}");
        assert!(fixture.candidates(now + penalty)[0].on_trial(), "{penalty}");
        now += penalty;
    }
    succeed(&fixture.pool.endpoints()[0]);
    fixture.fail(0, now);
    assert!(fixture.candidates(now + 10.0)[0].on_trial());
}

#[test]
fn failures_during_a_penalty_neither_lengthen_nor_double_it() {
    let fixture = fixture(Balance::LeastConnections, &[A, B]);
    for second in 0..10 {
        fixture.fail(0, f64::from(second));
    }
    assert!(fixture.candidates(10.0)[0].on_trial());
    fixture.fail(0, 10.0);
    assert_eq!(fixture.order(29.9), [B, A]);
    assert_eq!(fixture.order(30.0), [A, B]);
}

#[test]
fn after_its_penalty_an_endpoint_is_tried_first_by_one_client_at_a_time() {
    for balance in [
        Balance::LeastConnections,
        Balance::RoundRobin,
        Balance::Random,
    ] {
        let fixture = fixture(balance, &[A, B]);
        fixture.fail(0, 0.0);
        let trial = fixture.candidates(10.0);
        assert_eq!(names(&trial), [A, B]);
        assert!(trial[0].on_trial() && !trial[1].on_trial());
        for _ in 0..5 {
            let others = fixture.candidates(10.0);
            assert_eq!(names(&others), [B, A]);
            assert!(others.iter().all(|candidate| !candidate.on_trial()));
        }
        // The client gave up before there was a result: another takes the trial.
        drop(trial);
        assert!(fixture.candidates(10.0)[0].on_trial());
    }
}

#[test]
fn a_result_ends_the_trial_even_while_its_candidate_is_kept() {
    let fixture = fixture(Balance::RoundRobin, &[A, B]);
    fixture.fail(0, 0.0);
    let kept = fixture.candidates(10.0);
    fixture.fail(0, 10.0);
    assert_eq!(fixture.order(29.0), [B, A]);
    let next = fixture.candidates(30.0);
    assert!(next[0].on_trial());
    // The end of an old trial does not end a newer one.
    drop(kept);
    assert_eq!(fixture.order(30.0), [B, A]);

    succeed(&fixture.pool.endpoints()[0]);
    drop(next);
    let orders = [fixture.order(30.0), fixture.order(30.0)];
    assert!(orders.contains(&vec![A.to_owned(), B.to_owned()]));
}

#[test]
fn one_client_tries_one_endpoint_only() {
    let fixture = fixture(Balance::LeastConnections, &[A, B, C]);
    fixture.fail(0, 0.0);
    fixture.fail(1, 0.0);
    let first = fixture.candidates(10.0);
    assert_eq!(
        first
            .iter()
            .filter(|candidate| candidate.on_trial())
            .count(),
        1
    );
    assert_eq!(first[1].endpoint.name().as_ref(), C);
    let second = fixture.candidates(10.0);
    assert!(second[0].on_trial());
    assert_ne!(second[0].endpoint.name(), first[0].endpoint.name());
}

#[test]
fn threads_take_a_trial_once() {
    let fixture = fixture(Balance::Random, &[A, B]);
    for round in 0..100 {
        let now = f64::from(round) * 100.0;
        fixture.fail(0, now);
        let held: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| fixture.candidates(now + 60.0)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let trials = held
            .iter()
            .flatten()
            .filter(|candidate| candidate.on_trial())
            .count();
        assert_eq!(trials, 1);
    }
}

#[test]
fn least_connections_orders_by_the_connections_held() {
    let fixture = fixture(Balance::LeastConnections, &[A, B, C]);
    let [a, b, c] = fixture.pool.endpoints() else {
        panic!()
    };
    let held = [enter(a), enter(a), enter(c)];
    assert_eq!(
        (a.connections(), b.connections(), c.connections()),
        (2, 0, 1)
    );
    assert_eq!(fixture.order(0.0), [B, C, A]);
    drop(held);
    assert_eq!((a.connections(), c.connections()), (0, 0));
}

#[test]
fn the_page_shows_the_connections_that_the_endpoint_itself_counts() {
    let registry = Registry::new();
    let stats = registry.endpoint("fleet", A);
    let target = Target::Address(A.parse().unwrap());
    let endpoint = Endpoint::new(target, stats, Instant::now());
    let shown = |count: u32| {
        let labels = format!("{{backend=\"fleet\",endpoint=\"{A}\"}}");
        let line = format!("portway_endpoint_connections{labels} {count}\n");
        registry.render().contains(&line)
    };
    let held = [enter(&endpoint), enter(&endpoint)];
    assert!(shown(2));
    drop(held);
    assert!(shown(0));
}

#[test]
fn least_connections_shares_ties_at_random_and_a_burst_evenly() {
    let fixture = fixture(Balance::LeastConnections, &[A, B, C]);
    let firsts = firsts(&fixture.pool, fixture.start, 3_000);
    assert!(
        firsts.values().all(|count| (800..1_200).contains(count)),
        "{firsts:?}"
    );

    let burst: Vec<_> = (0..300)
        .map(|_| enter(&fixture.candidates(0.0)[0].endpoint))
        .collect();
    assert!(
        fixture
            .pool
            .endpoints()
            .iter()
            .all(|endpoint| endpoint.connections() == 100)
    );
    drop(burst);
}

#[test]
fn round_robin_takes_one_after_the_other_and_shares_the_load_of_a_failed_one() {
    let fixture = fixture(Balance::RoundRobin, &[A, B, C]);
    let orders: Vec<_> = (0..4).map(|_| fixture.order(0.0)).collect();
    assert_eq!(orders, [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]);
    fixture.fail(0, 0.0);
    let firsts = firsts(&fixture.pool, fixture.start, 100);
    assert_eq!(
        firsts,
        HashMap::from([(B.to_owned(), 50), (C.to_owned(), 50)])
    );
}

#[test]
fn random_shares_evenly_whatever_the_connections() {
    let fixture = fixture(Balance::Random, &[A, B, C]);
    let _held = [
        enter(&fixture.pool.endpoints()[0]),
        enter(&fixture.pool.endpoints()[0]),
    ];
    let firsts = firsts(&fixture.pool, fixture.start, 3_000);
    assert!(
        firsts.values().all(|count| (800..1_200).contains(count)),
        "{firsts:?}"
    );
}

#[test]
fn source_hash_is_the_same_for_every_relay_and_order_of_the_file() {
    let one = fixture(Balance::SourceHash, &["a.test:1", "b.test:1", A, B]);
    let other = fixture(Balance::SourceHash, &[B, "b.test:1", A, "a.test:1"]);
    for fixture in [&one, &other] {
        for endpoint in fixture.pool.endpoints() {
            endpoint.set_addresses(&[A.parse().unwrap()]);
        }
    }
    for number in 0..1_000 {
        let client = client(number);
        assert_eq!(
            names(&one.pool.candidates(client, one.start)),
            names(&other.pool.candidates(client, other.start))
        );
    }
}

/// These values are an interface between relays: a change of them moves every client.
#[test]
fn the_weights_of_source_hash_are_those_of_the_documentation() {
    let documented = include_str!("../../docs/source-hash.md");
    let rows: Vec<_> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix("` |"))
        .map(|row| row.split("` | `").collect::<Vec<_>>())
        .collect();
    assert!(rows.len() >= 4);
    for row in rows {
        let [client, endpoint, weight] = row[..] else {
            panic!("{row:?}")
        };
        let computed = source_hash::weight(client.parse().unwrap(), endpoint);
        assert_eq!(format!("{computed:016x}"), weight, "{client} {endpoint}");
    }
}

#[test]
fn source_hash_shares_evenly() {
    let endpoints: Vec<_> = (0..10).map(|n| format!("10.0.0.{n}:8220")).collect();
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let fixture = fixture(Balance::SourceHash, &endpoints);
    let firsts = firsts(&fixture.pool, fixture.start, 20_000);
    // 2,000 each, with a standard deviation of 42.
    assert!(
        firsts.values().all(|count| (1_800..2_200).contains(count)),
        "{firsts:?}"
    );
}

#[test]
fn source_hash_moves_only_the_clients_of_an_endpoint_that_goes() {
    let all = fixture(Balance::SourceHash, &[A, B, C]);
    let fewer = fixture(Balance::SourceHash, &[A, C]);
    for number in 0..1_000 {
        let before = names(&all.pool.candidates(client(number), all.start));
        let after = names(&fewer.pool.candidates(client(number), fewer.start));
        let expected: Vec<_> = before.into_iter().filter(|name| name != B).collect();
        assert_eq!(after, expected);
    }
}

#[test]
fn source_hash_gives_a_trial_only_to_a_client_of_that_endpoint() {
    let fixture = fixture(Balance::SourceHash, &[A, B, C]);
    for number in 0..100 {
        let own = fixture.pool.candidates(client(number), fixture.start);
        let own = names(&own).remove(0);
        let failed = fixture
            .pool
            .endpoints()
            .iter()
            .find(|e| e.name().as_ref() == A)
            .unwrap();
        fail(failed, fixture.start);
        let later = fixture.pool.candidates(client(number), fixture.at(10.0));
        assert_eq!(later[0].on_trial(), own == A);
        assert_eq!(names(&later)[0], own);
        succeed(failed);
    }
}

#[tokio::test]
async fn a_failed_dial_asks_for_fresh_addresses_even_if_nobody_waits_yet() {
    let fixture = fixture(Balance::Random, &["es.test:9200"]);
    let endpoint = &fixture.pool.endpoints()[0];
    endpoint.set_addresses(&[A.parse().unwrap()]);
    fail(endpoint, fixture.start);
    fail(endpoint, fixture.start);
    endpoint.stale().await;
    let again = tokio::time::timeout(Duration::from_millis(10), endpoint.stale()).await;
    assert!(
        again.is_err(),
        "two failures before one refresh ask for one"
    );
}

proptest! {
    /// Health orders, it never forbids: whatever happened, every address is there once, those in health
    /// first.
    #[test]
    fn every_address_is_a_candidate_once(
        balance in prop::sample::select(&ALL[..]),
        events in prop::collection::vec((0..5_usize, 0..4_u8, 0.0..30.0_f64), 0..60),
    ) {
        let fixture = fixture(balance, &[A, B, "es.test:1", "unresolved.test:1"]);
        let name = ["192.0.2.1:1", "[2001:db8::1]:1", "192.0.2.2:1"];
        let name = name.map(|address| address.parse().unwrap());
        fixture.pool.endpoints()[2].set_addresses(&name);
        let endpoints = fixture.pool.endpoints().iter();
        let of = |endpoint: &Arc<Endpoint>| {
            let addresses = endpoint.addresses();
            let pair = |address| (Arc::clone(endpoint), Arc::clone(address));
            addresses.iter().map(pair).collect::<Vec<_>>()
        };
        let all: Vec<(Arc<Endpoint>, Arc<Address>)> = endpoints.flat_map(of).collect();
        let mut expected: Vec<_> = all.iter().map(|(_, address)| address.at()).collect();
        expected.sort_unstable();
        let mut now = 0.0;
        let mut held = Vec::new();
        for (number, event, elapsed) in events {
            now += elapsed;
            let (endpoint, address) = &all[number];
            match event {
                0 => endpoint.failed(address, fixture.at(now)),
                1 => address.succeeded(fixture.at(now)),
                2 => held.push((fixture.candidates(now), endpoint.enter(address))),
                _ => drop(held.pop()),
            }
            let candidates = fixture.candidates(now);
            let trials = candidates.iter().filter(|candidate| candidate.on_trial()).count();
            prop_assert!(trials <= 1 && (trials == 0 || candidates[0].on_trial()));
            let health = candidates[trials..].iter().map(|it| it.address.is_healthy());
            prop_assert!(health.is_sorted_by(|one, next| one >= next));
            let mut addresses: Vec<_> = candidates.iter().map(|it| it.address.at()).collect();
            addresses.sort_unstable();
            prop_assert_eq!(&addresses, &expected);
        }
        drop(held);
        let counts = fixture.pool.endpoints().iter().map(|it| it.connections());
        let counts = counts.chain(all.iter().map(|(_, address)| address.connections()));
        prop_assert!(counts.into_iter().all(|count| count == 0));
    }
}

fn stats() -> Arc<EndpointStats> {
    Registry::new().endpoint("backend", "endpoint")
}
