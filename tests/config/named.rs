//! Files that routes.toml names: their faults are at the key, and have nothing of their content.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use portway::config;

use super::assert_snapshot;

const HASH: &str = "$2y$05$DCq7YPn5Rq63x1Lad4cll.HBDohiHssWWTvAkR0t7BcDSKBnDJsfK";

/// A routes.toml with a proxy listener for each of these files.
fn routes(files: &[&str]) -> String {
    let listener = |(number, file): (usize, &&str)| {
        format!(
            "[listeners.proxy-{number}]\nbind = [\"[::]:{}\"]\nprotocol = \"socks5\"\ncredentials_file = \"{file}\"\n",
            1080 + number
        )
    };
    let listeners: String = files.iter().enumerate().map(listener).collect();
    format!(
        "{listeners}[backends.fleet]\nendpoints = [\"fleet-1.internal:8220\"]\n\
         [routes.fleet]\nserver_names = [\"fleet.example.com\"]\nbackend = \"fleet\"\n"
    )
}

fn write(path: &Path, text: impl AsRef<[u8]>, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn faults_of_a_file_that_is_named_are_at_the_key_and_show_no_content() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let lines = format!(
        "agent-7:{HASH}\nsecret\nagent-7:{HASH}\nagent-8:{{SHA}}secret\n:{HASH}\nagent-9:{}\n",
        HASH.replace("$05$", "$13$")
    );
    write(&at("lines"), lines, 0o600);
    write(&at("nobody"), "# nobody yet\n", 0o600);
    write(&at("latin1"), b"one:x\nsecr\xe9t:x\n", 0o600);
    write(&at("large"), "#".repeat(1 + (1 << 20)), 0o600);
    let text = routes(&["lines", "nobody", "latin1", "large", "missing", ".", ""]);
    write(&at("routes.toml"), text, 0o600);
    let faults = config::load(&at("routes.toml")).unwrap_err();
    let told = faults.render(false);
    assert!(!told.contains("secr") && !told.contains("agent-"), "{told}");
    let told = told.replace(directory.path().to_str().unwrap(), "DIR");
    assert_snapshot("named_files", &told);
}

#[test]
fn a_file_that_everybody_can_read_is_worth_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write(&at("routes.toml"), routes(&["users"]), 0o600);
    for (mode, is_warned) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
        write(&at("users"), format!("agent-7:{HASH}\n"), mode);
        let warnings = config::load(&at("routes.toml")).unwrap().warnings;
        let told = warnings.render(false);
        let words = "every user of this machine can read or change";
        assert_eq!(told.contains(words), is_warned, "{mode:o}: {told}");
        assert_eq!(warnings.is_empty(), !is_warned, "{mode:o}: {told}");
    }
}

/// It would work once, and be empty at the next reload.
#[test]
fn a_pipe_cannot_be_a_file_of_users_even_if_its_bytes_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let [file, pipe] = ["routes.toml", "users"].map(|name| directory.path().join(name));
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // Open for reading too, so that writing does not wait for a reader.
    let mut both = File::options().read(true).write(true).open(&pipe).unwrap();
    both.write_all(format!("agent-7:{HASH}\n").as_bytes())
        .unwrap();
    write(&file, routes(&["users"]), 0o600);
    let told = config::load(&file).unwrap_err().render(false);
    assert!(
        told.contains("cannot be read: it is not a regular file"),
        "{told}"
    );
}

#[test]
fn a_listener_without_a_password_to_ask_for_has_no_file_of_users() {
    let text = routes(&["users"]);
    for protocol in ["protocol = \"tls\"\n", ""] {
        let text = text.replace("protocol = \"socks5\"\n", protocol);
        let faults = config::parse(&text, "routes.toml").unwrap_err();
        let lines: Vec<String> = faults.lines().collect();
        assert!(
            lines.len() == 1
                && lines[0].contains(
                    "listeners.proxy-0.credentials_file: the clients of a tls listener send no password"
                ),
            "{lines:?}"
        );
    }
    // It may have meant a proxy.
    let text = text.replace("\"socks5\"", "\"socks\"");
    assert_eq!(
        config::parse(&text, "routes.toml")
            .unwrap_err()
            .lines()
            .count(),
        1
    );
}

#[test]
fn a_proxy_needs_networks_or_users_to_be_closed_to_strangers() {
    let open =
        "every client that can reach this proxy reaches the servers of the routes through it";
    let warned = |text: &str| {
        let loaded = config::parse(text, "routes.toml").unwrap();
        loaded.warnings.render(false).contains(open)
    };
    let text = routes(&["users"]);
    assert!(!warned(&text));
    let without = text.replace("credentials_file = \"users\"\n", "");
    assert!(warned(&without));
    let allowed = without.replace("protocol", "allow_clients = [\"10.0.0.0/8\"]\nprotocol");
    assert!(!warned(&allowed));
}

#[test]
fn a_key_with_escapes_does_not_open_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("routes.toml");
    let text = routes(&["users"]).replace("credentials_file", "\"credentials\\u005ffile\"");
    write(&file, text, 0o600);
    let told = config::load(&file).unwrap_err().render(false);
    assert!(
        told.contains("write the key as credentials_file, without escapes"),
        "{told}"
    );
}

/// Settings of a command that reads no secrets must not open the proxy to everybody.
#[test]
fn a_file_that_is_not_read_lets_nobody_in() {
    let loaded = config::parse(&routes(&["users"]), "routes.toml").unwrap();
    let [listener] = &loaded.settings.listeners[..] else {
        panic!("{:?}", loaded.settings.listeners);
    };
    assert_eq!(format!("{:?}", listener.users), "Some(0 users)");
}

/// A routes.toml with a backend behind an HTTP proxy, and one behind a SOCKS5 proxy, for each of these files.
fn behind_proxies(files: &[&str]) -> String {
    let mut text = "[listeners.agents]\nbind = [\"[::]:443\"]\n".to_owned();
    for (number, file) in files.iter().enumerate() {
        for scheme in ["http", "socks5"] {
            let name = format!("{scheme}-{number}");
            write!(
                text,
                "[backends.{name}]\nendpoints = [\"es:9200\"]\nvia = \"{scheme}://proxy.corp:3128\"\n\
                 via_credentials_file = \"{file}\"\n\
                 [routes.{name}]\nserver_names = [\"{name}.example.com\"]\nbackend = \"{name}\"\n"
            ).unwrap();
        }
    }
    text
}

#[test]
fn a_file_for_a_proxy_has_one_line_that_its_protocol_can_carry() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let long = "secret".repeat(50);
    let files = [
        ("empty", String::new()),
        ("two", "agent-7:secret\nagent-8:secret\n".to_owned()),
        ("blank", "agent-7:secret\n\n".to_owned()),
        ("colon", "secret\n".to_owned()),
        ("nobody", ":secret\n".to_owned()),
        ("control", "agent-7:sec\u{1b}ret\n".to_owned()),
        ("open", "agent-7:\n".to_owned()),
        ("long", format!("agent-7:{long}\n")),
        ("longer", format!("agent-7:{long}{long}{long}{long}\n")),
    ];
    for (name, content) in &files {
        write(&at(name), content, 0o600);
    }
    write(
        &at("routes.toml"),
        behind_proxies(&files.each_ref().map(|(name, _)| *name)),
        0o600,
    );
    let told = config::load(&at("routes.toml")).unwrap_err().render(false);
    assert!(!told.contains("secr") && !told.contains("agent-"), "{told}");
    let told = told.replace(directory.path().to_str().unwrap(), "DIR");
    assert_snapshot("via_credentials_files", &told);
    for good in [
        "agent-7:secret",
        "agent-7:se:cret\n",
        "\u{e4}gent:s\u{e9}cret\r\n",
    ] {
        write(&at("good"), good, 0o600);
        write(&at("routes.toml"), behind_proxies(&["good"]), 0o600);
        let loaded = config::load(&at("routes.toml")).unwrap();
        assert!(
            loaded.warnings.is_empty(),
            "{}",
            loaded.warnings.render(false)
        );
        for backend in &loaded.settings.backends {
            let login = backend.via.as_ref().unwrap().login().unwrap();
            let line = [&*login.user, b":", &*login.password].concat();
            assert_eq!(line, good.trim_end().as_bytes());
            let shown = format!("{backend:?}");
            assert!(
                !shown.contains("gent") && !shown.contains("cret"),
                "{shown}"
            );
        }
        write(&at("good"), good, 0o644);
        let told = config::load(&at("routes.toml"))
            .unwrap()
            .warnings
            .render(false);
        let words = "every user of this machine can read or change";
        assert_eq!(told.matches(words).count(), 2, "{told}");
    }
}
