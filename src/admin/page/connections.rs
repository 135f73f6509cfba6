//! The live connections: filters, the first of them, and links to the others.

use std::time::Duration;

use maud::{Markup, html};
use strum::VariantNames;

use super::Shown;
use super::parts::{cell, code, filtered, linked, table};
use crate::status::words::{bytes, counted, silent, span};
use crate::status::{Connection, Connections, Phase, Sort};

/// The text fields of the form: the parameter and its label.
const FIELDS: [(&str, &str); 4] = [
    ("client", "Client or network"),
    ("server_name", "Server name"),
    ("backend", "Backend"),
    ("route", "Route"),
];

/// The order without a choice, the only one that has pages.
const PAGED: &str = "id";

/// The parameters of the page. Those without a value are left out, because a form sends its empty fields too.
#[derive(Debug, Default)]
pub(in crate::admin) struct Asked(Vec<(String, String)>);

impl Asked {
    /// Those in the query of a URL.
    pub(in crate::admin) fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The same as a query.
    pub(super) fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.0).finish()
    }

    /// The link to the page with the same parameters, from its top.
    pub(super) fn link(&self) -> String {
        match self.query().as_str() {
            "" => "/".to_owned(),
            query => format!("/?{query}"),
        }
    }

    /// The link to the page behind this one, or to the first one without `next`.
    fn paged(&self, next: Option<&str>) -> String {
        let others = self.0.iter().filter(|(name, _)| name != "after");
        let others = others.map(|(name, value)| (name.as_str(), value.as_str()));
        linked(others.chain(next.map(|next| ("after", next))))
    }

    fn value(&self, name: &str) -> &str {
        let pair = self.0.iter().find(|(own, _)| own == name);
        pair.map_or("", |(_, value)| value.as_str())
    }
}

/// The section about connections.
pub(super) fn section(shown: &Shown) -> Markup {
    html! {
        section id="connections" aria-labelledby="connections-title" {
            h2 id="connections-title" { "Live connections" }
            (form(&shown.asked))
            @match &shown.connections {
                Ok(connections) => (list(connections, &shown.asked)),
                Err(error) => p class="bad" role="alert" { (error) "." },
            }
        }
    }
}

fn form(asked: &Asked) -> Markup {
    html! {
        form action="/#connections" method="get" {
            @for (name, label) in FIELDS {
                label { (label) input name=(name) value=(asked.value(name)) autocomplete="off" spellcheck="false"; }
            }
            (choice(asked, "phase", "Phase", "any", Phase::VARIANTS))
            (choice(asked, "sort", "Order", PAGED, Sort::VARIANTS))
            button { "Show" }
            a href="/#connections" { "Show all" }
        }
    }
}

fn choice(asked: &Asked, name: &str, label: &str, none: &str, values: &[&str]) -> Markup {
    let chosen = asked.value(name);
    html! {
        label {
            (label)
            select name=(name) {
                option value="" { (none) }
                @for value in values.iter().filter(|value| **value != none) {
                    option selected[*value == chosen] { (value) }
                }
            }
        }
    }
}

fn list(connections: &Connections, asked: &Asked) -> Markup {
    let headings = [
        "Client",
        "Name",
        "Backend",
        "Address",
        "Phase",
        "Age",
        "Idle",
        "To backend",
        "To client",
    ];
    let rows = connections.connections.iter().map(row);
    let is_later = !asked.value("after").is_empty();
    html! {
        p {
            (connections.connections.len()) " of " (connections.matching) " that match; portway has " (connections.total) "."
        }
        @if connections.silent_workers > 0 {
            p class="bad" { (silent(connections.silent_workers)) ", so this list is incomplete." }
        }
        @if !connections.connections.is_empty() {
            (table("Live connections", headings, rows))
        }
        p {
            @if is_later { a href=(asked.paged(None)) { "The first page" } " " }
            @if let Some(next) = &connections.next { a href=(asked.paged(Some(next))) { "The next page" } }
        }
    }
}

fn row(one: &Connection) -> [Markup; 9] {
    let client = one.client.ip().to_string();
    let name = one.server_name.as_ref().or(one.target.as_ref());
    let address = one.address.map(|address| address.to_string());
    let idle = one
        .idle_s
        .map(|idle| span(Duration::from_secs(idle.into())));
    [
        html! { a class="mono" href=(filtered("client", &client)) { (one.client) } },
        code(name.map(String::as_str)),
        html! {
            @match &one.backend {
                Some(backend) => a href=(filtered("backend", backend)) { (backend) },
                None => "-",
            }
        },
        code(address.as_deref()),
        html! {
            (one.phase.name())
            @if one.leaving { ", ends in its next gap" }
            @if one.failed_attempts > 0 { ", " (counted(one.failed_attempts, "failed attempt")) }
        },
        cell(span(Duration::from_millis(one.age_ms))),
        cell(idle.as_deref().unwrap_or("-")),
        cell(bytes(one.bytes_client_to_backend)),
        cell(bytes(one.bytes_backend_to_client)),
    ]
}
