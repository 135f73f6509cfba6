//! The program as a user sees it: help, exit status, and what each command prints.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use portway::net;
use tempfile::TempDir;

#[path = "cli/first_contact.rs"]
mod first_contact;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/healthcheck.rs"]
mod healthcheck;
#[path = "support/hello.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod hello;
#[path = "cli/output.rs"]
mod output;

/// A directory with the shipped routes.toml and a hello for it.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("routes.toml", include_bytes!("../routes.toml"));
    write("explain.toml", include_bytes!("cli/explain.toml"));
    write(
        "hello.bin",
        &hello::Builder::new("fleet.example.com")
            .alpn(&["h2"])
            .build(),
    );
    directory
}

fn portway(directory: &Path, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portway"))
        .args(line.split_whitespace())
        .current_dir(directory)
        .env_remove("PORTWAY_CONFIG")
        .output()
        .unwrap()
}

/// Everything that a run shows, as in a terminal.
fn session(directory: &Path, lines: &[&str]) -> String {
    let one = |line: &&str| {
        let output = portway(directory, line);
        format!(
            "$ portway {line}\n{}{}status {}\n",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            output.status.code().unwrap()
        )
    };
    lines.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Compares with `tests/cli/snapshots/NAME.snap`.
fn assert_snapshot(name: &str, text: &str) {
    insta::with_settings!({
        snapshot_path => "cli/snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn help_tells_what_each_command_does() {
    let commands = [
        "--help",
        "run --help",
        "reload --help",
        "check --help",
        "explain --help",
        "doctor --help",
        "healthcheck --help",
        "schema --help",
        "completions --help",
        "man --help",
    ];
    assert_snapshot("help", &session(directory().path(), &commands));
}

#[test]
fn every_example_of_the_help_works() {
    for command in ["check", "explain", "completions", "man"] {
        let directory = directory();
        let output = portway(directory.path(), &format!("{command} --help"));
        let help = String::from_utf8(output.stdout).unwrap();
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        let examples: Vec<&str> = examples
            .lines()
            .map_while(|line| line.strip_prefix("  portway "))
            .collect();
        assert!(!examples.is_empty(), "{command}");
        for example in examples {
            let output = portway(directory.path(), example);
            assert!(output.status.success(), "{example}: {output:?}");
        }
    }
}

#[test]
fn explain_tells_the_route_and_those_passed_over() {
    let lines = [
        "explain --server-name fleet.example.com",
        "explain --server-name FLEET.example.com --client ::ffff:10.1.2.3",
    ];
    assert_snapshot("explain_shipped", &session(directory().path(), &lines));
    let lines = [
        "--server-name fleet.example.com --listener internal --alpn h2 --client 10.1.2.3",
        "--server-name fleet.example.com --listener agents --alpn h2 --client 10.1.2.3",
        "--server-name a.b.example.com --listener agents",
        "--no-server-name --listener internal",
        "--hello hello.bin --listener internal",
    ]
    .map(|line| format!("explain --config explain.toml {line}"));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_snapshot("explain_routed", &session(directory().path(), &lines));
}

/// `check` takes them too.
#[test]
fn explain_takes_a_name_in_unicode() {
    let directory = directory();
    let text = include_str!("../routes.toml").replace("es.example.com", "b\u{fc}cher.example");
    fs::write(directory.path().join("routes.toml"), text).unwrap();
    for line in [
        "explain b\u{fc}cher.example",
        "explain B\u{dc}CHER.example",
        "explain --server-name b\u{fc}cher.example",
        "explain xn--bcher-kva.example",
    ] {
        let output = portway(directory.path(), line);
        assert!(output.status.success(), "{line}: {output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        let route = "route        elasticsearch (xn--bcher-kva.example)";
        assert!(told.contains(route), "{line}: {told}");
    }
    let output = portway(directory.path(), "explain fleet\u{200b}.example.com");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("U+200B"), "{told}");
}

#[test]
fn explain_tells_why_a_connection_is_refused_and_what_the_client_gets() {
    let lines = [
        "--server-name nobody.example.org --listener agents",
        "othre.example.org --listener agents",
        "fleet.exmaple.com --listener agents",
        "--server-name 10.0.0.7 --listener agents",
        "--no-server-name --listener agents",
        "--server-name fleet.example.com --listener agents --client 10.66.0.1",
    ]
    .map(|line| format!("explain --config explain.toml {line}"));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_snapshot("explain_refused", &session(directory().path(), &lines));
}

#[test]
fn explain_judges_hellos_as_the_relay_does() {
    let directory = directory();
    let whole = hello::Builder::new("fleet.example.com").build();
    let without_name = hello::Builder::without_name().tls12().build();
    let mut malformed = whole.clone();
    malformed[5] = 2;
    let files: [(&str, &[u8]); 10] = [
        ("short.bin", &whole[..100]),
        ("empty.bin", b""),
        ("without_name.bin", &without_name),
        (
            "escaped.bin",
            &hello::Builder::new(b"a\x1b[31m.example").build(),
        ),
        (
            "http.bin",
            b"GET / HTTP/1.1\r\nHost: fleet.example.com\r\n\r\n",
        ),
        (
            "connect.bin",
            b"CONNECT fleet.example.com:443 HTTP/1.1\r\nHost: fleet.example.com:443\r\n\r\n",
        ),
        ("proxy.bin", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
        ("ssh.bin", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("smtp.bin", b"EHLO \x1b[31mmail.example.com\r\n"),
        ("malformed.bin", &malformed),
    ];
    for (name, bytes) in files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    let mut lines: Vec<String> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
    lines.push("missing.bin".to_owned());
    let lines: Vec<String> = lines
        .iter()
        .map(|name| format!("explain --hello {name}"))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_snapshot("explain_hello", &session(directory.path(), &lines));
}

#[test]
fn check_tells_faults_and_warnings_by_exit_status() {
    let directory = directory();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let shipped = include_str!("../routes.toml");
    write(
        "faulty.toml",
        &shipped.replace("backend = \"fleet\"", "backend = \"flet\""),
    );
    let warned = shipped.replace(
        "\"es-1.internal:9200\"]",
        "\"es-1.internal:9200\"]\nidle_timeout = \"5m\"",
    );
    write("warned.toml", &warned);
    write(
        "both.toml",
        &warned.replace("backend = \"fleet\"", "backend = \"flet\""),
    );
    let lines = [
        "check",
        "check --config faulty.toml",
        "check --config warned.toml",
        "check --config warned.toml --strict",
        "check --config both.toml",
        "check --config both.toml --strict",
        "check --config missing.toml",
        "explain --config faulty.toml --server-name fleet.example.com",
        "run --config faulty.toml",
    ];
    assert_snapshot("check", &session(directory.path(), &lines));
}

#[test]
fn bad_usage_has_its_own_exit_status() {
    let lines = [
        "",
        "fly",
        "explain",
        "explain --server-name a.example --no-server-name",
        "explain a.example --server-name a.example",
        "explain a.example --no-server-name",
        "explain fleet\u{200b}.example.com",
        "explain --hello hello.bin --alpn h2",
        "explain --server-name a.example --client office",
        "explain --config explain.toml --server-name a.example",
        "explain --config explain.toml --server-name a.example --listener agent",
        "completions",
        "man pages",
    ];
    for line in lines {
        let output = portway(directory().path(), line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(!output.stderr.is_empty(), "{line}");
    }
}

#[test]
fn a_command_line_that_other_programs_have_is_told_what_to_write() {
    let lines = [
        "version",
        "stats",
        "start",
        "stop",
        "restart",
        "validate",
        "chekc",
        "routes.toml",
        "-c routes.toml check",
        "--config=routes.toml check",
        "check --json",
        "check -f routes.toml",
        "run -v",
        "run --json",
        "run --format json",
        "run --port 443",
        "run --daemon",
        "metrics",
        "logs",
        "reload --dry-run",
        "check --stirct",
    ];
    assert_snapshot("tips", &session(directory().path(), &lines));
}

#[test]
fn explain_asks_for_the_name_alone_and_says_which_that_is() {
    let lines = [
        "explain",
        "explain --listener agents",
        "explain fleet.example.com:443",
        "explain https://fleet.example.com:8220/api/status?x=1",
        "explain --server-name fleet.example.com/",
        "explain https://b\u{fc}cher.example",
        "explain 10.0.0.7",
        "explain 10.0.0.7:8220",
        "explain https://[fd00::7]:8220",
    ];
    let told = session(directory().path(), &lines);
    assert_snapshot("explain_name", &told);
    // The line that it gives works.
    for line in told
        .lines()
        .filter(|line| line.ends_with("explain fleet.example.com"))
    {
        let (_, line) = line.rsplit_once("portway ").unwrap();
        assert!(portway(directory().path(), line).status.success(), "{line}");
    }
}

/// Runs a line of bash in the directory with `$PORTWAY`, and kills it after ten times the time that it may take.
fn bash(directory: &Path, line: &str) -> Output {
    let mut bash = Command::new("timeout");
    bash.args(["60", "bash", "-c", line])
        .env("PORTWAY", env!("CARGO_BIN_EXE_portway"))
        .current_dir(directory);
    bash.output().unwrap()
}

#[test]
fn a_file_may_come_through_a_pipe_that_ends() {
    let directory = directory();
    for line in [
        "cat routes.toml | $PORTWAY check --config /dev/stdin",
        "$PORTWAY check --config /dev/stdin < routes.toml",
        "$PORTWAY check --config <(cat routes.toml)",
        "mkfifo late; cat routes.toml > late & $PORTWAY check --config late",
        "$PORTWAY explain --hello <(cat hello.bin) --listener agents",
    ] {
        let output = bash(directory.path(), line);
        assert!(output.status.success(), "{line}: {output:?}");
    }
}

#[test]
fn what_is_no_file_and_never_ends_is_refused_by_every_command() {
    let directory = directory();
    assert!(bash(directory.path(), "mkfifo pipe").status.success());
    let nobody = ["pipe", "nobody has written to this pipe", "close it"];
    let device = ["/dev/zero", "neither a file nor a pipe", "name a file"];
    let parent = [".", "it is a directory", "name the file in it"];
    let endless = ["<(yes)", "is larger than 1 MiB", "name another file"];
    let judge = |command: &str, status, [file, cause, remedy]: [&str; 3]| {
        let line = format!("$PORTWAY {command} --config {file}");
        let output = bash(directory.path(), &line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{line}: {output:?}");
        let is_told = told.contains(cause) && told.contains(remedy);
        assert!(is_told, "{line}: {told}");
    };
    // Each waits three seconds for a writer.
    thread::scope(|scope| {
        for (command, status) in [
            ("check", 78),
            ("run", 78),
            ("explain --server-name fleet.example.com", 78),
            ("healthcheck", 1),
        ] {
            scope.spawn(move || {
                for file in [nobody, device, parent, endless] {
                    judge(command, status, file);
                }
            });
        }
    });
}

#[test]
fn a_pipe_that_gives_no_bytes_is_told() {
    let directory = directory();
    for (line, status) in [
        ("$PORTWAY check --config <(true)", 78),
        ("mkfifo pipe; : > pipe & $PORTWAY check --config pipe", 78),
        (
            "cat routes.toml | (cat > copy; $PORTWAY check --config /dev/stdin)",
            78,
        ),
        ("$PORTWAY explain --hello <(true) --listener agents", 1),
    ] {
        let output = bash(directory.path(), line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{line}: {output:?}");
        assert!(
            told.contains("it is a pipe that gave no bytes") && !told.contains("listeners"),
            "{line}: {told}"
        );
    }
    // This file has been read, but is empty.
    let output = bash(directory.path(), ": > empty; $PORTWAY check --config empty");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("there are no listeners"), "{told}");
}

#[test]
fn a_pipe_that_is_not_closed_is_told() {
    let mut portway = Command::new(env!("CARGO_BIN_EXE_portway"))
        .args(["check", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = portway.stdin.take().unwrap();
    pipe.write_all(include_bytes!("../routes.toml")).unwrap();
    let output = portway.wait_with_output().unwrap();
    drop(pipe);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("the writer of this pipe has not closed it"),
        "{told}"
    );
}

#[test]
fn a_bad_file_ends_run_also_if_nobody_reads_its_faults() {
    let directory = directory();
    fs::write(directory.path().join("bad.toml"), "workers = 0\n".repeat(2)).unwrap();
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b' '; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut command = Command::new("timeout");
    command.current_dir(directory.path()).stderr(writer);
    command.args(["60", env!("CARGO_BIN_EXE_portway")]);
    let status = command.args(["run", "--config", "bad.toml"]).status();
    let status = status.unwrap();
    assert_eq!(status.code(), Some(78));
}

#[test]
fn check_opens_no_socket() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = directory();
    let text = include_str!("../routes.toml")
        .replace("[::]:443", &taken.local_addr().unwrap().to_string());
    fs::write(directory.path().join("taken.toml"), text).unwrap();
    let output = portway(directory.path(), "check --config taken.toml");
    assert!(output.status.success(), "{output:?}");
}

/// jemalloc itself reports which settings it found, and where.
#[test]
fn the_allocator_has_its_settings_from_the_binary() {
    let output = Command::new(env!("CARGO_BIN_EXE_portway"))
        .arg("schema")
        .env("_RJEM_MALLOC_CONF", "confirm_conf:true")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let settings = net::ALLOCATOR_SETTINGS.strip_suffix(b"\0").unwrap();
    let settings = str::from_utf8(settings).unwrap();
    let expected = format!("the global variable malloc_conf): \"{settings}\"");
    assert!(told.contains(&expected), "{told}");
    assert!(told.contains("Set conf value: tcache:false"), "{told}");
    assert!(!told.contains("Invalid"), "{told}");
}

/// The relay answers such a request before it knows the protocols of the hello.
#[test]
fn explain_tells_of_a_proxy_listener_what_its_client_gets() {
    let toml = "[listeners.proxy]\nbind = [\"[::]:3128\"]\nprotocol = \"http_connect\"\n\
                [backends.fleet]\nendpoints = [\"10.0.0.7:8220\"]\n\
                [routes.fleet]\nserver_names = [\"a.example\"]\nalpn = [\"h2\"]\nbackend = \"fleet\"\n";
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("routes.toml"), toml).unwrap();
    let lines = [
        "explain b.example",
        "explain a.example",
        "explain a.example --alpn h2",
    ];
    assert_snapshot("explain_proxy", &session(directory.path(), &lines));
}

/// At such a listener an address leads only to an endpoint that is written, or that a name may lead to.
#[test]
fn explain_tells_which_addresses_the_client_of_a_proxy_may_ask_for() {
    let toml = "[listeners.proxy]\nbind = [\"[::]:3128\"]\nprotocol = \"http_connect\"\n\
                [backends.fleet]\nendpoints = [\"10.0.0.7:8220\", \"es.invalid:9200\"]\n\
                [routes.fleet]\nno_server_name = true\nbackend = \"fleet\"\n";
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("routes.toml"), toml).unwrap();
    let lines = [
        "explain 10.0.0.7",
        "explain 10.0.0.7 --port 8220",
        "explain https://10.0.0.7:8220 --port 8220",
        "explain 10.0.0.8 --port 8220",
        "explain 10.0.0.8 --port 9200",
        "explain 10.0.0.7 --port 8220 --output json",
    ];
    assert_snapshot("explain_addresses", &session(directory.path(), &lines));
}

/// Only the proxy resolves these names, so no address can be that of one of them.
#[test]
fn explain_refuses_an_address_behind_a_proxy_that_resolves_the_names() {
    let via = "via = \"http://proxy.corp:3128\"";
    for (keys, status) in [
        (via.to_owned(), 1),
        (format!("{via}\nresolver.servers = [\"10.0.0.53\"]"), 0),
        (String::new(), 0),
    ] {
        let toml = format!(
            "[listeners.proxy]\nbind = [\"[::]:3128\"]\nprotocol = \"http_connect\"\n\
             [backends.fleet]\nendpoints = [\"es.invalid:9200\", \"10.0.0.7:8220\"]\n{keys}\n\
             [routes.fleet]\nno_server_name = true\nbackend = \"fleet\"\n"
        );
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("routes.toml"), toml).unwrap();
        let output = portway(directory.path(), "explain 10.0.0.8 --port 9200");
        assert_eq!(output.status.code(), Some(status), "{keys}: {output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        let words = if status == 0 {
            "portway dials 10.0.0.8:9200 only if it is an address of es.invalid:9200\n"
        } else {
            "target_denied"
        };
        assert!(told.contains(words), "{keys}: {told}");
        let output = portway(directory.path(), "explain 10.0.0.7 --port 8220");
        assert!(output.status.success(), "{keys}: {output:?}");
    }
}

#[test]
fn explain_refuses_a_connection_whose_endpoints_all_drain() {
    let file = |protocol: &str, endpoints: &str| {
        format!(
            "[listeners.agents]\nbind = [\"[::]:443\"]\nprotocol = \"{protocol}\"\n\
             [backends.fleet]\nendpoints = [{endpoints}]\n\
             [routes.fleet]\nserver_names = [\"a.example\"]\nno_server_name = true\nbackend = \"fleet\"\n"
        )
    };
    let directory = TempDir::new().unwrap();
    let explain = |toml: String, line: &str| {
        fs::write(directory.path().join("routes.toml"), toml).unwrap();
        session(directory.path(), &[&format!("explain {line}")])
    };
    let drained = "{ address = \"10.0.0.7:8220\", state = \"drain\" }";
    assert_snapshot(
        "explain_drained",
        &explain(file("tls", drained), "a.example"),
    );
    let one_of_two = format!("{drained}, \"10.0.0.8:8220\"");
    let told = explain(file("tls", &one_of_two), "a.example");
    assert!(told.ends_with("status 0\n"), "{told}");
    // The client of a proxy that asks for an address gets that endpoint and no other.
    for (address, status) in [("10.0.0.7", 1), ("10.0.0.8", 0)] {
        let line = format!("{address} --port 8220");
        let told = explain(file("socks5", &one_of_two), &line);
        assert!(told.ends_with(&format!("status {status}\n")), "{told}");
        assert_eq!(told.contains("backend_unavailable"), status == 1, "{told}");
    }
    let named = format!(
        "{drained}, {{ address = \"es.invalid:8220\", state = \"drain\" }}, \"es-1.invalid:8220\""
    );
    let told = explain(file("socks5", &named), "10.0.0.7 --port 8220");
    let note = "portway dials 10.0.0.7:8220 only if it is an address of es-1.invalid:8220\n";
    assert!(told.contains(note), "{told}");
}

#[test]
fn explain_asks_for_the_port_where_a_route_has_ports() {
    let toml = "[listeners.agents]\nbind = [\"[::]:8220\", \"[::]:9200\"]\n\
                [backends.fleet]\nendpoints = [\"10.0.0.7:8220\"]\n\
                [routes.fleet]\nserver_names = [\"a.example\"]\nports = [8220]\nbackend = \"fleet\"\n";
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("routes.toml"), toml).unwrap();
    let lines = [
        "explain a.example",
        "explain a.example --port 8220",
        "explain a.example --port 9200",
        "explain a.example --port 443",
    ];
    assert_snapshot("explain_ports", &session(directory.path(), &lines));
}
