//! Faults of TOML's syntax: for every broken statement, where it begins, what is wrong, and what to write.
//!
//! `toml` says whether a statement is broken, in the words of a parser. This module finds out from the tokens what is
//! wrong with it. It removes broken statements, so that the rest can be read and checked too.

mod broken;
mod key;
mod line;
mod repeated;
#[cfg(test)]
mod tests;
mod tokens;
mod value;
mod word;

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::faults::Fault;
use super::keys::{self as known_keys, ROOT, Under};
use super::lost::Lost;
use super::path::Path;
use broken::Broken;
use key::{Key, path_of};
use line::Line;
pub(super) use tokens::find_token;
use tokens::{Cursor, TokenKind, statements, tokens};

/// The header that statements are under.
#[derive(Default)]
struct Header {
    path: Path,
    is_broken: bool,
}

/// The tree of a file. Broken parts are in `lost` instead. If there are any, the tree is that of `readable`.
pub(super) fn read<'t>(
    text: &'t str,
    readable: &'t mut String,
    lost: &mut Lost,
) -> Spanned<DeTable<'t>> {
    if let Ok(tree) = DeTable::parse(text) {
        return tree;
    }
    *readable = without_broken(text, lost);
    let (tree, errors) = DeTable::parse_recoverable(readable);
    if !errors.is_empty() {
        repeated::report(readable, &errors, lost);
    }
    tree
}

/// The text of a broken file with spaces in place of the broken statements. Everything else keeps its place.
fn without_broken(text: &str, lost: &mut Lost) -> String {
    let tokens = tokens(text);
    let mut readable = text.to_owned();
    let mut header = Header::default();
    for statement in statements(text, &tokens) {
        let tokens = tokens.get(statement).unwrap_or_default();
        let cursor = Cursor::new(text, tokens);
        let span = cursor.start()..tokens.last().map_or(text.len(), |last| last.span.end);
        let line = line::read(cursor, &header.path);
        let table = if line.is_header {
            Path::default()
        } else {
            header.path.clone()
        };
        let path = path_of(&table, &line.keys);
        let error = DeTable::parse(text.get(span.clone()).unwrap_or_default()).err();
        let is_broken = error.is_some();
        // A statement under a broken header is lost with it.
        if is_broken && (line.is_header || !header.is_broken) {
            let is_one = tokens
                .iter()
                .filter(|token| token.kind == TokenKind::Equals)
                .count()
                < 2;
            lose(line.keys.as_slice(), (&table, &path), is_one, lost);
        }
        if line.is_header {
            header = Header {
                path: path.clone(),
                is_broken,
            };
        }
        if let Some(error) = error {
            report(line, &error, (&span, path), lost);
        }
        if is_broken || header.is_broken {
            blank(&mut readable, span);
        }
    }
    readable
}

fn report(line: Line, error: &Error, (span, path): (&Range<usize>, Path), lost: &mut Lost) {
    let Broken {
        span,
        message,
        help,
    } = line.judged.err().unwrap_or_else(|| {
        let at = error.span().unwrap_or_default();
        let example = known_keys::example(path.keys());
        Broken {
            span: span.start + at.start..span.start + at.end,
            message: format!("TOML cannot read this: {}", error.message()),
            help: example.map_or_else(
                || "compare with the example in docs/routes.md".to_owned(),
                |example| format!("write, for example, {example}"),
            ),
        }
    });
    let start = span.start;
    lost.faults
        .add_at(start, || Fault::new(span, path, message, Some(help)));
}

/// Notes the keys that later checks must not report as missing: the last of these keys, if the statement certainly
/// has one key.
fn lose(keys: &[Key], (table, path): (&Path, &Path), is_one: bool, lost: &mut Lost) {
    let is_in_root = |name: &str| ROOT.iter().any(|key| key.name == name);
    if let Some((key, parents)) = keys.split_last()
        && is_one
        && path.keys().next().is_some_and(is_in_root)
    {
        let parent = path_of(table, parents);
        let may_be = known_keys::table(parent.keys());
        if may_be.is_none_or(|known| known.iter().any(|known| known.name == key.name)) {
            lost.add(&parent, Some(&key.name));
            if parent == Path::default() {
                lost.add(path, None);
            }
            return;
        }
    }
    // The statement may have had any of these keys.
    if lost.is_unclear(table) {
        return;
    }
    lost.add(table, None);
    for key in known_keys::table(table.keys()).unwrap_or_default() {
        lost.add(table, Some(key.name));
        if matches!(key.under, Under::Named(..)) {
            lost.add(&table.key(key.name), None);
        }
    }
}

/// Writes spaces over a part of the text.
fn blank(text: &mut String, span: Range<usize>) {
    let part = text.get(span.clone()).unwrap_or_default();
    let blanks: String = (part.bytes())
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect();
    text.replace_range(span, &blanks);
}
