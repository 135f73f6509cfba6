//! Backends with `via` and `resolver`: portway resolves the names of the endpoints, and the proxy gets addresses.

use std::io::{Read, Write};
use std::process::Command;

use serde_json::Value;

use super::{ALERT_80, NAME, Proxy, closed, echo, http, refused, socks5_target, toml};
use crate::it::fixture::{PATIENCE, PORTWAY, Portway, within};
use crate::it::hello::Builder;
use crate::it::peers::{Backend, End, Refusing, connect, free, read_to_end};
use crate::it::resolver::server::Server;

/// An endpoint that only the DNS server of a test knows.
const ES: &str = "es.test:9200";
const OPEN: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const REFUSED: &[u8] = &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0];

/// A proxy of each protocol that refuses `bad` and opens a tunnel to everything else.
fn proxies(bad: &'static [&'static str]) -> [(String, Proxy, &'static str); 2] {
    let is_bad = move |target: &str| bad.contains(&target);
    let connect = Proxy::http(
        move |target| {
            let status = if is_bad(target) {
                "503 Service Unavailable"
            } else {
                "200 OK"
            };
            format!("HTTP/1.1 {status}\r\n\r\n").into()
        },
        echo,
    );
    let socks = Proxy::socks5_to([5, 0], move |target| {
        let reply = if is_bad(target) { REFUSED } else { OPEN };
        reply.to_vec()
    });
    [
        (
            http(connect.address()),
            connect,
            "HTTP/1.1 503 Service Unavailable",
        ),
        (
            format!("socks5://{}", socks.address()),
            socks,
            "SOCKS5 reply 5: connection refused",
        ),
    ]
}

/// The targets that a proxy was asked for, without the words of HTTP around them.
fn targets(proxy: &Proxy) -> Vec<String> {
    let asked = proxy.asked();
    let target = |asked: &String| match asked.strip_prefix("CONNECT ") {
        Some(request) => request.split(' ').next().unwrap().to_owned(),
        None => asked.clone(),
    };
    asked.iter().map(target).collect()
}

/// The addresses of an endpoint by state.
fn states(portway: &Portway, endpoint: &str) -> [u64; 3] {
    ["healthy", "standby", "failed"].map(|state| {
        let labels = format!("backend=\"es\",endpoint=\"{endpoint}\",state=\"{state}\"");
        portway.count(&format!("portway_endpoint_addresses{{{labels}}}"))
    })
}

fn keys(dns: &Server, more: &str) -> String {
    format!("{}\n{more}", dns.resolver())
}

#[test]
fn the_proxy_gets_addresses_and_one_that_it_refuses_lets_the_next_be_tried() {
    const BAD: &[&str] = &["192.0.2.1:9200"];
    let dns = Server::start();
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::7"];
    dns.lead("es.test", &addresses);
    for (via, proxy, words) in proxies(BAD) {
        let keys = keys(&dns, "balance = \"round_robin\"");
        let portway = Portway::start(&toml(&via, &[ES], &keys));
        let line = closed(&portway, portway.relayed());
        assert_eq!(targets(&proxy), ["192.0.2.1:9200", "192.0.2.2:9200"]);
        assert_eq!(
            (&line["outcome"], &line["endpoint"], &line["via"]),
            (&"closed".into(), &ES.into(), &via.as_str().into())
        );
        let [attempt] = line["attempts"].as_array().unwrap().as_slice() else {
            panic!("{line}");
        };
        assert_eq!(attempt["endpoint"], ES, "{line}");
        assert_eq!(attempt["via"], via, "{line}");
        assert_eq!(attempt["address"], "192.0.2.1:9200", "{line}");
        assert_eq!(attempt["reason"], "via_refused", "{line}");
        assert_eq!(attempt["error"], words, "{line}");
        // The refused address alone goes last.
        assert_eq!(states(&portway, ES), [2, 1, 1]);
        assert_eq!(states(&portway, &via), [1, 0, 0]);
        let line = closed(&portway, portway.relayed());
        assert_eq!(line.get("attempts"), None, "{line}");
        assert_eq!(targets(&proxy)[2..], ["192.0.2.3:9200"]);
    }
}

#[test]
fn a_proxy_that_refuses_every_address_is_told_and_gets_those_of_ipv6_too() {
    const BAD: &[&str] = &["192.0.2.1:9200", "[2001:db8::7]:9200"];
    let dns = Server::start();
    dns.lead("es.test", &["192.0.2.1", "2001:db8::7"]);
    for (via, proxy, words) in proxies(BAD) {
        let portway = Portway::start(&toml(&via, &[ES], &keys(&dns, "")));
        let line = refused(&portway);
        assert_eq!(line["outcome"], "via_refused", "{line}");
        assert_eq!(line["detail"], format!("{via}: {words}"), "{line}");
        assert_eq!(targets(&proxy), BAD);
        assert_eq!(states(&portway, ES), [0, 0, 2]);
        let failures = format!("backend=\"es\",endpoint=\"{ES}\",reason=\"via_refused\"");
        let failures = format!("portway_dial_failures_total{{{failures}}}");
        assert_eq!(portway.count(&failures), 2);
    }
}

#[test]
fn a_dead_proxy_is_tried_once_and_says_nothing_about_the_endpoint() {
    let dns = Server::start();
    dns.lead("es.test", &["192.0.2.1", "192.0.2.2"]);
    let gone = Refusing::new();
    let via = http(gone.address());
    let portway = Portway::start(&toml(&via, &[ES, "192.0.2.3:9200"], &keys(&dns, "")));
    let line = refused(&portway);
    assert_eq!(line["outcome"], "backend_unavailable", "{line}");
    let [attempt] = line["attempts"].as_array().unwrap().as_slice() else {
        panic!("{line}");
    };
    assert_eq!(attempt["endpoint"], via, "{line}");
    assert_eq!(attempt["address"], gone.address().to_string(), "{line}");
    assert_eq!(attempt["reason"], "refused", "{line}");
    assert_eq!(states(&portway, ES), [2, 0, 0]);
    assert_eq!(states(&portway, &via), [0, 0, 1]);
    let failures = |endpoint: &str| {
        let labels = format!("backend=\"es\",endpoint=\"{endpoint}\",reason=\"refused\"");
        portway.count(&format!("portway_dial_failures_total{{{labels}}}"))
    };
    assert_eq!([failures(&via), failures(ES)], [1, 0]);
}

#[test]
fn a_proxy_whose_name_has_no_address_leaves_the_backend_unresolved() {
    let dns = Server::start();
    dns.lead("es.test", &["192.0.2.1"]);
    let via = "http://proxy.test:3128";
    let portway = Portway::start(&toml(via, &[ES], &keys(&dns, "")));
    let line = refused(&portway);
    assert_eq!(line["outcome"], "backend_unresolved", "{line}");
    let attempt = &line["attempts"][0];
    assert_eq!(attempt["endpoint"], via, "{line}");
    assert_eq!(attempt["reason"], "unresolved", "{line}");
    // The DNS servers of the backend are for its endpoints: the proxy is found as without them.
    assert_eq!(dns.asked("proxy.test"), []);
}

/// Behind a proxy that resolves names nobody could promise this.
#[test]
fn the_proxy_gets_no_address_that_allow_networks_excludes() {
    let dns = Server::start();
    let keys = keys(&dns, "allow_networks = [\"192.0.2.0/24\"]");
    for (via, proxy, _) in proxies(&[]) {
        dns.lead("es.test", &["198.51.100.1", "192.0.2.1", "169.254.169.254"]);
        let portway = Portway::start(&toml(&via, &[ES], &keys));
        drop(closed(&portway, portway.relayed()));
        assert_eq!(targets(&proxy), ["192.0.2.1:9200"]);
        drop(portway);

        dns.lead("es.test", &["198.51.100.1"]);
        let portway = Portway::start(&toml(&via, &[ES], &keys));
        let line = refused(&portway);
        assert_eq!(line["outcome"], "forbidden_address", "{line}");
        let attempt = &line["attempts"][0];
        assert_eq!(attempt["reason"], "forbidden", "{line}");
        assert_eq!(attempt["address"], "198.51.100.1:9200", "{line}");
        assert_eq!(targets(&proxy).len(), 1);
    }
}

#[test]
fn the_proxy_gets_no_address_of_portway_itself() {
    let dns = Server::start();
    for (via, proxy, _) in proxies(&[]) {
        let listener = free();
        dns.lead("es.test", &["127.0.0.1"]);
        let endpoint = format!("es.test:{}", listener.port());
        let text = toml(&via, &[&endpoint], &dns.resolver());
        let text = text.replacen(
            "bind = [\"127.0.0.1:0\"]",
            &format!("bind = [\"{listener}\"]"),
            1,
        );
        let portway = Portway::start(&text);
        let line = refused(&portway);
        assert_eq!(line["outcome"], "backend_unresolved", "{line}");
        assert_eq!(line["attempts"][0]["reason"], "loop", "{line}");
        assert_eq!(line["attempts"][0]["address"], listener.to_string());
        assert_eq!(targets(&proxy), [""; 0]);
    }
}

/// The log line of a client that asks for the name.
fn ask(portway: &Portway, name: &str, is_relayed: bool) -> Value {
    let hello = Builder::new(name).build();
    let mut client = connect(portway.address("agents"));
    client.write_all(&hello).unwrap();
    if is_relayed {
        let mut echoed = vec![0; hello.len()];
        client.read_exact(&mut echoed).unwrap();
        assert_eq!(echoed, hello);
    } else {
        assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    }
    closed(portway, client)
}

#[test]
fn a_name_that_a_client_asks_for_goes_to_the_proxy_as_addresses() {
    let dns = Server::start();
    dns.lead("a.es.test", &["192.0.2.1", "192.0.2.2"]);
    dns.lead("b.es.test", &["198.51.100.1"]);
    for (via, proxy, words) in proxies(&["192.0.2.1:9243"]) {
        let more = "balance = \"round_robin\"\nallow_networks = [\"192.0.2.0/24\"]";
        let file = toml(&via, &["{server_name}:9243"], &keys(&dns, more));
        let file = file.replace(NAME, "*.es.test");
        let portway = Portway::start(&file);
        let line = ask(&portway, "a.es.test", true);
        assert_eq!(line["endpoint"], "a.es.test:9243", "{line}");
        assert_eq!(line["via"], via, "{line}");
        assert_eq!(line["attempts"][0]["error"], words, "{line}");
        assert_eq!(targets(&proxy), ["192.0.2.1:9243", "192.0.2.2:9243"]);
        // The refusal of one address leaves the other one of the name in use.
        let line = ask(&portway, "a.es.test", true);
        assert_eq!(line.get("attempts"), None, "{line}");
        let line = ask(&portway, "b.es.test", false);
        assert_eq!(line["outcome"], "forbidden_address", "{line}");
        assert_eq!(targets(&proxy)[2..], ["192.0.2.2:9243"]);
        // Clients choose the name: without networks of its own only public addresses are allowed.
        portway.reload_with(&file.replace("allow_networks = [\"192.0.2.0/24\"]", ""));
        let line = ask(&portway, "a.es.test", false);
        assert_eq!(line["outcome"], "forbidden_address", "{line}");
        assert_eq!(targets(&proxy).len(), 3);
    }
}

#[test]
fn a_reload_moves_new_connections_from_names_to_addresses_and_back() {
    let dns = Server::start();
    dns.lead("es.test", &["192.0.2.1"]);
    let [(via, proxy, _), _] = proxies(&[]);
    let by_name = toml(&via, &[ES], "");
    let by_address = toml(&via, &[ES], &dns.resolver());
    let portway = Portway::start(&by_name);
    let connections = || {
        let labels = format!("backend=\"es\",endpoint=\"{ES}\"");
        portway.count(&format!("portway_endpoint_connections{{{labels}}}"))
    };
    let mut held = Vec::new();
    for (file, target) in [
        (&by_name, ES),
        (&by_address, "192.0.2.1:9200"),
        (&by_name, ES),
    ] {
        if !held.is_empty() {
            portway.reload_with(file);
        }
        within(PATIENCE, "the name is resolved", || {
            (states(&portway, ES)[0] == 1).then_some(())
        });
        held.push(portway.relayed());
        assert_eq!(targets(&proxy).last().unwrap(), target);
        assert_eq!(connections(), held.len() as u64, "those of both ways count");
    }
    for client in held {
        assert_eq!(closed(&portway, client)["outcome"], "closed");
    }
    within(PATIENCE, "no connection is left", || {
        (connections() == 0).then_some(())
    });
}

#[test]
fn explain_shows_the_addresses_of_the_endpoint_and_those_of_the_proxy() {
    let dns = Server::start();
    dns.lead("es.test", &["192.0.2.1"]);
    let [(via, proxy, _), _] = proxies(&[]);
    let portway = Portway::start(&toml(&via, &[ES], &dns.resolver()));
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(PORTWAY);
        command.args(["explain", NAME, "--config"]);
        let output = command.arg(portway.file()).args(arguments).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let text = explain(&[]);
    for line in [
        format!("  {}: healthy, 0 connections\n", proxy.address()),
        "  192.0.2.1:9200: healthy, 0 connections\n".to_owned(),
    ] {
        assert!(text.contains(&line), "{text}");
    }
    let told: Value = serde_json::from_str(&explain(&["--output", "json"])).unwrap();
    let text = told.to_string();
    let known = format!(
        "\"address\":\"{}\",\"connections\":0,\"endpoint\":\"{via}\"",
        proxy.address()
    );
    assert!(text.contains(&known), "{text}");
}

/// A connection to the proxy that is silent counts for the address that it was asked for, and another one is tried.
#[test]
fn a_proxy_that_is_silent_about_an_address_gets_the_next_one() {
    let dns = Server::start();
    dns.lead("es.test", &["192.0.2.1", "192.0.2.2"]);
    let socks = Backend::start(|mut stream| {
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&[5, 0]).unwrap();
        if socks5_target(&mut stream) == "192.0.2.1:9200" {
            return drop(read_to_end(&mut stream));
        }
        stream.write_all(OPEN).unwrap();
        echo(stream);
    });
    let via = format!("socks5://{}", socks.address());
    let more = "balance = \"round_robin\"\nconnect_timeout = \"3s\"";
    let portway = Portway::start(&toml(&via, &[ES], &keys(&dns, more)));
    let line = closed(&portway, portway.relayed());
    let attempt = &line["attempts"][0];
    assert_eq!(attempt["address"], "192.0.2.1:9200", "{line}");
    assert_eq!(attempt["reason"], "timeout", "{line}");
    assert_eq!(states(&portway, ES), [1, 0, 1]);
    assert_eq!(states(&portway, &via), [1, 0, 0]);
}
