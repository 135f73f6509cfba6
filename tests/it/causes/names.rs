//! Names of clients that no route takes, and names of endpoints that lead nowhere or to an old address.

use std::process::{Command, Stdio};

use hickory_proto::op::ResponseCode;

use super::{Look, ask, logged, says};
use crate::it::fixture::{NAME, PATIENCE, Portway, config, missing, within};
use crate::it::handshakes::Peers;
use crate::it::peers::Refusing;
use crate::it::resolver::server::{Reply, Server};

/// A portway before a server that is well.
fn beside_a_server(test: impl FnOnce(&Portway)) {
    let backend = Peers::new(&rustls::version::TLS13).server();
    test(&Portway::start(&config(&[backend.address()], "", "")));
}

#[test]
fn a_name_in_dns_without_a_route() {
    beside_a_server(|portway| {
        let look = Look(portway);
        let (error, line) = ask(portway, "kibana.test");
        says(&error, &["UnrecognisedName"]);
        logged("name_without_a_route", &line);
        assert_eq!(line.get("nearest"), None, "{line}");
        let remedy = "add the name to server_names of a route";
        look.status("no_route", &["kibana.test", remedy]);
        let refused = "no_route: no route takes this server name here";
        look.explain(&["kibana.test"], &[refused, remedy]);
        look.doctor_finds_no_error();
    });
}

#[test]
fn a_mistyped_name() {
    beside_a_server(|portway| {
        let look = Look(portway);
        let (error, line) = ask(portway, "fleet.exmaple");
        says(&error, &["UnrecognisedName"]);
        logged("mistyped_name", &line);
        let remedy = "Correct the host or the port in the client's URL";
        look.status("no_route", &["\"nearest\":\"fleet.example\"", remedy]);
        look.explain(&["fleet.exmaple"], &["nearest      fleet.example", remedy]);
        look.doctor_finds_no_error();
    });
}

/// Runs openssl with this server name, as it is; no other client here sends a dot at the end.
fn openssl(portway: &Portway, name: &str) -> Option<String> {
    let mut command = Command::new("openssl");
    let address = portway.address("agents").to_string();
    command.args(["s_client", "-connect", &address, "-servername", name]);
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        missing("openssl", "install openssl");
        return None;
    };
    let both = [output.stdout, output.stderr].concat();
    Some(String::from_utf8_lossy(&both).into_owned())
}

#[test]
fn a_name_in_upper_case_is_routed_and_one_with_a_dot_at_its_end_is_refused() {
    beside_a_server(|portway| {
        let look = Look(portway);
        let Some(said) = openssl(portway, "FLEET.Example") else {
            return;
        };
        says(&said, &["BEGIN CERTIFICATE"]);
        look.explain(&["FLEET.Example"], &["route        fleet (fleet.example)"]);
        let said = openssl(portway, "fleet.example.").unwrap();
        says(&said, &["unrecognized name", "112"]);
        let line = portway.wait_line(|line| line["outcome"] == "invalid_server_name");
        logged("trailing_dot", &line);
        let remedy = "Correct the host in the client's URL: detail says what is wrong with it, such as a dot at its end";
        look.status("invalid_server_name", &["trailing dot", remedy]);
        look.explain(&["fleet.example."], &["trailing dot", remedy]);
        look.doctor_finds_no_error();
    });
}

#[test]
fn an_address_in_the_url() {
    beside_a_server(|portway| {
        let look = Look(portway);
        let (error, line) = ask(portway, "127.0.0.1");
        says(&error, &["alert: MissingExtension"]);
        logged("address_in_the_url", &line);
        let remedy =
            "Give the client a URL with a host name, or add a route with no_server_name = true";
        look.status("no_server_name", &[remedy]);
        look.explain(&["127.0.0.1"], &["portway explain --no-server-name"]);
        look.explain(&["--no-server-name"], &["no_server_name: no route", remedy]);
        look.doctor_finds_no_error();
    });
}

/// A routes.toml whose endpoint is this name, which the server resolves.
fn named(dns: &Server, endpoint: &str) -> String {
    let written = "127.0.0.1:1".parse().unwrap();
    let toml = config(&[written], "", &dns.resolver());
    toml.replace(&written.to_string(), endpoint)
}

#[test]
fn the_name_of_an_endpoint_does_not_resolve() {
    let dns = Server::start();
    let portway = Portway::start(&named(&dns, "gone.test:8220"));
    let look = Look(&portway);
    let (error, line) = ask(&portway, NAME);
    says(&error, &["InternalError"]);
    logged("unresolved_endpoint", &line);
    let remedy = "Check the names of the endpoints and the resolver: `portway doctor`";
    look.status("backend_unresolved", &[remedy]);
    let endpoint = look.json()["backends"][0]["endpoints"][0].take();
    says(
        &endpoint.to_string(),
        &["unresolved: the name does not exist"],
    );
    look.explain(
        &[NAME],
        &["gone.test:8220", "unresolved: the name does not exist"],
    );
    look.doctor(&[
        "the name cannot be resolved: the name does not exist",
        "help: correct the name, or resolver of the backend; `dig NAME @SERVER`",
    ]);
}

/// First DNS has the old address, then it fails and portway keeps that.
#[test]
fn a_stale_address() {
    let (dns, old) = (Server::start(), Refusing::new());
    dns.lead("es.test", &["127.0.0.1"]);
    let endpoint = format!("es.test:{}", old.address().port());
    let portway = Portway::start(&named(&dns, &endpoint)).until_known(1);
    let look = Look(&portway);
    let (error, line) = ask(&portway, NAME);
    says(&error, &["InternalError"]);
    let shown = line.to_string().replace(&endpoint, "es.test:9200");
    logged("stale_address", &serde_json::from_str(&shown).unwrap());
    look.status("backend_unavailable", &["the name leads to an old address"]);
    look.doctor(&[
        "nobody listens there: the connection is refused",
        "if the server has another address now, correct its name in DNS",
    ]);

    dns.set("es.test", Reply::Code(ResponseCode::ServFail));
    // A failed dial makes portway ask again.
    drop(ask(&portway, NAME));
    let told = portway.tells("the addresses that it has stay in use, and may be old");
    says(
        &told.to_string(),
        &["ask the resolver with `dig @127.0.0.1 -p "],
    );
    within(PATIENCE, "the status has it", || {
        let why = look.json()["backends"][0]["endpoints"][0]["unresolved"].take();
        why.as_str().map(|why| says(why, &["SERVFAIL"]))
    });
    look.explain(
        &[NAME],
        &[": failed", "; these addresses are of an older look-up"],
    );
    says(
        &look.command(&["status"]),
        &["; its addresses are those of an older look-up"],
    );
    look.doctor(&["the name cannot be resolved: ", "SERVFAIL"]);
}
