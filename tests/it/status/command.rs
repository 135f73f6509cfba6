//! `portway status`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{connections, refused, relayed, row};
use crate::it::fixture::{NAME, PATIENCE, PORTWAY, Portway, config, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, free};

fn command(portway: &Portway, arguments: &[&str]) -> Command {
    let mut command = Command::new(PORTWAY);
    command.args(["status", "--config"]).arg(portway.file());
    command.args(arguments);
    command
}

fn run(portway: &Portway, arguments: &[&str]) -> Output {
    command(portway, arguments).output().unwrap()
}

/// Its text, once it has the control socket.
fn text(portway: &Portway, arguments: &[&str]) -> String {
    within(PATIENCE, "portway status answers", || {
        let output = run(portway, arguments);
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    })
}

#[test]
fn the_command_says_who_is_refused_which_backend_fails_and_what_is_open() {
    let (backend, dead) = (Backend::echo(), free());
    let toml = config(&[backend.address(), dead], "", "balance = \"round_robin\"");
    // It needs no admin address.
    let portway = Portway::start(&toml.replacen("\"127.0.0.1:0\"", "false", 1));
    let clients = [relayed(&portway, NAME), relayed(&portway, NAME)];
    refused(&portway, &Builder::new("x\u{1b}[2J.example").build());
    let client = clients[0].local_addr().unwrap().to_string();
    let failed = format!("{dead}: its last dial failed");
    let parts = [
        &*format!("process {}: ready", portway.pid()),
        "invalid_server_name: 1",
        r"x\u{1b}[2J.example",
        "-> Correct the host",
        "Backends that fail:",
        &failed,
        "No limit is near.",
        "Connections (2 of 2)",
        &client,
    ];
    within(PATIENCE, "everything is shown", || {
        let text = text(&portway, &[]);
        assert!(text.is_ascii() && !text.contains('\u{1b}'), "{text:?}");
        let missing = parts.iter().find(|part| !text.contains(**part));
        missing.is_none().then_some(())
    });
    let refused = text(&portway, &["--refused"]);
    assert!(refused.starts_with("Refused and failed") && !refused.contains("Connections"));
    let listed = text(&portway, &["--connections", "limit=1&phase=relay"]);
    assert!(
        listed.contains("Connections (1 of 2)") && listed.contains("add after="),
        "{listed}"
    );
    drop(clients);
}

#[test]
fn programs_get_the_same_json_as_from_the_admin_address() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let _client = relayed(&portway, NAME);
    refused(&portway, &Builder::new("unknown.example").build());
    row(&portway, &[("outcome", "no_route")], 1);
    let json = |arguments: &[&str]| -> Value {
        let text = text(&portway, &[arguments, &["--output", "json"]].concat());
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    };
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let (own, page) = (json(&[]), super::status(&portway));
    assert_eq!(keys(&own), keys(&page));
    assert_eq!(own["backends"], page["backends"]);
    let refused = json(&["--refused"]);
    assert_eq!(
        (&refused["refused"], refused.get("backends")),
        (&page["refused"], None)
    );
    let one = json(&["--connections", "sort=age"]);
    assert_eq!(
        one["connections"][0]["id"],
        connections(&portway, "")["connections"][0]["id"]
    );
    assert_eq!(json(&["--connections", ""])["matching"], 1);
}

#[test]
fn a_status_that_cannot_be_had_is_an_error_with_its_reason() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    text(&portway, &[]);
    for (arguments, words) in [
        (
            ["--connections", "sort=size"],
            "write one of id, age, bytes, idle",
        ),
        (
            ["--connections", "after=1&sort=age"],
            "after goes with sort=id only",
        ),
    ] {
        let output = run(&portway, &arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
        assert!(
            told.starts_with("cannot show the status: ") && told.contains(words),
            "{told}"
        );
    }
    let file = portway.file().to_owned();
    let mut portway = portway;
    portway.signal(rustix::process::Signal::TERM);
    portway.wait_exit();
    let mut gone = Command::new(PORTWAY);
    gone.args(["status", "--output", "json", "--config"])
        .arg(file);
    let output = gone.output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told["error"]
            .as_str()
            .unwrap()
            .contains("no running portway"),
        "{told}"
    );
}

#[test]
fn a_watch_looks_again_and_holds_no_place_of_the_control_socket() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    text(&portway, &[]);
    // More than the control socket has places.
    let watches: Vec<_> = (0..12)
        .map(|_| {
            let mut command = command(&portway, &["--watch", "--output", "json"]);
            command.stdout(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for mut watch in watches {
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let looks: Vec<Value> = lines
            .take(2)
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect();
        assert!(looks[0]["time"].as_str() < looks[1]["time"].as_str());
        assert_eq!(looks[1]["pid"], portway.pid());
        assert!(portway.reload().status.success());
        watch.kill().unwrap();
        watch.wait().unwrap();
    }
}
