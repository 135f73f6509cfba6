//! The fault of a statement.

use std::ops::Range;

/// The fault of a statement: what is wrong, where, and what to write.
pub(super) struct Broken {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: String,
}

pub(super) fn broken<T>(
    span: Range<usize>,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Result<T, Broken> {
    Err(Broken {
        span,
        message: message.into(),
        help: help.into(),
    })
}

/// Finds quotes of a text program, and invisible characters: TOML takes both for a part of a word.
pub(super) fn judge_characters(written: &str, span: &Range<usize>) -> Result<(), Broken> {
    const QUOTES: [char; 12] = [
        '\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}', '\u{2018}', '\u{2019}', '\u{201a}',
        '\u{201b}', '\u{ab}', '\u{bb}', '`', '\u{b4}',
    ];
    let is_unseen = |character: &char| {
        character.is_control()
            || matches!(character, '\u{a0}' | '\u{ad}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}')
            || matches!(character, '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{feff}')
    };
    if let Some(unseen) = written.chars().find(is_unseen) {
        return broken(
            span.clone(),
            format!(
                "U+{:04X} is here, a character that looks like a space or like nothing",
                u32::from(unseen)
            ),
            "delete it, and type a space where one is meant",
        );
    }
    if let Some(quote) = written.chars().find(|character| QUOTES.contains(character)) {
        let plain = written.trim_matches(QUOTES);
        return broken(
            span.clone(),
            format!("{quote} is not a quote of TOML"),
            format!("write {:?}", plain.trim_matches(['"', '\''])),
        );
    }
    Ok(())
}
