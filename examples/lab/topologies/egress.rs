//! Servers outside that portway reaches through the proxy of its site, which alone can resolve their names:
//! `via` with HTTP and with SOCKS5.

use std::sync::Arc;

use super::names::{
    ARTIFACTS, CLOUD_CLUSTER_1, CLOUD_ES_1, CLOUD_FLEET, CLOUD_POLICY, FLEET_MTLS, MUTUAL_POLICY,
};
use crate::Result;
use crate::connect_proxy::ConnectProxy;
use crate::fleet_server::FleetServer;
use crate::lab::{ADDRESS, Lab, Part, Socket};
use crate::server::accept;
use crate::site::Site;

fn routes(proxy: &Socket) -> String {
    format!(
        r#"[admin]
bind = false

[listeners.agents]
bind = ["{ADDRESS}:0"]

[backends]
fleet = {{ endpoints = ["{CLOUD_FLEET}:443"], via = "http://{proxy}" }}
fleet_mtls = {{ endpoints = ["{FLEET_MTLS}:443"], via = "http://{proxy}" }}
elasticsearch = {{ endpoints = ["{CLOUD_ES_1}:443"], via = "socks5://{proxy}" }}
artifacts = {{ endpoints = ["{ARTIFACTS}:443"], via = "http://{proxy}" }}

[routes]
fleet = {{ server_names = ["{CLOUD_FLEET}"], backend = "fleet" }}
fleet_mtls = {{ server_names = ["{FLEET_MTLS}"], backend = "fleet_mtls" }}
elasticsearch = {{ server_names = ["{CLOUD_ES_1}"], backend = "elasticsearch" }}
artifacts = {{ server_names = ["{ARTIFACTS}"], backend = "artifacts" }}
"#
    )
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let proxy = Socket::any().await?;
    let mut site = Site::start(routes(&proxy))?;
    let fleet = Socket::any().await?;
    let fleet_mtls = Socket::any().await?;
    let elasticsearch = Socket::any().await?;
    // It permits everything but artifacts.elastic.co.
    site.proxy = ConnectProxy::new([
        (format!("{CLOUD_FLEET}:443"), fleet.address),
        (format!("{FLEET_MTLS}:443"), fleet_mtls.address),
        (format!("{CLOUD_ES_1}:443"), elasticsearch.address),
    ]);
    let of_site = site.proxy.clone();
    accept(proxy.into_listener(), move |stream| {
        let proxy = of_site.clone();
        async move { drop(proxy.serve(Box::new(stream)).await) }
    });

    let names = [CLOUD_FLEET, CLOUD_ES_1, FLEET_MTLS];
    let of_fleet = lab.authority.server("fleet-server", &names)?;
    let of_es = lab.authority.server("elasticsearch", &names)?;
    let plain = Arc::new(FleetServer::new(CLOUD_POLICY, None));
    lab.fleet_server(&plain, &Part::one_way(&of_fleet), fleet)?;
    let mutual = Arc::new(FleetServer::new(MUTUAL_POLICY, None));
    lab.fleet_server(&mutual, &Part::mutual(&of_fleet), fleet_mtls)?;
    lab.elasticsearch(CLOUD_CLUSTER_1, &Part::one_way(&of_es), elasticsearch)?;
    Ok(site)
}
