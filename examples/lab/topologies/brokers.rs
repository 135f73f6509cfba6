//! Kafka: T15. A client asks one broker where the others are, and then reaches each by the name that it
//! advertises. So every broker has a route of its own.

use std::fmt::Write;

use crate::Result;
use crate::kafka::{self, HOSTS};
use crate::lab::{ADDRESS, Lab, Part, Socket};
use crate::server::Kind;
use crate::site::Site;

fn routes(one_way: &[Socket], mutual: &[Socket]) -> Result<String> {
    let mut routes = format!(
        r#"[admin]
bind = false

[listeners]
kafka = {{ bind = ["{ADDRESS}:0"] }}
kafka_mtls = {{ bind = ["{ADDRESS}:0"] }}
"#
    );
    for (listener, sockets) in [("kafka", one_way), ("kafka_mtls", mutual)] {
        for ((host, socket), number) in HOSTS.iter().zip(sockets).zip(1..) {
            write!(
                routes,
                r#"
[backends.{listener}_{number}]
endpoints = ["{socket}"]

[routes.{listener}_{number}]
server_names = ["{host}"]
listeners = ["{listener}"]
backend = "{listener}_{number}"
"#
            )?;
        }
    }
    Ok(routes)
}

pub(super) async fn start(lab: &Lab) -> Result<Site> {
    let (mut one_way, mut mutual) = (Vec::new(), Vec::new());
    for _ in HOSTS {
        one_way.push(Socket::any().await?);
        mutual.push(Socket::any().await?);
    }
    let site = Site::start(routes(&one_way, &mutual)?)?;
    for ((one_way, mutual), id) in one_way.into_iter().zip(mutual).zip(1..) {
        let identity = lab.authority.server(&format!("kafka-{id}"), &HOSTS)?;
        for (part, socket) in [
            (Part::one_way(&identity), one_way),
            (Part::mutual(&identity), mutual),
        ] {
            let server = lab.server(Kind::Kafka, &part)?;
            server.serve_streams(socket.into_listener(), move |mut stream| async move {
                kafka::answer(&mut stream, id).await
            });
        }
    }
    Ok(site)
}
