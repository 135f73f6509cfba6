//! Names in Unicode: which of them are what a person sees.

use std::borrow::Cow;

use super::{Wrong, wrong};

/// A-labels of what may have U-labels. Only case may differ between what is written and what is meant:
/// IDNA drops invisible characters and replaces many others, which nobody would see. The wildcard
/// before the name is for the message.
pub(super) fn to_ascii<'n>(wildcard: &str, name: &'n str) -> Result<Cow<'n, str>, Wrong> {
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
        // The Kelvin sign is not a K, though it becomes one.
        let is_other = |lower: char| lower.is_ascii() && !character.is_ascii();
        let mut lower = character.to_lowercase();
        !JOINERS.contains(&character)
            && lower.all(|lower| !is_other(lower) && meant.next() == Some(lower))
    };
    let first = name.chars().position(|character| !is_kept(character));
    let first = first.or_else(|| meant.next().map(|_| 0))?;
    // What is written in two parts begins with an ordinary letter.
    let mut behind = name.chars().enumerate().skip(first);
    behind.find(|(_, character)| !character.is_ascii())
}
