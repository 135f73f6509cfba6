//! Keys, and the parts of one with dots.

use std::ops::Range;

use super::broken::{Broken, broken, judge_characters};
use super::tokens::{Cursor, Token, TokenKind, is_bare, is_closed};
use crate::config::path::Path;
use crate::config::values::{self, Wrong};

/// A key, or a part of one.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Range<usize>,
}

/// The path of keys under a table.
pub(super) fn path_of(table: &Path, keys: &[Key]) -> Path {
    keys.iter()
        .fold(table.clone(), |path, key| path.key(&key.name))
}

/// The parts of a key, with dots between them.
pub(super) fn keys(cursor: &mut Cursor<'_>) -> (Vec<Key>, Result<(), Broken>) {
    let mut keys = Vec::new();
    loop {
        cursor.skip_whitespace();
        let is_key = |token: &&Token| token.kind == TokenKind::Atom || token.is_string();
        let Some(token) = cursor.peek().filter(is_key) else {
            let span = cursor.start()..cursor.start();
            let judged = if keys.is_empty() && cursor.kind() != Some(TokenKind::Dot) {
                Ok(())
            } else {
                let help = "leave the dot out, or write a name on each side of it";
                broken(span, "a name is missing beside a dot", help)
            };
            return (keys, judged);
        };
        let written = cursor.word();
        let span = token.span.clone();
        cursor.next();
        if let Err(broken) = judge_key(written, &span, token.is_string()) {
            return (keys, Err(broken));
        }
        let name = if token.is_string() {
            written.trim_matches(['"', '\'']).to_owned()
        } else {
            written.to_owned()
        };
        keys.push(Key { name, span });
        cursor.skip_whitespace();
        if !cursor.take(TokenKind::Dot) {
            return (keys, Ok(()));
        }
    }
}

fn judge_key(written: &str, span: &Range<usize>, is_string: bool) -> Result<(), Broken> {
    if is_string {
        if is_closed(written) {
            return Ok(());
        }
        let name = written.trim_matches(['"', '\'', ']', ' ', '\r']);
        let help = format!("write {name:?}, with a quote on each side");
        return broken(span.clone(), "the quote is not closed", help);
    }
    if is_bare(written) {
        return Ok(());
    }
    judge_characters(written, span)?;
    let Err(Wrong { help, .. }) = values::name(written) else {
        return Ok(());
    };
    let with_dots = written.replace(['/', '\\', ':'], ".");
    let help = if with_dots.split('.').all(is_bare) {
        format!("write {with_dots}")
    } else {
        help
    };
    broken(span.clone(), format!("{written:?} is not a name"), help)
}
