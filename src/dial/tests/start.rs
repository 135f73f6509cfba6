//! Dials that wait for their turn, and dials from source addresses.

use std::collections::BTreeSet;

use super::*;
use crate::backend::Dialling;
use crate::outcome::Resource;

const HOUR: Duration = Duration::from_hours(1);

fn with(pool: Pool, max_dials: u32, sources: &[&str]) -> Pool {
    let sources = sources.iter().map(|source| source.parse().unwrap());
    pool.dialled(Dialling {
        max_dials,
        source_addresses: sources.collect(),
    })
}

/// Dials with these limits; returns the attempts that failed too.
async fn dial_within(pool: &Pool, limits: [Duration; 2]) -> (Result<(), Unreached>, Vec<Attempt>) {
    let (dialled, attempts) = dialled_within(pool, limits).await;
    (dialled.map(drop), attempts)
}

async fn dialled_within(
    pool: &Pool,
    [connect_timeout, dial_timeout]: [Duration; 2],
) -> (Result<Dialled, Unreached>, Vec<Attempt>) {
    let attempts = RefCell::new(Vec::new());
    let request = Request {
        target: None,
        wish: &|| None,
        resources: &Rc::new(Resources::new(1 << 14, Arc::default())),
        pool,
        client: "192.0.2.1".parse().unwrap(),
        timeouts: &Timeouts {
            connect_timeout,
            dial_timeout,
        },
        missed: &|attempt| attempts.borrow_mut().push(attempt),
    };
    let dialled = backend(&request).await;
    (dialled, attempts.into_inner())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    runtime.unwrap().block_on(future)
}

fn words(attempts: &[Attempt]) -> &str {
    attempts[0].error.as_deref().unwrap()
}

#[test]
fn a_dial_whose_turn_does_not_come_names_the_key() {
    let (_queue, silent) = silent();
    let endpoint = endpoint(silent);
    let pool = with(pool(&[&endpoint]), 1, &[]);
    let short = Duration::from_millis(50);
    let (dialled, attempts) = block_on(async {
        tokio::select! {
            biased;
            first = dial_within(&pool, [HOUR, HOUR]) => panic!("{first:?}"),
            second = dial_within(&pool, [HOUR, short]) => second,
        }
    });
    let Err(Unreached::Crowded(told)) = dialled else {
        panic!("{dialled:?}")
    };
    assert!(told.contains("1 dials of it were in progress (max_dials)"));
    assert!(told.contains(&silent.to_string()), "{told}");
    assert_eq!(words(&attempts), &*told);
    assert_eq!(endpoint.states(Instant::now())[0].1, AddressState::Healthy);
    // Both are gone, and so are their slots.
    assert!(endpoint.addresses()[0].take_slot(1).is_ok());
    assert_eq!(endpoint.connections(), 0);
}

#[test]
fn a_dial_that_fails_answers_for_those_that_wait() {
    let (_queue, silent) = silent();
    let endpoint = endpoint(silent);
    let pool = with(pool(&[&endpoint]), 1, &[]);
    let short = Duration::from_millis(200);
    let (first, second, third) = block_on(async {
        tokio::join!(
            dial_within(&pool, [short, short]),
            // Each of them would take an hour by itself.
            dial_within(&pool, [HOUR, HOUR]),
            dial_within(&pool, [HOUR, HOUR]),
        )
    });
    assert_eq!(first.1[0].error, None);
    for (dialled, attempts) in [second, third] {
        assert_eq!(dialled, Err(Unreached::Unavailable));
        assert!(words(&attempts).starts_with("not dialled: another dial"));
        let reason = AttemptFailure::Dial(DialFailure::Timeout);
        assert_eq!((attempts.len(), attempts[0].reason), (1, reason));
    }
}

#[test]
fn dials_take_turns_until_all_are_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap());
    let pool = with(pool(&[&endpoint]), 1, &[]);
    let dial = || dial_within(&pool, [HOUR, HOUR]);
    let all = block_on(async { tokio::join!(dial(), dial(), dial(), dial()) });
    for (dialled, attempts) in [all.0, all.1, all.2, all.3] {
        assert_eq!((dialled, attempts.len()), (Ok(()), 0));
    }
}

#[test]
fn dials_come_from_the_source_addresses_of_their_family_in_turn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = endpoint(listener.local_addr().unwrap());
    let sources = ["127.0.0.2", "::1", "127.0.0.3"];
    let pool = with(pool(&[&endpoint]), 512, &sources);
    // Reset before it has sent anything, a connection would not be accepted.
    let source = |pool: &Pool| {
        block_on(async {
            let (dialled, attempts) = dialled_within(pool, [HOUR, HOUR]).await;
            assert!(dialled.is_ok() && attempts.is_empty());
            listener.accept().unwrap().1.ip().to_string()
        })
    };
    let seen: BTreeSet<_> = [source(&pool), source(&pool)].into();
    assert_eq!(seen, ["127.0.0.2", "127.0.0.3"].map(str::to_owned).into());
    // Without one of the family the kernel chooses.
    let other = with(super::pool(&[&endpoint]), 512, &["::1"]);
    assert_eq!(source(&other), "127.0.0.1");
}

#[test]
fn a_source_address_that_this_host_does_not_have_is_told_and_the_next_one_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = endpoint(address);
    let foreign = "192.0.2.9";
    let both = with(pool(&[&endpoint]), 512, &[foreign, "127.0.0.2"]);
    let told: Vec<Vec<Attempt>> = (0..2)
        .map(|_| {
            let (dialled, attempts) = dial(&both);
            assert_eq!(dialled, Ok(()));
            attempts
        })
        .collect();
    let told: Vec<Attempt> = told.into_iter().flatten().collect();
    let begin = format!("cannot dial {address} from {foreign}: this host does not have");
    assert_eq!(told.len(), 1, "one of the two began with it");
    assert!(words(&told).starts_with(&begin), "{told:?}");
    assert_eq!(endpoint.states(Instant::now())[0].1, AddressState::Healthy);

    let alone = with(pool(&[&endpoint]), 512, &[foreign]);
    let (dialled, attempts) = dial(&alone);
    let Err(Unreached::LocalExhausted(shortage)) = dialled else {
        panic!("{dialled:?}")
    };
    assert_eq!(shortage.resource, Resource::SourceAddress);
    assert!(shortage.to_string().contains("source_addresses"));
    assert_eq!(attempts.len(), 1);
}
