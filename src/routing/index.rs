//! An index of the routes by their conditions, so that a look-up visits only routes that a connection can take.

use std::collections::HashMap;
use std::sync::Arc;

use super::networks::NetworkMap;
use super::sets::Set;
use super::{Query, Route};
use crate::tls::Alpn;

/// Routes by their conditions.
#[derive(Debug, Default)]
pub(super) struct Index {
    listeners: HashMap<Arc<str>, Set>,
    any_listener: Set,
    ports: HashMap<u16, Set>,
    any_port: Set,
    protocols: HashMap<Box<[u8]>, Set>,
    any_protocol: Set,
    clients: NetworkMap<Set>,
    any_client: Set,
    /// The number of conditions of each route, by its position.
    conditions: Vec<usize>,
    none: Set,
}

impl Index {
    /// The index of these routes, in the order of their positions.
    pub(super) fn new(routes: &[Route]) -> Self {
        let mut index = Self::default();
        for (position, route) in routes.iter().enumerate() {
            index.add(position, route);
        }
        index
    }

    fn add(&mut self, position: usize, route: &Route) {
        self.conditions.push(route.conditions());
        for listener in &route.listeners {
            let routes = self.listeners.entry(Arc::clone(listener));
            routes.or_default().add(position);
        }
        for port in &route.ports {
            self.ports.entry(*port).or_default().add(position);
        }
        for protocol in &route.alpn {
            let routes = self.protocols.entry(protocol.clone());
            routes.or_default().add(position);
        }
        for network in &route.clients {
            self.clients.entry(*network).add(position);
        }
        let conditions = [
            (route.listeners.is_empty(), &mut self.any_listener),
            (route.ports.is_empty(), &mut self.any_port),
            (route.alpn.is_empty(), &mut self.any_protocol),
            (route.clients.is_empty(), &mut self.any_client),
        ];
        for (_, any) in conditions.into_iter().filter(|(takes_any, _)| *takes_any) {
            any.add(position);
        }
    }

    /// The route that wins among those of the group whose conditions hold.
    pub(super) fn best(&self, group: &Set, query: &Query<'_>) -> Option<usize> {
        let candidates = self.candidates(group, query);
        let met = candidates.filter(|(route, _)| self.is_offered(*route, query.alpn));
        let precedence = |route: usize, prefix| (self.conditions.get(route).copied(), prefix);
        let best = met.max_by_key(|(route, prefix)| precedence(*route, *prefix));
        best.map(|(route, _)| route)
    }

    /// The routes of the group that take the listener, the port and the client, each with the prefix of the client's
    /// network. Of one network there are as many as the conditions leave, which is three at most: more would
    /// tie.
    pub(super) fn candidates<'s>(
        &'s self,
        group: &'s Set,
        query: &Query<'s>,
    ) -> impl Iterator<Item = (usize, u8)> {
        let here = self.here(query);
        let some = self.clients.around(query.client);
        some.chain([(0, &self.any_client)])
            .flat_map(move |(prefix, routes)| {
                let routes = group.common(routes, move |block, bits| bits & here(block));
                routes.map(move |route| (route, prefix))
            })
    }

    /// Whether the group has a route with client networks that takes the listener, the port and a protocol that is offered.
    pub(super) fn has_networks(&self, group: &Set, query: &Query<'_>) -> bool {
        let here = self.here(query);
        let keep = |block, bits: u64| bits & here(block) & !self.any_client.bits(block);
        let offered = query
            .alpn
            .iter()
            .filter_map(|name| self.protocols.get(name));
        let mut offered = offered.chain([&self.any_protocol]);
        offered.any(|routes| group.common(routes, keep).next().is_some())
    }

    /// Whether the group has a route with client networks that takes the listener and the port, with any protocol.
    pub(super) fn has_networks_for_any_protocol(&self, group: &Set, query: &Query<'_>) -> bool {
        let here = self.here(query);
        let keep = |block, bits: u64| bits & here(block) & !self.any_client.bits(block);
        group.common(group, keep).next().is_some()
    }

    /// The routes of a block that take the listener and the port.
    fn here(&self, query: &Query<'_>) -> impl Fn(usize) -> u64 + Copy {
        let named = self.listeners.get(query.listener).unwrap_or(&self.none);
        let at_port = self.ports.get(&query.port).unwrap_or(&self.none);
        |block| {
            (named.bits(block) | self.any_listener.bits(block))
                & (at_port.bits(block) | self.any_port.bits(block))
        }
    }

    fn is_offered(&self, route: usize, alpn: Alpn<'_>) -> bool {
        let mut offered = alpn.iter().filter_map(|name| self.protocols.get(name));
        self.any_protocol.has(route) || offered.any(|routes| routes.has(route))
    }
}
