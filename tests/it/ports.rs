//! Routes that are for some ports: one name for several servers, as in an installation on one machine.

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::fixture::{Portway, config};
use super::hello::Builder;
use super::peers::{Backend, connect};

const NAME: &str = "elastic.example";

/// A client of `NAME` at this address: what it gets back, and its line in the log.
fn visit(portway: &Portway, address: SocketAddr) -> (bool, serde_json::Value) {
    let mut client = connect(address);
    let hello = Builder::new(NAME).build();
    client.write_all(&hello).unwrap();
    let mut echoed = vec![0; hello.len()];
    let is_echoed = client.read_exact(&mut echoed).is_ok() && echoed == hello;
    let local = client.local_addr().unwrap();
    drop(client);
    (is_echoed, portway.line_of(local))
}

#[test]
fn one_name_leads_to_the_server_of_the_port_at_which_the_client_arrives() {
    let (fleet, elasticsearch) = (Backend::echo(), Backend::echo());
    let base = config(&[fleet.address()], "", "")
        + "[listeners.data]\nbind = [\"127.0.0.1:0\"]\n\
           [listeners.third]\nbind = [\"127.0.0.1:0\"]\n";
    // The kernel chooses the ports, which the reload keeps.
    let portway = Portway::start(&base);
    let [agents, data, third] = ["agents", "data", "third"].map(|name| portway.address(name));
    let route = |name, port, endpoint| {
        format!(
            "[backends.{name}]\nendpoints = [\"{endpoint}\"]\n\
             [routes.{name}]\nserver_names = [\"{NAME}\"]\nports = [{port}]\nbackend = \"{name}\"\n"
        )
    };
    portway.reload_with(&format!(
        "{base}{}{}",
        route("one", agents.port(), fleet.address()),
        route("two", data.port(), elasticsearch.address()),
    ));
    for (address, name, endpoint) in [
        (agents, "one", fleet.address()),
        (data, "two", elasticsearch.address()),
    ] {
        let (is_echoed, line) = visit(&portway, address);
        assert!(is_echoed, "{line}");
        assert_eq!(line["route"], name, "{line}");
        assert_eq!(line["endpoint"], endpoint.to_string(), "{line}");
    }

    let (is_echoed, line) = visit(&portway, third);
    assert!(!is_echoed);
    assert_eq!(
        (&line["outcome"], &line["alert"]),
        (&"no_route".into(), &112.into())
    );
    let mut ports = [agents.port(), data.port()];
    ports.sort_unstable();
    let [low, high] = ports;
    let detail = format!(
        "at port {} no route takes this name; routes take it at {low}, {high}",
        third.port()
    );
    assert_eq!(line["detail"], detail, "{line}");
    assert!(line.get("nearest").is_none(), "{line}");
}
