//! Names in Unicode: which of them are what a person sees.

use std::borrow::Cow;

use super::{Wrong, wrong};

/// A-labels of what may have U-labels. Only case may differ between what is written and what is meant:
/// IDNA drops invisible characters and replaces many others, which nobody would see. The wildcard
/// before the name is for the message.
pub(in crate::config) fn to_ascii<'n>(
    wildcard: &str,
    name: &'n str,
) -> Result<Cow<'n, str>, Wrong> {
    if name.is_ascii() {
        return Ok(Cow::Borrowed(name));
    }
    let Ok(ascii) = idna::domain_to_ascii(name) else {
        return wrong(
            format!("{name:?} is not an internationalised name"),
            "write it in A-labels, such as \"xn--bcher-kva.example\"",
        );
    };
    let Some((position, character)) = changed_in(name, &ascii) else {
        return Ok(Cow::Owned(ascii));
    };
    let written = format!("{wildcard}{name}");
    let position = wildcard.len() + position + 1;
    let point = u32::from(character);
    wrong(
        format!(
            "{written:?} looks like another name: its character {position}, U+{point:04X}, is \
             invisible or stands for another one"
        ),
        if ascii.is_empty() {
            "leave that character out".to_owned()
        } else {
            format!("write \"{wildcard}{ascii}\" if you mean that, or leave that character out")
        },
    )
}

/// The same for a whole name of labels, of which those in ASCII mean themselves.
fn changed_in(name: &str, ascii: &str) -> Option<(usize, char)> {
    let labels: Vec<&str> = name.split('.').collect();
    let meant: Vec<&str> = ascii.split('.').collect();
    if labels.len() != meant.len() {
        // A dot was made of another character, or of a label that is gone.
        let (meant, _) = idna::domain_to_unicode(ascii);
        return changed(name, &meant);
    }
    let mut before = 0;
    for (label, meant) in labels.into_iter().zip(meant) {
        if !label.is_ascii() {
            let (meant, _) = idna::domain_to_unicode(meant);
            if let Some((position, character)) = changed(label, &meant) {
                return Some((before + position, character));
            }
        }
        before += label.chars().count() + 1;
    }
    None
}

/// A character that makes a name more than the other case of `meant`, and its position from 0.
fn changed(name: &str, meant: &str) -> Option<(usize, char)> {
    /// They are part of some names, and nobody sees them.
    const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];
    let mut meant = meant.chars();
    let mut is_kept = |character: char| {
        let is_same = |meant| character == meant || is_other_case(character, meant);
        !JOINERS.contains(&character) && meant.next().is_some_and(is_same)
    };
    let first = name.chars().position(|character| !is_kept(character));
    let first = first.or_else(|| meant.next().map(|_| 0))?;
    // What is written in two parts begins with an ordinary letter.
    let mut behind = name.chars().enumerate().skip(first);
    behind.find(|(_, character)| !character.is_ascii())
}

/// Whether two letters are a pair of cases. IDNA means the lower one, but in Cherokee the upper one. The
/// Kelvin sign, whose lower case is k, is in no pair: the upper case of k is K.
fn is_other_case(one: char, other: char) -> bool {
    /// The upper case of ß is two letters, but IDNA means ß by it.
    const CAPITAL_SHARP_S: char = '\u{1e9e}';
    let lower = |upper: char, lower: char| {
        upper.to_lowercase().eq([lower])
            && (lower.to_uppercase().eq([upper]) || upper == CAPITAL_SHARP_S)
    };
    lower(one, other) || lower(other, one)
}
