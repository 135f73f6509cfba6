//! A CONNECT request, as clients send it to an HTTP proxy.

use std::pin::pin;

use rustix::io::Errno;

use super::{admit, late};
use crate::conn::connection::Connection;
use crate::conn::hello::gone;
use crate::conn::refuse::Refusal;
use crate::net::{Broken, Leg, Readable, TimeIsUp, until};
use crate::outcome::Outcome;
use crate::relay::Resources;
use crate::wire::{Head, Reply, Target, read_connect};

/// Receives the request, and opens the tunnel if a route takes its target.
pub(super) async fn open(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(), Refusal> {
    let deadline = connection.flow.accepted_at() + connection.snapshot.hello.timeout;
    let request = until(deadline, pin!(whole(client, resources))).await;
    let (target, size) =
        request.unwrap_or_else(|TimeIsUp| Err(late("the CONNECT request is not complete")))?;
    let target = connection.ask(target);
    admit(connection, target)?;
    // Exactly the request: the first byte behind it belongs to the hello.
    let received = client.receive_peeked(&mut resources.buffer.borrow_mut(), size);
    received.map_err(|error| gone(client, size, Some(Broken(error))))?;
    client.send_now(Reply::OPEN);
    Ok(())
}

/// Waits for a whole request.
async fn whole(client: &Leg, resources: &Resources) -> Result<(Target, usize), Refusal> {
    let mut readable: Option<Readable<'_>> = None;
    loop {
        let have = match look(client, resources)? {
            Look::Connect(target, size) => return Ok((target, size)),
            Look::Partial(have) => have,
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

/// What one look at the received bytes showed.
enum Look {
    Connect(Target, usize),
    /// So many bytes are there.
    Partial(usize),
}

/// Peeks and parses, without waiting.
fn look(client: &Leg, resources: &Resources) -> Result<Look, Refusal> {
    let mut buffer = resources.buffer.borrow_mut();
    let peeked = match client.peek(&mut buffer) {
        Ok([]) => return Err(Refusal::client_closed(Outcome::Probe)),
        Ok(peeked) => peeked,
        Err(Errno::AGAIN) => return Ok(Look::Partial(0)),
        Err(error) => return Err(gone(client, 0, Some(Broken(error)))),
    };
    match read_connect(peeked) {
        Head::Connect(target, size) => Ok(Look::Connect(target, size)),
        Head::Partial => Ok(Look::Partial(peeked.len())),
        Head::Invalid(invalid) => Err(Refusal::invalid_request(invalid)),
    }
}
