//! Finds out what is wrong with a value that TOML cannot read.

use std::ops::Range;

use super::broken::{Broken, broken};
use super::key::keys;
use super::tokens::{Cursor, TokenKind};
use super::word::{Wanted, as_list, word};
use crate::config::keys::Kind;

/// Judges the value after the `=` of a statement, and that nothing follows it.
pub(super) fn whole(
    cursor: &mut Cursor<'_>,
    wanted: &Wanted<'_>,
    start: usize,
) -> Result<(), Broken> {
    cursor.skip_whitespace();
    if cursor.is_at_end_of_line() {
        let span = start..cursor.end;
        let message = format!("{} has no value behind its =", wanted.key);
        cursor.skip_blank();
        let help = match cursor.peek() {
            Some(_) => "begin the value in the line of its key".to_owned(),
            None => wanted.for_example("write a value behind it"),
        };
        return broken(span, message, help);
    }
    let start = cursor.start();
    value(cursor, wanted, false)?;
    nothing_more(cursor, wanted, start)
}

fn value(cursor: &mut Cursor<'_>, wanted: &Wanted<'_>, is_in_list: bool) -> Result<(), Broken> {
    let at = cursor.start()..cursor.start() + cursor.word().len();
    match cursor.kind() {
        Some(TokenKind::LeftSquareBracket) if !is_address(*cursor) => list(cursor, wanted),
        Some(TokenKind::LeftCurlyBracket) => table(cursor),
        Some(TokenKind::Equals) => broken(at, "there is one = too many", "leave it out"),
        Some(TokenKind::Comma | TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket) => {
            broken(
                at,
                format!("there is no value before {}", cursor.word()),
                wanted.for_example("write a value before it"),
            )
        }
        Some(_) => word(cursor, wanted, is_in_list),
        None => broken(
            at,
            "a value is missing",
            wanted.for_example("write a value here"),
        ),
    }
}

/// Whether an IPv6 address in brackets begins here, without quotes.
fn is_address(mut cursor: Cursor<'_>) -> bool {
    cursor.next();
    cursor.kind() == Some(TokenKind::Atom) && cursor.word().contains(':')
}

fn nothing_more(cursor: &mut Cursor<'_>, wanted: &Wanted<'_>, start: usize) -> Result<(), Broken> {
    let end = cursor.end;
    cursor.skip_whitespace();
    if cursor.is_at_end_of_line() {
        return Ok(());
    }
    let next = cursor.word();
    let at = cursor.start()..cursor.start() + next.len();
    let rest = cursor.rest_of_line();
    let line = cursor.text_of(start..cursor.start() + rest.len());
    let is_list = cursor.text_of(start..end).starts_with('[');
    if next.starts_with(';') {
        return broken(at, "a line does not end with a semicolon", "leave it out");
    }
    if ["//", "/*", "--"].iter().any(|mark| next.starts_with(mark)) {
        return broken(at, "a comment begins with #", "write # before it");
    }
    if wanted.is_list() && !is_list {
        let is_closed = cursor.kind() == Some(TokenKind::RightSquareBracket);
        let values = if is_closed {
            cursor.text_of(start..end)
        } else {
            line
        };
        let help = format!("write {} = {}", wanted.key, as_list(values));
        return broken(at, format!("{} takes a list", wanted.key), help);
    }
    match (wanted.kind, cursor.kind()) {
        (Some(Kind::Count(_)), Some(TokenKind::Comma)) => {
            let digits: String = line.chars().filter(char::is_ascii_digit).collect();
            broken(at, "a number has no commas", format!("write {digits}"))
        }
        (Some(Kind::Duration(_) | Kind::DurationOr(..) | Kind::Size(_)), Some(TokenKind::Atom)) => {
            broken(
                start..start + line.len(),
                format!("{line} is not in quotes"),
                format!("write {line:?}"),
            )
        }
        (_, Some(TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket)) => {
            broken(at, format!("there is one {next} too many"), "leave it out")
        }
        _ if rest.contains('=') => broken(
            at,
            "each key has its line for itself",
            format!(
                "begin a new line for {}",
                rest.trim_start_matches([',', ' '])
            ),
        ),
        _ => broken(
            at,
            format!("there is {rest} behind the value"),
            "leave it out, or write # before it if it is a comment",
        ),
    }
}

fn list(cursor: &mut Cursor<'_>, wanted: &Wanted<'_>) -> Result<(), Broken> {
    let value = |cursor: &mut Cursor<'_>| value(cursor, wanted, true);
    items(cursor, ["list", "]"], value, |cursor| {
        let at = cursor.start()..cursor.start() + cursor.word().len();
        match cursor.kind() {
            Some(TokenKind::Equals) => {
                broken(at, "a list has values, and no keys", "leave the = out")
            }
            Some(TokenKind::RightCurlyBracket) => {
                broken(at, "a list ends with ]", "write ] for it")
            }
            Some(TokenKind::Atom) if cursor.word().starts_with(';') => broken(
                at,
                "values have commas between them",
                "write a comma for it",
            ),
            Some(TokenKind::Atom) if cursor.word().starts_with(')') => {
                broken(at, "a list ends with ]", "write ] for it")
            }
            _ => Ok(()),
        }
    })
}

/// Judges a table in braces.
fn table(cursor: &mut Cursor<'_>) -> Result<(), Broken> {
    items(cursor, ["table", "}"], pair_of_table, |_| Ok(()))
}

/// Judges the items between brackets. `instead` judges what follows an item and is neither a comma nor the end.
fn items(
    cursor: &mut Cursor<'_>,
    [what, bracket]: [&str; 2],
    item: impl Fn(&mut Cursor<'_>) -> Result<(), Broken>,
    instead: impl Fn(&Cursor<'_>) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let open = cursor.start()..cursor.start() + 1;
    let mut last = String::new();
    cursor.next();
    loop {
        cursor.skip_blank();
        if cursor.word() == bracket {
            cursor.next();
            return Ok(());
        }
        match cursor.kind() {
            None => return not_closed(open, [what, bracket], &last),
            Some(TokenKind::Comma) => return one_comma_too_many(cursor),
            _ => {}
        }
        let start = cursor.start();
        item(cursor)?;
        let item = start..cursor.end;
        cursor.text_of(item.clone()).clone_into(&mut last);
        cursor.skip_blank();
        if cursor.kind() == Some(TokenKind::Comma) {
            cursor.next();
        } else if cursor.kind().is_some() && cursor.word() != bracket {
            instead(cursor)?;
            return no_comma(item, &last);
        }
    }
}

/// The fault of a list or a table that is not closed before the next statement begins.
fn not_closed(open: Range<usize>, [what, bracket]: [&str; 2], last: &str) -> Result<(), Broken> {
    let last = if last.is_empty() {
        "its last value"
    } else {
        last
    };
    broken(
        open,
        format!("the {what} is not closed"),
        format!("write {bracket} behind {last}"),
    )
}

fn one_comma_too_many(cursor: &Cursor<'_>) -> Result<(), Broken> {
    let at = cursor.start()..cursor.start() + 1;
    broken(at, "there is one comma too many", "leave it out")
}

fn no_comma(value: Range<usize>, last: &str) -> Result<(), Broken> {
    broken(
        value,
        format!("there is no comma behind {last}"),
        "write a comma between two values",
    )
}

fn pair_of_table(cursor: &mut Cursor<'_>) -> Result<(), Broken> {
    let start = cursor.start();
    let word = cursor.word();
    let at = start..start + word.len();
    let (keys, judged) = match word.split_once(':') {
        Some((key, _)) => {
            let help = format!("write {key} = and its value");
            return broken(at, format!("{key} has a colon where its = belongs"), help);
        }
        None => keys(cursor),
    };
    judged?;
    let key = cursor.text_of(start..cursor.end.max(start));
    if keys.is_empty() {
        return broken(
            at,
            "a key is missing",
            "write key = value, with commas between the pairs",
        );
    }
    cursor.skip_blank();
    if !cursor.take(TokenKind::Equals) {
        let help = format!("write {key} = and its value");
        return broken(
            start..cursor.end,
            format!("there is no = behind {key}"),
            help,
        );
    }
    cursor.skip_blank();
    value(cursor, &Wanted::default(), true)
}
