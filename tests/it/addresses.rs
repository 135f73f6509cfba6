//! Addresses of both families, and names, on both sides.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::thread;

use super::fixture::{PATIENCE, Portway, config, hello, message};
use super::ordinary_user;
use super::peers::{Backend, connect, has_ipv6};

/// An endpoint on IPv6 that reads one hello and answers; `None` on a host without IPv6.
fn backend_on_ipv6() -> Option<SocketAddr> {
    if !has_ipv6() {
        return None;
    }
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&BYTE).unwrap();
    });
    Some(address)
}

/// The whole answer of the backend, which may begin a record of TLS.
const BYTE: [u8; 1] = [22];

fn answer(portway: &Portway, listener: SocketAddr) -> serde_json::Value {
    let mut client = connect(listener);
    let address = client.local_addr().unwrap();
    client.write_all(&hello()).unwrap();
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, BYTE);
    drop(client);
    portway.line_of(address)
}

#[test]
fn ipv6_is_relayed_from_listener_to_endpoint() {
    let Some(backend) = backend_on_ipv6() else {
        return;
    };
    let toml = config(&[backend], "", "").replace(
        "bind = [\"127.0.0.1:0\"]",
        &format!("bind = [\"[{}]:0\"]", Ipv6Addr::LOCALHOST),
    );
    let portway = Portway::start(&toml);
    let listener = portway.address("agents");
    assert!(listener.is_ipv6());
    let line = answer(&portway, listener);
    assert_eq!(line["outcome"], "closed", "{line}");
    assert!(
        line["backend_local"]
            .as_str()
            .unwrap()
            .starts_with("[::1]:"),
        "{line}"
    );
}

#[test]
fn the_wildcard_of_ipv6_takes_ipv4_and_its_clients_are_canonical() {
    let Some(backend) = backend_on_ipv6() else {
        return;
    };
    let toml =
        config(&[backend], "", "").replace("bind = [\"127.0.0.1:0\"]", "bind = [\"[::]:0\"]");
    let portway = Portway::start(&toml);
    let port = portway.address("agents").port();
    let line = answer(&portway, ([127, 0, 0, 1], port).into());
    assert!(
        line["client"].as_str().unwrap().starts_with("127.0.0.1:"),
        "{line}"
    );
}

#[test]
fn a_name_is_resolved_and_its_addresses_are_tried_in_turn() {
    // `localhost` may also be ::1, where nothing listens: portway then tries the next address.
    let backend = Backend::start(|mut stream| {
        stream.read_exact(&mut hello()).unwrap();
        stream.write_all(&BYTE).unwrap();
    });
    let named = format!("localhost:{}", backend.address().port());
    let toml = config(&[backend.address()], "", "").replace(&backend.address().to_string(), &named);
    let portway = Portway::start(&toml);
    let line = answer(&portway, portway.address("agents"));
    assert_eq!(line["endpoint"], named.as_str(), "{line}");
    assert!(
        line["backend_local"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:"),
        "{line}"
    );
}

#[test]
fn an_ordinary_user_is_told_three_ways_to_a_low_port() {
    ordinary_user::run("it::addresses::a_low_port_as_an_ordinary_user");
}

/// The part that runs as an ordinary user.
#[test]
fn a_low_port_as_an_ordinary_user() {
    let Some(program) = ordinary_user::portway() else {
        return;
    };
    let backend = Backend::echo();
    let bind = "bind = [\"127.0.0.1:443\"]";
    let toml = config(&[backend.address()], "", "").replace("bind = [\"127.0.0.1:0\"]", bind);
    let mut portway = Portway::spawn_by(Command::new(program), &toml, Stdio::piped());
    assert_eq!(portway.wait_exit().code(), Some(1));
    let line = portway
        .program
        .wait(PATIENCE, |line| message(line).contains("127.0.0.1:443"));
    for remedy in [
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "net.ipv4.ip_unprivileged_port_start",
        "a higher port such as 8443",
    ] {
        assert!(message(&line).contains(remedy), "{line}");
    }
}
