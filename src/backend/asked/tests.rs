use std::collections::HashSet;

use proptest::prelude::*;

use super::table::MOST_NEW;
use super::*;
use crate::telemetry::Registry;

const FRESH: Duration = Duration::from_mins(1);

struct Fixture {
    names: Asked,
    lanes: [mpsc::Receiver<Lookup>; 2],
    now: Instant,
}

impl Fixture {
    fn new() -> Self {
        let names = Asked::new(
            Way::Direct,
            Registry::new().endpoint("fleet", "{server_name}:443"),
        );
        Self {
            lanes: names.serve(),
            names,
            now: Instant::now(),
        }
    }

    fn later(&self, time: Duration) -> Instant {
        self.now + time
    }

    fn find(&self, name: &str, client: u32, now: Instant) -> Result<Found, Denied> {
        let name = ServerName::parse(name.as_bytes()).unwrap();
        let wish = Wish {
            name: &name,
            port: 443,
            client: IpAddr::V4(client.into()),
        };
        self.names.find(Some(443), &wish, now)
    }

    /// Whether a name has a fresh answer, so that nobody asks for it now.
    fn has(&self, name: &str, now: Instant) -> bool {
        let key = (ServerName::parse(name.as_bytes()).unwrap(), 443);
        let name = self.names.table().get(&key);
        name.is_some_and(|name| name.state.borrow().is_fresh(now))
    }

    /// Looks a name up for a client that nobody else is, and answers with an address.
    fn learn(&mut self, name: &str, client: u32, now: Instant) -> Arc<Name> {
        let Ok(Found::Soon(found, _answer)) = self.find(name, client, now) else {
            panic!("{name} is known already");
        };
        let lookup = self.lanes[0].try_recv().unwrap();
        let addresses = ["192.0.2.1:443".parse().unwrap()];
        lookup.endpoint().set_addresses(&addresses);
        lookup.answered(now + FRESH);
        found
    }
}

#[test]
fn names_that_were_not_reached_never_push_out_one_that_was() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let known: Vec<String> = (0..100)
        .map(|number| format!("known{number}.test"))
        .collect();
    for (client, name) in (0..).zip(&known) {
        let found = fixture.learn(name, client, now);
        fixture.names.reached(&found);
    }
    for client in 100..10_100 {
        fixture.learn(&format!("invented{client}.test"), client % 1000, now);
    }
    assert!(known.iter().all(|name| fixture.has(name, now)));
    assert_eq!(fixture.names.endpoints().len(), 100 + MOST_NEW);
    // The newest of the others are there.
    assert!(fixture.has("invented10099.test", now));
    assert!(!fixture.has("invented100.test", now));
}

#[test]
fn of_the_names_that_were_reached_the_one_unused_for_longest_goes_unless_it_has_connections() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let mut held = None;
    for client in 0..7500 {
        let found = fixture.learn(&format!("known{client}.test"), client, now);
        fixture.names.reached(&found);
        if client == 0 {
            let endpoint = found.endpoint();
            held = endpoint.addresses().first().map(|it| endpoint.enter(it));
        }
    }
    assert!(matches!(
        fixture.find("known1.test", 1, now),
        Ok(Found::Now(_))
    ));
    let newest = fixture.learn("newest.test", 9000, now);
    fixture.names.reached(&newest);
    // The first of them has a connection, and the second one was just used.
    let left = [
        "known0.test",
        "known1.test",
        "known2.test",
        "known3.test",
        "newest.test",
    ];
    assert_eq!(
        left.map(|name| fixture.has(name, now)),
        [true, true, false, true, true]
    );
    assert_eq!(fixture.names.connections(), 1);
    drop(held);
    assert_eq!(fixture.names.connections(), 0);
}

#[test]
fn a_name_is_looked_up_once_for_all_who_ask() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    assert!(matches!(
        fixture.find("one.test", 1, now),
        Ok(Found::Soon(..))
    ));
    assert!(matches!(
        fixture.find("one.test", 2, now),
        Ok(Found::Soon(..))
    ));
    let lookup = fixture.lanes[0].try_recv().unwrap();
    assert!(fixture.lanes[0].try_recv().is_err());
    assert!(!lookup.is_wanted(), "those who asked are gone");
    lookup
        .endpoint()
        .set_addresses(&["192.0.2.1:443".parse().unwrap()]);
    lookup.answered(now + FRESH);
    assert!(matches!(
        fixture.find("one.test", 1, now),
        Ok(Found::Now(_))
    ));
}

#[test]
fn a_name_that_was_reached_is_refreshed_beside_its_last_answer() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let found = fixture.learn("one.test", 1, now);
    // Until it is reached, an answer out of date is not used.
    let stale = fixture.later(FRESH);
    assert!(matches!(
        fixture.find("one.test", 1, stale),
        Ok(Found::Soon(..))
    ));
    fixture.lanes[0].try_recv().unwrap().answered(stale + FRESH);
    fixture.names.reached(&found);
    let stale = stale + FRESH;
    assert!(matches!(
        fixture.find("one.test", 1, stale),
        Ok(Found::Now(_))
    ));
    assert!(matches!(
        fixture.find("one.test", 1, stale),
        Ok(Found::Now(_))
    ));
    assert!(fixture.lanes[0].try_recv().is_err());
    let refresh = fixture.lanes[1].try_recv().unwrap();
    assert!(fixture.lanes[1].try_recv().is_err());
    assert!(refresh.is_wanted());
    refresh.answered(stale + FRESH);
}

/// The answer of a look-up that failed leaves the addresses as they are.
#[test]
fn a_client_waits_rather_than_use_a_very_old_answer_unless_the_look_up_fails() {
    let mut fixture = Fixture::new();
    let found = fixture.learn("one.test", 1, fixture.now);
    fixture.names.reached(&found);
    let is_known = |fixture: &Fixture, now| match fixture.find("one.test", 1, now) {
        Ok(Found::Now(_)) => true,
        Ok(Found::Soon(_, answer)) => {
            assert!(!answer.borrow().is_settled());
            false
        }
        Err(denied) => panic!("{denied}"),
    };
    let old = fixture.later(FRESH + LONGEST_STALE);
    assert!(is_known(&fixture, fixture.later(LONGEST_STALE)));
    assert!(!is_known(&fixture, old));
    let failed_until = old + Duration::from_secs(2);
    fixture.lanes[1].try_recv().unwrap().answered(failed_until);
    assert!(is_known(&fixture, old));
    // While the resolver fails, each client gets the last answer.
    let mut now = failed_until;
    for _ in 0..1000 {
        assert!(is_known(&fixture, now));
        now += Duration::from_secs(2);
        fixture.lanes[1].try_recv().unwrap().answered(now);
    }
    // Nobody has asked for hours: the resolver may be well again.
    assert!(!is_known(&fixture, now + Duration::from_hours(3)));
}

#[test]
fn the_last_answer_is_used_after_a_failed_dial_however_long_ago_it_was_asked_for() {
    let mut fixture = Fixture::new();
    let found = fixture.learn("one.test", 1, fixture.now);
    fixture.names.reached(&found);
    let stale = fixture.later(FRESH);
    drop(fixture.find("one.test", 1, stale));
    let hour = Duration::from_hours(1);
    fixture.lanes[1].try_recv().unwrap().answered(stale + hour);
    let later = stale + hour / 2;
    fixture.names.failed(&found, later);
    let found = fixture.find("one.test", 1, later);
    assert!(matches!(found, Ok(Found::Now(_))));
    let refresh = fixture.lanes[1].try_recv().unwrap();
    refresh.answered(later + FRESH);
}

#[test]
fn answers_that_expire_are_used_until_the_next_one_only_if_they_may_be() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let known = fixture.learn("known.test", 1, now);
    fixture.names.reached(&known);
    fixture.learn("new.test", 1, now);
    fixture.names.expire(Some(now));
    assert!(matches!(
        fixture.find("known.test", 1, now),
        Ok(Found::Now(_))
    ));
    drop(fixture.lanes[1].try_recv().unwrap());
    assert!(matches!(
        fixture.find("new.test", 1, now),
        Ok(Found::Soon(..))
    ));
    drop(fixture.lanes[0].try_recv().unwrap());
    fixture.names.expire(None);
    assert!(matches!(
        fixture.find("known.test", 1, now),
        Ok(Found::Soon(..))
    ));
    // It waits in the queue of names that were reached.
    drop(fixture.lanes[1].try_recv().unwrap());
}

#[test]
fn a_failed_dial_asks_again_at_most_once_a_second() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let found = fixture.learn("one.test", 1, now);
    // A name that was never reached is only asked for again by a client.
    fixture
        .names
        .failed(&found, fixture.later(Duration::from_secs(1)));
    assert!(
        fixture
            .lanes
            .iter_mut()
            .all(|lane| lane.try_recv().is_err())
    );
    assert!(!fixture.has("one.test", fixture.later(Duration::from_secs(1))));
    fixture.names.reached(&found);
    fixture
        .names
        .failed(&found, fixture.later(Duration::from_millis(999)));
    assert!(fixture.lanes[1].try_recv().is_err());
    let later = fixture.later(Duration::from_secs(1));
    fixture.names.failed(&found, later);
    fixture.names.failed(&found, later);
    drop(fixture.lanes[1].try_recv().unwrap());
    assert!(fixture.lanes[1].try_recv().is_err());
}

#[test]
fn a_look_up_that_nobody_answers_wakes_those_who_wait() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let Ok(Found::Soon(_, answer)) = fixture.find("one.test", 1, now) else {
        panic!("it is new");
    };
    assert!(!answer.borrow().is_settled());
    drop(fixture.lanes[0].try_recv().unwrap());
    assert!(answer.borrow().is_settled());
    // So does the end of those who answer, and then nobody is asked.
    let Ok(Found::Soon(_, answer)) = fixture.find("one.test", 1, now) else {
        panic!("it has no answer");
    };
    let closed = std::mem::replace(&mut fixture.lanes, fixture.names.serve());
    drop(closed);
    assert!(answer.borrow().is_settled());
    fixture.lanes.iter_mut().for_each(mpsc::Receiver::close);
    let Ok(Found::Soon(_, answer)) = fixture.find("two.test", 1, now) else {
        panic!("it is new");
    };
    assert!(answer.borrow().is_settled());
}

#[test]
fn a_full_queue_refuses_new_names_and_not_those_that_were_reached() {
    let mut fixture = Fixture::new();
    let now = fixture.now;
    let found = fixture.learn("one.test", 0, now);
    fixture.names.reached(&found);
    for client in 1..=1024 {
        let found = fixture.find(&format!("new{client}.test"), client, now);
        assert!(matches!(found, Ok(Found::Soon(..))));
    }
    assert_eq!(
        fixture.find("new.test", 2000, now).err(),
        Some(Denied::Queue)
    );
    // A name that is refused takes no place and no share.
    let before = fixture.names.endpoints().len();
    for _ in 0..200 {
        assert_eq!(
            fixture.find("new.test", 2000, now).err(),
            Some(Denied::Queue)
        );
    }
    assert_eq!(fixture.names.endpoints().len(), before);
    drop(fixture.lanes[0].try_recv().unwrap());
    let found = fixture.find("new.test", 2000, now);
    assert!(matches!(found, Ok(Found::Soon(..))));
    let stale = fixture.later(FRESH);
    assert!(matches!(
        fixture.find("one.test", 0, stale),
        Ok(Found::Now(_))
    ));
    drop(fixture.lanes[1].try_recv().unwrap());
}

#[test]
fn the_clients_that_are_counted_are_bounded_and_forgotten() {
    let fixture = Fixture::new();
    let shares = &fixture.names.shares;
    let take = |client: u32, now| shares.take(IpAddr::V4(client.into()), now);
    let held: Vec<_> = (0..10_000)
        .map(|client| take(client, fixture.now).unwrap())
        .collect();
    let later = fixture.later(Duration::from_secs(1));
    assert_eq!(take(10_000, later).err(), Some(Denied::Clients));
    assert!(take(1, later).is_ok());
    drop(held);
    for client in 10_000..10_200 {
        take(client, later).unwrap();
    }
    assert!(shares.size() <= 401, "{}", shares.size());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However a client asks, it never has more than 8 at once, and in no time more than its burst and its rate.
    #[test]
    fn a_client_never_gets_more_than_its_share(
        steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..400),
    ) {
        let shares = Arc::new(Shares::default());
        let client = IpAddr::V4(1.into());
        let begun = Instant::now();
        let (mut now, mut held, mut taken) = (begun, Vec::new(), 0_u128);
        for (pause, release) in steps {
            now += Duration::from_millis(pause / 10);
            if release {
                held.pop();
            }
            match shares.take(client, now) {
                Ok(share) => {
                    held.push(share);
                    taken += 1;
                }
                Err(denied) => {
                    let is_busy = held.len() == 8;
                    prop_assert_eq!(denied, if is_busy { Denied::AtOnce } else { Denied::Rate });
                }
            }
            prop_assert!(held.len() <= 8);
            prop_assert!(taken <= 100 + now.duration_since(begun).as_millis() / 50);
        }
    }

    /// The table stays bounded and a name that was reached stays.
    #[test]
    fn what_was_reached_stays_whatever_is_asked_for(
        steps in prop::collection::vec((0_u32..3000, 0_u8..20), 1..300),
    ) {
        let mut fixture = Fixture::new();
        let now = fixture.now;
        let mut reached = HashSet::new();
        for (client, (number, luck)) in (0..).zip(steps) {
            let name = format!("n{number}.test");
            if fixture.has(&name, now) {
                continue;
            }
            let found = fixture.learn(&name, client, now);
            if luck == 0 {
                fixture.names.reached(&found);
                reached.insert(name);
            }
        }
        for client in 10_000..10_000 + 2 * 2500 {
            fixture.learn(&format!("i{client}.test"), client, now);
        }
        prop_assert!(reached.iter().all(|name| fixture.has(name, now)));
        prop_assert_eq!(fixture.names.endpoints().len(), reached.len() + MOST_NEW);
    }
}
