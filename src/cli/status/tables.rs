//! The tables of the status: backends with their endpoints, routes, listeners, connections.

use std::fmt;
use std::time::Duration;

use super::parts::Columns;
use crate::status::words::{
    byte_rate, bytes, connections as connections_in_words, counts, or_none, silent, span,
};
use crate::status::{Backend, Connections, Endpoint, Status};

/// The backends, endpoints, addresses, routes and listeners that are shown.
const MOST: usize = 40;

pub(super) fn backends(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    writeln!(f, "Backends:")?;
    for backend in status.backends.iter().take(MOST) {
        let rates = &backend.rates;
        let via = backend.via.as_ref().map(|via| format!(" via {via}"));
        writeln!(
            f,
            "  {}{}: {}, {:.1} new per second, {} up, {} down; ended: {}; handshakes: {}",
            backend.name,
            via.unwrap_or_default(),
            connections_in_words(backend.connections),
            rates.connections_per_s,
            byte_rate(rates.bytes_client_to_backend_per_s),
            byte_rate(rates.bytes_backend_to_client_per_s),
            or_none(&counts(&backend.outcomes)),
            or_none(&counts(&backend.handshakes)),
        )?;
        endpoints(f, backend)?;
    }
    let hidden = status.backends.len().saturating_sub(MOST) + status.backends_not_shown;
    and_more(f, hidden)
}

fn endpoints(f: &mut fmt::Formatter<'_>, backend: &Backend) -> fmt::Result {
    let mut columns = Columns::new(
        4,
        &[
            "endpoint",
            "address",
            "state",
            "connections",
            "dials",
            "failed dials",
        ],
    );
    for endpoint in backend.endpoints.iter().take(MOST) {
        add(&mut columns, endpoint);
    }
    write!(f, "{columns}")?;
    let hidden = backend.endpoints.len().saturating_sub(MOST) + backend.endpoints_not_shown;
    and_more(f, hidden)
}

/// Adds a row for each address of an endpoint.
fn add(columns: &mut Columns, endpoint: &Endpoint) {
    let role = match endpoint.role.as_str() {
        "active" => String::new(),
        role => format!(" ({role})"),
    };
    let name = format!("{}{role}", endpoint.name);
    let failures = or_none(&counts(&endpoint.dial_failures)).to_owned();
    if endpoint.addresses.is_empty() {
        let why = endpoint.unresolved.as_deref().unwrap_or("-");
        let connections = endpoint.connections.to_string();
        columns.add([
            name,
            "-".to_owned(),
            why.to_owned(),
            connections,
            String::new(),
            failures,
        ]);
        return;
    }
    for (number, address) in endpoint.addresses.iter().take(MOST).enumerate() {
        let dials = match (address.dialling, address.waiting) {
            (dialling, 0) => dialling.to_string(),
            (dialling, waiting) => format!("{dialling}, {waiting} wait"),
        };
        let state = if address.unhealthy {
            "unhealthy"
        } else {
            address.state.name()
        };
        let is_first = number == 0;
        columns.add([
            if is_first {
                name.clone()
            } else {
                String::new()
            },
            address.address.to_string(),
            state.to_owned(),
            address.connections.to_string(),
            dials,
            if is_first {
                failures.clone()
            } else {
                String::new()
            },
        ]);
    }
}

pub(super) fn routes(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    writeln!(f, "Routes:")?;
    let mut columns = Columns::new(
        2,
        &["route", "names", "backend", "connections", "per second"],
    );
    for route in status.routes.iter().take(MOST) {
        let no_name = if route.no_server_name {
            " (and none)"
        } else {
            ""
        };
        columns.add([
            route.name.clone(),
            format!("{}{no_name}", route.server_names),
            route.backend.clone(),
            route.connections.to_string(),
            format!("{:.1}", route.connections_per_s),
        ]);
    }
    write!(f, "{columns}")?;
    and_more(
        f,
        status.routes.len().saturating_sub(MOST) + status.routes_not_shown,
    )
}

pub(super) fn listeners(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    writeln!(f, "Listeners:")?;
    let mut columns = Columns::new(
        2,
        &[
            "listener",
            "protocol",
            "connections",
            "accepted",
            "addresses",
        ],
    );
    for listener in status.listeners.iter().take(MOST) {
        let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
        columns.add([
            listener.name.clone(),
            listener.protocol.clone(),
            listener.connections.to_string(),
            listener.accepted.to_string(),
            addresses.join(" "),
        ]);
    }
    write!(f, "{columns}")?;
    and_more(
        f,
        status.listeners.len().saturating_sub(MOST) + status.listeners_not_shown,
    )
}

fn and_more(f: &mut fmt::Formatter<'_>, hidden: usize) -> fmt::Result {
    if hidden > 0 {
        writeln!(f, "  and {hidden} more: portway status --output json")?;
    }
    Ok(())
}

/// Live connections as text.
pub(super) fn connections(shown: &Connections) -> String {
    let mut columns = Columns::new(
        2,
        &[
            "id", "client", "name", "backend", "address", "phase", "age", "idle", "up", "down",
        ],
    );
    for one in &shown.connections {
        let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), Clone::clone);
        let address = one.address.map(|address| address.to_string());
        let idle = one
            .idle_s
            .map(|idle| span(Duration::from_secs(idle.into())));
        columns.add([
            one.id.clone(),
            one.client.to_string(),
            or_dash(one.server_name.as_ref().or(one.target.as_ref())),
            or_dash(one.backend.as_ref()),
            or_dash(address.as_ref()),
            one.phase.name().to_owned(),
            span(Duration::from_millis(one.age_ms)),
            or_dash(idle.as_ref()),
            bytes(one.bytes_client_to_backend),
            bytes(one.bytes_backend_to_client),
        ]);
    }
    let (count, matching) = (shown.connections.len(), shown.matching);
    let mut text = format!("Connections ({count} of {matching}):\n");
    if shown.silent_workers > 0 {
        let silent = silent(shown.silent_workers);
        text.extend(["  ", &silent, ", so this list is incomplete.\n"]);
    }
    if !columns.is_empty() {
        text += &columns.to_string();
    }
    if let Some(next) = &shown.next {
        text.extend(["  the next page: add after=", next, " to the query\n"]);
    }
    text
}
