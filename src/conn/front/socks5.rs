//! A SOCKS5 greeting and its request, and user and password between them.

use super::{Gated, admit, answer, no_request, receive};
use crate::conn::connection::Connection;
use crate::conn::refuse::Refusal;
use crate::net::Leg;
use crate::relay::Resources;
use crate::wire::{
    InvalidSocks, Method, Socks, SocksReply, Unauthorized, read_greeting, read_login, read_request,
};

/// Receives both, with user and password between them if the listener asks for them, and opens the tunnel if a route
/// takes the target.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    (resources, gated): (&Resources, Option<&Gated<'_>>),
) -> Result<(), Refusal> {
    let method = gated.map_or(Method::None, |_| Method::Login);
    let greeting = receive(client, resources, |peeked| {
        match read_greeting(peeked, method) {
            Socks::Invalid(InvalidSocks::NoMethod) if gated.is_some() => {
                let protocol = connection.listener().protocol;
                Err(Refusal::unauthorized(protocol, Unauthorized::Missing))
            }
            greeting @ (Socks::Partial | Socks::Whole(..) | Socks::Invalid(_)) => {
                message(greeting).map_err(|refusal| no_request(connection, peeked, refusal))
            }
        }
    });
    greeting.await?;
    answer(client, method.reply().bytes()).await?;
    if let Some(gated) = gated {
        let login = receive(client, resources, |peeked| message(read_login(peeked))).await;
        let login = login.map_err(Refusal::after_an_answer)?;
        gated.check(client, login).await?;
        answer(client, SocksReply::LoginAccepted.bytes()).await?;
    }
    let target = receive(client, resources, |peeked| message(read_request(peeked))).await;
    let target = target.map_err(Refusal::after_an_answer)?;
    admit(connection, connection.ask(target))?;
    answer(client, SocksReply::Succeeded.bytes()).await?;
    Ok(())
}

fn message<T>(read: Socks<T>) -> Result<Option<(T, usize)>, Refusal> {
    match read {
        Socks::Whole(message, size) => Ok(Some((message, size))),
        Socks::Partial => Ok(None),
        Socks::Invalid(invalid) => Err(Refusal::invalid_socks(invalid)),
    }
}
