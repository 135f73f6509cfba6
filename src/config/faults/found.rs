//! Collects the faults of a file: keeps the first ones, and counts the rest.

use std::ops::Range;

use super::hidden::hide;
use crate::config::path::{Path, shorten};

/// The most faults that are kept: more than a person repairs in one go. A file of garbage has thousands.
const SHOWN: usize = 50;
/// Most characters of a message, which may contain a value of the file.
const LONGEST_TEXT: usize = 300;

/// One thing that is wrong with the file, or (as a warning) probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Fault {
    /// Bytes of the file.
    pub(in crate::config) span: Range<usize>,
    /// The key; empty for the file as a whole.
    pub(in crate::config) path: Path,
    /// Says what is wrong.
    pub(in crate::config) message: String,
    /// Says what to write.
    pub(in crate::config) help: Option<String>,
    /// A second place that is concerned, and its role.
    pub(in crate::config) other: Option<(Range<usize>, String)>,
}

impl Fault {
    /// A fault of one place.
    pub(in crate::config) fn new(
        span: Range<usize>,
        path: Path,
        message: String,
        help: Option<String>,
    ) -> Self {
        Self {
            span,
            path,
            message,
            help,
            other: None,
        }
    }
}

/// The first faults of a file, in the order of their places, and how many more there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct First {
    pub(super) faults: Vec<Fault>,
    pub(super) more: usize,
}

impl First {
    /// Sorts them by their places, and keeps those that are shown.
    pub(super) fn keep_shown(&mut self) {
        self.faults.sort_by_key(|fault| fault.span.start);
        self.more += self.faults.len().saturating_sub(SHOWN);
        self.faults.truncate(SHOWN);
    }

    /// Widens the places to whole characters, because a part of a character cannot be shown.
    fn mark_whole_characters(&mut self, text: &str) {
        for fault in &mut self.faults {
            let other = fault.other.as_mut().map(|(span, _)| span);
            for span in [&mut fault.span].into_iter().chain(other) {
                *span = text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end);
            }
        }
    }
}

/// Collects the faults of a file.
#[derive(Debug, Default)]
pub(in crate::config) struct Found {
    first: First,
    /// Where the last of the faults that are shown begins, once there are [`SHOWN`] of them.
    last: Option<usize>,
    /// The only table whose faults matter, if not all do.
    table: Option<&'static str>,
}

impl Found {
    /// Collects only the faults of a table.
    pub(in crate::config) fn of(table: &'static str) -> Self {
        Self {
            table: Some(table),
            ..Self::default()
        }
    }

    pub(in crate::config) fn add(&mut self, fault: Fault) {
        self.add_at(fault.span.start, || fault);
    }

    /// Counts a fault of this place if it is behind those that are shown, and returns whether it did. The caller then
    /// need not make the fault: a file may have half a million.
    pub(in crate::config) fn only_counts(&mut self, start: usize) -> bool {
        let is_behind = self.last.is_some_and(|last| last <= start);
        self.first.more += usize::from(is_behind);
        is_behind
    }

    /// Adds the fault of a place.
    pub(in crate::config) fn add_at(&mut self, start: usize, fault: impl FnOnce() -> Fault) {
        if self.only_counts(start) {
            return;
        }
        let mut fault = fault();
        if self.table.is_some() && self.table != fault.path.keys().next() {
            return;
        }
        for text in [&mut fault.message].into_iter().chain(&mut fault.help) {
            hide(text);
            shorten(text, LONGEST_TEXT);
        }
        self.first.faults.push(fault);
        if self.first.faults.len() == 2 * SHOWN {
            self.first.keep_shown();
            let last = self.first.faults.last();
            self.last = last.map(|fault| fault.span.start);
        }
    }

    pub(in crate::config) const fn is_empty(&self) -> bool {
        self.first.faults.is_empty()
    }

    /// How many faults there are.
    pub(in crate::config) const fn count(&self) -> usize {
        self.first.faults.len() + self.first.more
    }

    /// The first faults, with places in this text.
    pub(super) fn first(mut self, text: &str) -> First {
        self.first.keep_shown();
        self.first.mark_whole_characters(text);
        self.first
    }
}
