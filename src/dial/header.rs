//! Sends the PROXY header to a backend that was reached.

use std::pin::pin;
use std::time::{Duration, Instant};

use super::Unreached;
use crate::net::{Leg, TimeIsUp, until};

/// Sends the header over the connection that won the dial. A new connection has room for it, so this waits for nobody
/// unless the kernel has no memory. If the backend has reset the connection meanwhile, the leg keeps that error for the relay.
pub async fn introduce(leg: Leg, header: Vec<u8>, limit: Duration) -> Result<Leg, Unreached> {
    let sent = until(Instant::now() + limit, pin!(leg.send_all(&header))).await;
    match sent {
        Ok(Ok(()) | Err(_)) => Ok(leg),
        Err(TimeIsUp) => Err(Unreached::Unavailable),
    }
}
