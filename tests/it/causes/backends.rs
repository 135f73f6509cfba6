//! Backends that refuse, do not answer or speak another protocol.

use std::io::Write;
use std::net::Shutdown;

use super::{Look, ask, logged, says};
use crate::it::doctor::servers;
use crate::it::fixture::{NAME, Portway, config};
use crate::it::peers::{Backend, Refusing, Unanswering, read_to_end};

#[test]
fn a_backend_refuses() {
    let backend = Refusing::new();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let look = Look(&portway);
    let (error, line) = ask(&portway, NAME);
    says(&error, &["InternalError"]);
    logged("refused_by_the_backend", &line);
    let remedy = "Start the backend, or correct its endpoints, or their state";
    look.status(
        "backend_unavailable",
        &[
            "\"reason\":\"refused\"",
            remedy,
            "`refused`: nothing listens there",
        ],
    );
    look.explain(&[NAME], &["failed, 0 connections"]);
    look.doctor(&[
        "nobody listens there: the connection is refused",
        "help: start the server, or correct the port in endpoints\n",
    ]);
}

#[test]
fn a_backend_is_a_black_hole() {
    let backend = Unanswering::new();
    let keys = "connect_timeout = \"300ms\"\ndial_timeout = \"600ms\"";
    let portway = Portway::start(&config(&[backend.address()], "", keys));
    let look = Look(&portway);
    let (error, line) = ask(&portway, NAME);
    says(&error, &["InternalError"]);
    logged("black_hole", &line);
    let remedy = "`timeout` and `unreachable`: a firewall or the network is in the way";
    look.status("backend_unavailable", &["\"reason\":\"timeout\"", remedy]);
    look.explain(&[NAME], &["failed, 0 connections"]);
    look.doctor(&[
        "nothing answers within 300ms (connect_timeout)",
        "help: check that the host is up, and that no firewall",
    ]);
}

/// A server of plain HTTP that reads everything, so that its close is not a reset.
fn http() -> Backend {
    Backend::start(|mut stream| {
        servers::first_bytes(&mut stream);
        let page =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        stream.write_all(page).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_to_end(&mut stream);
    })
}

#[test]
fn a_backend_speaks_http_or_ssh() {
    for (backend, cause, protocol) in [
        (http(), "backend_of_http", "plain HTTP"),
        (servers::ssh(), "backend_of_ssh", "SSH"),
    ] {
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let look = Look(&portway);
        let (error, line) = ask(&portway, NAME);
        says(&error, &["InvalidContentType"]);
        logged(cause, &line);
        let speaks = format!("the backend speaks {protocol}");
        let remedy = "urn on TLS at the server, or correct the port in endpoints";
        says(line["detail"].as_str().unwrap(), &[&speaks, remedy]);
        look.status("backend_not_tls", &[&speaks, remedy]);
        look.explain(&[NAME], &["backend      fleet"]);
        look.doctor(&[&format!("it speaks {protocol}"), remedy]);
    }
}
