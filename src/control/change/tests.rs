//! Series, endpoints and addresses after several changes of the configuration.

use std::io;
use std::time::{Duration, Instant};

use super::*;
use crate::conn::tests::local;
use crate::control::in_force::InForce;
use crate::outcome::Outcome;
use crate::telemetry::lines::Lines;
use crate::telemetry::{Form, Format, LogRules};

/// Longer than series stay.
const LONG: Duration = Duration::from_hours(1);

struct Fixture {
    builder: ChangeBuilder,
    registry: Arc<Registry>,
    admission: Arc<Admission>,
}

fn fixture() -> Fixture {
    let registry = Registry::new();
    let lines = Lines::start(Box::new(io::sink()), "log", registry.lines_dropped()).unwrap();
    let log = ConnectionLog::new(
        lines,
        Form::always(Format::Json),
        LogRules::default(),
        Arc::clone(&registry),
    );
    let settings = settings(&text("a:1", ""));
    let admission = Arc::new(Admission::new(&settings.limits, Machine::read()));
    let builder = ChangeBuilder::new(
        &settings,
        2,
        Arc::clone(&admission),
        Arc::clone(&registry),
        Arc::new(log),
    );
    Fixture {
        builder,
        registry,
        admission,
    }
}

impl Fixture {
    fn change(&mut self, text: &str) -> Change {
        let change =
            self.builder
                .change(settings(text), Source::default(), &mut Inherited::default());
        change.unwrap()
    }

    fn series(&self) -> usize {
        let page = self.registry.render();
        let lines = page.lines();
        lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .count()
    }
}

fn settings(text: &str) -> Settings {
    config::parse(text, "routes.toml").unwrap().settings
}

/// routes.toml with a backend at this endpoint, and with more.
fn text(endpoint: &str, more: &str) -> String {
    format!(
        "admin.bind = false\nlisteners.agents.bind = [\"127.0.0.1:0\"]\n\
         backends.fleet.endpoints = [\"{endpoint}\"]\n\
         routes.fleet = {{ backend = \"fleet\", server_names = [\"fleet.example\"] }}\n{more}"
    )
}

#[test]
fn hundreds_of_reloads_with_new_endpoints_leave_no_series_behind() {
    let mut fixture = fixture();
    let start = Instant::now();
    let mut change = fixture.change(&text("a:1", ""));
    let few = fixture.series();
    // As a connection has it that stays.
    let held = Arc::clone(&change.snapshot);
    for number in 0..300 {
        let more = format!(
            "backends.b{number}.endpoints = [\"b{number}:1\"]\n\
             routes.r{number} = {{ backend = \"b{number}\", server_names = [\"**\"] }}\n"
        );
        change = fixture.change(&text(&format!("a{number}:1"), &more));
        fixture.registry.upkeep(start);
    }
    assert!(fixture.series() > few + 300 * 10);
    let last = fixture.change(&text("a:1", ""));
    fixture.registry.upkeep(start);
    fixture.registry.upkeep(start + LONG);
    assert_eq!(fixture.series(), few);
    // Endpoints that come back count from the beginning, and are shown.
    let again = fixture.change(&text("a7:1", ""));
    let endpoint = Arc::clone(&again.snapshot.backends[0].pool.endpoints()[0]);
    endpoint
        .stats()
        .dial_failed(crate::outcome::DialFailure::Refused);
    let line = "endpoint=\"a7:1\",reason=\"refused\"} 1\n";
    assert!(fixture.registry.render().contains(line));
    drop((change, last, held));
}

#[test]
fn an_endpoint_whose_series_have_ended_is_shown_again_also_where_a_connection_still_has_it() {
    let mut fixture = fixture();
    let start = Instant::now();
    let first = fixture.change(&text("a:1", ""));
    // A connection to something else keeps the whole snapshot, and with it the endpoint.
    let held = Arc::clone(&first.snapshot.backends[0].pool.endpoints()[0]);
    drop(fixture.change(&text("b:1", "")));
    fixture.registry.upkeep(start);
    fixture.registry.upkeep(start + LONG);
    assert!(!fixture.registry.render().contains("a:1"));
    let again = fixture.change(&text("a:1", ""));
    let endpoint = Arc::clone(&again.snapshot.backends[0].pool.endpoints()[0]);
    assert!(!Arc::ptr_eq(&endpoint, &held));
    endpoint.set_addresses(&["127.0.0.1:1".parse().unwrap()]);
    let one = endpoint.enter(&endpoint.addresses()[0]);
    let line = "portway_endpoint_connections{backend=\"fleet\",endpoint=\"a:1\"} 1\n";
    assert!(fixture.registry.render().contains(line));
    drop((first, one));
}

#[test]
fn an_endpoint_is_removed_with_the_file_that_does_not_have_it_and_not_by_another_way_to_it() {
    local(async {
        let mut fixture = fixture();
        let drain = settings(&text("a:1", "")).drain;
        let mut in_force = InForce::nothing(drain, &fixture.registry);
        let mut follow = |endpoint: &str, keys: &str| {
            let more = format!("backends.other.endpoints = [\"a:1\"]\n{keys}");
            let change = fixture.change(&text(endpoint, &more));
            let endpoint = Arc::clone(&change.snapshot.backends[0].pool.endpoints()[0]);
            drop(in_force.apply(change, &[]));
            endpoint
        };
        let ways = [
            "",
            "backends.fleet.via = \"http://proxy.test:3128\"",
            "backends.fleet.via = \"http://other.test:3128\"",
            "backends.fleet.via = \"http://other.test:3128\"\n\
             backends.fleet.resolver.servers = [\"10.0.0.53\"]",
        ];
        let earlier: Vec<_> = ways.iter().map(|way| follow("a:1", way)).collect();
        let are_removed = || earlier.iter().map(|it| it.is_removed()).collect::<Vec<_>>();
        let is_new = |pair: &[Arc<Endpoint>]| !Arc::ptr_eq(&pair[0], &pair[1]);
        assert!(earlier.windows(2).all(is_new));
        assert_eq!(are_removed(), [false; 4]);
        let other = follow("b:1", "");
        assert_eq!(are_removed(), [true; 4], "also those before the last one");
        let again = follow("a:1", "");
        assert!(Arc::ptr_eq(&again, &earlier[0]));
        assert_eq!(are_removed(), [false; 4]);
        assert!(other.is_removed());
    });
}

#[test]
fn a_listener_has_series_of_the_backends_that_its_routes_lead_to_and_of_no_others() {
    let mut fixture = fixture();
    let pair = |number: usize| {
        format!(
            "listeners.l{number}.bind = [\"127.0.0.1:0\"]\n\
             backends.b{number}.endpoints = [\"b{number}:1\"]\n\
             routes.r{number} = {{ backend = \"b{number}\", server_names = [\"**\"], \
             listeners = [\"l{number}\"] }}\n"
        )
    };
    let more: String = (0..10).map(pair).collect();
    let change = fixture.change(&text("a:1", &more));
    let page = fixture.registry.render();
    let has = |listener: &str, backend: &str| {
        page.contains(&format!("{{listener=\"{listener}\",backend=\"{backend}\","))
    };
    for number in 0..10 {
        let listener = format!("l{number}");
        assert!(has(&listener, "-") && has(&listener, "fleet"));
        for other in 0..10 {
            assert_eq!(has(&listener, &format!("b{other}")), number == other);
        }
        assert!(!has("agents", &format!("b{number}")));
    }
    // Each backend that a route leads to has its counters.
    for (listener, backends) in change
        .snapshot
        .listeners
        .iter()
        .zip([1].into_iter().chain([2; 10]))
    {
        assert_eq!(
            listener.backend_endings.len(),
            backends,
            "{}",
            listener.name
        );
    }
    change.snapshot.listeners[0].endings.count(Outcome::NoRoute);
}

#[test]
fn the_default_of_max_connections_is_calculated_anew_for_the_addresses_and_checks_of_each_change() {
    let mut fixture = fixture();
    let addresses = |count: usize| {
        let list: Vec<String> = (1..=count).map(|n| format!("\"127.0.0.{n}:0\"")).collect();
        let list = list.join(", ");
        text("a:1", "").replace("[\"127.0.0.1:0\"]", &format!("[{list}]"))
    };
    let few = fixture.change(&addresses(1));
    let before = **fixture.admission.bounds();
    let many = fixture.change(&addresses(41));
    let after = **fixture.admission.bounds();
    if before.bound_by == "nofile" {
        // 40 addresses with a socket for each of two workers are the descriptors of 40 connections.
        assert_eq!(before.max_connections - after.max_connections, 40);
    }
    let shown = format!(
        "portway_limit{{limit=\"max_connections\"}} {}\n",
        after.max_connections
    );
    assert!(fixture.registry.render().contains(&shown));
    drop(fixture.change(&addresses(1)));
    assert_eq!(**fixture.admission.bounds(), before);
    let checks = "backends.fleet.health = { check = \"tcp\" }";
    drop(fixture.change(&text("a:1", checks)));
    if before.bound_by == "nofile" {
        let now = fixture.admission.bounds().max_connections;
        assert_eq!(before.max_connections - now, health::AT_ONCE / 2);
    }
    drop((few, many));
}
