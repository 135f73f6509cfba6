//! `portway explain`: the look-up of the relay, with its reasons.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::BAD_USAGE;
use super::arrival;
use super::asked::Source;
use super::configuration::{self, Chosen};
use super::explanation::{Explanation, Hello, Refused};
use super::file::File;
use super::output::{Output, json};
use crate::config::{Listener, Settings};
use crate::conn::Refusal;
use crate::net;
use crate::outcome::Outcome;
use crate::routing::{Pattern, Query};
use crate::telemetry::list;
use crate::tls::{self, Alpn, Progress, ServerName, Version};

/// The most networks of balancers that are shown; the rest are counted.
const NETWORKS: usize = 20;

#[derive(Debug, Args)]
pub(super) struct Explain {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    source: Source,
    /// Explain a connection to this listener; required if the file has several
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Explain a connection to this port, behind a balancer the destination port in its PROXY header; required if the listener has several and a route has `ports`
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Explain a connection that offers this ALPN protocol; repeat the option to offer several
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "hello", value_parser = alpn)]
    alpn: Vec<String>,
    /// Explain a connection from this client, behind a balancer the address in its PROXY header; set it if routes or listeners admit only some networks
    /// [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    #[command(flatten)]
    output: Output,
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
        let asked = match self.source.asked() {
            Ok(asked) => asked,
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
        let (name, target) = match asked.at(listener, port) {
            Ok(asked) => asked,
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
            client_from: client_from(listener, self.client()),
            target: target.map(|target| target.to_string()),
            hello: None,
            taken: None,
            passed_over: Vec::new(),
            refused: None,
        };
        let nearest = self.look_up(&settings, (listener, target), facts, &mut explanation);
        if let Err((refusal, nearest)) = nearest {
            if refusal.outcome == Outcome::ClientDenied && self.client.is_none() {
                explanation.add_note("--client IP names the client; without it, it is 127.0.0.1");
            }
            explanation.refused = Some(Refused::new(&refusal, nearest));
        }
        if let Some(taken) = &mut explanation.taken {
            taken.addresses = Some(process.addresses(&path, taken));
        }
        self.show(&explanation)
    }

    fn show(&self, explanation: &Explanation<'_>) -> io::Result<ExitCode> {
        if self.output.is_json() {
            json(explanation)?;
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
        (listener, target): (&'s Listener, Option<SocketAddr>),
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
        let protocol = listener.protocol;
        match seen.taken {
            Ok(route) => {
                let route = settings.routes.routes().get(route);
                let backend = route.and_then(|route| settings.backends.get(route.backend));
                let judge = |backend| explanation.judge((listener, target), backend);
                backend
                    .map_or(Ok(()), judge)
                    .map_err(|refusal| (refusal, None))
            }
            // As the relay judges the target, before it knows the protocols of the hello.
            Err(_) if protocol.is_proxy() && settings.routes.takers(&query).next().is_none() => {
                let miss = settings.routes.miss(&query);
                Err((Refusal::target_missed(protocol, miss), nearest()))
            }
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

/// Where portway gets the address of the client from, at a listener behind balancers.
fn client_from(listener: &Listener, client: IpAddr) -> Option<String> {
    let balancers = &listener.balancers;
    if balancers.is_empty() {
        return None;
    }
    let networks = list(balancers.iter(), NETWORKS);
    Some(if balancers.has(client) {
        format!(
            "the socket, which is that of a balancer itself: it is in proxy_protocol.trusted ({networks}); or the PROXY \
             header, if that has this address"
        )
    } else {
        format!(
            "the PROXY header if the connection comes from proxy_protocol.trusted ({networks}), otherwise the socket"
        )
    })
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
