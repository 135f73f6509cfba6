//! `--output json`: one object on a line, with the fields that docs/commands.md has.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::thread;

use serde_json::Value;

use super::{directory, portway};

/// The fields of the tables of docs/commands.md below a heading, up to the next one.
fn documented(heading: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/commands.md");
    let (_, rest) = page.split_once(&format!("{heading}\n")).unwrap();
    let rest = rest.split("\n### ").next().unwrap();
    let rest = rest.split("\nEach of").next().unwrap();
    let rows = rest.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| {
        row.split(" | ")
            .next()
            .unwrap()
            .split('`')
            .skip(1)
            .step_by(2)
    });
    names.map(str::to_owned).collect()
}

/// The object that a command writes; it must exit with this status.
fn object(directory: &Path, line: &str, status: i32) -> Value {
    let output = portway(directory, &format!("{line} --output json"));
    assert_eq!(output.status.code(), Some(status), "{line}: {output:?}");
    assert!(output.stderr.is_empty(), "{line}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.find('\n'), Some(text.len() - 1), "{line}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn fields<'v>(values: impl IntoIterator<Item = &'v Value>) -> BTreeSet<String> {
    let objects = values.into_iter().map(|value| value.as_object().unwrap());
    objects.flat_map(|object| object.keys().cloned()).collect()
}

/// A directory with files that are wrong, each in another way.
fn with_faults() -> tempfile::TempDir {
    let directory = directory();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let shipped = include_str!("../../routes.toml");
    write("faulty.toml", &shipped.replace("\"fleet\"\n", "\"flet\"\n"));
    write(
        "tie.toml",
        &shipped.replace("es.example.com", "fleet.example.com"),
    );
    write(
        "warned.toml",
        &shipped.replace("8220\"]", "8220\"]\nidle_timeout = \"5m\""),
    );
    directory
}

#[test]
fn check_tells_programs_every_fault_with_its_place() {
    let directory = with_faults();
    let check = |line: &str, status| object(directory.path(), &format!("check {line}"), status);
    let [fine, faulty, tie, warned, strict, missing] = [
        ("routes.toml", 0),
        ("faulty.toml", 78),
        ("tie.toml", 78),
        ("warned.toml", 0),
        ("warned.toml --strict", 78),
        ("missing.toml", 78),
    ]
    .map(|(line, status)| check(line, status));
    assert_eq!(fine["valid"], true);
    assert_eq!(
        (&fine["listeners"], &fine["routes"]),
        (&1.into(), &2.into())
    );
    let fault = &faulty["errors"][0];
    assert_eq!(faulty["valid"], false);
    assert_eq!(fault["key"], "routes.fleet.backend");
    assert_eq!(fault["help"], "did you mean \"fleet\"?");
    assert_eq!((&fault["line"], &fault["column"]), (&12.into(), &11.into()));
    assert_eq!(
        fields([&tie["errors"][0]["other"]]),
        set("what line column")
    );
    assert_eq!(
        (&warned["valid"], &strict["valid"]),
        (&true.into(), &false.into())
    );
    assert_eq!(warned["warnings"], strict["warnings"]);
    assert_eq!(fields([&missing["errors"][0]]), set("message help"));

    let all = [&fine, &faulty, &tie, &warned, &strict, &missing];
    assert_eq!(fields(all), documented("### check"));
    let errors = all.map(|object| object["errors"].as_array().unwrap());
    let seen = fields(errors.into_iter().flatten());
    assert_eq!(
        seen,
        documented("Each of `errors` and `warnings` has these fields:")
    );
    // Other commands tell such a file alike.
    let explained = object(directory.path(), "explain x.example -c faulty.toml", 78);
    assert_eq!(explained, faulty);
}

fn set(names: &str) -> BTreeSet<String> {
    names.split(' ').map(str::to_owned).collect()
}

#[test]
fn explain_tells_programs_what_it_tells_people() {
    let directory = directory();
    let explain = |line: &str, status| {
        object(
            directory.path(),
            &format!("explain -c explain.toml {line}"),
            status,
        )
    };
    let [taken, hello, none, missed, invalid, unicode, denied] = [
        ("fleet.example.com --listener agents --client 10.1.2.3", 0),
        ("--hello hello.bin --listener internal", 0),
        ("--no-server-name --listener internal", 0),
        ("other.exmaple.org --listener agents", 1),
        ("--server-name 10.0.0.7 --listener agents", 1),
        ("b\u{fc}cher.example --listener agents", 1),
        ("fleet.example.com --listener agents --client 10.66.0.1", 1),
    ]
    .map(|(line, status)| explain(line, status));
    assert_eq!(
        (&taken["route"], &taken["pattern"]),
        (&"site".into(), &"fleet.example.com".into())
    );
    assert_eq!(taken["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(taken["limits"]["idle_timeout"], "2h");
    assert_eq!(taken["configuration"], "file");
    let reasons = taken["passed_over"].as_array().unwrap().iter();
    let reasons: Vec<_> = reasons
        .map(|route| route["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        ["listener", "precedence", "server_name", "server_name"]
    );
    assert_eq!(
        (&none["server_name"], &none["pattern"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&missed["outcome"], &missed["alert"]),
        (&"no_route".into(), &112.into())
    );
    assert_eq!(missed["passed_over"].as_array().unwrap().len(), 5);
    assert_eq!(unicode["server_name"], "xn--bcher-kva.example");
    assert_eq!(
        (&denied["outcome"], denied.get("server_name")),
        (&"client_denied".into(), None)
    );

    let mut seen = fields([&taken, &hello, &none, &missed, &invalid, &unicode, &denied]);
    let why = taken["addresses_unknown"].as_str().unwrap();
    assert!(why.contains("no running portway uses this file"), "{why}");
    let defaults = taken["defaults"].to_string();
    assert!(defaults.contains("\"keepalive\""), "{defaults}");
    assert_eq!(taken["limits"]["max_client_hello"], "64KiB");
    // Those of a running portway, of a proxy listener and of one behind balancers.
    seen.extend(set(
        "generation pid note addresses unresolved addresses_not_shown target client_from",
    ));
    assert_eq!(seen, documented("### explain"));
}

#[test]
fn reload_and_healthcheck_tell_programs_how_it_went() {
    let directory = directory();
    let mut reload = fields([&object(directory.path(), "reload", 1)]);
    // Those of a running portway, and of a proxy listener.
    reload.extend(set("generation pid warnings warnings_not_shown"));
    assert_eq!(reload, documented("### reload"));
    let text = format!("admin.bind = false\n{}", include_str!("../../routes.toml"));
    fs::write(directory.path().join("routes.toml"), text).unwrap();
    let health = object(directory.path(), "healthcheck --ready", 1);
    assert_eq!(
        (&health["healthy"], &health["page"]),
        (&false.into(), &"/readyz".into())
    );
    let mut healthcheck = fields([&health]);
    // Those of an address that can be asked.
    healthcheck.extend(set("address address_from"));
    assert_eq!(healthcheck, documented("### healthcheck"));
}

/// Answers one request as the portway that runs with this file.
fn answering(file: &Path, answer: &'static str) -> thread::JoinHandle<String> {
    let name = SocketAddr::from_abstract_name(format!("portway:{}", file.display())).unwrap();
    let listener = UnixListener::bind_addr(&name).unwrap();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        (&stream).write_all(answer.as_bytes()).unwrap();
        request
    })
}

#[test]
fn upgrade_tells_programs_how_it_went() {
    let directory = directory();
    let file = directory.path().join("routes.toml");
    let line = format!("upgrade {}", file.display());
    let upgrade = |answer, status| {
        let answering = answering(&file, answer);
        let object = object(directory.path(), &line, status);
        assert_eq!(answering.join().unwrap(), "upgrade\n");
        object
    };
    let nobody = object(directory.path(), &line, 69);
    assert_eq!(nobody["result"], "unavailable");
    let old = upgrade("1\nknown requests: reload, configuration, takeover\n", 69);
    assert_eq!(old["result"], "unavailable");
    let failed = upgrade("1\nthe upgrade has failed: \u{1b}[31mbroken\n", 1);
    assert_eq!(
        failed["message"],
        "the upgrade has failed: \\u{1b}[31mbroken"
    );
    let processes = r#"{"old_version":"1","old_pid":12,"new_version":"2","new_pid":13}"#;
    let answer = format!("0\n{processes}\n").leak();
    let upgraded = upgrade(answer, 0);
    assert_eq!(
        (&upgraded["old_pid"], &upgraded["new_pid"]),
        (&12.into(), &13.into())
    );
    assert_eq!(
        fields([&nobody, &old, &failed, &upgraded]),
        documented("### upgrade")
    );
    let answering = answering(&file, answer);
    let output = portway(directory.path(), &line);
    answering.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = "process 13 (version 2) accepts new connections. Process 12 (version 1) keeps";
    assert!(said.contains(words), "{said}");
}
