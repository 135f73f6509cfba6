//! Finds routes that match one connection with the same precedence, without comparing every pair.

use std::collections::HashMap;
use std::hash::Hash;

use ipnet::IpNet;

use super::Route;
use super::sets::Set;

/// For each group of routes that share a pattern, returns every route that ties with an earlier one, after the
/// first such earlier route. Each pair comes with the position of its group.
///
/// Each value of a route (a pattern or a condition) costs a walk over the earlier routes that also have it, 64 in
/// one step. So a file takes at most as many steps as it has values, times a 64th of its routes.
pub(super) fn ties(groups: &[&Set], routes: &[Route]) -> Vec<(usize, [usize; 2])> {
    let mut groups_of = vec![Vec::new(); routes.len()];
    for (group, members) in groups.iter().enumerate() {
        for member in members.routes() {
            if let Some(groups) = groups_of.get_mut(member) {
                groups.push(group);
            }
        }
    }
    let mut ties = Vec::new();
    let mut earlier = Earlier::default();
    let mut members: Vec<Set> = groups.iter().map(|_| Set::default()).collect();
    for (route, (conditions, groups)) in routes.iter().zip(groups_of).enumerate() {
        if groups.is_empty() {
            continue;
        }
        let alike = earlier.alike(conditions);
        for group in groups {
            if let Some(members) = members.get_mut(group) {
                let first = alike.first_in(members);
                ties.extend(first.map(|first| (group, [first, route])));
                members.add(route);
            }
        }
        earlier.add(route, conditions);
    }
    ties
}

/// Earlier routes, by the properties that keep routes of one pattern apart: the number of conditions, and their
/// values.
#[derive(Default)]
struct Earlier<'r> {
    counts: HashMap<usize, Set>,
    /// `None` holds the routes that take any listener.
    listeners: HashMap<Option<&'r str>, Set>,
    /// `None` holds the routes that take any port.
    ports: HashMap<Option<u16>, Set>,
    /// `None` holds the routes that take any client.
    clients: HashMap<Option<IpNet>, Set>,
}

impl<'r> Earlier<'r> {
    fn add(&mut self, route: usize, conditions: &'r Route) {
        let count = self.counts.entry(conditions.conditions());
        count.or_default().add(route);
        for listener in or_any(names(conditions)) {
            self.listeners.entry(listener).or_default().add(route);
        }
        for port in or_any(conditions.ports.iter().copied()) {
            self.ports.entry(port).or_default().add(route);
        }
        for client in or_any(conditions.clients.iter().copied()) {
            self.clients.entry(client).or_default().add(route);
        }
    }

    /// The routes that no condition keeps apart from this one.
    fn alike(&self, conditions: &Route) -> Mask {
        let mut alike = Mask::default();
        alike.add(self.counts.get(&conditions.conditions()));
        alike.keep(&self.listeners, names(conditions));
        alike.keep(&self.ports, conditions.ports.iter().copied());
        alike.keep(&self.clients, conditions.clients.iter().copied());
        alike
    }
}

/// The names of the listeners of a route.
fn names(route: &Route) -> impl Iterator<Item = &str> {
    route.listeners.iter().map(|name| &**name)
}

/// The values, or `None` if there are none.
fn or_any<T>(values: impl Iterator<Item = T>) -> impl Iterator<Item = Option<T>> {
    let mut values = values.peekable();
    let any = values.peek().is_none().then_some(None);
    values.map(Some).chain(any)
}

/// Routes, as bits in blocks of 64; the blocks behind the last route are left out.
#[derive(Default)]
struct Mask(Vec<u64>);

impl Mask {
    fn add(&mut self, set: Option<&Set>) {
        let set = set.map_or(&[][..], Set::blocks);
        let blocks = set.last().map_or(0, |(block, _)| block + 1);
        self.0.resize(self.0.len().max(blocks), 0);
        for &(block, bits) in set {
            if let Some(all) = self.0.get_mut(block) {
                *all |= bits;
            }
        }
    }

    /// Keeps the routes that have one of these values, or that take any value. Without values it keeps all.
    fn keep<K: Copy + Eq + Hash>(
        &mut self,
        by_value: &HashMap<Option<K>, Set>,
        values: impl Iterator<Item = K>,
    ) {
        let mut values = values.peekable();
        if values.peek().is_none() {
            return;
        }
        let mut kept = Self::default();
        for value in values.map(Some).chain([None]) {
            kept.add(by_value.get(&value));
        }
        self.0.truncate(kept.0.len());
        for (bits, kept) in self.0.iter_mut().zip(kept.0) {
            *bits &= kept;
        }
    }

    /// The first route that is both in the set and in this mask.
    fn first_in(&self, set: &Set) -> Option<usize> {
        let both = |(block, bits): &(usize, u64)| Some((*block, self.0.get(*block)? & bits));
        let both = set.blocks().iter().filter_map(both);
        let (block, bits) = both.into_iter().find(|(_, bits)| *bits != 0)?;
        Some(block * 64 + bits.trailing_zeros() as usize)
    }
}
