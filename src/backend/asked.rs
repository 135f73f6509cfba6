//! The names that clients ask for at an endpoint `{server_name}`: what is known of each, and who may have a new one
//! looked up. Control answers the look-ups.

mod shares;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::{Endpoint, Target, Way};
use crate::telemetry::EndpointStats;
use crate::tls::ServerName;
pub use shares::Denied;
use shares::{Share, Shares};
use table::{Key, Lanes, MOST_KNOWN, Table};

/// Between two look-ups of a name at least, however many dials fail.
pub const SHORTEST_REFRESH: Duration = Duration::from_secs(1);
/// How long the last answer for a name that was reached is still used at once when it is no longer fresh. After that
/// the client waits for a look-up, and gets the last answer only if that fails.
const LONGEST_STALE: Duration = Duration::from_mins(5);
/// The most look-ups of new names that wait for their turn.
const MOST_WAITING: usize = 1024;

/// The names that clients asked for. Its memory is bounded, whatever they ask for.
pub struct Asked {
    /// The way to each of them.
    way: Way,
    /// The counters of the endpoint that was written: those of all names.
    stats: Arc<EndpointStats>,
    connections: Arc<AtomicU32>,
    table: Mutex<Table>,
    shares: Arc<Shares>,
}

/// The request of a client.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The name that it asks for.
    pub name: &'a ServerName,
    /// The port at which it wants to reach it.
    pub port: u16,
    /// The client in the table of clients: its look-ups count together.
    pub client: IpAddr,
}

/// A name in the table, and whether its answer is there.
pub enum Found {
    /// It can be dialled, or it is known that it cannot.
    Now(Arc<Name>),
    /// It is being looked up.
    Soon(Arc<Name>, watch::Receiver<State>),
}

/// One name at one port.
pub struct Name {
    key: Key,
    endpoint: Arc<Endpoint>,
    state: watch::Sender<State>,
    /// Whether a dial has reached it.
    is_known: AtomicBool,
    /// When it was last asked for, counted in requests.
    used: AtomicU64,
}

/// The state of a name's look-ups.
#[derive(Clone, Copy, Debug)]
pub struct State {
    is_asked: bool,
    /// When the last look-up was asked for.
    asked_at: Instant,
    /// The end of the time for which the last look-up counts, also if it failed.
    fresh_until: Option<Instant>,
}

impl Asked {
    pub(super) fn new(way: Way, stats: Arc<EndpointStats>) -> Self {
        Self {
            way,
            stats,
            connections: Arc::default(),
            table: Mutex::default(),
            shares: Arc::default(),
        }
    }

    /// Begins to have look-ups answered from these two receivers: new names, and those that are known. They end with the
    /// endpoint.
    pub fn serve(&self) -> [mpsc::Receiver<Lookup>; 2] {
        let [new, known] = [MOST_WAITING, MOST_KNOWN].map(mpsc::channel);
        let lanes = Lanes {
            new: new.0,
            known: known.0,
        };
        self.table().lanes = Some(lanes);
        [new.1, known.1]
    }

    /// Lets no answer so far count as fresh after this time. With `None` none of them is used any more before another
    /// look-up has ended.
    pub fn expire(&self, at: Option<Instant>) {
        let table = self.table();
        for name in table.names() {
            name.state.send_if_modified(|state| {
                state.fresh_until = state.fresh_until.min(at);
                false
            });
        }
    }

    /// Finds a name. One that is new or whose answer is out of date is looked up: this fails if too many are.
    pub fn find(&self, port: Option<u16>, wish: &Wish<'_>, now: Instant) -> Result<Found, Denied> {
        let key = (wish.name.clone(), port.unwrap_or(wish.port));
        let mut table = self.table();
        let Some(name) = table.get(&key) else {
            let name = Arc::new(self.name(key, now));
            let answer = name.state.subscribe();
            let share = || self.shares.take(wish.client, now).map(Some);
            table.look_up(&name, now, share)?;
            table.add(Arc::clone(&name));
            return Ok(Found::Soon(name, answer));
        };
        let state = *name.state.borrow();
        if state.is_fresh(now) {
            return Ok(Found::Now(name));
        }
        let is_known = name.is_known.load(Ordering::Relaxed);
        let is_usable = is_known && state.is_recent(now) && !name.endpoint.addresses().is_empty();
        let answer = name.state.subscribe();
        let share = || {
            if is_known {
                return Ok(None);
            }
            self.shares.take(wish.client, now).map(Some)
        };
        match table.look_up(&name, now, share) {
            Err(denied) if !is_usable => return Err(denied),
            Ok(()) | Err(_) => {}
        }
        Ok(if is_usable {
            Found::Now(name)
        } else {
            Found::Soon(name, answer)
        })
    }

    fn name(&self, key: Key, now: Instant) -> Name {
        let target = Target::Name {
            host: key.0.as_str().into(),
            port: key.1,
        };
        let (stats, written) = (Arc::clone(&self.stats), Arc::clone(&self.connections));
        Name {
            key,
            endpoint: Endpoint::of_name((self.way.clone(), target), stats, written, now),
            state: watch::Sender::new(State {
                is_asked: false,
                asked_at: now,
                fresh_until: None,
            }),
            is_known: AtomicBool::new(false),
            used: AtomicU64::new(0),
        }
    }

    /// Notes that a dial has reached the name: from now on it keeps its place beside names that nobody could reach.
    pub fn reached(&self, name: &Arc<Name>) {
        if !name.is_known.swap(true, Ordering::Relaxed) {
            self.table().promote(name);
        }
    }

    /// Notes that a dial of the name failed: its answer may be out of date. A name that was reached before is looked
    /// up at once; others are when a client asks for them again.
    pub fn failed(&self, name: &Arc<Name>, now: Instant) {
        let mut is_due = false;
        name.state.send_if_modified(|state| {
            let again = state.asked_at + SHORTEST_REFRESH;
            // The answer goes out of date now, and not when it was asked for: it is still used meanwhile.
            state.fresh_until = state.fresh_until.min(Some(again.max(now)));
            is_due = !state.is_asked && again <= now;
            false
        });
        if is_due && name.is_known.load(Ordering::Relaxed) {
            // Without a place in the queue it is looked up when a client asks for it again.
            _ = self.table().look_up(name, now, || Ok(None));
        }
    }

    /// The endpoints of all names.
    pub fn endpoints(&self) -> Vec<Arc<Endpoint>> {
        let table = self.table();
        let names = table.names();
        names.map(|name| Arc::clone(&name.endpoint)).collect()
    }

    /// The connections of all names, and their dials in progress.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic cannot leave it half changed, so a poisoned lock can be used.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Name {
    /// The endpoint to dial.
    pub const fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl State {
    /// Whether nobody is asked now.
    pub const fn is_settled(&self) -> bool {
        !self.is_asked
    }

    fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_until.is_some_and(|until| now < until)
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.fresh_until
            .is_some_and(|until| now < until + LONGEST_STALE)
    }
}

/// A look-up that control has to answer. However it ends, those who wait for it go on.
pub struct Lookup {
    name: Arc<Name>,
    fresh_until: Option<Instant>,
    /// The client's share, which others may use once this has ended.
    _share: Option<Share>,
}

impl Lookup {
    fn new(name: &Arc<Name>, share: Option<Share>, now: Instant) -> Self {
        name.state.send_if_modified(|state| {
            state.is_asked = true;
            state.asked_at = now;
            false
        });
        Self {
            name: Arc::clone(name),
            fresh_until: None,
            _share: share,
        }
    }

    /// The endpoint that gets the addresses.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.name.endpoint
    }

    /// Whether a client waits for it, or it refreshes a name that was reached before.
    pub fn is_wanted(&self) -> bool {
        self.name.state.receiver_count() > 0 || self.name.is_known.load(Ordering::Relaxed)
    }

    /// Ends it with an answer, which the endpoint has by now.
    pub fn answered(mut self, fresh_until: Instant) {
        self.fresh_until = Some(fresh_until);
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.name.state.send_modify(|state| {
            state.is_asked = false;
            state.fresh_until = self.fresh_until.or(state.fresh_until);
        });
    }
}
