//! `portway explain` beside a running portway, and what the log says of a name without a route.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use super::fixture::{PATIENCE, PORTWAY, Portway, config, route, within};
use super::hello::Builder;
use super::peers::{Backend, connect};

/// `portway explain` on the file of a running portway, for programs.
fn explain(portway: &Portway, name: &str) -> Value {
    let output = explained(portway, &[name, "--listener", "agents", "--output", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

fn explained(portway: &Portway, arguments: &[&str]) -> Output {
    let mut command = Command::new(PORTWAY);
    command.arg("explain").args(arguments);
    command.arg("--config").arg(portway.file());
    command.output().unwrap()
}

fn has_control_socket(portway: &Portway) {
    within(PATIENCE, "it has the control socket", || {
        (portway.count("portway_control_socket_available") == 1).then_some(())
    });
}

#[test]
fn explain_tells_of_the_configuration_in_force_where_the_file_differs() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    has_control_socket(&portway);
    let explained_now = explain(&portway, "new.example");
    assert_eq!(explained_now["configuration"], "file", "they are the same");
    assert_eq!(explained_now["outcome"], "no_route");

    // A route that is in the file only.
    let with_route = format!("{toml}{}", route("new", backend.address(), ""));
    portway.write(&with_route);
    let explained_now = explain(&portway, "new.example");
    assert_eq!(explained_now["configuration"], "running");
    assert_eq!(explained_now["generation"], 1);
    assert_eq!(explained_now["pid"], portway.pid());
    assert_eq!(
        explained_now["outcome"], "no_route",
        "as the relay would do"
    );
    let note = explained_now["note"].as_str().unwrap();
    assert!(note.contains("`portway reload` puts it in force"), "{note}");
    // The text for people says the same.
    let told = String::from_utf8(explained(&portway, &["new.example"]).stdout).unwrap();
    let in_force = format!(
        "generation 1, which is in force in process {}",
        portway.pid()
    );
    assert!(told.contains(&in_force) && told.contains(note), "{told}");

    assert!(portway.reload().status.success());
    let explained_now = explain(&portway, "new.example");
    assert_eq!(explained_now["configuration"], "file");
    assert_eq!(explained_now["route"], "new");
}

#[test]
fn a_file_with_faults_is_not_what_explain_tells_of_while_a_portway_runs() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    has_control_socket(&portway);
    // It cannot be read at all, or is too large.
    for text in ["nonsense", &"x".repeat(2 << 20)] {
        portway.write(text);
        assert!(!portway.reload().status.success());
        let explained = explain(&portway, "fleet.example");
        let [configuration, generation, route] =
            ["configuration", "generation", "route"].map(|field| &explained[field]);
        assert_eq!(configuration, "running");
        assert_eq!((generation, route), (&1.into(), &"fleet".into()));
        let note = explained["note"].as_str().unwrap();
        assert!(note.contains("has faults: `portway check`"), "{note}");
    }
}

#[test]
fn a_running_portway_that_does_not_answer_leaves_explain_with_the_file() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    has_control_socket(&portway);
    portway.signal(Signal::STOP);
    let explained = explain(&portway, "fleet.example");
    assert_eq!(explained["configuration"], "file");
    let note = explained["note"].as_str().unwrap();
    assert!(note.contains("has not answered within"), "{note}");
    let why = explained["addresses_unknown"].as_str().unwrap();
    assert!(why.contains("it could not be asked"), "{why}");
    assert_eq!(explained.get("addresses"), None);
    portway.signal(Signal::CONT);
}

#[test]
fn explain_lists_the_addresses_and_connections_of_each_endpoint() {
    let (up, free) = (Backend::echo(), Backend::echo());
    let toml = config(&[up.address(), free.address()], "", "");
    let portway = Portway::start(&toml);
    has_control_socket(&portway);
    let mut client: TcpStream = connect(portway.address("agents"));
    let hello = Builder::new("fleet.example").build();
    client.write_all(&hello).unwrap();
    client.read_exact(&mut hello.clone()).unwrap();
    // The same, whether the file is in force or only the older one.
    for text in [toml.clone(), format!("{toml}# changed\n")] {
        portway.write(&text);
        let known = explain(&portway, "fleet.example");
        let addresses = known["addresses"].as_array().unwrap();
        let open = addresses.iter().map(|known| &known["connections"]);
        let mut open: Vec<u64> = open.map(|count| count.as_u64().unwrap()).collect();
        open.sort_unstable();
        assert_eq!(open, [0, 1], "{known}");
        for (backend, known) in [&up, &free].iter().zip(addresses) {
            let address = backend.address().to_string();
            assert_eq!(
                (&known["endpoint"], &known["address"], &known["state"]),
                (&(*address).into(), &(*address).into(), &"healthy".into())
            );
        }
        assert_eq!(known["addresses_not_shown"], 0);
        assert_eq!(known.get("addresses_unknown"), None);
        let told = explained(&portway, &["fleet.example", "--listener", "agents"]).stdout;
        let told = String::from_utf8(told).unwrap();
        assert!(told.contains("  healthy, 1 connection\n"), "{told}");
        assert!(told.contains("  healthy, 0 connections\n"), "{told}");
    }
    drop(client);
}

/// A routes.toml whose endpoint is the name that the client asks for, behind a proxy that resolves it.
fn asked_through(via: &str) -> String {
    let written = "127.0.0.1:1".parse().unwrap();
    let toml = config(&[written], "", &format!("via = \"{via}\""));
    toml.replace(&written.to_string(), ASKED)
}

const ASKED: &str = "{server_name}:9243";

/// Such an endpoint has the addresses of the proxy.
#[test]
fn explain_shows_the_proxy_that_resolves_the_names_of_clients() {
    let proxy = Backend::echo();
    let portway = Portway::start(&asked_through(&format!("http://{}", proxy.address())));
    has_control_socket(&portway);
    let known = explain(&portway, "fleet.example");
    let [address] = known["addresses"].as_array().unwrap().as_slice() else {
        panic!("{known}");
    };
    assert_eq!(address["endpoint"], ASKED);
    assert_eq!(address["address"], proxy.address().to_string());

    let portway = Portway::start(&asked_through("http://proxy.invalid:3128"));
    has_control_socket(&portway);
    let known = explain(&portway, "fleet.example");
    let [without] = known["unresolved"].as_array().unwrap().as_slice() else {
        panic!("{known}");
    };
    assert_eq!(
        (&without["endpoint"], &without["reason"]),
        (&ASKED.into(), &"unresolved".into())
    );
}

/// The note about the configuration hides no other one.
#[test]
fn explain_tells_every_note() {
    let proxy = Backend::echo();
    let toml = asked_through(&format!("http://{}", proxy.address()));
    let portway = Portway::start(&toml);
    has_control_socket(&portway);
    portway.write(&format!("{toml}# changed\n"));
    let explained = explain(&portway, "fleet.example");
    let note = explained["note"].as_str().unwrap();
    let of_file = format!("`--config /dev/stdin < {}`", portway.file().display());
    assert!(note.contains(&of_file), "{note}");
    let of_name = format!("{ASKED} is fleet.example:9243 for this connection");
    assert!(note.contains(&of_name), "{note}");
}

/// A successor has the control socket, so what is explained is what new connections take.
#[test]
fn after_a_takeover_explain_asks_the_successor() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let first = Portway::start(&toml);
    has_control_socket(&first);
    first.write(&format!("{toml}{}", route("new", backend.address(), "")));
    let second = first.start_beside(&["--takeover"]);
    first.write(&toml);
    within(PATIENCE, "the successor is asked", || {
        (explain(&second, "new.example")["pid"] == second.pid()).then_some(())
    });
    assert_eq!(explain(&second, "new.example")["route"], "new");
}

#[test]
fn reload_tells_programs_the_generation_and_the_process() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    has_control_socket(&portway);
    let reload = || {
        let mut command = Command::new(PORTWAY);
        command
            .args(["reload", "--output", "json"])
            .arg(portway.file());
        let output = command.output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), told)
    };
    let (status, told) = reload();
    assert_eq!((status, &told["result"]), (0, &"in_force".into()), "{told}");
    assert_eq!(told["warnings"], serde_json::json!([]));
    assert_eq!(
        (&told["generation"], &told["pid"]),
        (&2.into(), &portway.pid().into())
    );
    portway.write("nonsense");
    let (status, told) = reload();
    assert_eq!(
        (status, &told["result"]),
        (78, &"rejected".into()),
        "{told}"
    );
    assert_eq!(told.get("generation"), None, "{told}");
}

#[test]
fn reload_shows_the_warnings_of_the_file_as_check_does() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    has_control_socket(&portway);
    portway.write(&config(&[backend.address()], "", "idle_timeout = \"5m\""));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PORTWAY);
        let output = command.args(arguments).arg(portway.file()).output();
        output.unwrap()
    };
    let (checked, reloaded) = (run(&["check"]), run(&["reload"]));
    assert_eq!(reloaded.stdout, b"reloaded: generation 2\n");
    let [checked, reloaded] = [checked, reloaded].map(|output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    });
    assert!(checked.contains("idle_timeout"), "{checked}");
    assert_eq!(reloaded.trim_end(), checked.trim_end());
    let [checked, reloaded] = [["check"], ["reload"]].map(|[command]| {
        let output = run(&[command, "--output", "json"]);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    });
    assert_eq!(reloaded["warnings"], checked["warnings"]);
    assert_eq!(reloaded["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(reloaded["warnings_not_shown"], 0);
}

/// A client that asks for this name is refused; its line of the log.
fn refused(portway: &Portway, name: &str) -> Value {
    let mut client: TcpStream = connect(portway.address("agents"));
    client.write_all(&Builder::new(name).build()).unwrap();
    drop(client.read_to_end(&mut Vec::new()));
    portway.line_of(client.local_addr().unwrap())
}

#[test]
fn a_name_without_a_route_is_logged_with_the_nearest_that_has_one() {
    let backend = Backend::echo();
    let inside = "[listeners.inside]\nbind = [\"127.0.0.1:0\"]\n[routes.inside]\nbackend = \"fleet\"\n\
                  server_names = [\"inside.example\"]\nlisteners = [\"inside\"]\n";
    let toml = config(&[backend.address()], "", "") + inside;
    let portway = Portway::start(&toml);
    let line = refused(&portway, "inside.example");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("routes have this name"), "{line}");
    let line = refused(&portway, "flete.example");
    assert_eq!(line["outcome"], "no_route");
    assert_eq!(line["nearest"], "fleet.example");
    let line = refused(&portway, "www.unrelated.org");
    assert_eq!(
        (&line["outcome"], line.get("nearest")),
        (&"no_route".into(), None)
    );
    // Nothing of it is a label.
    let page = portway.metrics().page;
    assert!(
        !page.contains("fleet.example") && !page.contains("nearest"),
        "{page}"
    );
    assert_eq!(
        explain(&portway, "flete.example")["nearest"],
        "fleet.example"
    );
}
