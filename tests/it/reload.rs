//! Reloads (F22 to F24, invariant 8).

pub(crate) mod load;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::fixture::{PATIENCE, PORTWAY, Portway, config, hello, message, pause, route, within};
use super::hello::Builder;
use super::peers::{Backend, End, connect, read_to_end};
use super::process;
use super::random::count;
use load::Load;

/// The generation that is in force.
fn generation(portway: &Portway) -> u64 {
    portway.count("portway_config_generation")
}

/// Whether a client of `agents` for `<name>.example` gets its hello echoed.
fn is_routed(portway: &Portway, name: &str) -> bool {
    let mut client = connect(portway.address("agents"));
    let hello = Builder::new(format!("{name}.example")).build();
    client.write_all(&hello).unwrap();
    let mut echoed = vec![0; hello.len()];
    client.read_exact(&mut echoed).is_ok() && echoed == hello
}

/// Whether a new client of `agents` is reset. The reset may come before its connect returns.
fn is_reset(portway: &Portway) -> bool {
    let reset = |mut client: TcpStream| read_to_end(&mut client).1 == End::Reset;
    TcpStream::connect(portway.address("agents")).map_or(true, reset)
}

/// 500 new connections per second and 1,000 that transfer all the time, while each of
/// `PORTWAY_RELOADS` reloads changes routes, backends, limits and a listener.
#[test]
fn f22_reloads_under_load_refuse_and_reset_nobody() {
    let reloads = count("PORTWAY_RELOADS", 10);
    process::raise_descriptors();
    let load = Load::backend_only();
    let backend = load.backend();
    let base = config(&[backend], "max_pending_per_client = 5000", "");
    let portway = Portway::start(&base);
    let load = load.start(portway.address("agents"));
    for turn in 0..reloads {
        // Every kind of thing comes, changes and goes.
        let other = format!(
            "{base}{}[listeners.other{}]\nbind = [\"127.0.0.1:0\"]\n",
            route(&format!("r{turn}"), backend, "idle_timeout = \"1h\""),
            turn % 3
        );
        let toml = if turn % 2 == 0 { &other } else { &base };
        let toml = toml.replace("= 5000", &format!("= {}", 5000 + turn % 2));
        portway.reload_with(&toml);
        pause(Duration::from_millis(50));
    }
    let done = load.finish();
    assert_eq!((done.silent, &done.faults), (0, &vec![]), "{done:?}");
    assert!(done.connections > reloads * 10, "{done:?}");
    assert!(done.transferred > 1 << 20, "{done:?}");
    assert_eq!(generation(&portway), reloads + 1);
    let successes = portway.count("portway_reloads_total{result=\"success\"}");
    assert_eq!(successes, reloads);
    // All outcomes are orderly ones.
    let closed = portway.metrics().outcomes("agents");
    let odd: Vec<_> = closed
        .iter()
        .filter(|(outcome, _)| outcome.as_str() != "closed")
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    eprintln!("{done:?} during {reloads} reloads");
}

#[test]
fn f22_connections_keep_the_route_that_they_took() {
    let (old, new) = (Backend::echo(), Backend::echo());
    let portway = Portway::start(&config(&[old.address()], "", ""));
    let mut before = portway.relayed();
    portway.reload_with(&config(&[new.address()], "", ""));
    let mut after = portway.relayed();
    for client in [&mut before, &mut after] {
        client.write_all(b"still there").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_to_end(client), (b"still there".to_vec(), End::Fin));
    }
    assert_eq!((old.accepted(), new.accepted()), (1, 1));
    let line = |client: &TcpStream| portway.line_of(client.local_addr().unwrap());
    assert_eq!(line(&before)["config"], 1);
    assert_eq!(line(&after)["config"], 2);
    assert_eq!(line(&before)["endpoint"], old.address().to_string());
}

#[test]
fn invariant_8_unchanged_listeners_keep_their_sockets() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let address = portway.address("agents");
    let listening = || {
        let sockets = process::sockets().into_iter();
        let mut inodes: Vec<u64> = sockets
            .filter(|socket| socket.is_listening() && socket.local == address)
            .map(|socket| socket.inode)
            .collect();
        inodes.sort_unstable();
        inodes
    };
    let before = listening();
    // Also if the listener gets another name.
    portway.reload_with(&toml.replace("listeners.agents", "listeners.renamed"));
    assert_eq!(listening(), before);
    let mut client = connect(address);
    client.write_all(&hello()).unwrap();
    client.read_exact(&mut hello()).unwrap();
    drop(client);
    portway.wait_line(|line| line["listener"] == "renamed");
}

#[test]
fn limits_after_a_reload_are_those_of_a_fresh_start_with_the_same_file() {
    let backend = Backend::echo();
    let few = format!("workers = 2\n{}", config(&[backend.address()], "", ""));
    let addresses: Vec<String> = (1..=41).map(|n| format!("127.0.0.{n}:0")).collect();
    let many = few.replace("bind = [\"127.0.0.1:0\"]", &format!("bind = {addresses:?}"));
    let start = |toml: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 512; exec \"$0\" \"$@\"", PORTWAY]);
        Portway::start_by(command, toml, Stdio::piped())
    };
    let limits = |portway: &Portway| {
        let page = portway.metrics();
        [
            "max_connections",
            "max_pending_connections",
            "max_pending_per_client",
        ]
        .map(|limit| page.count(&format!("portway_limit{{limit=\"{limit}\"}}")))
    };
    let reloaded = start(&few);
    let before = limits(&reloaded);
    reloaded.reload_with(&many);
    let after = limits(&reloaded);
    assert_eq!(after, limits(&start(&many)));
    // Two workers have a socket for each of 40 more addresses.
    assert_eq!(before[0] - after[0], 40);
    reloaded.reload_with(&few);
    assert_eq!(limits(&reloaded), before);
}

#[test]
fn f22_listeners_come_and_go() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let more = format!("{toml}[listeners.more]\nbind = [\"127.0.0.1:0\"]\n");
    portway.reload_with(&more);
    let address = portway.address("more");
    let mut client = connect(address);
    client.write_all(&hello()).unwrap();
    client.read_exact(&mut hello()).unwrap();
    portway.reload_with(&toml);
    within(PATIENCE, "the listener is closed", || {
        TcpStream::connect(address).err()
    });
    // Its connections go on.
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    assert_eq!(
        portway.count("portway_connections_active{listener=\"more\"}"),
        1
    );
    drop(client);
    let line = portway.wait_line(|line| line["listener"] == "more");
    assert_eq!(line["outcome"], "closed");
}

#[test]
fn f22_a_listener_that_closes_serves_its_queue() {
    const MANY: usize = 300;
    process::raise_descriptors();
    let backend = Backend::echo();
    let limits = "max_pending_connections = 2000\nmax_pending_per_client = 2000";
    let toml = config(&[backend.address()], limits, "");
    let more = format!("{toml}[listeners.more]\nbind = [\"127.0.0.1:0\"]\n");
    let portway = Portway::start(&more);
    let address = portway.address("more");
    // A stopped process takes the signal and the burst together.
    portway.write(&toml);
    portway.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..MANY).map(|_| connect(address)).collect();
    portway.signal(Signal::HUP);
    portway.signal(Signal::CONT);
    // All before the first answer: their limit is the same.
    for client in &mut clients {
        client.write_all(&hello()).unwrap();
    }
    for client in &mut clients {
        client.read_exact(&mut hello()).unwrap();
    }
    within(PATIENCE, "the listener is closed", || {
        TcpStream::connect(address).err()
    });
}

#[test]
fn invariant_8_what_is_known_of_an_unchanged_endpoint_survives() {
    let backend = Backend::echo();
    let dead = super::peers::Refusing::new();
    let toml = config(
        &[dead.address(), backend.address()],
        "",
        "balance = \"round_robin\"",
    );
    let portway = Portway::start(&toml);
    for _ in 0..4 {
        drop(portway.relayed());
    }
    let name = dead.address();
    let refused = format!(
        "portway_dial_failures_total{{backend=\"fleet\",endpoint=\"{name}\",reason=\"refused\"}}"
    );
    let failures = || portway.count(&refused);
    let before = failures();
    assert!(before > 0, "the dead endpoint was tried");
    portway.reload_with(&format!("{toml}{}", route("other", backend.address(), "")));
    for _ in 0..8 {
        drop(portway.relayed());
    }
    assert_eq!(failures(), before, "the dead endpoint was tried again");
}

#[test]
fn an_endpoint_that_comes_back_counts_the_connections_that_it_has_kept() {
    let (one, other) = (Backend::echo(), Backend::echo());
    let alone = config(&[one.address()], "", "");
    let portway = Portway::start(&alone);
    let _kept = [portway.relayed(), portway.relayed()];
    let connections = |backend: &Backend| {
        let labels = format!("{{backend=\"fleet\",endpoint=\"{}\"}}", backend.address());
        portway.count(&format!("portway_endpoint_connections{labels}"))
    };
    portway.reload_with(&config(&[other.address()], "", ""));
    portway.reload_with(&config(&[one.address(), other.address()], "", ""));
    assert_eq!(connections(&one), 2);
    let _new = [portway.relayed(), portway.relayed()];
    assert_eq!((connections(&one), connections(&other)), (2, 2));
}

fn with_unknown_key(toml: &str) -> String {
    toml.replace("[limits]\n", "[limits]\nmax_conections = 5\n")
}

/// Bad files: the fault, the content, and part of the message.
fn bad_files(toml: &str, taken: SocketAddr) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let in_use = toml.replace(
        "[backends.fleet]",
        &format!("[listeners.other]\nbind = [\"{taken}\"]\n[backends.fleet]"),
    );
    vec![
        ("bad TOML", b"[limits\n".to_vec(), ":1:"),
        ("empty", Vec::new(), "there are no listeners"),
        (
            "half written",
            toml.as_bytes()[..toml.len() - 30].to_vec(),
            "routes",
        ),
        (
            "unknown key",
            with_unknown_key(toml).into_bytes(),
            "max_conections",
        ),
        (
            "duplicate key",
            [toml.as_bytes(), b"\n[limits]\n"].concat(),
            "limits: this header is here twice",
        ),
        ("10 MB", vec![b'#'; 10 << 20], "larger than"),
        ("not UTF-8", vec![0xff, 0xfe], "UTF-8"),
        (
            "an address in use",
            in_use.into_bytes(),
            "routes.toml:7: listeners.other.bind: cannot listen on",
        ),
    ]
}

#[test]
fn f23_a_bad_file_changes_nothing_but_a_metric_and_the_log() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let mut client = portway.relayed();
    let hash = portway.count("portway_config_hash");
    let unknown = with_unknown_key(&toml);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut failures = 0;
    let mut check = |what: &str, expected: &str| {
        let output = portway.reload();
        assert_eq!(output.status.code(), Some(78), "{what}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(expected), "{what}: {told}");
        failures += 1;
        let metrics = portway.metrics();
        assert_eq!(
            metrics.count("portway_reloads_total{result=\"failure\"}"),
            failures
        );
        assert_eq!(metrics.count("portway_config_last_reload_successful"), 0);
        assert_eq!(metrics.count("portway_config_generation"), 1);
        assert_eq!(metrics.count("portway_config_hash"), hash);
        drop(portway.relayed());
    };
    for (what, content, expected) in bad_files(&toml, taken.local_addr().unwrap()) {
        fs::write(portway.file(), content).unwrap();
        check(what, expected);
    }
    fs::remove_file(portway.file()).unwrap();
    check("missing", "cannot be read");
    fs::create_dir(portway.file()).unwrap();
    check("a directory", "cannot be read");
    fs::remove_dir(portway.file()).unwrap();
    let made = Command::new("mkfifo").arg(portway.file()).status();
    assert!(made.unwrap().success());
    check("a pipe without a writer", "nobody has written to this pipe");
    // All faults are logged, and the reload prints those of its own file with place and remedy.
    portway.write(&unknown);
    check("unknown key again", "max_connections");
    let logged = |line: &serde_json::Value| message(line).contains("max_conections");
    portway.program.wait(PATIENCE, logged);

    // A byte order mark is not a fault.
    portway.write(&format!("\u{feff}{toml}"));
    let output = portway.reload();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(portway.count("portway_config_last_reload_successful"), 1);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn f23_a_file_with_thousands_of_faults_is_told_in_bounded_length() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let tie = |n: usize| format!("[routes.tie{n}]\nserver_names = [\"tie\"]\nbackend = \"main\"\n");
    portway.write(&(toml + &(0..1200).map(tie).collect::<String>()));
    let output = portway.reload();
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told.matches("error: ").count(), 51, "{told}");
    assert!(told.contains(" more in "), "{told}");
    assert!(told.len() < 64 << 10, "{} bytes", told.len());
    portway
        .program
        .wait(PATIENCE, |line| message(line).starts_with("reload failed"));
    let errors = portway.program.all();
    let errors = errors.iter().filter(|line| line["level"] == "ERROR");
    assert!((3..=52).contains(&errors.count()));
    assert_eq!(generation(&portway), 1);
}

#[test]
fn f24_of_many_signals_with_rewrites_the_last_wins_and_nothing_leaks() {
    let backend = Backend::echo();
    let toml = config(&[backend.address()], "", "");
    let portway = Portway::start(&toml);
    let with = |name: &str| format!("{toml}{}", route(name, backend.address(), ""));
    let rounds = count("PORTWAY_RELOADS", 10) * 20;
    portway.reload_with(&with("first"));
    let descriptors = process::descriptors(portway.pid());
    let threads = process::threads(portway.pid());
    let memory = process::resident(portway.pid());
    for round in 0..rounds {
        portway.write(&with(&format!("r{}", round % 7)));
        portway.signal(Signal::HUP);
        pause(Duration::from_millis(5));
    }
    portway.write(&with("last"));
    portway.signal(Signal::HUP);
    within(PATIENCE, "the last one is in force", || {
        is_routed(&portway, "last").then_some(())
    });
    assert!(!is_routed(&portway, "first"));
    // A thread that has read the file stays for ten seconds, and one more may have started.
    within(PATIENCE, "descriptors and threads are as before", || {
        let pid = portway.pid();
        let left = (process::descriptors(pid), process::threads(pid));
        (left.0 <= descriptors && left.1 <= threads).then_some(())
    });
    within(PATIENCE, "memory is as before", || {
        (process::resident(portway.pid()) < memory + (4 << 20)).then_some(())
    });
}

#[test]
fn limits_of_a_new_configuration_hold_for_new_connections() {
    let backend = Backend::echo();
    let toml = |most| {
        config(
            &[backend.address()],
            &format!("max_connections = {most}"),
            "",
        )
    };
    let portway = Portway::start(&toml(2));
    let mut kept = [portway.relayed(), portway.relayed()];
    assert!(is_reset(&portway));
    portway.reload_with(&toml(3));
    let mut third = portway.relayed();
    portway.reload_with(&toml(1));
    assert!(is_reset(&portway));
    for client in kept.iter_mut().chain([&mut third]) {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    assert_eq!(portway.count("portway_limit{limit=\"max_connections\"}"), 1);
}

#[test]
fn a_larger_hello_is_taken_after_a_reload_that_allows_it() {
    let backend = Backend::echo();
    let toml = |most| {
        config(
            &[backend.address()],
            &format!("max_client_hello = \"{most}\""),
            "",
        )
    };
    let portway = Portway::start(&toml("2KiB"));
    let large = Builder::new(super::fixture::NAME).padded_to(60_000).build();
    let answered = || {
        let mut client = connect(portway.address("agents"));
        // portway may refuse it before everything is sent.
        let sent = client.write_all(&large).is_ok();
        sent && client.read_exact(&mut large.clone()).is_ok()
    };
    assert!(!answered());
    portway.reload_with(&toml("64KiB"));
    assert!(answered());
}

#[test]
fn reload_finds_the_portway_of_its_file_only() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let elsewhere = tempfile::tempdir().unwrap();
    let output = Command::new(PORTWAY)
        .args(["reload", "--config"])
        .arg(elsewhere.path().join("routes.toml"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(generation(&portway), 1);
}

#[test]
fn a_reload_of_a_stopped_process_says_that_it_does_not_answer() {
    let backend = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    portway.signal(Signal::STOP);
    let output = portway.reload();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    let remedy = format!("`kill -CONT {}`", portway.pid());
    assert!(
        told.contains("has not answered") && told.contains(&remedy),
        "{told}"
    );
    portway.signal(Signal::CONT);
    assert!(portway.reload().status.success());
}
