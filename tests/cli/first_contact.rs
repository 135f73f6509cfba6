//! Commands that a new user types who does not know portway yet.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use nix::pty::openpty;
use serde_json::Value;

use super::{directory, portway};

/// The same with an environment variable.
fn portway_with(directory: &Path, config: &str, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    let command = command.args(line.split_whitespace());
    let command = command.current_dir(directory).env("PORTWAY_CONFIG", config);
    command.output().unwrap()
}

#[test]
fn without_a_command_a_page_says_what_portway_is_and_how_to_begin() {
    let output = portway(directory().path(), "");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let page = String::from_utf8(output.stderr).unwrap();
    assert!(
        page.starts_with("portway relays TLS connections "),
        "{page}"
    );
    assert!(page.lines().count() < 30, "{page}");
    // The file that it shows is fine, and the commands do what it says.
    let (_, file) = page.split_once("routes.toml:\n").unwrap();
    let (file, commands) = file.split_once("Then start").unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("routes.toml"), file).unwrap();
    let output = portway(directory.path(), "check --strict");
    assert!(output.status.success(), "{output:?}");
    let lines = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  portway "));
    let commands: Vec<&str> = lines.map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(commands, ["check", "explain fleet.example.com", "run"]);
    for command in &commands[..2] {
        let output = portway(directory.path(), command);
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

#[test]
fn a_file_is_named_by_an_argument_an_option_or_the_environment() {
    let directory = directory();
    let here = directory.path();
    let moved = |name: &str| fs::write(here.join(name), include_str!("../../routes.toml"));
    moved("other.toml").unwrap();
    fs::write(here.join("routes.toml"), "faulty").unwrap();
    for line in [
        "check other.toml",
        "check -c other.toml",
        "check --config other.toml",
        "explain fleet.example.com -c other.toml",
    ] {
        // The argument wins over the environment.
        for config in ["", "missing.toml"] {
            let output = portway_with(here, config, line);
            assert!(output.status.success(), "{line}: {output:?}");
        }
    }
    for line in ["check", "explain fleet.example.com"] {
        let output = portway_with(here, "other.toml", line);
        assert!(output.status.success(), "{line}: {output:?}");
        // An empty variable is none.
        let output = portway_with(here, "", line);
        assert_eq!(output.status.code(), Some(78), "{line}: {output:?}");
    }
    for command in ["run", "check", "reload", "healthcheck"] {
        let output = portway(here, &format!("{command} missing.toml"));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("missing.toml"), "{command}: {told}");
        let output = portway_with(here, "missing.toml", command);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("missing.toml"), "{command}: {told}");
        let twice = format!("{command} other.toml --config other.toml");
        assert_eq!(portway(here, &twice).status.code(), Some(2), "{twice}");
    }
}

#[test]
fn the_help_names_what_the_environment_may_say() {
    for line in ["--help", "run --help"] {
        let output = portway(directory().path(), line);
        let help = String::from_utf8(output.stdout).unwrap();
        for variable in ["PORTWAY_CONFIG", "RUST_LOG"] {
            assert!(help.contains(variable), "{line}: {help}");
        }
    }
}

/// A running portway, which ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(
    directory: &Path,
    (keys, arguments): (&str, &[&str]),
    [stdout, stderr]: [Stdio; 2],
) -> Running {
    let text = include_str!("../../routes.toml").replace("[::]:443", "127.0.0.1:0");
    let text = format!("admin.bind = false\n{keys}\n{text}");
    fs::write(directory.join("routes.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portway"));
    let command = command.arg("run").args(arguments).current_dir(directory);
    let command = command.env_remove("RUST_LOG").stdin(Stdio::null());
    Running(command.stdout(stdout).stderr(stderr).spawn().unwrap())
}

/// A terminal: its own side, and a program's.
fn terminal() -> (File, Stdio) {
    let pair = openpty(None, None).unwrap();
    (pair.master.into(), pair.slave.into())
}

fn lines(stream: impl Read) -> impl Iterator<Item = String> {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.map(|line| line.trim_end().to_owned())
}

/// Sends bytes that are not a hello to the address that a line of the program log names.
fn refused_at(line: &str) {
    let (_, address) = line.split_once("127.0.0.1:").unwrap();
    let end = address.find(|c: char| !c.is_ascii_digit());
    let port: u16 = address[..end.unwrap_or(address.len())].parse().unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
    drop(client.read_to_end(&mut Vec::new()));
}

fn is_json(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|value| value.get("time").is_some())
}

fn is_ecs(line: &str) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(line) else {
        return false;
    };
    let has = |field| value.get(field).is_some_and(Value::is_string);
    line.starts_with("{\"@timestamp\":\"") && has("ecs.version") && has("message")
}

/// `2026-01-15T02:41:07.499Z`, and something behind it.
fn is_text(line: &str) -> bool {
    line.get(10..11) == Some("T") && line.get(23..25) == Some("Z ")
}

/// Judges a line of a log.
type Judge = fn(&str) -> bool;

#[test]
fn each_log_is_text_on_a_terminal_and_json_elsewhere_unless_told_otherwise() {
    let directory = tempfile::tempdir().unwrap();
    let ecs = "log.format = \"ecs\"";
    let cases: [(&str, &[&str], bool, [Judge; 2]); 7] = [
        ("", &[], true, [is_text, is_json]),
        ("", &[], false, [is_json, is_text]),
        ("", &["--log-format", "json"], true, [is_json, is_json]),
        ("", &["--log-format", "text"], true, [is_text, is_text]),
        ("", &["--log-format", "ecs"], true, [is_ecs, is_ecs]),
        (ecs, &[], true, [is_ecs, is_ecs]),
        (ecs, &["--log-format", "json"], true, [is_json, is_json]),
    ];
    for (keys, arguments, connections_on_terminal, [connections, program]) in cases {
        let (terminal, slave) = terminal();
        let (reader, writer) = std::io::pipe().unwrap();
        let (reader, writer) = (
            File::from(std::os::fd::OwnedFd::from(reader)),
            writer.into(),
        );
        let (streams, stdout, stderr) = if connections_on_terminal {
            ([slave, writer], terminal, reader)
        } else {
            ([writer, slave], reader, terminal)
        };
        let running = run(directory.path(), (keys, arguments), streams);
        let mut said = lines(stderr);
        for line in said.by_ref() {
            assert!(program(&line), "{arguments:?}: {line}");
            if line.contains("listening") && line.contains("agents") {
                refused_at(&line);
                break;
            }
        }
        // Nobody who does not read may hold it up.
        let rest = thread::spawn(move || said.count());
        let line = lines(stdout).next().unwrap();
        assert!(connections(&line), "{arguments:?}: {line}");
        assert!(line.contains("not_tls"), "{line}");
        drop(running);
        rest.join().unwrap();
    }
}
