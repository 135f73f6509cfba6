//! A CONNECT request, as clients send it to an HTTP proxy.

use super::{Gated, admit, answer, no_request, receive};
use crate::conn::connection::Connection;
use crate::conn::refuse::Refusal;
use crate::net::Leg;
use crate::relay::Resources;
use crate::wire::{Head, Reply, read_connect};

/// Receives the request, and opens the tunnel if a route takes its target.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    (resources, gated): (&Resources, Option<&Gated<'_>>),
) -> Result<(), Refusal> {
    let protocol = connection.listener().protocol;
    let request = receive(client, resources, |peeked| match read_connect(peeked) {
        Head::Connect(connect, size) => {
            let login = gated.map(|_| connect.authorization.login()).transpose();
            let login = login.map_err(|why| Refusal::unauthorized(protocol, why))?;
            Ok(Some(((connect.target, login), size)))
        }
        Head::Partial => Ok(None),
        Head::Invalid(invalid) => {
            let refusal = Refusal::invalid_request(invalid);
            Err(no_request(connection, peeked, refusal))
        }
    });
    let (target, login) = request.await?;
    // Before the target is compared with the routes, so that strangers learn nothing of them.
    if let (Some(gated), Some(login)) = (gated, login) {
        gated.check(client, login).await?;
    }
    admit(connection, connection.ask(target))?;
    answer(client, Reply::OPEN).await?;
    Ok(())
}
