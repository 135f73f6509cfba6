//! The table of names. Those that were never reached have a part of their own, so they push out none that was.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::shares::{Denied, Share};
use super::{Lookup, Name};
use crate::tls::ServerName;

/// The most names that were reached.
pub(super) const MOST_KNOWN: usize = 7500;
/// The most names that were not.
pub(super) const MOST_NEW: usize = 2500;

pub(super) type Key = (ServerName, u16);

/// The queues of look-ups.
pub(super) struct Lanes {
    pub(super) new: mpsc::Sender<Lookup>,
    /// Names that were reached: they do not wait behind those that somebody may have invented.
    pub(super) known: mpsc::Sender<Lookup>,
}

#[derive(Default)]
pub(super) struct Table {
    new: HashMap<Key, Arc<Name>>,
    /// The keys of `new`, the oldest first.
    order: VecDeque<Key>,
    known: HashMap<Key, Arc<Name>>,
    pub(super) lanes: Option<Lanes>,
    /// How often a name was asked for.
    uses: u64,
}

impl Table {
    pub(super) fn get(&mut self, key: &Key) -> Option<Arc<Name>> {
        let name = self.known.get(key).or_else(|| self.new.get(key))?;
        self.uses += 1;
        name.used.store(self.uses, Ordering::Relaxed);
        Some(Arc::clone(name))
    }

    /// Adds a name that was never reached, in place of the oldest such one if there is no room.
    pub(super) fn add(&mut self, name: Arc<Name>) {
        if self.new.len() >= MOST_NEW
            && let Some(oldest) = self.order.pop_front()
        {
            self.new.remove(&oldest);
        }
        self.uses += 1;
        name.used.store(self.uses, Ordering::Relaxed);
        self.order.push_back(name.key.clone());
        self.new.insert(name.key.clone(), name);
    }

    /// Moves a name that was reached to those that were, in place of the one that was unused for longest if there is no
    /// room. One with connections stays if there is another.
    pub(super) fn promote(&mut self, name: &Arc<Name>) {
        let here = self.new.get(&name.key);
        if here.is_none_or(|here| !Arc::ptr_eq(here, name)) {
            return;
        }
        self.new.remove(&name.key);
        self.order.retain(|key| *key != name.key);
        if self.known.len() >= MOST_KNOWN {
            let rank = |name: &Arc<Name>| {
                let is_in_use = name.endpoint.connections() > 0;
                (is_in_use, name.used.load(Ordering::Relaxed))
            };
            let least = self.known.iter().min_by_key(|(_, name)| rank(name));
            if let Some(key) = least.map(|(key, _)| key.clone()) {
                self.known.remove(&key);
            }
        }
        self.known.insert(name.key.clone(), Arc::clone(name));
    }

    /// Puts a look-up into its queue, unless the name is being looked up. Without a queue it ends at once. A share is
    /// taken only if the queue has a place.
    pub(super) fn look_up(
        &self,
        name: &Arc<Name>,
        now: Instant,
        share: impl FnOnce() -> Result<Option<Share>, Denied>,
    ) -> Result<(), Denied> {
        let Some(lanes) = &self.lanes else {
            return Ok(());
        };
        if !name.state.borrow().is_settled() {
            return Ok(());
        }
        let lane = if name.is_known.load(Ordering::Relaxed) {
            &lanes.known
        } else {
            &lanes.new
        };
        match lane.try_reserve() {
            Ok(place) => place.send(Lookup::new(name, share()?, now)),
            Err(TrySendError::Full(())) => return Err(Denied::Queue),
            Err(TrySendError::Closed(())) => {}
        }
        Ok(())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<Name>> {
        self.known.values().chain(self.new.values())
    }
}
