//! The page at `/`: the status and the live connections for people. The first questions of an operator come first. It needs no
//! script and loads nothing else; everything on it comes from [`crate::status`].

mod configuration;
mod connections;
mod parts;
mod things;
mod troubles;

#[cfg(test)]
mod tests;

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::status::words::{
    ago, byte_rate, connections as connections_in_words, printable, silent, span,
};
use crate::status::{Connections, Query, Stage, Status, failing};
pub(super) use connections::Asked;

/// The Content-Security-Policy of the page: the browser takes only the one style sheet in it, whose SHA-256 this is, sends
/// forms only here, and lets no other page embed it.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'sha256-DydEtNv9iuj1xWMtrgklX39n8YUU+AisVbmIC2BngBw='; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const STYLE: &str = include_str!("page/style.css");

/// The most connections on the page; links lead to the others.
const CONNECTIONS: usize = 100;

/// Everything that the page shows.
pub(super) struct Shown {
    pub(super) status: Status,
    /// The connections, or why the query for them is not valid.
    pub(super) connections: Result<Connections, String>,
    pub(super) asked: Asked,
}

impl Asked {
    /// The query, for no more connections than the page has room for.
    pub(super) fn bounded(&self) -> Result<Query, String> {
        let query = Query::parse(&self.query()).map_err(|error| error.to_string())?;
        Ok(Query {
            limit: query.limit.min(CONNECTIONS),
            ..query
        })
    }
}

/// The whole page. It may take milliseconds.
pub(super) fn render(shown: &Shown) -> String {
    let body = body(shown).into_string();
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "portway" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                style { (PreEscaped(STYLE)) }
            }
            // Nothing but printable ASCII gets through, whatever part of the page it is in.
            (PreEscaped(printable(&body)))
        }
    };
    document.into_string()
}

fn body(shown: &Shown) -> Markup {
    let status = &shown.status;
    let failing = failing(status);
    html! {
        body {
            a class="skip" href="#refused" { "Skip to who is refused" }
            (header(status, &shown.asked))
            main {
                (troubles::verdicts(status, &failing))
                (troubles::refused(status))
                (troubles::failing(status, &failing))
                (troubles::limits(status))
                (things::backends(status))
                (things::routes(status))
                (things::listeners(status))
                (connections::section(shown))
                (configuration::section(status))
            }
        }
    }
}

fn header(status: &Status, asked: &Asked) -> Markup {
    let stage = match status.stage {
        Stage::Starting => "It is starting, and does not accept yet.",
        Stage::Ready => "It is ready.",
        Stage::Draining => "It is draining, and accepts nobody.",
    };
    let (totals, rates) = (&status.totals, &status.totals.rates);
    let sections = [
        ("#backends", "Backends"),
        ("#routes", "Routes"),
        ("#listeners", "Listeners"),
        ("#connections", "Connections"),
        ("#configuration", "Configuration"),
    ];
    html! {
        header {
            h1 { "portway " (status.version) }
            p {
                (stage) " It has been up for " (span(Duration::from_secs(status.uptime_s))) ". This is its state at "
                time datetime=(status.time) { (status.time) } ". "
                a href=(asked.link()) { "Look again" }
            }
            @if let Some(drain) = &status.drain {
                p class="bad" {
                    "The drain (" (drain.cause) ") began " (ago(&drain.since, &status.time)) ", and portway resets what is left at "
                    (drain.until) "."
                }
            }
            p {
                (connections_in_words(totals.connections)) ", " (totals.pending) " of them without a whole hello. In the last "
                (status.rate_window_s) " s: " (format!("{:.1}", rates.connections_per_s)) " new and "
                (format!("{:.1}", rates.failures_per_s)) " failed per second, "
                (byte_rate(rates.bytes_client_to_backend_per_s)) " to backends, "
                (byte_rate(rates.bytes_backend_to_client_per_s)) " to clients."
            }
            @if status.silent_workers > 0 {
                p class="bad" {
                    (silent(status.silent_workers)) ", so refused and failed connections are missing."
                }
            }
            nav aria-label="Sections" {
                ul { @for (place, name) in sections { li { a href=(place) { (name) } } } }
            }
        }
    }
}
