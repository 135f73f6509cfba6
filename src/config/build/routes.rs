//! The routes, which must not tie.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::lost::Lost;
use crate::config::notes::Notes;
use crate::config::path::Path;
use crate::config::section::Section;
use crate::config::values::{self, Wrong};
use crate::config::{Backend, Listener};
use crate::routing::{Route, Table, Tie};

/// How often unknown names are compared with known ones, to find those that were meant: a typing error
/// among thousands of names is found, and thousands of errors cost no more than a few.
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
    let listeners = listeners.iter().map(|listener| &listener.name);
    let listeners = names("listener", listeners.collect());
    let backends = backends.iter().map(|backend| &backend.name);
    let backends = names("backend", backends.collect());
    let routes = routes.into_iter().filter_map(|name| {
        let mut section = notes.section(&["routes", name]);
        section.check_name(name);
        let route = route(name, [&listeners, &backends], &mut section);
        has_its_conditions(&route, &section).then_some(route)
    });
    let routes = routes.collect();
    Table::build(routes).unwrap_or_else(|ties| {
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
) -> Route {
    let no_server_name = section.read("no_server_name", values::boolean);
    let no_server_name = no_server_name.unwrap_or_default();
    if section.value("server_names").is_none()
        && !no_server_name
        && !section.is_lost("no_server_name")
    {
        section.require("server_names", "takes no connection");
    }
    section.require("backend", "leads nowhere");
    let backend = section.read("backend", |name, _| backends.position(name));
    Route {
        name: Arc::from(name),
        server_names: section.list("server_names", values::server_name),
        no_server_name,
        listeners: section.list("listeners", |name| {
            listeners.position(name).map(|_| Arc::from(name))
        }),
        alpn: section.list("alpn", values::alpn),
        clients: section.list("clients", values::network),
        backend: backend.unwrap_or(0),
    }
}

/// Whether a route has every condition that it has in the file. One that has not would tie with routes that
/// the condition keeps apart from it.
fn has_its_conditions(route: &Route, section: &Section<'_, '_>) -> bool {
    let is_gone = |key, is_empty| section.value(key).is_some() && is_empty;
    let keys = ["listeners", "alpn", "clients"];
    !section.notes.lost.may_have(&section.path, &keys)
        && !is_gone("listeners", route.listeners.is_empty())
        && !is_gone("alpn", route.alpn.is_empty())
        && !is_gone("clients", route.clients.is_empty())
}

impl Names<'_> {
    /// The position of what is named; that of another one if it was taken out with a fault.
    fn position(&self, name: &str) -> Result<usize, Wrong> {
        if let Ok(position) = self.all.binary_search_by(|known| (***known).cmp(name)) {
            return Ok(position);
        }
        let kind = self.kind;
        let table = Path::of(&[&format!("{kind}s"), name]);
        let none_is_left = self.all.is_empty() && self.lost.has(&Path::of(&[&format!("{kind}s")]));
        if none_is_left || self.lost.has(&table) {
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
        "leave it out of one of them, or give one more conditions: listeners, alpn or clients",
    );
}
