//! The first moments of the program: what it says when it starts, and when it cannot.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::far::shell;
use super::fixture::{PATIENCE, PORTWAY, Portway, config, message, route, within};
use super::namespace::in_a_network;
use super::peers::{Backend, has_ipv6};

/// A routes.toml without faults.
fn toml() -> String {
    config(&["127.0.0.1:9".parse().unwrap()], "", "")
}

/// Starts `portway run` with `count` descriptors. Returns whether it became ready, and what it printed
/// until then or until it ended.
fn start_with_descriptors(count: u32) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    std::fs::write(&file, toml()).unwrap();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n $0; exec \"$@\""])
        .args([&count.to_string(), PORTWAY, "run", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until_ready_or_ended(&mut child)
}

fn until_ready_or_ended(child: &mut Child) -> (bool, String) {
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let ready = loop {
        let mut line = String::new();
        if stderr.read_line(&mut line).unwrap() == 0 {
            break false;
        }
        said.push_str(&line);
        if line.contains("\"ready\"") {
            break true;
        }
    };
    child.kill().unwrap();
    child.wait().unwrap();
    (ready, said)
}

#[test]
fn a_start_without_descriptors_always_says_why_it_ended() {
    for count in 4..=24 {
        for _ in 0..6 {
            let (ready, said) = start_with_descriptors(count);
            // It says what failed and what to do. With too few descriptors the system's loader speaks instead.
            let says_why = said.contains("ulimit -n") || said.contains("shared libraries");
            assert!(ready || says_why, "with {count} descriptors: {said}");
        }
    }
}

/// Starts `portway run` on a named pipe in the directory.
fn spawn_on_a_pipe(directory: &Path) -> (Child, PathBuf) {
    let pipe = directory.join("routes.toml");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let child = Command::new(PORTWAY)
        .args(["run", "--config"])
        .arg(&pipe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, pipe)
}

/// Starts `portway run` on a named pipe. It gets the `early` signals while it waits for its configuration, and
/// the `late` one when it is ready. Returns what it printed, and how it ended.
fn with_early_signals(early: &[Signal], late: Option<Signal>) -> (String, ExitStatus) {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, pipe) = spawn_on_a_pipe(directory.path());
    // Opening it this way fails until there is a reader.
    let mut options = OpenOptions::new();
    let options = options.write(true).custom_flags(nonblocking());
    let open = || -> Option<File> { options.open(&pipe).ok() };
    let mut writer = within(PATIENCE, "portway reads the pipe", open);
    let pid = Pid::from_child(&child);
    for signal in early {
        kill_process(pid, *signal).unwrap();
    }
    // A stop may have closed the other end.
    drop(writer.write_all(toml().as_bytes()));
    drop(writer);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while let Some(signal) = late {
        if stderr.read_line(&mut said).unwrap() == 0 {
            break;
        }
        if said.contains("\"ready\"") {
            kill_process(pid, signal).unwrap();
            break;
        }
    }
    stderr.read_to_string(&mut said).unwrap();
    (said, child.wait().unwrap())
}

fn nonblocking() -> i32 {
    i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap()
}

#[test]
fn a_hangup_in_the_first_moments_ends_nothing() {
    let (said, status) = with_early_signals(&[Signal::HUP], Some(Signal::TERM));
    assert!(said.contains("\"ready\""), "{said}");
    assert_eq!(status.code(), Some(0), "{said}");
}

/// The writer of the pipe takes longer than a person waits.
#[test]
fn a_stop_is_heard_while_the_configuration_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, pipe) = spawn_on_a_pipe(directory.path());
    // The pipe opens once portway reads.
    let writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(said, "", "portway reports a fault of the file");
    drop(writer);
}

#[test]
fn a_stop_in_the_first_moments_is_an_orderly_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let (said, status) = with_early_signals(&[Signal::HUP, signal], None);
        assert_eq!(status.code(), Some(0), "{said}");
    }
}

/// The errors of a portway that cannot start, without the time.
fn errors(mut portway: Portway) -> Vec<Value> {
    assert_eq!(portway.wait_exit().code(), Some(1));
    let is_error = |line: &Value| line["level"] == "ERROR";
    // The last line may arrive after the end.
    portway.program.wait(PATIENCE, is_error);
    let lines = portway.program.all().into_iter();
    lines.filter(is_error).collect()
}

#[test]
fn a_second_portway_with_the_default_of_admin_bind_says_so_and_what_to_write() {
    in_a_network(|| {
        let toml = toml().replace("admin.bind = \"127.0.0.1:0\"\n", "");
        let _first = Portway::start(&toml);
        let errors = errors(Portway::spawn(&toml, Stdio::piped()));
        assert_eq!(errors.len(), 1, "{errors:?}");
        let told = message(&errors[0]);
        for part in [
            "cannot listen on 127.0.0.1:9355: another socket has this address",
            "127.0.0.1:9355 is the default of admin.bind, because ",
            "write a table [admin] with bind = \"127.0.0.1:9356\"",
            "write bind = false there",
        ] {
            assert!(told.contains(part), "{told}");
        }
        // It does what it says.
        for bind in ["\"127.0.0.1:9356\"", "false"] {
            let toml = format!("[admin]\nbind = {bind}\n{toml}");
            drop(Portway::start(&toml));
        }
        // An address that the file has is not the default.
        let written = format!("admin.bind = \"127.0.0.1:9355\"\n{toml}");
        let errors = self::errors(Portway::spawn(&written, Stdio::piped()));
        let told = message(&errors[0]);
        assert!(
            told.contains("routes.toml:1: ") && !told.contains("default"),
            "{told}"
        );
    });
}

/// The predecessor hands its sockets over, so another program is in the way.
#[test]
fn a_takeover_that_fails_for_a_busy_address_names_the_address() {
    in_a_network(|| {
        let toml = toml();
        let first = Portway::start(&toml);
        let _busy = TcpListener::bind("127.0.0.1:8443").unwrap();
        first.write(&format!(
            "{toml}[listeners.other]\nbind = [\"127.0.0.1:8443\"]\n"
        ));
        within(PATIENCE, "the control socket is there", || {
            let errors = errors(first.spawn_beside(&["--takeover"]));
            let told = message(&errors[0]);
            assert!(!told.contains("already runs with this file"), "{told}");
            told.contains("127.0.0.1:8443").then_some(())
        });
    });
}

/// The address that is busy is only what follows from it.
#[test]
fn a_second_portway_with_the_same_file_is_told_that_alone() {
    in_a_network(|| {
        let toml = toml().replace("127.0.0.1:0", "127.0.0.1:8443");
        for toml in [
            toml.replacen("8443", "9000", 1),
            toml.replacen("\"127.0.0.1:8443\"", "false", 1),
        ] {
            let first = Portway::start(&toml);
            let told = within(PATIENCE, "it has the control socket", || {
                let errors = errors(first.spawn_beside(&[]));
                assert_eq!(errors.len(), 1, "{errors:?}");
                let told = message(&errors[0]).to_owned();
                let is_told = told.contains("a portway already runs with this file");
                is_told.then(|| (told, errors[0]["fields"]["pid"].clone()))
            });
            assert!(told.0.contains("`portway run --takeover`"), "{told:?}");
            assert_eq!(told.1, first.pid());
        }
    });
}

#[test]
fn the_start_tells_version_file_backends_and_routes() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let told = |what: &str| {
        let line = portway.program.find(|line| message(line) == what);
        line.unwrap_or_else(|| panic!("no {what}"))["fields"].clone()
    };
    let start = told("portway starts");
    assert_eq!(start["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(start["file"], portway.file().to_str().unwrap());
    assert_eq!(start["pid"], portway.pid());
    let backends = told("backends");
    assert_eq!(
        (&backends["count"], &backends["backends"]),
        (&1.into(), &format!("fleet ({})", backend.address()).into())
    );
    assert_eq!(told("routes")["routes"], "fleet (fleet.example -> fleet)");
    assert!(told("limits")["max_connections"].is_number());
    // It comes first.
    assert_eq!(message(&portway.program.all()[0]), "portway starts");
}

/// As many as a file may have.
#[test]
fn the_start_tells_the_first_of_many_routes() {
    let backend = Backend::echo();
    let mut toml = config(&[backend.address()], "", "");
    for number in 0..200 {
        toml += &route(&format!("r{number}"), backend.address(), "");
    }
    let portway = Portway::start(&toml);
    for what in ["backends", "routes"] {
        let line = portway.program.find(|line| message(line) == what).unwrap();
        let told = line["fields"][what].as_str().unwrap();
        assert!(told.ends_with(", 191 more") && told.len() < 1000, "{told}");
    }
}

#[test]
fn both_logs_have_the_time_under_one_name_and_in_one_form() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    drop(portway.client().shutdown(Shutdown::Write));
    let connection = portway.wait_line(|line| line["outcome"].is_string());
    for line in portway.program.all().iter().chain([&connection]) {
        let time = line["time"].as_str().unwrap_or_else(|| panic!("{line}"));
        assert_eq!(
            (time.len(), time.chars().nth(19)),
            (24, Some('.')),
            "{line}"
        );
        assert_eq!(line.get("timestamp"), None, "{line}");
    }
}

/// A floating address may come later.
#[test]
fn an_address_that_the_host_does_not_have_yet_is_bound_with_freebind_alone() {
    in_a_network(|| {
        let backend = Backend::echo();
        let toml = config(&[backend.address()], "", "");
        let v6 = has_ipv6().then_some("[2001:db8::80]");
        for floating in ["192.0.2.80"].into_iter().chain(v6) {
            let bind = format!("bind = [\"{floating}:0\"]");
            let without = toml.replace("bind = [\"127.0.0.1:0\"]", &bind);
            let mut refused = Portway::spawn(&without, Stdio::null());
            assert_eq!(refused.wait_exit().code(), Some(1));
            let says = |line: &Value| line.to_string().contains("set freebind = true");
            refused.program.wait(PATIENCE, says);

            let with = without.replace(&bind, &format!("{bind}\nfreebind = true"));
            let portway = Portway::start(&with);
            shell(&format!(
                "ip address add {} dev lo nodad",
                floating.trim_matches(['[', ']'])
            ))
            .unwrap();
            // The kernel makes the route to an address of IPv6 a little later.
            within(PATIENCE, "the address can be reached", || {
                TcpStream::connect(portway.address("agents")).ok()
            });
            drop(portway.relayed());
            // The address has not changed, so its sockets stay.
            portway.reload_with(&without);
            drop(portway.relayed());
        }
    });
}
