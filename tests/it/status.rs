//! The status pages: what they show, to whom, and what a look does to connections.

mod command;
mod many;
mod page;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::fixture::{NAME, PATIENCE, Portway, config, route, within};
use super::hello::Builder;
use super::peers::{Backend, free, read_to_end};

/// The head and the body of the answer to a request, which is sent as it is.
fn ask(admin: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// A page for a client that asks for it by an address.
fn page(portway: &Portway, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    ask(portway.admin(), &request)
}

/// The page as a person reads it: without its marks.
pub(super) fn read(portway: &Portway) -> String {
    let (_, body) = page(portway, "/");
    let texts = body.split('<').filter_map(|part| part.split_once('>'));
    let text: String = texts.map(|(_tag, text)| text).collect();
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text, |text, (escaped, character)| {
        text.replace(escaped, character)
    })
}

fn json(portway: &Portway, path: &str) -> Value {
    let (head, body) = page(portway, path);
    assert!(head.starts_with("http/1.1 200 "), "{head}\n{body}");
    assert!(body.is_ascii() && body.ends_with('\n'), "{body:?}");
    serde_json::from_str(&body).unwrap()
}

pub(super) fn status(portway: &Portway) -> Value {
    json(portway, "/status")
}

fn connections(portway: &Portway, query: &str) -> Value {
    json(portway, &format!("/connections?{query}"))
}

/// Opens a connection whose hello has this name, and which its backend has answered.
fn relayed(portway: &Portway, name: &str) -> TcpStream {
    let mut client = super::peers::connect(portway.address("agents"));
    let hello = Builder::new(name).build();
    client.write_all(&hello).unwrap();
    client.read_exact(&mut hello.clone()).unwrap();
    client
}

/// Sends bytes that portway refuses, and waits for the end.
fn refused(portway: &Portway, bytes: &[u8]) {
    // A connection above a limit may be reset before connect() returns.
    let Ok(mut client) = TcpStream::connect(portway.address("agents")) else {
        return;
    };
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(client.write_all(bytes));
    read_to_end(&mut client);
}

/// The row of the refused that has these values, once it counts so many.
fn row(portway: &Portway, fields: &[(&str, &str)], count: u64) -> Value {
    within(PATIENCE, "a row of the refused", || {
        let status = status(portway);
        let mut rows = status["refused"].as_array().unwrap().iter();
        let is_it = |row: &&Value| fields.iter().all(|(name, value)| row[name] == *value);
        rows.find(is_it)
            .filter(|row| row["count"] == count)
            .cloned()
    })
}

/// Checks values by their places (RFC 6901).
#[track_caller]
fn has(value: &Value, fields: &[(&str, Value)]) {
    for (place, expected) in fields {
        let seen = value.pointer(place);
        assert_eq!(seen, Some(expected), "{place}: {value:#}");
    }
}

#[test]
fn the_status_has_the_configuration_the_counts_and_the_limits() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "max_connections = 7", "");
    let portway = Portway::start(&toml);
    let clients = [relayed(&portway, NAME), relayed(&portway, NAME)];
    let status = status(&portway);
    let hash = format!("{:08x}", crc32fast::hash(toml.as_bytes()));
    let bound = portway.address("agents").to_string();
    has(
        &status,
        &[
            ("/version", env!("CARGO_PKG_VERSION").into()),
            ("/pid", portway.pid().into()),
            ("/stage", "ready".into()),
            ("/predecessor", "none".into()),
            ("/silent_workers", 0.into()),
            (
                "/configuration/file",
                portway.file().to_str().unwrap().into(),
            ),
            ("/configuration/generation", 1.into()),
            ("/configuration/hash", hash.into()),
            ("/totals/connections", 2.into()),
            ("/totals/accepted", 2.into()),
            ("/listeners/0/name", "agents".into()),
            ("/listeners/0/protocol", "tls".into()),
            ("/listeners/0/addresses/0", bound.into()),
            ("/listeners/0/connections", 2.into()),
            ("/routes/0/server_names", NAME.into()),
            ("/routes/0/backend", "fleet".into()),
            ("/routes/0/connections", 2.into()),
            ("/limits/0/name", "max_connections".into()),
            ("/limits/0/used", 2.into()),
            ("/limits/0/limit", 7.into()),
            ("/limits/0/near", false.into()),
            ("/refused", Value::Array(Vec::new())),
        ],
    );
    assert_eq!(status.get("drain"), None);
    let descriptors = status["limits"].as_array().unwrap().last().unwrap();
    assert_eq!(descriptors["name"], "descriptors");
    assert!(descriptors["used"].as_u64().unwrap() > 5);
    drop(clients);
}

#[test]
fn an_endpoint_has_its_addresses_with_their_state_and_failures() {
    let (backend, dead) = (Backend::echo(), free());
    let toml = config(&[backend.address(), dead], "", "balance = \"round_robin\"");
    let portway = Portway::start(&toml);
    // One of them is to go to the dead endpoint first.
    let clients = [relayed(&portway, NAME), relayed(&portway, NAME)];
    let shown = status(&portway)["backends"][0].clone();
    has(
        &shown,
        &[
            ("/name", "fleet".into()),
            ("/connections", 2.into()),
            ("/endpoints/0/name", backend.address().to_string().into()),
            ("/endpoints/0/role", "active".into()),
            ("/endpoints/0/connections", 2.into()),
            (
                "/endpoints/0/addresses/0/address",
                backend.address().to_string().into(),
            ),
            ("/endpoints/0/addresses/0/state", "healthy".into()),
            ("/endpoints/0/addresses/0/failures", 0.into()),
            ("/endpoints/1/dial_failures/refused", 1.into()),
            ("/endpoints/1/addresses/0/state", "failed".into()),
            ("/endpoints/1/addresses/0/failures", 1.into()),
        ],
    );
    assert!(shown["bytes_backend_to_client"].as_u64().unwrap() > 200);
    let penalty = &shown["endpoints"][1]["addresses"][0]["penalty_ms"];
    assert!(penalty.as_u64().unwrap() <= 10_000);
    drop(clients);
}

#[test]
fn a_limit_in_use_to_80_percent_is_near_and_one_that_rejects_too() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "max_connections = 5", ""));
    let clients: Vec<_> = (0..4).map(|_| relayed(&portway, NAME)).collect();
    let near = |name: &str| {
        let status = status(&portway);
        let mut limits = status["limits"].as_array().unwrap().iter();
        limits.find(|limit| limit["name"] == name).unwrap()["near"] == true
    };
    assert!(near("max_connections") && !near("max_connections_per_client"));
    let _fifth = relayed(&portway, NAME);
    refused(&portway, b"");
    let fields = [("outcome", "overloaded"), ("reason", "max_connections")];
    let row = row(&portway, &fields, 1);
    assert!(
        row["remedy"]
            .as_str()
            .unwrap()
            .contains("limits.max_connections"),
        "{row}"
    );
    drop(clients);
    within(
        PATIENCE,
        "the limit has rejected one in the last minute",
        || {
            let few = status(&portway)["totals"]["connections"].as_u64()? < 3;
            (few && near("max_connections")).then_some(())
        },
    );
}

/// Six connections to `fleet`, one to `other`, and one without a whole hello.
struct Several {
    portway: Portway,
    backends: [Backend; 2],
    clients: Vec<TcpStream>,
    _waiting: TcpStream,
}

impl Several {
    fn open() -> Self {
        let backends = [Backend::echo(), Backend::echo()];
        let [fleet, other] = backends.each_ref().map(Backend::address);
        let toml = config(&[fleet], "", "") + &route("other", other, "");
        let portway = Portway::start(&format!("workers = 2\n{toml}"));
        let names = [NAME, NAME, NAME, NAME, NAME, NAME, "other.example"];
        let clients = names.map(|name| relayed(&portway, name)).into();
        let waiting = super::peers::connect(portway.address("agents"));
        within(PATIENCE, "all are there", || {
            (connections(&portway, "")["total"] == 8).then_some(())
        });
        Self {
            portway,
            backends,
            clients,
            _waiting: waiting,
        }
    }

    fn client(&self, position: usize) -> Value {
        self.clients[position]
            .local_addr()
            .unwrap()
            .to_string()
            .into()
    }

    fn ids(&self, query: &str) -> Vec<String> {
        let page = connections(&self.portway, query);
        let rows = page["connections"].as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn connections_are_filtered_by_client_name_backend_route_and_phase() {
    let several = Several::open();
    for (query, matching) in [
        ("", 8),
        ("server_name=Fleet.Example", 6),
        ("backend=other", 1),
        ("route=fleet", 6),
        ("phase=hello", 1),
        ("phase=relay", 7),
        ("client=127.0.0.0/8", 8),
        ("client=192.0.2.1", 0),
        ("backend=other&phase=hello", 0),
    ] {
        let page = connections(&several.portway, query);
        assert_eq!(page["matching"], matching, "{query}");
        assert_eq!(several.ids(query).len(), matching, "{query}");
    }
    let row = &connections(&several.portway, "backend=other")["connections"][0];
    let address: Value = several.backends[1].address().to_string().into();
    has(
        row,
        &[
            ("/client", several.client(6)),
            ("/listener", "agents".into()),
            ("/server_name", "other.example".into()),
            ("/route", "other".into()),
            ("/backend", "other".into()),
            ("/endpoint", address.clone()),
            ("/address", address),
            ("/phase", "relay".into()),
        ],
    );
    assert!(row["bytes_client_to_backend"].as_u64().unwrap() > 100);
    let waits = &connections(&several.portway, "phase=hello")["connections"][0];
    let absent = ["server_name", "idle_s", "backend"].map(|name| waits.get(name));
    assert_eq!(absent, [None; 3]);
}

#[test]
fn connections_are_sorted_and_paged() {
    let mut several = Several::open();
    several.clients[3].write_all(&[b'x'; 5000]).unwrap();
    several.clients[3].read_exact(&mut [0; 5000]).unwrap();
    let first = |sort: &str| {
        let page = connections(&several.portway, &format!("sort={sort}&limit=1"));
        assert_eq!(page.get("next"), None);
        page["connections"][0]["client"].clone()
    };
    assert_eq!(first("bytes"), several.client(3));
    assert_eq!(first("age"), several.client(0));

    let (mut paged, mut query) = (Vec::new(), "limit=3".to_owned());
    loop {
        let page = connections(&several.portway, &query);
        assert_eq!(page["matching"], 8);
        paged.extend(several.ids(&query));
        let Some(next) = page.get("next") else { break };
        query = format!("limit=3&after={}", next.as_str().unwrap());
    }
    assert_eq!(paged, several.ids(""));
    assert_eq!(paged.iter().collect::<BTreeSet<_>>().len(), 8);
}

#[test]
fn whoever_is_refused_is_shown_with_name_cause_time_and_remedy() {
    let dead = free();
    let portway = Portway::start(&config(&[dead], "", "dial_timeout = \"5s\""));
    for _ in 0..3 {
        refused(&portway, &Builder::new("flet.example").build());
    }
    let row_of_name = row(
        &portway,
        &[("outcome", "no_route"), ("name", "flet.example")],
        3,
    );
    assert_eq!(
        (&row_of_name["clients"], &row_of_name["client"]),
        (&"127.0.0.0/24".into(), &"127.0.0.1".into())
    );
    assert_eq!(
        (&row_of_name["nearest"], &row_of_name["listener"]),
        (&NAME.into(), &"agents".into())
    );
    assert!(
        row_of_name["remedy"]
            .as_str()
            .unwrap()
            .contains("portway explain")
    );
    assert!(row_of_name["first_seen"].as_str() <= row_of_name["last_seen"].as_str());

    refused(&portway, b"GET / HTTP/1.1\r\n\r\n");
    let plain = row(&portway, &[("outcome", "not_tls")], 1);
    assert!(
        plain["detail"].as_str().unwrap().starts_with("HTTP GET"),
        "{plain}"
    );
    assert_eq!(plain.get("name"), None);

    refused(&portway, &Builder::new(NAME).build());
    let failed = row(
        &portway,
        &[("outcome", "backend_unavailable"), ("reason", "refused")],
        1,
    );
    assert_eq!(
        (&failed["backend"], &failed["name"]),
        (&"fleet".into(), &NAME.into())
    );
    // Those seen last come first.
    assert_eq!(
        status(&portway)["refused"][0]["outcome"],
        "backend_unavailable"
    );
    // A check of a balancer is not refused.
    drop(super::peers::connect(portway.address("agents")));
    within(PATIENCE, "the probe is counted", || {
        let status = status(&portway);
        let is_there = status["totals"]["outcomes"]["probe"] == 1;
        assert_eq!(status["refused"].as_array().unwrap().len(), 3);
        is_there.then_some(())
    });
}

#[test]
fn a_reload_that_was_refused_is_shown_until_one_succeeds() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    assert_eq!(
        status(&portway)["configuration"].get("refused_reload"),
        None
    );
    portway.write("[listeners.agents]\nbind = 7\n");
    assert!(!portway.reload().status.success());
    let configuration = status(&portway)["configuration"].clone();
    let faults = configuration["refused_reload"]["faults"]
        .as_array()
        .unwrap();
    let mut lines = faults.iter().filter_map(Value::as_str);
    assert!(
        lines.any(|line| line.contains("agents.bind: 7 is a number")),
        "{faults:?}"
    );
    assert_eq!(configuration["generation"], 1);
    portway.reload_with(&format!("{toml}# changed\n"));
    let configuration = status(&portway)["configuration"].clone();
    assert_eq!(
        (
            &configuration["generation"],
            configuration.get("refused_reload")
        ),
        (&2.into(), None)
    );
}

/// Asks for a page as a host, and returns the status, the head and the body.
fn as_host(portway: &Portway, path: &str, host: &str) -> (String, String, String) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n"
    );
    let (head, body) = ask(portway.admin(), &request);
    assert!(head.contains("\r\ncache-control: no-store"), "{head}");
    (head.split(' ').nth(1).unwrap().to_owned(), head, body)
}

#[test]
fn the_pages_are_only_for_hosts_that_nobody_else_can_own_and_only_read() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    for path in ["/status", "/connections"] {
        let (status, head, _) = as_host(&portway, path, "localhost:9355");
        assert_eq!(status, "200");
        let headers = [
            "content-type: application/json",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
            "cross-origin-resource-policy: same-origin",
        ];
        let missing = headers.iter().find(|header| !head.contains(**header));
        assert_eq!(missing, None, "{head}");
        assert!(!head.contains("access-control"), "{head}");
        let (status, head, body) = as_host(&portway, path, "evil.example");
        let is_told = body.contains("admin.hosts") && head.contains("x-frame-options: deny");
        assert_eq!((status.as_str(), is_told), ("421", true), "{head} {body}");
        let post = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let (head, _) = ask(portway.admin(), &post);
        assert!(head.starts_with("http/1.1 405 ") && head.contains("\r\nallow: get\r\n"));
    }
    let (status, _, body) = as_host(&portway, "/connections?sort=size", "127.0.0.1");
    assert_eq!(
        (status.as_str(), body.contains("write one of id")),
        ("400", true)
    );
    // Scrapers and probes may use any name, as before.
    assert_eq!(as_host(&portway, "/metrics", "portway.internal").0, "200");
}

#[test]
fn the_pages_are_only_for_the_clients_of_the_file_which_a_reload_changes() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let with = |keys: &str| toml.replacen("[limits]", &format!("{keys}\n[limits]"), 1);
    let portway = Portway::start(&toml);
    assert_eq!(as_host(&portway, "/status", "relay.internal").0, "421");
    portway.reload_with(&with("admin.hosts = [\"relay.internal\"]"));
    assert_eq!(as_host(&portway, "/status", "relay.internal").0, "200");
    for keys in [
        "admin.status_clients = false",
        "admin.status_clients = [\"192.0.2.0/24\"]",
    ] {
        portway.reload_with(&with(keys));
        let (status, _, body) = as_host(&portway, "/status", "127.0.0.1");
        let is_told = body.contains("admin.status_clients") && body.contains("127.0.0.1");
        assert_eq!((status.as_str(), is_told), ("403", true), "{body}");
        assert_eq!(as_host(&portway, "/livez", "127.0.0.1").0, "200");
    }
}

/// The fields in the table behind these words of the page.
fn documented(words: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/status.md");
    let section = page.split(words).nth(1);
    let rows = section.unwrap().lines();
    let rows = rows.skip_while(|line| !line.starts_with("| field"));
    let rows = rows.skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

#[test]
fn every_field_is_in_the_documents_and_nothing_else() {
    let (backend, dead) = (Backend::echo(), free());
    let toml = config(&[backend.address(), dead], "", "balance = \"round_robin\"");
    let portway = Portway::start(&toml);
    let _clients = [relayed(&portway, NAME), relayed(&portway, NAME)];
    refused(&portway, &Builder::new("flet.example").build());
    row(&portway, &[("outcome", "no_route")], 1);
    portway.write("x");
    assert!(!portway.reload().status.success());
    let (status, page) = (status(&portway), connections(&portway, "limit=1"));
    let certificate = portway::status::CertificateSeen::default();
    let certificate = serde_json::to_value(certificate).unwrap();
    let tables: [(&Value, &str, &str, &[&str]); 13] = [
        (&status, "", "## /status", &["drain"]),
        (&status, "/configuration", "`configuration` has", &[]),
        (&status, "/totals", "`totals` has", &[]),
        (&status, "/limits/0", "Each of `limits`", &[]),
        (
            &status,
            "/refused/0",
            "Each of `refused`",
            &["backend", "detail", "reason"],
        ),
        (&status, "/listeners/0", "Each of `listeners`", &[]),
        (&status, "/routes/0", "Each of `routes`", &[]),
        (&status, "/backends/0", "Each of `backends`", &["via"]),
        (
            &status,
            "/backends/0/endpoints/1",
            "Each of `endpoints`",
            &["weight", "unresolved"],
        ),
        (
            &status,
            "/backends/0/endpoints/1/addresses/0",
            "Each of `addresses`",
            &["certificate"],
        ),
        (&certificate, "", "A `certificate` has", &["not_after"]),
        (&page, "", "connections behind this id", &[]),
        (
            &page,
            "/connections/0",
            "Each of `connections`",
            &["proxied_by", "target"],
        ),
    ];
    for (value, place, words, absent) in tables {
        let object = value.pointer(place).unwrap().as_object().unwrap();
        let mut shown: BTreeSet<String> = object.keys().cloned().collect();
        shown.extend(absent.iter().map(|field| (*field).to_owned()));
        assert_eq!(shown, documented(words), "{place}");
    }
}
