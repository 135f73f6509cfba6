//! A SOCKS5 greeting and its request.

use super::{admit, receive};
use crate::conn::connection::Connection;
use crate::conn::refuse::Refusal;
use crate::net::Leg;
use crate::relay::Resources;
use crate::wire::{Socks, SocksReply, read_greeting, read_request};

/// Receives both, and opens the tunnel if a route takes the target.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    receive(client, resources, |peeked| message(read_greeting(peeked))).await?;
    client.send_now(SocksReply::Method.bytes());
    let target = receive(client, resources, |peeked| message(read_request(peeked))).await;
    let target = target.map_err(Refusal::after_an_answer)?;
    admit(connection, connection.ask(target))?;
    client.send_now(SocksReply::Succeeded.bytes());
    Ok(())
}

fn message<T>(read: Socks<T>) -> Result<Option<(T, usize)>, Refusal> {
    match read {
        Socks::Whole(message, size) => Ok(Some((message, size))),
        Socks::Partial => Ok(None),
        Socks::Invalid(invalid) => Err(Refusal::invalid_socks(invalid)),
    }
}
