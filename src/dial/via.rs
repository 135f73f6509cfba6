//! Opens a tunnel to an endpoint through the proxy of the site.

use std::io;

use rustix::io::Errno;

use crate::backend::{Target, Via};
use crate::net::{Broken, Leg, Readable};
use crate::relay::Resources;
use crate::wire::{Answer, FarEnd, Refused, Step};

/// Why there is no tunnel.
#[derive(Debug)]
pub(super) enum Failed {
    /// The proxy has answered something else than success.
    Refused(Refused),
    /// The proxy has closed before its answer was whole.
    Closed,
    /// A system call failed.
    Io(io::Error),
}

impl From<Broken> for Failed {
    fn from(Broken(error): Broken) -> Self {
        Self::Io(error.into())
    }
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Opens a tunnel over a leg that is connected to the proxy. Its answers are received to their last byte and no further:
/// the endpoint may speak first. The caller bounds the time, and knows the name that the client asked for.
pub(super) async fn open(
    leg: &Leg,
    via: &Via,
    endpoint: &Target,
    resources: &Resources,
) -> Result<(), Failed> {
    let end = match endpoint {
        Target::Address(address) => FarEnd::Address(*address),
        Target::Name { host, port } => FarEnd::Name(host, *port),
        Target::Asked { .. } => return Err(Errno::INVAL.into()),
    };
    let mut step = Step::first(via.protocol());
    loop {
        leg.send_all(&step.message(end, via.login())).await?;
        match receive(leg, via, step, resources).await? {
            Some(next) => step = next,
            None => return Ok(()),
        }
    }
}

/// Waits for the answer to a step, and receives it. `None`: the tunnel is open.
async fn receive(
    leg: &Leg,
    via: &Via,
    step: Step,
    resources: &Resources,
) -> Result<Option<Step>, Failed> {
    let mut readable: Option<Readable<'_>> = None;
    loop {
        {
            let mut buffer = resources.buffer.borrow_mut();
            let peeked = match leg.peek(&mut buffer) {
                Ok([]) => return Err(Failed::Closed),
                Ok(peeked) => peeked,
                Err(Errno::AGAIN) => &[],
                Err(error) => return Err(error.into()),
            };
            match step.read(peeked, via.login()) {
                Answer::Whole(next, size) => {
                    leg.receive_peeked(&mut buffer, size)?;
                    return Ok(next);
                }
                Answer::Refused(refused) => return Err(Failed::Refused(refused)),
                Answer::Partial => {}
            }
        }
        if let Some(readable) = readable.take() {
            if readable.is_closed() {
                return Err(Failed::Closed);
            }
            readable.wait_for_more();
        }
        readable = Some(leg.readable().await.map_err(Failed::Io)?);
    }
}
