//! Time is tokio's paused clock: it moves on only when every task waits for it.

mod asked;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, sleep};

use super::resolver::{Found, NotFound};
use super::*;
use crate::backend::{Allowed, Endpoint, NameRules, Unresolved};
use crate::outcome::ResolveFailure;
use crate::telemetry::alone::alone;
use crate::telemetry::{EndpointStats, Registry};

/// A resolver whose answers the test sets. A name without one hangs.
#[derive(Clone, Default)]
struct Dns(Arc<Mutex<State>>);

struct State {
    answers: HashMap<String, Result<Vec<IpAddr>, ()>>,
    asked: Vec<(String, Instant)>,
    under_way: usize,
    most_under_way: usize,
    /// How long an answer is fresh, as of the system's resolver.
    fresh: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self {
            answers: HashMap::new(),
            asked: Vec::new(),
            under_way: 0,
            most_under_way: 0,
            fresh: Duration::from_secs(30),
        }
    }
}

impl Dns {
    fn set(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        self.0
            .lock()
            .unwrap()
            .answers
            .insert(host.to_owned(), Ok(addresses));
    }

    fn set_down(&self, host: &str) {
        self.0
            .lock()
            .unwrap()
            .answers
            .insert(host.to_owned(), Err(()));
    }

    fn hang(&self, host: &str) {
        self.0.lock().unwrap().answers.remove(host);
    }

    fn asked(&self, host: &str) -> Vec<Instant> {
        let state = self.0.lock().unwrap();
        state
            .asked
            .iter()
            .filter(|(asked, _)| asked == host)
            .map(|(_, at)| *at)
            .collect()
    }

    async fn answer(self, host: Box<str>) -> Result<Found, NotFound> {
        {
            let mut state = self.0.lock().unwrap();
            state.asked.push((host.clone().into(), Instant::now()));
            state.under_way += 1;
            state.most_under_way = state.most_under_way.max(state.under_way);
        }
        loop {
            let answer = self.0.lock().unwrap().answers.get(&*host).cloned();
            if let Some(answer) = answer {
                self.0.lock().unwrap().under_way -= 1;
                let failed = |()| NotFound::failed(io::Error::other("SERVFAIL"));
                let addresses = answer.map_err(failed)?;
                let addresses = addresses.into_iter().map(|ip| (ip, 0).into()).collect();
                return Ok(Found {
                    addresses,
                    fresh: self.0.lock().unwrap().fresh,
                });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn start(&self, endpoints: &[Arc<Endpoint>], own: &[&str]) -> Names {
        self.start_bearers(&bearers(endpoints), own)
    }

    /// Starts names of which each resolver asks this server, by another name: `host@servers`.
    fn start_bearers(&self, bearers: &[Bearer], own: &[&str]) -> Names {
        let dns = self.clone();
        let own = own.iter().map(|own| own.parse().unwrap()).collect();
        let lookup = move |servers: Option<&DnsServers>| -> Lookup {
            let dns = dns.clone();
            let servers = servers.map_or_else(String::new, |servers| format!("@{}", servers[0]));
            Arc::new(move |host| {
                let host = format!("{host}{servers}").into();
                Box::pin(dns.clone().answer(host))
            })
        };
        Names::start_with(bearers, own, Box::new(lookup))
    }
}

/// Endpoints of backends without rules.
fn bearers(endpoints: &[Arc<Endpoint>]) -> Vec<Bearer> {
    let bearer = |endpoint| bearer(endpoint, &[], &[]);
    endpoints.iter().map(bearer).collect()
}

/// An endpoint of a backend with these networks and DNS servers, if there are any.
fn bearer(endpoint: &Arc<Endpoint>, networks: &[&str], servers: &[&str]) -> Bearer {
    let resolver = servers.iter().map(|server| server.parse().unwrap());
    let allowed = networks.iter().map(|network| network.parse().unwrap());
    Bearer {
        endpoint: Arc::clone(endpoint),
        rules: NameRules {
            resolver: (!servers.is_empty()).then(|| resolver.collect()),
            allowed: if networks.is_empty() {
                Allowed::default()
            } else {
                Allowed::Networks(allowed.collect())
            },
        },
    }
}

fn named(host: &str, port: u16) -> Arc<Endpoint> {
    named_with(host, port, stats())
}

fn named_with(host: &str, port: u16, stats: Arc<EndpointStats>) -> Arc<Endpoint> {
    let target = Target::Name {
        host: host.into(),
        port,
    };
    Endpoint::new(target, stats, std::time::Instant::now())
}

fn literal(address: &str) -> Arc<Endpoint> {
    let target = Target::Address(address.parse().unwrap());
    Endpoint::new(target, stats(), std::time::Instant::now())
}

fn addresses(endpoint: &Endpoint) -> Vec<String> {
    let addresses = endpoint.addresses();
    addresses.iter().map(|it| it.at().to_string()).collect()
}

/// A dial of its first address fails.
fn fail(endpoint: &Endpoint) {
    endpoint.failed(&endpoint.addresses()[0], std::time::Instant::now());
}

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_very_long_answer_is_used_up_to_a_bounded_number_of_each_family() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 9200));
    let v4 = (0..100).map(|n| format!("192.0.2.{n}"));
    let v6 = (0..100).map(|n| format!("2001:db8::{n:x}"));
    let answer: Vec<String> = v4.chain(v6).collect();
    dns.set(
        "es.test",
        &answer.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    let used = endpoint.addresses();
    let v4 = used.iter().filter(|it| it.at().is_ipv4()).count();
    assert_eq!((v4, used.len()), (64, 128));
}

#[tokio::test(start_paused = true)]
async fn dns_that_is_down_at_the_start_is_found_up_later() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 9200));
    dns.set_down("es.test");
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    assert!(endpoint.addresses().is_empty());

    dns.set("es.test", &["192.0.2.1"]);
    seconds(31).await;
    assert_eq!(addresses(&endpoint), ["192.0.2.1:9200"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_pass_ends_with_the_last_answer_and_after_a_second_at_most() {
    let dns = Dns::default();
    let (known, hanging) = (named("known.test", 1), named("hanging.test", 2));
    dns.set("known.test", &["192.0.2.1"]);
    let before = Instant::now();
    dns.start(&[Arc::clone(&known)], &[]).first_pass().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(addresses(&known), ["192.0.2.1:1"]);

    dns.start(&[known, hanging], &[]).first_pass().await;
    assert_eq!(before.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_pass_has_nothing_to_wait_for_without_names() {
    let before = Instant::now();
    Dns::default()
        .start(&[literal("192.0.2.1:1")], &[])
        .first_pass()
        .await;
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_addresses_are_kept_when_dns_fails_or_is_empty() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 9200));
    dns.set("es.test", &["192.0.2.1"]);
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;

    dns.set_down("es.test");
    seconds(31).await;
    dns.set("es.test", &[]);
    seconds(10).await;
    assert_eq!(addresses(&endpoint), ["192.0.2.1:9200"]);
    // While it fails it is asked for every 2 s, and so is soon back.
    let asked = dns.asked("es.test");
    let gaps: Vec<_> = asked
        .windows(2)
        .map(|at| (at[1] - at[0]).as_secs())
        .collect();
    assert_eq!(gaps, [30, 2, 2, 2, 2, 2]);

    dns.set("es.test", &["192.0.2.2"]);
    seconds(2).await;
    assert_eq!(addresses(&endpoint), ["192.0.2.2:9200"]);
}

#[tokio::test(start_paused = true)]
async fn names_that_hang_delay_no_other_for_long_and_hold_one_look_up_each() {
    let dns = Dns::default();
    let mut endpoints: Vec<_> = (0..20).map(|n| named(&format!("a-{n}.test"), 1)).collect();
    let good = named("good.test", 1);
    endpoints.push(Arc::clone(&good));
    dns.set("good.test", &["192.0.2.1"]);
    let _names = dns.start(&endpoints, &[]);

    // 20 hanging ones before it, 8 at once, 5 s each.
    seconds(11).await;
    assert_eq!(addresses(&good), ["192.0.2.1:1"]);
    // From then on the wait for them does not delay other names.
    dns.set("good.test", &["192.0.2.2"]);
    seconds(31).await;
    assert_eq!(addresses(&good), ["192.0.2.2:1"]);
    seconds(300).await;
    assert_eq!(dns.asked("a-0.test").len(), 1);
    let refreshes: Vec<_> = dns
        .asked("good.test")
        .windows(2)
        .map(|at| at[1] - at[0])
        .collect();
    assert!(
        refreshes.iter().all(|gap| gap.as_secs() == 30),
        "{refreshes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn at_most_eight_look_ups_begin_at_once() {
    let dns = Dns::default();
    let endpoints: Vec<_> = (0..20).map(|n| named(&format!("a-{n}.test"), 1)).collect();
    let _names = dns.start(&endpoints, &[]);
    seconds(4).await;
    assert_eq!(dns.0.lock().unwrap().most_under_way, LOOKUPS);
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_time_limit_is_taken_when_it_comes() {
    let (dns, endpoint) = (Dns::default(), named("slow.test", 1));
    let _names = dns.start(&[Arc::clone(&endpoint)], &[]);
    seconds(17).await;
    dns.set("slow.test", &["192.0.2.1"]);
    seconds(1).await;
    assert_eq!(addresses(&endpoint), ["192.0.2.1:1"]);
    assert_eq!(dns.asked("slow.test").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_brings_fresh_addresses_at_once() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 9200));
    let other = named("es.test", 9300);
    dns.set("es.test", &["192.0.2.1"]);
    let mut names = dns.start(&[Arc::clone(&other), Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    seconds(10).await;

    dns.set("es.test", &["192.0.2.2"]);
    fail(&endpoint);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(addresses(&endpoint), ["192.0.2.2:9200"]);
    assert_eq!(addresses(&other), ["192.0.2.2:9300"]);
}

#[tokio::test(start_paused = true)]
async fn dials_that_keep_failing_ask_once_a_second() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 9200));
    dns.set("es.test", &["192.0.2.1"]);
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    for _ in 0..100 {
        fail(&endpoint);
        sleep(Duration::from_millis(100)).await;
    }
    let asked = dns.asked("es.test").len();
    assert!((9..=11).contains(&asked), "asked {asked} times in 10 s");
}

#[tokio::test(start_paused = true)]
async fn endpoints_with_the_same_host_share_a_look_up() {
    let dns = Dns::default();
    let endpoints = [named("es.test", 9200), named("es.test", 9300)];
    dns.set("es.test", &["192.0.2.1", "2001:db8::1"]);
    let mut names = dns.start(&endpoints, &[]);
    names.first_pass().await;
    assert_eq!(dns.asked("es.test").len(), 1);
    assert_eq!(
        addresses(&endpoints[0]),
        ["192.0.2.1:9200", "[2001:db8::1]:9200"]
    );
    assert_eq!(
        addresses(&endpoints[1]),
        ["192.0.2.1:9300", "[2001:db8::1]:9300"]
    );
}

#[tokio::test(start_paused = true)]
async fn addresses_are_canonical_in_the_resolvers_order_and_swapped_only_when_they_differ() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 1));
    dns.set("es.test", &["192.0.2.2", "::ffff:192.0.2.1", "192.0.2.2"]);
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    let before = endpoint.addresses();
    assert_eq!(addresses(&endpoint), ["192.0.2.2:1", "192.0.2.1:1"]);

    dns.set("es.test", &["192.0.2.1", "192.0.2.2"]);
    seconds(31).await;
    assert!(Arc::ptr_eq(&before, &endpoint.addresses()));
}

/// Invariant 10.
#[tokio::test(start_paused = true)]
async fn an_address_that_leads_back_to_portway_is_never_an_endpoints() {
    let dns = Dns::default();
    dns.set("self.test", &["127.0.0.1", "192.0.2.1", "::1"]);
    dns.set("only-self.test", &["127.0.0.1"]);
    let by_name = [
        named("self.test", 443),
        named("self.test", 8443),
        named("only-self.test", 443),
    ];
    let by_address = [
        literal("127.0.0.1:443"),
        literal("127.0.0.1:9355"),
        literal("127.0.0.1:9200"),
    ];
    let endpoints: Vec<_> = by_name.iter().chain(&by_address).map(Arc::clone).collect();
    let mut names = dns.start(&endpoints, &["[::]:443", "127.0.0.1:9355"]);
    assert!(addresses(&by_address[0]).is_empty());
    assert!(addresses(&by_address[1]).is_empty());
    assert_eq!(addresses(&by_address[2]), ["127.0.0.1:9200"]);

    names.first_pass().await;
    assert_eq!(addresses(&by_name[0]), ["192.0.2.1:443"]);
    assert_eq!(
        addresses(&by_name[1]),
        ["127.0.0.1:8443", "192.0.2.1:8443", "[::1]:8443"]
    );
    assert!(addresses(&by_name[2]).is_empty());

    // After a reload without that listener it is an address like others.
    drop(names);
    dns.start(&endpoints, &[]).first_pass().await;
    assert_eq!(addresses(&by_address[0]), ["127.0.0.1:443"]);
    assert_eq!(addresses(&by_name[2]), ["127.0.0.1:443"]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_an_address_says_why_it_is_excluded_now_and_not_why_it_was() {
    let endpoint = literal("127.0.0.1:443");
    let forbids = [bearer(&endpoint, &["10.0.0.0/8"], &[])];
    let allows = [bearer(&endpoint, &["127.0.0.0/8"], &[])];
    let own = || vec!["127.0.0.1:443".parse().unwrap()];
    let why = || endpoint.unresolved().map(|why| why.reason);
    let mut names = Dns::default().start_bearers(&forbids, &[]);
    assert_eq!(why(), Some(ResolveFailure::Forbidden));
    names.update(&allows, own());
    assert_eq!(why(), Some(ResolveFailure::Loop));
    names.update(&forbids, own());
    assert_eq!(why(), Some(ResolveFailure::Forbidden));
    names.update(&allows, Vec::new());
    assert_eq!(why(), None);
    assert_eq!(addresses(&endpoint), ["127.0.0.1:443"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_the_address_of_a_server_is_not_dialled() {
    let dns = Dns::default();
    let sink = [
        "0.0.0.0",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "ff02::1",
        "::ffff:239.1.1.1",
        "255.255.255.255",
    ];
    dns.set("sink.test", &sink);
    dns.set("half.test", &["0.0.0.0", "::ffff:192.0.2.1"]);
    let endpoints = [named("sink.test", 443), named("half.test", 443)];
    let mut names = dns.start(&endpoints, &[]);
    names.first_pass().await;
    assert_eq!(addresses(&endpoints[0]), [""; 0]);
    assert_eq!(addresses(&endpoints[1]), ["192.0.2.1:443"]);
    // The next answer of DNS applies, and soon.
    dns.set("sink.test", &["192.0.2.2"]);
    seconds(3).await;
    assert_eq!(addresses(&endpoints[0]), ["192.0.2.2:443"]);
}

#[tokio::test(start_paused = true)]
async fn each_change_is_told_once() {
    if !alone("control::names::tests::each_change_is_told_once") {
        return;
    }
    let told = tempfile::NamedTempFile::new().unwrap();
    let _guard = tracing::subscriber::set_default(
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Arc::new(told.reopen().unwrap()))
            .finish(),
    );
    let dns = Dns::default();
    let endpoints = [named("es.test", 443), literal("127.0.0.1:443")];
    dns.set(
        "es.test",
        &["127.0.0.1", "192.0.2.1", "0.0.0.0", "224.0.0.1"],
    );
    let mut names = dns.start(&endpoints, &["127.0.0.1:443"]);
    names.first_pass().await;
    seconds(90).await;
    dns.set_down("es.test");
    seconds(45).await;
    dns.set("es.test", &["192.0.2.1"]);
    seconds(90).await;

    let told = std::fs::read_to_string(told.path()).unwrap();
    let count = |text| told.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("reason=\"loop\""), 2, "{told}");
    assert_eq!(count("cannot resolve"), 1, "{told}");
    assert_eq!(count("resolves again"), 1, "{told}");
    assert_eq!(count("reason=\"forbidden\""), 2, "{told}");
    assert_eq!(told.lines().count(), 6, "{told}");
}

/// The lines that are logged while the future runs.
async fn told(run: impl Future<Output = ()>) -> Vec<String> {
    let told = tempfile::NamedTempFile::new().unwrap();
    let guard = tracing::subscriber::set_default(
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Arc::new(told.reopen().unwrap()))
            .finish(),
    );
    run.await;
    drop(guard);
    let told = std::fs::read_to_string(told.path()).unwrap();
    told.lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_lasts_is_told_each_minute_with_what_stays_in_use() {
    if !alone(
        "control::names::tests::a_fault_that_lasts_is_told_each_minute_with_what_stays_in_use",
    ) {
        return;
    }
    let dns = Dns::default();
    let names = ["down.test", "kept.test", "self.test"];
    let endpoints = names.map(|name| named(name, 443));
    dns.set_down(names[0]);
    dns.set(names[1], &["192.0.2.2", "192.0.2.1"]);
    dns.set(names[2], &["127.0.0.1"]);
    let mut names = dns.start(&endpoints, &["127.0.0.1:443"]);
    let lines = told(async {
        names.first_pass().await;
        dns.set_down("kept.test");
        // At 0, 60, 120 and 180 s; the other name fails from 30 s on.
        seconds(200).await;
    })
    .await;
    let about = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(about("name=down.test"), 4, "{lines:#?}");
    assert_eq!(about("has no address for it"), 4, "{lines:#?}");
    assert_eq!(about("name=kept.test"), 3, "{lines:#?}");
    let kept = "addresses=\"192.0.2.1, 192.0.2.2\"";
    assert_eq!(about(kept), 3, "{lines:#?}");
    assert_eq!(about("stay in use"), 3, "{lines:#?}");
    assert_eq!(about("reason=\"loop\""), 4, "{lines:#?}");
    assert_eq!(about(" since="), lines.len(), "{lines:#?}");
    assert_eq!(about(" backend=\"backend\" "), lines.len(), "{lines:#?}");
    for (name, count) in [("down.test", 4), ("kept.test", 3)] {
        let endpoint = format!(" endpoint=\"{name}:443\" ");
        assert_eq!(about(&endpoint), count, "{lines:#?}");
    }
}

/// The look-ups on the page of metrics: those that failed as `unresolved`, `loop` and `forbidden`, and whether
/// one has succeeded.
fn look_ups(registry: &Registry, endpoint: &Endpoint) -> ([u64; 3], bool) {
    let page = registry.render();
    let of = format!("backend=\"fleet\",endpoint=\"{}\"", endpoint.name());
    let value = |series: &str| {
        let mut lines = page.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series}: {page}"))
    };
    let failures = ["unresolved", "loop", "forbidden"].map(|reason| {
        let series = format!("portway_resolve_failures_total{{{of},reason=\"{reason}\"}}");
        value(&series).parse().unwrap()
    });
    let at = value(&format!(
        "portway_endpoint_resolved_timestamp_seconds{{{of}}}"
    ));
    let at: f64 = at.parse().unwrap();
    (failures, at > 1e9)
}

#[tokio::test(start_paused = true)]
async fn look_ups_that_fail_are_counted_by_reason_and_the_last_good_one_has_its_time() {
    let (dns, registry) = (Dns::default(), Registry::new());
    let endpoints = ["down.test", "self.test", "sink.test", "half.test"].map(|host| {
        let stats = registry.endpoint("fleet", &format!("{host}:443"));
        named_with(host, 443, stats)
    });
    dns.set_down("down.test");
    dns.set("self.test", &["127.0.0.1"]);
    dns.set("sink.test", &["0.0.0.0"]);
    dns.set("half.test", &["127.0.0.1", "192.0.2.1"]);
    let mut names = dns.start(&endpoints, &["127.0.0.1:443"]);
    names.first_pass().await;
    let shown = || endpoints.each_ref().map(|it| look_ups(&registry, it));
    let [no, yes] = [false, true];
    assert_eq!(
        shown(),
        [
            ([1, 0, 0], no),
            ([0, 1, 0], no),
            ([0, 0, 1], no),
            ([0, 0, 0], yes)
        ]
    );
    // A name that leaves an endpoint without an address is asked for every 2 s, the others every 30 s.
    dns.set_down("half.test");
    seconds(31).await;
    assert_eq!(
        shown(),
        [
            ([16, 0, 0], no),
            ([0, 16, 0], no),
            ([0, 0, 16], no),
            ([1, 0, 0], yes)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_hangs_is_counted_at_its_limit_and_every_half_minute_and_not_when_it_ends() {
    let (dns, registry) = (Dns::default(), Registry::new());
    let stats = registry.endpoint("fleet", "slow.test:443");
    let endpoint = named_with("slow.test", 443, stats);
    let _names = dns.start(&[Arc::clone(&endpoint)], &[]);
    let shown = || look_ups(&registry, &endpoint).0;
    seconds(4).await;
    assert_eq!(shown(), [0, 0, 0]);
    seconds(30).await;
    assert_eq!((shown(), dns.asked("slow.test").len()), ([1, 0, 0], 1));
    // As long as it hangs, the counter shows that look-ups fail.
    seconds(2).await;
    assert_eq!((shown(), dns.asked("slow.test").len()), ([2, 0, 0], 1));
    seconds(300).await;
    assert_eq!((shown(), dns.asked("slow.test").len()), ([12, 0, 0], 1));
    // It ends at last, and the next one begins, which is another.
    dns.set_down("slow.test");
    seconds(2).await;
    assert_eq!((shown(), dns.asked("slow.test").len()), ([13, 0, 0], 2));
    let why = endpoint.unresolved().unwrap();
    assert_eq!(*why, Unresolved::failed("SERVFAIL".into()));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_without_an_address_knows_why() {
    let dns = Dns::default();
    let endpoints = ["down.test", "self.test", "sink.test", "kept.test"].map(|it| named(it, 443));
    dns.set_down("down.test");
    dns.set("self.test", &["127.0.0.1"]);
    dns.set("sink.test", &["0.0.0.0"]);
    dns.set("kept.test", &["192.0.2.1"]);
    let mut names = dns.start(&endpoints, &["127.0.0.1:443"]);
    names.first_pass().await;
    let why = || {
        endpoints
            .each_ref()
            .map(|it| it.unresolved().map(|why| (*why).clone()))
    };
    let excluded = |reason, at: &str| Some(Unresolved::excluded(reason, at.parse().unwrap()));
    let unresolved = || Some(Unresolved::failed("SERVFAIL".into()));
    let looping = excluded(ResolveFailure::Loop, "127.0.0.1:443");
    let forbidden = excluded(ResolveFailure::Forbidden, "0.0.0.0:443");
    let three = [unresolved(), looping, forbidden];
    assert_eq!(why()[..3], three);
    assert_eq!(why()[3], None);
    // The last one keeps its address when look-ups fail, and knows why that may be old, until that becomes our own.
    dns.set_down("kept.test");
    seconds(31).await;
    assert_eq!(why()[3], unresolved());
    assert_eq!(addresses(&endpoints[3]), ["192.0.2.1:443"]);
    dns.set("kept.test", &["192.0.2.1"]);
    seconds(31).await;
    assert_eq!(why()[3], None);
    names.update(&bearers(&endpoints), vec!["192.0.2.1:443".parse().unwrap()]);
    assert_eq!(why()[3], excluded(ResolveFailure::Loop, "192.0.2.1:443"));
    assert_eq!(addresses(&endpoints[3]), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_first_address_is_of_the_other_family_changes_the_order() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 1));
    dns.set("es.test", &["192.0.2.1", "2001:db8::1"]);
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    dns.set("es.test", &["2001:db8::1", "192.0.2.1"]);
    seconds(31).await;
    assert_eq!(addresses(&endpoint), ["[2001:db8::1]:1", "192.0.2.1:1"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_leaves_names_that_stay_their_turn_and_asks_for_new_ones_at_once() {
    let dns = Dns::default();
    for name in ["stays", "comes", "goes"] {
        dns.set(name, &["192.0.2.1"]);
    }
    let [stays, comes, goes] = ["stays", "comes", "goes"].map(|name| named(name, 1));
    let mut names = dns.start(&[Arc::clone(&stays), Arc::clone(&goes)], &[]);
    names.first_pass().await;
    seconds(10).await;
    names.update(
        &bearers(&[Arc::clone(&stays), Arc::clone(&comes)]),
        Vec::new(),
    );
    names.first_pass().await;
    assert_eq!(
        addresses(&comes),
        ["192.0.2.1:1"],
        "before a connection needs it"
    );
    seconds(55).await;
    let asked = |name| dns.asked(name).len();
    // At 0, 30 and 60 s; at 10 and 40 s; at 0 s.
    assert_eq!([asked("stays"), asked("comes"), asked("goes")], [3, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_new_has_the_addresses_of_its_name_at_once() {
    let dns = Dns::default();
    dns.set("name", &["192.0.2.1", "127.0.0.1"]);
    let one = named("name", 1);
    let mut names = dns.start(&[Arc::clone(&one)], &[]);
    names.first_pass().await;
    let other = named("name", 2);
    let own = vec!["127.0.0.1:2".parse().unwrap()];
    names.update(&bearers(&[one, Arc::clone(&other)]), own);
    assert_eq!(addresses(&other), ["192.0.2.1:2"], "but not our own");
}

#[tokio::test(start_paused = true)]
async fn invariant_10_an_address_that_becomes_our_own_is_left_out_at_once_and_comes_back_later() {
    let dns = Dns::default();
    dns.set("name", &["127.0.0.1"]);
    let endpoint = named("name", 9000);
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    assert_eq!(addresses(&endpoint), ["127.0.0.1:9000"]);
    let own = vec!["127.0.0.1:9000".parse().unwrap()];
    names.update(&bearers(&[Arc::clone(&endpoint)]), own);
    assert_eq!(addresses(&endpoint), [""; 0]);
    names.update(&bearers(&[Arc::clone(&endpoint)]), Vec::new());
    seconds(2).await;
    assert_eq!(addresses(&endpoint), ["127.0.0.1:9000"]);
}

/// An address of this host that is not loopback, if it has one and a route.
fn address_of_host() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    socket.connect(("198.51.100.1", 9)).ok()?;
    Some(socket.local_addr().unwrap().ip())
}

#[tokio::test(start_paused = true)]
async fn without_descriptors_an_address_stays_what_it_was() {
    if !alone("control::names::tests::without_descriptors_an_address_stays_what_it_was") {
        return;
    }
    let dns = Dns::default();
    let ours = address_of_host().map(|ip| ip.to_string());
    let theirs = "198.51.100.1".to_owned();
    dns.set("theirs.test", &[&theirs]);
    let mut expected = vec![true, true];
    let mut endpoints = vec![named("theirs.test", 443), literal(&format!("{theirs}:443"))];
    if let Some(ours) = ours {
        dns.set("ours.test", &[&ours]);
        expected.extend([false, false]);
        endpoints.extend([named("ours.test", 443), literal(&format!("{ours}:443"))]);
    }
    let own = vec!["0.0.0.0:443".parse().unwrap()];
    let mut names = dns.start(&endpoints, &["0.0.0.0:443"]);
    names.first_pass().await;
    let dialled = |endpoints: &[Arc<Endpoint>]| {
        let dialled = endpoints.iter().map(|it| !it.addresses().is_empty());
        dialled.collect::<Vec<_>>()
    };
    assert_eq!(dialled(&endpoints), expected);

    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..limit
    };
    setrlimit(Resource::Nofile, none).unwrap();
    assert!(UdpSocket::bind(("0.0.0.0", 0)).is_err());
    names.update(&bearers(&endpoints), own);
    let after_reload = dialled(&endpoints);
    seconds(31).await;
    let after_look_up = dialled(&endpoints);
    // Other addresses come, of which nothing is known.
    dns.set("theirs.test", &["198.51.100.2"]);
    seconds(31).await;
    let after_change = addresses(&endpoints[0]);
    setrlimit(Resource::Nofile, limit).unwrap();
    assert_eq!(after_reload, expected);
    assert_eq!(after_look_up, expected);
    assert_eq!(after_change, ["198.51.100.2:443"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_asked_for_again_when_it_is_no_longer_fresh() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 1));
    dns.set("es.test", &["192.0.2.1"]);
    dns.0.lock().unwrap().fresh = Duration::from_mins(10);
    let mut names = dns.start(&[Arc::clone(&endpoint)], &[]);
    names.first_pass().await;
    seconds(599).await;
    assert_eq!(dns.asked("es.test").len(), 1);
    dns.0.lock().unwrap().fresh = Duration::from_secs(5);
    seconds(2).await;
    assert_eq!(dns.asked("es.test").len(), 2);
    seconds(5).await;
    assert_eq!(dns.asked("es.test").len(), 3);
    // A failed dial does not wait for that.
    dns.0.lock().unwrap().fresh = Duration::from_mins(10);
    seconds(5).await;
    fail(&endpoint);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(dns.asked("es.test").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn each_resolver_is_asked_for_its_own_endpoints_and_the_rest_share_its_answer() {
    let dns = Dns::default();
    let (one, other) = (["192.0.2.53:53"], ["192.0.2.54:53"]);
    dns.set("es.test", &["192.0.2.1"]);
    dns.set("es.test@192.0.2.53:53", &["192.0.2.2"]);
    dns.set("es.test@192.0.2.54:53", &["192.0.2.3"]);
    let endpoints = [1, 2, 3, 4].map(|port| named("es.test", port));
    let servers: [&[&str]; 4] = [&[], &one, &other, &one];
    let bearers = |servers: [&[&str]; 4]| {
        let pairs = endpoints.iter().zip(servers);
        pairs
            .map(|(it, servers)| bearer(it, &[], servers))
            .collect()
    };
    let given: Vec<Bearer> = bearers(servers);
    let mut names = dns.start_bearers(&given, &[]);
    names.first_pass().await;
    let found = || {
        endpoints
            .each_ref()
            .map(|endpoint| addresses(endpoint).concat())
    };
    assert_eq!(
        found(),
        ["192.0.2.1:1", "192.0.2.2:2", "192.0.2.3:3", "192.0.2.2:4"]
    );
    assert_eq!(dns.asked("es.test@192.0.2.53:53").len(), 1);
    // An endpoint whose resolver changes has the answer of the new one at once, if there is one.
    let moved: Vec<Bearer> = bearers([&other, &one, &other, &[]]);
    names.update(&moved, Vec::new());
    assert_eq!(addresses(&endpoints[0]), ["192.0.2.3:1"]);
    names.first_pass().await;
    assert_eq!(addresses(&endpoints[3]), ["192.0.2.1:4"]);
}

#[tokio::test(start_paused = true)]
async fn names_of_one_resolver_that_hang_delay_none_of_another() {
    let dns = Dns::default();
    let mut given: Vec<Bearer> = (0..20)
        .map(|n| bearer(&named(&format!("a-{n}.test"), 1), &[], &["192.0.2.53:53"]))
        .collect();
    let good = named("good.test", 1);
    given.push(bearer(&good, &[], &["192.0.2.54:53"]));
    dns.set("good.test@192.0.2.54:53", &["192.0.2.1"]);
    let _names = dns.start_bearers(&given, &[]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(addresses(&good), ["192.0.2.1:1"]);
}

#[tokio::test(start_paused = true)]
async fn each_backend_is_dialled_only_where_it_allows() {
    let dns = Dns::default();
    dns.set("es.test", &["192.0.2.1", "198.51.100.1", "127.0.0.1"]);
    let endpoints = [1, 2, 3, 4].map(|port| named("es.test", port));
    let networks: [&[&str]; 4] = [&[], &["192.0.2.0/24"], &["0.0.0.0/0"], &["10.0.0.0/8"]];
    let bearers = |networks: [&[&str]; 4]| -> Vec<Bearer> {
        let pairs = endpoints.iter().zip(networks);
        pairs.map(|(it, list)| bearer(it, list, &[])).collect()
    };
    let mut names = dns.start_bearers(&bearers(networks), &[]);
    names.first_pass().await;
    let found = || {
        endpoints
            .each_ref()
            .map(|endpoint| addresses(endpoint).len())
    };
    assert_eq!(found(), [3, 1, 2, 0]);
    let why = endpoints[3].unresolved().unwrap();
    let first = "192.0.2.1:4".parse().unwrap();
    assert_eq!(*why, Unresolved::excluded(ResolveFailure::Forbidden, first));
    // A reload takes away at once what is no longer allowed, also while DNS fails.
    dns.set_down("es.test");
    names.update(
        &bearers([&["127.0.0.0/8"], &["10.0.0.0/8"], &[], &[]]),
        Vec::new(),
    );
    assert_eq!(found(), [1, 0, 2, 1]);
    // The addresses that it allows anew come with the next answer, for which it asks.
    dns.set("es.test", &["192.0.2.1", "198.51.100.1", "127.0.0.1"]);
    seconds(2).await;
    assert_eq!(found(), [1, 0, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_hangs_over_a_change_of_the_resolver_changes_nothing_when_it_ends() {
    for late in [&["198.51.100.1"][..], &["127.0.0.1"]] {
        let (dns, endpoint) = (Dns::default(), named("es.test", 1));
        let bearers = |servers| [bearer(&endpoint, &["192.0.2.0/24"], &[servers])];
        let before = [bearer(&endpoint, &[], &["192.0.2.53:53"])];
        let mut names = dns.start_bearers(&before, &["127.0.0.1:1"]);
        seconds(2).await;
        dns.set("es.test@192.0.2.54:53", &["192.0.2.1"]);
        let own = vec!["127.0.0.1:1".parse().unwrap()];
        names.update(&bearers("192.0.2.54:53"), own);
        names.first_pass().await;
        assert_eq!(addresses(&endpoint), ["192.0.2.1:1"]);
        // Only now the first resolver answers, of which nobody wants to know any more.
        dns.set("es.test@192.0.2.53:53", late);
        seconds(2).await;
        assert_eq!(addresses(&endpoint), ["192.0.2.1:1"], "not {late:?}");
        assert_eq!(dns.asked("es.test@192.0.2.53:53").len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_ends_the_look_ups() {
    let (dns, endpoint) = (Dns::default(), named("es.test", 1));
    dns.set("es.test", &["192.0.2.1"]);
    let mut names = dns.start(&[endpoint], &[]);
    names.first_pass().await;
    drop(names);
    seconds(120).await;
    assert_eq!(dns.asked("es.test").len(), 1);
}

/// With the system's resolver, for which `localhost` needs no network.
#[tokio::test]
async fn the_systems_resolver_finds_localhost() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = named("localhost", listener.local_addr().unwrap().port());
    let mut names = Names::start(&bearers(&[Arc::clone(&endpoint)]), Vec::new());
    names.first_pass().await;
    let address = listener.local_addr().unwrap().to_string();
    assert!(addresses(&endpoint).contains(&address));
}

fn stats() -> Arc<EndpointStats> {
    Registry::new().endpoint("backend", "endpoint")
}
