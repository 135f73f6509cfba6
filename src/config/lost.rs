//! The parts that were taken out of a file with a fault. What is missing without them is not a separate fault.

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
    /// Those out of which something was taken that nobody can tell the meaning of.
    unclear: HashSet<Path>,
}

impl Lost {
    /// A key was taken out of this table; `meant` is the known one, if it can be told.
    pub(super) fn add(&mut self, table: &Path, meant: Option<&str>) {
        let tables = match meant {
            Some(_) => &mut self.tables,
            None => &mut self.unclear,
        };
        if !tables.contains(table) {
            tables.insert(table.clone());
        }
        self.keys.extend(meant.map(|key| table.key(key)));
    }

    /// Whether this key is probably what was taken out.
    pub(super) fn has(&self, key: &Path) -> bool {
        self.keys.contains(key)
    }

    /// Whether something was taken out of a table that nobody can tell the meaning of.
    pub(super) fn is_unclear(&self, table: &Path) -> bool {
        self.unclear.contains(table)
    }

    /// Whether a table has all that it has in the file.
    pub(super) fn is_whole(&self, table: &Path) -> bool {
        !self.tables.contains(table) && !self.is_unclear(table) && !self.has(table)
    }

    /// Whether one of these keys of a table may be what was taken out.
    pub(super) fn may_have(&self, table: &Path, keys: &[&str]) -> bool {
        self.is_unclear(table) || keys.iter().any(|key| self.has(&table.key(key)))
    }
}
