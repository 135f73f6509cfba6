//! The topologies of docs/elastic: the sites that serve them, and the promises that the lab keeps.
//!
//! [`PROMISES`] is the table. Each file below has one site: its routes.toml, its servers and their names.

mod brokers;
mod cloud;
mod egress;
mod names;
mod pool;
mod promises;
mod proxies;
mod remote_cluster;
mod self_managed;

use crate::Result;
use crate::lab::Lab;
use crate::rows::Promise;
use crate::site::Site;

pub(crate) use promises::PROMISES;

/// The page of docs/elastic about each topology that has rows.
pub(crate) const PAGES: [(&str, &str); 14] = [
    ("T1", "fleet-server-on-elastic-cloud.md"),
    ("T2", "elasticsearch-on-elastic-cloud.md"),
    ("T3", "own-site.md"),
    ("T4", "mutual-tls.md"),
    ("T6", "http-proxy.md"),
    ("T7", "secure-gateway.md"),
    ("T8", "logstash.md"),
    ("T9", "artifacts.md"),
    ("T10", "several-fleet-servers.md"),
    ("T11", "ip-address-urls.md"),
    ("T12", "eck.md"),
    ("T13", "private-link.md"),
    ("T14", "remote-clusters.md"),
    ("T15", "kafka.md"),
];

/// A site, which serves one topology or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// Fleet Servers, Elasticsearch and Logstash in a zone of their own: T3, T4, T8, T11, T12.
    SelfManaged,
    /// Several Fleet Servers behind one name: T10.
    Pool,
    /// Servers outside, under names that the DNS of the agents leads to portway: T1, T2, T9, T13.
    Cloud,
    /// Servers outside that portway reaches through the proxy of its site.
    Egress,
    /// Agents with a proxy in their settings: T6, T7.
    Proxies,
    /// Another cluster: T14.
    RemoteCluster,
    /// Kafka: T15.
    Brokers,
}

impl Group {
    pub(crate) const ALL: [Self; 7] = [
        Self::SelfManaged,
        Self::Pool,
        Self::Cloud,
        Self::Egress,
        Self::Proxies,
        Self::RemoteCluster,
        Self::Brokers,
    ];

    /// Starts the servers of the site, and portway in front of them.
    pub(crate) async fn start(self, lab: &Lab) -> Result<Site> {
        match self {
            Self::SelfManaged => self_managed::start(lab).await,
            Self::Pool => pool::start(lab).await,
            Self::Cloud => cloud::start(lab).await,
            Self::Egress => egress::start(lab).await,
            Self::Proxies => proxies::start(lab).await,
            Self::RemoteCluster => remote_cluster::start(lab).await,
            Self::Brokers => brokers::start(lab).await,
        }
    }

    /// The promises that this site keeps.
    pub(crate) fn promises(self) -> impl Iterator<Item = &'static Promise> {
        PROMISES.iter().filter(move |one| one.way.group == self)
    }
}
