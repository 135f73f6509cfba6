//! The look-up of a route: a few probes into hash tables, however many routes there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::index::Index;
use super::nearest::Spellings;
use super::sets::Set;
use super::ties::ties;
use super::{Joins, Miss, Pattern, Query, Route, Suffix, Unmet};
use crate::tls::ServerName;

/// All routes, arranged for look-up.
///
/// A look-up allocates nothing. It costs one probe per label of the name, and one per length of a prefix in
/// the file. If several routes share a pattern, it looks only at those whose listeners and client networks accept
/// the connection, and skips 64 of the others in one step.
#[derive(Debug, Default)]
pub struct Table {
    routes: Vec<Route>,
    exact: HashMap<Box<str>, Group>,
    one_label: HashMap<Box<str>, Group>,
    any_depth: HashMap<Box<str>, Group>,
    any_name: Option<Group>,
    no_name: Option<Group>,
    index: Index,
    pub(super) spellings: Spellings,
}

/// The routes of one pattern; `None` stands for connections without a server name.
#[derive(Debug)]
struct Group {
    pattern: Option<Pattern>,
    routes: Set,
}

/// Two routes that match one connection with the same precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The names of the routes, sorted.
    pub routes: [Arc<str>; 2],
    /// The pattern that both have; `None` stands for a connection without a server name.
    pub pattern: Option<Pattern>,
}

/// The rank of a route that matches: the greatest one wins, whatever the order of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence<'t> {
    /// The pattern that matched; `None` stands for a connection without a server name.
    pub pattern: Option<&'t Pattern>,
    /// How many of `listeners`, `ports`, `alpn` and `clients` the route has.
    pub conditions: usize,
    /// The prefix length of the client network that matched; 0 without that condition.
    pub client_prefix: u8,
}

/// A route that takes the name of a connection, with the condition that does not hold, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'t> {
    /// The position of the route.
    pub route: usize,
    /// Its rank among the candidates.
    pub precedence: Precedence<'t>,
    /// The first condition that does not hold.
    pub unmet: Option<Unmet>,
}

/// A look-up with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consideration<'t> {
    /// The result of [`Table::find`].
    pub taken: Result<usize, Miss>,
    /// Every route that takes the name, with the highest precedence first.
    pub candidates: Vec<Candidate<'t>>,
}

impl Table {
    /// Arranges the routes. If routes could tie, it returns for each pattern every route that could
    /// tie with an earlier one, together with the first such route. So the number of ties is bounded
    /// by the number of patterns, not of pairs.
    ///
    /// Two routes could tie if they share a pattern, have the same number of conditions, and no
    /// condition keeps them apart. Listeners and ports keep them apart if they have none in common. Client
    /// networks do if no network is in both: if networks are nested, the longer prefix wins. ALPN
    /// never does, because a client offers several protocols at once.
    pub fn build(routes: Vec<Route>) -> Result<Self, Vec<Tie>> {
        let mut table = Self::default();
        for (index, route) in routes.iter().enumerate() {
            for pattern in &route.server_names {
                table.group(Some(pattern)).routes.add(index);
            }
            if route.no_server_name {
                table.group(None).routes.add(index);
            }
        }
        let shared: Vec<&Group> = (table.groups())
            .filter(|group| group.routes.has_several())
            .collect();
        let groups: Vec<&Set> = shared.iter().map(|group| &group.routes).collect();
        let tie = |(group, pair): (usize, [usize; 2])| {
            let [first, second] = pair.map(|route| routes.get(route).map(|one| &one.name));
            let mut names = [Arc::clone(first?), Arc::clone(second?)];
            names.sort();
            Some(Tie {
                routes: names,
                pattern: shared.get(group)?.pattern.clone(),
            })
        };
        let mut ties: Vec<Tie> = ties(&groups, &routes).into_iter().filter_map(tie).collect();
        ties.sort_by(|a, b| (&a.routes, &a.pattern).cmp(&(&b.routes, &b.pattern)));
        table.index = Index::new(&routes);
        table.spellings = Spellings::new(&routes);
        table.routes = routes;
        if ties.is_empty() {
            Ok(table)
        } else {
            Err(ties)
        }
    }

    /// The position of the route that the connection takes.
    ///
    /// It skips a route whose conditions do not hold: an exact route for one listener leaves the name
    /// to a wildcard route on the other listeners.
    pub fn find(&self, query: &Query<'_>) -> Result<usize, Miss> {
        let groups = self.matching(query.server_name);
        let mut routes = groups.filter_map(|group| self.index.best(&group.routes, query));
        routes.next().ok_or_else(|| {
            self.miss_where(query, |group| self.index.has_networks(&group.routes, query))
        })
    }

    /// The positions of the routes that could take the connection, whichever protocols it offers.
    pub fn takers<'t>(&'t self, query: &'t Query<'t>) -> impl Iterator<Item = usize> {
        let groups = self.matching(query.server_name);
        let takers = groups.flat_map(|group| self.index.candidates(&group.routes, query));
        takers.map(|(route, _)| route)
    }

    /// Why [`Self::takers`] has no route.
    pub fn miss(&self, query: &Query<'_>) -> Miss {
        let is_excluded =
            |group: &Group| (self.index).has_networks_for_any_protocol(&group.routes, query);
        self.miss_where(query, is_excluded)
    }

    /// The same as [`Self::find`] with every candidate, one by one, and why it was passed over: for people.
    pub fn consider<'t>(&'t self, query: &Query<'t>) -> Consideration<'t> {
        let mut candidates: Vec<Candidate<'t>> = self.candidates(query).collect();
        candidates.sort_by(|a, b| b.precedence.cmp(&a.precedence));
        Consideration {
            taken: self.find(query),
            candidates,
        }
    }

    /// The pattern that a name without a route was probably meant to match. `None` if it resembles no pattern, or has a
    /// route that only other connections take. The work is bounded, however many routes there are.
    pub fn nearest(&self, name: &ServerName) -> Option<&Pattern> {
        if self.has(name) {
            return None;
        }
        self.spellings.nearest(name, &self.routes)
    }

    /// Whether a route, other than those for any name, matches this name under any conditions.
    pub fn has(&self, name: &ServerName) -> bool {
        let is_for_any = |group: &Group| group.pattern == Some(Pattern::Any);
        !self.matching(Some(name)).all(is_for_any)
    }

    /// The other ports at which the name has a route on this listener, sorted; none if a route takes the name at this
    /// port and another condition does not hold. For people.
    pub fn ports(&self, query: &Query<'_>) -> Vec<u16> {
        let is_here =
            |one: Candidate<'_>| !matches!(one.unmet, Some(Unmet::Listener | Unmet::Port));
        if self.candidates(query).any(is_here) {
            return Vec::new();
        }
        let elsewhere = (self.candidates(query)).filter(|one| one.unmet == Some(Unmet::Port));
        let routes = elsewhere.filter_map(|one| self.routes.get(one.route));
        let ports: BTreeSet<u16> = routes.flat_map(|route| &route.ports).copied().collect();
        ports.into_iter().collect()
    }

    /// The routes, in the order of their positions.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The backends that the connections of each listener can reach.
    pub fn joins(&self) -> Joins<'_> {
        Joins::new(&self.routes)
    }

    fn miss_where(&self, query: &Query<'_>, is_excluded: impl FnMut(&Group) -> bool) -> Miss {
        if self.matching(query.server_name).any(is_excluded) {
            Miss::ClientDenied
        } else if query.server_name.is_some() {
            Miss::NoRoute
        } else {
            Miss::NoServerName
        }
    }

    fn group(&mut self, pattern: Option<&Pattern>) -> &mut Group {
        let new = || Group {
            pattern: pattern.cloned(),
            routes: Set::default(),
        };
        match pattern {
            None => self.no_name.get_or_insert_with(new),
            Some(Pattern::Any) => self.any_name.get_or_insert_with(new),
            Some(Pattern::Exact(name)) => {
                (self.exact.entry(name.as_str().into())).or_insert_with(new)
            }
            Some(Pattern::OneLabel(suffix)) => by_suffix(&mut self.one_label, suffix, new),
            Some(Pattern::AnyDepth(suffix)) => by_suffix(&mut self.any_depth, suffix, new),
        }
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        (self.exact.values())
            .chain(self.one_label.values())
            .chain(self.any_depth.values())
            .chain(&self.any_name)
            .chain(&self.no_name)
    }

    /// The groups that a name falls into, with the highest precedence first. Each is looked up only
    /// when the iterator reaches it.
    fn matching<'t>(&'t self, name: Option<&'t ServerName>) -> impl Iterator<Item = &'t Group> {
        let name = name.map(ServerName::as_str);
        let parent = |name: &'t str| name.split_once('.').map(|(_, parent)| parent);
        let suffixes = || std::iter::successors(name.and_then(parent), move |name| parent(name));
        let exact = name.into_iter().filter_map(|name| self.exact.get(name));
        let one_label = suffixes().take(1);
        let rest = match name {
            Some(_) => &self.any_name,
            None => &self.no_name,
        };
        exact
            .chain(one_label.filter_map(|suffix| self.one_label.get(suffix)))
            .chain(suffixes().filter_map(|suffix| self.any_depth.get(suffix)))
            .chain(rest)
    }

    /// How many routes a look-up visits.
    #[cfg(test)]
    pub(super) fn looked_at(&self, query: &Query<'_>) -> usize {
        let groups = self.matching(query.server_name);
        let looked_at = groups.map(|group| self.index.candidates(&group.routes, query).count());
        looked_at.sum()
    }

    fn candidates<'t>(&'t self, query: &Query<'t>) -> impl Iterator<Item = Candidate<'t>> {
        let query = *query;
        self.matching(query.server_name).flat_map(move |group| {
            group.routes.routes().filter_map(move |index| {
                let route = self.routes.get(index)?;
                let client_prefix = route.client_prefix(query.client);
                Some(Candidate {
                    route: index,
                    precedence: Precedence {
                        pattern: group.pattern.as_ref(),
                        conditions: route.conditions(),
                        client_prefix: client_prefix.unwrap_or(0),
                    },
                    unmet: route.unmet(&query),
                })
            })
        })
    }
}

fn by_suffix<'g>(
    groups: &'g mut HashMap<Box<str>, Group>,
    suffix: &Suffix,
    new: impl FnOnce() -> Group,
) -> &'g mut Group {
    (groups.entry(suffix.as_str().into())).or_insert_with(new)
}
