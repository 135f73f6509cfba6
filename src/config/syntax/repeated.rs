//! Finds repetitions in a file: keys, headers, and tables that are also values.

use std::collections::HashMap;
use std::ops::Range;

use toml::de::Error;

use super::key::path_of;
use super::line::{self, Line};
use super::tokens::{Cursor, statements, tokens};
use crate::config::faults::Fault;
use crate::config::lost::Lost;
use crate::config::path::Path;

/// The message of `toml` for a key that exists already.
const TWICE: &str = "duplicate key";

/// Reports the errors of a file whose single statements are all correct.
pub(super) fn report(text: &str, errors: &[Error], lost: &mut Lost) {
    let mut places: Vec<(Range<usize>, &str)> = (errors.iter())
        .map(|error| (error.span().unwrap_or_default(), error.message()))
        .collect();
    places.sort_by_key(|(place, _)| place.start);
    let mut places = places.into_iter().peekable();
    let mut seen = HashMap::new();
    let mut table = Path::default();
    let mut is_repeated = false;
    let mut odd = None;
    let tokens = tokens(text);
    for statement in statements(text, &tokens) {
        let tokens = tokens.get(statement).unwrap_or_default();
        let cursor = Cursor::new(text, tokens);
        let start = cursor.start();
        let end = tokens.last().map_or(text.len(), |last| last.span.end);
        let line = line::read(cursor, &table);
        if line.is_header {
            table = Path::default();
            is_repeated = false;
        }
        while let Some((place, message)) = places.next_if(|(place, _)| place.start < end) {
            let is_twice = message == TWICE || message.starts_with("cannot extend");
            if !is_twice || place.start < start {
                odd.get_or_insert(place);
            } else if !is_repeated {
                let repeated = (place, message, text);
                let fault = twice(repeated, &line, &table, &seen);
                // A key that only one of the two has does not count as missing.
                if let Some((key, parents)) = line.keys.split_last() {
                    lost.add(&path_of(&table, parents), Some(&key.name));
                }
                lost.faults.add(fault);
                // The keys under it are repeated too, which is not another fault.
                is_repeated = line.is_header;
            }
        }
        // The tables above that of a header may occur again.
        let first = if line.is_header { line.keys.len() } else { 1 };
        for count in first..=line.keys.len() {
            let keys = line.keys.get(..count).unwrap_or_default();
            let place = keys.last().map_or(0..0, |key| key.span.clone());
            seen.entry(path_of(&table, keys)).or_insert(place);
        }
        if line.is_header {
            table = path_of(&table, &line.keys);
        }
    }
    let behind = places.next().map(|(place, _)| place);
    if let Some(place) = odd.or(behind) {
        lost.faults.add(strange(text, place));
    }
}

fn twice(
    (place, message, text): (Range<usize>, &str, &str),
    line: &Line,
    table: &Path,
    seen: &HashMap<Path, Range<usize>>,
) -> Fault {
    let count = line
        .keys
        .iter()
        .take_while(|key| key.span.start <= place.start)
        .count();
    let keys = line.keys.get(..count).unwrap_or_default();
    let path = path_of(table, keys);
    let is_in_keys = keys.last().is_some_and(|key| key.span == place);
    let other = seen.get(&path).filter(|_| is_in_keys).cloned();
    let written = text.get(place.clone()).unwrap_or_default();
    let is_value = message != TWICE;
    let (message, help) = if is_value {
        (
            format!("{written} has a value, and cannot be a table too"),
            "leave one of them out",
        )
    } else if line.is_header {
        (
            "this header is here twice".to_owned(),
            "write its keys under one of them, or give one another name",
        )
    } else {
        (
            "this key is here twice".to_owned(),
            "leave one out; a list has all its values in one pair of brackets",
        )
    };
    let mut fault = Fault::new(place, path, message, Some(help.to_owned()));
    fault.other = other.map(|other| (other, "the first one".to_owned()));
    fault
}

/// The fault of a character that is not allowed in a line or a comment.
fn strange(text: &str, place: Range<usize>) -> Fault {
    let is_return = text
        .get(place.start..)
        .is_some_and(|rest| rest.starts_with('\r'));
    let (message, help) = if is_return {
        (
            "this line ends with a CR alone",
            "save the file with line ends of Unix (LF) or of Windows (CR and LF)",
        )
    } else {
        ("this character may not be in a comment", "delete it")
    };
    let help = Some(help.to_owned());
    Fault::new(place, Path::default(), message.to_owned(), help)
}
