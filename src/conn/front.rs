//! What a client says before its hello: nothing, or the target that it wants a proxy to connect to.

mod http_connect;

use super::connection::{Connection, Hello};
use super::refuse::Refusal;
use crate::backend::Pool;
use crate::net::Leg;
use crate::outcome::Outcome;
use crate::relay::Resources;
use crate::wire::{Host, ListenerProtocol, Target};

/// Receives what the client says before its hello, to its last byte and no further, and answers it. After this the
/// connection has its target, and the hello comes next.
///
/// It shares the time limit of the hello.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    match connection.listener().protocol {
        ListenerProtocol::Tls => Ok(()),
        ListenerProtocol::HttpConnect => http_connect::open(client, connection, resources).await,
    }
}

/// Refuses a target that no route takes, before the client hears that it may go on. Its hello may yet choose another
/// route than one of these, by ALPN.
fn admit(connection: &Connection, target: &Target) -> Result<(), Refusal> {
    let query = connection.query(None);
    let snapshot = &connection.snapshot;
    let mut takers = snapshot.takers(&query).peekable();
    if takers.peek().is_none() {
        let miss = snapshot.routes.find(&query).err();
        return Err(Refusal::target_missed(miss));
    }
    if takers.any(|routed| leads_to(&routed.backend.pool, target)) {
        Ok(())
    } else {
        Err(Refusal::not_an_address(target))
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

/// Refuses a target that is an address which the backend of the route does not have.
pub(super) fn reaches(connection: &Connection, pool: &Pool) -> Result<(), Refusal> {
    match connection.target() {
        Some(target) if !leads_to(pool, target) => Err(Refusal::not_an_address(target).in_tunnel()),
        _ => Ok(()),
    }
}

/// A name is routed; an address must be one of the backend's, because its certificate holds for no other.
fn leads_to(pool: &Pool, target: &Target) -> bool {
    match target.host {
        Host::Name(_) => true,
        Host::Address(_) => target.address().is_some_and(|address| pool.has(address)),
    }
}

/// The client closed, or did not send the whole front in time.
fn late(what: &'static str) -> Refusal {
    Refusal::fin(Outcome::HelloTimeout).because(what)
}
