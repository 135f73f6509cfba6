//! Connections that end in a gap although the process does not drain: those of an endpoint that is unhealthy or gone, and
//! old ones. A check-in that is held is never cut.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use super::fixture::{PATIENCE, Portway, config, message, pause, within};
use super::peers::Backend;
use super::resolver::server::Server;
use super::takeover::gap::{
    AT_ONCE, Client, EVERY, HELD, Holding, REQUEST, read_answer_and_end, request,
};

/// The keys of a backend whose endpoints are checked, and left if they are unhealthy.
const IF_UNHEALTHY: &str = "balance = \"round_robin\"\nclose_on = [\"unhealthy\"]\n\
    health = { check = \"tcp\", interval = \"1s\", timeout = \"1s\" }";

fn wait_unhealthy(portway: &Portway, address: SocketAddr) {
    let address = address.to_string();
    portway.program.wait(PATIENCE, |line| {
        message(line).starts_with("an address of the endpoint is unhealthy")
            && line["fields"]["address"] == address.as_str()
    });
}

/// Answers the request that is held, and checks that the connection ends behind the answer, with these words in the log.
fn ends_behind_the_answer(portway: &Portway, mut client: Client, holding: &Holding, words: &str) {
    pause(HELD);
    holding.answer();
    read_answer_and_end(&mut client);
    let local = client.sock.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(local);
    assert_eq!(line["outcome"], "drained", "{line}");
    assert_eq!(line["closed_by"], "portway", "{line}");
    let detail = line["detail"].as_str().unwrap();
    assert!(detail.ends_with(words), "{detail}");
}

/// Answers the request that is held, and checks that the connection goes on behind the answer.
fn stays_behind_the_answer(client: &mut Client, holding: &Holding) {
    pause(HELD);
    holding.answer();
    client.read_exact(&mut [0; 700]).unwrap();
    // Longer than portway needs where it ends them: a gap comes 3 s after the search begins.
    pause(2 * HELD);
    client.write_all(&[AT_ONCE; REQUEST]).unwrap();
    client.read_exact(&mut [0; 700]).unwrap();
}

#[test]
fn an_endpoint_that_a_reload_removes_keeps_a_held_check_in_and_loses_its_connection_behind_the_answer()
 {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let other = Backend::echo();
    let keys = "close_on = [\"removed\"]";
    let portway = Portway::start(&config(&[backend.address()], "", keys));
    let client = request(&portway, &tls);
    holding.wait_held(1);
    portway.reload_with(&config(&[other.address()], "", keys));
    let words = "the endpoint is gone from routes.toml or DNS (close_on)";
    ends_behind_the_answer(&portway, client, &holding, words);
}

#[test]
fn an_endpoint_that_a_reload_removes_keeps_its_connections_unless_the_file_says_otherwise() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let other = Backend::echo();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = request(&portway, &tls);
    holding.wait_held(1);
    portway.reload_with(&config(&[other.address()], "", ""));
    stays_behind_the_answer(&mut client, &holding);
}

#[test]
fn connections_of_an_unhealthy_endpoint_end_behind_an_answer_if_another_one_is_healthy() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let other = Backend::holding();
    let address = backend.address();
    let portway = Portway::start(&config(&[address, other.address()], "", IF_UNHEALTHY));
    let client = request(&portway, &tls);
    holding.wait_held(1);
    // Its connections stay, and it takes no more.
    drop(backend);
    wait_unhealthy(&portway, address);
    let words = "the endpoint is unhealthy, and another one is healthy (close_on)";
    ends_behind_the_answer(&portway, client, &holding, words);
}

#[test]
fn connections_of_an_unhealthy_endpoint_stay_if_there_is_no_other() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let address = backend.address();
    let portway = Portway::start(&config(&[address], "", IF_UNHEALTHY));
    let mut client = request(&portway, &tls);
    holding.wait_held(1);
    drop(backend);
    wait_unhealthy(&portway, address);
    stays_behind_the_answer(&mut client, &holding);
}

#[test]
fn connections_of_an_unhealthy_endpoint_end_behind_an_answer_if_a_reload_brings_a_healthy_one() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let address = backend.address();
    let other = Backend::holding();
    let portway = Portway::start(&config(&[address], "", IF_UNHEALTHY));
    let client = request(&portway, &tls);
    holding.wait_held(1);
    drop(backend);
    wait_unhealthy(&portway, address);
    portway.reload_with(&config(&[address, other.address()], "", IF_UNHEALTHY));
    let words = "the endpoint is unhealthy, and another one is healthy (close_on)";
    ends_behind_the_answer(&portway, client, &holding, words);
}

#[test]
fn connections_of_an_unhealthy_endpoint_stay_if_a_reload_lets_the_other_one_drain() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let address = backend.address();
    let other = Backend::holding();
    let portway = Portway::start(&config(&[address, other.address()], "", IF_UNHEALTHY));
    let mut client = request(&portway, &tls);
    holding.wait_held(1);
    let drains = format!("{{ address = \"{}\", state = \"drain\" }}", other.address());
    let endpoints = format!("endpoints = [\"{address}\", {drains}]");
    let toml = config(&[], "", IF_UNHEALTHY);
    portway.reload_with(&toml.replace("endpoints = []", &endpoints));
    drop(backend);
    wait_unhealthy(&portway, address);
    stays_behind_the_answer(&mut client, &holding);
}

#[test]
fn a_connection_of_age_keeps_a_held_check_in_and_ends_behind_the_answer() {
    let holding = Arc::new(Holding::default());
    let (backend, tls) = holding.start(EVERY[0]);
    let keys = "max_connection_age = \"1s\"";
    let portway = Portway::start(&config(&[backend.address()], "", keys));
    let client = request(&portway, &tls);
    holding.wait_held(1);
    let words = "the connection has reached max_connection_age";
    ends_behind_the_answer(&portway, client, &holding, words);
    let end = portway
        .program
        .find(|line| message(line) == "the drain has ended");
    assert!(end.is_none(), "the process has not drained");
}

#[test]
fn an_address_that_three_answers_of_dns_do_not_have_loses_its_connections_behind_an_answer() {
    let (dns, holding) = (Server::start(), Arc::new(Holding::default()));
    dns.lead("es.test", &["127.0.0.1"]);
    let (backend, tls) = holding.start(EVERY[0]);
    let keys = format!("close_on = [\"removed\"]\n{}", dns.resolver());
    let endpoint = format!("endpoints = [\"es.test:{}\"]", backend.address().port());
    let portway = Portway::start(&config(&[], "", &keys).replace("endpoints = []", &endpoint));
    let client = request(&portway, &tls);
    holding.wait_held(1);
    let asked = dns.asked("es.test").len();
    dns.lead("es.test", &["127.0.0.2"]);
    // Each look-up asks for both families.
    within(PATIENCE, "three look-ups", || {
        (dns.asked("es.test").len() >= asked + 6).then_some(())
    });
    let words = "the endpoint is gone from routes.toml or DNS (close_on)";
    ends_behind_the_answer(&portway, client, &holding, words);
}
