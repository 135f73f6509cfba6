//! Finds out what is wrong with a string, a number, or a word that is neither.

use std::ops::Range;

use toml::de::DeValue;

use super::broken::{Broken, broken, judge_characters};
use super::tokens::{Cursor, Token, TokenKind, is_closed};
use crate::config::keys::Kind;

/// The key that a value is for.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted<'w> {
    /// The values that the key accepts, if it is a known key.
    pub(super) kind: Option<&'static Kind>,
    /// The key as it is written.
    pub(super) key: &'w str,
    /// The key with a value.
    pub(super) example: Option<&'w str>,
}

impl Wanted<'_> {
    pub(super) const fn is_list(&self) -> bool {
        matches!(
            self.kind,
            Some(
                Kind::Texts(_)
                    | Kind::TextsOrFalse(_)
                    | Kind::Choices(_)
                    | Kind::Endpoints(_)
                    | Kind::Ports
            )
        )
    }

    pub(super) fn for_example(&self, otherwise: &str) -> String {
        let example = self
            .example
            .map(|example| format!("write, for example, {example}"));
        example.unwrap_or_else(|| otherwise.to_owned())
    }
}

/// Judges a string, a number, or anything else without spaces.
pub(super) fn word(
    cursor: &mut Cursor<'_>,
    wanted: &Wanted<'_>,
    is_in_list: bool,
) -> Result<(), Broken> {
    let begin = *cursor;
    if cursor.peek().is_some_and(Token::is_string) {
        cursor.next();
        return string(&begin, cursor);
    }
    skip_word(cursor);
    let span = begin.start()..cursor.end;
    let written = cursor.text_of(span.clone());
    if DeValue::parse(written).is_ok() {
        return Ok(());
    }
    judge_characters(written, &span)?;
    without_quotes(&begin, wanted, is_in_list, span)
}

/// Skips text without spaces, with the brackets that it contains.
fn skip_word(cursor: &mut Cursor<'_>) {
    let mut depth = 0_usize;
    while let Some(token) = cursor.peek().filter(|token| !token.is_blank()) {
        match token.kind {
            TokenKind::Comma | TokenKind::Equals | TokenKind::RightCurlyBracket => return,
            TokenKind::RightSquareBracket if depth == 0 => return,
            TokenKind::RightSquareBracket => depth -= 1,
            TokenKind::LeftSquareBracket => depth += 1,
            TokenKind::Dot
            | TokenKind::LeftCurlyBracket
            | TokenKind::Whitespace
            | TokenKind::Comment
            | TokenKind::Newline
            | TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString
            | TokenKind::Atom
            | TokenKind::Eof => {}
        }
        cursor.next();
    }
}

/// Judges a string, which ends at `behind`.
fn string(begin: &Cursor<'_>, behind: &Cursor<'_>) -> Result<(), Broken> {
    let span = begin.start()..behind.end;
    let written = begin.word();
    if !is_closed(written) {
        let content = written.split(" #").next().unwrap_or(written);
        let content = content.trim_end_matches([']', '}', ',', ';', ' ', '\t', '\r']);
        let help = format!("write {:?}", plain(content));
        return broken(span, "the quote is not closed", help);
    }
    let next = behind.word();
    if behind.kind() == Some(TokenKind::Atom) && !next.starts_with([';', ')', '/']) {
        let span = span.start..span.end + next.len();
        return broken(
            span.clone(),
            format!("the quotes of {} make no pairs", begin.text_of(span)),
            "write a quote on each side of each value, and a comma between two",
        );
    }
    if DeValue::parse(written).is_ok() {
        return Ok(());
    }
    if written.contains('\\') {
        return broken(
            span,
            "a backslash in double quotes begins an escape, and this is none that TOML knows",
            "write \\\\ for a backslash, or put the value into single quotes",
        );
    }
    judge_characters(written, &span)?;
    broken(
        span,
        "the string has a character that it may not have",
        "delete it",
    )
}

/// The content of a value, without quotes and without a bracket of its list.
fn plain(written: &str) -> &str {
    let of_list = |end| end == ']' && !written.contains('[');
    let written = written.trim_end_matches(of_list);
    written.trim_matches(['"', '\'', ';', ' ', '\r'])
}

fn without_quotes(
    begin: &Cursor<'_>,
    wanted: &Wanted<'_>,
    is_in_list: bool,
    span: Range<usize>,
) -> Result<(), Broken> {
    let written = begin.text_of(span.clone());
    let quoted = format!("{:?}", plain(written));
    match wanted.kind {
        Some(Kind::Boolean) => broken(
            span,
            format!("{written} is neither true nor false"),
            "write true or false, in small letters and without quotes",
        ),
        Some(Kind::AddressOrFalse | Kind::TextsOrFalse(_)) if is_off(written) && !is_in_list => {
            broken(
                span,
                format!("{written} is not a value that TOML knows"),
                "write false for none",
            )
        }
        Some(Kind::Count(_)) => broken(
            span,
            format!("{written} is not a whole number"),
            wanted.for_example("write digits only"),
        ),
        _ if wanted.is_list() && !is_in_list => broken(
            span,
            format!("{} takes a list of values in quotes", wanted.key),
            format!("write {} = {}", wanted.key, as_list(begin.rest_of_line())),
        ),
        _ => broken(
            span,
            format!("{written} is not in quotes"),
            format!("write {quoted}"),
        ),
    }
}

fn is_off(written: &str) -> bool {
    let off = ["false", "no", "off", "none", "null", "disabled"];
    off.contains(&&*plain(written).to_lowercase())
}

/// Values with commas or spaces between them as a list.
pub(super) fn as_list(written: &str) -> String {
    let values = written.split([',', ' ', '\t']).map(plain);
    let values = values.map(|value| match value.split_once('[') {
        // This is a bracket around all values, not that of an address.
        Some(("", rest)) if !rest.contains(']') => rest,
        _ if !value.contains('[') => value.trim_end_matches(']'),
        _ => value,
    });
    let values: Vec<String> = values
        .map(plain)
        .filter(|value| !value.is_empty())
        .map(|value| format!("{value:?}"))
        .collect();
    format!("[{}]", values.join(", "))
}
