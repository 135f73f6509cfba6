//! Finds the backends that the connections of a listener can reach.

use std::collections::{BTreeSet, HashMap};

use super::Route;

/// Pairs of a listener and a backend that a route joins. Backends have their positions in the settings.
#[derive(Debug, Default)]
pub struct Joins<'r> {
    /// Backends of routes that take any listener.
    any: BTreeSet<usize>,
    /// Backends of routes that name their listeners, without those above.
    named: HashMap<&'r str, BTreeSet<usize>>,
}

impl<'r> Joins<'r> {
    pub(super) fn new(routes: &'r [Route]) -> Self {
        let takes_any = |route: &&Route| route.listeners.is_empty();
        let any = routes.iter().filter(takes_any);
        let mut joins = Self {
            any: any.map(|route| route.backend).collect(),
            named: HashMap::new(),
        };
        for route in routes {
            if joins.any.contains(&route.backend) {
                continue;
            }
            for listener in &route.listeners {
                let backends = joins.named.entry(&**listener);
                backends.or_default().insert(route.backend);
            }
        }
        joins
    }

    /// How many backends connections of the listener can reach.
    pub fn count(&self, listener: &str) -> usize {
        let named = self.named.get(listener);
        self.any.len() + named.map_or(0, BTreeSet::len)
    }

    /// The backends that connections of the listener can reach.
    pub fn backends(&self, listener: &str) -> impl Iterator<Item = usize> {
        let named = self.named.get(listener).into_iter().flatten();
        self.any.iter().chain(named).copied()
    }
}
