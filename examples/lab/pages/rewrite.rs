//! A routes.toml with addresses of loopback in place of its own.
//!
//! Every host becomes an address of its own in 127.0.2.0/24, every port one that is free, the same wherever the file
//! has it: so `ports` and endpoints at these ports still agree. Networks of clients become networks of loopback, from
//! which the probes come.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};

use portway::config::Loaded;
use tempfile::TempDir;
use toml::{Table, Value};

use crate::Result;
use crate::relay;
use crate::server::Kind;
use crate::tunnel::{Login, USERS};

/// The clients that may connect wherever the file admits only some.
const ADMITTED: &str = "127.0.0.0/8";
/// Balancers, of which the lab has none.
const BALANCERS: &str = "127.255.0.0/16";
const TEMPLATE: &str = "{server_name}";
const ANY_PORT: &str = "{port}";
/// The line for the proxy of a site, which accepts every user.
const OF_SITE: &str = "lab:lab\n";

/// The servers outside the file that portway asks.
pub(super) struct Outside {
    pub(super) dns: SocketAddr,
    /// The site's own proxy.
    pub(super) egress: SocketAddr,
}

/// A server that the file names.
pub(super) struct ServerOfFile {
    /// Its endpoint in the file, for a template with the backend before it.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) backend: String,
    /// Its host and port in the file.
    pub(super) host: String,
    pub(super) port: String,
    address: Ipv4Addr,
    /// The ports that it has here.
    pub(super) ports: Vec<u16>,
}

/// The file, and the servers that it needs.
pub(super) struct Rewritten {
    text: String,
    pub(super) servers: Vec<ServerOfFile>,
    /// Whether the clients of a proxy listener need user and password.
    pub(super) login: Login,
    /// The directory of the file and of those that it names.
    files: TempDir,
}

impl Rewritten {
    pub(super) fn new(file: &str, outside: &Outside) -> Result<Self> {
        let mut table: Table = file.parse()?;
        let files = TempDir::with_prefix("portway-pages-")?;
        let mut rewriter = Rewriter {
            outside,
            files: &files,
            ports: BTreeMap::new(),
            reserved: Vec::new(),
            hosts: Vec::new(),
            networks: Vec::new(),
            servers: Vec::new(),
            login: Login::None,
        };
        let off = Table::from_iter([("bind".to_owned(), Value::Boolean(false))]);
        table.insert("admin".to_owned(), off.into());
        if let Some(limits) = table.get_mut("limits").and_then(Value::as_table_mut) {
            // The time that a balancer needs to notice: there is none here.
            limits.remove("drain_delay");
        }
        for (section, rewrite) in [
            (
                "listeners",
                Rewriter::listener as fn(&mut _, &str, &mut _) -> _,
            ),
            ("routes", Rewriter::route),
            ("backends", Rewriter::backend),
        ] {
            let section = table.get_mut(section).and_then(Value::as_table_mut);
            for (name, entry) in section.into_iter().flatten() {
                let entry = entry.as_table_mut().ok_or("an entry is not a table")?;
                rewrite(&mut rewriter, name, entry)?;
            }
        }
        let all: Vec<u16> = rewriter.ports.values().copied().collect();
        let mut servers = rewriter.servers;
        for server in &mut servers {
            if server.port == ANY_PORT {
                server.ports.clone_from(&all);
            }
        }
        Ok(Self {
            text: toml::to_string(&table)?,
            servers,
            login: rewriter.login,
            files,
        })
    }

    /// The settings that it makes.
    pub(super) fn load(&self) -> Result<Loaded> {
        relay::load(self.files.path(), &self.text)
    }

    /// The servers of a backend.
    pub(super) fn servers_of(&self, backend: &str) -> impl Iterator<Item = &ServerOfFile> {
        let servers = self.servers.iter();
        servers.filter(move |server| server.backend == backend)
    }
}

impl ServerOfFile {
    pub(super) fn is_template(&self) -> bool {
        self.host == TEMPLATE
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddrV4> {
        let ports = self.ports.iter();
        ports.map(|port| SocketAddrV4::new(self.address, *port))
    }

    /// The targets by which a proxy outside is asked for the server, and their addresses. Where portway resolves the name,
    /// the proxy gets the address that DNS has for it.
    pub(super) fn targets(&self, name: &str) -> Vec<(String, SocketAddr)> {
        let name = if self.is_template() { name } else { &self.host };
        let by_address = self.address.to_string();
        let target = |address: SocketAddrV4| {
            let port = match &*self.port {
                ANY_PORT => address.port().to_string(),
                port => port.to_owned(),
            };
            let hosts = [name, &by_address].into_iter();
            hosts
                .map(move |host| (format!("{host}:{port}"), address.into()))
                .collect::<Vec<_>>()
        };
        self.addresses().flat_map(target).collect()
    }

    /// The address that DNS has for the name.
    pub(super) const fn address(&self) -> Ipv4Addr {
        self.address
    }
}

struct Rewriter<'r> {
    outside: &'r Outside,
    files: &'r TempDir,
    /// The port here of each port in the file.
    ports: BTreeMap<u16, u16>,
    /// Keeps the ports until the file is written.
    reserved: Vec<TcpListener>,
    hosts: Vec<String>,
    networks: Vec<String>,
    servers: Vec<ServerOfFile>,
    login: Login,
}

impl Rewriter<'_> {
    fn listener(&mut self, _: &str, listener: &mut Table) -> Result<()> {
        for address in texts(listener, "bind") {
            let bound: SocketAddr = address.parse()?;
            let port = self.port(bound.port())?;
            *address = format!("127.0.0.1:{port}");
        }
        listener.remove("deny_clients");
        if let Some(clients) = listener.get_mut("allow_clients") {
            *clients = vec![ADMITTED].into();
        }
        if let Some(header) = listener.get_mut("proxy_protocol") {
            // The probes do not come from balancers.
            let networks = header
                .as_table_mut()
                .ok_or("proxy_protocol is not a table")?;
            networks.insert("trusted".to_owned(), vec![BALANCERS].into());
        }
        if listener.contains_key("credentials_file") {
            self.login = Login::Right;
        }
        self.file(listener, "credentials_file", USERS)
    }

    fn route(&mut self, _: &str, route: &mut Table) -> Result<()> {
        let ports = route.get_mut("ports").and_then(Value::as_array_mut);
        for port in ports.into_iter().flatten() {
            let number = port.as_integer().ok_or("a port is not a number")?;
            *port = i64::from(self.port(number.try_into()?)?).into();
        }
        for network in texts(route, "clients") {
            let index = index(&mut self.networks, network)?;
            *network = format!("127.{}.0.0/16", index + 16);
        }
        Ok(())
    }

    fn backend(&mut self, name: &str, backend: &mut Table) -> Result<()> {
        // The servers here expect none.
        backend.remove("send_proxy_protocol");
        let is_via = backend.contains_key("via");
        let mut has_resolver = backend.contains_key("resolver");
        let mut is_template = false;
        let endpoints = backend.get_mut("endpoints").and_then(Value::as_array_mut);
        for endpoint in endpoints.into_iter().flatten() {
            let endpoint = if endpoint.is_table() {
                endpoint.get_mut("address").ok_or("no address")?
            } else {
                endpoint
            };
            let text = endpoint.as_str().ok_or("an endpoint is not a text")?;
            let server = self.server(name, text)?;
            let port = match (&*server.port, server.ports.first()) {
                (ANY_PORT, _) | (_, None) => ANY_PORT.to_owned(),
                (_, Some(port)) => port.to_string(),
            };
            is_template |= server.is_template();
            let host = if server.is_template() || has_resolver {
                server.host.clone()
            } else {
                server.address.to_string()
            };
            if !is_via {
                *endpoint = format!("{host}:{port}").into();
            }
            self.servers.push(server);
        }
        for (number, source) in texts(backend, "source_addresses").enumerate() {
            *source = format!("127.0.3.{}", number + 1);
        }

        has_resolver |= is_template && !is_via;
        if has_resolver {
            let servers: Value = vec![self.outside.dns.to_string()].into();
            let resolver = Table::from_iter([("servers".to_owned(), servers)]);
            backend.insert("resolver".to_owned(), resolver.into());
        }
        if has_resolver && is_template || backend.contains_key("allow_networks") {
            backend.insert("allow_networks".to_owned(), vec![ADMITTED].into());
        }
        if let Some(via) = backend.get_mut("via") {
            let scheme = via.as_str().and_then(|via| via.split_once("://"));
            let (scheme, _) = scheme.ok_or("via is not a URL")?;
            *via = format!("{scheme}://{}", self.outside.egress).into();
        }
        self.file(backend, "via_credentials_file", OF_SITE)
    }

    fn server(&mut self, backend: &str, endpoint: &str) -> Result<ServerOfFile> {
        let (host, port) = endpoint.rsplit_once(':').ok_or("no port")?;
        let is_template = host == TEMPLATE;
        let own = if is_template {
            format!("{backend}: {host}")
        } else {
            host.to_owned()
        };
        let octet = index(&mut self.hosts, &own)?;
        let ports = if port == ANY_PORT {
            Vec::new()
        } else {
            vec![self.port(port.parse()?)?]
        };
        Ok(ServerOfFile {
            name: format!("{own}:{port}"),
            kind: kind(&own, port),
            backend: backend.to_owned(),
            host: host.trim_end_matches('.').to_owned(),
            port: port.to_owned(),
            address: Ipv4Addr::new(127, 0, 2, octet + 1),
            ports,
        })
    }

    fn port(&mut self, port: u16) -> Result<u16> {
        if let Some(here) = self.ports.get(&port) {
            return Ok(*here);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let here = listener.local_addr()?.port();
        self.reserved.push(listener);
        self.ports.insert(port, here);
        Ok(here)
    }

    /// Replaces a file that the key names.
    fn file(&self, table: &mut Table, key: &str, text: &str) -> Result<()> {
        if let Some(path) = table.get_mut(key) {
            let here = self.files.path().join(key);
            fs::write(&here, text)?;
            *path = here.display().to_string().into();
        }
        Ok(())
    }
}

/// The kind of a server, by its name and port.
fn kind(host: &str, port: &str) -> Kind {
    match port {
        "9300" | "9443" => Kind::Node,
        _ if host.starts_with("logstash") => Kind::Logstash,
        _ if host.starts_with("kafka") => Kind::Kafka,
        _ if host.starts_with("fleet") => Kind::FleetServer,
        _ => Kind::Elasticsearch,
    }
}

/// The texts of a list.
fn texts<'t>(table: &'t mut Table, key: &str) -> impl Iterator<Item = &'t mut String> {
    let list = table.get_mut(key).and_then(Value::as_array_mut);
    let values = list.into_iter().flatten();
    values.filter_map(|value| {
        if let Value::String(text) = value {
            Some(text)
        } else {
            None
        }
    })
}

/// The position of a text in a list, which gets it if it is new.
fn index(list: &mut Vec<String>, text: &str) -> Result<u8> {
    let known = list.iter().position(|one| one == text);
    let index = known.unwrap_or_else(|| {
        list.push(text.to_owned());
        list.len() - 1
    });
    Ok(index.try_into()?)
}
