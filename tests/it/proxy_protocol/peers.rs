//! HAProxy and nginx as balancers before portway, and behind it, over IPv4 and IPv6.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::mpsc::{Receiver, channel};

use super::line_from;
use crate::it::doctor::servers::Tls;
use crate::it::fixture::{NAME, PATIENCE, Portway, alike, hello, route, within};
use crate::it::others::{Other, Program};
use crate::it::peers::{Backend, connect, free_at, has_ipv6};

/// HAProxy with one listener, of these options, and one server; `None` if the machine does not have it.
fn haproxy([at, to]: [SocketAddr; 2], [of_bind, of_server]: [&str; 2]) -> Option<Other> {
    let text = format!(
        " timeout connect 30s\n timeout client 60s\n timeout server 60s\n\
         listen all\n bind {at} {of_bind}\n server one {to} {of_server}\n"
    );
    Other::start(Program::Haproxy, at, &text)
}

/// nginx with one server of its stream module, and these further words; `None` if the machine does not have it.
fn nginx([at, to]: [SocketAddr; 2], [of_listen, more]: [&str; 2]) -> Option<Other> {
    let text = format!(
        "stream {{ log_format who '$proxy_protocol_addr $proxy_protocol_port'; \
         server {{ listen {at} {of_listen}; proxy_pass {to}; {more} }} }}"
    );
    Other::start(Program::Nginx, at, &text)
}

/// The loopback addresses of this machine.
fn loopbacks() -> impl Iterator<Item = IpAddr> {
    let v6 = has_ipv6().then_some(Ipv6Addr::LOCALHOST.into());
    [Ipv4Addr::LOCALHOST.into()].into_iter().chain(v6)
}

/// A portway at this loopback address, which trusts it.
fn behind(loopback: IpAddr, backend: SocketAddr) -> Portway {
    let bind = SocketAddr::new(loopback, 0);
    Portway::start(&format!(
        "admin.bind = \"127.0.0.1:0\"\n[listeners.agents]\nbind = [\"{bind}\"]\n\
         proxy_protocol = {{ trusted = [\"127.0.0.1/32\", \"::1/128\"] }}\n{}",
        route("fleet", backend, "")
    ))
}

/// Sends a hello to a balancer, gets it back, and returns the address that it came from.
fn visit(balancer: SocketAddr) -> SocketAddr {
    let mut client = connect(balancer);
    client.write_all(&hello()).unwrap();
    let mut echoed = hello();
    client.read_exact(&mut echoed).unwrap();
    assert!(alike(&echoed, &hello()));
    client.local_addr().unwrap()
}

#[test]
fn the_headers_of_haproxy_and_nginx_are_read() {
    let backend = Backend::echo();
    for loopback in loopbacks() {
        let portway = behind(loopback, backend.address());
        let to = portway.address("agents");
        for kind in [
            "send-proxy",
            "send-proxy-v2",
            "send-proxy-v2 proxy-v2-options crc32c",
            "nginx",
        ] {
            let at = free_at(loopback);
            let balancer = match kind {
                "nginx" => nginx([at, to], ["", "proxy_protocol on;"]),
                options => haproxy([at, to], ["", options]),
            };
            let Some(_balancer) = balancer else { continue };
            let client = visit(at);
            let line = portway.line_of(client);
            assert!(line["proxied_by"].is_string(), "{kind}: {line}");
            assert_eq!(
                line_from(&portway, client)["outcome"],
                "closed",
                "{kind}: {line}"
            );
        }
    }
}

/// A backend that takes a line, hands it to the test, and then echoes.
fn taking_a_line() -> (Backend, Receiver<String>) {
    let (sender, receiver) = channel();
    let backend = Backend::start(move |stream| {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(1..)) {
            return;
        }
        drop(sender.send(line));
        while let Ok(bytes @ [_, ..]) = reader.fill_buf() {
            let bytes = bytes.to_vec();
            reader.consume(bytes.len());
            if reader.get_mut().write_all(&bytes).is_err() {
                return;
            }
        }
    });
    (backend, receiver)
}

/// A portway at this loopback address that sends headers there.
fn before(loopback: IpAddr, to: SocketAddr, version: &str) -> Portway {
    let bind = SocketAddr::new(loopback, 0);
    let keys = format!("send_proxy_protocol = \"{version}\"");
    Portway::start(&format!(
        "admin.bind = \"127.0.0.1:0\"\n[listeners.agents]\nbind = [\"{bind}\"]\n{}",
        route("fleet", to, &keys)
    ))
}

#[test]
fn haproxy_reads_the_headers_that_portway_sends() {
    let (backend, lines) = taking_a_line();
    for loopback in loopbacks() {
        for version in ["v1", "v2"] {
            let at = free_at(loopback);
            let both = [at, backend.address()];
            let Some(_haproxy) = haproxy(both, ["accept-proxy", "send-proxy"]) else {
                return;
            };
            let portway = before(loopback, at, version);
            let client = visit(portway.address("agents"));
            let family = if loopback.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (client.port(), portway.address("agents").port());
            let wanted = format!("PROXY {family} {loopback} {loopback} {from} {to}\r\n");
            assert_eq!(lines.recv_timeout(PATIENCE).unwrap(), wanted, "{version}");
        }
    }
}

#[test]
fn nginx_reads_the_headers_that_portway_sends() {
    let backend = Backend::echo();
    for loopback in loopbacks() {
        for version in ["v1", "v2"] {
            let at = free_at(loopback);
            let log = tempfile::NamedTempFile::new().unwrap();
            let more = format!("access_log {} who;", log.path().display());
            let Some(_nginx) = nginx([at, backend.address()], ["proxy_protocol", &more]) else {
                return;
            };
            let portway = before(loopback, at, version);
            let client = visit(portway.address("agents"));
            let wanted = format!("{loopback} {}", client.port());
            within(PATIENCE, "the line of nginx", || {
                let told = fs::read_to_string(log.path()).unwrap();
                told.lines().any(|line| line == wanted).then_some(())
            });
        }
    }
}

/// The headers of checks have no address of a client.
#[test]
fn haproxy_and_nginx_take_the_headers_of_checks() {
    let server = Tls::new(&[NAME]).start();
    for version in ["v1", "v2"] {
        for program in ["haproxy", "nginx"] {
            let at = free_at(Ipv4Addr::LOCALHOST.into());
            let both = [at, server.address()];
            let other = match program {
                "nginx" => nginx(both, ["proxy_protocol", ""]),
                _ => haproxy(both, ["accept-proxy", ""]),
            };
            let Some(_other) = other else { continue };
            let checks = format!(
                "send_proxy_protocol = \"{version}\"\nhealth = {{ check = \"tls\", server_name = \"{NAME}\" }}"
            );
            let portway = Portway::start(&format!(
                "admin.bind = \"127.0.0.1:0\"\n[listeners.agents]\nbind = [\"127.0.0.1:0\"]\n{}",
                route("fleet", at, &checks)
            ));
            let checked = |result: &str| {
                let labels = format!("backend=\"fleet\",endpoint=\"{at}\",result=\"{result}\"");
                portway.count(&format!("portway_health_checks_total{{{labels}}}"))
            };
            within(PATIENCE, "the first check", || {
                (checked("passed") + checked("failed") > 0).then_some(())
            });
            assert_eq!(checked("failed"), 0, "{program} {version}");
        }
    }
}
