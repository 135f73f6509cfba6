use super::*;
use crate::doctor::Severity;
use crate::doctor::report::{Address, Answer};
use crate::tls::certificate::tests::certificate;

/// An endpoint of a backend whose server has this name, these names in its certificate, and this protocol.
fn endpoint(backend: &str, name: &str, covered: &[&str], alpn: Option<&str>) -> Endpoint {
    let name = Name {
        server_name: Some(name.to_owned()),
        made_up: false,
        answer: Answer {
            answer: "server_hello",
            answer_text: String::new(),
            alert: None,
            first_byte_ms: None,
        },
        tls: None,
        alpn: alpn.map(str::to_owned),
        asks_for_certificate: None,
        certificates: vec![Certificate::read(&certificate(covered)).unwrap()],
        certificate_unseen: None,
    };
    let address = Address {
        address: "10.0.0.1:443".parse().unwrap(),
        connect_ms: None,
        names: vec![name],
        hellos: Vec::new(),
    };
    Endpoint {
        role: None,
        backend: backend.to_owned(),
        endpoint: "10.0.0.1:443".to_owned(),
        via: None,
        lookup_ms: None,
        addresses: vec![address],
    }
}

const H2: Option<&str> = Some("h2");

#[test]
fn a_certificate_that_covers_two_servers_of_http_2_is_told_once() {
    let wildcard = || ["*.example"];
    let endpoints = [
        endpoint("fleet", "fleet.example", &wildcard(), H2),
        endpoint("fleet", "fleet.example", &wildcard(), H2),
        endpoint("kibana", "kibana.example", &wildcard(), H2),
    ];
    let found = findings(&endpoints);
    assert_eq!(found.len(), 1, "{found:?}");
    let message = &found[0].message;
    assert!(
        message.contains(
            "also covers kibana.example of the backend kibana, and both servers speak HTTP/2"
        ),
        "{message}"
    );
    assert!(
        found[0]
            .help
            .starts_with("give each server a certificate with its own name only")
    );
    assert_eq!(found[0].severity, Severity::Warning);
    assert_eq!(found[0].place.server_name.as_deref(), Some("fleet.example"));
}

#[test]
fn servers_that_a_browser_does_not_mix_up_are_not_told() {
    let fine = |one, other| findings(&[one, other]).is_empty();
    let wildcard = || endpoint("fleet", "fleet.example", &["*.example"], H2);
    assert!(
        fine(
            wildcard(),
            endpoint("es", "es.example", &["*.example"], None)
        ),
        "it has no h2"
    );
    assert!(
        fine(
            wildcard(),
            endpoint("fleet", "b.example", &["*.example"], H2)
        ),
        "one backend"
    );
    // Two services under one name: the routes tell them apart by their ports, and so does a browser.
    assert!(
        fine(
            wildcard(),
            endpoint("kibana", "fleet.example", &["*.example"], H2)
        ),
        "one name"
    );
    let own = |backend, name| endpoint(backend, name, &[name], H2);
    assert!(
        fine(
            own("fleet", "fleet.example"),
            own("kibana", "kibana.example")
        ),
        "own names"
    );
    let mut made_up = wildcard();
    made_up.addresses[0].names[0].made_up = true;
    assert!(fine(
        made_up,
        endpoint("kibana", "kibana.example", &["*.example"], H2)
    ));
}
