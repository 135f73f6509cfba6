//! The certificates of servers that checks see: their metric, and the lines about those that clients refuse.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::SystemTime;

use serde_json::Value;

use super::clock::Clock;
use super::doctor::servers::Tls;
use super::fixture::{NAME, PATIENCE, Portway, config, message, missing, within};
use super::peers::Backend;
use super::status::status;

const WARNING: &str = "clients refuse a certificate of the endpoint, or will soon";
const NOT_AFTER: &str = "portway_backend_certificate_not_after_timestamp_seconds";
const DAY: u64 = 86_400;

/// Rules with a check that asks for the name of the route.
fn health() -> String {
    format!(
        "health = {{ check = \"tls\", server_name = {NAME:?}, interval = \"2s\", timeout = \"2s\" }}"
    )
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// The value of the series of an endpoint, if it has one.
fn not_after(portway: &Portway, endpoint: SocketAddr) -> Option<u64> {
    let labels = format!("{{backend=\"fleet\",endpoint=\"{endpoint}\"}}");
    portway.metrics().find(&format!("{NOT_AFTER}{labels}"))
}

/// How many checks of an endpoint have passed.
fn passed(portway: &Portway, endpoint: SocketAddr) -> u64 {
    let labels = format!("backend=\"fleet\",endpoint=\"{endpoint}\",result=\"passed\"");
    portway.count(&format!("portway_health_checks_total{{{labels}}}"))
}

/// Waits until each endpoint has passed so many checks.
fn until_passed(portway: &Portway, endpoints: &[SocketAddr], count: u64) {
    within(PATIENCE, "checks pass", || {
        let mut endpoints = endpoints.iter();
        endpoints
            .all(|endpoint| passed(portway, *endpoint) >= count)
            .then_some(())
    });
}

/// Kind and words of the lines about an endpoint.
fn warnings(portway: &Portway, endpoint: SocketAddr) -> Vec<(String, String)> {
    let lines = portway.program.all();
    let about = |line: &&Value| {
        message(line) == WARNING && line["fields"]["endpoint"] == endpoint.to_string()
    };
    let field = |line: &Value, name: &str| line["fields"][name].as_str().unwrap().to_owned();
    let lines = lines.iter().filter(about);
    lines
        .map(|line| (field(line, "problem"), field(line, "reason")))
        .collect()
}

#[test]
fn the_metric_has_the_end_of_each_certificate_and_the_log_says_once_what_is_wrong() {
    let begin = now();
    let well = Tls::new(&[NAME]).lasting(90).mutual().start();
    let soon = Tls::new(&[NAME]).lasting(10).start();
    let expired = Tls::new(&[NAME]).expired().start();
    let other = Tls::new(&["other.example"]).lasting(40).start();
    let authority = Tls::new(&[NAME])
        .lasting(90)
        .under_an_authority_lasting(5)
        .start();
    let newest = Tls::new(&[NAME]).lasting(3).tls13().start();
    let servers = [&well, &soon, &expired, &other, &authority, &newest];
    let endpoints = servers.map(Backend::address);
    let portway = Portway::start(&config(&endpoints, "", &health()));
    until_passed(&portway, &endpoints, 3);

    let ends = endpoints.map(|endpoint| not_after(&portway, endpoint));
    // The first of January 2021, and days from now on.
    let wanted = [
        Some(begin + 90 * DAY),
        Some(begin + 10 * DAY),
        Some(1_609_459_200),
        Some(begin + 40 * DAY),
        Some(begin + 5 * DAY),
        None,
    ];
    for (end, wanted) in ends.into_iter().zip(wanted) {
        let late = end.zip(wanted).map(|(end, wanted)| end - wanted);
        assert!(
            late.is_none_or(|late| late <= PATIENCE.as_secs()),
            "{end:?} {wanted:?}"
        );
        assert_eq!(end.is_some(), wanted.is_some());
    }
    are_in_the_status(&portway);

    let warned = endpoints.map(|endpoint| warnings(&portway, endpoint));
    let kinds = warned.each_ref().map(|lines| {
        let kinds = lines.iter().map(|(kind, _)| kind.as_str());
        kinds.collect::<Vec<_>>().join(" ")
    });
    assert_eq!(
        kinds,
        [
            "",
            "certificate_expires_soon",
            "certificate_expired",
            "wrong_name",
            "certificate_expires_soon",
            ""
        ]
    );
    let words = |of: usize| &warned[of][0].1;
    assert!(words(1).starts_with("the certificate expires on "));
    assert!(words(1).ends_with(", in 9 days"), "{}", words(1));
    assert_eq!(words(2), "the certificate expired on 2021-01-01");
    let wrong = format!("the certificate is not for {NAME}: it has other.example");
    assert_eq!(*words(3), wrong);
    let authority = "the certificate of the authority CN=Test CA expires on ";
    assert!(words(4).starts_with(authority), "{}", words(4));
}

/// Checks what the status says of these certificates.
fn are_in_the_status(portway: &Portway) {
    let shown = status(portway);
    let of = |at: usize| &shown["backends"][0]["endpoints"][at]["addresses"][0]["certificate"];
    let wanted = [
        "valid",
        "certificate_expires_soon",
        "certificate_expired",
        "valid",
        "certificate_expires_soon",
        "encrypted",
    ];
    for (at, state) in wanted.into_iter().enumerate() {
        assert_eq!(of(at)["state"], state, "{at}");
    }
    assert_eq!(of(2)["not_after"], "2021-01-01T00:00:00.000Z");
    assert_eq!(of(5).get("not_after"), None);
}

/// The checks of another kind, and no checks, leave no certificate.
#[test]
fn a_reload_that_takes_the_tls_checks_away_ends_the_metric() {
    let server = Tls::new(&[NAME]).lasting(90).start();
    let endpoint = server.address();
    let toml = |keys: &str| config(&[endpoint], "", keys);
    let portway = Portway::start(&toml(&health()));
    let seen = || not_after(&portway, endpoint);
    within(PATIENCE, "the certificate is seen", seen);
    let tcp = "health = { check = \"tcp\", interval = \"2s\", timeout = \"2s\" }";
    portway.reload_with(&toml(tcp));
    assert_eq!(seen(), None);
    portway.reload_with(&toml(&health()));
    within(PATIENCE, "the certificate is seen again", seen);
    portway.reload_with(&toml(""));
    assert_eq!(seen(), None);
}

#[test]
fn a_certificate_is_warned_of_from_14_days_before_its_end_and_again_once_it_has_expired() {
    let Some(clock) = Clock::new() else {
        return;
    };
    let server = Tls::new(&[NAME]).lasting(15).start();
    let endpoint = server.address();
    let toml = config(&[endpoint], "", &health());
    let portway = Portway::start_by(clock.portway(), &toml, Stdio::piped());
    until_passed(&portway, &[endpoint], 2);
    assert_eq!(warnings(&portway, endpoint), []);
    let mut wanted = Vec::new();
    for (jump, problem) in [
        ("+2d", "certificate_expires_soon"),
        ("+16d", "certificate_expired"),
    ] {
        clock.jump(jump);
        wanted.push(problem);
        let kinds = within(PATIENCE, "the flaw is logged", || {
            let warned = warnings(&portway, endpoint).into_iter();
            let kinds: Vec<String> = warned.map(|(kind, _)| kind).collect();
            (kinds.len() >= wanted.len()).then_some(kinds)
        });
        assert_eq!(kinds, wanted);
    }
}

/// A server of OpenSSL, until it is dropped.
struct OpenSsl {
    child: Child,
    address: SocketAddr,
}

impl OpenSsl {
    /// One of TLS 1.2 that sends the authority too, and asks for a certificate of the client.
    fn start(tls: &Tls) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (authority, certificate, key) = tls.certificates();
        let file = |name: &str, pem: String| {
            let path = directory.path().join(name);
            fs::write(&path, pem).unwrap();
            path
        };
        let mut command = Command::new("openssl");
        command
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-tls1_2",
                "-Verify",
                "1",
            ])
            .arg("-cert")
            .arg(file("own.pem", certificate.pem()))
            .arg("-key")
            .arg(file("key.pem", key.serialize_pem()))
            .arg("-cert_chain")
            .arg(file("authority.pem", authority.as_ref().pem()))
            // It leaves once this ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else {
            missing("openssl", "install openssl");
            return None;
        };
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("ACCEPT ")?.parse().ok());
        // It goes on writing, and nobody needs that.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self {
            child,
            address: address.unwrap(),
        })
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_server_of_openssl_that_asks_for_a_certificate_shows_its_chain() {
    let tls = Tls::new(&[NAME]).lasting(90).under_an_authority_lasting(10);
    let begin = now();
    let Some(server) = OpenSsl::start(&tls) else {
        return;
    };
    let portway = Portway::start(&config(&[server.address], "", &health()));
    let end = within(PATIENCE, "the certificate is seen", || {
        not_after(&portway, server.address)
    });
    let wanted = begin + 10 * DAY;
    assert!((wanted..wanted + PATIENCE.as_secs()).contains(&end));
    let lines = within(PATIENCE, "the flaw is logged", || {
        Some(warnings(&portway, server.address)).filter(|lines| !lines.is_empty())
    });
    assert_eq!(lines[0].0, "certificate_expires_soon");
}
