//! `portway healthcheck` against the program, and against servers that behave otherwise.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use portway::app::{self, Output};
use portway::telemetry::{Form, Format};
use tempfile::TempDir;

use super::{assert_snapshot, directory, portway, session};

/// The shipped routes.toml with admin at an address, written as a value of TOML.
fn with_admin(bind: &str) -> TempDir {
    let directory = directory();
    let text = format!("admin.bind = {bind}\n{}", include_str!("../../routes.toml"));
    fs::write(directory.path().join("routes.toml"), text).unwrap();
    directory
}

/// A server that takes one request and answers with `answer`. The directory has a routes.toml that leads
/// to it.
fn server(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> (SocketAddr, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        answer(&mut stream);
    });
    (address, with_admin(&format!("\"{address}\"")))
}

#[test]
fn the_running_program_is_alive_and_ready_and_then_gone() {
    let text = include_str!("../../routes.toml").replace("[::]:443", "127.0.0.1:0");
    let text = format!("admin.bind = \"127.0.0.1:0\"\n{text}");
    let settings = portway::config::parse(&text, "routes.toml")
        .unwrap()
        .settings;
    let output = Output {
        connections: Box::new(io::sink()),
        form: Form::always(Format::Json),
    };
    let running = app::start(settings, output).unwrap();
    let directory = with_admin(&format!("\"{}\"", running.admin().unwrap()));
    let asked = Instant::now();
    // portway is ready a moment after it has started.
    while !portway(directory.path(), "healthcheck --ready")
        .status
        .success()
    {
        assert!(asked.elapsed() < Duration::from_mins(2));
    }
    let output = portway(directory.path(), "healthcheck");
    assert!(output.status.success(), "{output:?}");
    let address = running.admin().unwrap();
    // Another process may answer there, so it says which address it has asked, and why that one.
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        format!("/livez at {address} says 200 (admin.bind in routes.toml:1)\n")
    );
    assert!(output.stderr.is_empty());
    let json = portway(directory.path(), "healthcheck --output json");
    let told: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(told["address"], address.to_string());
    assert_eq!(told["address_from"], "admin.bind in routes.toml:1");

    running.stop();
    let output = portway(directory.path(), "healthcheck");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        told,
        format!(
            "error: nobody listens at {address} (admin.bind in routes.toml:1): does portway run with this \
             file?\n"
        )
    );
}

#[test]
fn who_is_not_well_is_told_with_the_reasons() {
    let answers = [
        "HTTP/1.0 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n",
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "",
    ];
    let told = answers.map(|answer| {
        let (address, directory) = server(move |stream| {
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let told = session(directory.path(), &["healthcheck --ready"]);
        told.replace(&address.to_string(), "ADDRESS")
    });
    assert_snapshot("healthcheck_unwell", &told.join("\n"));
}

#[test]
fn silence_ends_after_two_seconds() {
    let (_, directory) = server(|stream| drop(stream.read(&mut [0])));
    let asked = Instant::now();
    let output = portway(directory.path(), "healthcheck");
    assert_eq!(output.status.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(20));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.ends_with(" has not answered within 2 s\n"), "{told}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "this server is a thread")]
fn an_endless_answer_ends_by_its_size_or_after_two_seconds() {
    for pause in [Duration::ZERO, Duration::from_millis(100)] {
        let (_, directory) = server(move |stream| {
            // Sends until the reader closes.
            while stream.write_all(&[b'x'; 1024]).is_ok() {
                thread::sleep(pause);
            }
        });
        let asked = Instant::now();
        let output = portway(directory.path(), "healthcheck");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(asked.elapsed() < Duration::from_secs(20));
        assert!(output.stderr.len() < 200, "{output:?}");
    }
}

#[test]
fn a_wildcard_is_asked_at_loopback() {
    for any in ["0.0.0.0", "[::]"] {
        let (address, directory) = server(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok\n").unwrap();
        });
        let text = fs::read_to_string(directory.path().join("routes.toml")).unwrap();
        let text = text.replace("127.0.0.1", any);
        assert!(text.contains(&format!("{any}:{}", address.port())));
        fs::write(directory.path().join("routes.toml"), text).unwrap();
        let output = portway(directory.path(), "healthcheck");
        assert!(output.status.success(), "{any}: {output:?}");
    }
}

/// After a failed reload the program runs on with the configuration that it has.
#[test]
fn faults_of_the_file_elsewhere_do_not_matter() {
    let fine = include_str!("../../routes.toml");
    for text in [
        fine.replace("backend = \"fleet\"", "backend = \"flet\"\nalpm = 1"),
        fine.replace("[routes.fleet]", "[routes.fleet"),
        fine.replace("\"[::]:443\"", "443"),
        String::new(),
    ] {
        let (address, directory) = server(|stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nok\n").unwrap();
        });
        let text = format!("limits = 5\n[admin]\nbind = \"{address}\"\n{text}");
        fs::write(directory.path().join("routes.toml"), &text).unwrap();
        let output = portway(directory.path(), "healthcheck");
        assert!(output.status.success(), "{text}: {output:?}");
    }
}

#[test]
fn an_address_that_cannot_be_asked_comes_with_a_remedy() {
    let told = ["false", "true", "\"127.0.0.1:0\"", "\"localhost\"", "9355"].map(|bind| {
        let directory = with_admin(bind);
        format!(
            "admin.bind = {bind}\n{}",
            session(directory.path(), &["healthcheck"])
        )
    });
    let missing = session(directory().path(), &["healthcheck --config missing.toml"]);
    assert_snapshot(
        "healthcheck_remedies",
        &format!("{}\n{missing}", told.join("\n")),
    );
}
