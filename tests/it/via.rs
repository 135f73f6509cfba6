//! Backends behind a proxy of the site (`via`): what the proxy gets, what its answers lead to, and where bytes go.

mod addresses;
mod health;
mod login;
pub(super) mod real;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

use super::fixture::{NAME, PATIENCE, Portway, get, hello, within};
use super::hello::Builder;
use super::metrics::Metrics;
use super::peers::{ALERT_80, Backend, End, Refusing, connect, echo, free, read_to_end};

/// An endpoint whose name no resolver knows: only a proxy can lead to it.
const FAR: &str = "es.invalid:9200";

/// A routes.toml with one backend behind a proxy.
fn toml(via: &str, endpoints: &[&str], keys: &str) -> String {
    format!(
        "admin.bind = \"127.0.0.1:0\"\n\
         [listeners.agents]\nbind = [\"127.0.0.1:0\"]\n\
         [backends.es]\nendpoints = {endpoints:?}\nvia = \"{via}\"\n{keys}\n\
         [routes.es]\nserver_names = [\"{NAME}\"]\nbackend = \"es\"\n"
    )
}

fn http(proxy: SocketAddr) -> String {
    format!("http://{proxy}")
}

/// A proxy that plays its part for each connection, and what clients of it have asked for.
struct Proxy {
    backend: Backend,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// An HTTP proxy that answers each request with what `answer` makes of its target, and then goes on as `serve`.
    fn http(
        answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::default();
        let list: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        let backend = Backend::start(move |mut stream| {
            let Some(head) = head(&mut stream) else {
                return;
            };
            let target = head.split(' ').nth(1).unwrap().to_owned();
            list.lock().unwrap().push(head);
            stream.write_all(&answer(&target)).unwrap();
            serve(stream);
        });
        Self { backend, asked }
    }

    /// A SOCKS5 proxy that answers the greeting and the request with these bytes, and then sends back what comes.
    fn socks5(method: [u8; 2], reply: &[u8]) -> Self {
        let reply = reply.to_vec();
        Self::socks5_to(method, move |_| reply.clone())
    }

    /// The same with a reply for each target.
    fn socks5_to(method: [u8; 2], reply: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let asked = Arc::default();
        let list: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
        let backend = Backend::start(move |mut stream| {
            let mut greeting = [0; 3];
            stream.read_exact(&mut greeting).unwrap();
            assert_eq!(greeting, [5, 1, 0]);
            stream.write_all(&method).unwrap();
            if method != [5, 0] {
                return drop(read_to_end(&mut stream));
            }
            let target = socks5_target(&mut stream);
            list.lock().unwrap().push(target.clone());
            stream.write_all(&reply(&target)).unwrap();
            echo(stream);
        });
        Self { backend, asked }
    }

    fn address(&self) -> SocketAddr {
        self.backend.address()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The target of a SOCKS5 request: a name or an address, and a port.
fn socks5_target(stream: &mut TcpStream) -> String {
    let mut take = |count: u8| {
        let mut bytes = vec![0; usize::from(count)];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    let begin = take(4);
    assert_eq!(begin[..3], [5, 1, 0]);
    let host = match begin[3] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(take(4)).unwrap()).to_string(),
        3 => {
            let length = take(1)[0];
            String::from_utf8(take(length)).unwrap()
        }
        4 => {
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(take(16)).unwrap());
            format!("[{ip}]")
        }
        other => panic!("address type {other}"),
    };
    let port = take(2);
    format!("{host}:{}", u16::from_be_bytes([port[0], port[1]]))
}

/// A request up to its blank line.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// Reads until portway closes, and returns the line of the log.
fn refused(portway: &Portway) -> Value {
    let mut client = portway.client();
    assert_eq!(read_to_end(&mut client), (ALERT_80.to_vec(), End::Fin));
    let address = client.local_addr().unwrap();
    drop(client);
    portway.line_of(address)
}

/// Closes a client that was relayed, and returns its line.
fn closed(portway: &Portway, client: TcpStream) -> Value {
    let address = client.local_addr().unwrap();
    drop(client);
    portway.line_of(address)
}

#[test]
fn an_http_proxy_gets_the_name_and_the_endpoint_may_speak_first() {
    let proxy = Proxy::http(
        |_| b"HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\nfirst words".to_vec(),
        echo,
    );
    let via = http(proxy.address());
    let portway = Portway::start(&toml(&via, &[FAR], ""));
    let mut client = connect(portway.address("agents"));
    let sent = hello();
    client.write_all(&sent).unwrap();
    let wanted = [&b"first words"[..], &sent].concat();
    let mut got = wanted.clone();
    client.read_exact(&mut got).unwrap();
    assert_eq!(got, wanted);
    assert_eq!(
        proxy.asked(),
        [format!("CONNECT {FAR} HTTP/1.1\r\nHost: {FAR}\r\n\r\n")]
    );
    let labels = format!("backend=\"es\",endpoint=\"{FAR}\"");
    let metrics = portway.metrics();
    let healthy = format!("portway_endpoint_addresses{{{labels},state=\"healthy\"}}");
    assert_eq!(metrics.count(&healthy), 1);
    let connections = format!("portway_endpoint_connections{{{labels}}}");
    assert_eq!(metrics.count(&connections), 1);
    assert!(!has_look_ups(&metrics), "{}", metrics.page);
    let line = closed(&portway, client);
    assert_eq!(
        (&line["endpoint"], &line["via"]),
        (&FAR.into(), &via.into())
    );
}

fn has_look_ups(metrics: &Metrics) -> bool {
    metrics
        .page
        .lines()
        .any(|line| line.starts_with("portway_endpoint_resolved_timestamp_seconds{"))
}

/// The agents' DNS leads these names to portway, and only the proxy knows where they are.
#[test]
fn a_proxy_gets_the_name_that_the_client_asked_for() {
    let proxy = Proxy::http(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), echo);
    let socks = Proxy::socks5([5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let urls = [
        http(proxy.address()),
        format!("socks5://{}", socks.address()),
    ];
    for (url, proxy) in urls.iter().zip([&proxy, &socks]) {
        let file = toml(url, &["{server_name}:9243"], "");
        let portway = Portway::start(&file.replace(NAME, "*.es.test"));
        for name in ["a.es.test", "b.es.test"] {
            let hello = Builder::new(name).build();
            let mut client = connect(portway.address("agents"));
            client.write_all(&hello).unwrap();
            let mut echoed = vec![0; hello.len()];
            client.read_exact(&mut echoed).unwrap();
            assert_eq!(echoed, hello);
            let line = closed(&portway, client);
            assert_eq!(line["via"], **url, "{line}");
        }
        let asked = proxy.asked();
        let is_of = |(request, name): (&String, &str)| request.contains(&format!("{name}:9243"));
        assert_eq!(asked.len(), 2, "{asked:?}");
        assert!(
            asked.iter().zip(["a.es.test", "b.es.test"]).all(is_of),
            "{asked:?}"
        );
    }
}

/// Otherwise a client that asks for names that the proxy refuses would make the proxy go last for everybody.
#[test]
fn a_name_that_the_proxy_refuses_says_nothing_about_the_proxy() {
    let proxy = Proxy::http(|_| b"HTTP/1.1 403 Forbidden\r\n\r\n".to_vec(), echo);
    let endpoint = "{server_name}:9243";
    let portway = Portway::start(&toml(&http(proxy.address()), &[endpoint], ""));
    assert_eq!(refused(&portway)["outcome"], "via_refused");
    let states = ["healthy", "failed"].map(|state| {
        let labels = format!("backend=\"es\",endpoint=\"{endpoint}\",state=\"{state}\"");
        (portway.metrics()).count(&format!("portway_endpoint_addresses{{{labels}}}"))
    });
    assert_eq!(states, [1, 0]);
}

#[test]
fn an_answer_may_come_byte_by_byte_behind_informational_ones() {
    let proxy = Proxy::http(
        |_| Vec::new(),
        |mut stream| {
            let answers = "HTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.0 204 \r\n\r\n";
            for byte in answers.bytes() {
                stream.write_all(&[byte]).unwrap();
                thread::yield_now();
            }
            echo(stream);
        },
    );
    let portway = Portway::start(&toml(&http(proxy.address()), &[FAR], ""));
    drop(portway.relayed());
}

#[test]
fn a_refusal_of_an_http_proxy_is_told_with_its_status_line() {
    let big = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(17 << 10));
    let cases: &[(&str, &str)] = &[
        ("HTTP/1.1 403 Forbidden\r\n", "HTTP/1.1 403 Forbidden"),
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n",
            "407 Proxy Authentication Required (the proxy asks for a user and a password)",
        ),
        (
            "HTTP/1.0 502 Bad Gateway\r\n\r\n<html>",
            "HTTP/1.0 502 Bad Gateway",
        ),
        (
            "HTTP/1.1 302 \r\nLocation: http://x/\r\n\r\n",
            "HTTP/1.1 302",
        ),
        (
            "SSH-2.0-OpenSSH\r\n",
            "its answer is not HTTP/1: SSH-2.0-OpenSSH",
        ),
        ("\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS at this port"),
        (&big, "its answer has more than 16 KiB"),
    ];
    for (answer, words) in cases {
        let answer = answer.as_bytes().to_vec();
        let proxy = Proxy::http(
            move |_| answer.clone(),
            |mut stream| drop(read_to_end(&mut stream)),
        );
        let via = http(proxy.address());
        let portway = Portway::start(&toml(&via, &[FAR], ""));
        let line = refused(&portway);
        assert_eq!(line["outcome"], "via_refused", "{line}");
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("{via}: ")), "{line}");
        assert!(detail.contains(words), "{line}");
        let [attempt] = line["attempts"].as_array().unwrap().as_slice() else {
            panic!("{line}");
        };
        assert_eq!(attempt["reason"], "via_refused", "{line}");
        assert_eq!(attempt["address"], proxy.address().to_string(), "{line}");
        assert_eq!(
            (&attempt["via"], &line["via"]),
            (&via.as_str().into(), &via.as_str().into())
        );
        assert!(attempt["error"].as_str().unwrap().contains(words), "{line}");
        let metrics = portway.metrics();
        for (name, labels) in [
            (
                "portway_dial_failures_total",
                format!("endpoint=\"{FAR}\",reason=\"via_refused\""),
            ),
            (
                "portway_connections_closed_total",
                "listener=\"agents\",outcome=\"via_refused\"".to_owned(),
            ),
        ] {
            let series = format!("{name}{{backend=\"es\",{labels}}}");
            assert_eq!(metrics.count(&series), 1, "{series}");
        }
    }
}

#[test]
fn a_socks_proxy_gets_the_name_and_each_of_its_refusals_is_told() {
    const OPEN: &[u8] = &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let proxy = Proxy::socks5([5, 0], OPEN);
    let via = format!("socks5://{}", proxy.address());
    let portway = Portway::start(&toml(&via, &[FAR], ""));
    let line = closed(&portway, portway.relayed());
    assert_eq!(
        (&line["outcome"], &line["via"]),
        (&"closed".into(), &via.into())
    );
    assert_eq!(proxy.asked(), [FAR]);

    let replies = [
        (1, "general"),
        (2, "connection not allowed"),
        (3, "network unreachable"),
        (4, "host unreachable"),
        (5, "connection refused"),
        (6, "TTL expired"),
        (7, "command not"),
    ];
    let replies = replies.map(|(number, words)| {
        let reply = vec![5, number, 0, 1, 0, 0, 0, 0, 0, 0];
        ([5, 0], reply, format!("reply {number}: {words}"))
    });
    let short = ([5, 0], vec![5, 8], "reply 8: address type not".to_owned());
    let no_method = ([5, 255], Vec::new(), "no acceptable methods".to_owned());
    for (method, reply, words) in replies.into_iter().chain([short, no_method]) {
        let proxy = Proxy::socks5(method, &reply);
        let via = format!("socks5://{}", proxy.address());
        let portway = Portway::start(&toml(&via, &[FAR], ""));
        let line = refused(&portway);
        assert_eq!(line["outcome"], "via_refused", "{line}");
        assert!(line["detail"].as_str().unwrap().contains(&words), "{line}");
    }
}

#[test]
fn a_proxy_that_closes_is_silent_or_is_gone_makes_its_backend_unavailable() {
    let closing = Proxy::http(|_| b"HTTP/1.1 200 OK\r\nVia:".to_vec(), drop);
    let mute = Proxy::http(|_| Vec::new(), |mut stream| drop(read_to_end(&mut stream)));
    let gone = Refusing::new();
    let late = "its answer did not come in time";
    let cases = [
        (
            closing.address(),
            "1h",
            "reset",
            "closed the connection before its answer",
        ),
        (mute.address(), "3s", "timeout", late),
        (gone.address(), "1h", "refused", ""),
    ];
    for (proxy, limit, reason, words) in cases {
        let via = http(proxy);
        let limits = format!("connect_timeout = \"{limit}\"\ndial_timeout = \"1h\"");
        let portway = Portway::start(&toml(&via, &[FAR], &limits));
        let line = refused(&portway);
        assert_eq!(line["outcome"], "backend_unavailable", "{line}");
        let attempt = &line["attempts"][0];
        assert_eq!(attempt["reason"], reason, "{line}");
        assert_eq!(attempt["address"], proxy.to_string(), "{line}");
        assert_eq!(attempt["via"], via, "{line}");
        let error = attempt["error"].as_str().unwrap_or_default();
        assert!(
            error.contains(words) && error.is_empty() == words.is_empty(),
            "{line}"
        );
    }
}

#[test]
fn a_refused_endpoint_goes_last_and_a_dead_proxy_is_tried_once_for_all_endpoints() {
    let proxy = Proxy::http(
        |target| match target {
            "a.invalid:1" => b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        },
        echo,
    );
    let endpoints = ["a.invalid:1", "b.invalid:1"];
    let keys = "balance = \"round_robin\"";
    let portway = Portway::start(&toml(&http(proxy.address()), &endpoints, keys));
    let lines: Vec<_> = (0..4)
        .map(|_| closed(&portway, portway.relayed()))
        .collect();
    assert!(
        lines.iter().all(|line| line["endpoint"] == "b.invalid:1"),
        "{lines:?}"
    );
    let with_attempts = lines.iter().filter(|line| line.get("attempts").is_some());
    assert_eq!(
        with_attempts.count(),
        1,
        "it goes last after its refusal: {lines:?}"
    );

    let gone = Refusing::new();
    let portway = Portway::start(&toml(&http(gone.address()), &endpoints, keys));
    let line = refused(&portway);
    assert_eq!(line["attempts"].as_array().unwrap().len(), 1, "{line}");
}

#[test]
fn an_address_that_a_client_of_a_proxy_listener_names_is_that_of_the_endpoint() {
    let proxy = Proxy::http(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), echo);
    let endpoints = ["192.0.2.7:9200", "[2001:db8::7]:9200"];
    let text = toml(&http(proxy.address()), &endpoints, "");
    let text = text
        .replace(
            "bind = [\"127.0.0.1:0\"]\n",
            "bind = [\"127.0.0.1:0\"]\nprotocol = \"http_connect\"\n",
        )
        .replace(
            &format!("server_names = [\"{NAME}\"]"),
            "no_server_name = true",
        );
    let portway = Portway::start(&text);
    let ask = |target: &str| {
        let mut client = connect(portway.address("agents"));
        write!(client, "CONNECT {target} HTTP/1.1\r\n\r\n").unwrap();
        let answer = head(&mut client).unwrap();
        (client, answer)
    };
    let hello = Builder::without_name().build();
    for target in endpoints {
        let (mut client, answer) = ask(target);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        client.write_all(&hello).unwrap();
        let mut echoed = hello.clone();
        client.read_exact(&mut echoed).unwrap();
        let line = closed(&portway, client);
        assert_eq!(
            (&line["endpoint"], &line["target"]),
            (&target.into(), &target.into())
        );
    }
    let asked: Vec<_> = proxy
        .asked()
        .iter()
        .map(|head| head.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(asked, endpoints);
    // The proxy's own address is not one of the backend.
    let (_, answer) = ask(&proxy.address().to_string());
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[test]
fn a_reload_moves_new_connections_to_the_proxy_and_back() {
    let backend = Backend::echo();
    let address = backend.address();
    let name = format!("localhost:{}", address.port());
    let proxy = Proxy::http(
        |_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        move |stream| relay(&stream, address),
    );
    let through = toml(&http(proxy.address()), &[&name], "");
    let direct = through.replace(&format!("via = \"{}\"\n", http(proxy.address())), "");
    let portway = Portway::start(&direct);
    let connections = || {
        portway.count(&format!(
            "portway_endpoint_connections{{backend=\"es\",endpoint=\"{name}\"}}"
        ))
    };
    let mut held = Vec::new();
    for (toml, is_through) in [(&direct, false), (&through, true), (&direct, false)] {
        if !held.is_empty() {
            portway.reload_with(toml);
        }
        let before = proxy.asked().len();
        held.push(portway.relayed());
        assert_eq!(proxy.asked().len() - before, usize::from(is_through));
        assert_eq!(connections(), held.len() as u64, "those of both ways count");
        assert_eq!(has_look_ups(&portway.metrics()), !is_through);
        let resolved = format!(
            "portway_endpoint_addresses{{backend=\"es\",endpoint=\"{name}\",state=\"healthy\"}}"
        );
        assert!(portway.count(&resolved) >= 1);
    }
    for client in held {
        drop(closed(&portway, client));
    }
    within(PATIENCE, "no connection is left", || {
        (connections() == 0).then_some(())
    });
}

/// Carries bytes both ways until either side ends.
fn relay(client: &TcpStream, backend: SocketAddr) {
    let backend = connect(backend);
    let pairs = [(client, &backend), (&backend, client)];
    thread::scope(|scope| {
        for (mut from, mut to) in pairs {
            scope.spawn(move || {
                drop(std::io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
        }
    });
}

#[test]
fn a_proxy_that_is_portway_itself_makes_no_loop_and_an_endpoint_at_its_loopback_is_no_loop() {
    let listener = free();
    let proxy = Proxy::http(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), echo);
    let own = format!("http://localhost:{}", listener.port());
    let bind = |text: String| {
        text.replacen(
            "bind = [\"127.0.0.1:0\"]",
            &format!("bind = [\"{listener}\"]"),
            1,
        )
    };
    let portway = Portway::start(&bind(toml(&own, &[FAR], "")));
    // Where localhost has an IPv6 address too, that one is dialled in vain.
    let line = refused(&portway);
    let attempts = line["attempts"].to_string();
    assert!(
        !attempts.contains(&listener.to_string()) || attempts.contains("\"loop\""),
        "{line}"
    );
    let metrics = get(portway.admin(), "/metrics").unwrap().1;
    let accepted = "portway_connections_accepted_total{listener=\"agents\"} 1\n";
    assert!(metrics.contains(accepted), "{metrics}");
    drop(portway);

    // Behind the proxy this address is another machine.
    let portway = Portway::start(&bind(toml(
        &http(proxy.address()),
        &[&listener.to_string()],
        "",
    )));
    drop(portway.relayed());
    assert!(proxy.asked()[0].contains(&listener.to_string()));
}

#[test]
fn a_client_that_resets_while_the_proxy_is_silent_ends_at_once() {
    let mute = Proxy::http(|_| Vec::new(), |mut stream| drop(read_to_end(&mut stream)));
    let keys = "connect_timeout = \"1h\"\ndial_timeout = \"1h\"";
    let portway = Portway::start(&toml(&http(mute.address()), &[FAR], keys));
    let client = portway.client();
    mute.backend.wait_accepted(1);
    let address = client.local_addr().unwrap();
    super::peers::reset(client);
    assert_eq!(portway.line_of(address)["outcome"], "client_reset");
}
