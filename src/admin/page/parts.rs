//! Parts that every section uses: tables, links to connections, texts with code in them.

use maud::{Markup, html};

/// The connections of the page that a filter selects.
pub(super) fn filtered(name: &str, value: &str) -> String {
    linked([(name, value)])
}

/// The link to the page with these parameters.
pub(super) fn linked<'p>(pairs: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs);
    match query.finish().as_str() {
        "" => "/#connections".to_owned(),
        query => format!("/?{query}#connections"),
    }
}

/// A table. On a narrow screen each row becomes a list whose labels are the headings; the roles keep it a table for a
/// screen reader even so.
pub(super) fn table<const N: usize>(
    caption: &str,
    headings: [&str; N],
    rows: impl IntoIterator<Item = [Markup; N]>,
) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for heading in headings { th role="columnheader" scope="col" { (heading) } }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (cell, heading) in row.iter().zip(headings) {
                            td role="cell" data-label=(heading) { div { (cell) } }
                        }
                    }
                }
            }
        }
    }
}

/// A text with code between backticks.
pub(super) fn prose(text: &str) -> Markup {
    html! {
        @for (number, part) in text.split('`').enumerate() {
            @if number % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A cell of text.
#[expect(
    clippy::needless_pass_by_value,
    reason = "most cells are made where they are shown"
)]
pub(super) fn cell(text: impl ToString) -> Markup {
    html! { (text.to_string()) }
}

/// A name or an address as code, or a dash. Where it has no room on one line, it breaks behind a dot first.
pub(super) fn code(text: Option<&str>) -> Markup {
    html! {
        @match text {
            Some(text) => code { @for part in text.split_inclusive('.') { (part) @if part.ends_with('.') { wbr; } } },
            None => "-",
        }
    }
}

/// A count of things for which the page has no room.
pub(super) fn and_more(hidden: usize) -> Markup {
    html! {
        @if hidden > 0 {
            p { "The page leaves out " (hidden) " of them: " a href="/status" { "/status" } " has up to 1,000 of each kind." }
        }
    }
}
