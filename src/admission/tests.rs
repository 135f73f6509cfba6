use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const NO_LIMITS: Quotas = Quotas {
    max_connections: None,
    max_pending_connections: None,
    max_pending_per_client: None,
    max_connections_per_client: None,
    accept_rate: None,
    accept_rate_per_client: None,
    client_ipv6_prefix: 64,
};
const MACHINE: Machine = Machine {
    nofile: 20_000,
    memory_max: None,
};

fn admission(limits: &Quotas) -> Arc<Admission> {
    Arc::new(Admission::new(limits, MACHINE))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bounds(nofile: u64, memory_max: Option<u64>) -> (usize, &'static str) {
    let bounds = Bounds::new(&NO_LIMITS, Machine { nofile, memory_max });
    (bounds.max_connections, bounds.bound_by)
}

#[test]
fn max_connections_is_what_the_scarcest_of_the_machine_bears() {
    assert_eq!(bounds(20_000, None), (9_968, "nofile"));
    assert_eq!(bounds(u64::MAX, Some(64 << 20)), (3_276, "memory.max"));
    assert_eq!(bounds(20_000, Some(64 << 20)), (3_276, "memory.max"));
    assert_eq!(bounds(u64::MAX, Some(1 << 60)), (1_000_000, "ceiling"));
    assert_eq!(bounds(u64::MAX, None), (1_000_000, "ceiling"));
    assert_eq!(bounds(10, None), (1, "nofile"));
    assert_eq!(bounds(20_000, Some(0)), (1, "memory.max"));
}

#[test]
fn each_default_is_a_quarter_of_the_limit_above_it_and_at_least_one() {
    let with = |limits: Quotas| {
        let bounds = Bounds::new(&limits, MACHINE);
        (
            bounds.max_pending_connections,
            bounds.max_pending_per_client,
        )
    };
    assert_eq!(with(NO_LIMITS), (2_492, 623));
    assert_eq!(
        with(Quotas {
            max_connections: Some(2),
            ..NO_LIMITS
        }),
        (1, 1)
    );
    assert_eq!(
        with(Quotas {
            max_pending_connections: Some(100),
            ..NO_LIMITS
        }),
        (100, 25)
    );
    assert_eq!(
        with(Quotas {
            max_pending_per_client: Some(9),
            ..NO_LIMITS
        }),
        (2_492, 9)
    );
    assert_eq!(
        Bounds::new(&NO_LIMITS, MACHINE).max_connections_per_client,
        None
    );
}

#[test]
fn a_limit_of_routes_toml_holds_even_above_what_the_machine_bears() {
    let bounds = Bounds::new(
        &Quotas {
            max_connections: Some(50_000),
            ..NO_LIMITS
        },
        MACHINE,
    );
    assert_eq!(
        (bounds.max_connections, bounds.bound_by),
        (50_000, "routes.toml")
    );
    assert_eq!(bounds.machine_max_connections, 9_968);
}

#[test]
fn a_connection_over_a_total_limit_is_refused_until_another_ends() {
    let limits = Quotas {
        max_connections: Some(3),
        max_pending_connections: Some(2),
        ..NO_LIMITS
    };
    let admission = admission(&limits);
    let first = admission.admit().unwrap();
    let second = admission.admit().unwrap();
    assert_eq!(admission.admit().unwrap_err(), Limit::MaxPendingConnections);
    assert_eq!((admission.connections(), admission.pending()), (2, 2));

    first.hello_done();
    first.hello_done();
    let third = admission.admit().unwrap();
    assert_eq!(admission.admit().unwrap_err(), Limit::MaxConnections);
    drop(second);
    let fourth = admission.admit().unwrap();
    drop((first, third, fourth));
    assert_eq!((admission.connections(), admission.pending()), (0, 0));
}

#[test]
fn a_client_over_its_pending_limit_is_refused_and_others_are_not() {
    let admission = admission(&Quotas {
        max_pending_per_client: Some(1),
        ..NO_LIMITS
    });
    let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
    let first = admission.admit().unwrap();
    first.identify(one, Instant::now()).unwrap();
    let second = admission.admit().unwrap();
    assert_eq!(
        second.identify(one, Instant::now()),
        Err(Limit::MaxPendingPerClient)
    );
    assert_eq!(second.identify(other, Instant::now()), Ok(()));

    first.hello_done();
    let third = admission.admit().unwrap();
    assert_eq!(third.identify(one, Instant::now()), Ok(()));
    assert_eq!(admission.counts(one), (2, 1));
}

/// Opens pending connections of one client until one is refused, and returns them.
fn pending_of(admission: &Arc<Admission>, client: &str) -> Vec<Permit> {
    let mut held = Vec::new();
    loop {
        let permit = admission.admit().unwrap();
        match permit.identify(ip(client), Instant::now()) {
            Ok(()) => held.push(permit),
            Err(limit) => {
                assert_eq!(limit, Limit::MaxPendingPerClient);
                return held;
            }
        }
    }
}

#[test]
fn by_default_one_client_has_half_of_the_pending_places_and_under_pressure_its_share() {
    let admission = admission(&Quotas {
        max_pending_connections: Some(40),
        ..NO_LIMITS
    });
    let one = pending_of(&admission, "192.0.2.1");
    assert_eq!(one.len(), 20);
    // A client below its share of a quarter gets more, up to that share, while there is a place.
    let other = pending_of(&admission, "192.0.2.2");
    assert_eq!(other.len(), 10);
    // A client above its share gets more once there is room again.
    one[0].hello_done();
    let again = admission.admit().unwrap();
    assert!(again.identify(ip("192.0.2.1"), Instant::now()).is_err());
    drop((other, again));
    assert_eq!(pending_of(&admission, "192.0.2.1").len(), 1);
    drop(one);
    assert_eq!(admission.clients.size().0, 0);
}

#[test]
fn a_written_share_counts_always() {
    let admission = admission(&Quotas {
        max_pending_connections: Some(40),
        max_pending_per_client: Some(10),
        ..NO_LIMITS
    });
    assert_eq!(pending_of(&admission, "192.0.2.1").len(), 10);
}

#[test]
fn a_client_over_its_connection_limit_is_refused_and_leaves_no_trace() {
    let admission = admission(&Quotas {
        max_connections_per_client: Some(1),
        ..NO_LIMITS
    });
    let first = admission.admit().unwrap();
    first.identify(ip("192.0.2.1"), Instant::now()).unwrap();
    first.hello_done();
    let second = admission.admit().unwrap();
    assert_eq!(
        second.identify(ip("192.0.2.1"), Instant::now()),
        Err(Limit::MaxConnectionsPerClient)
    );
    drop(second);
    assert_eq!(admission.counts(ip("192.0.2.1")), (1, 0));
    drop(first);
    assert_eq!(admission.clients.size().0, 0);
}

#[test]
fn a_client_is_an_ipv4_address_or_an_ipv6_network() {
    let with_prefix = |prefix| {
        let admission = admission(&Quotas {
            client_ipv6_prefix: prefix,
            ..NO_LIMITS
        });
        move |client: &str| admission.bounds().key(ip(client))
    };
    assert_eq!(with_prefix(64)("::ffff:192.0.2.1"), ip("192.0.2.1"));
    assert_eq!(with_prefix(64)("192.0.2.1"), ip("192.0.2.1"));
    assert_eq!(
        with_prefix(64)("2001:db8:1:2:3:4:5:6"),
        ip("2001:db8:1:2::")
    );
    assert_eq!(with_prefix(128)("2001:db8::6"), ip("2001:db8::6"));
    assert_eq!(with_prefix(0)("2001:db8::6"), ip("::"));
}

#[test]
fn three_thousand_connections_from_one_address_fit_the_defaults() {
    let admission = admission(&NO_LIMITS);
    let client = ip("192.0.2.1");
    let permits: Vec<_> = (0..3_000)
        .map(|_| {
            let permit = admission.admit().unwrap();
            permit.identify(client, Instant::now()).unwrap();
            permit.hello_done();
            permit
        })
        .collect();
    assert_eq!(admission.counts(client), (3_000, 0));
    assert_eq!(admission.clients.size().0, 1);
    drop(permits);
    assert_eq!(admission.clients.size().0, 0);
}

#[test]
fn the_table_gives_its_memory_back_after_a_flood() {
    let limits = Quotas {
        max_connections: Some(50_000),
        max_pending_connections: Some(50_000),
        ..NO_LIMITS
    };
    let admission = admission(&limits);
    let mut permits: Vec<_> = (0..50_000_u32)
        .map(|client| {
            let permit = admission.admit().unwrap();
            permit
                .identify(Ipv4Addr::from_bits(client).into(), Instant::now())
                .unwrap();
            permit
        })
        .collect();
    assert_eq!(admission.clients.size().0, 50_000);
    permits.truncate(100);
    let (clients, room) = admission.clients.size();
    assert_eq!(clients, 100);
    assert!(room < 2_000, "room for {room} clients is kept for 100");
}

#[test]
fn threads_never_pass_a_limit_and_all_counts_return_to_zero() {
    const MAX: usize = 20;
    const PENDING: usize = 10;
    let limits = Quotas {
        max_connections: Some(MAX),
        max_pending_connections: Some(PENDING),
        max_pending_per_client: Some(3),
        max_connections_per_client: Some(5),
        ..NO_LIMITS
    };
    let admission = admission(&limits);
    let (held, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for thread in 0..8_u8 {
            let (admission, held, refused, start) = (&admission, &held, &refused, &start);
            scope.spawn(move || {
                start.wait();
                let mut permits = Vec::new();
                for round in 0..5_000_u32 {
                    let Ok(permit) = admission.admit() else {
                        refused.fetch_add(1, Ordering::SeqCst);
                        held.fetch_sub(permits.len(), Ordering::SeqCst);
                        permits.clear();
                        continue;
                    };
                    assert!(held.fetch_add(1, Ordering::SeqCst) < MAX);
                    assert!(admission.pending() <= PENDING);
                    let client = Ipv4Addr::new(192, 0, 2, thread % 3).into();
                    if permit.identify(client, Instant::now()).is_err() {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                    if round % 2 == 0 {
                        permit.hello_done();
                    }
                    let (connections, pending) = admission.counts(client);
                    assert!(connections <= 5 && pending <= 3);
                    permits.push(permit);
                }
                // Subtracted before the permits end, so that `held` is never too high.
                held.fetch_sub(permits.len(), Ordering::SeqCst);
            });
        }
    });
    assert!(
        refused.into_inner() > 0,
        "no limit was met: the test shows nothing"
    );
    assert_eq!((admission.connections(), admission.pending()), (0, 0));
    assert_eq!(admission.clients.size().0, 0);
}

/// A connection of a client that arrives so many milliseconds after the start, and ends at once.
fn arrive(admission: &Arc<Admission>, client: &str, after: u64) -> Result<(), Limit> {
    let at = admission.clock.after(Duration::from_millis(after));
    let permit = admission.admit().unwrap();
    permit.identify(ip(client), at)
}

const RATES: Quotas = Quotas {
    accept_rate: Some(4),
    accept_rate_per_client: Some(2),
    ..NO_LIMITS
};

#[test]
fn a_client_over_its_rate_is_refused_and_uses_up_nothing_of_the_rate_of_all() {
    let admission = admission(&RATES);
    for _ in 0..2 {
        assert_eq!(arrive(&admission, "192.0.2.1", 0), Ok(()));
    }
    for _ in 0..100 {
        let over = arrive(&admission, "192.0.2.1", 0);
        assert_eq!(over, Err(Limit::AcceptRatePerClient));
    }
    for client in ["192.0.2.2", "192.0.2.3"] {
        assert_eq!(arrive(&admission, client, 0), Ok(()));
    }
    let over = Err(Limit::AcceptRate);
    assert_eq!(arrive(&admission, "192.0.2.4", 0), over);
    // A quarter of a second later there is one for all, and half a second later one for the first client.
    assert_eq!(arrive(&admission, "192.0.2.4", 250), Ok(()));
    assert_eq!(arrive(&admission, "192.0.2.5", 250), over);
    assert_eq!(arrive(&admission, "192.0.2.1", 500), Ok(()));
    let over = Err(Limit::AcceptRatePerClient);
    assert_eq!(arrive(&admission, "192.0.2.1", 500), over);
}

#[test]
fn a_client_that_is_refused_by_the_rate_of_all_keeps_its_own_share() {
    let admission = admission(&Quotas {
        accept_rate: Some(1),
        accept_rate_per_client: Some(1),
        ..NO_LIMITS
    });
    assert_eq!(arrive(&admission, "192.0.2.1", 0), Ok(()));
    let over = Err(Limit::AcceptRate);
    assert_eq!(arrive(&admission, "192.0.2.2", 999), over);
    assert_eq!(arrive(&admission, "192.0.2.2", 1000), Ok(()));
}

#[test]
fn a_reload_changes_the_rates_and_forgets_no_share() {
    let admission = admission(&RATES);
    for _ in 0..2 {
        assert_eq!(arrive(&admission, "192.0.2.1", 0), Ok(()));
    }
    let faster = Quotas {
        accept_rate: Some(40),
        accept_rate_per_client: Some(20),
        ..NO_LIMITS
    };
    admission.adopt(&faster, MACHINE);
    let over = Err(Limit::AcceptRatePerClient);
    assert_eq!(arrive(&admission, "192.0.2.1", 49), over);
    assert_eq!(arrive(&admission, "192.0.2.1", 50), Ok(()));
    admission.adopt(&NO_LIMITS, MACHINE);
    for _ in 0..100 {
        assert_eq!(arrive(&admission, "192.0.2.1", 50), Ok(()));
    }
}

#[test]
fn a_client_without_a_connection_is_kept_until_it_has_its_whole_rate_again() {
    let admission = admission(&RATES);
    assert_eq!(arrive(&admission, "192.0.2.1", 0), Ok(()));
    let clock = admission.clock;
    let tidy = |time| admission.clients.tidy(clock.at(clock.after(time)));
    tidy(Duration::from_millis(499));
    assert_eq!(admission.clients.size().0, 1);
    tidy(Duration::from_millis(500));
    assert_eq!(admission.clients.size().0, 0);
    // One that has come back meanwhile stays.
    assert_eq!(arrive(&admission, "192.0.2.1", 600), Ok(()));
    let permit = admission.admit().unwrap();
    let back = permit.identify(ip("192.0.2.1"), clock.after(Duration::from_millis(700)));
    assert_eq!(back, Ok(()));
    tidy(Duration::from_hours(1));
    assert_eq!(admission.counts(ip("192.0.2.1")), (1, 1));
    drop(permit);
    tidy(Duration::from_hours(1));
    assert_eq!(admission.clients.size().0, 0);
}

#[test]
fn only_the_first_worker_in_a_second_tidies() {
    let admission = admission(&RATES);
    let (clock, kept) = (admission.clock, || admission.clients.size().0);
    let tidy = |millis| admission.tidy(clock.after(Duration::from_millis(millis)));
    assert_eq!(arrive(&admission, "192.0.2.1", 0), Ok(()));
    tidy(300);
    tidy(900);
    assert_eq!(kept(), 1);
    tidy(1000);
    assert_eq!(kept(), 0);
}

#[test]
fn the_table_is_bounded_and_gives_its_memory_back_although_clients_are_kept() {
    let admission = admission(&Quotas {
        accept_rate_per_client: Some(1),
        ..NO_LIMITS
    });
    for client in 0..200_000_u32 {
        let permit = admission.admit().unwrap();
        let at = admission.clock.after(Duration::ZERO);
        let client = Ipv4Addr::from_bits(client).into();
        permit.identify(client, at).unwrap();
    }
    let (clients, _) = admission.clients.size();
    assert_eq!(clients, 65_536, "the rest is forgotten");
    admission.tidy(admission.clock.after(Duration::from_secs(1)));
    let (clients, room) = admission.clients.size();
    assert_eq!(clients, 0);
    assert!(room < 2_000, "room for {room} clients is kept for none");
}

#[test]
fn the_rate_of_all_holds_over_all_threads() {
    const THREADS: usize = 8;
    let admission = admission(&Quotas {
        accept_rate: Some(1000),
        max_connections: Some(50_000),
        max_pending_connections: Some(50_000),
        ..NO_LIMITS
    });
    let (let_in, start) = (AtomicUsize::new(0), Barrier::new(THREADS));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..1000 {
                    if arrive(&admission, "192.0.2.1", 0).is_ok() {
                        let_in.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(let_in.into_inner(), 1000);
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    Identify { permit: usize, client: u8 },
    HelloDone { permit: usize },
    Drop { permit: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Admit),
        3 => (0..8_usize, 0..4_u8).prop_map(|(permit, client)| Step::Identify { permit, client }),
        2 => (0..8_usize).prop_map(|permit| Step::HelloDone { permit }),
        2 => (0..8_usize).prop_map(|permit| Step::Drop { permit }),
    ];
    prop::collection::vec(step, 0..80)
}

/// A permit in the naive model: its client, and whether it is pending.
type Modelled = (Option<u8>, bool);

/// Two addresses for each client: of one /64, or an IPv4 address and its mapped form.
fn address(client: u8, step: usize) -> IpAddr {
    let v4 = Ipv4Addr::new(192, 0, 2, client);
    match (client % 2, step % 2) {
        (0, 0) => v4.into(),
        (0, _) => v4.to_ipv6_mapped().into(),
        (_, host) => {
            let host = u16::try_from(host).unwrap();
            Ipv6Addr::new(0x2001, 0xdb8, 0, client.into(), 0, 0, 0, host).into()
        }
    }
}

proptest! {
    #[test]
    fn counts_and_refusals_equal_those_of_a_list_of_permits(steps in steps(), written: bool) {
        let limits = Quotas {
            max_connections: Some(6),
            max_pending_connections: Some(4),
            max_pending_per_client: written.then_some(2),
            max_connections_per_client: Some(3),
            ..NO_LIMITS
        };
        // The default is a quarter, which applies while more than half are pending.
        let (share, above) = if written { (2, 0) } else { (1, 2) };
        let admission = admission(&limits);
        let mut permits: Vec<(Permit, Modelled)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Admit => {
                    let pending = permits.iter().filter(|(_, model)| model.1).count();
                    let expected = if permits.len() >= 6 {
                        Err(Limit::MaxConnections)
                    } else if pending >= 4 {
                        Err(Limit::MaxPendingConnections)
                    } else {
                        Ok(())
                    };
                    let permit = admission.admit();
                    prop_assert_eq!(permit.as_ref().map(|_| ()).map_err(|limit| *limit), expected);
                    permits.extend(permit.ok().map(|permit| (permit, (None, true))));
                }
                Step::Identify { permit, client } if permit < permits.len() => {
                    permits[permit].1.0 = None;
                    let mut of_client = HashMap::from([(true, 0), (false, 0)]);
                    for (_, model) in permits.iter().filter(|(_, model)| model.0 == Some(client)) {
                        *of_client.get_mut(&model.1).unwrap() += 1;
                    }
                    let pending = permits.iter().filter(|(_, model)| model.1).count();
                    let counts = permits[permit].1.1 && pending > above;
                    let expected = if counts && of_client[&true] >= share {
                        Err(Limit::MaxPendingPerClient)
                    } else if of_client[&true] + of_client[&false] >= 3 {
                        Err(Limit::MaxConnectionsPerClient)
                    } else {
                        permits[permit].1.0 = Some(client);
                        Ok(())
                    };
                    let identified = permits[permit].0.identify(address(client, number), Instant::now());
                    prop_assert_eq!(identified, expected);
                }
                Step::HelloDone { permit } if permit < permits.len() => {
                    permits[permit].0.hello_done();
                    permits[permit].1.1 = false;
                }
                Step::Drop { permit } if permit < permits.len() => drop(permits.swap_remove(permit)),
                Step::Identify { .. } | Step::HelloDone { .. } | Step::Drop { .. } => {}
            }
            prop_assert_eq!(admission.connections(), permits.len());
            prop_assert_eq!(admission.pending(), permits.iter().filter(|(_, m)| m.1).count());
            for client in 0..4_u8 {
                let own: Vec<_> =
                    permits.iter().filter(|(_, model)| model.0 == Some(client)).collect();
                let pending = own.iter().filter(|(_, model)| model.1).count();
                prop_assert_eq!(admission.counts(address(client, 0)), (own.len(), pending));
            }
        }
        drop(permits);
        prop_assert_eq!(admission.clients.size().0, 0);
    }
}
