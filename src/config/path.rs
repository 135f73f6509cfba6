//! The keys of routes.toml that faults are about, and their places.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use toml::de::DeTable;

/// Most characters of a key that are shown; a correct key has fewer.
const LONGEST_KEY: usize = 64;

/// The key that a fault is about: `backends.fleet.endpoints[1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Key(Arc<str>),
    Index(usize),
}

impl Path {
    /// The path of these keys.
    pub(super) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| Step::Key(Arc::from(*key))).collect())
    }

    /// The path of a key below this one.
    pub(super) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(Arc::from(key)));
        Self(steps)
    }

    /// The path of an element of this array.
    pub(super) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// The keys from the root.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(&**key),
            Step::Index(_) => None,
        })
    }

    /// The place of the key: of a value, the value; of a table, its name; of a missing key, the table around it.
    pub(super) fn span(&self, file: &DeTable<'_>) -> Range<usize> {
        let mut span = 0..0;
        let mut table = Some(file);
        let mut array = None;
        for step in &self.0 {
            let value = match step {
                Step::Key(key) => {
                    let Some((key, value)) = table.and_then(|t| t.get_key_value(&**key)) else {
                        return span;
                    };
                    span = if value.get_ref().is_table() {
                        key.span()
                    } else {
                        value.span()
                    };
                    value
                }
                Step::Index(index) => {
                    let Some(value) =
                        array.and_then(|array: &toml::de::DeArray<'_>| array.get(*index))
                    else {
                        return span;
                    };
                    span = value.span();
                    value
                }
            };
            table = value.get_ref().as_table();
            array = value.get_ref().as_array();
        }
        span
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if count == 0 { "" } else { "." };
                    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                    let mut shown = String::from(&**key);
                    shorten(&mut shown, LONGEST_KEY);
                    if !key.is_empty() && key.chars().all(bare) {
                        write!(f, "{dot}{shown}")?;
                    } else {
                        write!(f, "{dot}{shown:?}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Cuts a text after `longest` characters.
pub(super) fn shorten(text: &mut String, longest: usize) {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        text.truncate(end);
        text.push('…');
    }
}
