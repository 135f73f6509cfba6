//! For each route of a file, the connections that take it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use portway::config::{Listener, Settings};
use portway::routing::{Pattern, Query, Route};
use portway::tls::{Alpn, ServerName};
use portway::wire::ListenerProtocol;

use super::rewrite::{Rewritten, ServerOfFile};
use crate::Result;
use crate::server::Kind;

/// A connection that takes a route.
pub(super) struct Probe {
    pub(super) listener: String,
    pub(super) protocol: ListenerProtocol,
    /// The address of portway.
    pub(super) address: SocketAddr,
    pub(super) client: IpAddr,
    /// Host and port of the URL.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) server_name: Option<String>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) kind: Kind,
    /// The names of the servers that may answer.
    pub(super) servers: Vec<String>,
}

/// The routes in the order of their names, each with its probes: at least one, unless no connection takes it.
pub(super) fn of(settings: &Settings, file: &Rewritten) -> Result<Vec<(String, Vec<Probe>)>> {
    let mut routes = Vec::new();
    for route in settings.routes.routes() {
        let mut probes = Vec::new();
        for listener in &settings.listeners {
            if route.listeners.is_empty() || route.listeners.contains(&listener.name) {
                add(&mut probes, (settings, file), route, listener)?;
            }
        }
        routes.push((route.name.to_string(), probes));
    }
    routes.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(routes)
}

fn add(
    probes: &mut Vec<Probe>,
    (settings, file): (&Settings, &Rewritten),
    route: &Route,
    listener: &Listener,
) -> Result<()> {
    let backend = settings.backends.get(route.backend);
    let backend = backend.ok_or("a route without a backend")?;
    let servers: Vec<&ServerOfFile> = file.servers_of(&backend.name).collect();
    let is_proxy = listener.protocol != ListenerProtocol::Tls;
    let client = route
        .clients
        .first()
        .and_then(|network| network.hosts().next());
    let client = client.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let first = servers.first().ok_or("a backend without a server")?;
    for address in &listener.bind {
        let mut probe =
            |name: Option<String>, host: String, port: u16, servers: &[&ServerOfFile]| {
                let probe = Probe {
                    listener: listener.name.to_string(),
                    protocol: listener.protocol,
                    address: *address,
                    client,
                    host,
                    port,
                    server_name: name,
                    alpn: route.alpn.iter().map(|it| it.to_vec()).collect(),
                    kind: first.kind,
                    servers: servers.iter().map(|server| server.name.clone()).collect(),
                };
                if probe.takes(settings, route)? {
                    probes.push(probe);
                }
                Ok::<_, crate::Error>(())
            };
        let asked = if is_proxy {
            let ports = first.ports.iter().chain(&route.ports);
            ports
                .copied()
                .find(|port| route.ports.is_empty() || route.ports.contains(port))
        } else {
            Some(address.port())
        };
        for pattern in &route.server_names {
            let name = name(pattern);
            if let Some(port) = asked {
                probe(Some(name.clone()), name, port, &servers)?;
            }
        }
        if !route.no_server_name {
            continue;
        }
        if is_proxy {
            for server in &servers {
                for at in server.addresses() {
                    probe(None, at.ip().to_string(), at.port(), &[server])?;
                }
            }
        } else {
            probe(None, address.ip().to_string(), address.port(), &servers)?;
        }
    }
    Ok(())
}

/// A name that the pattern matches.
fn name(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Any => "made.up.example".to_owned(),
        Pattern::AnyDepth(suffix) => format!("made.up.{}", suffix.as_str()),
        Pattern::OneLabel(suffix) => format!("made-up.{}", suffix.as_str()),
        Pattern::Exact(name) => name.as_str().to_owned(),
    }
}

impl Probe {
    /// Whether this route is the one that portway chooses for the connection.
    fn takes(&self, settings: &Settings, route: &Route) -> Result<bool> {
        let name = self.server_name.as_ref();
        let name = name.map(|name| ServerName::parse(name.as_bytes()));
        let name = name.transpose().map_err(|error| format!("{error:?}"))?;
        let mut alpn = Vec::new();
        for protocol in &self.alpn {
            alpn.push(u8::try_from(protocol.len())?);
            alpn.extend(protocol);
        }
        let query = Query {
            listener: &self.listener,
            port: self.port,
            server_name: name.as_ref(),
            alpn: Alpn::new(&alpn),
            client: self.client,
        };
        let found = settings.routes.find(&query).ok();
        let found = found.and_then(|index| settings.routes.routes().get(index));
        Ok(found.is_some_and(|found| found.name == route.name))
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} at {}", self.host, self.port, self.listener)
    }
}
