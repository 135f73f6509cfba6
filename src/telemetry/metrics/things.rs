//! The things of routes.toml that are counted, for as long as they are configured or in use.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exporter::Thing;
use super::stats::{BackendStats, Counter, Endings, EndpointStats, ListenerStats, NO_BACKEND};

/// How long series stay after their thing is neither configured nor in use. It is longer than a scraper or
/// an alert looks back by default.
pub(super) const GRACE: Duration = Duration::from_mins(5);

/// The name of a listener, and that of a backend if there is one.
pub(super) type EndingsKey = (Box<str>, Option<Box<str>>);

/// All things that are counted.
#[derive(Default)]
pub(super) struct Things {
    /// The number of the newest configuration.
    configuration: u64,
    /// The configuration after which every unused thing has been removed: there is nothing to do until the next.
    settled: u64,
    pub(super) listeners: Kept<Box<str>, ListenerStats>,
    /// By listener, then by backend.
    pub(super) endings: Kept<EndingsKey, Endings>,
    pub(super) routes: Kept<Box<str>, Counter>,
    pub(super) backends: Kept<Box<str>, BackendStats>,
    pub(super) endpoints: Kept<(Box<str>, Box<str>), EndpointStats>,
    /// By listener.
    forgotten: BTreeMap<Box<str>, Forgotten>,
}

/// Stats by the name of their thing.
pub(super) struct Kept<K, T>(BTreeMap<K, Entry<T>>);

struct Entry<T> {
    stats: Arc<T>,
    /// The last configuration that contained it.
    configuration: u64,
    /// Since when it is neither configured nor in use.
    unused: Option<Instant>,
}

/// Endings of a listener whose series have ended.
#[derive(Default)]
struct Forgotten {
    count: u64,
    /// Endings that a snapshot still refers to: a connection of that snapshot may still end and be counted.
    held: Vec<Arc<Endings>>,
}

impl Things {
    /// Begins a new configuration, which asks for its things after this call.
    pub(super) fn configure(&mut self) {
        self.configuration += 1;
    }

    /// The number of the configuration that asks for things now.
    pub(super) const fn configuration(&self) -> u64 {
        self.configuration
    }

    /// Connections of a listener whose series have ended.
    pub(super) fn forgotten(&self, listener: &str) -> u64 {
        let forgotten = self.forgotten.get(listener);
        forgotten.map_or(0, |forgotten| {
            let held = forgotten.held.iter().map(|endings| endings.ended());
            forgotten.count + held.sum::<u64>()
        })
    }

    /// Connections that have ended, by listener.
    pub(super) fn ended(&self) -> HashMap<&str, u64> {
        let mut ended: HashMap<&str, u64> = HashMap::new();
        for ((listener, _), endings) in self.endings.iter() {
            *ended.entry(listener).or_default() += endings.ended();
        }
        for listener in self.forgotten.keys() {
            *ended.entry(listener).or_default() += self.forgotten(listener);
        }
        ended
    }

    /// Removes the things that were neither configured nor in use for [`GRACE`], and returns them.
    pub(super) fn end_unused(&mut self, now: Instant) -> HashSet<Thing> {
        if self.settled == self.configuration {
            return HashSet::new();
        }
        let open = self.open_listeners();
        let busy = self.busy_backends();
        let at = (self.configuration, now);
        let mut things = HashSet::new();
        for ((listener, backend), endings) in (self.endings)
            .end_unused(at, |(_, backend), endings| {
                backend.is_none() || endings.open() > 0
            })
        {
            let backend = backend.as_deref().unwrap_or(NO_BACKEND);
            things.insert(Thing::new(&[("listener", &listener), ("backend", backend)]));
            self.forgotten
                .entry(listener)
                .or_default()
                .held
                .push(endings);
        }
        for (listener, _) in (self.listeners).end_unused(at, |name, _| open.contains(name)) {
            things.insert(Thing::new(&[("listener", &listener)]));
            for (_, backend) in self.endings.remove_if(|(of, _)| *of == listener) {
                let backend = backend.as_deref().unwrap_or(NO_BACKEND);
                things.insert(Thing::new(&[("listener", &listener), ("backend", backend)]));
            }
            self.forgotten.remove(&listener);
        }
        for (route, _) in self.routes.end_unused(at, |_, _| false) {
            things.insert(Thing::new(&[("route", &route)]));
        }
        for (backend, _) in (self.backends).end_unused(at, |name, _| busy.contains(name)) {
            things.insert(Thing::new(&[("backend", &backend)]));
        }
        for ((backend, endpoint), _) in
            (self.endpoints).end_unused(at, |_, endpoint| endpoint.connections() > 0)
        {
            things.insert(Thing::new(&[
                ("backend", &backend),
                ("endpoint", &endpoint),
            ]));
        }
        self.fold();
        if self.is_settled() {
            self.settled = self.configuration;
        }
        things
    }

    /// Adds up the endings that no snapshot refers to any more, and drops them.
    fn fold(&mut self) {
        for Forgotten { count, held } in self.forgotten.values_mut() {
            let gone = held.extract_if(.., |endings| Arc::strong_count(endings) == 1);
            *count += gone.map(|endings| endings.ended()).sum::<u64>();
        }
    }

    /// The number of things.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        let [listeners, routes] = [self.listeners.iter().count(), self.routes.iter().count()];
        let [backends, endpoints] = [self.backends.iter().count(), self.endpoints.iter().count()];
        listeners + self.endings.iter().count() + routes + backends + endpoints
    }

    /// The number of endings that are only held for snapshots.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let forgotten = self.forgotten.values();
        forgotten.map(|forgotten| forgotten.held.len()).sum()
    }

    fn is_settled(&self) -> bool {
        let all = self.configuration;
        let held = self
            .forgotten
            .values()
            .any(|forgotten| !forgotten.held.is_empty());
        !held
            && self.listeners.are_of(all)
            && self.endings.are_of(all)
            && self.routes.are_of(all)
            && self.backends.are_of(all)
            && self.endpoints.are_of(all)
    }

    /// Listeners that have an open connection.
    fn open_listeners(&self) -> BTreeSet<Box<str>> {
        let ended = self.ended();
        let ended = |name: &str| ended.get(name).copied().unwrap_or(0);
        let listeners = self.listeners.iter();
        let open = listeners.filter(|(name, stats)| ended(name) < stats.accepted.get());
        open.map(|(name, _)| name.clone()).collect()
    }

    /// Backends that have an open connection.
    fn busy_backends(&self) -> BTreeSet<Box<str>> {
        let endings = self.endings.iter();
        let busy = endings.filter(|(_, endings)| endings.open() > 0);
        busy.filter_map(|((_, backend), _)| backend.clone())
            .collect()
    }
}

impl<K, T> Default for Kept<K, T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, T> Kept<K, T> {
    /// The stats of a thing that `configuration` contains.
    pub(super) fn get(&mut self, key: K, configuration: u64, new: impl FnOnce() -> T) -> Arc<T> {
        let entry = self.0.entry(key).or_insert_with(|| Entry {
            stats: Arc::new(new()),
            configuration,
            unused: None,
        });
        entry.configuration = configuration;
        entry.unused = None;
        Arc::clone(&entry.stats)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &Arc<T>)> {
        self.0.iter().map(|(key, entry)| (key, &entry.stats))
    }

    fn end_unused(
        &mut self,
        (configuration, now): (u64, Instant),
        is_in_use: impl Fn(&K, &T) -> bool,
    ) -> Vec<(K, Arc<T>)> {
        let is_over = |key: &K, entry: &mut Entry<T>| {
            if entry.configuration == configuration || is_in_use(key, &entry.stats) {
                entry.unused = None;
                return false;
            }
            let since = *entry.unused.get_or_insert(now);
            now.saturating_duration_since(since) >= GRACE
        };
        let over = self.0.extract_if(.., is_over);
        over.map(|(key, entry)| (key, entry.stats)).collect()
    }

    fn remove_if(&mut self, is_over: impl Fn(&K) -> bool) -> Vec<K> {
        let over = self.0.extract_if(.., |key, _| is_over(key));
        over.map(|(key, _)| key).collect()
    }

    fn are_of(&self, configuration: u64) -> bool {
        let mut entries = self.0.values();
        entries.all(|entry| entry.configuration == configuration)
    }
}
