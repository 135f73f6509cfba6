//! Which hellos each backend gets: with the names that its routes take.

use std::slice;
use std::sync::Arc;

use crate::backend::Target;
use crate::config::{Backend, Settings};
use crate::routing::{Pattern, Route};
use crate::tls::ServerName;

/// The most names that are tried at one backend: each costs two connections to each address.
pub(super) const MOST_NAMES: usize = 16;
/// The most ports that are tried of one name.
pub(super) const MOST_PORTS: usize = 16;
/// The label in place of a wildcard.
const MADE_UP: &str = "portway-doctor";

/// A client that hellos imitate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) server_name: Option<ServerName>,
    /// Whether the name is one that no client may ever use.
    pub(super) made_up: bool,
    /// The protocols that the route asks for; agents offer none.
    pub(super) alpn: Vec<Box<[u8]>>,
    /// The ports of its routes.
    pub(super) ports: Vec<u16>,
}

impl Caller {
    pub(super) fn name(&self) -> Option<&str> {
        self.server_name.as_ref().map(ServerName::as_str)
    }

    /// Whether its hellos are those of the other one.
    fn says_as(&self, other: &Self) -> bool {
        let Self {
            server_name,
            made_up,
            alpn,
            ports: _,
        } = self;
        (server_name, made_up, alpn) == (&other.server_name, &other.made_up, &other.alpn)
    }

    fn add_ports(&mut self, ports: &[u16]) {
        let new = ports.iter().filter(|port| !self.ports.contains(port));
        let new: Vec<u16> = new.copied().collect();
        self.ports.extend(new);
    }
}

/// A backend, and the clients that its routes lead to it.
#[derive(Debug)]
pub(super) struct Plan<'s> {
    pub(super) backend: &'s Backend,
    /// At least one.
    pub(super) callers: Arc<[Caller]>,
    /// The names beyond [`MOST_NAMES`].
    pub(super) left_out: usize,
    /// Routes for `**`, for which no name was given.
    pub(super) unnamed: Vec<Arc<str>>,
}

impl Plan<'_> {
    /// The servers to try, each with its callers. An endpoint `{server_name}` leads each caller to its own name; without a
    /// port of its own, to the ports of its routes.
    pub(super) fn targets(&self) -> Vec<(Target, Arc<[Caller]>)> {
        let mut targets = Vec::new();
        for target in &self.backend.endpoints {
            let Target::Asked { port } = target else {
                targets.push((target.clone(), Arc::clone(&self.callers)));
                continue;
            };
            for caller in self.callers.iter().filter(|caller| !caller.made_up) {
                let Some(host) = caller.name() else { continue };
                let ports = port.as_ref().map_or(&*caller.ports, slice::from_ref);
                targets.extend(ports.iter().take(MOST_PORTS).map(|port| {
                    let (host, port) = (host.into(), *port);
                    (Target::Name { host, port }, Arc::from([caller.clone()]))
                }));
            }
        }
        targets
    }

    /// The ports beyond [`MOST_PORTS`], if the client chooses the port.
    pub(super) fn ports_left_out(&self) -> usize {
        let any_port = Target::Asked { port: None };
        let ports = self.callers.iter().map(|caller| caller.ports.len());
        let left_out = ports.map(|ports| ports.saturating_sub(MOST_PORTS));
        let is_chosen = self.backend.endpoints.contains(&any_port);
        left_out.max().filter(|_| is_chosen).unwrap_or_default()
    }
}

/// The plan for each backend, or for the one with this name. `names` are those that the user has given.
pub(super) fn plans<'s>(
    settings: &'s Settings,
    only: Option<&str>,
    names: &[ServerName],
) -> Result<Vec<Plan<'s>>, String> {
    let routes = settings.routes.routes();
    let patterns = || routes.iter().flat_map(|route| &route.server_names);
    for name in names {
        if !patterns().any(|pattern| pattern.takes(name)) {
            return Err(format!(
                "no route takes {name}: `portway explain {name}` shows why"
            ));
        }
    }
    let backends = settings.backends.iter().enumerate();
    let wanted = backends.filter(|(_, backend)| only.is_none_or(|only| *backend.name == *only));
    let plans = wanted.map(|(position, backend)| {
        let leading = routes.iter().filter(|route| route.backend == position);
        // As the table of routes: the most precise pattern wins.
        let wins = |pattern: &Pattern, name: &ServerName| {
            let takes = patterns().filter(|pattern| pattern.takes(name));
            takes.max() == Some(pattern)
        };
        plan(backend, leading, names, wins)
    });
    let plans: Vec<Plan<'_>> = plans.collect();
    match (only, plans.is_empty()) {
        (Some(only), true) => {
            let known: Vec<&str> = settings
                .backends
                .iter()
                .map(|backend| &*backend.name)
                .collect();
            let known = known.join(", ");
            Err(format!("the file has no backend {only:?}; it has {known}"))
        }
        _ => Ok(plans),
    }
}

fn plan<'s, 'r>(
    backend: &'s Backend,
    routes: impl Iterator<Item = &'r Route>,
    names: &[ServerName],
    wins: impl Fn(&Pattern, &ServerName) -> bool,
) -> Plan<'s> {
    let mut callers: Vec<Caller> = Vec::new();
    let mut unnamed = Vec::new();
    for route in routes {
        let mut add = |server_name, made_up| {
            let caller = Caller {
                server_name,
                made_up,
                alpn: route.alpn.clone(),
                ports: route.ports.clone(),
            };
            match callers.iter_mut().find(|known| known.says_as(&caller)) {
                Some(known) => known.add_ports(&caller.ports),
                None => callers.push(caller),
            }
        };
        for pattern in &route.server_names {
            let made_up = match pattern {
                Pattern::Exact(name) => {
                    add(Some(name.clone()), false);
                    continue;
                }
                Pattern::OneLabel(suffix) | Pattern::AnyDepth(suffix) => {
                    let name = format!("{MADE_UP}.{}", suffix.as_str());
                    ServerName::parse(name.as_bytes()).ok()
                }
                Pattern::Any => None,
            };
            let mut given = names.iter().filter(|name| wins(pattern, name)).peekable();
            match (given.peek(), made_up) {
                (Some(_), _) => given.for_each(|name| add(Some(name.clone()), false)),
                (None, Some(name)) => add(Some(name), true),
                (None, None) => unnamed.push(Arc::clone(&route.name)),
            }
        }
        if route.no_server_name {
            add(None, false);
        }
    }
    if callers.is_empty() {
        callers.push(Caller {
            server_name: None,
            made_up: true,
            alpn: Vec::new(),
            ports: Vec::new(),
        });
    }
    // The names that matter come first, and the forms of hellos are tried with the first one.
    let given = |caller: &Caller| {
        let name = caller.server_name.as_ref();
        name.is_some_and(|name| names.contains(name))
    };
    callers.sort_by_key(|caller| !given(caller));
    let left_out = callers.len().saturating_sub(MOST_NAMES);
    callers.truncate(MOST_NAMES);
    Plan {
        backend,
        callers: callers.into(),
        left_out,
        unnamed,
    }
}

#[cfg(test)]
mod tests;
