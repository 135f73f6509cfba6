//! `portway explain`: the look-up of the relay, with its reasons.

use std::borrow::Cow;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::BAD_USAGE;
use super::arrival;
use super::configuration::{self, Chosen};
use super::explanation::{Explanation, Hello, Refused};
use super::file::File;
use super::output::{Output, json};
use crate::config::{self, Listener, Settings};
use crate::conn::Refusal;
use crate::net;
use crate::outcome::Outcome;
use crate::routing::{Pattern, Query};
use crate::tls::{self, Alpn, Progress, ServerName, Version};

const NO_NAME: &str = "give the server name of a connection, which is the host in the agent's URL: portway explain \
                       fleet.example.com. `portway explain --help` lists what you can give instead";

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    source: Source,
    /// Explain a connection to this listener; required if the file has several
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Explain a connection to this port; required if the listener has several and a route has `ports`
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Explain a connection that offers this ALPN protocol; repeat the option to offer several
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "hello", value_parser = alpn)]
    alpn: Vec<String>,
    /// Explain a connection from this client; set it if routes or listeners admit only some networks
    /// [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Source {
    /// Explain a connection with this server name: the host in the agent's URL
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The same as NAME
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Explain a connection without a server name: agents that dial an IP address send none
    #[arg(long)]
    no_server_name: bool,
    /// Explain a captured connection: read its first bytes from FILE
    #[arg(long, value_name = "FILE")]
    hello: Option<PathBuf>,
}

/// The parts of a hello that matter here, from a capture or from the arguments.
struct Facts {
    server_name: Option<Vec<u8>>,
    alpn: Vec<u8>,
    version: Version,
    ech: bool,
    /// Bytes with the record headers; known only for a captured hello.
    size: Option<usize>,
}

impl Explain {
    pub(super) fn run(self) -> io::Result<ExitCode> {
        let name = match self.source.server_name() {
            Ok(name) => name,
            Err(message) => return bad_usage(&message),
        };
        let path = self.file.path();
        let Chosen {
            settings,
            origin,
            note,
            process,
        } = match configuration::choose(&path) {
            Ok(chosen) => chosen,
            Err(faults) => return self.output.faults(&path, &faults),
        };
        let arrival = arrival::at(&settings, self.listener.as_deref(), self.port);
        let (listener, port) = match arrival {
            Ok(arrival) => arrival,
            Err(message) => return bad_usage(&message),
        };
        let facts = match self.facts(name.as_deref(), settings.hello.max_size) {
            Ok(facts) => facts,
            Err(error) => {
                writeln!(io::stderr(), "error: the hello cannot be read: {error}")?;
                return Ok(ExitCode::FAILURE);
            }
        };
        let mut explanation = Explanation {
            file: path.display().to_string(),
            origin,
            note,
            listener: &listener.name,
            port,
            client: self.client(),
            hello: None,
            taken: None,
            passed_over: Vec::new(),
            refused: None,
        };
        let nearest = self.look_up(&settings, listener, facts, &mut explanation);
        if let Err((refusal, nearest)) = nearest {
            if refusal.outcome == Outcome::ClientDenied && self.client.is_none() {
                let assumed =
                    "--client IP names the client; without it, it is 127.0.0.1".to_owned();
                explanation.note.get_or_insert(assumed);
            }
            explanation.refused = Some(Refused::new(&refusal, nearest));
        }
        if let Some(taken) = &mut explanation.taken {
            taken.addresses = Some(process.addresses(&path, taken));
        }
        if self.output.is_json() {
            json(&explanation)?;
        } else {
            write!(io::stdout(), "{explanation}")?;
        }
        Ok(if explanation.refused.is_none() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn client(&self) -> IpAddr {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        self.client.unwrap_or(loopback).to_canonical()
    }

    /// Takes the steps of a connection in order. Returns where it ends, and the pattern nearest to its name.
    fn look_up<'s>(
        &self,
        settings: &'s Settings,
        listener: &'s Listener,
        facts: Result<Facts, Refusal>,
        explanation: &mut Explanation<'s>,
    ) -> Result<(), (Refusal, Option<&'s Pattern>)> {
        if !listener.clients.admit(self.client()) {
            return Err((Refusal::client_denied(listener.protocol), None));
        }
        let facts = facts.map_err(|refusal| (refusal, None))?;
        explanation.hello = Some(Hello {
            unicode: self.source.unicode(),
            size: facts.size,
            ech: facts.ech,
            ..Hello::new(facts.server_name.as_deref(), Alpn::new(&facts.alpn))
        });
        let server_name = (facts.server_name.as_deref())
            .map(ServerName::parse)
            .transpose()
            .map_err(|invalid| (Refusal::invalid_name(&[], invalid), None))?;
        let query = Query {
            listener: &listener.name,
            port: explanation.port.unwrap_or_default(),
            server_name: server_name.as_ref(),
            alpn: Alpn::new(&facts.alpn),
            client: self.client(),
        };
        let seen = settings.routes.consider(&query);
        explanation.look_up(&seen, settings);
        let nearest = || settings.routes.nearest(server_name.as_ref()?);
        let is_proxy = listener.protocol.is_proxy();
        match seen.taken {
            Ok(_) => Ok(()),
            // As the relay judges the target, before it knows the protocols of the hello.
            Err(miss) if is_proxy && settings.routes.takers(&query).next().is_none() => Err((
                Refusal::target_missed(listener.protocol, Some(miss)),
                nearest(),
            )),
            Err(miss) => Err((Refusal::missed(miss, facts.version), nearest())),
        }
    }

    /// The hello that the arguments describe, or why the captured one cannot be routed.
    fn facts(&self, name: Option<&str>, max: usize) -> io::Result<Result<Facts, Refusal>> {
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
            server_name: name.map(|name| name.as_bytes().to_vec()),
            alpn,
            version: Version::TLS_1_3,
            ech: false,
            size: None,
        }))
    }
}

impl Source {
    /// The server name from the arguments, in the form that a hello has.
    fn server_name(&self) -> Result<Option<Cow<'_, str>>, String> {
        let Some(name) = self.written() else {
            return if self.no_server_name || self.hello.is_some() {
                Ok(None)
            } else {
                Err(NO_NAME.to_owned())
            };
        };
        match host(name) {
            Some(host) if host.parse::<IpAddr>().is_ok() => Err(format!(
                "{name:?} has an IP address, and a client that dials one sends no server name: portway \
                 explain --no-server-name"
            )),
            Some(host) => Err(format!(
                "{name:?} is not a server name: give the name alone: portway explain {host}"
            )),
            // An operator copies it from the agent's URL. With --server-name it is a name that a client sends.
            None if self.name.is_some() && name.parse::<IpAddr>().is_ok() => Err(format!(
                "{name} is an IP address, and a client that dials one sends no server name: portway explain \
                 --no-server-name"
            )),
            None => config::a_labels(name).map(Some),
        }
    }

    fn written(&self) -> Option<&String> {
        self.name.as_ref().or(self.server_name.as_ref())
    }

    /// The name as written in the arguments, if a hello has it in another form.
    fn unicode(&self) -> Option<String> {
        self.written().filter(|name| !name.is_ascii()).cloned()
    }
}

/// The host in what is a URL, or has a port or a path.
fn host(text: &str) -> Option<&str> {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or(authority);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let host = if authority.parse::<IpAddr>().is_ok() {
        authority
    } else if let Some(rest) = authority.strip_prefix('[') {
        rest.split(']').next().unwrap_or(rest)
    } else {
        authority.split(':').next().unwrap_or(authority)
    };
    (host.len() < text.len() && !host.is_empty()).then_some(host)
}

fn bad_usage(message: &str) -> io::Result<ExitCode> {
    writeln!(io::stderr(), "error: {message}")?;
    Ok(ExitCode::from(BAD_USAGE))
}

/// The value of `--alpn`: its length is one byte on the wire (RFC 7301 section 3.1).
fn alpn(text: &str) -> Result<String, &'static str> {
    if (1..=255).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("a protocol has 1 to 255 bytes")
    }
}

/// Reads what a client has sent. Bytes after the hello are not a fault: a capture may go on.
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
