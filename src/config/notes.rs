//! Collects faults and warnings while settings are built, so that all are told at once.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::mem;
use std::ops::{Range, RangeInclusive};
use std::rc::Rc;
use std::time::Duration;

use toml::de::DeTable;

use super::faults::{Fault, Found};
use super::keys;
use super::lost::Lost;
use super::path::Path;
use super::values::{self, Wrong};

/// What was found so far in one file.
pub(super) struct Notes<'t> {
    text: &'t str,
    /// The places of all values. Made when they are needed: they take more memory than the file.
    places: OnceCell<DeTable<'t>>,
    /// What the file has and the mirror has not.
    pub(super) lost: Rc<Lost>,
    /// Where the values that are left of a list stand in it, if some are not.
    left: HashMap<Path, Vec<usize>>,
    pub(super) faults: Found,
    pub(super) warnings: Found,
}

/// One table of the file, and where its faults go.
pub(super) struct Section<'n, 't> {
    pub(super) notes: &'n mut Notes<'t>,
    pub(super) path: Path,
}

impl<'t> Notes<'t> {
    pub(super) fn new(text: &'t str, mut lost: Lost) -> Self {
        Self {
            text,
            places: OnceCell::new(),
            faults: mem::take(&mut lost.faults),
            lost: Rc::new(lost),
            left: HashMap::new(),
            warnings: Found::default(),
        }
    }

    pub(super) fn section(&mut self, path: &[&str]) -> Section<'_, 't> {
        Section {
            notes: self,
            path: Path::of(path),
        }
    }

    pub(super) fn fault(&mut self, path: &Path, message: String, help: impl Into<String>) {
        let fault = self.note(path, message, Some(help.into()));
        self.faults.add(fault);
    }

    pub(super) fn warn(&mut self, path: &Path, message: String, help: impl Into<String>) {
        let warning = self.note(path, message, Some(help.into()));
        self.warnings.add(warning);
    }

    /// A fault of two places.
    pub(super) fn clash(&mut self, [path, other]: [&Path; 2], message: String, help: &str) {
        let mut fault = self.note(path, message, Some(help.to_owned()));
        // A default has no place.
        let place = Some(self.span(other)).filter(|place| !place.is_empty());
        fault.other = place.map(|place| (place, other.to_string()));
        self.faults.add(fault);
    }

    /// The path of a value that [`Section::list`] has left.
    pub(super) fn element(&self, list: &Path, index: usize) -> Path {
        let left = self.left.get(list).and_then(|left| left.get(index));
        list.index(left.copied().unwrap_or(index))
    }

    fn span(&self, path: &Path) -> Range<usize> {
        let parse = || DeTable::parse_recoverable(self.text).0.into_inner();
        path.span(self.places.get_or_init(parse))
    }

    fn note(&self, path: &Path, message: String, help: Option<String>) -> Fault {
        Fault {
            span: self.span(path),
            path: path.clone(),
            message,
            help,
            other: None,
        }
    }
}

impl Section<'_, '_> {
    /// The value, or a fault and nothing.
    pub(super) fn check<T>(&mut self, key: &str, value: Result<T, Wrong>) -> Option<T> {
        value
            .map_err(|Wrong { message, help }| {
                self.notes.fault(&self.path.key(key), message, help);
            })
            .ok()
    }

    /// A fault for a key that must be there, unless it was taken out with a fault.
    pub(super) fn required(&mut self, key: &str, message: &str) {
        if self.notes.lost.has(&self.path.key(key)) {
            return;
        }
        let help = keys::example(&self.path.key(key));
        let help = help.map_or_else(String::new, |example| {
            format!("write, for example, {example}")
        });
        self.notes.fault(&self.path, message.to_owned(), help);
    }

    /// The name of the table itself.
    pub(super) fn check_name(&mut self, name: &str) {
        if let Err(Wrong { message, help }) = values::name(name) {
            self.notes.fault(&self.path, message, help);
        }
    }

    pub(super) fn count(
        &mut self,
        key: &str,
        value: Option<i64>,
        range: &RangeInclusive<i64>,
    ) -> Option<usize> {
        value.and_then(|value| self.check(key, values::count(value, range)))
    }

    pub(super) fn duration(
        &mut self,
        key: &str,
        text: Option<&str>,
        default: Duration,
        range: &RangeInclusive<Duration>,
    ) -> Duration {
        text.and_then(|text| self.check(key, values::duration(text, range)))
            .unwrap_or(default)
    }

    /// One of the words of a closed list.
    pub(super) fn choice<T: Copy + Default>(
        &mut self,
        key: &str,
        text: Option<&str>,
        words: &[(&str, T)],
    ) -> T {
        let Some(text) = text else {
            return T::default();
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let help = match keys::nearest(text, words.iter().copied()) {
            Some(word) => format!("did you mean {word:?}?"),
            None => format!("write one of {}", words.join(", ")),
        };
        let message = format!("{text:?} is not among the choices");
        self.notes.fault(&self.path.key(key), message, help);
        T::default()
    }

    /// The values of an array that are fine. A value that stands in it twice is a fault, and so is an
    /// array without a value: it could mean all or none.
    pub(super) fn list<T: Clone + Eq + Hash>(
        &mut self,
        key: &str,
        texts: Option<&[String]>,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        if texts.is_some_and(<[String]>::is_empty) {
            self.notes.fault(
                &self.path.key(key),
                "an empty list".to_owned(),
                "leave the key out, or write a value",
            );
        }
        let mut seen = HashMap::new();
        let (mut values, mut left) = (Vec::new(), Vec::new());
        for (index, text) in texts.unwrap_or_default().iter().enumerate() {
            match read(text) {
                Ok(value) => match seen.entry(value) {
                    Entry::Vacant(entry) => {
                        values.push(entry.key().clone());
                        left.push(index);
                        entry.insert(index);
                    }
                    Entry::Occupied(entry) => {
                        let path = self.path.key(key);
                        self.notes.clash(
                            [&path.index(index), &path.index(*entry.get())],
                            format!("{text:?} is here twice"),
                            "leave one out",
                        );
                    }
                },
                Err(Wrong { message, help }) => {
                    let path = self.path.key(key).index(index);
                    self.notes.fault(&path, message, help);
                }
            }
        }
        if left.len() < texts.map_or(0, <[String]>::len) {
            self.notes.left.insert(self.path.key(key), left);
        }
        values
    }
}
