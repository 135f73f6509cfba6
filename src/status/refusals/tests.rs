//! The table of refusals: its bounds, and what a client can do to it.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

const NO_ROUTE: Cause = Cause {
    outcome: Outcome::NoRoute,
    limit: None,
    dial: None,
};

/// Adds an end at this second.
fn add(table: &mut Refusals, client: &str, name: Option<&[u8]>, cause: Cause, second: u64) {
    table.add(&End {
        client: client.parse().unwrap(),
        name,
        cause,
        listener: &"agents".into(),
        backend: None,
        detail: None,
        at: UNIX_EPOCH + Duration::from_secs(second),
    });
}

fn shown(table: &Refusals) -> (Vec<Refused>, u64) {
    Refusals::join(vec![table.clone()])
}

#[test]
fn clients_of_one_network_with_one_name_and_cause_share_a_row() {
    let mut table = Refusals::default();
    for (client, second) in [("192.0.2.1", 1), ("192.0.2.200", 2), ("192.0.3.1", 3)] {
        add(&mut table, client, Some(b"a.example"), NO_ROUTE, second);
    }
    add(&mut table, "2001:db8::1", None, NO_ROUTE, 4);
    add(&mut table, "2001:db8::ffff:0:0:1", None, NO_ROUTE, 5);
    let (rows, forgotten) = shown(&table);
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (&*row.clients, &*row.client, row.name.as_deref(), row.count))
        .collect();
    assert_eq!(
        rows,
        [
            ("2001:db8::/64", "2001:db8::ffff:0:0:1", None, 2),
            ("192.0.3.0/24", "192.0.3.1", Some("a.example"), 1),
            ("192.0.2.0/24", "192.0.2.200", Some("a.example"), 2),
        ]
    );
    assert_eq!(forgotten, 0);
}

#[test]
fn what_needs_no_remedy_is_not_counted() {
    let mut table = Refusals::default();
    for outcome in [
        Outcome::Closed,
        Outcome::Probe,
        Outcome::Drained,
        Outcome::ClientReset,
    ] {
        let cause = Cause {
            outcome,
            ..NO_ROUTE
        };
        add(&mut table, "192.0.2.1", None, cause, 1);
    }
    assert_eq!(shown(&table), (Vec::new(), 0));
}

#[test]
fn each_limit_and_each_reason_has_its_row() {
    let mut table = Refusals::default();
    let overloaded = |limit| Cause {
        outcome: Outcome::Overloaded,
        limit: Some(limit),
        dial: None,
    };
    let failed = |reason| Cause {
        outcome: Outcome::BackendUnavailable,
        limit: None,
        dial: Some(reason),
    };
    let causes = [
        overloaded(Limit::MaxConnections),
        overloaded(Limit::MaxPendingPerClient),
        failed(DialFailure::Refused),
        failed(DialFailure::Timeout),
    ];
    for (cause, second) in causes.into_iter().zip(1..) {
        add(&mut table, "192.0.2.1", None, cause, second);
    }
    let (rows, _) = shown(&table);
    let reasons: Vec<_> = rows
        .iter()
        .map(|row| row.reason.as_deref().unwrap())
        .collect();
    assert_eq!(
        reasons,
        [
            "timeout",
            "refused",
            "max_pending_per_client",
            "max_connections"
        ]
    );
}

#[test]
fn invented_names_of_one_network_take_few_rows_and_push_nobody_out() {
    let mut table = Refusals::default();
    add(&mut table, "192.0.2.1", Some(b"a.example"), NO_ROUTE, 0);
    for number in 0..10_000_u32 {
        add(
            &mut table,
            "198.51.100.1",
            Some(&number.to_be_bytes()),
            NO_ROUTE,
            1,
        );
    }
    let (rows, forgotten) = shown(&table);
    assert_eq!((rows.len(), forgotten), (NAMES + 2, 0));
    let others: Vec<_> = rows.iter().filter(|row| row.many_names).collect();
    assert_eq!(
        (others.len(), others[0].count, &others[0].name),
        (1, 10_000 - 16, &None)
    );
    assert!(
        rows.iter()
            .any(|row| row.name.as_deref() == Some("a.example"))
    );
}

#[test]
fn the_row_seen_the_longest_time_ago_makes_room() {
    let mut table = Refusals::default();
    let client = |number: u64| format!("10.0.{number}.1");
    for number in 0..256 {
        add(&mut table, &client(number), None, NO_ROUTE, number);
    }
    // The first one is seen again, so the second one is the oldest.
    add(&mut table, &client(0), None, NO_ROUTE, 300);
    add(&mut table, "192.0.2.1", None, NO_ROUTE, 301);
    let (rows, forgotten) = shown(&table);
    assert_eq!((rows.len(), forgotten), (ROWS, 1));
    let has = |network: &str| rows.iter().any(|row| row.clients == network);
    assert!(has("10.0.0.0/24") && !has("10.0.1.0/24") && has("192.0.2.0/24"));
}

#[test]
fn names_and_details_are_bounded_and_a_repeated_end_allocates_nothing_more() {
    let mut table = Refusals::default();
    let (name, detail) = (vec![b'x'; 60_000], "\u{fc}".repeat(1000));
    let listener = "agents".into();
    for (name, client) in [(&name[..], "192.0.2.1"), (&name[..59_999], "192.0.2.1")] {
        table.add(&End {
            client: client.parse().unwrap(),
            name: Some(name),
            cause: NO_ROUTE,
            listener: &listener,
            backend: None,
            detail: Some(&detail),
            at: UNIX_EPOCH,
        });
    }
    let (rows, _) = shown(&table);
    assert_eq!((rows.len(), rows[0].count), (1, 2));
    assert_eq!(rows[0].name.as_ref().unwrap().len(), LONGEST_NAME);
    assert_eq!(rows[0].detail.as_ref().unwrap().len(), LONGEST_DETAIL);
}

#[test]
fn the_tables_of_workers_are_one() {
    let mut tables = [Refusals::default(), Refusals::default()];
    for (table, second) in tables.iter_mut().zip([7, 5]) {
        add(table, "192.0.2.1", Some(b"a.example"), NO_ROUTE, second);
        for number in 0..200 {
            let client = format!("10.{second}.{number}.1");
            add(table, &client, None, NO_ROUTE, 100);
        }
    }
    let (rows, forgotten) = Refusals::join(tables.into());
    // Of 401 rows those seen last are shown.
    assert_eq!((rows.len(), forgotten), (ROWS, 146));
    assert!(
        rows.iter()
            .all(|row| row.last_seen.starts_with("1970-01-01T00:01:40"))
    );

    let mut tables = [Refusals::default(), Refusals::default()];
    for (table, second) in tables.iter_mut().zip([7, 5]) {
        add(table, "192.0.2.1", Some(b"a.example"), NO_ROUTE, second);
    }
    let (rows, _) = Refusals::join(tables.into());
    let Refused {
        count,
        first_seen,
        last_seen,
        ..
    } = &rows[0];
    assert_eq!((rows.len(), *count), (1, 2));
    assert!(first_seen.contains("00:00:05") && last_seen.contains("00:00:07"));
}
