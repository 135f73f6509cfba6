//! The routes, which must not tie.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::checks::{self, Read};
use crate::config::lost::Lost;
use crate::config::notes::Notes;
use crate::config::path::Path;
use crate::config::section::Section;
use crate::config::values::{self, Wrong};
use crate::config::{Backend, Listener};
use crate::routing::{Route, Table, Tie};

/// How often unknown names are compared with known ones, to find the names that were meant. It is enough for a
/// typing error among thousands of names, and bounds the cost of thousands of errors.
const COMPARISONS: usize = 1 << 15;

/// The names of the listeners or of the backends, sorted.
struct Names<'s> {
    kind: &'static str,
    all: Vec<&'s Arc<str>>,
    lost: &'s Lost,
    comparisons: Cell<usize>,
}

pub(super) fn routes(listeners: &[Listener], backends: &[Backend], notes: &mut Notes<'_>) -> Table {
    let routes = notes.names(
        "routes",
        "write [routes.fleet], server_names = [\"fleet.example.com\"] and backend = \"fleet\"",
    );
    let lost = Rc::clone(&notes.lost);
    let names = |kind, all| Names {
        kind,
        all,
        lost: &lost,
        comparisons: Cell::new(COMPARISONS),
    };
    let of_listeners = listeners.iter().map(|listener| &listener.name);
    let names_of_listeners = names("listener", of_listeners.collect());
    let of_backends = backends.iter().map(|backend| &backend.name);
    let names_of_backends = names("backend", of_backends.collect());
    let read = |name| {
        let mut section = notes.section(&["routes", name]);
        section.check_name(name);
        route(
            name,
            [&names_of_listeners, &names_of_backends],
            &mut section,
        )
    };
    let routes: Vec<Read> = routes.into_iter().map(read).collect();
    checks::routes(&routes, listeners, backends, notes);
    let whole = routes.into_iter().filter(|read| read.has_its_conditions);
    Table::build(whole.map(|read| read.route).collect()).unwrap_or_else(|ties| {
        for tie in ties {
            report_tie(&tie, notes);
        }
        Table::default()
    })
}

fn route(
    name: &str,
    [listeners, backends]: [&Names<'_>; 2],
    section: &mut Section<'_, '_>,
) -> Read {
    let no_server_name = section.read("no_server_name", values::boolean);
    let no_server_name = no_server_name.unwrap_or_default();
    if section.value("server_names").is_none()
        && !no_server_name
        && !section.is_lost("no_server_name")
    {
        section.require(
            "server_names",
            "it has neither server_names nor no_server_name = true, and takes no connection",
        );
    }
    section.require("backend", "it has no backend, and leads nowhere");
    let backend = section.read("backend", |name, _| backends.position(name));
    let route = Route {
        name: Arc::from(name),
        server_names: section.list("server_names", values::server_name),
        no_server_name,
        listeners: section.list("listeners", |name| {
            listeners.position(name).map(|_| Arc::from(name))
        }),
        ports: section.list("ports", values::port),
        alpn: section.list("alpn", values::alpn),
        clients: section.list("clients", values::network),
        backend: backend.unwrap_or(0),
    };
    Read {
        has_its_conditions: has_its_conditions(&route, section),
        has_its_names: backend.is_some() && has_its_names(section),
        route,
    }
}

/// Whether a route has every condition that it has in the file. Without one of them it would tie with other
/// routes from which the condition separates it.
fn has_its_conditions(route: &Route, section: &Section<'_, '_>) -> bool {
    let is_gone = |key, is_empty| section.value(key).is_some() && is_empty;
    let keys = ["listeners", "ports", "alpn", "clients"];
    !section.notes.lost.may_have(&section.path, &keys)
        && !is_gone("listeners", route.listeners.is_empty())
        && !is_gone("ports", route.ports.is_empty())
        && !is_gone("alpn", route.alpn.is_empty())
        && !is_gone("clients", route.clients.is_empty())
}

fn has_its_names(section: &Section<'_, '_>) -> bool {
    let left = &section.notes.left;
    !(section
        .notes
        .lost
        .may_have(&section.path, &["listeners", "backend"]))
        && !left.contains_key(&section.path.key("listeners"))
}

impl Names<'_> {
    /// The position of the listener or backend with a name; some other position if that one was removed with a fault.
    fn position(&self, name: &str) -> Result<usize, Wrong> {
        if let Ok(position) = self.all.binary_search_by(|known| (***known).cmp(name)) {
            return Ok(position);
        }
        let kind = self.kind;
        let tables = Path::of(&[&format!("{kind}s")]);
        let table = tables.key(name);
        let none_is_left = self.all.is_empty() && self.lost.has(&tables);
        if none_is_left || self.lost.has(&table) || self.lost.is_unclear(&tables) {
            return Ok(0);
        }
        Err(Wrong {
            message: format!("there is no {kind} {name:?}"),
            help: match (self.nearest(name), values::name(name)) {
                (Some(known), _) => format!("did you mean {known:?}?"),
                (None, Err(wrong)) => wrong.help,
                (None, Ok(())) => {
                    format!("write a table [{table}], or the name of one that is there")
                }
            },
        })
    }

    fn nearest(&self, name: &str) -> Option<&str> {
        let left = self.comparisons.get().checked_sub(self.all.len())?;
        self.comparisons.set(left);
        values::nearest(name, self.all.iter().map(|known| &***known))
    }
}

fn report_tie(tie: &Tie, notes: &mut Notes<'_>) {
    let [first, second] = &tie.routes;
    let key = match tie.pattern {
        Some(_) => "server_names",
        None => "no_server_name",
    };
    let path = |name| Path::of(&["routes", name, key]);
    let second_path = path(second);
    if notes.only_counts(&second_path) {
        return;
    }
    let what = match &tie.pattern {
        Some(pattern) => format!("\"{pattern}\""),
        None => "a connection without a server name".to_owned(),
    };
    notes.clash(
        [&second_path, &path(first)],
        format!("the routes {first:?} and {second:?} could both take {what}"),
        "leave it out of one of them, or give one more conditions: listeners, ports, alpn or clients",
    );
}
