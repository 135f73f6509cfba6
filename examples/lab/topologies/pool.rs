//! Several Fleet Servers behind one name: T10. portway spreads the agents over them by the number of their
//! connections; the first three ask for no certificate, the others require one.

use std::sync::Arc;

use super::names::{FLEET, FLEET_MTLS, PLAIN_POLICY};
use crate::Result;
use crate::fleet_server::FleetServer;
use crate::lab::{ADDRESS, Lab, Part, Socket};
use crate::site::Site;

const NAMES: [&str; 3] = ["fleet-1", "fleet-2", "fleet-3"];

fn routes(one_way: &[Socket], mutual: &[Socket]) -> String {
    let endpoints = |sockets: &[Socket]| {
        let quoted: Vec<String> = sockets.iter().map(|it| format!("\"{it}\"")).collect();
        quoted.join(", ")
    };
    let (one_way, mutual) = (endpoints(one_way), endpoints(mutual));
    format!(
        r#"[admin]
bind = false

[listeners.agents]
bind = ["{ADDRESS}:0"]

[backends]
fleet = {{ endpoints = [{one_way}] }}
fleet_mtls = {{ endpoints = [{mutual}] }}

[routes]
fleet = {{ server_names = ["{FLEET}"], backend = "fleet" }}
fleet_mtls = {{ server_names = ["{FLEET_MTLS}"], backend = "fleet_mtls" }}
"#
    )
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let (mut one_way, mut mutual) = (Vec::new(), Vec::new());
    for _ in NAMES {
        one_way.push(Socket::any().await?);
        mutual.push(Socket::any().await?);
    }
    let mut site = Site::start(routes(&one_way, &mutual))?;
    let fleet = Arc::new(FleetServer::new(PLAIN_POLICY, None));
    let mut of_mutual = Vec::new();
    for (name, (one_way, mutual)) in NAMES.into_iter().zip(one_way.into_iter().zip(mutual)) {
        let identity = lab.authority.server(name, &[FLEET, FLEET_MTLS])?;
        let server = lab.fleet_server(&fleet, &Part::one_way(&identity), one_way)?;
        site.servers.push(server);
        of_mutual.push(lab.fleet_server(&fleet, &Part::mutual(&identity), mutual)?);
    }
    site.servers.extend(of_mutual);
    Ok(site)
}
