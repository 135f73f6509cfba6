//! The first questions: is anybody refused and why, does a backend fail and how, is a limit near.

use std::time::Duration;

use maud::{Markup, html};

use super::parts::{cell, code, filtered, prose, table};
use crate::status::words::{
    NO_BACKEND_FAILS, NO_LIMIT_IS_NEAR, NOBODY_REFUSED, ago, connections, counted, counts, or_none,
    since,
};
use crate::status::{Failing, LimitUse, Refused, SameCause, Status, causes};

/// A failure that is longer ago is not what an operator is woken for.
const RECENT: Duration = Duration::from_mins(10);
/// Rows of a cause that are in sight; the others unfold.
const ROWS: usize = 5;
/// Backends that fail, and the faults and failures of each.
const BACKENDS: usize = 20;
const FAULTS: usize = 10;
const FAILURES: usize = 3;

/// One line for each of the first questions, which leads to the answer.
pub(super) fn verdicts(status: &Status, failing: &[Failing<'_>]) -> Markup {
    let near = status.limits.iter().filter(|limit| limit.near);
    let near: Vec<&str> = near.map(|limit| limit.name.as_str()).collect();
    let names: Vec<&str> = failing.iter().map(|it| it.backend.name.as_str()).collect();
    let last = status.refused.first();
    let is_recent = |row: &Refused| since(&row.last_seen, &status.time) < Some(RECENT);
    let refused = last.map_or_else(
        || NOBODY_REFUSED.to_owned(),
        |last| {
            format!(
                "The last connection failed {}.",
                ago(&last.last_seen, &status.time)
            )
        },
    );
    let reload = status.configuration.refused_reload.as_ref();
    html! {
        ul class="verdicts" aria-label="In short" {
            (verdict(last.is_some_and(is_recent), "#refused", "Clients", &refused))
            (verdict(!names.is_empty(), "#failing", "Backends", &all(NO_BACKEND_FAILS, "Failing", &names)))
            (verdict(!near.is_empty(), "#limits", "Limits", &all(NO_LIMIT_IS_NEAR, "Near or reached", &near)))
            @if let Some(reload) = reload {
                (verdict(true, "#configuration", "Configuration", &format!("A reload was refused {}.", ago(&reload.time, &status.time))))
            } @else {
                (verdict(false, "#configuration", "Configuration", "The file is in force."))
            }
        }
    }
}

fn verdict(is_problem: bool, place: &str, title: &str, sentence: &str) -> Markup {
    html! {
        li class=[is_problem.then_some("problem")] {
            strong { (title) ": " @if is_problem { "look here" } @else { "fine" } }
            a href=(place) { (sentence) }
        }
    }
}

/// The first few names, or a sentence that says that there is none.
fn all(none: &str, words: &str, names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().copied().take(FAILURES).collect();
    match names.len() {
        0 => none.to_owned(),
        1..=FAILURES => format!("{words}: {}.", shown.join(", ")),
        all => format!("{words}: {} and {} more.", shown.join(", "), all - FAILURES),
    }
}

/// The clients that are refused, by cause.
pub(super) fn refused(status: &Status) -> Markup {
    html! {
        section id="refused" aria-labelledby="refused-title" {
            h2 id="refused-title" { "Refused and failed connections" }
            @if status.refused.is_empty() {
                p { (NOBODY_REFUSED) }
            } @else {
                p class="soft" { "By cause, the one that was seen last first. Each row is about a network of clients and a name." }
            }
            @for group in causes(&status.refused) { (cause(&group, status)) }
            @if status.refused_forgotten > 0 {
                p { "Before them came " (connections(status.refused_forgotten)) ", of which only the metrics and the log know." }
            }
        }
    }
}

fn cause(group: &SameCause<'_>, status: &Status) -> Markup {
    let (first, rest) = group.rows.split_at(ROWS.min(group.rows.len()));
    let caption = format!("Clients with the outcome {}", group.outcome);
    html! {
        article {
            h3 {
                code { (group.outcome) }
                @if let Some(reason) = group.reason { " (" code { (reason) } ")" }
                ": " (connections(group.count))
            }
            p class="remedy" { strong { "What to do: " } (prose(group.remedy)) }
            (rows(&caption, first, status))
            @if !rest.is_empty() {
                details {
                    summary { (counted(rest.len(), "more row")) " of " (group.outcome) }
                    (rows(&caption, rest, status))
                }
            }
        }
    }
}

fn rows(caption: &str, rows: &[&Refused], status: &Status) -> Markup {
    let headings = ["Clients", "Name", "Count", "Last seen", "More"];
    let cells = rows.iter().map(|row| {
        [
            html! { a class="mono" href=(filtered("client", &row.clients)) { (row.clients) } },
            name(row),
            cell(row.count),
            cell(ago(&row.last_seen, &status.time)),
            more(row),
        ]
    });
    table(caption, headings, cells)
}

fn name(row: &Refused) -> Markup {
    html! {
        @if row.many_names { "many other names" } @else { (code(row.name.as_deref())) }
    }
}

/// Everything else that is known of a row.
fn more(row: &Refused) -> Markup {
    html! {
        @if let Some(nearest) = &row.nearest { "Did the client mean " (code(Some(nearest))) "? " }
        @if let Some(detail) = &row.detail { (prose(detail)) ". " }
        "The last client was " (code(Some(&row.client))) ", at listener " (row.listener)
        @if let Some(backend) = &row.backend { ", for backend " (backend) }
        "."
    }
}

/// The backends that fail.
pub(super) fn failing(status: &Status, failing: &[Failing<'_>]) -> Markup {
    html! {
        section id="failing" aria-labelledby="failing-title" {
            h2 id="failing-title" { "Backends that fail" }
            @if failing.is_empty() { p { (NO_BACKEND_FAILS) } }
            @for one in failing.iter().take(BACKENDS) { (failing_one(one, status)) }
            @if failing.len() > BACKENDS {
                p { "The page leaves out " (failing.len() - BACKENDS) " of them: see " a href="/status" { "/status" } "." }
            }
        }
    }
}

fn failing_one(failing: &Failing<'_>, status: &Status) -> Markup {
    let backend = failing.backend;
    let hidden = failing.faults.len().saturating_sub(FAULTS);
    let failures = failing.failures.iter().take(FAILURES).map(|row| {
        let reason = row.reason.as_deref();
        [
            html! { code { (row.outcome) } @if let Some(reason) = reason { " (" code { (reason) } ")" } },
            cell(ago(&row.last_seen, &status.time)),
            cell(row.count),
            name(row),
            html! { @if let Some(detail) = &row.detail { (prose(detail)) } },
        ]
    });
    let headings = ["Outcome", "Last seen", "Count", "Name", "Detail"];
    html! {
        article {
            h3 { (backend.name) }
            p {
                (format!("{:.1}", backend.rates.failures_per_s)) " connections fail per second. Handshakes since the start: "
                (or_none(&counts(&backend.handshakes))) "."
            }
            @if !failing.faults.is_empty() {
                ul { @for fault in failing.faults.iter().take(FAULTS) { li class="bad" { (fault) } } }
            }
            @if hidden > 0 { p { "The table of its endpoints shows " (counted(hidden, "more fault")) "." } }
            @if !failing.failures.is_empty() {
                (table(&format!("Last failures of {}", backend.name), headings, failures))
            }
        }
    }
}

/// The limits, with those that are near first.
pub(super) fn limits(status: &Status) -> Markup {
    let mut limits: Vec<&LimitUse> = status.limits.iter().collect();
    limits.sort_by_key(|limit| !limit.near);
    let is_near = limits.first().is_some_and(|limit| limit.near);
    let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |it| it.to_string());
    let rows = limits.into_iter().map(|limit| {
        [
            html! { code { (limit.name) } },
            html! { @if limit.near { span class="bad" { "near or reached" } } @else { "fine" } },
            cell(number(limit.used)),
            cell(number(limit.limit)),
            cell(limit.rejected),
        ]
    });
    let headings = ["Limit", "State", "In use", "Of", "Rejected"];
    html! {
        section id="limits" aria-labelledby="limits-title" {
            h2 id="limits-title" { "Limits" }
            p {
                @if is_near {
                    "At least one limit is in use to 80 %, or has rejected a connection in the last minute."
                } @else {
                    (NO_LIMIT_IS_NEAR)
                }
            }
            (table("The limits and their use", headings, rows))
        }
    }
}
