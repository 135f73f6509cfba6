//! Finds the name that was probably meant by a name without a route.
//!
//! Clients choose the names that are asked about, so the work does not grow with the routes: some binary
//! searches, and comparisons with a few names of about the same length.

use super::{Pattern, Route};
use crate::tls::ServerName;

/// Names that are compared on either side of a place in an order.
const WINDOW: usize = 8;

/// Most characters that may be wrong, missing, too many or exchanged with the next one; fewer in a short name.
const MOST_EDITS: usize = 3;

/// Most first labels of a name that a wildcard may replace.
const MOST_LABELS: usize = 3;

/// Every name and every suffix of a wildcard, in an order in which names with a similar spelling are near
/// each other.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    names: Order,
    suffixes: Order,
}

/// Places in two orders: by the first characters and by the last ones. A name with one typing error is near
/// the one that was meant in at least one order, unless very many names share its correct part.
#[derive(Debug, Default)]
struct Order {
    by_head: Vec<Place>,
    by_tail: Vec<Place>,
}

/// A pattern of a route.
#[derive(Clone, Copy, Debug)]
struct Place {
    route: usize,
    pattern: usize,
}

impl Spellings {
    pub(super) fn new(routes: &[Route]) -> Self {
        let (mut names, mut suffixes) = (Vec::new(), Vec::new());
        for (route, of_route) in routes.iter().enumerate() {
            for (pattern, one) in of_route.server_names.iter().enumerate() {
                let place = Place { route, pattern };
                match one {
                    Pattern::Any => {}
                    Pattern::AnyDepth(_) | Pattern::OneLabel(_) => suffixes.push(place),
                    Pattern::Exact(_) => names.push(place),
                }
            }
        }
        Self {
            names: Order::new(names, routes),
            suffixes: Order::new(suffixes, routes),
        }
    }

    /// The pattern that is nearest to a name, if one is near.
    pub(super) fn nearest<'r>(
        &self,
        name: &ServerName,
        routes: &'r [Route],
    ) -> Option<&'r Pattern> {
        let candidates = self.candidates(name.as_str(), routes);
        let near = candidates.filter_map(|(word, pattern)| {
            let spelled = spelled(pattern);
            let most = MOST_EDITS.min(spelled.len() / 4).max(1);
            let edits = edits(word.as_bytes(), spelled.as_bytes(), most)?;
            Some((edits, pattern))
        });
        let nearest = near.min_by(|(a, first), (b, second)| {
            // If two are equally near, an exact name wins, then the order of the alphabet.
            a.cmp(b).then_with(|| second.cmp(first))
        });
        nearest.map(|(_, pattern)| pattern)
    }

    /// Patterns, each with the spelling that it must have for the name to match.
    fn candidates<'n, 'r>(
        &self,
        name: &'n str,
        routes: &'r [Route],
    ) -> impl Iterator<Item = (&'n str, &'r Pattern)> {
        let tails = std::iter::successors(Some(name), |name| Some(name.split_once('.')?.1));
        let tails = tails.enumerate().skip(1).take(MOST_LABELS);
        let suffixes = tails.flat_map(move |(labels, tail)| {
            let near = self.suffixes.around(tail, routes);
            let fits = move |pattern: &&Pattern| match pattern {
                Pattern::OneLabel(_) => labels == 1,
                Pattern::AnyDepth(_) | Pattern::Exact(_) | Pattern::Any => true,
            };
            near.filter(fits).map(move |pattern| (tail, pattern))
        });
        let names = self.names.around(name, routes);
        names.map(move |pattern| (name, pattern)).chain(suffixes)
    }
}

impl Order {
    fn new(mut places: Vec<Place>, routes: &[Route]) -> Self {
        let text = |place: &Place| place.text(routes);
        places.sort_by_key(text);
        // Several listeners may have routes of the same name.
        places.dedup_by_key(|place| text(place));
        let mut by_tail = places.clone();
        by_tail.sort_by(|a, b| reversed(text(a)).cmp(reversed(text(b))));
        Self {
            by_head: places,
            by_tail,
        }
    }

    /// The patterns on both sides of the place of the word.
    fn around<'r>(&self, word: &str, routes: &'r [Route]) -> impl Iterator<Item = &'r Pattern> {
        let text = |place: &Place| place.text(routes);
        let head = (self.by_head).partition_point(|place| text(place) < word);
        let tail = (self.by_tail).partition_point(|place| reversed(text(place)).lt(reversed(word)));
        let [head, tail] = [(&self.by_head, head), (&self.by_tail, tail)].map(|(order, at)| {
            let end = order.len().min(at + WINDOW);
            order
                .get(at.saturating_sub(WINDOW)..end)
                .unwrap_or_default()
        });
        head.iter()
            .chain(tail)
            .filter_map(|place| place.pattern(routes))
    }
}

impl Place {
    fn pattern<'r>(&self, routes: &'r [Route]) -> Option<&'r Pattern> {
        routes.get(self.route)?.server_names.get(self.pattern)
    }

    fn text<'r>(&self, routes: &'r [Route]) -> &'r str {
        self.pattern(routes).map_or("", spelled)
    }
}

/// The name without its wildcard.
fn spelled(pattern: &Pattern) -> &str {
    match pattern {
        Pattern::Any => "",
        Pattern::AnyDepth(suffix) | Pattern::OneLabel(suffix) => suffix.as_str(),
        Pattern::Exact(name) => name.as_str(),
    }
}

fn reversed(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().rev()
}

/// How many edits turn one name into the other, if these are at most `most`.
fn edits(one: &[u8], other: &[u8], most: usize) -> Option<usize> {
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let (one, other) = (one.get(same..)?, other.get(same..)?);
    let ([a, one_behind @ ..], [b, other_behind @ ..]) = (one, other) else {
        return Some(one.len().max(other.len()));
    };
    let left = most.checked_sub(1)?;
    let exchanged = match (one_behind, other_behind) {
        ([c, one @ ..], [d, other @ ..]) if a == d && b == c => edits(one, other, left),
        _ => None,
    };
    let ways = [
        exchanged,
        edits(one_behind, other_behind, left),
        edits(one_behind, other, left),
        edits(one, other_behind, left),
    ];
    let least = ways.into_iter().flatten().min()?;
    Some(least + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::routing::Table;

    fn route(names: impl IntoIterator<Item = String>) -> Route {
        Route {
            name: Arc::from("all"),
            server_names: names
                .into_iter()
                .map(|name| Pattern::parse(&name).unwrap())
                .collect(),
            no_server_name: false,
            listeners: Vec::new(),
            ports: Vec::new(),
            alpn: Vec::new(),
            clients: Vec::new(),
            backend: 0,
        }
    }

    fn nearest(table: &Table, name: &str) -> Option<String> {
        let name = ServerName::parse(name.as_bytes()).unwrap();
        table.nearest(&name).map(ToString::to_string)
    }

    fn table(names: &[&str]) -> Table {
        Table::build(vec![route(names.iter().map(|name| (*name).to_owned()))]).unwrap()
    }

    proptest! {
        #[test]
        fn edits_are_counted_as_far_as_they_matter(one in "[a-c]{0,9}", other in "[a-c]{0,9}", most in 0usize..5) {
            let all = strsim::osa_distance(&one, &other);
            let counted = edits(one.as_bytes(), other.as_bytes(), most);
            prop_assert_eq!(counted, (all <= most).then_some(all));
        }
    }

    #[test]
    fn a_typing_error_leads_to_the_name_that_was_meant() {
        let table = table(&[
            "fleet.example.com",
            "es.example.com",
            "*.agents.example.com",
            "**.vpce.us-east-1.aws.elastic-cloud.com",
        ]);
        for (name, meant) in [
            ("fleet.exmaple.com", "fleet.example.com"),
            ("flet.example.com", "fleet.example.com"),
            ("fleeet.example.com", "fleet.example.com"),
            ("fleet.example.co", "fleet.example.com"),
            ("fleet-example.com", "fleet.example.com"),
            ("se.example.com", "es.example.com"),
            ("a-7.agnets.example.com", "*.agents.example.com"),
            (
                "0f3a.fleet.vpce.us-east1.aws.elastic-cloud.com",
                "**.vpce.us-east-1.aws.elastic-cloud.com",
            ),
        ] {
            assert_eq!(nearest(&table, name).as_deref(), Some(meant), "{name}");
        }
    }

    #[test]
    fn a_name_that_resembles_none_leads_nowhere() {
        let table = table(&["fleet.example.com", "*.agents.example.com", "a.b", "**"]);
        for name in [
            "www.example.org",
            "fleet.com",
            "c.d",
            "x.y.z.agnets.example.com",
        ] {
            assert_eq!(nearest(&table, name), None, "{name}");
        }
        // These names have a route, but not on every listener.
        for name in ["fleet.example.com", "x.agents.example.com"] {
            assert_eq!(nearest(&table, name), None, "{name}");
        }
        assert_eq!(nearest(&Table::default(), "fleet.example.com"), None);
    }

    /// As many as a file can have, which resemble each other more than names do.
    #[test]
    fn among_thousands_of_names_few_are_compared_and_most_errors_lead_to_what_was_meant() {
        let host = |number: usize| format!("host-{number:05}.site-{}.example.com", number % 40);
        let wildcard = |number: usize| format!("**.site-{number:05}.example.org");
        let names = (0..14_000).map(host).chain((0..1000).map(wildcard));
        let table = Table::build(vec![route(names)]).unwrap();
        let routes = table.routes();
        let (mut asked, mut meant) = (0, 0);
        for number in (0..14_000).step_by(211) {
            let name = host(number);
            for at in 0..name.len() - 1 {
                let mut typed = name.clone().into_bytes();
                typed.swap(at, at + 1);
                let Ok(typed) = ServerName::parse(&typed) else {
                    continue;
                };
                let compared = table.spellings.candidates(typed.as_str(), routes).count();
                assert!(compared <= 4 * WINDOW * (1 + MOST_LABELS), "{compared}");
                if let Some(found) = table.nearest(&typed) {
                    asked += 1;
                    meant += usize::from(strsim::osa_distance(typed.as_str(), spelled(found)) == 1);
                }
            }
        }
        assert!(asked > 1000 && meant * 10 > asked * 9, "{meant} of {asked}");
        let found = nearest(&table, "a.b.site-00o17.example.org").unwrap();
        assert!(found.starts_with("**.site-00"), "{found}");
    }
}
