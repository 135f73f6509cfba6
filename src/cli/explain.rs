//! `portway explain`: the look-up of the relay, with its reasons.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::BAD_USAGE;
use super::report::Report;
use crate::config::{Listener, Settings};
use crate::conn::Refusal;
use crate::net;
use crate::outcome::Outcome;
use crate::routing::Query;
use crate::tls::{self, Alpn, Progress, ServerName, Version};

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    file: super::File,
    #[command(flatten)]
    source: Source,
    /// The listener that it arrives on; may be left out if there is one
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// A protocol that it offers; may be repeated
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "hello", value_parser = alpn)]
    alpn: Vec<String>,
    /// The address of the client; without it a route for networks may look closed
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: IpAddr,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The server name that the connection asks for
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// It asks for none: agents that dial an address do so
    #[arg(long)]
    no_server_name: bool,
    /// The bytes that it begins with, as captured from the wire
    #[arg(long, value_name = "FILE")]
    hello: Option<PathBuf>,
}

/// What matters of a hello, wherever it is from.
struct Facts {
    server_name: Option<Vec<u8>>,
    alpn: Vec<u8>,
    version: Version,
    ech: bool,
    /// Bytes with the record headers; known of a captured one.
    size: Option<usize>,
}

impl Explain {
    pub(super) fn run(mut self) -> io::Result<ExitCode> {
        self.client = self.client.to_canonical();
        let settings = match self.file.load()? {
            Ok(loaded) => loaded.settings,
            Err(bad) => return Ok(bad),
        };
        let listener = match self.listener(&settings) {
            Ok(listener) => listener,
            Err(message) => {
                writeln!(io::stderr(), "error: {message}")?;
                return Ok(ExitCode::from(BAD_USAGE));
            }
        };
        let facts = match self.facts(settings.hello.max_size) {
            Ok(facts) => facts,
            Err(error) => {
                writeln!(io::stderr(), "error: the hello cannot be read: {error}")?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let mut report = Report::default();
        let routed = self.look_up(&settings, listener, facts, &mut report);
        if let Err(refusal) = &routed {
            report.refusal(refusal);
        }
        write!(io::stdout(), "{report}")?;
        Ok(match routed {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        })
    }

    fn listener<'s>(&self, settings: &'s Settings) -> Result<&'s Listener, String> {
        let listeners = &settings.listeners;
        let names: Vec<&str> = listeners.iter().map(|listener| &*listener.name).collect();
        match (&self.listener, listeners.as_slice()) {
            (None, [only]) => Ok(only),
            (None, _) => Err(format!("name one with --listener: {}", names.join(", "))),
            (Some(name), _) => (listeners.iter())
                .find(|listener| *listener.name == **name)
                .ok_or_else(|| format!("no listener is named {name:?}: {}", names.join(", "))),
        }
    }

    /// The steps of a connection, in their order.
    fn look_up(
        &self,
        settings: &Settings,
        listener: &Listener,
        facts: Result<Facts, Refusal>,
        report: &mut Report,
    ) -> Result<(), Refusal> {
        report.line("listener", &listener.name);
        report.line("client", &self.client.to_string());
        if !listener.clients.admit(self.client) {
            return Err(Refusal::client_denied());
        }
        let facts = facts?;
        report.hello(facts.server_name.as_deref(), Alpn::new(&facts.alpn));
        if let Some(size) = facts.size {
            report.line("hello", &format!("{size} bytes"));
        }
        if facts.ech {
            report.line("ECH", "offered; the server name is the outer one");
        }
        let server_name = (facts.server_name.as_deref())
            .map(ServerName::parse)
            .transpose()
            .map_err(|invalid| Refusal::invalid_name(&[], invalid))?;
        let seen = settings.routes.consider(&Query {
            listener: &listener.name,
            server_name: server_name.as_ref(),
            alpn: Alpn::new(&facts.alpn),
            client: self.client,
        });
        report.look_up(&seen, settings);
        match seen.taken {
            Ok(_) => Ok(()),
            Err(miss) => Err(Refusal::missed(miss, facts.version)),
        }
    }

    /// The hello that the arguments tell, or why the file is none that may be routed.
    fn facts(&self, max: usize) -> io::Result<Result<Facts, Refusal>> {
        if let Some(path) = &self.source.hello {
            return read(path, max);
        }
        let mut alpn = Vec::new();
        for protocol in &self.alpn {
            alpn.extend(u8::try_from(protocol.len()));
            alpn.extend(protocol.as_bytes());
        }
        let alpn = Alpn::new(&alpn).head().to_vec();
        Ok(Ok(Facts {
            server_name: self
                .source
                .server_name
                .as_ref()
                .map(|name| name.clone().into_bytes()),
            alpn,
            version: Version::TLS_1_3,
            ech: false,
            size: None,
        }))
    }
}

/// The value of `--alpn`: its length is one byte on the wire (RFC 7301 section 3.1).
fn alpn(text: &str) -> Result<String, &'static str> {
    if (1..=255).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("a protocol has 1 to 255 bytes")
    }
}

/// Reads what a client has sent. More than the hello is no fault: a capture may go on.
fn read(path: &Path, max: usize) -> io::Result<Result<Facts, Refusal>> {
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_mul(2);
    let sent = net::read(path, most)?;
    let mut scratch = vec![0; max];
    Ok(match tls::read_hello(&sent, max, &mut scratch) {
        Progress::Hello(hello) => Ok(Facts {
            server_name: hello.server_name.map(<[u8]>::to_vec),
            alpn: hello.alpn.head().to_vec(),
            version: hello.version,
            ech: hello.ech,
            size: Some(hello.size),
        }),
        Progress::NeedMore { .. } if sent.is_empty() => Err(Refusal::client_closed(Outcome::Probe)),
        Progress::NeedMore { total } => {
            let reason = format!("it ends after {} of {total} bytes", sent.len());
            Err(Refusal::client_closed(Outcome::HelloEof).because(reason))
        }
        Progress::Rejected(rejection) => Err(rejection.into()),
    })
}
