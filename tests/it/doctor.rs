//! `portway doctor` against servers that are well, and against each fault that it has a sentence for.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::fixture::{PORTWAY, Portway};
use super::peers::{Backend, Refusing, Unanswering, free};
use super::resolver::server::Server;
use servers::Tls;

pub(super) mod servers;
mod through;

const NAME: &str = "fleet.example";

/// A routes.toml that leads this name, or these as the text of a list has them, to one endpoint.
fn routes(endpoint: &str, names: &str) -> String {
    format!(
        "admin.bind = false\n[listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
         [backends.fleet]\nendpoints = [\"{endpoint}\"]\nconnect_timeout = \"300ms\"\n\
         [routes.fleet]\nserver_names = [{names}]\nbackend = \"fleet\"\n"
    )
}

fn doctor(toml: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("routes.toml"), toml).unwrap();
    let mut command = Command::new(PORTWAY);
    command.arg("doctor").args(arguments);
    command
        .current_dir(directory.path())
        .env_remove("PORTWAY_CONFIG");
    command.output().unwrap()
}

/// The text that it shows of the endpoints, with the limits of this machine left out.
fn told(toml: &str) -> String {
    let output = doctor(toml, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (endpoints, rest) = text.split_once("this machine\n").unwrap();
    let (_, findings) = rest.split_once("\n\n").unwrap();
    let findings = findings.split_inclusive("\n\n");
    let findings = findings.filter(|finding| finding.contains(": backend "));
    let findings: String = findings.collect();
    let status = output.status.code().unwrap();
    plain(&format!("{endpoints}{findings}status {status}\n"))
}

/// The text without ports and times, which vary.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let next = words.iter().skip(1).map(Some).chain([None]);
    let plain = words.iter().zip(next).map(|(word, next)| {
        let address = word.trim_end_matches([',', '\n']);
        if next.is_some_and(|next| next.starts_with("ms")) {
            "N".to_owned()
        } else if let Some(rest) = word
            .strip_prefix(address)
            .filter(|_| address.contains("127.0.0.1:"))
        {
            let (before, _) = address.split_once("127.0.0.1:").unwrap();
            format!("{before}127.0.0.1:PORT{rest}")
        } else {
            (*word).to_owned()
        }
    });
    plain.collect::<Vec<_>>().join(" ")
}

fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "doctor",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

/// Compares the text for one server with a snapshot.
fn assert_told(name: &str, server: &Backend) {
    let toml = routes(&server.address().to_string(), &format!("{NAME:?}"));
    assert_snapshot(name, &told(&toml));
}

#[test]
fn a_healthy_server_of_mutual_tls_is_well() {
    assert_told("healthy", &Tls::new(&[NAME]).mutual().start());
}

#[test]
fn a_certificate_for_another_name_is_told() {
    assert_told(
        "wrong_name",
        &Tls::new(&["other.example", "*.other.example"]).start(),
    );
}

#[test]
fn a_certificate_that_has_expired_is_told() {
    assert_told("expired", &Tls::new(&[NAME]).expired().start());
}

#[test]
fn a_server_of_tls_13_only_is_well_and_its_certificate_is_not_seen() {
    assert_told("tls13", &Tls::new(&[NAME]).tls13().start());
}

#[test]
fn a_blackhole_is_told_after_the_time_limit() {
    let blackhole = Unanswering::new();
    let toml = routes(&blackhole.address().to_string(), &format!("{NAME:?}"));
    assert_snapshot("blackhole", &told(&toml));
}

#[test]
fn a_refused_port_is_told() {
    let refusing = Refusing::new();
    let toml = routes(&refusing.address().to_string(), &format!("{NAME:?}"));
    assert_snapshot("refused", &told(&toml));
}

#[test]
fn a_server_of_plain_http_is_told() {
    assert_told("http", &servers::http());
}

#[test]
fn a_server_of_ssh_is_told() {
    assert_told("ssh", &servers::ssh());
}

#[test]
fn a_server_that_says_nothing_is_told() {
    assert_told("silent", &Backend::holding());
}

#[test]
fn a_server_that_closes_and_one_that_resets_are_told() {
    assert_told("closes", &servers::closing());
    assert_told("resets", &servers::resetting());
}

#[test]
fn a_server_that_echoes_the_hello_is_told() {
    assert_told("echo", &Backend::echo());
}

#[test]
fn a_server_that_drops_split_hellos_is_told_in_words() {
    // On a busy machine both segments may arrive before the server reads the first one: then it has dropped none.
    for _ in 0..20 {
        let (server, dropped) = Tls::new(&[NAME]).dropping_segments();
        let toml = routes(&server.address().to_string(), &format!("{NAME:?}"));
        let text = told(&toml);
        // Two of the forms, and one of them once more.
        if dropped() == 3 {
            assert_snapshot("segments", &text);
            return;
        }
    }
    panic!("no hello arrived in two segments");
}

#[test]
fn a_server_that_reads_one_record_is_told_in_words() {
    assert_told("records", &Tls::new(&[NAME]).reading_one_record());
}

#[test]
fn a_server_that_closes_on_large_hellos_is_told_in_words() {
    assert_told("large", &Tls::new(&[NAME]).refusing_large());
}

#[test]
fn a_name_that_leads_back_to_portway_is_told_and_not_dialled() {
    let port = free().port();
    let toml = routes(&format!("localhost:{port}"), &format!("{NAME:?}"));
    let toml = toml.replace("127.0.0.1:0", &format!("[::]:{port}"));
    let output = doctor(&toml, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let mut loops = findings.iter().filter(|it| it["problem"] == "loop");
    let found = loops.next().unwrap();
    assert_eq!(
        found["message"],
        "this address is portway itself: a connection would come back to it"
    );
    assert_eq!(
        report["endpoints"][0]["addresses"],
        Value::Array(Vec::new())
    );
    assert!(
        findings
            .iter()
            .all(|it| it["severity"] != "error" || it["problem"] == "loop")
    );
}

/// A DNS server of the backend's own leads it there: `localhost` has an IPv6 address on some machines only.
#[test]
fn a_name_that_leads_back_to_portway_is_told_in_words() {
    let (dns, port) = (Server::start(), free().port());
    dns.lead("es.test", &["127.0.0.1"]);
    let toml = routes(&format!("es.test:{port}"), &format!("{NAME:?}"));
    let toml = toml.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let toml = toml.replace("connect_timeout", &(dns.resolver() + "\nconnect_timeout"));
    let text = told(&toml).replace(&format!(":{port}"), ":PORT");
    assert_snapshot("loop", &text);
}

#[test]
fn a_name_without_an_address_is_told() {
    let output = doctor(&routes("nowhere.invalid:443", &format!("{NAME:?}")), &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let said = "error: backend fleet, nowhere.invalid:443\n  the name cannot be resolved: ";
    assert!(text.contains(said), "{text}");
}

#[test]
fn a_wildcard_is_tried_with_a_name_that_is_made_up_or_given() {
    let server = Tls::new(&["a.fleet.example"]).start();
    let toml = routes(&server.address().to_string(), "\"*.fleet.example\"");
    let tried = |arguments: &[&str]| {
        let output = doctor(&toml, &[arguments, &["--output", "json"]].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let name = &report["endpoints"][0]["addresses"][0]["names"][0];
        let findings = report["findings"].as_array().unwrap().iter();
        let problems = findings.map(|it| it["problem"].as_str().unwrap().to_owned());
        let problems = problems
            .filter(|it| it != "machine_limit")
            .collect::<Vec<_>>();
        let name = name["server_name"].as_str().unwrap().to_owned();
        (name, problems, output.status.code())
    };
    let made_up = "portway-doctor.fleet.example".to_owned();
    assert_eq!(
        tried(&[]),
        (made_up, vec!["wrong_name".to_owned()], Some(0))
    );
    assert_eq!(tried(&["--strict"]).2, Some(1));
    let given = "a.fleet.example".to_owned();
    assert_eq!(tried(&["--name", &given]), (given, Vec::new(), Some(0)));
    let output = doctor(&toml, &["--name", "a.test"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = doctor(&toml, &["--backend", "flet"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn dangers_of_the_configuration_are_told_beside_the_servers() {
    let server = Tls::new(&[NAME]).start();
    let toml = routes(&server.address().to_string(), &format!("{NAME:?}"));
    let toml = toml.replace("connect_timeout", "idle_timeout = \"5m\"\nconnect_timeout");
    let output = doctor(&toml, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let said = "warning: backends.fleet.idle_timeout\n  cuts agents that wait for the answer to their check-in\n";
    assert!(text.contains(said), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

/// It runs on the file of a portway that serves: nothing of that one changes, and every connection ends with FIN.
#[test]
fn doctor_leaves_a_running_portway_and_its_servers_alone() {
    let (server, ends) = Tls::new(&[NAME]).noting_ends();
    let toml = routes(&server.address().to_string(), &format!("{NAME:?}"));
    let toml = toml.replace("admin.bind = false", "admin.bind = \"127.0.0.1:0\"");
    let portway = Portway::start(&toml);
    let before = portway.count("portway_config_generation");
    let mut command = Command::new(PORTWAY);
    let output = command
        .arg("doctor")
        .arg("-c")
        .arg(portway.file())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(ends(7), ["fin"; 7]);
    assert_eq!(portway.count("portway_config_generation"), before);
    assert!(portway.reload().status.success());
}

/// The fields of the tables of docs/commands.md for `doctor`.
fn documented(heading: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/commands.md");
    let (_, page) = page.split_once("### doctor\n").unwrap();
    let page = page.split("\n### ").next().unwrap();
    let (_, rest) = page.split_once(heading).unwrap();
    let rest = rest.split("\nEach of").next().unwrap();
    let rows = rest.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").next().unwrap());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

#[test]
fn the_fields_and_problems_for_programs_are_those_of_the_documents() {
    let (one, other) = (
        Tls::new(&[NAME]).mutual().start(),
        Tls::new(&[NAME]).tls13().start(),
    );
    let (http, blackhole) = (servers::http(), Unanswering::new());
    let endpoints = [&one, &other, &http].map(|server| server.address().to_string());
    let endpoints = endpoints.join("\", \"");
    let blackhole = blackhole.address();
    let toml = routes(
        &format!("{endpoints}\", \"{blackhole}\", \"nowhere.invalid:443"),
        &format!("{NAME:?}"),
    );
    // A warning of the file.
    let toml = toml.replace("connect_timeout", "idle_timeout = \"5m\"\nconnect_timeout");
    let output = doctor(&toml, &["--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value, field: &str| value[field].as_array().unwrap().clone();
    let each = |values: &[Value], field: &str| -> Vec<Value> {
        values.iter().flat_map(|value| list(value, field)).collect()
    };
    let endpoints = list(&report, "endpoints");
    let addresses = each(&endpoints, "addresses");
    let (names, hellos) = (each(&addresses, "names"), each(&addresses, "hellos"));
    let certificates = each(&names, "certificates");
    let fields = |values: &[Value], others: &[&str]| {
        let objects = values.iter().map(|value| value.as_object().unwrap());
        let mut fields: BTreeSet<String> =
            objects.flat_map(|object| object.keys().cloned()).collect();
        fields.extend(others.iter().map(|&field| field.to_owned()));
        fields
    };
    for (heading, seen) in [
        ("\n| field", fields(std::slice::from_ref(&report), &[])),
        ("Each of `endpoints` ", fields(&endpoints, &["via"])),
        ("Each of `addresses` ", fields(&addresses, &[])),
        ("Each of `names` ", fields(&names, &["alert", "alpn"])),
        ("Each of `hellos` ", fields(&hellos, &["alert"])),
        ("Each of `certificates` ", fields(&certificates, &[])),
        ("Each of `machine` ", fields(&list(&report, "machine"), &[])),
        (
            "Each of `findings` ",
            fields(&list(&report, "findings"), &["server_name"]),
        ),
    ] {
        assert_eq!(seen, documented(heading), "{heading}");
    }
    let problems: BTreeSet<String> = portway::doctor::Problem::names()
        .map(str::to_owned)
        .collect();
    assert_eq!(problems, documented("Each of these values of `problem` "));
}

#[test]
fn a_server_that_sends_without_end_is_left_after_its_first_line() {
    let server = Backend::flooding();
    let begun = std::time::Instant::now();
    let toml = routes(&server.address().to_string(), &format!("{NAME:?}"));
    let output = doctor(&toml, &[]);
    assert!(begun.elapsed() < Duration::from_mins(1));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
