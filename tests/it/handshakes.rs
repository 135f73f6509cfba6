//! TLS handshakes between real peers: their results in the log and in the metrics.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Barrier};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use serde_json::{Value, json};

use super::fixture::{NAME, Portway, config};
use super::peers::{Backend, connect, read_to_end};

pub(super) const VERSIONS: [(&SupportedProtocolVersion, &str); 2] =
    [(&TLS12, "1.2"), (&TLS13, "1.3")];

/// A certificate that signs itself, and its key.
pub(super) struct Own {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Own {
    /// The subject tells one from another for those who look for its issuer.
    pub(super) fn new(subject: &str) -> Self {
        Self::lasting(subject, NAME, 4000)
    }

    /// The same for another name, or with an end in the past.
    pub(super) fn lasting(subject: &str, name: &str, last_year: i32) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, subject);
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().der().clone(),
            key: key.serialize_der(),
        }
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()))
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }
}

/// Two peers, and what each of them trusts.
pub(super) struct Peers {
    version: &'static SupportedProtocolVersion,
    /// The host that the client asks for.
    pub(super) host: &'static str,
    pub(super) server: Own,
    client: Own,
    /// The server asks for a certificate that this one has signed.
    pub(super) asked: Option<Own>,
    /// The client trusts this certificate in place of the server's.
    pub(super) trusted: Option<Own>,
    /// The client has a certificate.
    pub(super) has_certificate: bool,
    tickets: usize,
}

impl Peers {
    pub(super) fn new(version: &'static SupportedProtocolVersion) -> Self {
        Self {
            version,
            host: NAME,
            server: Own::new("server"),
            client: Own::new("client"),
            asked: None,
            trusted: None,
            has_certificate: false,
            tickets: 2,
        }
    }

    pub(super) fn server(&self) -> Backend {
        let builder = ServerConfig::builder_with_protocol_versions(&[self.version]);
        let builder = match &self.asked {
            None => builder.with_no_client_auth(),
            Some(asked) => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder(asked.roots())
                    .build()
                    .unwrap(),
            ),
        };
        let chain = vec![self.server.certificate.clone()];
        let mut config = builder.with_single_cert(chain, self.server.key()).unwrap();
        config.send_tls13_tickets = self.tickets;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let config = Arc::new(config);
        Backend::start(move |mut stream| {
            let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut request = [0; 5];
            let mut both = rustls::Stream::new(&mut tls, &mut stream);
            if both.read_exact(&mut request).is_ok() {
                both.write_all(b"a long answer to a short question, longer than an alert")
                    .unwrap();
                both.conn.send_close_notify();
                both.flush().unwrap();
            }
            drop(stream.shutdown(Shutdown::Write));
            read_to_end(&mut stream);
        })
    }

    fn client(&self, portway: &Portway) -> StreamOwned<ClientConnection, TcpStream> {
        let builder = ClientConfig::builder_with_protocol_versions(&[self.version]);
        let builder =
            builder.with_root_certificates(self.trusted.as_ref().unwrap_or(&self.server).roots());
        let config = if self.has_certificate {
            let chain = vec![self.client.certificate.clone()];
            builder
                .with_client_auth_cert(chain, self.client.key())
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let name = self.host.try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, connect(portway.address("agents")))
    }

    /// Asks the server through portway, and returns the client's error and portway's line.
    fn ask(&self) -> (Option<String>, Value, Portway) {
        let backend = self.server();
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let (error, line) = self.ask_through(&portway);
        (error, line, portway)
    }

    /// The same through a portway that runs.
    pub(super) fn ask_through(&self, portway: &Portway) -> (Option<String>, Value) {
        let mut client = self.client(portway);
        let address = client.sock.local_addr().unwrap();
        let mut ask = || {
            client.write_all(b"hello")?;
            client.read_exact(&mut [0; 20])
        };
        let error = ask().err().map(|error| error.to_string());
        if error.is_none() {
            client.conn.send_close_notify();
            client.flush().unwrap();
        }
        drop(client);
        (error, portway.line_of(address))
    }
}

fn handshakes(portway: &Portway, result: &str) -> u64 {
    portway.count(&format!(
        "portway_handshakes_total{{backend=\"fleet\",result=\"{result}\"}}"
    ))
}

fn answers(portway: &Portway, answer: &str) -> u64 {
    portway.count(&format!(
        "portway_backend_answers_total{{backend=\"fleet\",answer=\"{answer}\"}}"
    ))
}

#[test]
fn a_handshake_that_is_well_is_completed_whatever_the_server_asks_for() {
    for (version, named) in VERSIONS {
        for mutual in [false, true] {
            for tickets in [0, 2] {
                let mut peers = Peers::new(version);
                peers.tickets = tickets;
                if mutual {
                    peers.has_certificate = true;
                    peers.asked = Some(Own {
                        certificate: peers.client.certificate.clone(),
                        key: Vec::new(),
                    });
                }
                let (error, line, portway) = peers.ask();
                assert_eq!(error, None);
                assert_eq!(line["outcome"], "closed", "{line}");
                assert_eq!(line["handshake"], "completed", "{line}");
                assert_eq!(line["backend_answer"], "server_hello");
                assert_eq!(line["tls_negotiated"], named);
                assert_eq!(line["client_certificate_asked"], json!(mutual), "{line}");
                assert_eq!(handshakes(&portway, "completed"), 1);
                assert_eq!(answers(&portway, "server_hello"), 1);
            }
        }
    }
}

#[test]
fn a_client_that_does_not_trust_the_server_fails_the_handshake() {
    for (version, named) in VERSIONS {
        let mut peers = Peers::new(version);
        peers.trusted = Some(Own::new("another"));
        let (error, line, portway) = peers.ask();
        assert!(error.is_some());
        assert_eq!(line["outcome"], "handshake_failed", "{line}");
        assert_eq!(line["closed_by"], "client");
        assert_eq!(line["handshake"], "failed");
        assert_eq!(line["tls_negotiated"], named);
        let detail = line["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("the client refused the handshake"),
            "{detail}"
        );
        // unknown_ca, which TLS 1.3 encrypts.
        let alert = if named == "1.2" {
            json!(48)
        } else {
            Value::Null
        };
        assert_eq!(line["client_alert"], alert, "{line}");
        assert_eq!(handshakes(&portway, "failed"), 1);
        assert_eq!(handshakes(&portway, "completed"), 0);
    }
}

#[test]
fn a_client_certificate_that_is_missing_or_not_trusted_fails_the_handshake() {
    for (version, named) in VERSIONS {
        for (has_certificate, word) in [
            (false, "the client sent none"),
            (true, "the client's certificate"),
        ] {
            let mut peers = Peers::new(version);
            peers.asked = Some(Own::new("another"));
            peers.has_certificate = has_certificate;
            let (error, line, portway) = peers.ask();
            assert!(error.is_some());
            assert_eq!(line["outcome"], "handshake_failed", "{named} {line}");
            assert_eq!(line["closed_by"], "backend", "{line}");
            assert_eq!(line["client_certificate_asked"], json!(true));
            let detail = line["detail"].as_str().unwrap();
            assert!(detail.contains(word), "{named} {detail}");
            assert_eq!(line["backend_alert"].is_number(), named == "1.2", "{line}");
            assert_eq!(handshakes(&portway, "failed"), 1);
        }
    }
}

#[test]
fn a_backend_that_answers_the_hello_with_an_alert_is_named_with_it() {
    let backend = Backend::start(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(&[21, 3, 3, 0, 2, 2, 112]).unwrap();
        drop(stream.shutdown(Shutdown::Write));
        read_to_end(&mut stream);
    });
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = portway.client();
    read_to_end(&mut client);
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "handshake_failed");
    assert_eq!(line["backend_answer"], "alert");
    assert_eq!(line["backend_alert"], 112);
    assert_eq!(
        line["detail"],
        "the backend refused the client hello with alert 112 (unrecognized_name): add the name at the server, or correct \
         server_names or the backend of the route"
    );
    assert_eq!(answers(&portway, "alert"), 1);
}

#[test]
fn a_backend_that_closes_in_order_behind_its_refusal_is_counted_once() {
    let seen = Arc::new(Barrier::new(2));
    let passed = Arc::clone(&seen);
    let backend = Backend::start(move |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(&[21, 3, 3, 0, 2, 2, 112]).unwrap();
        passed.wait();
        stream.write_all(&[21, 3, 3, 0, 2, 1, 0]).unwrap();
        drop(stream.shutdown(Shutdown::Write));
        read_to_end(&mut stream);
    });
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let mut client = portway.client();
    client.read_exact(&mut [0; 7]).unwrap();
    seen.wait();
    read_to_end(&mut client);
    let address = client.local_addr().unwrap();
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "handshake_failed", "{line}");
    assert_eq!(line["backend_alert"], 112);
    assert_eq!(answers(&portway, "alert"), 1);
}

#[test]
fn a_backend_that_does_not_speak_tls_is_quoted() {
    for (answer, quoted) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "speaks plain HTTP, which begins with \"HTTP/1.1\"",
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            "speaks SSH, which begins with \"SSH-2.0-\"",
        ),
        (
            b"\0\x1b[2J",
            "does not speak TLS: its answer begins with \"\\x00\\x1b[2J\"",
        ),
    ] {
        let backend = Backend::start(move |mut stream| {
            stream.read_exact(&mut [0; 5]).unwrap();
            stream.write_all(answer).unwrap();
            drop(stream.shutdown(Shutdown::Write));
            read_to_end(&mut stream);
        });
        let portway = Portway::start(&config(&[backend.address()], "", ""));
        let mut client = portway.client();
        read_to_end(&mut client);
        let address = client.local_addr().unwrap();
        drop(client);
        let line = portway.line_of(address);
        assert_eq!(line["outcome"], "backend_not_tls", "{line}");
        assert_eq!(line["backend_answer"], "not_tls");
        assert_eq!(line["handshake"], "not_tls");
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(quoted), "{detail}");
        assert_eq!(answers(&portway, "not_tls"), 1);
        assert_eq!(handshakes(&portway, "not_tls"), 1);
    }
}

/// A client closes behind the first bytes of the answer. Returns the line of its connection.
fn gone(portway: &Portway) -> Value {
    let mut client = portway.client();
    client.read_exact(&mut [0; 5]).unwrap();
    let address = client.local_addr().unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    read_to_end(&mut client);
    drop(client);
    let line = portway.line_of(address);
    assert_eq!(line["outcome"], "closed", "{line}");
    assert_eq!(line["handshake"], "abandoned");
    line
}

#[test]
fn a_client_that_goes_away_in_the_handshake_has_abandoned_it() {
    let peers = Peers::new(&TLS13);
    let backend = peers.server();
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    gone(&portway);
    assert_eq!(handshakes(&portway, "abandoned"), 1);
}

#[test]
fn a_backend_that_answers_a_client_which_is_gone_with_an_alert_refuses_nothing() {
    let backend = Backend::start(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        // A ServerHello of TLS 1.3, and something encrypted.
        let mut hello = vec![2, 0, 0, 46, 3, 3];
        hello.extend([0x11; 32]);
        hello.extend([0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
        let flight = [
            &[22, 3, 3, 0, 50][..],
            &hello,
            &[23, 3, 3, 0, 30],
            &[0xaa; 30],
        ]
        .concat();
        stream.write_all(&flight).unwrap();
        // The client closes, and OpenSSL complains that the flight is not complete.
        read_to_end(&mut stream);
        stream
            .write_all(&[&[23, 3, 3, 0, 19][..], &[0xaa; 19]].concat())
            .unwrap();
    });
    let portway = Portway::start(&config(&[backend.address()], "", ""));
    let line = gone(&portway);
    assert_eq!(line["tls_negotiated"], "1.3");
    assert_eq!(handshakes(&portway, "failed"), 0);
}
