//! The people of the lab, their certificates, and how to start the servers of a site.
//!
//! All certificates come from one authority, and servers that could be confused have each other's names. So TLS
//! succeeds wherever portway leads a client, and a client must ask the server which one it is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::Result;
use crate::certificates::{Authority, Identity};
use crate::elasticsearch::Elasticsearch;
use crate::fleet_server::{FleetServer, Output};
use crate::server::{Answer, Call, Journal, Kind, Seen, Server};
use crate::tls::{self, Offer};

/// The address of portway and of most servers.
pub(crate) const ADDRESS: &str = "127.0.0.1";

/// A client and the certificate that it shows to a server that asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// An agent without a certificate.
    Nobody,
    Agent,
    /// Fleet Server as a client of Elasticsearch.
    FleetServer,
    /// Logstash as a client of Elasticsearch.
    Logstash,
    /// A node of another cluster.
    Node,
    /// An agent with a certificate of an authority that no server here trusts.
    Stranger,
}

impl Who {
    /// The common name of the certificate.
    pub(crate) const fn common_name(self) -> &'static str {
        match self {
            Self::Nobody => "none",
            Self::Agent => "agent-1",
            Self::FleetServer => "fleet-server-output",
            Self::Logstash => "logstash-output",
            Self::Node => "node-of-cluster-a",
            Self::Stranger => "stranger",
        }
    }
}

/// Everything that sites and rows share.
pub(crate) struct Lab {
    pub(crate) authority: Authority,
    /// Whether routes.toml leads each Elasticsearch name of the first site to the other cluster.
    pub(crate) is_swapped: bool,
    journal: UnboundedSender<Seen>,
    people: Vec<(Who, Identity)>,
}

impl Lab {
    pub(crate) fn new(is_swapped: bool) -> Result<(Self, Journal)> {
        let authority = Authority::new("lab authority")?;
        let mut people = Vec::new();
        for who in [Who::Agent, Who::FleetServer, Who::Logstash, Who::Node] {
            people.push((who, authority.client(who.common_name())?));
        }
        let other = Authority::new("another authority")?;
        people.push((Who::Stranger, other.client(Who::Stranger.common_name())?));
        let (sender, journal) = Journal::new();
        let lab = Self {
            authority,
            is_swapped,
            journal: sender,
            people,
        };
        Ok((lab, journal))
    }

    /// The certificate of a client, if it has one.
    pub(crate) fn identity(&self, who: Who) -> Option<&Identity> {
        let mut people = self.people.iter();
        people.find(|(one, _)| *one == who).map(|(_, it)| it)
    }

    /// The TLS settings of a client.
    pub(crate) fn tls(&self, who: Who, offer: Offer) -> Result<Arc<ClientConfig>> {
        tls::client(&self.authority, self.identity(who), offer)
    }

    /// A server that does not serve yet.
    pub(crate) fn server(&self, kind: Kind, part: &Part<'_>) -> Result<Server> {
        let authority = part.is_mutual.then_some(&self.authority);
        Ok(Server {
            kind,
            tls: tls::server(part.identity, authority)?,
            journal: self.journal.clone(),
        })
    }

    /// Starts a server that answers each request at once.
    pub(crate) fn answer(
        &self,
        kind: Kind,
        part: &Part<'_>,
        socket: Socket,
        answer: impl Fn(&Call) -> Answer + Clone + Send + Sync + 'static,
    ) -> Result<AbortHandle> {
        let server = self.server(kind, part)?;
        Ok(server.serve(socket.listener, move |call| {
            let answer = answer(&call);
            async { answer }
        }))
    }

    /// Starts a node of Elasticsearch.
    pub(crate) fn elasticsearch(
        &self,
        cluster_uuid: &'static str,
        part: &Part<'_>,
        socket: Socket,
    ) -> Result<AbortHandle> {
        let node = Elasticsearch { cluster_uuid };
        let answer = move |call: &Call| node.answer(call);
        self.answer(Kind::Elasticsearch, part, socket, answer)
    }

    /// Starts a Fleet Server.
    pub(crate) fn fleet_server(
        &self,
        fleet: &Arc<FleetServer>,
        part: &Part<'_>,
        socket: Socket,
    ) -> Result<AbortHandle> {
        let server = self.server(Kind::FleetServer, part)?;
        let fleet = Arc::clone(fleet);
        Ok(server.serve(socket.listener, move |call| {
            let fleet = Arc::clone(&fleet);
            async move { fleet.answer(call).await }
        }))
    }

    /// The output of a Fleet Server to `host`, which DNS resolves to portway.
    pub(crate) fn output(
        &self,
        host: &'static str,
        portway: SocketAddr,
        who: Who,
    ) -> Result<Option<Output>> {
        let tls = self.tls(who, Offer::Nothing)?;
        Ok(Some(Output {
            host,
            address: portway,
            tls,
        }))
    }
}

/// The TLS of a server.
pub(crate) struct Part<'i> {
    pub(crate) identity: &'i Identity,
    /// Whether clients must show a certificate.
    pub(crate) is_mutual: bool,
}

impl<'i> Part<'i> {
    /// A server that asks clients for nothing.
    pub(crate) const fn one_way(identity: &'i Identity) -> Self {
        Self {
            identity,
            is_mutual: false,
        }
    }

    /// A server that requires a certificate.
    pub(crate) const fn mutual(identity: &'i Identity) -> Self {
        Self {
            identity,
            is_mutual: true,
        }
    }
}

/// A listening socket of a server; it displays its address, for routes.toml.
pub(crate) struct Socket {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Socket {
    /// A socket at this address of loopback; with port 0 the kernel chooses one.
    pub(crate) async fn at(address: Ipv4Addr, port: u16) -> Result<Self> {
        let listener = TcpListener::bind((IpAddr::from(address), port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    pub(crate) async fn any() -> Result<Self> {
        Self::at(Ipv4Addr::LOCALHOST, 0).await
    }

    /// The socket itself.
    pub(crate) fn into_listener(self) -> TcpListener {
        self.listener
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}
