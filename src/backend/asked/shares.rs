//! The share of look-ups that each client has: how many at once, and how many a second.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Look-ups of one client at once.
const AT_ONCE: u32 = 8;
/// Look-ups of one client in a row, before their rate counts.
const BURST: u32 = 100;
/// The time in which a client gets one more: 20 per second.
const PERIOD: Duration = Duration::from_millis(50);
/// Clients with look-ups in the last seconds.
const MOST_CLIENTS: usize = 10_000;

/// Why a name is not looked up. The text is for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The client has too many look-ups at once.
    AtOnce,
    /// The client asks for new names too fast.
    Rate,
    /// Too many clients ask for new names.
    Clients,
    /// Too many new names wait for their turn.
    Queue,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => write!(
                f,
                "the name is not known yet, and {AT_ONCE} other names that this client asked for are being looked up"
            ),
            Self::Rate => {
                let rate = Duration::from_secs(1).as_millis() / PERIOD.as_millis();
                write!(
                    f,
                    "the name is not known yet, and this client has asked for {BURST} new names in a row, and then for \
                     more than {rate} per second"
                )
            }
            Self::Clients => write!(
                f,
                "the name is not known yet, and {MOST_CLIENTS} other clients ask for new names"
            ),
            Self::Queue => {
                f.write_str("the name is not known yet, and too many names wait to be looked up")
            }
        }
    }
}

/// The part of its share that each client has used. A client that has its whole share is not kept.
#[derive(Debug, Default)]
pub(super) struct Shares(Mutex<Clients>);

#[derive(Debug, Default)]
struct Clients {
    by_address: HashMap<IpAddr, Used>,
    /// The size at which those that need not be kept are looked for.
    tidy_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    at_once: u32,
    /// When its whole burst is there again.
    full_at: Instant,
}

/// A look-up of a client, which counts until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
}

impl Shares {
    pub(super) fn take(self: &Arc<Self>, client: IpAddr, now: Instant) -> Result<Share, Denied> {
        let mut clients = self.clients();
        if !clients.by_address.contains_key(&client) {
            clients.make_room(now)?;
        }
        let used = clients.by_address.entry(client).or_insert(Used {
            at_once: 0,
            full_at: now,
        });
        if used.at_once >= AT_ONCE {
            return Err(Denied::AtOnce);
        }
        let full_at = used.full_at.max(now) + PERIOD;
        if full_at > now + PERIOD * BURST {
            return Err(Denied::Rate);
        }
        used.full_at = full_at;
        used.at_once += 1;
        Ok(Share {
            shares: Arc::clone(self),
            client,
        })
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        // A panic cannot leave it half changed, so a poisoned lock can be used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.clients().by_address.len()
    }
}

impl Clients {
    fn make_room(&mut self, now: Instant) -> Result<(), Denied> {
        if self.by_address.len() >= self.tidy_at.min(MOST_CLIENTS) {
            let is_needed = |used: &Used| used.at_once > 0 || used.full_at > now;
            self.by_address.retain(|_, used| is_needed(used));
            self.tidy_at = 64.max(self.by_address.len() * 2);
            self.by_address.shrink_to(self.tidy_at);
        }
        if self.by_address.len() < MOST_CLIENTS {
            Ok(())
        } else {
            Err(Denied::Clients)
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut clients = self.shares.clients();
        if let Some(used) = clients.by_address.get_mut(&self.client) {
            used.at_once = used.at_once.saturating_sub(1);
        }
    }
}
