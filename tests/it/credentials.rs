//! Proxy listeners that ask for user and password: who is let in, what others get, and that no secret shows up
//! anywhere (invariant 14).

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::fixture::{PATIENCE, PORTWAY, Portway, alike, get, hello, route, within};
use super::hello::Builder;
use super::peers::{Backend, connect, read_to_end};

/// Hashes of `right horse` and of `other`, as htpasswd writes them, and a costly one of `right horse`.
const RIGHT_HORSE: &str = "$2y$05$DCq7YPn5Rq63x1Lad4cll.HBDohiHssWWTvAkR0t7BcDSKBnDJsfK";
const OTHER: &str = "$2y$05$DCq7YPn5Rq63x1Lad4cll.3gO67SK9g9bfxELd5Es3Begjdjx.fSO";
const COSTLY: &str = "$2b$12$DCq7YPn5Rq63x1Lad4cll.dhOndCSKb4ubXlkSIL7CigfHkrm/V2m";

/// base64 of `agent-7:right horse`, `agent-7:wrong horse`, `agent-7:other` and `stranger:right horse`.
const RIGHT: &str = "YWdlbnQtNzpyaWdodCBob3JzZQ==";
const WRONG: &str = "YWdlbnQtNzp3cm9uZyBob3JzZQ==";
const OTHERS: &str = "YWdlbnQtNzpvdGhlcg==";
const STRANGER: &str = "c3RyYW5nZXI6cmlnaHQgaG9yc2U=";

const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A portway with the listeners `http` and `socks`, whose users are in a file beside routes.toml, and `agents`.
struct Site {
    portway: Portway,
    directory: TempDir,
    backend: Backend,
}

fn write_users(directory: &TempDir, users: &str) {
    // By a rename, as editors do.
    let [new, file] = ["users.new", "users"].map(|name| directory.path().join(name));
    fs::write(&new, users).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, file).unwrap();
}

fn start(users: &str, limits: &str, arguments: &[&str]) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::echo();
    let toml = format!(
        "admin.bind = \"127.0.0.1:0\"\n[limits]\n{limits}\n\
         [listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
         [listeners.http]\nbind = [\"127.0.0.1:0\"]\nprotocol = \"http_connect\"\ncredentials_file = \"users\"\n\
         [listeners.socks]\nbind = [\"127.0.0.1:0\"]\nprotocol = \"socks5\"\ncredentials_file = \"users\"\n{}",
        route("fleet", backend.address(), "")
    );
    write_users(&directory, users);
    let file = directory.path().join("routes.toml");
    fs::write(&file, toml).unwrap();
    let portway = Portway::start_at(&file, arguments);
    Site {
        portway,
        directory,
        backend,
    }
}

fn agent(hash: &str) -> String {
    format!("# the fleet\nagent-7:{hash}\n")
}

fn request(target: &str, fields: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{fields}\r\n")
}

fn basic(base64: &str) -> String {
    format!("Proxy-Authorization: Basic {base64}\r\n")
}

/// A message with user and password.
fn login(user: &str, password: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[1][..], &part(user), &part(password)].concat()
}

const GREETING: &[u8] = &[5, 2, 0, 2];

fn socks_request(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    [
        &[5, 1, 0, 3, length],
        name.as_bytes(),
        &443_u16.to_be_bytes(),
    ]
    .concat()
}

impl Site {
    fn client(&self, listener: &str) -> TcpStream {
        connect(self.portway.address(listener))
    }

    /// Sends these bytes, and returns what comes back until portway closes, with the line of the log.
    fn refused(&self, listener: &str, sent: &[u8]) -> (Vec<u8>, Value) {
        let mut client = self.client(listener);
        client.write_all(sent).unwrap();
        let (answer, _) = read_to_end(&mut client);
        let address = client.local_addr().unwrap();
        drop(client);
        (answer, self.portway.line_of(address))
    }

    /// The same for a CONNECT request with these fields: the first line of the answer, and all of it.
    fn refused_http(&self, target: &str, fields: &str) -> (String, String, Value) {
        let (answer, line) = self.refused("http", request(target, fields).as_bytes());
        let answer = String::from_utf8(answer).unwrap();
        let first = answer.lines().next().unwrap_or_default().to_owned();
        (first, answer, line)
    }

    /// Opens a tunnel with these fields, and sends a hello through it.
    fn tunnels(&self, fields: &str) -> Value {
        let mut client = self.client("http");
        let sent = request("fleet.example:443", fields);
        client.write_all(sent.as_bytes()).unwrap();
        client.write_all(&hello()).unwrap();
        let mut answer = vec![0; OPEN.len() + hello().len()];
        client.read_exact(&mut answer).unwrap();
        let (open, echoed) = answer.split_at(OPEN.len());
        assert_eq!(String::from_utf8_lossy(open), OPEN);
        assert!(alike(echoed, &hello()));
        let address = client.local_addr().unwrap();
        drop(client);
        self.portway.line_of(address)
    }

    /// Sends a wrong password, and does not wait for the answer to it.
    fn guesses(&self, number: usize) -> TcpStream {
        let mut client = self.client("socks");
        let guess = [GREETING, &login("agent-7", &format!("guess {number}"))].concat();
        client.write_all(&guess).unwrap();
        client.read_exact(&mut [0; 2]).unwrap();
        client
    }

    fn is_refused(&self, fields: &str, status: &str) {
        let (first, _, _) = self.refused_http("fleet.example:443", fields);
        assert!(first.starts_with(&format!("HTTP/1.1 {status} ")), "{first}");
    }
}

const UNKNOWN: &str = "407 portway does not know this user and password: compare them with the credentials_file of portway";
const MALFORMED: &str =
    "407 the Proxy-Authorization of the request is not a user and a password in base64";

#[test]
fn a_client_with_the_right_password_is_let_in_and_others_get_the_reason() {
    // A target without a route gets the same answers, so strangers learn nothing of the routes.
    for target in ["fleet.example:443", "flete.example:443"] {
        refuses_others(target);
    }
}

fn refuses_others(target: &str) {
    let site = start(&agent(RIGHT_HORSE), "", &[]);
    for _ in 0..2 {
        let line = site.tunnels(&basic(RIGHT));
        assert_eq!(
            (&line["outcome"], &line["target"]),
            (&"closed".into(), &"fleet.example:443".into())
        );
    }
    let twice = basic(RIGHT) + &basic(RIGHT);
    let wrong = "the user is unknown, or the password is wrong";
    let malformed = "the client's Proxy-Authorization is not a user and a password";
    for (fields, status, detail) in [
        (
            String::new(),
            "407 portway asks for a user and a password: write them into the URL of the proxy, http://USER:PASSWORD@HOST:PORT",
            "the client sent no user and password",
        ),
        (
            "Proxy-Authorization: Bearer abc\r\n".to_owned(),
            "407 portway takes a user and a password by Basic authentication only",
            "the client's Proxy-Authorization has another scheme than Basic",
        ),
        (basic("%%%"), MALFORMED, malformed),
        (twice, MALFORMED, malformed),
        (basic(WRONG), UNKNOWN, wrong),
        (basic(STRANGER), UNKNOWN, wrong),
        // The second time from memory.
        (basic(WRONG), UNKNOWN, wrong),
        (basic(STRANGER), UNKNOWN, wrong),
    ] {
        let (first, answer, line) = site.refused_http(target, &fields);
        assert_eq!(first, format!("HTTP/1.1 {status}"));
        let scheme = "\r\nProxy-Authenticate: Basic realm=\"portway\"\r\n";
        assert!(answer.contains(scheme), "{answer}");
        assert_eq!(line["outcome"], "proxy_auth_failed", "{line}");
        assert_eq!(line["detail"], detail, "{line}");
        assert_eq!(line["closed_by"], "portway", "{line}");
        assert_eq!(
            (&line["target"], &line["nearest"]),
            (&Value::Null, &Value::Null)
        );
    }
    let failed = "portway_connections_closed_total{listener=\"http\",backend=\"-\",outcome=\"proxy_auth_failed\"}";
    assert_eq!(site.portway.count(failed), 8);
    // With the right password it is the target that counts.
    let (first, _, line) = site.refused_http("flete.example:443", &basic(RIGHT));
    assert!(first.starts_with("HTTP/1.1 403 "), "{first}");
    assert_eq!(line["target"], "flete.example:443", "{line}");
    assert_eq!(site.backend.accepted(), 2);
}

#[test]
fn a_socks5_client_with_the_right_password_is_let_in_in_parts_of_any_size() {
    let site = start(&agent(RIGHT_HORSE), "", &[]);
    let hello = hello();
    let sent = [
        GREETING,
        &login("agent-7", "right horse"),
        &socks_request("fleet.example"),
        &hello,
    ]
    .concat();
    let wanted = [&[5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &hello].concat();
    for size in [1, 7, sent.len()] {
        let mut client = site.client("socks");
        client.set_nodelay(true).unwrap();
        for part in sent.chunks(size) {
            client.write_all(part).unwrap();
        }
        let mut answer = vec![0; wanted.len()];
        client.read_exact(&mut answer).unwrap();
        assert!(answer == wanted, "in parts of {size}");
    }
}

#[test]
fn a_socks5_client_without_the_right_password_is_refused_before_its_request() {
    let site = start(&agent(RIGHT_HORSE), "", &[]);
    let failed = "proxy_auth_failed";
    let wrong = "the user is unknown, or the password is wrong";
    for (sent, answer, outcome, detail) in [
        (
            &[5, 1, 0][..],
            &[5, 0xff][..],
            failed,
            "the client sent no user and password",
        ),
        (
            &[GREETING, &login("agent-7", "wrong horse")].concat(),
            &[5, 2, 1, 1],
            failed,
            wrong,
        ),
        (
            &[GREETING, &login("stranger", "right horse")].concat(),
            &[5, 2, 1, 1],
            failed,
            wrong,
        ),
        (
            &[GREETING, &login("", "")].concat(),
            &[5, 2, 1, 1],
            failed,
            wrong,
        ),
        (
            &[GREETING, &socks_request("fleet.example")].concat(),
            &[5, 2, 1, 1],
            "invalid_proxy_request",
            "the client's second message is not a user and a password (RFC 1929)",
        ),
    ] {
        let (answered, line) = site.refused("socks", sent);
        assert_eq!(answered, answer, "{line}");
        assert_eq!(
            (&line["outcome"], &line["detail"]),
            (&outcome.into(), &detail.into())
        );
        assert_eq!(line["target"], Value::Null, "{line}");
    }
    assert_eq!(site.backend.accepted(), 0);
}

#[test]
fn a_changed_file_counts_from_the_next_reload_on_whatever_was_remembered() {
    let site = start(&agent(RIGHT_HORSE), "", &[]);
    site.tunnels(&basic(RIGHT));
    site.is_refused(&basic(OTHERS), "407");
    write_users(&site.directory, &agent(OTHER));
    // routes.toml is the same; the answer names the new generation.
    let reloaded = site.portway.reload();
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert_eq!(site.portway.count("portway_config_generation"), 2);
    site.tunnels(&basic(OTHERS));
    site.is_refused(&basic(RIGHT), "407");

    write_users(&site.directory, "agent-7:secret-word\n");
    let reloaded = site.portway.reload();
    let told = String::from_utf8(reloaded.stderr).unwrap();
    assert!(!reloaded.status.success());
    assert!(
        told.contains("line 1 of ") && told.contains("has no bcrypt hash"),
        "{told}"
    );
    assert!(
        !told.contains("secret-word") && !told.contains("agent-7"),
        "{told}"
    );
    site.tunnels(&basic(OTHERS));
    fs::remove_file(site.directory.path().join("users")).unwrap();
    assert!(!site.portway.reload().status.success());
    site.tunnels(&basic(OTHERS));
}

#[test]
fn the_watch_sees_the_file_of_users_in_another_directory_too() {
    let site = start(&agent(RIGHT_HORSE), "", &["--watch"]);
    let count = |series: &str, wanted: u64| {
        within(PATIENCE, series, || {
            (site.portway.count(series) == wanted).then_some(())
        });
    };
    count("portway_config_watch{mode=\"inotify\"}", 1);
    write_users(&site.directory, &agent(OTHER));
    count("portway_config_generation", 2);
    site.tunnels(&basic(OTHERS));
    // A fault is reported once, and its repair is noticed.
    write_users(&site.directory, "agent-7\n");
    count("portway_reloads_total{result=\"failure\"}", 1);
    write_users(&site.directory, &agent(RIGHT_HORSE));
    count("portway_config_generation", 3);
    assert_eq!(
        site.portway.count("portway_config_last_reload_successful"),
        1
    );
    site.tunnels(&basic(RIGHT));

    // The directory comes later than its name.
    let secrets = site.directory.path().join("secrets");
    let users: PathBuf = secrets.join("users");
    let toml = fs::read_to_string(site.portway.file()).unwrap();
    site.portway
        .write(&toml.replace("\"users\"", "\"secrets/users\""));
    count("portway_reloads_total{result=\"failure\"}", 2);
    assert_eq!(
        site.portway.count("portway_config_watch{mode=\"inotify\"}"),
        1
    );
    fs::create_dir(&secrets).unwrap();
    fs::write(secrets.join("new"), agent(RIGHT_HORSE)).unwrap();
    fs::rename(secrets.join("new"), &users).unwrap();
    count("portway_config_generation", 4);
    fs::write(&users, agent(OTHER)).unwrap();
    within(
        PATIENCE,
        "the file in the other directory is in force",
        || (site.portway.count("portway_config_generation") >= 5).then_some(()),
    );
    site.is_refused(&basic(RIGHT), "407");
    site.tunnels(&basic(OTHERS));
    assert_eq!(
        site.portway
            .count("portway_reloads_total{result=\"failure\"}"),
        2
    );
}

/// Whether the peer has sent nothing and has not closed.
fn is_held(client: &TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let peeked = client.peek(&mut [0]);
    client.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// The answer to a wrong password. It does not look for the line: the log has only ten lines per second of such ends.
fn answer_to_guess(site: &Site) -> String {
    let mut client = site.client("http");
    let guess = request("fleet.example:443", &basic(WRONG));
    client.write_all(guess.as_bytes()).unwrap();
    String::from_utf8(read_to_end(&mut client).0).unwrap()
}

#[test]
fn invariant_14_checks_that_take_long_hold_up_no_other_connection_and_are_bounded() {
    let users = agent(COSTLY) + "quick:" + RIGHT_HORSE + "\n";
    let site = start(&users, "client_hello_timeout = \"5m\"", &[]);
    let quick = basic("cXVpY2s6cmlnaHQgaG9yc2U=");
    site.tunnels(&quick);
    // 65 of these take longer than all that follows, and the queue of one client has room for no more.
    let mut guesses: Vec<TcpStream> = (0..90).map(|number| site.guesses(number)).collect();
    let answer = answer_to_guess(&site);
    let busy = "HTTP/1.1 503 portway has too many passwords to check: try again in a minute\r\n";
    assert!(answer.starts_with(busy), "{answer}");
    let counted = "portway_connections_closed_total{listener=\"http\",backend=\"-\",outcome=\"proxy_auth_failed\"}";
    within(PATIENCE, "it is counted", || {
        (site.portway.count(counted) == 1).then_some(())
    });
    // Among the last ones is one that was refused at once.
    let mut refused = vec![0; 2];
    guesses
        .last_mut()
        .unwrap()
        .read_exact(&mut refused)
        .unwrap();
    assert_eq!(refused, [1, 1]);

    let is_waiting = |guesses: &[TcpStream]| guesses.iter().any(is_held);
    for _ in 0..5 {
        drop(site.portway.relayed());
        site.tunnels(&quick);
    }
    assert!(
        is_waiting(&guesses),
        "all guesses have been checked meanwhile"
    );

    // Clients that go away leave nothing behind: neither their connection nor their check.
    drop(guesses);
    let active = "portway_connections_active{listener=\"socks\"}";
    within(PATIENCE, "no guess is left", || {
        (site.portway.count(active) == 0).then_some(())
    });
    let gone =
        "portway_connections_closed_total{listener=\"socks\",backend=\"-\",outcome=\"hello_eof\"}";
    assert!(
        site.portway.count(gone) > 10,
        "most had to wait for their check"
    );
    let answer = answer_to_guess(&site);
    assert!(answer.starts_with("HTTP/1.1 407 "), "{answer}");
}

/// Otherwise a stranger could leave checks behind that it does not wait for.
#[test]
fn a_client_that_closes_behind_bytes_sent_ahead_does_not_wait_for_its_check() {
    let limit = "client_hello_timeout = \"5m\"";
    let site = start(&agent(COSTLY), limit, &[]);
    let clients: Vec<TcpStream> = (0..40)
        .map(|number| {
            let mut client = site.client("socks");
            let guess = login("agent-7", &format!("guess {number}"));
            let sent = [GREETING, &guess, &[5]].concat();
            client.write_all(&sent).unwrap();
            client.read_exact(&mut [0; 2]).unwrap();
            client
        })
        .collect();
    for client in &clients {
        client.shutdown(Shutdown::Write).unwrap();
    }
    let active = "portway_connections_active{listener=\"socks\"}";
    within(PATIENCE, "no guess is left", || {
        (site.portway.count(active) == 0).then_some(())
    });
    let gone =
        "portway_connections_closed_total{listener=\"socks\",backend=\"-\",outcome=\"hello_eof\"}";
    assert!(site.portway.count(gone) > 10);
}

#[test]
fn a_check_shares_the_time_limit_of_the_hello() {
    let site = start(&agent(COSTLY), "client_hello_timeout = \"5m\"", &[]);
    // These take longer than the limit of the next client, which waits behind them.
    let guesses: Vec<TcpStream> = (0..60).map(|number| site.guesses(number)).collect();
    let toml = fs::read_to_string(site.portway.file()).unwrap();
    site.portway.reload_with(&toml.replace("\"5m\"", "\"2s\""));
    let (first, _, line) = site.refused_http("fleet.example:443", &basic(WRONG));
    assert!(first.starts_with("HTTP/1.1 503 "), "{first} {line}");
    assert_eq!(line["outcome"], "proxy_auth_failed", "{line}");
    drop(guesses);
}

#[test]
fn invariant_14_user_and_password_are_in_no_log_metric_or_message() {
    let mut site = start(&agent(RIGHT_HORSE), "", &[]);
    site.tunnels(&basic(RIGHT));
    for fields in [
        WRONG,
        STRANGER,
        "cmlnaHQgaG9yc2U=",
        "YWdlbnQtNzpyaWdodCBob3JzZQ%",
    ] {
        site.is_refused(&basic(fields), "407");
    }
    let socks = [GREETING, &login("agent-7", "wrong horse")].concat();
    site.refused("socks", &socks);
    // A listener that expects something else gets them too.
    site.refused(
        "agents",
        request("fleet.example:443", &basic(RIGHT)).as_bytes(),
    );
    site.refused("agents", &login("agent-7", "right horse"));
    site.refused("http", &login("agent-7", "right horse"));
    let broken = format!("{}:443 HTTP/1.1\r\n{}", "CONNECT x y", basic(RIGHT));
    site.refused("http", broken.as_bytes());
    write_users(
        &site.directory,
        "agent-7:right horse\nright horse\n:right horse\n",
    );
    let reload = site.portway.reload();
    let check = Command::new(PORTWAY)
        .args(["check", "--output", "json", "--config"])
        .arg(site.portway.file())
        .output()
        .unwrap();
    let page = get(site.portway.admin(), "/metrics").unwrap().1;
    site.portway.signal(rustix::process::Signal::TERM);
    site.portway.wait_exit();
    let lines = [&site.portway.program, &site.portway.connections].map(|log| log.all());
    let mut all: Vec<String> = lines
        .into_iter()
        .flatten()
        .map(|it| it.to_string())
        .collect();
    assert!(all.len() > 15, "{all:?}");
    all.push(page);
    for output in [reload, check] {
        assert!(!output.status.success());
        for bytes in [output.stdout, output.stderr] {
            all.push(String::from_utf8(bytes).unwrap());
        }
    }
    assert!(all.iter().any(|text| text.contains("proxy_auth_failed")));
    have_no_secret(&all);
}

fn have_no_secret(texts: &[String]) {
    for secret in [
        "agent-7",
        "right horse",
        "wrong horse",
        "stranger",
        RIGHT,
        WRONG,
        STRANGER,
        "YWdlbnQ",
        RIGHT_HORSE,
    ] {
        for text in texts {
            assert!(!text.contains(secret), "{secret}: {text}");
        }
    }
}

#[test]
fn commands_that_only_explain_need_not_read_the_file_of_users() {
    let site = start(&agent(RIGHT_HORSE), "", &[]);
    fs::remove_file(site.directory.path().join("users")).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PORTWAY);
        command
            .args(arguments)
            .arg("--config")
            .arg(site.portway.file());
        command.output().unwrap()
    };
    let explained = run(&["explain", "--listener", "http", "fleet.example"]);
    assert!(explained.status.success(), "{explained:?}");
    // The backend is not a TLS server, which is what it reports.
    let diagnosed = run(&["doctor", "--output", "json"]);
    let told: Value = serde_json::from_slice(&diagnosed.stdout).unwrap();
    assert!(told["findings"].is_array(), "{diagnosed:?}");
    assert!(!run(&["check"]).status.success());
}

#[test]
fn a_name_of_a_client_may_be_anything_that_a_message_can_carry() {
    // The hello behind a refused login is not looked at.
    let site = start(&agent(RIGHT_HORSE), "", &[]);
    let long = "x".repeat(255);
    let sent = [
        GREETING,
        &login(&long, &long),
        &Builder::new("fleet.example").build(),
    ]
    .concat();
    let (answer, line) = site.refused("socks", &sent);
    assert_eq!(answer, [5, 2, 1, 1], "{line}");
}
