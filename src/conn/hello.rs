//! Peeks the client hello, without consuming a byte.

use std::pin::pin;

use rustix::io::Errno;

use super::connection::{Connection, Hello};
use super::front;
use super::refuse::Refusal;
use crate::net::{Broken, Leg, Readable, TimeIsUp, set_receive_low_water_mark, until};
use crate::outcome::Outcome;
use crate::relay::{Digest, Micros, Resources};
use crate::tls::{Progress, ServerName, read_hello};

/// The result of one look at the received bytes.
enum Look {
    /// With the digest of its bytes.
    Hello(Hello, Digest),
    /// `have` bytes have arrived, and `total` are needed to go on.
    Partial { have: usize, total: usize },
}

/// Waits for a whole hello, within its time limit.
///
/// A successful peek does not clear readiness, so this clears it by hand. `SO_RCVLOWAT` is set to the
/// length that is needed, so a single byte wakes nobody: a slow hello costs a wake-up per record, not per byte.
pub(super) async fn peek(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(Hello, Digest), Refusal> {
    let limits = &connection.snapshot.hello;
    let deadline = connection.flow.accepted_at() + limits.timeout;
    let hello = until(deadline, pin!(whole(client, connection, resources))).await;
    hello.unwrap_or_else(|TimeIsUp| {
        // Look again: bytes below the low water mark have not woken this task.
        let Ok(Look::Partial { have, total }) = look(client, connection, resources) else {
            return Err(Refusal::fin(Outcome::HelloTimeout));
        };
        connection.partial_hello(have, total);
        let late = Refusal::fin(Outcome::HelloTimeout);
        Err(match gap(client, have) {
            Some(words) => late.because(words),
            None => late,
        })
    })
}

async fn whole(
    client: &Leg,
    connection: &Connection,
    resources: &Resources,
) -> Result<(Hello, Digest), Refusal> {
    let mut low_water_mark = 1;
    let mut readable: Option<Readable<'_>> = None;
    loop {
        match look(client, connection, resources)? {
            Look::Hello(hello, digest) => {
                // If it stayed above 1, the last bytes of a relay would never wake it.
                if low_water_mark > 1 {
                    set_receive_low_water_mark(client, 1)?;
                }
                return Ok((hello, digest));
            }
            Look::Partial { have, total } => {
                connection.partial_hello(have, total);
                if readable.as_ref().is_some_and(Readable::is_closed) {
                    return Err(gone(client, have, client.error()));
                }
                if have > 0 && total != low_water_mark {
                    low_water_mark = total;
                    set_receive_low_water_mark(client, total)?;
                }
            }
        }
        if let Some(readable) = readable.take() {
            readable.wait_for_more();
        }
        readable = Some(client.readable().await?);
    }
}

/// Peeks and parses, without waiting.
fn look(client: &Leg, connection: &Connection, resources: &Resources) -> Result<Look, Refusal> {
    let mut buffer = resources.buffer.borrow_mut();
    let mut scratch = resources.scratch.borrow_mut();
    let peeked = match client.peek(&mut buffer) {
        Ok([]) => return Err(Refusal::client_closed(Outcome::Probe)),
        Ok(peeked) => peeked,
        Err(Errno::AGAIN) => return Ok(Look::Partial { have: 0, total: 1 }),
        Err(error) => return Err(gone(client, 0, Some(Broken(error)))),
    };
    let hello = match read_hello(peeked, connection.snapshot.hello.max_size, &mut scratch) {
        Progress::Hello(hello) => hello,
        Progress::NeedMore { total } => {
            return Ok(Look::Partial {
                have: peeked.len(),
                total,
            });
        }
        Progress::Rejected(rejection) => return Err(front::no_hello(connection, rejection)),
    };
    let server_name = match hello.server_name {
        Some(name) => Some(ServerName::parse(name).map_err(|e| Refusal::invalid_name(name, e))?),
        None => None,
    };
    let digest = resources
        .hellos
        .digest(peeked.get(..hello.size).unwrap_or(peeked));
    let hello = Hello {
        server_name,
        alpn: hello.alpn.head().into(),
        version: hello.version,
        after: Micros::new(connection.flow.accepted_at().elapsed()),
    };
    Ok(Look::Hello(hello, digest))
}

/// The client is gone and has sent so many bytes of a hello: it has closed or reset, or no longer answers.
pub(super) fn gone(client: &Leg, have: usize, broken: Option<Broken>) -> Refusal {
    if let Some(broken) = broken.filter(|broken| !broken.is_reset()) {
        let Broken(error) = broken;
        return match client.given_up(broken) {
            Some(how) => Refusal::fin(Outcome::HelloEof).because(format!("the client {how}")),
            None => std::io::Error::from(error).into(),
        };
    }
    match gap(client, have) {
        Some(words) => Refusal::client_closed(Outcome::HelloEof).because(words),
        None if have == 0 => Refusal::client_closed(Outcome::Probe),
        None => Refusal::client_closed(Outcome::HelloEof),
    }
}

/// Says in words if later packets of a hello have arrived and an earlier one is missing. This is the sign of a path
/// that loses large packets: the first packet of a hello is full, and the last one is small.
pub(super) fn gap(client: &Leg, have: usize) -> Option<&'static str> {
    match (client.out_of_order(), have) {
        (0, _) => None,
        (_, 0) => Some(
            "later packets of the client arrived, but its first one did not: the path loses large packets (MTU)",
        ),
        // The kernel also counts gaps that were filled later.
        _ => Some(
            "packets of the client arrived out of order: the path may lose large packets (MTU)",
        ),
    }
}
