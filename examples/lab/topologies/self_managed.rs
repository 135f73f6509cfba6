//! The self-managed site: T3, T4, T8, T11 and T12.
//!
//! ```text
//!                                     fleet.example           Fleet Server, policy "plain"
//!                                     fleet-mtls.example      Fleet Server, policy "mutual"
//!            +-----------+            fleet-eck.apps.example  Fleet Server, policy "eck"
//! agents --> |           | -------->  es-1.example            Elasticsearch, "first-cluster"
//!            |  portway  |            es-2.example            Elasticsearch, "second-cluster"
//!    +-----> |           |            es-mtls.example         another node of "second-cluster"
//!    |       +-----------+            logstash.example, logstash-mtls.example
//!    |                                    |
//!    +---- Fleet Servers, Logstash -------+
//! ```
//!
//! The servers with `mtls` or `eck` in their names require a client certificate.

use std::net::SocketAddr;
use std::sync::Arc;

use super::names::{
    ECK_POLICY, ES_1, ES_2, ES_INGRESS, ES_MTLS, FIRST_CLUSTER, FLEET, FLEET_INGRESS,
    FLEET_INGRESS_ECK, FLEET_MTLS, LOGSTASH, LOGSTASH_MTLS, MUTUAL_POLICY, PLAIN_POLICY,
    SECOND_CLUSTER,
};
use crate::Result;
use crate::certificates::Identity;
use crate::fleet_server::FleetServer;
use crate::lab::{ADDRESS, Lab, Part, Socket, Who};
use crate::lumberjack;
use crate::server::Kind;
use crate::site::Site;

/// The sockets of the servers.
pub(super) struct Servers {
    pub(super) fleet: Socket,
    pub(super) fleet_mtls: Socket,
    fleet_eck: Socket,
    pub(super) es_1: Socket,
    es_2: Socket,
    pub(super) es_mtls: Socket,
    logstash: Socket,
    pub(super) logstash_mtls: Socket,
}

fn routes(servers: &Servers, [first, second]: [&Socket; 2]) -> String {
    let Servers {
        fleet,
        fleet_mtls,
        fleet_eck,
        es_mtls,
        logstash,
        logstash_mtls,
        ..
    } = servers;
    format!(
        r#"[admin]
bind = false

[listeners]
names = {{ bind = ["{ADDRESS}:0"] }}
fleet_by_address = {{ bind = ["{ADDRESS}:0"] }}
fleet_mtls_by_address = {{ bind = ["{ADDRESS}:0"] }}
es_by_address = {{ bind = ["{ADDRESS}:0"] }}

[backends]
fleet = {{ endpoints = ["{fleet}"] }}
fleet_mtls = {{ endpoints = ["{fleet_mtls}"] }}
fleet_eck = {{ endpoints = ["{fleet_eck}"] }}
es_1 = {{ endpoints = ["{first}"] }}
es_2 = {{ endpoints = ["{second}"] }}
es_mtls = {{ endpoints = ["{es_mtls}"] }}
logstash = {{ endpoints = ["{logstash}"] }}
logstash_mtls = {{ endpoints = ["{logstash_mtls}"] }}

[routes]
fleet = {{ server_names = ["{FLEET}", "{FLEET_INGRESS}"], backend = "fleet" }}
fleet_mtls = {{ server_names = ["{FLEET_MTLS}"], backend = "fleet_mtls" }}
fleet_eck = {{ server_names = ["{FLEET_INGRESS_ECK}"], backend = "fleet_eck" }}
es_1 = {{ server_names = ["{ES_1}"], backend = "es_1" }}
es_2 = {{ server_names = ["{ES_2}"], backend = "es_2" }}
es_mtls = {{ server_names = ["{ES_MTLS}"], backend = "es_mtls" }}
logstash = {{ server_names = ["{LOGSTASH}"], backend = "logstash" }}
logstash_mtls = {{ server_names = ["{LOGSTASH_MTLS}"], backend = "logstash_mtls" }}
# All other names of the ingress are those of Elasticsearch.
apps = {{ server_names = ["*.apps.example"], backend = "es_1" }}

# Agents that were enrolled with an address in the URL send no server name.
[routes.fleet_without_name]
no_server_name = true
listeners = ["fleet_by_address"]
backend = "fleet"

[routes.fleet_mtls_without_name]
no_server_name = true
listeners = ["fleet_mtls_by_address"]
backend = "fleet_mtls"

[routes.es_without_name]
no_server_name = true
listeners = ["es_by_address"]
backend = "es_1"
"#
    )
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let servers = Servers::listen().await?;
    let clusters = if lab.is_swapped {
        [&servers.es_2, &servers.es_1]
    } else {
        [&servers.es_1, &servers.es_2]
    };
    let mut site = Site::start(routes(&servers, clusters))?;
    let portway = site.relay.address("names")?;
    site.fleet_servers = servers.serve(lab, portway)?;
    Ok(site)
}

impl Servers {
    pub(super) async fn listen() -> Result<Self> {
        Ok(Self {
            fleet: Socket::any().await?,
            fleet_mtls: Socket::any().await?,
            fleet_eck: Socket::any().await?,
            es_1: Socket::any().await?,
            es_2: Socket::any().await?,
            es_mtls: Socket::any().await?,
            logstash: Socket::any().await?,
            logstash_mtls: Socket::any().await?,
        })
    }

    /// Starts all of them. Fleet Servers reach Elasticsearch through portway.
    pub(super) fn serve(
        self,
        lab: &Lab,
        portway: SocketAddr,
    ) -> Result<Vec<(&'static str, Arc<FleetServer>)>> {
        let identities = Identities::issue(lab)?;
        let output = lab.output(ES_1, portway, Who::Nobody)?;
        let plain = Arc::new(FleetServer::new(PLAIN_POLICY, output));
        let output = lab.output(ES_MTLS, portway, Who::FleetServer)?;
        let mutual = Arc::new(FleetServer::new(MUTUAL_POLICY, output));
        let eck = Arc::new(FleetServer::new(ECK_POLICY, None));
        lab.fleet_server(&plain, &Part::one_way(&identities.fleet), self.fleet)?;
        lab.fleet_server(&mutual, &Part::mutual(&identities.fleet), self.fleet_mtls)?;
        lab.fleet_server(&eck, &Part::mutual(&identities.eck), self.fleet_eck)?;

        let Identities { es_1, es_2, .. } = &identities;
        lab.elasticsearch(FIRST_CLUSTER, &Part::one_way(es_1), self.es_1)?;
        lab.elasticsearch(SECOND_CLUSTER, &Part::one_way(es_2), self.es_2)?;
        lab.elasticsearch(SECOND_CLUSTER, &Part::mutual(es_2), self.es_mtls)?;

        for (part, socket) in [
            (Part::one_way(&identities.logstash), self.logstash),
            (Part::mutual(&identities.logstash), self.logstash_mtls),
        ] {
            let server = lab.server(Kind::Logstash, &part)?;
            server.serve_streams(socket.into_listener(), |mut stream| async move {
                while lumberjack::receive(&mut stream).await?.is_some() {}
                Ok(())
            });
        }
        Ok(vec![(FLEET, plain), (FLEET_MTLS, mutual)])
    }
}

struct Identities {
    fleet: Identity,
    eck: Identity,
    es_1: Identity,
    es_2: Identity,
    logstash: Identity,
}

impl Identities {
    fn issue(lab: &Lab) -> Result<Self> {
        let of_fleet = [FLEET, FLEET_MTLS, FLEET_INGRESS, FLEET_INGRESS_ECK, ADDRESS];
        let of_es = [ES_1, ES_2, ES_MTLS, ES_INGRESS, ADDRESS];
        let of_logstash = [LOGSTASH, LOGSTASH_MTLS];
        let server = |name, names: &[&str]| lab.authority.server(name, names);
        Ok(Self {
            fleet: server("fleet-server", &of_fleet)?,
            eck: server("fleet-server-eck", &of_fleet)?,
            es_1: server("elasticsearch-1", &of_es)?,
            es_2: server("elasticsearch-2", &of_es)?,
            logstash: server("logstash", &of_logstash)?,
        })
    }
}
