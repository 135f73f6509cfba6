//! `portway doctor` through the proxy of the site: real ones, and some that only answer one thing.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;

use super::servers::Tls;
use super::{NAME, assert_snapshot, doctor, routes, told};
use crate::it::fixture::PORTWAY;
use crate::it::peers::{Backend, Refusing, read_to_end};
use crate::it::resolver::server::Server;
use crate::it::via::real::{Kind, PASSWORD, Proxy, USER, missing};

/// The routes to one endpoint, with more keys of the backend.
fn with_keys(endpoint: &str, keys: &str) -> String {
    let toml = routes(endpoint, &format!("{NAME:?}"));
    toml.replace("connect_timeout = \"300ms\"", keys)
}

fn via(kind: Kind, proxy: &Proxy) -> String {
    format!("via = \"{}://{}\"", kind.scheme(), proxy.address)
}

/// The proxy resolves `localhost`, and may lead to the one port only.
#[test]
fn a_server_behind_a_real_proxy_is_examined_and_a_refusal_has_the_words_of_the_proxy() {
    for kind in [Kind::Squid, Kind::Tinyproxy, Kind::Dante] {
        let (server, other) = (Tls::new(&[NAME]).start(), Tls::new(&[NAME]).start());
        let Some(proxy) = Proxy::start(kind, server.address().port(), false) else {
            missing(kind);
            continue;
        };
        let through = |server: &Backend| {
            let endpoint = format!("localhost:{}", server.address().port());
            let text = told(&with_keys(&endpoint, &via(kind, &proxy)));
            text.replace(&endpoint, "localhost:PORT")
        };
        let name = format!("{kind:?}").to_lowercase();
        assert_snapshot(&format!("{name}_opens"), &through(&server));
        assert_snapshot(&format!("{name}_refuses"), &through(&other));
        assert_eq!(other.accepted(), 0);
    }
}

/// With a resolver, the proxy gets each address, and those that portway does not dial are in the findings.
#[test]
fn the_proxy_gets_the_addresses_that_the_resolver_finds() {
    let (server, dns) = (Tls::new(&[NAME]).start(), Server::start());
    let port = server.address().port();
    dns.lead("es.test", &["127.0.0.1", "198.51.100.1", "127.0.0.9"]);
    for kind in [Kind::Squid, Kind::Dante] {
        let Some(proxy) = Proxy::start(kind, port, false) else {
            missing(kind);
            continue;
        };
        let keys = [
            &*via(kind, &proxy),
            &dns.resolver(),
            "allow_networks = [\"127.0.0.0/8\"]",
        ];
        let toml = with_keys(&format!("es.test:{port}"), &keys.join("\n"));
        let output = doctor(&toml, &["--output", "json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let [itself, endpoint] = report["endpoints"].as_array().unwrap().as_slice() else {
            panic!("{report}");
        };
        let url = format!("{}://{}", kind.scheme(), proxy.address);
        assert_eq!(itself["endpoint"], url);
        assert_eq!(itself["addresses"][0]["address"], proxy.address.to_string());
        assert_eq!(endpoint["via"], url);
        let addresses = endpoint["addresses"].as_array().unwrap();
        assert_eq!(addresses[0]["address"], format!("127.0.0.1:{port}"));
        assert_eq!(addresses[0]["names"][0]["answer"], "server_hello");
        assert_eq!(addresses[1]["address"], format!("127.0.0.9:{port}"));
        assert_eq!(addresses.len(), 2);
        let findings = report["findings"].as_array().unwrap().iter();
        let findings = findings.filter(|it| it["problem"] != "machine_limit");
        let findings: Vec<_> = findings
            .map(|it| (it["problem"].as_str().unwrap(), it["address"].clone()))
            .collect();
        assert_eq!(
            findings,
            [
                ("forbidden_address", format!("198.51.100.1:{port}").into()),
                ("via_refused", format!("127.0.0.9:{port}").into()),
            ]
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

/// A file of the user and the password beside routes.toml, whose other secrets cannot be read.
fn doctor_with_login(toml: &str, login: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    write("routes.toml", toml);
    write("proxy.login", login);
    let mut command = Command::new(PORTWAY);
    let command = command.arg("doctor").current_dir(directory.path());
    command.env_remove("PORTWAY_CONFIG").output().unwrap()
}

#[test]
fn the_file_with_the_password_for_the_proxy_is_read_and_nothing_of_it_is_shown() {
    let server = Tls::new(&[NAME]).start();
    let Some(proxy) = Proxy::start(Kind::Squid, server.address().port(), true) else {
        return missing(Kind::Squid);
    };
    let keys = via(Kind::Squid, &proxy) + "\nvia_credentials_file = \"proxy.login\"";
    // The users of portway's own proxies are none of its business: that file does not even exist.
    let toml = with_keys(&server.address().to_string(), &keys).replace(
        "[listeners.agents]\n",
        "[listeners.agents]\nprotocol = \"http_connect\"\ncredentials_file = \"no.htpasswd\"\n",
    );
    let told = |password: &str| {
        let output = doctor_with_login(&toml, &format!("{USER}:{password}\n"));
        let [text, errors] = [&output.stdout, &output.stderr].map(|it| {
            let text = String::from_utf8(it.clone()).unwrap();
            assert!(!text.contains(USER) && !text.contains(password), "{text}");
            text
        });
        assert_eq!(errors, "");
        text
    };
    let text = told(PASSWORD);
    assert!(text.contains("the server speaks TLS 1.3"), "{text}");
    let text = told("wrong-word");
    let words = "  the proxy opens no tunnel: HTTP/1.1 407 Proxy Authentication Required (the proxy refuses the user \
                 and the password)\n  help: write the user and the password";
    assert!(text.contains(words), "{text}");

    let output = doctor_with_login(&toml, "no colon");
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("line 1 of ") && text.contains("has no colon"),
        "{text}"
    );
}

#[test]
fn a_proxy_that_is_gone_closes_or_is_silent_is_told() {
    let gone = Refusing::new();
    let closing = Backend::start(|mut stream| {
        drop(super::servers::first_bytes(&mut stream));
    });
    let mute = Backend::start(|mut stream| drop(read_to_end(&mut stream)));
    let no_proxy = Backend::start(|mut stream| {
        drop(super::servers::first_bytes(&mut stream));
        drop(stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n"));
        drop(read_to_end(&mut stream));
    });
    let through = |proxy: std::net::SocketAddr, limit| {
        let keys = format!(
            "via = \"http://{proxy}\"\nconnect_timeout = \"{limit}\"\ndial_timeout = \"1h\""
        );
        told(&with_keys("es.invalid:9200", &keys))
    };
    assert_snapshot("proxy_gone", &through(gone.address(), "1h"));
    assert_snapshot("proxy_closes", &through(closing.address(), "1h"));
    assert_snapshot("proxy_mute", &through(mute.address(), "3s"));
    assert_snapshot("no_proxy", &through(no_proxy.address(), "1h"));
    let text = told(&with_keys(
        "es.invalid:9200",
        "via = \"http://proxy.invalid:3128\"",
    ));
    let error = "error: backend fleet, http://proxy.invalid:3128\n  the name cannot be resolved: ";
    assert!(text.contains(error), "{text}");
}

/// A server that speaks at once may have its first bytes behind the answer of the proxy, in one segment.
#[test]
fn bytes_of_the_server_behind_the_answer_of_the_proxy_are_its_answer() {
    let proxy = Backend::start(|mut stream| {
        drop(super::servers::first_bytes(&mut stream));
        let both = b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-OpenSSH_9.2p1\r\n";
        stream.write_all(both).unwrap();
        drop(read_to_end(&mut stream));
    });
    let keys = format!("via = \"http://{}\"", proxy.address());
    let text = told(&with_keys("es.invalid:9200", &keys));
    let message = "the server does not speak TLS there: it speaks SSH: \"SSH-2.0-OpenSSH_9.2p1";
    assert!(text.contains(message), "{text}");
}

#[test]
fn each_port_of_the_routes_is_tried_where_clients_choose_the_port() {
    let dns = Server::start();
    let servers = [Tls::new(&[NAME]).start(), Tls::new(&[NAME]).start()];
    let ports = servers.each_ref().map(|server| server.address().port());
    dns.lead(NAME, &["127.0.0.1"]);
    let keys = format!("{}\nallow_networks = [\"127.0.0.0/8\"]", dns.resolver());
    let toml = with_keys("{server_name}:{port}", &keys);
    let toml = toml.replace(
        "backend = \"fleet\"",
        &format!("ports = {ports:?}\nbackend = \"fleet\""),
    );
    let output = doctor(&toml, &["--output", "json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let endpoints = report["endpoints"].as_array().unwrap().iter();
    let seen: Vec<_> = endpoints
        .map(|it| {
            let answer = &it["addresses"][0]["names"][0]["answer"];
            (it["endpoint"].clone(), answer.clone())
        })
        .collect();
    let wanted = ports.map(|port| (format!("{NAME}:{port}").into(), "server_hello".into()));
    assert_eq!(seen, wanted);
    let is_tried = |it: &Value| it["problem"] != "not_tried";
    assert!(report["findings"].as_array().unwrap().iter().all(is_tried));
}

/// The names of clients go to the proxy too, without a look-up.
#[test]
fn a_name_that_clients_ask_for_is_tried_through_the_proxy() {
    let server = Tls::new(&[NAME]).start();
    let port = server.address().port();
    let Some(proxy) = Proxy::start(Kind::Tinyproxy, port, false) else {
        return missing(Kind::Tinyproxy);
    };
    // A name that the proxy resolves.
    let toml = with_keys(
        &format!("{{server_name}}:{port}"),
        &via(Kind::Tinyproxy, &proxy),
    );
    let toml = toml.replace(&format!("{NAME:?}"), "\"localhost\"");
    let text = told(&toml);
    let head = format!("fleet localhost:{port} through http://127.0.0.1:PORT\n");
    assert!(text.contains(&head), "{text}");
    assert!(text.contains("the server speaks TLS 1.3"), "{text}");
}
