//! What was taken out of a file with a fault. What is missing without it is no fault of its own.

use std::collections::HashSet;

use super::faults::Found;
use super::path::Path;

/// Keys that the rest of the reading does not see.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The faults of these keys.
    pub(super) faults: Found,
    /// What was taken out, under the key that was probably meant.
    keys: HashSet<Path>,
    /// Tables out of which something was taken.
    tables: HashSet<Path>,
}

impl Lost {
    /// A key was taken out of this table; `meant` is the known one, if it can be told.
    pub(super) fn add(&mut self, table: &Path, meant: Option<&str>) {
        self.keys.extend(meant.map(|key| table.key(key)));
        if !self.tables.contains(table) {
            self.tables.insert(table.clone());
        }
    }

    /// Whether this key is probably what was taken out.
    pub(super) fn has(&self, key: &Path) -> bool {
        self.keys.contains(key)
    }

    /// Whether a table has all that it has in the file.
    pub(super) fn is_whole(&self, table: &Path) -> bool {
        !self.tables.contains(table) && !self.has(table)
    }
}
