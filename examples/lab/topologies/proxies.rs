//! Agents with a proxy in their settings: T6, where portway is the proxy, and T7, where portway leads to one
//! that agents reach by HTTPS. The servers are those of the self-managed site.

use super::names::{ES_1, ES_MTLS, FLEET, FLEET_MTLS, LOGSTASH_MTLS, PROXY};
use super::self_managed::Servers;
use crate::Result;
use crate::connect_proxy::ConnectProxy;
use crate::lab::{ADDRESS, Lab, Part, Socket};
use crate::server::Kind;
use crate::site::Site;

fn routes(servers: &Servers, proxy: &Socket) -> String {
    let Servers {
        fleet,
        fleet_mtls,
        es_1,
        es_mtls,
        logstash_mtls,
        ..
    } = servers;
    format!(
        r#"[admin]
bind = false

[listeners.names]
bind = ["{ADDRESS}:0"]

[listeners.connect]
bind = ["{ADDRESS}:0"]
protocol = "http_connect"
allow_clients = ["127.0.0.0/8"]

[listeners.socks5]
bind = ["{ADDRESS}:0"]
protocol = "socks5"
allow_clients = ["127.0.0.0/8"]

# The same for networks that have strangers in them.
[listeners.connect_users]
bind = ["{ADDRESS}:0"]
protocol = "http_connect"
credentials_file = "users"

[listeners.socks5_users]
bind = ["{ADDRESS}:0"]
protocol = "socks5"
credentials_file = "users"

[backends]
fleet = {{ endpoints = ["{fleet}"] }}
fleet_mtls = {{ endpoints = ["{fleet_mtls}"] }}
es_1 = {{ endpoints = ["{es_1}"] }}
es_mtls = {{ endpoints = ["{es_mtls}"] }}
logstash_mtls = {{ endpoints = ["{logstash_mtls}"] }}
https_proxy = {{ endpoints = ["{proxy}"] }}

# At a proxy listener the port is that of the URL.
[routes.fleet]
server_names = ["{FLEET}"]
listeners = ["connect", "connect_users", "socks5", "socks5_users"]
ports = [8220]
backend = "fleet"

[routes.fleet_mtls]
server_names = ["{FLEET_MTLS}"]
listeners = ["connect", "connect_users", "socks5", "socks5_users"]
ports = [8220]
backend = "fleet_mtls"

[routes]
es_1 = {{ server_names = ["{ES_1}"], backend = "es_1" }}
es_mtls = {{ server_names = ["{ES_MTLS}"], backend = "es_mtls" }}
logstash_mtls = {{ server_names = ["{LOGSTASH_MTLS}"], backend = "logstash_mtls" }}
https_proxy = {{ server_names = ["{PROXY}"], listeners = ["names"], backend = "https_proxy" }}
"#
    )
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let servers = Servers::listen().await?;
    let socket = Socket::any().await?;
    let mut site = Site::start(routes(&servers, &socket))?;
    site.proxy = ConnectProxy::new([
        (format!("{FLEET}:8220"), servers.fleet.address),
        (format!("{FLEET_MTLS}:8220"), servers.fleet_mtls.address),
    ]);
    let identity = lab.authority.server("https-proxy", &[PROXY])?;
    let server = lab.server(Kind::HttpsProxy, &Part::mutual(&identity))?;
    let proxy = site.proxy.clone();
    server.serve_streams(socket.into_listener(), move |stream| {
        proxy.clone().serve(Box::new(stream))
    });
    servers.serve(lab, site.relay.address("names")?)?;
    Ok(site)
}
