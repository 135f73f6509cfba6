//! Servers to examine: real ones of rustls, and some that only answer one thing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::it::fixture::{PATIENCE, within};
use crate::it::peers::{Backend, read_to_end, reset};

static TLS_13: [&rustls::SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// The properties of a server of rustls.
pub(crate) struct Tls {
    names: Vec<String>,
    last_year: i32,
    /// The days that the certificate lasts from now on, in place of the year.
    days: Option<u32>,
    /// The same for the certificate of the authority, which is sent then.
    authority_days: Option<u32>,
    is_mutual: bool,
    versions: &'static [&'static rustls::SupportedProtocolVersion],
}

impl Tls {
    pub(crate) fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            last_year: 2100,
            days: None,
            authority_days: None,
            is_mutual: false,
            versions: rustls::ALL_VERSIONS,
        }
    }

    pub(crate) fn mutual(self) -> Self {
        Self {
            is_mutual: true,
            ..self
        }
    }

    pub(crate) fn expired(self) -> Self {
        Self {
            last_year: 2021,
            ..self
        }
    }

    pub(crate) fn lasting(self, days: u32) -> Self {
        Self {
            days: Some(days),
            ..self
        }
    }

    pub(crate) fn under_an_authority_lasting(self, days: u32) -> Self {
        Self {
            authority_days: Some(days),
            ..self
        }
    }

    pub(crate) fn tls13(self) -> Self {
        Self {
            versions: &TLS_13,
            ..self
        }
    }

    /// The certificate of the authority, that of the server, and the key of the latter.
    pub(crate) fn certificates(&self) -> (CertifiedIssuer<'static, KeyPair>, Certificate, KeyPair) {
        let in_days = |days: u32| (SystemTime::now() + Duration::from_hours(24) * days).into();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "Test CA");
        if let Some(days) = self.authority_days {
            params.not_after = in_days(days);
        }
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(self.names.clone()).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        let last_year = || date_time_ymd(self.last_year, 1, 1);
        params.not_after = self.days.map_or_else(last_year, in_days);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        (authority, certificate, key)
    }

    fn config(&self) -> Arc<ServerConfig> {
        let (authority, certificate, key) = self.certificates();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut chain = vec![certificate.der().clone()];
        if self.authority_days.is_some() {
            chain.push(authority.as_ref().der().clone());
        }
        let builder = ServerConfig::builder_with_protocol_versions(self.versions);
        let builder = if self.is_mutual {
            let mut roots = RootCertStore::empty();
            roots.add(authority.as_ref().der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    /// A server that is well.
    pub(crate) fn start(self) -> Backend {
        let config = self.config();
        Backend::start(move |stream| serve(&config, stream, &[]))
    }

    /// A server behind a device that drops each hello whose first segment is not the whole of it. The function
    /// tells how many it has dropped.
    pub(crate) fn dropping_segments(self) -> (Backend, impl Fn() -> usize) {
        let config = self.config();
        let dropped = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&dropped);
        let backend = Backend::start(move |mut stream| {
            let first = first_bytes(&mut stream);
            if first.len() < record_end(&first) {
                count.fetch_add(1, Ordering::SeqCst);
                // Nothing comes back until the client has gone.
                read_to_end(&mut stream);
            } else {
                serve(&config, stream, &first);
            }
        });
        (backend, move || dropped.load(Ordering::SeqCst))
    }

    /// A server that takes the first record for the whole hello.
    pub(crate) fn reading_one_record(self) -> Backend {
        let config = self.config();
        Backend::start(move |mut stream| {
            let mut first = vec![0; 9];
            stream.read_exact(&mut first).unwrap();
            let length = usize::from(first[7]) << 8 | usize::from(first[8]);
            if record_end(&first) < 5 + 4 + length {
                // decode_error
                stream.write_all(&[21, 3, 3, 0, 2, 2, 50]).unwrap();
                read_to_end(&mut stream);
            } else {
                serve(&config, stream, &first);
            }
        })
    }

    /// A server behind a device that has room for one segment of Ethernet.
    pub(crate) fn refusing_large(self) -> Backend {
        let config = self.config();
        Backend::start(move |mut stream| {
            let mut first = vec![0; 9];
            stream.read_exact(&mut first).unwrap();
            let length = usize::from(first[7]) << 8 | usize::from(first[8]);
            if length > 1400 {
                close(stream);
            } else {
                serve(&config, stream, &first);
            }
        })
    }

    /// A server that notes how each connection ends. The function waits for that many.
    pub(crate) fn noting_ends(self) -> (Backend, impl Fn(usize) -> Vec<&'static str>) {
        let config = self.config();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&ends);
        let backend = Backend::start(move |stream| {
            let mut connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            connection.read_tls(&mut &stream).unwrap();
            while connection.is_handshaking() && connection.process_new_packets().is_ok() {
                while connection.wants_write() {
                    connection.write_tls(&mut &stream).unwrap();
                }
                match connection.read_tls(&mut &stream) {
                    Ok(1..) => {}
                    Ok(0) => return noted.lock().unwrap().push("fin"),
                    Err(_) => return noted.lock().unwrap().push("reset"),
                }
            }
        });
        let wait = move |count| {
            within(PATIENCE, "the connections have ended", || {
                let ends = ends.lock().unwrap().clone();
                (ends.len() >= count).then_some(ends)
            })
        };
        (backend, wait)
    }
}

/// Does its part of a handshake, of which some bytes were read already.
fn serve(config: &Arc<ServerConfig>, mut stream: TcpStream, first: &[u8]) {
    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut first = first;
    while !first.is_empty() {
        connection.read_tls(&mut first).unwrap();
    }
    // An error has become an alert, which the next step sends.
    drop(connection.process_new_packets());
    while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
}

/// Where the record that begins here ends.
fn record_end(bytes: &[u8]) -> usize {
    5 + (usize::from(bytes[3]) << 8 | usize::from(bytes[4]))
}

/// The bytes of one read.
pub(crate) fn first_bytes(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let count = stream.read(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

/// A server that answers everything with a page of HTTP.
pub(crate) fn http() -> Backend {
    Backend::start(|mut stream| {
        first_bytes(&mut stream);
        let page =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        stream.write_all(page).unwrap();
    })
}

/// A server that speaks first.
pub(crate) fn ssh() -> Backend {
    Backend::start(|mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").unwrap();
        read_to_end(&mut stream);
    })
}

/// A server that ends each connection once it has read from it.
pub(crate) fn closing() -> Backend {
    Backend::start(|mut stream| {
        first_bytes(&mut stream);
        close(stream);
    })
}

pub(crate) fn resetting() -> Backend {
    Backend::start(|mut stream| {
        first_bytes(&mut stream);
        reset(stream);
    })
}

/// Sends a FIN, and takes the rest: unread bytes would make a reset of it.
fn close(mut stream: TcpStream) {
    // The client may be gone.
    drop(stream.shutdown(Shutdown::Write));
    read_to_end(&mut stream);
}
