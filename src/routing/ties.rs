//! Finds routes that one connection could take with equal right, without comparing each with each.

use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::Route;

/// Up to so many routes of one pattern are compared one by one: an index of them would cost more.
const FEW: usize = 64;

/// What keeps routes of one pattern apart.
pub(super) struct Conditions<'r> {
    /// How many of `listeners`, `alpn` and `clients` the route has.
    count: usize,
    /// Empty means any.
    listeners: HashSet<&'r str>,
    /// Empty means any.
    clients: HashSet<IpNet>,
}

impl<'r> Conditions<'r> {
    pub(super) fn of(route: &'r Route) -> Self {
        Self {
            count: route.conditions(),
            listeners: route.listeners.iter().map(|name| &**name).collect(),
            clients: route.clients.iter().copied().collect(),
        }
    }

    /// Whether one connection could take both routes with equal right, given one pattern.
    fn ties(&self, other: &Self) -> bool {
        let listeners = [&self.listeners, &other.listeners];
        let clients = [&self.clients, &other.clients];
        self.count == other.count
            && (listeners.iter().any(|set| set.is_empty())
                || !listeners[0].is_disjoint(listeners[1]))
            && (clients.iter().any(|set| set.is_empty()) || !clients[0].is_disjoint(clients[1]))
    }
}

/// Each of the routes of one pattern that ties with an earlier one, behind the earlier one. Routes
/// are positions in `all`.
pub(super) fn ties(routes: &[usize], all: &[Conditions<'_>]) -> Vec<[usize; 2]> {
    let mut ties = Vec::new();
    let mut earlier = Earlier::default();
    let is_few = routes.len() <= FEW;
    for (count, &route) in routes.iter().enumerate() {
        let before = routes.iter().take(count);
        let mut tie = |one: usize| {
            let pair = [all.get(one), all.get(route)];
            matches!(pair, [Some(one), Some(other)] if one.ties(other))
        };
        let found = match all.get(route) {
            Some(conditions) if !is_few => earlier.find(conditions, &mut tie),
            _ => before.copied().find(|one| tie(*one)),
        };
        ties.extend(found.map(|one| [one, route]));
        if let Some(conditions) = all.get(route)
            && !is_few
        {
            earlier.add(route, conditions);
        }
    }
    ties
}

/// Routes of one pattern by what they have in common.
#[derive(Default)]
struct Earlier<'r> {
    /// By how many conditions they have.
    by_count: HashMap<usize, Index<'r>>,
}

#[derive(Default)]
struct Index<'r> {
    all: Vec<usize>,
    any_listener: Vec<usize>,
    any_client: Vec<usize>,
    by_listener: HashMap<&'r str, Vec<usize>>,
    by_client: HashMap<IpNet, Vec<usize>>,
}

impl<'r> Earlier<'r> {
    fn add(&mut self, route: usize, conditions: &Conditions<'r>) {
        let index = self.by_count.entry(conditions.count).or_default();
        index.all.push(route);
        if conditions.listeners.is_empty() {
            index.any_listener.push(route);
        }
        for listener in &conditions.listeners {
            index.by_listener.entry(listener).or_default().push(route);
        }
        if conditions.clients.is_empty() {
            index.any_client.push(route);
        }
        for client in &conditions.clients {
            index.by_client.entry(*client).or_default().push(route);
        }
    }

    /// The first that ties, out of those that have a listener in common or those that have a client
    /// network in common, whichever are fewer.
    fn find(
        &self,
        conditions: &Conditions<'_>,
        ties: &mut impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let index = self.by_count.get(&conditions.count)?;
        let listeners = conditions.listeners.iter();
        let listeners = listeners.filter_map(|listener| index.by_listener.get(listener));
        let clients = conditions.clients.iter();
        let clients = clients.filter_map(|client| index.by_client.get(client));
        let by_listener: Vec<&Vec<usize>> = if conditions.listeners.is_empty() {
            vec![&index.all]
        } else {
            listeners.chain([&index.any_listener]).collect()
        };
        let by_client: Vec<&Vec<usize>> = if conditions.clients.is_empty() {
            vec![&index.all]
        } else {
            clients.chain([&index.any_client]).collect()
        };
        let size = |lists: &[&Vec<usize>]| lists.iter().map(|list| list.len()).sum::<usize>();
        let fewer = if size(&by_client) < size(&by_listener) {
            by_client
        } else {
            by_listener
        };
        // Each list is in the order of the routes.
        let first = |list: &Vec<usize>| list.iter().copied().find(|one| ties(*one));
        fewer.into_iter().filter_map(first).min()
    }
}
