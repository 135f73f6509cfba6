//! The things of routes.toml as they are now: backends with their endpoints, routes, listeners.

use maud::{Markup, html};

use super::parts::{and_more, cell, code, filtered, table};
use crate::status::words::{byte_rate, connections, counts, or_none};
use crate::status::{Address, Backend, CertificateSeen, Endpoint, Status};

/// The most backends, routes and listeners.
const MOST: usize = 100;
/// The most addresses of all endpoints together, and of one endpoint.
const ADDRESSES: usize = 300;
const OF_ENDPOINT: usize = 20;

/// The backends, each with its endpoints.
pub(super) fn backends(status: &Status) -> Markup {
    let mut room = ADDRESSES;
    let hidden = status.backends.len().saturating_sub(MOST) + status.backends_not_shown;
    html! {
        section id="backends" aria-labelledby="backends-title" {
            h2 id="backends-title" { "Backends and endpoints" }
            @for one in status.backends.iter().take(MOST) { (backend(one, &mut room)) }
            (and_more(hidden))
        }
    }
}

fn backend(backend: &Backend, room: &mut usize) -> Markup {
    let rates = &backend.rates;
    let mut rows = Vec::new();
    let mut hidden = backend.endpoints_not_shown;
    for endpoint in &backend.endpoints {
        if *room == 0 {
            hidden += 1;
            continue;
        }
        let most = OF_ENDPOINT.min(*room);
        let before = rows.len();
        rows.extend(addresses(endpoint, most));
        *room = room.saturating_sub(rows.len() - before);
    }
    let headings = [
        "Endpoint",
        "Address",
        "State",
        "Connections",
        "Dials",
        "Failed dials",
        "Certificate",
    ];
    html! {
        article {
            h3 {
                (backend.name)
                @if let Some(via) = &backend.via { " via " code { (via) } }
            }
            p {
                a href=(filtered("backend", &backend.name)) { (connections(backend.connections)) } ", "
                (format!("{:.1}", rates.connections_per_s)) " new per second, "
                (byte_rate(rates.bytes_client_to_backend_per_s)) " to it, "
                (byte_rate(rates.bytes_backend_to_client_per_s)) " from it. Ended since the start: "
                (or_none(&counts(&backend.outcomes))) ". Handshakes: " (or_none(&counts(&backend.handshakes))) "."
            }
            @if !rows.is_empty() { (table(&format!("Endpoints of {}", backend.name), headings, rows)) }
            (and_more(hidden))
        }
    }
}

/// A row for each address of an endpoint, or one if it has none.
fn addresses(endpoint: &Endpoint, most: usize) -> Vec<[Markup; 7]> {
    let name = || {
        html! {
            (code(Some(&endpoint.name)))
            @if endpoint.role != "active" { " (" (endpoint.role) ")" }
            @if let Some(weight) = endpoint.weight { ", weight " (weight) }
        }
    };
    let failures = || cell(or_none(&counts(&endpoint.dial_failures)));
    if endpoint.addresses.is_empty() {
        let state = html! {
            @match &endpoint.unresolved {
                Some(why) => span class="bad" { (why) },
                None => "-",
            }
        };
        let nothing = || html! { "-" };
        return vec![[
            name(),
            nothing(),
            state,
            cell(endpoint.connections),
            nothing(),
            failures(),
            nothing(),
        ]];
    }
    let shown = endpoint.addresses.iter().take(most);
    let mut rows: Vec<_> = shown
        .map(|address| {
            [
                name(),
                code(Some(&address.address.to_string())),
                state(address),
                cell(address.connections),
                dials(address),
                failures(),
                certificate(address.certificate.as_ref()),
            ]
        })
        .collect();
    let hidden = endpoint.addresses.len().saturating_sub(most) + endpoint.addresses_not_shown;
    if hidden > 0 {
        let mut last = [(); 7].map(|()| html! { "-" });
        last[0] = name();
        last[1] = html! { "and " (hidden) " more" };
        rows.push(last);
    }
    rows
}

fn state(address: &Address) -> Markup {
    let name = address.state.name();
    html! {
        @if address.unhealthy { span class="bad" { "unhealthy" } }
        @else if name == "failed" { span class="bad" { "failed" } }
        @else { (name) }
    }
}

fn dials(address: &Address) -> Markup {
    html! {
        (address.dialling)
        @if address.waiting > 0 { ", and " (address.waiting) " waiting" }
    }
}

fn certificate(seen: Option<&CertificateSeen>) -> Markup {
    let day = |seen: &CertificateSeen| {
        let end = seen.not_after.as_deref();
        end.and_then(|end| end.split('T').next().map(str::to_owned))
    };
    html! {
        @match seen {
            None => "not checked",
            Some(seen) => {
                @match seen.state.as_str() {
                    "valid" => "valid",
                    "encrypted" => "encrypted (TLS 1.3)",
                    other => span class="bad" { (other) },
                }
                @if let Some(day) = day(seen) { " until " (day) }
            }
        }
    }
}

/// The routes.
pub(super) fn routes(status: &Status) -> Markup {
    let rows = status.routes.iter().take(MOST).map(|route| {
        let no_name = if route.no_server_name {
            " and clients without a name"
        } else {
            ""
        };
        [
            cell(&route.name),
            html! { (code(Some(&route.server_names))) (no_name) },
            cell(&route.backend),
            html! { a href=(filtered("route", &route.name)) { (route.connections) } },
            cell(format!("{:.1}", route.connections_per_s)),
        ]
    });
    let headings = ["Route", "Names", "Backend", "Connections", "Per second"];
    let hidden = status.routes.len().saturating_sub(MOST) + status.routes_not_shown;
    html! {
        section id="routes" aria-labelledby="routes-title" {
            h2 id="routes-title" { "Routes" }
            p class="soft" { "Connections are those since the start; the link leads to those that are open." }
            (table("The routes", headings, rows))
            (and_more(hidden))
        }
    }
}

/// The listeners.
pub(super) fn listeners(status: &Status) -> Markup {
    let rows = status.listeners.iter().take(MOST).map(|listener| {
        let addresses = listener.addresses.iter().map(ToString::to_string);
        let addresses = addresses.collect::<Vec<_>>().join(" ");
        [
            cell(&listener.name),
            cell(&listener.protocol),
            code(Some(&addresses)),
            cell(listener.connections),
            cell(listener.accepted),
            cell(format!("{:.1}", listener.connections_per_s)),
            cell(or_none(&counts(&listener.outcomes))),
        ]
    });
    let headings = [
        "Listener",
        "Protocol",
        "Addresses",
        "Connections",
        "Accepted",
        "Per second",
        "Ended without a backend",
    ];
    let hidden = status.listeners.len().saturating_sub(MOST) + status.listeners_not_shown;
    html! {
        section id="listeners" aria-labelledby="listeners-title" {
            h2 id="listeners-title" { "Listeners" }
            (table("The listeners", headings, rows))
            (and_more(hidden))
        }
    }
}
