//! A site: one portway with its routes.toml and the servers behind it, and how clients reach them.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::client::{Failure, Stream, handshake};
use crate::connect_proxy::ConnectProxy;
use crate::dns::Dns;
use crate::fleet_server::FleetServer;
use crate::lab::{Lab, Who};
use crate::relay::Relay;
use crate::tls::Offer;
use crate::topologies::Group;
use crate::tunnel::{self, Login};
use crate::{Result, progress};

/// How a client reaches a server.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) group: Group,
    /// The listener of portway.
    pub(crate) listener: &'static str,
    pub(crate) front: Front,
    /// The host of the URL. An IP address means that there is no server name.
    pub(crate) host: &'static str,
    /// The port of the URL, for a request to a proxy.
    pub(crate) port: u16,
    /// The user and the password that the client shows to that proxy.
    pub(crate) login: Login,
}

/// The part of the way before the TLS connection with the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// DNS leads the name to portway.
    Direct,
    /// The client does not use portway; Fleet Server behind it does.
    Beside,
    /// `proxy_url: http://`, with portway as the proxy.
    HttpConnect,
    /// The same, with a server name that is not the target.
    HttpConnectThenOther(&'static str),
    /// `proxy_url: socks5://`, with portway as the proxy.
    Socks5,
    /// `proxy_url: https://` and this host, which DNS leads to portway.
    HttpsProxy(&'static str),
}

/// One portway and the servers behind it.
pub(crate) struct Site {
    pub(crate) relay: Relay,
    pub(crate) routes: String,
    /// Fleet Servers that store agents in Elasticsearch, by the host of their URL.
    pub(crate) fleet_servers: Vec<(&'static str, Arc<FleetServer>)>,
    /// The address of the Fleet Server that agents reach without portway.
    pub(crate) beside: Option<SocketAddr>,
    /// Servers that a row ends.
    pub(crate) servers: Vec<AbortHandle>,
    /// A proxy behind portway.
    pub(crate) proxy: ConnectProxy,
    /// The DNS server of the agents.
    pub(crate) dns: Option<Dns>,
}

impl Site {
    /// Starts portway with this routes.toml.
    pub(crate) fn start(routes: String) -> Result<Self> {
        progress("starts portway");
        Ok(Self {
            relay: Relay::start(&routes)?,
            routes,
            fleet_servers: Vec::new(),
            beside: None,
            servers: Vec::new(),
            proxy: ConnectProxy::default(),
            dns: None,
        })
    }

    /// Connects, up to where the TLS connection with the server begins.
    pub(crate) async fn connect(&self, lab: &Lab, way: &Way, who: Who) -> Result<Stream, Failure> {
        let address = self.address(way).await?;
        let stream = TcpStream::connect(address).await;
        let mut stream: Stream = Box::new(stream.map_err(|e| Failure::of("connect", &e))?);
        let login = way.login;
        match way.front {
            Front::Direct | Front::Beside => {}
            Front::HttpConnect | Front::HttpConnectThenOther(_) => {
                tunnel::connect(&mut stream, way.host, way.port, login).await?;
            }
            Front::Socks5 => tunnel::socks5(&mut stream, way.host, way.port, login).await?,
            Front::HttpsProxy(proxy) => {
                let tls = lab.tls(who, Offer::Nothing)?;
                stream = Box::new(handshake(proxy, stream, tls).await?);
                tunnel::connect(&mut stream, way.host, way.port, login).await?;
            }
        }
        Ok(stream)
    }

    async fn address(&self, way: &Way) -> Result<SocketAddr> {
        if way.front == Front::Beside {
            return Ok(self
                .beside
                .ok_or("there is no Fleet Server beside portway")?);
        }
        let portway = self.relay.address(way.listener)?;
        match &self.dns {
            Some(dns) if way.front == Front::Direct => {
                Ok((dns.look_up(way.host).await?, portway.port()).into())
            }
            _ => Ok(portway),
        }
    }
}

impl Way {
    /// The server name in the client hello.
    pub(crate) const fn server_name(&self) -> &'static str {
        match self.front {
            Front::HttpConnectThenOther(name) => name,
            _ if matches!(self.host.as_bytes(), [b'0'..=b'9', ..]) => "none",
            Front::Direct
            | Front::Beside
            | Front::HttpConnect
            | Front::Socks5
            | Front::HttpsProxy(_) => self.host,
        }
    }
}
