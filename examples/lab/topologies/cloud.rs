//! Servers outside, under names that nobody can change: T1, T2, T9 and T13.
//!
//! ```text
//!  DNS of the agents: every name                       DNS of portway: the real addresses
//!            is portway                                          |
//!                |         +-----------+              127.0.0.2  Elastic Cloud
//!  agents  ------+-------> |  portway  | -------->    127.0.0.3  the same by PrivateLink, and Serverless
//!  own Fleet Server -----> |           |              127.0.0.4  artifacts.elastic.co
//!                          +-----------+
//! ```
//!
//! All deployments of a region have one certificate and one address, and the proxy of Elastic Cloud chooses by the
//! host of the request.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::StatusCode;

use super::names::{
    ARTIFACTS, CLOUD_CLUSTER_1, CLOUD_CLUSTER_2, CLOUD_ES_1, CLOUD_ES_2, CLOUD_FLEET, CLOUD_POLICY,
    FLEET, MUTUAL_POLICY, PRIVATE_ES, PRIVATE_FLEET, PROJECT_CLUSTER, SERVERLESS_ES,
};
use crate::certificates::Identity;
use crate::dns::Dns;
use crate::elasticsearch::Elasticsearch;
use crate::fleet_server::FleetServer;
use crate::lab::{ADDRESS, Lab, Part, Socket, Who};
use crate::server::{Kind, json};
use crate::site::Site;
use crate::{Result, artifacts};

const REGION: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const DOWNLOADS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

const NAMES: [&str; 7] = [
    CLOUD_FLEET,
    CLOUD_ES_1,
    CLOUD_ES_2,
    PRIVATE_FLEET,
    PRIVATE_ES,
    SERVERLESS_ES,
    ARTIFACTS,
];

/// The real addresses: only the DNS server of portway knows them.
fn outside(name: &str) -> Option<Ipv4Addr> {
    match name {
        CLOUD_FLEET | CLOUD_ES_1 | CLOUD_ES_2 => Some(REGION),
        PRIVATE_FLEET | PRIVATE_ES | SERVERLESS_ES => Some(PRIVATE),
        ARTIFACTS => Some(DOWNLOADS),
        _ => None,
    }
}

/// All names have one backend, whose endpoint is the name that was asked for, as the DNS server outside knows it.
fn routes(port: u16, dns: SocketAddr) -> String {
    let names = NAMES.map(|name| format!("\"{name}\"")).join(", ");
    format!(
        r#"[admin]
bind = false

[listeners.cloud]
bind = ["{ADDRESS}:0"]

[listeners.cloud_9243]
bind = ["{ADDRESS}:0"]

[listeners.proxy]
bind = ["{ADDRESS}:0"]
protocol = "http_connect"
allow_clients = ["127.0.0.0/8"]

[backends.outside]
endpoints = ["{{server_name}}:{port}"]
resolver = {{ servers = ["{dns}"] }}
allow_networks = ["127.0.0.0/8"]

[routes.outside]
server_names = [{names}]
backend = "outside"
"#
    )
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let region = Socket::at(REGION, 0).await?;
    let private = Socket::at(PRIVATE, region.address.port()).await?;
    let downloads = Socket::at(DOWNLOADS, region.address.port()).await?;
    let dns = Dns::start(Arc::new(outside)).await?;
    let mut site = Site::start(routes(region.address.port(), dns.address))?;
    // The agents' view: every name outside is portway.
    let inside = |name: &str| outside(name).map(|_| Ipv4Addr::LOCALHOST);
    site.dns = Some(Dns::start(Arc::new(inside)).await?);

    let identity = lab.authority.server("elastic-cloud", &NAMES)?;
    elastic_cloud(lab, region, &identity)?;
    let identity = lab.authority.server("elastic-cloud-private", &NAMES)?;
    elastic_cloud(lab, private, &identity)?;

    let identity = lab.authority.server("artifacts", &[ARTIFACTS])?;
    let package = artifacts::package();
    let answer = move |call: &_| artifacts::answer(call, &package);
    lab.answer(
        Kind::Artifacts,
        &Part::one_way(&identity),
        downloads,
        answer,
    )?;

    // T2: an own Fleet Server, which agents reach without portway.
    let portway = site.relay.address("cloud")?;
    let output = lab.output(CLOUD_ES_1, portway, Who::Nobody)?;
    let own = Arc::new(FleetServer::new(MUTUAL_POLICY, output));
    let socket = Socket::any().await?;
    site.beside = Some(socket.address);
    let identity = lab.authority.server("own-fleet-server", &[FLEET])?;
    lab.fleet_server(&own, &Part::one_way(&identity), socket)?;
    site.fleet_servers.push((FLEET, own));
    Ok(site)
}

/// Starts the proxy of Elastic Cloud: it asks for no certificate of a client.
fn elastic_cloud(lab: &Lab, socket: Socket, identity: &Identity) -> Result<()> {
    let fleet = Arc::new(FleetServer::new(CLOUD_POLICY, None));
    let server = lab.server(Kind::ElasticCloud, &Part::one_way(identity))?;
    server.serve(socket.into_listener(), move |call| {
        let fleet = Arc::clone(&fleet);
        async move {
            let cluster_uuid = match &*call.host {
                CLOUD_FLEET | PRIVATE_FLEET => return fleet.answer(call).await,
                CLOUD_ES_1 | PRIVATE_ES => CLOUD_CLUSTER_1,
                CLOUD_ES_2 => CLOUD_CLUSTER_2,
                SERVERLESS_ES => PROJECT_CLUSTER,
                _ => return json(StatusCode::NOT_FOUND, &serde_json::json!({ "ok": false })),
            };
            Elasticsearch { cluster_uuid }.answer(&call)
        }
    });
    Ok(())
}
