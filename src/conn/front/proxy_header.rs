//! The header of the PROXY protocol, as balancers send it before the bytes of a client.

use super::receive;
use crate::conn::connection::Connection;
use crate::conn::refuse::Refusal;
use crate::net::Leg;
use crate::outcome::Outcome;
use crate::relay::Resources;
use crate::wire::{ProxyHeader, read_proxy_header};

/// Receives the header, and stores the ends of the connection that it names.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    let header = receive(client, resources, |peeked| {
        match read_proxy_header(peeked) {
            ProxyHeader::Whole(ends, size) => Ok(Some((ends, size))),
            ProxyHeader::Partial => Ok(None),
            ProxyHeader::Invalid(invalid) => Err(Refusal::invalid_header(invalid)),
        }
    });
    let ends = header.await.map_err(|refusal| match refusal {
        Refusal {
            outcome: Outcome::HelloEof,
            detail: None,
            ..
        } => refusal.because("the connection ended in the middle of the PROXY header"),
        other => other,
    });
    if let Some(ends) = ends? {
        connection.introduce(ends);
    }
    Ok(())
}
