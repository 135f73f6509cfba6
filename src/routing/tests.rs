use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use proptest::prelude::*;

use super::{Miss, Pattern, Query, Route, Table, Unmet};
use crate::tls::{Alpn, ServerName};

/// A route named after its backend that takes `patterns` without further conditions.
fn route(name: &str, patterns: &[&str]) -> Route {
    Route {
        name: Arc::from(name),
        server_names: patterns
            .iter()
            .map(|text| Pattern::parse(text).unwrap())
            .collect(),
        no_server_name: patterns.is_empty(),
        listeners: Vec::new(),
        ports: Vec::new(),
        alpn: Vec::new(),
        clients: Vec::new(),
        backend: 0,
    }
}

fn on(mut route: Route, listeners: &[&str]) -> Route {
    route.listeners = listeners.iter().map(|name| Arc::from(*name)).collect();
    route
}

fn at(mut route: Route, ports: &[u16]) -> Route {
    route.ports = ports.to_vec();
    route
}

fn offering(mut route: Route, alpn: &[&str]) -> Route {
    route.alpn = alpn.iter().map(|name| name.as_bytes().into()).collect();
    route
}

fn from(mut route: Route, clients: &[&str]) -> Route {
    route.clients = clients.iter().map(|text| text.parse().unwrap()).collect();
    route
}

/// A connection, owned.
#[derive(Clone, Debug)]
struct Arrival {
    listener: &'static str,
    port: u16,
    name: Option<ServerName>,
    alpn: Vec<u8>,
    client: IpAddr,
}

fn arrival(name: &str) -> Arrival {
    Arrival {
        listener: "agents",
        port: 443,
        name: (!name.is_empty()).then(|| ServerName::parse(name.as_bytes()).unwrap()),
        alpn: b"\x02h2".to_vec(),
        client: "10.1.2.3".parse().unwrap(),
    }
}

impl Arrival {
    fn query(&self) -> Query<'_> {
        Query {
            listener: self.listener,
            port: self.port,
            server_name: self.name.as_ref(),
            alpn: Alpn::new(&self.alpn),
            client: self.client,
        }
    }
}

fn found(routes: &[Route], arrival: &Arrival) -> Result<Arc<str>, Miss> {
    let table = Table::build(routes.to_vec()).unwrap();
    let index = table.find(&arrival.query())?;
    Ok(Arc::clone(&table.routes()[index].name))
}

#[track_caller]
fn assert_taken(routes: &[Route], arrival: &Arrival, name: &str) {
    assert_eq!(found(routes, arrival).as_deref(), Ok(name));
}

#[test]
fn exact_beats_one_label_beats_any_depth_beats_any() {
    let routes = [
        route("any", &["**"]),
        route("example", &["**.example.com"]),
        route("deep", &["**.b.example.com"]),
        route("one", &["*.b.example.com"]),
        route("exact", &["a.b.example.com"]),
    ];
    assert_taken(&routes, &arrival("a.b.example.com"), "exact");
    assert_taken(&routes, &arrival("c.b.example.com"), "one");
    assert_taken(&routes, &arrival("d.c.b.example.com"), "deep");
    assert_taken(&routes, &arrival("b.example.com"), "example");
    assert_taken(&routes, &arrival("example.com"), "any");
    assert_taken(&routes, &arrival("localhost"), "any");
}

#[test]
fn a_wildcard_takes_neither_the_apex_nor_a_name_that_ends_alike() {
    let routes = [route("one", &["*.example.com"])];
    for name in ["example.com", "a.b.example.com", "badexample.com"] {
        assert_eq!(found(&routes, &arrival(name)), Err(Miss::NoRoute), "{name}");
    }
    let routes = [route("deep", &["**.example.com"])];
    for name in ["example.com", "badexample.com"] {
        assert_eq!(found(&routes, &arrival(name)), Err(Miss::NoRoute), "{name}");
    }
}

#[test]
fn names_of_patterns_are_compared_in_lower_case() {
    assert_taken(
        &[route("upper", &["A.EXAMPLE.com"])],
        &arrival("a.example.COM"),
        "upper",
    );
}

#[test]
fn a_connection_without_a_name_takes_only_a_route_for_it() {
    let named = route("named", &["**"]);
    let nameless = route("nameless", &[]);
    let none = arrival("");
    assert_eq!(
        found(std::slice::from_ref(&named), &none),
        Err(Miss::NoServerName)
    );
    assert_taken(&[named, nameless.clone()], &none, "nameless");
    assert_eq!(
        found(&[on(nameless.clone(), &["other"])], &none),
        Err(Miss::NoServerName)
    );
    assert_eq!(
        found(&[from(nameless, &["192.0.2.0/24"])], &none),
        Err(Miss::ClientDenied)
    );
    assert_eq!(
        found(&[route("nameless", &[])], &arrival("a.example")),
        Err(Miss::NoRoute)
    );
}

#[test]
fn more_conditions_win_among_equal_patterns() {
    let routes = [
        route("plain", &["a.example"]),
        on(route("listener", &["a.example"]), &["agents"]),
        offering(on(route("both", &["a.example"]), &["agents"]), &["h2"]),
    ];
    let mut arrival = arrival("a.example");
    assert_taken(&routes, &arrival, "both");
    arrival.alpn.clear();
    assert_taken(&routes, &arrival, "listener");
    arrival.listener = "other";
    assert_taken(&routes, &arrival, "plain");
}

#[test]
fn the_longest_client_network_wins() {
    let routes = [
        from(route("ten", &["a.example"]), &["10.0.0.0/8", "fd00::/8"]),
        from(route("site", &["a.example"]), &["10.1.0.0/16"]),
    ];
    let mut arrival = arrival("a.example");
    assert_taken(&routes, &arrival, "site");
    arrival.client = "10.9.0.1".parse().unwrap();
    assert_taken(&routes, &arrival, "ten");
    arrival.client = "fd00::1".parse().unwrap();
    assert_taken(&routes, &arrival, "ten");
    arrival.client = "192.0.2.1".parse().unwrap();
    assert_eq!(found(&routes, &arrival), Err(Miss::ClientDenied));
}

#[test]
fn routes_of_one_name_are_told_apart_by_their_ports() {
    let routes = [
        at(route("fleet", &["a.example"]), &[443, 8220]),
        at(route("es", &["a.example"]), &[9200]),
        route("rest", &["**"]),
    ];
    let mut arrival = arrival("a.example");
    for (port, name) in [(443, "fleet"), (8220, "fleet"), (9200, "es"), (1, "rest")] {
        arrival.port = port;
        assert_taken(&routes, &arrival, name);
    }
    assert_eq!(found(&routes[..2], &arrival), Err(Miss::NoRoute));
}

#[test]
fn a_port_is_a_condition_like_the_others() {
    let routes = [
        route("plain", &["a.example"]),
        at(route("port", &["a.example"]), &[443]),
        at(on(route("both", &["a.example"]), &["agents"]), &[443]),
    ];
    let mut arrival = arrival("a.example");
    assert_taken(&routes, &arrival, "both");
    arrival.listener = "other";
    assert_taken(&routes, &arrival, "port");
    arrival.port = 9200;
    assert_taken(&routes, &arrival, "plain");
}

#[test]
fn the_ports_of_a_name_are_those_of_the_routes_that_only_the_port_keeps_away() {
    let table = Table::build(vec![
        at(route("fleet", &["a.example"]), &[8220, 443]),
        at(route("wild", &["*.example"]), &[5044, 443]),
        at(on(route("elsewhere", &["a.example"]), &["other"]), &[1]),
        at(route("unrelated", &["b.example"]), &[2]),
        at(route("nameless", &[]), &[3]),
    ]);
    let table = table.unwrap();
    let mut arrival = arrival("a.example");
    arrival.port = 9200;
    assert_eq!(table.ports(&arrival.query()), [443, 5044, 8220]);
    arrival.name = None;
    assert_eq!(table.ports(&arrival.query()), [3]);
    // Here the protocol is missing, and the port is none of the reasons.
    let table = Table::build(vec![
        offering(at(route("h2", &["a.example"]), &[443]), &["acme"]),
        at(route("fleet", &["a.example"]), &[8220]),
    ]);
    let arrival = self::arrival("a.example");
    assert!(table.unwrap().ports(&arrival.query()).is_empty());
}

#[test]
fn an_exact_route_whose_conditions_fail_leaves_the_name_to_a_wildcard() {
    let routes = [
        on(route("exact", &["a.example"]), &["other"]),
        route("wild", &["*.example"]),
    ];
    assert_taken(&routes, &arrival("a.example"), "wild");
}

#[test]
fn only_the_network_alone_makes_a_client_denied() {
    let routes = |listener| {
        [from(
            on(route("r", &["a.example"]), &[listener]),
            &["192.0.2.0/24"],
        )]
    };
    let arrival = arrival("a.example");
    assert_eq!(found(&routes("agents"), &arrival), Err(Miss::ClientDenied));
    assert_eq!(found(&routes("other"), &arrival), Err(Miss::NoRoute));
}

/// The target of a proxy's client is judged before its hello, which may offer any protocol.
#[test]
fn a_target_is_refused_for_its_client_whichever_protocols_the_routes_want() {
    let denied = from(route("r", &["a.example"]), &["192.0.2.0/24"]);
    let routes = [offering(denied, &["x"])];
    let arrival = arrival("a.example");
    let table = Table::build(routes.to_vec()).unwrap();
    let query = arrival.query();
    assert_eq!(table.takers(&query).next(), None);
    assert_eq!(table.miss(&query), Miss::ClientDenied);
    assert_eq!(found(&routes, &arrival), Err(Miss::NoRoute));
    let other = Table::build(vec![on(routes[0].clone(), &["other"])]).unwrap();
    assert_eq!(other.miss(&query), Miss::NoRoute);
}

#[test]
fn routes_that_no_condition_keeps_apart_are_ties() {
    let tie = |one: Route, other: Route| Table::build(vec![one, other]).unwrap_err().len();
    let base = |name| route(name, &["a.example", "*.example", "b.example"]);
    assert_eq!(tie(base("a"), base("b")), 3);
    let r = |name| route(name, &["a.example"]);
    // A client offers several protocols.
    assert_eq!(tie(offering(r("a"), &["h2"]), offering(r("b"), &["x"])), 1);
    // Each route has one condition, of a different kind.
    assert_eq!(
        tie(on(r("a"), &["agents"]), from(r("b"), &["10.0.0.0/8"])),
        1
    );
    assert_eq!(
        tie(on(r("a"), &["x", "y"]), on(r("b"), &["y", "z"])),
        1,
        "one listener in common"
    );
    assert_eq!(
        tie(at(r("a"), &[443, 8220]), at(r("b"), &[8220])),
        1,
        "one port in common"
    );
    assert_eq!(tie(route("a", &[]), route("b", &[])), 1);
}

#[test]
fn a_tie_names_both_routes_and_the_pattern() {
    let pair = [route("b", &["**.x.example"]), route("a", &["**.x.example"])];
    let ties = Table::build(pair.to_vec()).unwrap_err();
    assert_eq!(ties[0].routes, [Arc::from("a"), Arc::from("b")]);
    assert_eq!(
        ties[0].pattern.as_ref().unwrap().to_string(),
        "**.x.example"
    );
}

#[test]
fn routes_that_a_condition_keeps_apart_do_not_tie() {
    let r = |name| route(name, &["a.example"]);
    for pair in [
        [on(r("a"), &["x"]), on(r("b"), &["y"])],
        [r("a"), on(r("b"), &["y"])],
        [
            from(r("a"), &["10.0.0.0/8"]),
            from(r("b"), &["10.1.0.0/16", "fd00::/8"]),
        ],
        [r("a"), route("b", &["*.example"])],
        [at(r("a"), &[443, 8220]), at(r("b"), &[9200])],
    ] {
        assert!(Table::build(pair.to_vec()).is_ok(), "{pair:?}");
    }
}

#[test]
fn a_route_that_repeats_a_pattern_does_not_tie_with_itself() {
    assert!(Table::build(vec![route("a", &["a.example", "A.example"])]).is_ok());
}

#[test]
fn consider_tells_why_each_candidate_was_passed_over() {
    let routes = vec![
        route("any", &["**"]),
        on(route("elsewhere", &["a.example"]), &["other"]),
        from(route("far", &["*.example"]), &["192.0.2.0/24"]),
        offering(route("alpn", &["**.example"]), &["acme"]),
        at(route("port", &["**"]), &[8220]),
        route("unrelated", &["b.example"]),
    ];
    let table = Table::build(routes).unwrap();
    let arrival = arrival("a.example");
    let seen = table.consider(&arrival.query());
    let reasons: Vec<_> = (seen.candidates.iter())
        .map(|c| (&*table.routes()[c.route].name, c.unmet))
        .collect();
    assert_eq!(
        reasons,
        [
            ("elsewhere", Some(Unmet::Listener)),
            ("far", Some(Unmet::Client)),
            ("alpn", Some(Unmet::Alpn)),
            ("port", Some(Unmet::Port)),
            ("any", None),
        ]
    );
    assert_eq!(seen.taken, Ok(0));
}

#[test]
fn wildcards_stand_only_for_whole_first_labels() {
    for text in [
        "a*.example",
        "a.*.example",
        "***.example",
        "*",
        "*.",
        "**.",
        "*.*.example",
        "",
    ] {
        assert!(Pattern::parse(text).is_err(), "{text}");
    }
}

/// How well a pattern fits a name: kind of pattern, then length.
fn fit(pattern: &str, name: &str) -> Option<(u8, usize)> {
    let label = |suffix: &str| name.strip_suffix(suffix).filter(|label| !label.is_empty());
    if pattern == "**" {
        Some((1, 0))
    } else if let Some(suffix) = pattern.strip_prefix("**") {
        label(suffix).map(|_| (2, suffix.len()))
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        (label(suffix).filter(|label| !label.contains('.'))).map(|_| (3, suffix.len()))
    } else {
        (pattern == name).then_some((4, 0))
    }
}

/// The documented rule without hash tables: try every route and pattern, take the greatest key.
fn reference(routes: &[Route], arrival: &Arrival) -> Result<Arc<str>, Miss> {
    let offered: Vec<&[u8]> = Alpn::new(&arrival.alpn).iter().collect();
    let mut best = None;
    let mut miss = Miss::NoServerName;
    if arrival.name.is_some() {
        miss = Miss::NoRoute;
    }
    for route in routes {
        let fits = match &arrival.name {
            Some(name) => (route.server_names.iter())
                .filter_map(|pattern| fit(&pattern.to_string(), name.as_str()))
                .max(),
            None => route.no_server_name.then_some((0, 0)),
        };
        let listener = route.listeners.iter().any(|l| **l == *arrival.listener);
        let alpn = (route.alpn.iter()).any(|protocol| offered.contains(&&**protocol));
        let networks = (route.clients.iter()).filter(|net| net.contains(&arrival.client));
        let prefix = networks.map(|net| 1 + net.prefix_len()).max();
        if fits.is_none()
            || !(listener || route.listeners.is_empty())
            || !(route.ports.is_empty() || route.ports.contains(&arrival.port))
            || !(alpn || route.alpn.is_empty())
        {
            continue;
        }
        if prefix.is_none() && !route.clients.is_empty() {
            miss = Miss::ClientDenied;
            continue;
        }
        let conditions = [
            route.listeners.len(),
            route.ports.len(),
            route.alpn.len(),
            route.clients.len(),
        ];
        let conditions = conditions.iter().filter(|length| **length > 0).count();
        best = best.max(Some((fits, conditions, prefix, Arc::clone(&route.name))));
    }
    best.map(|(.., name)| name).ok_or(miss)
}

fn any_name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "com"]), 1..5)
        .prop_map(|labels| labels.join("."))
}

fn any_pattern() -> impl Strategy<Value = Pattern> {
    let text = (prop::sample::select(vec!["", "*.", "**."]), any_name());
    prop_oneof![
        9 => text.prop_map(|(wildcard, name)| format!("{wildcard}{name}")),
        1 => Just("**".to_owned()),
    ]
    .prop_map(|text| Pattern::parse(&text).unwrap())
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Vec<T>> {
    let most = values.len();
    prop_oneof![
        2 => Just(Vec::new()),
        1 => prop::sample::subsequence(values, 1..most),
    ]
}

fn any_route() -> impl Strategy<Value = Route> {
    let networks = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.0/24",
        "0.0.0.0/0",
        "fd00::/8",
    ];
    (
        prop::collection::vec(any_pattern(), 1..3),
        any::<bool>(),
        some_of(vec![Arc::from("agents"), Arc::from("other")]),
        some_of(vec![443, 8220, 9200]),
        some_of(vec![Box::from(&b"h2"[..]), Box::from(&b"http/1.1"[..])]),
        some_of(networks.iter().map(|text| text.parse().unwrap()).collect()),
    )
        .prop_map(
            |(server_names, no_server_name, listeners, ports, alpn, clients)| Route {
                name: Arc::from(""),
                server_names,
                no_server_name,
                listeners,
                ports,
                alpn,
                clients,
                backend: 0,
            },
        )
}

fn any_arrival() -> impl Strategy<Value = Arrival> {
    let clients = [
        "10.1.2.3",
        "10.1.9.9",
        "10.9.9.9",
        "192.0.2.1",
        "fd00::1",
        "::1",
    ];
    (
        prop::sample::select(vec!["agents", "other", "third"]),
        prop::sample::select(vec![443, 8220, 1]),
        prop::option::weighted(0.9, any_name()),
        prop::sample::select(vec![&b""[..], b"\x02h2", b"\x02h2\x08http/1.1"]),
        prop::sample::select(clients.to_vec()),
    )
        .prop_map(|(listener, port, name, alpn, client)| Arrival {
            listener,
            port,
            name: name.map(|name| ServerName::parse(name.as_bytes()).unwrap()),
            alpn: alpn.to_vec(),
            client: client.parse().unwrap(),
        })
}

/// Whether some value fits both conditions. An empty condition takes any value.
fn overlap<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    one.is_empty() || other.is_empty() || one.iter().any(|value| other.contains(value))
}

/// A route with names and conditions that many others share.
fn crowded() -> impl Strategy<Value = Route> {
    let some = |most| prop::collection::vec(0..40_u8, 0..most);
    let texts = |numbers: &[u8], text: fn(&u8) -> String| -> Vec<String> {
        numbers.iter().map(text).collect()
    };
    let ports = prop::collection::vec(0..9_u16, 0..3);
    let crowd = (
        some(4),
        some(4),
        ports,
        some(4),
        any::<bool>(),
        any::<bool>(),
    );
    crowd.prop_map(
        move |(names, listeners, ports, clients, alpn, no_server_name)| {
            let names = texts(&names, |n| format!("{}.example", n % 20));
            let listeners = texts(&listeners, |n| format!("l{n}"));
            let clients = texts(&clients, |n| match n % 3 {
                0 => format!("10.0.0.{n}/32"),
                1 => format!("10.0.0.{}/29", n & !7),
                _ => "10.0.0.0/24".to_owned(),
            });
            let [names, listeners, clients] = [&names, &listeners, &clients]
                .map(|texts| texts.iter().map(String::as_str).collect::<Vec<&str>>());
            let mut route = from(at(on(route("", &names), &listeners), &ports), &clients);
            route.no_server_name = no_server_name;
            offering(route, if alpn { &["h2"] } else { &[] })
        },
    )
}

/// The ties that [`Table::build`] should report, found without an index: the pattern, the first route, the route.
fn naive_ties(routes: &[Route]) -> Vec<(Option<Pattern>, [Arc<str>; 2])> {
    let ties = |one: &Route, other: &Route| {
        one.conditions() == other.conditions()
            && overlap(&one.listeners, &other.listeners)
            && overlap(&one.ports, &other.ports)
            && overlap(&one.clients, &other.clients)
    };
    let patterns = |route: &Route| -> BTreeSet<Option<Pattern>> {
        let names = route.server_names.iter().cloned().map(Some);
        names.chain(route.no_server_name.then_some(None)).collect()
    };
    let all: Vec<_> = routes.iter().map(|one| (one, patterns(one))).collect();
    let mut found = Vec::new();
    for (index, (route, patterns)) in all.iter().enumerate() {
        for pattern in patterns {
            let mut earlier = all.iter().take(index);
            let first = earlier.find(|(one, theirs)| theirs.contains(pattern) && ties(one, route));
            let names = first.map(|(first, _)| [*first, *route].map(|one| Arc::clone(&one.name)));
            found.extend(names.map(|names| (pattern.clone(), names)));
        }
    }
    found.sort();
    found
}

/// Names the routes and leaves out those that tie with an earlier one.
fn without_ties(routes: Vec<Route>) -> Vec<Route> {
    let mut kept: Vec<Route> = Vec::new();
    for (index, mut route) in routes.into_iter().enumerate() {
        route.name = Arc::from(format!("r{index}"));
        kept.push(route);
        if Table::build(kept.clone()).is_err() {
            kept.pop();
        }
    }
    kept
}

/// Names the routes and leaves out those that tie with an earlier one, of many.
fn many_without_ties(mut routes: Vec<Route>) -> Vec<Route> {
    for (index, route) in routes.iter_mut().enumerate() {
        route.name = Arc::from(format!("r{index:03}"));
    }
    let ties = Table::build(routes.clone()).err().unwrap_or_default();
    let later: BTreeSet<_> = ties
        .into_iter()
        .map(|tie| Arc::clone(&tie.routes[1]))
        .collect();
    routes.retain(|route| !later.contains(&route.name));
    routes
}

/// A connection that routes of [`crowded`] may take.
fn crowded_arrival() -> impl Strategy<Value = Arrival> {
    let alpn = prop::sample::select(vec![&b""[..], b"\x02h2", b"\x01x\x02h2"]);
    let listener = prop::sample::select(vec!["l0", "l1", "l2", "l39", "other"]);
    let name = prop::option::weighted(0.9, 0..21_u8);
    let arrival = (listener, 0..10_u16, name, alpn, 0..42_u8);
    arrival.prop_map(|(listener, port, name, alpn, client)| Arrival {
        listener,
        port,
        name: name.map(|n| ServerName::parse(format!("{n}.example").as_bytes()).unwrap()),
        alpn: alpn.to_vec(),
        client: [10, 0, 0, client].into(),
    })
}

#[test]
fn among_thousands_of_routes_of_one_pattern_only_those_of_the_clients_networks_are_looked_at() {
    let site = |n: u16| {
        let [high, low] = n.to_be_bytes();
        from(route("site", &["**"]), &[&format!("10.0.{high}.{low}/32")])
    };
    let mut routes: Vec<Route> = (0..14_000).map(site).collect();
    routes.push(from(route("region", &["**"]), &["10.0.0.0/8"]));
    routes.push(route("rest", &["**"]));
    let table = Table::build(routes).unwrap();
    let looked_at = |client: &str| {
        let mut arrival = arrival("a.example");
        arrival.client = client.parse().unwrap();
        let query = arrival.query();
        let began = Instant::now();
        let taken = table.find(&query);
        let found = began.elapsed();
        assert_eq!(table.consider(&query).candidates.len(), 14_002);
        let both = began.elapsed();
        eprintln!("{client}: {found:?}, and with all of them one by one {both:?}");
        (taken, table.looked_at(&query))
    };
    // Its own network, the one around it, and the route that takes any.
    assert_eq!(looked_at("10.0.1.2"), (Ok(258), 3));
    assert_eq!(looked_at("10.9.9.9"), (Ok(14_000), 2));
    assert_eq!(looked_at("192.0.2.1"), (Ok(14_001), 1));
}

proptest! {
    #[test]
    fn a_table_of_many_routes_agrees_with_the_naive_reference(
        routes in prop::collection::vec(crowded(), 0..200).prop_map(many_without_ties),
        arrivals in prop::collection::vec(crowded_arrival(), 1..20),
    ) {
        let table = Table::build(routes.clone()).unwrap();
        for arrival in &arrivals {
            let found = table.find(&arrival.query());
            let found = found.map(|index| Arc::clone(&table.routes()[index].name));
            prop_assert_eq!(found, reference(&routes, arrival));
        }
    }

    #[test]
    fn the_table_agrees_with_the_naive_reference(
        routes in prop::collection::vec(any_route(), 0..12).prop_map(without_ties),
        arrivals in prop::collection::vec(any_arrival(), 1..20),
    ) {
        for arrival in &arrivals {
            prop_assert_eq!(found(&routes, arrival), reference(&routes, arrival));
        }
    }

    #[test]
    fn the_order_of_routes_never_matters(
        (routes, shuffled) in prop::collection::vec(any_route(), 0..12)
            .prop_map(without_ties)
            .prop_flat_map(|routes| (Just(routes.clone()), Just(routes).prop_shuffle())),
        arrivals in prop::collection::vec(any_arrival(), 1..20),
    ) {
        for arrival in &arrivals {
            prop_assert_eq!(found(&routes, arrival), found(&shuffled, arrival));
        }
    }

    #[test]
    fn find_and_consider_never_differ(
        routes in prop::collection::vec(any_route(), 0..12).prop_map(without_ties),
        arrival in any_arrival(),
    ) {
        let table = Table::build(routes).unwrap();
        let seen = table.consider(&arrival.query());
        prop_assert_eq!(table.find(&arrival.query()), seen.taken);
        let first_that_holds = seen.candidates.iter().find(|c| c.unmet.is_none());
        prop_assert_eq!(first_that_holds.map(|c| c.route), seen.taken.ok());
    }

    #[test]
    fn a_pattern_is_read_back_from_what_it_shows(pattern in any_pattern()) {
        prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern));
    }

    #[test]
    fn each_route_that_ties_with_earlier_ones_is_told_with_the_first_for_each_pattern(
        mut routes in prop::collection::vec(crowded(), 0..150),
    ) {
        for (index, route) in routes.iter_mut().enumerate() {
            route.name = Arc::from(format!("r{index:03}"));
        }
        let ties = Table::build(routes.clone()).err().unwrap_or_default();
        let mut told: Vec<_> = ties.into_iter().map(|tie| (tie.pattern, tie.routes)).collect();
        told.sort();
        prop_assert_eq!(told, naive_ties(&routes));
    }
}

#[test]
fn a_pattern_takes_the_names_that_the_table_finds_by_it() {
    for (pattern, taken, not) in [
        (
            "a.b.example",
            &["a.b.example"][..],
            &["b.example", "x.a.b.example"][..],
        ),
        (
            "*.b.example",
            &["a.b.example"],
            &["b.example", "x.a.b.example", "ab.example"],
        ),
        (
            "**.b.example",
            &["a.b.example", "x.a.b.example"],
            &["b.example", "xb.example"],
        ),
        ("**", &["a", "x.a.b.example"], &[]),
    ] {
        let pattern = Pattern::parse(pattern).unwrap();
        let takes = |name: &&&str| pattern.takes(&ServerName::parse(name.as_bytes()).unwrap());
        assert_eq!(taken.iter().find(|name| !takes(name)), None, "{pattern}");
        assert_eq!(not.iter().find(takes), None, "{pattern}");
    }
}
