//! The messages before a hello: none, or the PROXY header of a balancer, and those that name the target of a proxy.

mod http_connect;
mod proxy_header;
mod socks5;

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;

use super::connection::{Connection, Hello};
use super::hello::{gap, gone};
use super::refuse::Refusal;
use crate::backend::Pool;
use crate::credentials::Gate;
use crate::net::{Broken, Leg, Readable, TimeIsUp, until};
use crate::outcome::Outcome;
use crate::relay::Resources;
use crate::tls::{Protocol, Rejection};
use crate::wire::{ListenerProtocol, Login, ProxyVersion, Target, Unauthorized};

/// Receives the PROXY header, to its last byte and no further, if a balancer has opened the connection. After this the
/// address of the client is known.
///
/// It shares the time limit of the hello.
pub(super) async fn introduce(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    if !connection.is_from_balancer() {
        return Ok(());
    }
    let header = proxy_header::open(client, connection, resources);
    let opened = until(deadline(connection), pin!(header)).await;
    opened.unwrap_or_else(|TimeIsUp| Err(late(client, "the PROXY header", resources)))
}

fn deadline(connection: &Connection) -> Instant {
    connection.flow.accepted_at() + connection.snapshot.hello.timeout
}

/// Receives the messages of the client before its hello, to their last byte and no further, and answers it. After this the
/// connection has its target, and the hello comes next.
///
/// It shares the time limit of the hello.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    let listener = connection.listener();
    let deadline = deadline(connection);
    let gated = listener.gate.as_ref().map(|gate| Gated {
        gate,
        connection,
        resources,
        is_checking: Cell::new(false),
    });
    let gated = gated.as_ref();
    let (opened, what) = match listener.protocol {
        ListenerProtocol::Tls => return Ok(()),
        ListenerProtocol::HttpConnect => {
            let front = http_connect::open(client, connection, (resources, gated));
            (until(deadline, pin!(front)).await, "the CONNECT request")
        }
        ListenerProtocol::Socks5 => {
            let front = socks5::open(client, connection, (resources, gated));
            (until(deadline, pin!(front)).await, "the SOCKS5 request")
        }
    };
    opened.unwrap_or_else(|TimeIsUp| {
        Err(if gated.is_some_and(|gated| gated.is_checking.get()) {
            Refusal::unauthorized(listener.protocol, Unauthorized::Unchecked)
        } else {
            late(client, what, resources)
        })
    })
}

/// The message is not complete at its time limit.
fn late(client: &Leg, what: &str, resources: &Resources) -> Refusal {
    let have = (client.peek(&mut resources.buffer.borrow_mut())).map_or(0, <[u8]>::len);
    let lost = gap(client, have).map_or_else(String::new, |words| format!("; {words}"));
    let detail = format!("{what} is not complete after {have} bytes{lost}");
    Refusal::fin(Outcome::HelloTimeout).because(detail)
}

/// The gate of a listener, and the connection before it.
struct Gated<'c> {
    gate: &'c Arc<Gate>,
    connection: &'c Connection,
    resources: &'c Resources,
    /// Whether the client waits for portway, and not portway for the client.
    is_checking: Cell<bool>,
}

impl Gated<'_> {
    /// Waits until another thread has checked the user and password, unless the client goes away meanwhile.
    async fn check(&self, client: &Leg, login: Login) -> Result<(), Refusal> {
        self.is_checking.set(true);
        let checked = tokio::select! {
            biased;
            checked = self.gate.check(self.connection.client_key(), login) => checked,
            gone = left(client, self.resources) => return Err(gone),
        };
        self.is_checking.set(false);
        let protocol = self.connection.listener().protocol;
        checked.map_err(|why| Refusal::unauthorized(protocol, why))
    }
}

/// Waits until the client has gone away. One that has closed its direction counts as gone, also behind bytes that it has
/// sent ahead: otherwise a stranger could leave checks behind that nobody awaits.
async fn left(client: &Leg, resources: &Resources) -> Refusal {
    loop {
        let readable = match client.readable().await {
            Ok(readable) => readable,
            Err(error) => return error.into(),
        };
        let is_closed = readable.is_closed();
        let is_ahead = matches!(client.peek(&mut resources.buffer.borrow_mut()), Ok([_, ..]));
        if is_ahead {
            // The relay receives these bytes next, so the leg must stay readable.
            return match client.closed().await {
                Some(broken) => Refusal::client_lost(client, broken),
                None => gone(client, 1, None),
            };
        }
        if is_closed {
            return gone(client, 1, client.error());
        }
        readable.wait_for_more();
    }
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

/// Sends the whole answer.
async fn answer(client: &Leg, bytes: &[u8]) -> Result<(), Refusal> {
    let sent = client.send_all(bytes).await;
    sent.map_err(|broken| gone(client, 0, Some(broken)).after_an_answer())
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

/// The bytes in place of a hello. A client in a tunnel was right to speak to a proxy: to say there that portway is none
/// would mislead it.
pub(super) fn no_hello(connection: &Connection, rejection: Rejection) -> Refusal {
    let Rejection::NotTls(protocol) = rejection else {
        return rejection.into();
    };
    let is_in_tunnel = connection.target().is_some();
    let detail = if protocol.is_of_a_balancer() && is_in_tunnel {
        "a PROXY header came in the tunnel, behind the request to the proxy: turn it off at the client of this proxy; if \
         that is a portway, remove its send_proxy_protocol"
    } else if protocol.is_of_a_balancer() && connection.is_from_balancer() {
        "a second PROXY header came behind the one that portway had read: balancers in a row send one each, so turn it off \
         at all but one of them"
    } else if protocol.is_to_a_proxy() && is_in_tunnel {
        "another request to a proxy came behind the one that portway had answered, and no TLS hello"
    } else {
        return rejection.into();
    };
    Refusal::fin(Outcome::NotTls).because(detail)
}

/// The bytes in place of a request to a proxy, which `refusal` says something about.
fn no_request(connection: &Connection, peeked: &[u8], refusal: Refusal) -> Refusal {
    match ProxyVersion::of(peeked) {
        Some(ProxyVersion::V1) => no_hello(connection, Rejection::NotTls(Protocol::ProxyV1)),
        Some(ProxyVersion::V2) => no_hello(connection, Rejection::NotTls(Protocol::ProxyV2)),
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
