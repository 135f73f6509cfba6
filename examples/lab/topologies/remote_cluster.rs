//! A remote cluster in proxy mode: T14. The nodes of cluster A know the address of portway and, apart from it, the
//! `server_name` of cluster B. Each opens 18 sockets, and keeps them.

use super::names::{REMOTE, REMOTE_API_KEY};
use crate::lab::{ADDRESS, Lab, Part, Socket};
use crate::server::Kind;
use crate::site::Site;
use crate::{Result, transport};

fn routes(with_api_key: &Socket, with_certificates: &Socket) -> String {
    format!(
        r#"[admin]
bind = false

[listeners.transport]
bind = ["{ADDRESS}:0"]

[backends]
with_api_key = {{ endpoints = ["{with_api_key}"] }}
with_certificates = {{ endpoints = ["{with_certificates}"] }}

[routes]
with_api_key = {{ server_names = ["{REMOTE_API_KEY}"], backend = "with_api_key" }}
with_certificates = {{ server_names = ["{REMOTE}"], backend = "with_certificates" }}
"#
    )
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let with_api_key = Socket::any().await?;
    let with_certificates = Socket::any().await?;
    let site = Site::start(routes(&with_api_key, &with_certificates))?;
    let names = [REMOTE, REMOTE_API_KEY];
    let identity = lab.authority.server("node-of-cluster-b", &names)?;
    for (part, socket) in [
        (Part::one_way(&identity), with_api_key),
        (Part::mutual(&identity), with_certificates),
    ] {
        let server = lab.server(Kind::Node, &part)?;
        server.serve_streams(socket.into_listener(), |mut stream| async move {
            transport::answer(&mut stream, "cluster-b").await
        });
    }
    Ok(site)
}
