//! Certificates that one side does not accept, in TLS 1.2 and 1.3.

use super::{Look, logged, says};
use crate::it::fixture::{NAME, Portway, config};
use crate::it::handshakes::{Own, Peers, VERSIONS};

const CERTIFICATE: &str = "portway doctor shows it";

#[test]
fn the_certificate_of_the_server_has_expired_or_is_for_another_name() {
    for (version, named) in VERSIONS {
        for (cause, (name, last_year), error, found) in [
            (
                "certificate_expired",
                (NAME, 2021),
                "certificate expired",
                [
                    "the certificate expired on 2021-01-01",
                    "renew it at the server",
                ],
            ),
            (
                "certificate_for_another_name",
                ("other.example", 4000),
                "not valid for name",
                ["it has other.example", "fleet.example"],
            ),
        ] {
            let mut peers = Peers::new(version);
            peers.server = Own::lasting("server", name, last_year);
            let backend = peers.server();
            let portway = Portway::start(&config(&[backend.address()], "", ""));
            let look = Look(&portway);
            let (said, line) = peers.ask_through(&portway);
            says(&said.unwrap(), &[error]);
            assert_eq!(line["outcome"], "handshake_failed", "{line}");
            let detail = line["detail"].as_str().unwrap();
            says(detail, &["the client refused the handshake with"]);
            if named == "1.3" {
                logged(cause, &line);
                says(detail, &[CERTIFICATE]);
                // A server of TLS 1.3 alone shows no certificate.
                look.doctor(&["the server speaks TLS 1.3"]);
            } else {
                says(detail, &["certificate"]);
                look.doctor(&found);
            }
            let remedy = "refused the other one's certificate or version, and detail says which";
            look.status("handshake_failed", &[remedy, "portway doctor"]);
            look.explain(&[NAME], &["route        fleet (fleet.example)"]);
        }
    }
}

#[test]
fn the_certificate_of_the_client_is_missing_or_wrong() {
    for (version, named) in VERSIONS {
        for (cause, has_certificate, words) in [
            (
                "client_certificate_missing",
                false,
                [
                    "the client sent none",
                    "give the client a certificate and its key (ssl.certificate and ssl.key)",
                ],
            ),
            (
                "client_certificate_wrong",
                true,
                [
                    "the backend refused the client's certificate",
                    "the backend does not trust its CA",
                ],
            ),
        ] {
            let mut peers = Peers::new(version);
            peers.asked = Some(Own::new("another"));
            peers.has_certificate = has_certificate;
            let backend = peers.server();
            let portway = Portway::start(&config(&[backend.address()], "", ""));
            let look = Look(&portway);
            let (error, line) = peers.ask_through(&portway);
            says(&error.unwrap(), &["received fatal alert"]);
            says(line["detail"].as_str().unwrap(), &words);
            if named == "1.3" {
                logged(cause, &line);
            } else {
                look.doctor(&["a certificate is asked for (mutual TLS)"]);
            }
            look.status("handshake_failed", &[words[0]]);
            look.explain(&[NAME], &["route        fleet (fleet.example)"]);
        }
    }
}
