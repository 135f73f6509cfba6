//! Queries, joined answers, remedies.

use strum::VariantArray;

use super::*;
use crate::outcome::{Limit, Outcome};

fn parse(text: &str) -> Query {
    Query::parse(text).unwrap()
}

#[test]
fn a_query_has_its_parameters_in_any_order_and_defaults_for_the_rest() {
    assert_eq!(parse(""), Query::default());
    assert_eq!((parse("").limit, parse("").sort), (100, Sort::Id));
    let all = "sort=bytes&limit=1000&phase=half_closed&client=10.1.0.0%2F16&server_name=Fleet.Example.com\
               &backend=fleet&route=a.b";
    let query = parse(all);
    assert_eq!(query.client, Some("10.1.0.0/16".parse().unwrap()));
    assert_eq!(query.server_name.as_deref(), Some("fleet.example.com"));
    assert_eq!(query.backend.as_deref(), Some("fleet"));
    assert_eq!(query.route.as_deref(), Some("a.b"));
    assert_eq!(query.phase, Some(Phase::HalfClosed));
    assert_eq!((query.sort, query.limit), (Sort::Bytes, 1000));
    assert_eq!(parse("after=00ff").after, Some(255));
    for (client, network) in [
        ("192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::1", "2001:db8::1/128"),
    ] {
        let query = parse(&format!("client={client}"));
        assert_eq!(query.client, Some(network.parse().unwrap()));
    }
}

#[test]
fn a_query_that_is_wrong_says_what_to_write() {
    for (query, words) in [
        ("sort=size", "write one of id, age, bytes, idle"),
        (
            "phase=open",
            "write one of front, hello, dial, relay, half_closed",
        ),
        ("limit=0", "write a number from 1 to 1000"),
        ("limit=1001", "write a number from 1 to 1000"),
        ("client=fleet", "write an address or a network"),
        ("client=", "write an address or a network"),
        ("after=x", "write the value of next"),
        ("after=1&sort=age", "after goes with sort=id only"),
        ("limit=1&limit=2", "limit is given twice"),
        ("name=x", "name is not a parameter: write client"),
        ("%0aname=x", "\\nname is not a parameter"),
    ] {
        let error = Query::parse(query).unwrap_err().to_string();
        assert!(error.contains(words), "{query}: {error}");
    }
    let long = format!("{}=1", "\u{1f600}".repeat(5000));
    let error = Query::parse(&long).unwrap_err().to_string();
    assert!(error.len() < 600 && error.is_ascii(), "{error}");
}

fn row(id: u64) -> (u64, Connection) {
    let row = Connection {
        id: format!("{id:016x}"),
        client: "192.0.2.1:443".parse().unwrap(),
        proxied_by: None,
        listener: "agents".to_owned(),
        target: None,
        server_name: None,
        route: None,
        backend: None,
        endpoint: None,
        address: None,
        backend_local: None,
        phase: Phase::Hello,
        leaving: false,
        age_ms: 0,
        idle_s: None,
        bytes_client_to_backend: 0,
        bytes_backend_to_client: 0,
        failed_attempts: 0,
        config: 1,
    };
    (id, row)
}

/// A worker with these ids, as a query with this limit and cursor sees it. It loses those in `gone` meanwhile.
fn seen(ids: &[u64], after: u64, limit: usize, gone: &[u64]) -> Seen {
    let mut first: Vec<u64> = ids.iter().copied().filter(|id| *id > after).collect();
    let up_to = (first.len() > limit).then(|| first[limit - 1]);
    first.truncate(limit);
    first.retain(|id| !gone.contains(id));
    Seen {
        total: ids.len() as u64,
        matching: ids.len() as u64,
        rows: first.into_iter().map(row).collect(),
        up_to,
    }
}

#[test]
fn pages_show_each_connection_once_also_while_others_end() {
    let workers = [vec![1, 2, 3, 10, 11, 40], vec![4, 5, 6, 7, 8, 9, 30]];
    for limit in 1..=14 {
        for gone in [&[][..], &[2, 3, 10], &[4, 5, 6, 7]] {
            let (mut after, mut shown) = (0, Vec::new());
            loop {
                let parts = workers.iter().map(|ids| seen(ids, after, limit, gone));
                let page = Connections::join(parts.collect(), 0, limit, true);
                assert!(page.connections.len() <= limit);
                assert_eq!((page.total, page.matching), (13, 13));
                shown.extend(page.connections.into_iter().map(|one| one.id));
                let Some(next) = page.next else { break };
                let next = u64::from_str_radix(&next, 16).unwrap();
                assert!(next > after);
                after = next;
            }
            let mut ids: Vec<u64> = workers.concat();
            ids.retain(|id| !gone.contains(id));
            ids.sort_unstable();
            let ids = ids.iter().map(|id| format!("{id:016x}"));
            assert_eq!(shown, ids.collect::<Vec<_>>(), "{limit} {gone:?}");
        }
    }
}

#[test]
fn each_outcome_that_is_a_failure_has_a_remedy_and_each_limit_its_own() {
    let fine = [
        Outcome::Closed,
        Outcome::Probe,
        Outcome::ClientReset,
        Outcome::Drained,
    ];
    let mut seen = std::collections::HashSet::new();
    for &outcome in Outcome::VARIANTS {
        match remedy(outcome, None) {
            None => assert!(fine.contains(&outcome), "{outcome:?}"),
            Some(remedy) => {
                assert!(!fine.contains(&outcome), "{outcome:?}");
                assert!(remedy.ends_with('.'), "{outcome:?}: {remedy}");
                assert!(seen.insert(remedy), "{outcome:?}: {remedy}");
            }
        }
    }
    for &limit in Limit::VARIANTS {
        let remedy = remedy(Outcome::Overloaded, Some(limit)).unwrap();
        assert!(remedy.ends_with('.') && seen.insert(remedy), "{remedy}");
    }
}

/// Else an operator would look for a key that does not exist.
#[test]
fn a_remedy_names_only_keys_that_exist() {
    let keys = include_str!("../../docs/routes.md");
    let outcomes = Outcome::VARIANTS
        .iter()
        .map(|outcome| remedy(*outcome, None));
    let limits = Limit::VARIANTS.iter();
    let limits = limits.map(|limit| remedy(Outcome::Overloaded, Some(*limit)));
    for text in outcomes.chain(limits).flatten() {
        let is_part = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
        for word in text.split(is_part).map(|word| word.trim_matches('.')) {
            if word.contains('_') {
                assert!(keys.contains(word), "{word}: {text}");
            }
        }
    }
}
