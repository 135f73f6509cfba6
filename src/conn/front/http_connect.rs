//! A CONNECT request, as clients send it to an HTTP proxy.

use super::{admit, receive};
use crate::conn::connection::Connection;
use crate::conn::refuse::Refusal;
use crate::net::Leg;
use crate::relay::Resources;
use crate::wire::{Head, Reply, read_connect};

/// Receives the request, and opens the tunnel if a route takes its target.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    let request = receive(client, resources, |peeked| match read_connect(peeked) {
        Head::Connect(target, size) => Ok(Some((target, size))),
        Head::Partial => Ok(None),
        Head::Invalid(invalid) => Err(Refusal::invalid_request(invalid)),
    });
    let target = request.await?;
    admit(connection, connection.ask(target))?;
    client.send_now(Reply::OPEN);
    Ok(())
}
