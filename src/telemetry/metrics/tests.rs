use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use enum_map::EnumMap;
use rustix::process::{Resource, getrlimit};
use strum::VariantArray;

use super::stats::{EndpointFigures, EndpointRole};
use super::things::GRACE;
use super::{Census, Kind, Registry, TABLE};
use crate::outcome::{AddressState, DialFailure, Direction, Limit, Outcome, ResolveFailure};
use crate::required;

/// A series of a page: its name, its labels, its value.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

fn samples(page: &str) -> Vec<Sample> {
    let lines = page
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(sample).collect()
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').unwrap();
    let pairs = labels.split("\",").filter(|pair| !pair.is_empty());
    let labels = pairs.map(|pair| {
        let (key, value) = pair.split_once("=\"").unwrap();
        (key.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Sample {
        name: name.to_owned(),
        labels: labels.collect(),
        value: value.parse().unwrap(),
    }
}

/// The sum of the series of a name that have all of the labels.
fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let all = samples(page).into_iter().filter(|s| s.name == name);
    let some = all.filter(|s| {
        let mut wanted = labels.iter();
        wanted.all(|(key, value)| s.labels.get(*key).is_some_and(|it| it == value))
    });
    some.map(|s| s.value).sum()
}

pub(super) fn full_registry() -> Arc<Registry> {
    let registry = Registry::new();
    drop(registry.endings("agents", None));
    drop(registry.endings("agents", Some("fleet")));
    drop(registry.route("fleet"));
    registry.backend("fleet").dial_seconds.record(0.003);
    registry.client_hello_seconds.record(0.2);
    let endpoint = registry.endpoint("fleet", "fleet-1.internal:8220");
    endpoint.show(0, || Some(CHECKED));
    endpoint.set_role(Some(EndpointRole {
        weight: 2,
        is_backup: true,
    }));
    drop(registry.worker(0));
    registry
}

/// The figures of an endpoint that is a name and is checked.
const CHECKED: EndpointFigures = EndpointFigures {
    connections: 0,
    is_resolved: true,
    addresses: EnumMap::from_array([0; 3]),
    is_healthy: Some(true),
    certificate_not_after: Some(1_800_000_000),
    is_removed: false,
};

#[test]
fn an_endpoint_that_is_removed_is_neither_healthy_nor_unhealthy_and_keeps_its_counts() {
    let registry = Registry::new();
    let endpoint = registry.endpoint("fleet", "a:1");
    let show = |figures: Option<EndpointFigures>| {
        // Its number is that of the endpoint itself.
        endpoint.show(7, move || figures);
        let page = registry.render();
        let series = [
            "portway_endpoint_health{",
            "portway_backend_certificate_not_after_timestamp_seconds{",
            "portway_health_checks_total{",
        ];
        series.map(|series| page.contains(series))
    };
    let unhealthy = EndpointFigures {
        is_healthy: Some(false),
        ..CHECKED
    };
    let removed = EndpointFigures {
        is_removed: true,
        ..unhealthy
    };
    let unchecked = EndpointFigures {
        is_healthy: None,
        ..CHECKED
    };
    let encrypted = EndpointFigures {
        certificate_not_after: None,
        ..unhealthy
    };
    assert_eq!(show(Some(unhealthy)), [true; 3]);
    assert_eq!(
        show(Some(removed)),
        [false, false, true],
        "with connections"
    );
    assert_eq!(show(None), [false, false, true], "without");
    assert_eq!(show(Some(unhealthy)), [true; 3], "it is back");
    assert_eq!(show(Some(encrypted)), [true, false, true]);
    assert_eq!(show(Some(unhealthy)), [true; 3]);
    assert_eq!(show(Some(unchecked)), [false; 3]);
    assert_eq!(show(None), [false; 3], "they do not come back");
}

/// As `ulimit -v` leaves it.
#[test]
fn a_limit_of_memory_that_is_not_set_is_infinite() {
    let page = Registry::new().render();
    let line = |name: &str| {
        page.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
    };
    let told = line("process_virtual_memory_max_bytes").unwrap();
    match getrlimit(Resource::As).current {
        None => assert_eq!(told, "+Inf"),
        Some(limit) => assert_eq!(told, limit.to_string()),
    }
}

#[test]
fn every_metric_is_on_the_page_from_the_start_with_exactly_the_labels_of_the_table() {
    let registry = full_registry();
    registry.endings("agents", None).count(Outcome::Closed);
    let mut seen = BTreeSet::new();
    for sample in samples(&registry.render()) {
        let parts = ["_bucket", "_sum", "_count"];
        let base = parts.iter().find_map(|part| sample.name.strip_suffix(part));
        let metric = TABLE
            .iter()
            .find(|metric| match metric.kind {
                Kind::Histogram(_) => base == Some(metric.name),
                Kind::Counter | Kind::Gauge => metric.name == sample.name,
            })
            .unwrap_or_else(|| panic!("{} is not in the table", sample.name));
        let keys: BTreeSet<&str> = sample.labels.keys().map(String::as_str).collect();
        let mut wanted: BTreeSet<&str> = metric.labels.iter().copied().collect();
        if sample.name.ends_with("_bucket") {
            wanted.insert("le");
        }
        assert_eq!(keys, wanted, "{}", sample.name);
        seen.insert(metric.name);
    }
    let table: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(seen, table);
}

#[test]
fn nothing_that_a_client_sends_is_a_label() {
    let keys: BTreeSet<&str> = TABLE
        .iter()
        .flat_map(|metric| metric.labels)
        .copied()
        .collect();
    // Names of routes.toml, closed lists, the index of a worker, our version.
    let known = [
        "answer",
        "backend",
        "direction",
        "endpoint",
        "limit",
        "listener",
        "mode",
        "outcome",
        "reason",
        "result",
        "route",
        "state",
        "version",
        "worker",
    ];
    assert_eq!(keys, BTreeSet::from(known));
}

#[test]
fn promtool_has_nothing_to_say_of_the_page() {
    judge_by_promtool(&full_registry().render());
}

/// promtool must have nothing to say of a page.
pub(super) fn judge_by_promtool(page: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let remedy = "have .ci/promtool extract it into a directory of PATH";
            return required::did_not_run(required::PEERS, "promtool is missing", remedy);
        }
        Err(error) => panic!("{error}"),
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8(said).unwrap(), "");
    assert!(output.status.success());
}

#[test]
fn every_page_adds_up_while_connections_come_and_go() {
    let registry = Registry::new();
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..3 {
        // Connections are accepted on one thread and end on another, as after a hand-over.
        let (opened, open) = mpsc::sync_channel::<()>(64);
        let (stats, running) = (registry.listener("agents"), Arc::clone(&stop));
        threads.push(thread::spawn(move || {
            while !running.load(Ordering::Relaxed) {
                stats.accepted.add(1);
                opened.send(()).unwrap();
            }
        }));
        let to_backend = registry.endings("agents", Some("fleet"));
        let to_none = registry.endings("agents", None);
        threads.push(thread::spawn(move || {
            for n in 0.. {
                if open.recv().is_err() {
                    break;
                }
                match n % 3 {
                    0 => to_backend.count(Outcome::Closed),
                    1 => to_backend.count(Outcome::Drained),
                    _ => to_none.count(Outcome::NoRoute),
                }
            }
        }));
    }
    for _ in 0..300 {
        let page = registry.render();
        let of_listener = |name| sum(&page, name, &[("listener", "agents")]);
        let accepted = of_listener("portway_connections_accepted_total");
        let active = of_listener("portway_connections_active");
        let closed = of_listener("portway_connections_closed_total");
        assert!(active >= 0.0);
        // All are whole numbers far below 2^53, so this is exact.
        assert!((accepted - active - closed).abs() < 0.5, "{page}");
        assert_eq!(
            of_listener("portway_connections_forgotten_total").to_string(),
            "0"
        );
    }
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let page = registry.render();
    assert!(sum(&page, "portway_connections_accepted_total", &[]) > 0.0);
    assert!(sum(&page, "portway_connections_active", &[]) < 0.5);
}

#[test]
fn an_outcome_has_a_series_where_it_belongs_and_elsewhere_only_if_it_comes() {
    let registry = Registry::new();
    let fleet = registry.endings("agents", Some("fleet"));
    drop(registry.endings("agents", None));
    let has = |page: &str, backend: &str, outcome: Outcome| {
        samples(page).iter().any(|s| {
            s.labels.get("backend").is_some_and(|it| it == backend)
                && s.labels
                    .get("outcome")
                    .is_some_and(|it| it == outcome.name())
        })
    };
    let page = registry.render();
    assert!(has(&page, "fleet", Outcome::Closed) && !has(&page, "-", Outcome::Closed));
    assert!(has(&page, "-", Outcome::NoRoute) && !has(&page, "fleet", Outcome::NoRoute));
    assert!(has(&page, "-", Outcome::Drained) && has(&page, "fleet", Outcome::Drained));
    registry.listener("agents").accepted.add(1);
    fleet.count(Outcome::NoRoute);
    let page = registry.render();
    assert!(has(&page, "fleet", Outcome::NoRoute));
    assert!(sum(&page, "portway_connections_active", &[]) < 0.5);
}

#[test]
fn series_go_on_counting_when_their_thing_is_asked_for_again() {
    let registry = Registry::new();
    registry.route("fleet").add(2);
    registry.route("fleet").add(3);
    registry
        .backend("fleet")
        .bytes(Direction::BackendToClient)
        .add(7);
    registry
        .endpoint("fleet", "a:1")
        .dial_failed(DialFailure::Other);
    registry
        .endpoint("fleet", "a:1")
        .dial_failed(DialFailure::Other);
    let page = registry.render();
    let routed = [("route", "fleet")];
    assert_eq!(
        sum(&page, "portway_route_connections_total", &routed).to_string(),
        "5"
    );
    let back = [("backend", "fleet"), ("direction", "backend_to_client")];
    assert_eq!(sum(&page, "portway_bytes_total", &back).to_string(), "7");
    assert_eq!(sum(&page, "portway_bytes_total", &[]).to_string(), "7");
    let others = [("endpoint", "a:1"), ("reason", "other")];
    assert_eq!(
        sum(&page, "portway_dial_failures_total", &others).to_string(),
        "2"
    );
}

#[test]
fn a_limit_shows_its_value_or_infinity_and_what_it_rejected() {
    let registry = Registry::new();
    registry.limits().set(Limit::MaxConnections, Some(9968));
    registry.limits().rejected(Limit::MaxPendingPerClient);
    let page = registry.render();
    let of = |name, limit: Limit| sum(&page, name, &[("limit", limit.name())]);
    assert_eq!(
        of("portway_limit", Limit::MaxConnections).to_string(),
        "9968"
    );
    assert!(of("portway_limit", Limit::MaxConnectionsPerClient).is_infinite());
    let rejections = "portway_limit_rejections_total";
    assert_eq!(of(rejections, Limit::MaxPendingPerClient).to_string(), "1");
    assert_eq!(of(rejections, Limit::MaxConnections).to_string(), "0");
}

#[test]
fn the_buckets_of_the_histograms_tell_milliseconds_from_seconds() {
    let page = full_registry().render();
    let below = |name, le| sum(&page, name, &[("le", le)]);
    assert_eq!(
        below("portway_client_hello_seconds_bucket", "0.1").to_string(),
        "0"
    );
    assert_eq!(
        below("portway_client_hello_seconds_bucket", "0.25").to_string(),
        "1"
    );
    assert_eq!(
        below("portway_dial_seconds_bucket", "0.0025").to_string(),
        "0"
    );
    assert_eq!(
        below("portway_dial_seconds_bucket", "0.005").to_string(),
        "1"
    );
}

#[test]
fn histograms_survive_upkeep() {
    let registry = full_registry();
    registry.upkeep(Instant::now());
    registry.upkeep(Instant::now());
    let page = registry.render();
    assert_eq!(
        sum(&page, "portway_client_hello_seconds_count", &[]).to_string(),
        "1"
    );
}

/// A configuration with one of each thing comes into force.
fn configure(registry: &Registry, backend: &str, endpoint: &str) {
    registry.configure();
    drop(registry.endings("agents", None));
    drop(registry.endings("agents", Some(backend)));
    drop(registry.route(backend));
    drop(registry.backend(backend));
    drop(registry.endpoint(backend, endpoint));
}

fn series(registry: &Registry) -> usize {
    samples(&registry.render()).len()
}

/// Checks that the page has the end of each connection of the listener `agents`, once. That accepted is the sum of
/// active and ended says nothing: the page calculates active so.
fn assert_all_ended(page: &str) {
    let of_listener = |name| sum(page, name, &[("listener", "agents")]).to_string();
    assert_eq!(of_listener("portway_connections_active"), "0", "{page}");
    let ended = ["closed", "forgotten"].map(|end| {
        let name = format!("portway_connections_{end}_total");
        sum(page, &name, &[("listener", "agents")])
    });
    let ended: f64 = ended.iter().sum();
    let accepted = of_listener("portway_connections_accepted_total");
    assert_eq!(accepted, ended.to_string(), "{page}");
}

#[test]
fn the_series_of_what_is_gone_end_after_a_grace_period() {
    let registry = Registry::new();
    let start = Instant::now();
    configure(&registry, "fleet", "a:1");
    registry.upkeep(start);
    let few = series(&registry);
    for n in 0..300 {
        // Some of the same backend, and some of another one.
        let backend = if n % 2 == 0 {
            "fleet".to_owned()
        } else {
            format!("b{n}")
        };
        configure(&registry, &backend, &format!("a{n}:1"));
        registry.upkeep(start + Duration::from_secs(1));
    }
    let many = series(&registry);
    assert!(many > few + 300, "{many}");
    configure(&registry, "fleet", "a:1");
    registry.upkeep(start + Duration::from_secs(2));
    registry.upkeep(start + GRACE);
    assert_eq!(series(&registry), many);
    registry.upkeep(start + Duration::from_secs(2) + GRACE);
    assert_eq!(series(&registry), few);
    assert_eq!(registry.things().kept(), 6);
}

#[test]
fn the_counters_of_a_gone_backend_stay_until_its_last_connection_has_ended() {
    let registry = Registry::new();
    let start = Instant::now();
    let at = |graces: u32| start + GRACE * graces;
    configure(&registry, "old", "a:1");
    let listener = registry.listener("agents");
    let endings = registry.endings("agents", Some("old"));
    let connections = Arc::new(AtomicU32::new(1));
    let count = Arc::clone(&connections);
    registry.endpoint("old", "a:1").show(1, move || {
        Some(EndpointFigures {
            connections: count.load(Ordering::Relaxed),
            ..EndpointFigures::default()
        })
    });
    listener.accepted.add(1);
    endings.begin();
    configure(&registry, "new", "a:1");
    for graces in 0..3 {
        registry.upkeep(at(graces));
        let page = registry.render();
        let old = [("backend", "old")];
        assert!(sum(&page, "portway_endpoint_connections", &old) > 0.5);
        assert!(page.contains("portway_bytes_total{backend=\"old\""));
        assert!(page.contains("backend=\"old\",outcome=\"closed\"} 0"));
    }
    endings.count(Outcome::Closed);
    connections.store(0, Ordering::Relaxed);
    registry.upkeep(at(3));
    assert!(
        registry
            .render()
            .contains("backend=\"old\",outcome=\"closed\"} 1")
    );
    registry.upkeep(at(4));
    let page = registry.render();
    assert!(!page.contains("\"old\""), "{page}");
    assert!(page.contains("portway_connections_forgotten_total{listener=\"agents\"} 1"));
    assert_all_ended(&page);
}

#[test]
fn a_page_adds_up_whatever_ends_late_and_whatever_comes_back() {
    let registry = Registry::new();
    let start = Instant::now();
    configure(&registry, "old", "a:1");
    let listener = registry.listener("agents");
    // As a snapshot has it that a connection took.
    let before = registry.endings("agents", Some("old"));
    let end = |endings: &super::Endings| {
        listener.accepted.add(1);
        endings.begin();
        endings.count(Outcome::Closed);
    };
    end(&before);
    configure(&registry, "new", "a:1");
    registry.upkeep(start);
    registry.upkeep(start + GRACE);
    end(&before);
    let page = registry.render();
    assert!(!page.contains("\"old\""), "{page}");
    assert_all_ended(&page);
    // It comes back, and counts from 0.
    configure(&registry, "old", "a:1");
    end(&registry.endings("agents", Some("old")));
    end(&before);
    let page = registry.render();
    assert!(
        page.contains("backend=\"old\",outcome=\"closed\"} 1"),
        "{page}"
    );
    let forgotten = "portway_connections_forgotten_total";
    assert_eq!(sum(&page, forgotten, &[]).to_string(), "3");
    assert_all_ended(&page);
    // Nobody has it any more: only the count is kept.
    drop(before);
    registry.upkeep(start + GRACE * 2);
    assert_eq!(sum(&registry.render(), forgotten, &[]).to_string(), "3");
    assert_eq!(registry.things().held(), 0);
}

#[test]
fn a_listener_that_is_gone_ends_with_all_of_its_series() {
    let registry = Registry::new();
    let start = Instant::now();
    configure(&registry, "fleet", "a:1");
    registry.upkeep(start);
    let few = series(&registry);
    registry.configure();
    let gone = registry.endings("gone", None);
    let listener = registry.listener("gone");
    drop(registry.endings("gone", Some("fleet")));
    listener.accepted.add(1);
    configure(&registry, "fleet", "a:1");
    for graces in 0..3 {
        registry.upkeep(start + GRACE * graces);
        let active = [("listener", "gone")];
        let page = registry.render();
        assert_eq!(
            sum(&page, "portway_connections_active", &active).to_string(),
            "1"
        );
        assert!(page.contains("listener=\"gone\",backend=\"-\",outcome=\"no_route\"} 0"));
    }
    gone.count(Outcome::NoRoute);
    registry.upkeep(start + GRACE * 3);
    registry.upkeep(start + GRACE * 4);
    assert_eq!(series(&registry), few);
}

#[test]
fn no_series_ends_while_a_page_is_made() {
    let registry = Registry::new();
    let start = Instant::now();
    configure(&registry, "old", "a:1");
    configure(&registry, "new", "a:1");
    registry.upkeep(start);
    let page = registry.page.lock().unwrap();
    registry.upkeep(start + GRACE);
    drop(page);
    assert!(registry.render().contains("\"old\""));
    registry.upkeep(start + GRACE);
    assert!(!registry.render().contains("\"old\""));
}

#[test]
fn a_census_counts_the_series_of_a_page() {
    let registry = Registry::new();
    let before = series(&registry);
    for listener in ["a", "b", "c"] {
        drop(registry.endings(listener, None));
        for backend in ["x", "y"] {
            drop(registry.endings(listener, Some(backend)));
            drop(registry.backend(backend));
        }
    }
    for number in 0..5 {
        drop(registry.route(&number.to_string()));
        drop(registry.endpoint("x", &number.to_string()));
        let endpoint = registry.endpoint("y", &number.to_string());
        endpoint.show(0, || Some(CHECKED));
    }
    let census = Census {
        listeners: 3,
        pairs: 6,
        routes: 5,
        backends: 2,
        endpoints: 10,
        names: 5,
        checked: 5,
    };
    assert_eq!(series(&registry) - before, census.series());
}

#[test]
fn a_worker_is_late_only_without_a_turn_for_longer_than_the_limit() {
    let registry = Registry::new();
    let (idle, busy) = (registry.worker(0), registry.worker(1));
    let start = Instant::now();
    let limit = Duration::from_secs(10);
    idle.turn(start);
    busy.turn(start + Duration::from_secs(8));
    assert!(
        registry
            .late_workers(start + Duration::from_secs(9), limit)
            .is_empty()
    );
    assert_eq!(
        registry.late_workers(start + Duration::from_secs(12), limit),
        [0]
    );
    idle.turn(start + Duration::from_secs(12));
    assert!(
        registry
            .late_workers(start + Duration::from_secs(13), limit)
            .is_empty()
    );
}

#[test]
fn errors_of_the_system_have_the_reason_that_an_operator_looks_for() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = TcpStream::connect(free).unwrap_err();
    assert_eq!(DialFailure::from_io(&refused), DialFailure::Refused);
    let reason = |code| DialFailure::from_io(&io::Error::from_raw_os_error(code));
    assert_eq!(reason(libc::ETIMEDOUT), DialFailure::Timeout);
    assert_eq!(reason(libc::EHOSTUNREACH), DialFailure::Unreachable);
    assert_eq!(reason(libc::EAFNOSUPPORT), DialFailure::Unreachable);
    assert_eq!(reason(libc::ECONNRESET), DialFailure::Reset);
    assert_eq!(reason(libc::EMFILE), DialFailure::LocalExhausted);
    assert_eq!(reason(libc::EADDRNOTAVAIL), DialFailure::LocalExhausted);
    assert_eq!(reason(libc::EINVAL), DialFailure::Other);
    let elapsed = io::Error::from(io::ErrorKind::TimedOut);
    assert_eq!(DialFailure::from_io(&elapsed), DialFailure::Timeout);
}

#[test]
fn the_documentation_has_every_metric_as_it_is() {
    let doc = include_str!("../../../docs/metrics.md");
    let rows: Vec<&str> = doc
        .lines()
        .filter(|line| line.starts_with("| `portway_") || line.starts_with("| `process_"))
        .collect();
    let wanted: Vec<String> = TABLE
        .iter()
        .map(|metric| {
            let labels = metric.labels.iter().map(|label| format!("`{label}`"));
            let labels = labels.collect::<Vec<_>>().join(", ");
            let (name, kind) = (metric.name, metric.kind.name());
            format!("| `{name}` | {kind} | {labels} | {} |", metric.help)
        })
        .collect();
    assert_eq!(rows, wanted);
    for name in DialFailure::VARIANTS.iter().map(|it| it.name()) {
        assert!(
            doc.contains(&format!("\n| `{name}` |")),
            "{name} is not explained"
        );
    }
    let states = AddressState::VARIANTS.iter().map(|it| it.name());
    for name in states.chain(ResolveFailure::VARIANTS.iter().map(|it| it.name())) {
        assert!(
            doc.contains(&format!("`{name}` (")),
            "{name} is not explained"
        );
    }
    for name in Limit::VARIANTS.iter().map(|it| it.name()) {
        assert!(
            doc.contains(&format!("`{name}`")),
            "{name} is not explained"
        );
    }
}
