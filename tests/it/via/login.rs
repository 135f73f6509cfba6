//! User and password for the proxy of a backend: they reach the proxy, and nothing else (invariant 14).

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

use super::{FAR, Proxy, closed, echo, head, http, refused, toml};
use crate::it::fixture::{NAME, PORTWAY, Portway, get, pause};
use crate::it::peers::{Backend, connect};
use crate::it::takeover::gap::{EVERY, HELD, Holding, request};

/// base64 of `agent-7:hunter2:word` and of `agent-7:wrong-word`.
const RIGHT: &str = "YWdlbnQtNzpodW50ZXIyOndvcmQ=";
const WRONG: &str = "YWdlbnQtNzp3cm9uZy13b3Jk";

/// A proxy that lets in who has the right password, and each request that it got.
fn proxy() -> (Backend, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let list = Arc::clone(&asked);
    let backend = Backend::start(move |mut stream| {
        let Some(head) = head(&mut stream) else {
            return;
        };
        let is_right = head.contains(&format!("\r\nProxy-Authorization: Basic {RIGHT}\r\n"));
        list.lock().unwrap().push(head);
        if is_right {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            return echo(stream);
        }
        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n";
        stream.write_all(answer).unwrap();
    });
    (backend, asked)
}

struct File(TempDir);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("login")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), Permissions::from_mode(0o600)).unwrap();
    }

    fn key(&self) -> String {
        format!("via_credentials_file = {:?}", self.path())
    }
}

#[test]
fn a_reload_takes_a_new_password_and_open_connections_stay() {
    let (proxy, asked) = proxy();
    let file = File::new("agent-7:wrong-word");
    let portway = Portway::start(&toml(&http(proxy.address()), &[FAR], &file.key()));
    let line = refused(&portway);
    assert_eq!(line["outcome"], "via_refused", "{line}");
    let detail = line["detail"].as_str().unwrap();
    let words =
        "HTTP/1.1 407 Proxy Authentication Required (the proxy refuses the user and the password)";
    assert!(detail.contains(words), "{line}");
    file.write("agent-7:hunter2:word\n");
    assert!(portway.reload().status.success());
    let held = portway.relayed();
    file.write("agent-7:wrong-word\r\n");
    assert!(portway.reload().status.success());
    refused(&portway);
    assert_eq!(closed(&portway, held)["outcome"], "closed");
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].contains(WRONG) && asked[1].contains(RIGHT) && asked[2].contains(WRONG));
}

#[test]
fn invariant_14_the_password_for_a_proxy_is_in_no_log_metric_or_message() {
    let (proxy, _) = proxy();
    let file = File::new("agent-7:hunter2:word\n");
    let mut portway = Portway::start(&toml(&http(proxy.address()), &[FAR], &file.key()));
    drop(closed(&portway, portway.relayed()));
    file.write("agent-7:wrong-word\n");
    let mut outputs = vec![portway.reload()];
    refused(&portway);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PORTWAY);
        command.args(arguments).arg("--config").arg(portway.file());
        command.output().unwrap()
    };
    for command in [
        &["explain", NAME][..],
        &["explain", NAME, "--output", "json"],
        &["check", "--output", "json"],
        &["doctor"],
    ] {
        outputs.push(run(command));
    }
    for wrong in [
        "agent-7 hunter2",
        "agent-7:hunter2\nagent-7:hunter2\n",
        ":hunter2",
        "agent-7:hunter2\u{7}",
        "",
    ] {
        file.write(wrong);
        let reload = portway.reload();
        assert!(!reload.status.success(), "{wrong:?}");
        outputs.push(reload);
        outputs.push(run(&["check"]));
    }
    let page = get(portway.admin(), "/metrics").unwrap().1;
    portway.signal(rustix::process::Signal::TERM);
    portway.wait_exit();
    let logs = [&portway.program, &portway.connections].map(|log| log.all());
    let mut all: Vec<String> = logs
        .into_iter()
        .flatten()
        .map(|it| it.to_string())
        .collect();
    assert!(all.len() > 10, "{all:?}");
    all.push(page);
    for output in outputs {
        all.extend([output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()));
    }
    assert!(all.iter().any(|text| text.contains("via_refused")));
    for secret in ["agent-7", "hunter2", "wrong-word", RIGHT, WRONG, "YWdlbnQ"] {
        for text in &all {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

/// A proxy that leads each tunnel to this server.
fn leading_to(server: SocketAddr) -> Proxy {
    let answer = |_: &str| b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    Proxy::http(answer, move |client| {
        let server = connect(server);
        let (mut from_client, mut to_server) = (&client, &server);
        let (mut from_server, mut to_client) = (&server, &client);
        thread::scope(|scope| {
            scope.spawn(move || {
                drop(io::copy(&mut from_client, &mut to_server));
                drop(to_server.shutdown(Shutdown::Write));
            });
            drop(io::copy(&mut from_server, &mut to_client));
            drop(to_client.shutdown(Shutdown::Write));
        });
    })
}

#[test]
fn a_new_password_ends_no_connection_until_a_reload_removes_the_endpoint() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let proxy = leading_to(backend.address());
    let file = File::new("agent-7:one");
    let keys = format!("{}\nclose_on = [\"removed\"]", file.key());
    let portway = Portway::start(&toml(&http(proxy.address()), &[FAR], &keys));
    let mut client = request(&portway, &tls);
    let local = client.sock.local_addr().unwrap();
    holding.wait_held(1);
    file.write("agent-7:two");
    assert!(portway.reload().status.success());
    pause(HELD);
    holding.answer();
    client.read_exact(&mut [0; 700]).unwrap();
    // Longer than portway needs where it ends them.
    pause(2 * HELD);
    let is_its = |line: &Value| line["client"] == local.to_string();
    assert!(portway.connections.find(is_its).is_none());
    portway.reload_with(&toml(&http(proxy.address()), &["new.invalid:9200"], &keys));
    let end = client.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "{end}");
    drop(client);
    let line = portway.line_of(local);
    assert_eq!(line["outcome"], "drained", "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.contains("gone from routes.toml"), "{detail}");
}
