//! The messages of a client before its hello: none, or those that name the target of a proxy.

mod http_connect;
mod socks5;

use std::pin::pin;

use rustix::io::Errno;

use super::connection::{Connection, Hello};
use super::hello::{gap, gone};
use super::refuse::Refusal;
use crate::backend::Pool;
use crate::net::{Broken, Leg, Readable, TimeIsUp, until};
use crate::outcome::Outcome;
use crate::relay::Resources;
use crate::wire::{ListenerProtocol, Target};

/// Receives the messages of the client before its hello, to their last byte and no further, and answers it. After this the
/// connection has its target, and the hello comes next.
///
/// It shares the time limit of the hello.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    let deadline = connection.flow.accepted_at() + connection.snapshot.hello.timeout;
    let (opened, what) = match connection.listener().protocol {
        ListenerProtocol::Tls => return Ok(()),
        ListenerProtocol::HttpConnect => {
            let front = http_connect::open(client, connection, resources);
            (until(deadline, pin!(front)).await, "the CONNECT request")
        }
        ListenerProtocol::Socks5 => {
            let front = socks5::open(client, connection, resources);
            (until(deadline, pin!(front)).await, "the SOCKS5 request")
        }
    };
    opened.unwrap_or_else(|TimeIsUp| Err(late(client, what, resources)))
}

/// The message is not complete at its time limit.
fn late(client: &Leg, what: &str, resources: &Resources) -> Refusal {
    let have = (client.peek(&mut resources.buffer.borrow_mut())).map_or(0, <[u8]>::len);
    let lost = gap(client, have).map_or_else(String::new, |words| format!("; {words}"));
    let detail = format!("{what} is not complete after {have} bytes{lost}");
    Refusal::fin(Outcome::HelloTimeout).because(detail)
}

/// Waits for a whole message, as `read` judges it by the bytes that are there, and receives it: the byte behind it
/// belongs to what comes next.
async fn receive<T>(
    client: &Leg,
    resources: &Resources,
    read: impl Fn(&[u8]) -> Result<Option<(T, usize)>, Refusal>,
) -> Result<T, Refusal> {
    let mut readable: Option<Readable<'_>> = None;
    loop {
        let have = {
            let mut buffer = resources.buffer.borrow_mut();
            let peeked = match client.peek(&mut buffer) {
                Ok([]) => return Err(Refusal::client_closed(Outcome::Probe)),
                Ok(peeked) => peeked,
                Err(Errno::AGAIN) => &[],
                Err(error) => return Err(gone(client, 0, Some(Broken(error)))),
            };
            if let Some((message, size)) = read(peeked)? {
                let received = client.receive_peeked(&mut buffer, size);
                received.map_err(|error| gone(client, size, Some(Broken(error))))?;
                return Ok(message);
            }
            peeked.len()
        };
        if let Some(readable) = readable.take() {
            if readable.is_closed() {
                return Err(gone(client, have, client.error()));
            }
            readable.wait_for_more();
        }
        readable = Some(client.readable().await?);
    }
}

/// Refuses a target that no route takes, before the client hears that it may go on. Its hello may yet choose another
/// route than one of these, by ALPN.
fn admit(connection: &Connection, target: &Target) -> Result<(), Refusal> {
    let query = connection.query(None);
    let snapshot = &connection.snapshot;
    let mut takers = snapshot.takers(&query).peekable();
    if takers.peek().is_none() {
        let miss = snapshot.routes.miss(&query);
        return Err(Refusal::target_missed(connection.listener().protocol, miss));
    }
    match target.address() {
        Some(address) if !takers.any(|routed| routed.backend.pool.may_have(address)) => Err(
            Refusal::not_an_address(connection.listener().protocol, address),
        ),
        _ => Ok(()),
    }
}

/// The end of a connection before its hello: a client that has named its target is not a balancer's check.
pub(super) fn ended(connection: &Connection, refusal: Refusal) -> Refusal {
    match connection.target() {
        Some(_) => refusal.after_an_answer(),
        None => refusal,
    }
}

/// Refuses a hello that is not for the target.
pub(super) fn agree(connection: &Connection, hello: &Hello) -> Result<(), Refusal> {
    let Some(target) = connection.target() else {
        return Ok(());
    };
    let name = hello.server_name.as_ref();
    if target.name() == name {
        return Ok(());
    }
    let name = name.map_or_else(
        || "has no server name".to_owned(),
        |name| format!("has the server name {name}"),
    );
    let detail = format!("the client asked for {target}, and its hello {name}");
    Err(Refusal::name_mismatch().because(detail))
}

/// Refuses a target that is an address which the backend of the route does not have: its certificate holds for
/// no other. The dial reports a name of the backend that has not led to an address yet.
pub(super) fn reaches(connection: &Connection, pool: &Pool) -> Result<(), Refusal> {
    match connection.target().and_then(Target::address) {
        // The tunnel is open, so the client understands alerts only.
        Some(address) if !pool.may_have(address) => {
            Err(Refusal::not_an_address(ListenerProtocol::Tls, address))
        }
        _ => Ok(()),
    }
}
