//! The layout:
//!
//! ```text
//!                                     fleet.example       Fleet Server, policy "plain"
//!            +-----------+            fleet-mtls.example  Fleet Server, policy "mutual"
//! agents --> |           | -------->  es-1.example        Elasticsearch, "first-cluster"
//!            |  portway  |            es-2.example        Elasticsearch, "second-cluster"
//!    +-----> |           |            es-mtls.example     another node of "second-cluster"
//!    |       +-----------+                |
//!    +---------- Fleet Servers -----------+
//! ```
//!
//! The two `-mtls` servers require a client certificate. All certificates come from one authority, and
//! those of Elasticsearch have all its names. So a client must ask the server which one it is.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;

use crate::certificates::{Authority, Identity};
use crate::client::{Client, Failure, Saw};
use crate::elasticsearch::Elasticsearch;
use crate::fleet_server::{FleetServer, Output};
use crate::relay::Relay;
use crate::server::{Journal, Kind, Seen, Server};
use crate::tls::{self, Offer};
use crate::{Result, progress};

pub(crate) const FLEET: &str = "fleet.example";
pub(crate) const FLEET_MTLS: &str = "fleet-mtls.example";
pub(crate) const ES_1: &str = "es-1.example";
pub(crate) const ES_2: &str = "es-2.example";
pub(crate) const ES_MTLS: &str = "es-mtls.example";
/// The address of portway: the host of the URL for an agent that was enrolled with an address.
pub(crate) const ADDRESS: &str = "127.0.0.1";

pub(crate) const FIRST_CLUSTER: &str = "first-cluster";
pub(crate) const SECOND_CLUSTER: &str = "second-cluster";
pub(crate) const PLAIN_POLICY: &str = "plain-policy";
pub(crate) const MUTUAL_POLICY: &str = "mutual-policy";

/// The routes.toml of the lab, with the ports of the stand-ins.
fn routes(backends: &Backends<SocketAddr>) -> String {
    let Backends {
        fleet,
        fleet_mtls,
        es_1,
        es_2,
        es_mtls,
    } = backends;
    format!(
        r#"[admin]
bind = false

[listeners.names]
bind = ["{ADDRESS}:0"]

[listeners.addresses]
bind = ["{ADDRESS}:0"]

[backends]
fleet = {{ endpoints = ["{fleet}"] }}
fleet_mtls = {{ endpoints = ["{fleet_mtls}"] }}
es_1 = {{ endpoints = ["{es_1}"] }}
es_2 = {{ endpoints = ["{es_2}"] }}
es_mtls = {{ endpoints = ["{es_mtls}"] }}

[routes]
fleet = {{ server_names = ["{FLEET}"], backend = "fleet" }}
fleet_mtls = {{ server_names = ["{FLEET_MTLS}"], backend = "fleet_mtls" }}
es_1 = {{ server_names = ["{ES_1}"], backend = "es_1" }}
es_2 = {{ server_names = ["{ES_2}"], backend = "es_2" }}
es_mtls = {{ server_names = ["{ES_MTLS}"], backend = "es_mtls" }}

# Agents enrolled with an address in the URL send no server name.
[routes.without_name]
no_server_name = true
listeners = ["addresses"]
backend = "fleet"
"#
    )
}

/// One value for each backend.
struct Backends<T> {
    fleet: T,
    fleet_mtls: T,
    es_1: T,
    es_2: T,
    es_mtls: T,
}

/// Everything that the rows need. The other parts run by themselves.
pub(crate) struct Lab {
    pub(crate) relay: Relay,
    pub(crate) routes: String,
    pub(crate) journal: Journal,
    fleet: Arc<FleetServer>,
    fleet_mtls: Arc<FleetServer>,
    authority: Authority,
    agent: Identity,
    stranger: Identity,
}

/// The certificate that an agent shows to a server that asks for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    None,
    /// A certificate of the lab's authority.
    Own,
    /// A certificate of an authority that no server here trusts.
    Foreign,
}

impl Lab {
    /// Starts everything. With `swap`, routes.toml leads each Elasticsearch name to the other cluster.
    pub(crate) async fn start(swap: bool) -> Result<Self> {
        let authority = Authority::new("lab authority")?;
        let listeners = Backends::listen().await?;
        let mut addresses = listeners.addresses()?;
        if swap {
            (addresses.es_1, addresses.es_2) = (addresses.es_2, addresses.es_1);
        }
        let routes = routes(&addresses);
        progress("starts portway");
        let relay = Relay::start(&routes)?;

        let (sender, journal) = Journal::new();
        let portway = relay.address("names")?;
        let identity = authority.client("fleet-server-output")?;
        let output = |host, identity| {
            let tls = tls::client(&authority, identity, Offer::Nothing)?;
            Ok::<_, crate::Error>(Output {
                host,
                address: portway,
                tls,
            })
        };
        let fleet = Arc::new(FleetServer::new(PLAIN_POLICY, output(ES_1, None)?));
        let mutual = output(ES_MTLS, Some(&identity))?;
        let fleet_mtls = Arc::new(FleetServer::new(MUTUAL_POLICY, mutual));
        listeners.serve(&authority, &sender, [&fleet, &fleet_mtls])?;
        progress("Fleet Servers and Elasticsearch are up");

        let agent = authority.client("agent-1")?;
        let stranger = Authority::new("another authority")?.client("stranger")?;
        Ok(Self {
            relay,
            routes,
            journal,
            fleet,
            fleet_mtls,
            authority,
            agent,
            stranger,
        })
    }

    /// An agent's connection to `host`, which DNS resolves to portway.
    pub(crate) async fn connect(
        &self,
        host: &str,
        certificate: Certificate,
        offer: Offer,
    ) -> Result<Client, Failure> {
        let identity = match certificate {
            Certificate::None => None,
            Certificate::Own => Some(&self.agent),
            Certificate::Foreign => Some(&self.stranger),
        };
        let listener = if host == ADDRESS {
            "addresses"
        } else {
            "names"
        };
        let address = self.relay.address(listener)?;
        let tls = tls::client(&self.authority, identity, offer)?;
        Client::connect(host, address, tls).await
    }

    /// The observations of Elasticsearch by the Fleet Server of this name, when it enrolled the last agent.
    pub(crate) fn fleet_server_saw(&self, host: &str) -> Result<Saw, Failure> {
        let fleet_server = if host == FLEET {
            &self.fleet
        } else {
            &self.fleet_mtls
        };
        let none = || Failure::Other(format!("{host} did not reach Elasticsearch"));
        fleet_server.saw().ok_or_else(none)
    }
}

impl Backends<TcpListener> {
    async fn listen() -> Result<Self> {
        let listen = || TcpListener::bind((ADDRESS, 0));
        Ok(Self {
            fleet: listen().await?,
            fleet_mtls: listen().await?,
            es_1: listen().await?,
            es_2: listen().await?,
            es_mtls: listen().await?,
        })
    }

    fn addresses(&self) -> Result<Backends<SocketAddr>> {
        Ok(Backends {
            fleet: self.fleet.local_addr()?,
            fleet_mtls: self.fleet_mtls.local_addr()?,
            es_1: self.es_1.local_addr()?,
            es_2: self.es_2.local_addr()?,
            es_mtls: self.es_mtls.local_addr()?,
        })
    }

    fn serve(
        self,
        authority: &Authority,
        journal: &UnboundedSender<Seen>,
        [fleet, fleet_mtls]: [&Arc<FleetServer>; 2],
    ) -> Result<()> {
        let es_names = [ES_1, ES_2, ES_MTLS];
        let of_fleet = authority.server("fleet-server", &[FLEET, FLEET_MTLS, ADDRESS])?;
        let of_es_1 = authority.server("elasticsearch-1", &es_names)?;
        let of_es_2 = authority.server("elasticsearch-2", &es_names)?;

        let fleet_server = |fleet: &Arc<FleetServer>, listener, tls: Arc<ServerConfig>| {
            let fleet = Arc::clone(fleet);
            let server = Server {
                kind: Kind::FleetServer,
                tls,
                journal: journal.clone(),
            };
            server.serve(listener, move |call| {
                let fleet = Arc::clone(&fleet);
                async move { fleet.answer(call).await }
            });
        };
        fleet_server(fleet, self.fleet, tls::server(&of_fleet, None)?);
        fleet_server(
            fleet_mtls,
            self.fleet_mtls,
            tls::server(&of_fleet, Some(authority))?,
        );

        let elasticsearch = |cluster_uuid, listener, tls: Arc<ServerConfig>| {
            let node = Elasticsearch { cluster_uuid };
            let server = Server {
                kind: Kind::Elasticsearch,
                tls,
                journal: journal.clone(),
            };
            server.serve(listener, move |call| {
                let answer = node.answer(&call);
                async { answer }
            });
        };
        elasticsearch(FIRST_CLUSTER, self.es_1, tls::server(&of_es_1, None)?);
        elasticsearch(SECOND_CLUSTER, self.es_2, tls::server(&of_es_2, None)?);
        elasticsearch(
            SECOND_CLUSTER,
            self.es_mtls,
            tls::server(&of_es_2, Some(authority))?,
        );
        Ok(())
    }
}
