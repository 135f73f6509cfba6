//! Servers and clients of TLS handshakes with rustls, as `tests/clients/peer` has them with Go.
//!
//! `handshakes servers WORDS...` runs one server for each of the WORDS, until stdin ends. `handshakes handshakes` makes the
//! connections that each line of stdin asks for, and answers each line. WORDS are `key=value`, separated by commas.

#![expect(clippy::print_stdout, reason = "a test reads it")]

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use std::{env, thread};

use rustls::client::Resumption;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n";

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("servers") {
        for words in arguments {
            serve(&Words::of(&words))?;
        }
        println!("ready");
        io::copy(&mut io::stdin(), &mut io::sink())?;
        return Ok(());
    }
    for line in io::stdin().lines() {
        match Words::of(&line?).connections() {
            Ok(()) => println!("ok"),
            Err(error) => println!("error {error}"),
        }
    }
    Ok(())
}

/// The words of a server, or of a client's connections.
struct Words(HashMap<String, String>);

impl Words {
    fn of(text: &str) -> Self {
        let words = text.split(',').map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.to_owned(), value.to_owned())
        });
        Self(words.collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn need(&self, key: &str) -> Result<&str> {
        Ok(self.get(key).ok_or_else(|| format!("no {key}"))?)
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let old = (self.get("min") != Some("1.3")).then_some(&TLS12);
        let new = (self.get("max") != Some("1.2")).then_some(&TLS13);
        old.into_iter().chain(new).collect()
    }

    fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = default_provider();
        let suites = match self.get("cipher") {
            Some("128") => vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
            Some("256") => vec![cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384],
            _ => provider.cipher_suites,
        };
        provider.cipher_suites = suites;
        let groups: Vec<&'static dyn SupportedKxGroup> = match self.get("group") {
            Some("x25519") => vec![kx_group::X25519],
            Some("p384") => vec![kx_group::SECP384R1],
            _ => provider.kx_groups,
        };
        provider.kx_groups = groups;
        Arc::new(provider)
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        self.get("alpn")
            .map(|protocol| protocol.as_bytes().to_vec())
            .into_iter()
            .collect()
    }

    fn server(&self) -> Result<ServerConfig> {
        let provider = self.provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions())?;
        let builder = match self.get("ask") {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(
                    roots(authority)?,
                    Arc::clone(&provider),
                );
                builder.with_client_cert_verifier(verifier.build()?)
            }
        };
        let (chain, key) = pair(self.need("cert")?)?;
        let key = provider.key_provider.load_private_key(key)?;
        let resolver = Named {
            only: self.get("only").map(str::to_owned),
            key: Arc::new(CertifiedKey::new(chain, key)),
        };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = self.alpn();
        if self.get("ticketless").is_some() {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(config)
    }

    fn client(&self) -> Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(self.provider())
            .with_protocol_versions(&self.versions())?
            .with_root_certificates(roots(self.need("ca")?)?);
        let mut config = match self.get("cert") {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let (chain, key) = pair(name)?;
                builder.with_client_auth_cert(chain, key)?
            }
        };
        config.alpn_protocols = self.alpn();
        if self.get("resume").is_none() {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    fn connections(&self) -> Result<()> {
        let config = Arc::new(self.client()?);
        for _ in 0..self.need("count")?.parse()? {
            self.connection(Arc::clone(&config))?;
        }
        Ok(())
    }

    fn connection(&self, config: Arc<ClientConfig>) -> Result<()> {
        let name = self.need("name")?;
        let socket = TcpStream::connect(("127.0.0.1", self.need("port")?.parse()?))?;
        socket.set_read_timeout(Some(Duration::from_mins(1)))?;
        let connection = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
        let mut tls = StreamOwned::new(connection, socket);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        let how = self.need("how")?;
        if how == "drop" {
            return Ok(());
        }
        if how != "close" {
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
            let sent = tls.write_all(request.as_bytes());
            if how == "half" {
                tls.conn.send_close_notify();
                tls.flush()?;
                // The server may have answered, and be gone already.
                drop(tls.sock.shutdown(Shutdown::Write));
            }
            let mut answer = Vec::new();
            // The server's alert says more than a pipe that broke.
            tls.read_to_end(&mut answer)?;
            sent?;
            if answer.is_empty() {
                return Err("no answer".into());
            }
        }
        if how != "half" {
            tls.conn.send_close_notify();
            // The server may be gone already.
            drop(tls.flush());
        }
        Ok(())
    }
}

/// One certificate, for one name or for each.
#[derive(Debug)]
struct Named {
    only: Option<String>,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_known = self.only.is_none() || self.only.as_deref() == hello.server_name();
        is_known.then(|| Arc::clone(&self.key))
    }
}

fn serve(words: &Words) -> Result<()> {
    let config = Arc::new(words.server()?);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{} {}", words.need("name")?, listener.local_addr()?);
    let closes = words.get("closes").is_some();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || answer(config, stream, closes));
        }
    });
    Ok(())
}

/// Answers one request, or closes behind the handshake.
fn answer(config: Arc<ServerConfig>, socket: TcpStream, closes: bool) -> Result<()> {
    let mut tls = StreamOwned::new(ServerConnection::new(config)?, socket);
    while tls.conn.is_handshaking() {
        if let Err(error) = tls.conn.complete_io(&mut tls.sock) {
            // The alert.
            drop(tls.conn.write_tls(&mut tls.sock));
            return Err(error.into());
        }
    }
    if !closes {
        for line in BufReader::new(Read::by_ref(&mut tls)).lines() {
            if line?.is_empty() {
                break;
            }
        }
        tls.write_all(ANSWER)?;
    }
    tls.conn.send_close_notify();
    tls.flush()?;
    if !closes {
        // To close before the client's last bytes are read would be a reset, which may overtake the answer.
        tls.sock.shutdown(Shutdown::Write)?;
        tls.sock.set_read_timeout(Some(Duration::from_mins(1)))?;
        io::copy(&mut tls.sock, &mut io::sink())?;
    }
    Ok(())
}

fn roots(file: &str) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file)?)?;
    Ok(Arc::new(roots))
}

/// NAME.crt and NAME.key.
fn pair(name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_file(format!("{name}.crt"))?;
    Ok((
        vec![certificate],
        PrivateKeyDer::from_pem_file(format!("{name}.key"))?,
    ))
}
