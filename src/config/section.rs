//! One table of the file: its values as the table of keys says, with their defaults.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::keys::{self, Absent, Kind};
use super::notes::Notes;
use super::path::Path;
use super::types;
use super::values::{self, Wrong};

/// One table of the file, and where its faults go.
pub(super) struct Section<'n, 't> {
    pub(super) notes: &'n mut Notes<'t>,
    pub(super) path: Path,
    /// `None` if the file does not have it.
    pub(super) table: Option<&'t DeTable<'t>>,
}

impl<'t> Notes<'t> {
    /// The section at this path. Reading its values adds their faults to these notes.
    pub(super) fn section(&mut self, path: &[&str]) -> Section<'_, 't> {
        Section {
            table: self.table(path),
            path: Path::of(path),
            notes: self,
        }
    }
}

impl<'t> Section<'_, 't> {
    /// The value; if it is wrong, adds a fault and returns `None`.
    pub(super) fn check<T>(&mut self, key: &str, value: Result<T, Wrong>) -> Option<T> {
        value
            .map_err(|Wrong { message, help }| {
                self.notes.fault(&self.path.key(key), message, help);
            })
            .ok()
    }

    /// Adds a fault if a required key is missing, unless it was removed with a fault.
    pub(super) fn require(&mut self, key: &str, message: &str) {
        if self.value(key).is_none() && !self.is_lost(key) {
            let help = self.for_example(key);
            self.notes.fault(&self.path, message.to_owned(), help);
        }
    }

    fn for_example(&self, key: &str) -> String {
        let example = keys::example(self.path.keys().chain([key]));
        example.map_or_else(String::new, |example| {
            format!("write, for example, {example}")
        })
    }

    /// Checks the name of the table itself.
    pub(super) fn check_name(&mut self, name: &str) {
        if let Err(Wrong { message, help }) = values::name(name) {
            self.notes.fault(&self.path, message, help);
        }
    }

    /// Whether a key was removed with a fault.
    pub(super) fn is_lost(&self, key: &str) -> bool {
        self.notes.lost.has(&self.path.key(key))
    }

    /// The value of a key in the file.
    pub(super) fn value(&self, key: &str) -> Option<&'t DeValue<'t>> {
        Some(self.table?.get(key)?.get_ref())
    }

    /// The same value as text, without quotes; a number in decimal.
    pub(super) fn text(&self, key: &str) -> Option<Cow<'t, str>> {
        text(self.value(key)?)
    }

    /// The value of a key, or its default if the file has none. A wrong value is a fault, and then the
    /// default is used, so that the rest is checked too.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str, &Kind) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (_, kind, absent) = keys::find(self.path.keys().chain([key]))?;
        let written = self.text(key);
        let written = written.and_then(|text| self.check(key, read(&text, kind)));
        written.or_else(|| match absent {
            Absent::Default(text) => read(text, kind).ok(),
            Absent::Example(_) | Absent::Required(_) | Absent::RequiredOrNext(_) => None,
        })
    }

    pub(super) fn duration(&mut self, key: &str) -> Duration {
        self.read(key, values::duration).unwrap_or_default()
    }

    /// The correct values of an array. A repeated value is a fault, and so is an empty array, which could mean all
    /// or none.
    pub(super) fn list<T: Clone + Eq + Hash>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let Some(texts) = self.value(key).and_then(DeValue::as_array) else {
            return Vec::new();
        };
        let known = keys::find(self.path.keys().chain([key]));
        let is_required = matches!(known, Some((.., Absent::Required(_))));
        let (_, fits) = known.map_or(types::TEXT, |(_, kind, _)| types::of_element(kind));
        if texts.is_empty() {
            let help = if is_required {
                self.for_example(key)
            } else {
                "leave the key out, or write a value".to_owned()
            };
            (self.notes).fault(&self.path.key(key), "the list is empty".to_owned(), help);
        }
        let mut seen = HashMap::new();
        let (mut values, mut left) = (Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let start = text.span().start;
            let value = text.get_ref();
            // The fault of another type is there already.
            let Some(text) = element(value).filter(|_| fits(value)) else {
                continue;
            };
            let other = match read(&text).map(|value| seen.entry(value)) {
                Ok(Entry::Vacant(entry)) => {
                    values.push(entry.key().clone());
                    left.push(index);
                    entry.insert(index);
                    continue;
                }
                Ok(Entry::Occupied(entry)) => Ok(*entry.get()),
                Err(wrong) => Err(wrong),
            };
            if self.notes.faults.only_counts(start) {
                continue;
            }
            let list = self.path.key(key);
            let path = if value.is_table() {
                list.index(index).key(ADDRESS)
            } else {
                list.index(index)
            };
            match other {
                Ok(other) => self.notes.clash(
                    [&path, &list.index(other)],
                    if value.is_integer() {
                        format!("{text} is here twice")
                    } else {
                        format!("{text:?} is here twice")
                    },
                    "leave one out",
                ),
                Err(Wrong { message, help }) => self.notes.fault(&path, message, help),
            }
        }
        if left.len() < texts.len() {
            self.notes.left.insert(self.path.key(key), left);
        }
        values
    }
}

/// The key of a table in a list that has what other elements are.
const ADDRESS: &str = "address";

/// An element of a list as text: of a table, its address.
fn element<'t>(value: &'t DeValue<'t>) -> Option<Cow<'t, str>> {
    match value.as_table() {
        Some(table) => text(table.get(ADDRESS)?.get_ref()),
        None => text(value),
    }
}

/// A value as text without quotes; a number in decimal.
pub(super) fn text<'t>(value: &'t DeValue<'t>) -> Option<Cow<'t, str>> {
    match value {
        DeValue::String(text) => Some(Cow::Borrowed(text)),
        DeValue::Integer(number) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix());
            let decimal = decimal.map(|number| number.to_string());
            Some(Cow::Owned(decimal.unwrap_or_else(|_| number.to_string())))
        }
        DeValue::Boolean(switch) => Some(Cow::Owned(switch.to_string())),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
