//! Runs each routes.toml of a directory of pages: every route must lead a client to the server that the file names.
//!
//! `rewrite` puts loopback in place of the addresses of a file, `probes` finds for each route the connections that
//! take it, and this file starts the servers and portway and makes these connections. The kind of a server follows
//! from its name: `logstash-1.internal` speaks Lumberjack, `kafka-1.internal` Kafka, a server at port 9300 or 9443
//! the transport of Elasticsearch, all others HTTP. Each has its `host:port` in the file as the common name of its
//! certificate.

mod probes;
mod rewrite;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::{Method, StatusCode};
use portway::wire::ListenerProtocol;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use self::probes::Probe;
use self::rewrite::{Outside, Rewritten, ServerOfFile};
use crate::client::{Client, Saw, Stream, certificate, handshake};
use crate::connect_proxy::ConnectProxy;
use crate::dns::Dns;
use crate::lab::{Lab, Part, Socket, Who};
use crate::relay::Relay;
use crate::rows::NONE;
use crate::server::{Journal, Kind, Seen, accept, json};
use crate::table::Row;
use crate::tls::Offer;
use crate::tunnel::Login;
use crate::{Result, kafka, lumberjack, progress, transport, tunnel};

/// Longest time of one connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Events in a window of Lumberjack.
const EVENTS: u32 = 10;

/// The names that the DNS server knows.
type Names = Arc<Mutex<BTreeMap<String, Ipv4Addr>>>;

/// How often a page is tried: a port that was free may be in use when portway binds it.
const ATTEMPTS: usize = 3;

/// Runs every file in the directory and below it.
pub(crate) async fn run(lab: &Lab, journal: &mut Journal, directory: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for page in pages(directory)? {
        let text = fs::read_to_string(&page)?;
        if is_of_elastic(&page) && files(&text).count() < blocks(&text).count() {
            let mut row = Row::new("", &page.display().to_string());
            let fault = "a toml block is not a whole file, so nothing runs it";
            row.faults.push(fault.to_owned());
            rows.push(row);
        }
        for (number, file) in files(&text).enumerate() {
            let mut name = page.display().to_string();
            if number > 0 {
                name = format!("{name} ({})", number + 1);
            }
            progress(&name);
            let mut attempt = 1;
            rows.extend(loop {
                match run_file(lab, journal, &name, file).await {
                    Ok(of_file) => break of_file,
                    Err(_) if attempt < ATTEMPTS => attempt += 1,
                    Err(error) => {
                        let mut row = Row::new("", &name);
                        row.faults.push(error.to_string());
                        break vec![row];
                    }
                }
            });
        }
    }
    if rows.is_empty() {
        return Err(format!("{} has no routes.toml", directory.display()).into());
    }
    Ok(rows)
}

/// The pages of a directory, in order.
fn pages(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pages(&path)?);
        } else if path.extension().is_some_and(|it| it == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether the page describes a topology, whose toml blocks are whole files.
fn is_of_elastic(page: &Path) -> bool {
    page.parent().is_some_and(|it| it.ends_with("elastic"))
}

/// The toml blocks of a page.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    let blocks = page.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default())
}

/// The blocks of a page that are whole files.
fn files(page: &str) -> impl Iterator<Item = &str> {
    blocks(page).filter(|block| block.contains("[listeners") && block.contains("[routes"))
}

/// Starts the servers of a file and portway, and makes the connections.
async fn run_file(lab: &Lab, journal: &mut Journal, page: &str, file: &str) -> Result<Vec<Row>> {
    let names = Names::default();
    let of_dns = Arc::clone(&names);
    let look_up = move |name: &str| lock(&of_dns).get(name).copied();
    let dns = Dns::start(Arc::new(look_up)).await?;
    let egress = Socket::any().await?;
    let outside = Outside {
        dns: dns.address,
        egress: egress.address,
    };
    let file = Rewritten::new(file, &outside)?;
    let loaded = file.load()?;
    let routes = probes::of(&loaded.settings, &file)?;
    let probes = || routes.iter().flat_map(|(_, probes)| probes);

    let mut targets = Vec::new();
    for server in &file.servers {
        lock(&names).insert(server.host.clone(), server.address());
        let is_its = |probe: &&Probe| probe.servers.contains(&server.name);
        let hosts: Vec<&str> = probes().filter(is_its).map(|it| &*it.host).collect();
        for host in &hosts {
            if server.is_template() {
                lock(&names).insert((*host).to_owned(), server.address());
            }
            targets.extend(server.targets(host));
        }
        serve(lab, server, &hosts).await?;
    }
    let proxy = ConnectProxy::new(targets);
    accept(egress.into_listener(), move |stream| {
        let proxy = proxy.clone();
        async move { drop(proxy.serve(Box::new(stream)).await) }
    });

    let relay = Relay::run(loaded)?;
    let mut rows = Vec::new();
    for (route, probes) in &routes {
        let mut row = Row::new("", &format!("{page}: {route}"));
        "mutual".clone_into(&mut row.tls);
        if probes.is_empty() {
            let fault = "no connection takes this route".to_owned();
            row.faults.push(fault);
        }
        for probe in probes {
            journal.clear();
            match timeout(PROBE_TIMEOUT, visit(lab, probe, file.login)).await {
                Ok(Ok(saw)) => judge(&mut row, journal.take().pop(), probe, saw),
                Ok(Err(error)) => row.faults.push(format!("{probe}: {error}")),
                Err(_) => row.faults.push(format!("{probe}: no answer")),
            }
        }
        row.bytes = format!("{} connections", probes.len());
        rows.push(row);
    }
    tokio::task::spawn_blocking(|| relay.stop()).await?;
    Ok(rows)
}

fn lock(names: &Names) -> MutexGuard<'_, BTreeMap<String, Ipv4Addr>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn judge(row: &mut Row, seen: Option<Seen>, probe: &Probe, saw: Saw) {
    let Some(seen) = seen else {
        row.faults.push(format!("{probe}: no server saw it"));
        return;
    };
    if !probe.servers.contains(&saw.certificate) {
        let (got, expected) = (&saw.certificate, probe.servers.join(" or "));
        let fault = format!("{probe}: answered by {got} instead of {expected}");
        row.faults.push(fault);
    }
    row.answer = saw.answered_by;
    row.server = saw.certificate;
    row.server_name = seen.server_name.unwrap_or_else(|| NONE.to_owned());
    row.client = seen.client.unwrap_or_else(|| NONE.to_owned());
    let server_name = probe.server_name.as_deref().unwrap_or(NONE);
    row.check("server name", &row.server_name.clone(), server_name);
    let agent = Who::Agent.common_name();
    row.check("client certificate", &row.client.clone(), agent);
}

/// Starts a server with a certificate for these hosts. It requires a certificate of its clients.
async fn serve(lab: &Lab, server: &ServerOfFile, hosts: &[&str]) -> Result<()> {
    let identity = lab.authority.server(&server.name, hosts)?;
    let part = Part::mutual(&identity);
    for address in server.addresses() {
        let socket = Socket::at(*address.ip(), address.port()).await?;
        let name = server.name.clone();
        let one = lab.server(server.kind, &part)?;
        let listener = socket.into_listener();
        match speech(server.kind) {
            Speech::Lumberjack => one.serve_streams(listener, |mut stream| async move {
                while lumberjack::receive(&mut stream).await?.is_some() {}
                Ok(())
            }),
            Speech::Kafka => one.serve_streams(listener, |mut stream| async move {
                kafka::answer(&mut stream, 1).await
            }),
            Speech::Transport => one.serve_streams(listener, move |mut stream| {
                let name = name.clone();
                async move { transport::answer(&mut stream, &name).await }
            }),
            Speech::Http => one.serve(listener, move |_| {
                let answer = json(StatusCode::OK, &serde_json::json!({ "name": name }));
                async { answer }
            }),
        };
    }
    Ok(())
}

/// The protocol of a server.
enum Speech {
    Http,
    Lumberjack,
    Kafka,
    Transport,
}

fn speech(kind: Kind) -> Speech {
    match kind {
        Kind::Logstash => Speech::Lumberjack,
        Kind::Kafka => Speech::Kafka,
        Kind::Node => Speech::Transport,
        Kind::FleetServer
        | Kind::Elasticsearch
        | Kind::ElasticCloud
        | Kind::Artifacts
        | Kind::HttpsProxy => Speech::Http,
    }
}

/// Makes one connection, and sends what a client of this kind of server sends.
async fn visit(lab: &Lab, probe: &Probe, login: Login) -> Result<Saw> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((probe.client, 0).into())?;
    let mut stream: Stream = Box::new(socket.connect(probe.address).await?);
    match probe.protocol {
        ListenerProtocol::Tls => {}
        ListenerProtocol::HttpConnect => {
            tunnel::connect(&mut stream, &probe.host, probe.port, login).await?;
        }
        ListenerProtocol::Socks5 => {
            tunnel::socks5(&mut stream, &probe.host, probe.port, login).await?;
        }
    }
    let mut tls = ClientConfig::clone(&*lab.tls(Who::Agent, Offer::Nothing)?);
    tls.alpn_protocols.clone_from(&probe.alpn);
    let tls = Arc::new(tls);
    if matches!(speech(probe.kind), Speech::Http) {
        let mut client = Client::over(&probe.host, stream, tls).await?;
        let reply = client.send(Method::GET, "/", &[], "").await?;
        let name = reply.body.get("name").and_then(Value::as_str);
        name.unwrap_or(NONE).clone_into(&mut client.saw.answered_by);
        return Ok(client.saw);
    }
    let mut stream = handshake(&probe.host, stream, tls).await?;
    let answered_by = match speech(probe.kind) {
        Speech::Lumberjack => {
            lumberjack::send(&mut stream, EVENTS).await?;
            format!("{EVENTS} acknowledged")
        }
        Speech::Kafka => format!("{} partitions", kafka::leaders(&mut stream).await?.len()),
        Speech::Transport | Speech::Http => transport::greet(&mut stream, 1, "lab").await?,
    };
    Ok(Saw {
        certificate: certificate(stream.get_ref().1),
        answered_by,
        ..Saw::default()
    })
}
