//! Names in Unicode: accepts only those that mean what a person sees.

use std::borrow::Cow;

use super::{Wrong, wrong};

/// Converts a name that may have U-labels to A-labels. IDNA drops invisible characters and replaces many others,
/// which a reader would not notice, so only the case may change. `wildcard` is the part before the name, for the
/// message.
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

/// Finds the first such change in a whole name. Labels in ASCII do not change.
fn changed_in(name: &str, ascii: &str) -> Option<(usize, char)> {
    let labels: Vec<&str> = name.split('.').collect();
    let meant: Vec<&str> = ascii.split('.').collect();
    if labels.len() != meant.len() {
        // IDNA has made a dot from another character, or has dropped a label.
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

/// The first character of a name that differs from `meant` in more than case, and its position from 0.
fn changed(name: &str, meant: &str) -> Option<(usize, char)> {
    /// Invisible characters that are part of some names.
    const JOINERS: [char; 2] = ['\u{200c}', '\u{200d}'];
    let mut meant = meant.chars();
    let mut is_kept = |character: char| {
        let is_same = |meant| character == meant || is_other_case(character, meant);
        !JOINERS.contains(&character) && meant.next().is_some_and(is_same)
    };
    let first = name.chars().position(|character| !is_kept(character));
    let first = first.or_else(|| meant.next().map(|_| 0))?;
    // A letter that is written in two parts begins with an ordinary letter.
    let mut behind = name.chars().enumerate().skip(first);
    behind.find(|(_, character)| !character.is_ascii())
}

/// Whether two letters are the two cases of one letter. IDNA uses the lower one, but in Cherokee the upper one. The
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
