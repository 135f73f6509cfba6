//! Reads a statement: a header, or a key and its value. Finds its keys, and what is wrong with it.

use super::broken::{Broken, broken};
use super::key::{Key, keys, path_of};
use super::tokens::{Cursor, TokenKind, is_bare};
use super::value;
use super::word::Wanted;
use crate::config::keys as known_keys;
use crate::config::path::Path;

/// One statement as far as it can be read.
pub(super) struct Line {
    pub(super) is_header: bool,
    /// The keys, without those of the header that it is under.
    pub(super) keys: Vec<Key>,
    /// Says what is wrong with it, if it is broken.
    pub(super) judged: Result<(), Broken>,
}

/// Reads the statement under the header of `table`.
pub(super) fn read(mut cursor: Cursor<'_>, table: &Path) -> Line {
    let begins_as_header = cursor.kind() == Some(TokenKind::LeftSquareBracket);
    let (keys, judged) = if begins_as_header {
        header(&mut cursor)
    } else {
        pair(&mut cursor, table)
    };
    // A header without its first bracket.
    let ends_as_header = !keys.is_empty() && cursor.kind() == Some(TokenKind::RightSquareBracket);
    Line {
        is_header: begins_as_header || (ends_as_header && cursor.end == end_of(&keys)),
        keys,
        judged,
    }
}

fn end_of(keys: &[Key]) -> usize {
    keys.last().map_or(0, |key| key.span.end)
}

fn header(cursor: &mut Cursor<'_>) -> (Vec<Key>, Result<(), Broken>) {
    let start = cursor.start();
    cursor.next();
    let is_array = cursor.take(TokenKind::LeftSquareBracket);
    let (keys, judged) = keys(cursor);
    let judged =
        judged.and_then(|()| rest_of_header(cursor, &keys, [start, usize::from(is_array)]));
    (keys, judged)
}

fn rest_of_header(
    cursor: &mut Cursor<'_>,
    keys: &[Key],
    [start, more_brackets]: [usize; 2],
) -> Result<(), Broken> {
    let header = format!("[{}]", path_of(&Path::default(), keys));
    if keys.is_empty() {
        let help = "write a name between the brackets, such as [routes.fleet]";
        return broken(start..cursor.end, "the header has no name", help);
    }
    cursor.skip_whitespace();
    for _ in 0..=more_brackets {
        if !cursor.take(TokenKind::RightSquareBracket) {
            let span = start..cursor.end;
            return match cursor.kind() {
                Some(TokenKind::Atom) => {
                    let whole = format!("{} {}", path_of(&Path::default(), keys), cursor.word());
                    let message = format!("the header has a space in its name: {whole}");
                    broken(
                        span,
                        message,
                        format!("write [{}]", whole.replace(' ', ".")),
                    )
                }
                _ => broken(span, "the header is not closed", format!("write {header}")),
            };
        }
    }
    cursor.skip_whitespace();
    if cursor.is_at_end_of_line() {
        return Ok(());
    }
    let at = cursor.start()..cursor.start() + cursor.word().len();
    if cursor.kind() == Some(TokenKind::RightSquareBracket) {
        return broken(at, "there is one ] too many", format!("write {header}"));
    }
    broken(
        at,
        "a header has its line for itself",
        format!("begin a new line behind {header}"),
    )
}

/// The help that says what a line may be.
const A_LINE_IS: &str = "write a header such as [listeners.agents], or a key and a value such as \
                         bind = [\"[::]:443\"]";

fn pair(cursor: &mut Cursor<'_>, table: &Path) -> (Vec<Key>, Result<(), Broken>) {
    let start = cursor.start();
    if let Err(broken) = judge_foreign(cursor) {
        return (Vec::new(), Err(broken));
    }
    let first = *cursor;
    let (keys, judged) = keys(cursor);
    let judged = match judged {
        Err(broken) => judge_colon(&first, table).and(Err(broken)),
        Ok(()) if keys.is_empty() => judge_without_key(cursor),
        Ok(()) => {
            let path = path_of(table, &keys);
            rest_of_pair(cursor, &path, start)
        }
    };
    (keys, judged)
}

/// Finds a comment or a value of a list in the syntax of other files.
fn judge_foreign(cursor: &Cursor<'_>) -> Result<(), Broken> {
    let marks = ["//", "/*", ";", "--", "<!--", "!"];
    if marks.iter().any(|mark| cursor.word().starts_with(mark)) {
        let line = cursor.start()..cursor.start() + cursor.rest_of_line().len();
        return broken(line, "a comment begins with #", "write # before it");
    }
    if cursor.word() == "-" {
        let help =
            "write the values behind the = of their key: [ before them, commas between, ] behind";
        let at = cursor.start()..cursor.start() + 1;
        return broken(at, "a value of a list has no - before it", help);
    }
    Ok(())
}

/// Finds a key with a colon after it, as in YAML.
fn judge_colon(cursor: &Cursor<'_>, table: &Path) -> Result<(), Broken> {
    let word = cursor.word();
    let Some((key, _)) = word.split_once(':').filter(|(key, _)| is_bare(key)) else {
        return Ok(());
    };
    let span = cursor.start()..cursor.start() + word.len();
    let help = known_keys::example(table.key(key).keys());
    let help = help.map_or_else(
        || A_LINE_IS.to_owned(),
        |example| format!("write, for example, {example}"),
    );
    broken(span, format!("{key} has a colon where its = belongs"), help)
}

fn judge_without_key(cursor: &Cursor<'_>) -> Result<(), Broken> {
    let word = cursor.word();
    let span = cursor.start()..cursor.start() + word.len();
    match cursor.kind() {
        Some(TokenKind::Equals) => broken(span, "there is no key before the =", A_LINE_IS),
        Some(TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket) => broken(
            span,
            format!("this {word} closes nothing"),
            "leave it out, or look for a bracket before it that was closed too early",
        ),
        _ => broken(span, not_a_line(word), A_LINE_IS),
    }
}

fn not_a_line(word: &str) -> String {
    format!("a line does not begin with {word:?}")
}

fn rest_of_pair(cursor: &mut Cursor<'_>, path: &Path, start: usize) -> Result<(), Broken> {
    cursor.skip_whitespace();
    let span = start..cursor.end;
    let written = cursor.text_of(span.clone());
    let known = known_keys::find(path.keys());
    let example = known_keys::example(path.keys()).filter(|_| known.is_some());
    let for_example = example
        .as_ref()
        .map(|example| format!("write, for example, {example}"));
    match cursor.kind() {
        Some(TokenKind::Equals) => {
            cursor.next();
            let wanted = Wanted {
                kind: known.map(|(_, kind, _)| kind),
                key: written,
                example: example.as_deref(),
            };
            value::whole(cursor, &wanted, start)
        }
        Some(TokenKind::RightSquareBracket) => broken(
            span,
            "the header has no [ before it",
            format!("write [{written}]"),
        ),
        Some(TokenKind::LeftCurlyBracket) => broken(
            span,
            format!("{written} begins a block in braces, as other programs have them"),
            "write a header such as [listeners.agents], and its keys below it",
        ),
        Some(TokenKind::Comma) => broken(
            span,
            "a value belongs into the list of its key",
            "write [ behind the = of the key, and ] behind the last value",
        ),
        _ if cursor.is_at_end_of_line() => {
            let help = for_example.unwrap_or_else(|| A_LINE_IS.to_owned());
            broken(span, format!("{written} has no = and no value"), help)
        }
        _ => {
            let rest = cursor.rest_of_line();
            let Some(example) = for_example else {
                let span = start..cursor.start() + rest.len();
                let message = "this is neither a header nor a key with a value";
                return broken(span, message, A_LINE_IS);
            };
            let help = if toml::de::DeValue::parse(rest).is_ok() {
                format!("write {written} = {rest}")
            } else {
                example
            };
            broken(span, format!("there is no = behind {written}"), help)
        }
    }
}
