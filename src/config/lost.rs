//! The parts that were removed from a file with a fault. If something is missing without them, that is not
//! another fault.

use std::collections::HashSet;

use super::faults::Found;
use super::path::Path;

/// Keys that were removed before the rest of the file is read.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The faults of these keys.
    pub(super) faults: Found,
    /// The removed parts, by the key that was probably meant.
    keys: HashSet<Path>,
    /// Tables from which something was removed.
    tables: HashSet<Path>,
    /// Tables from which something was removed whose meaning is unknown.
    unclear: HashSet<Path>,
}

impl Lost {
    /// Notes that a key was removed from this table. `meant` is the known key that was meant, if that is clear.
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

    /// Whether this key was probably removed.
    pub(super) fn has(&self, key: &Path) -> bool {
        self.keys.contains(key)
    }

    /// Whether something was removed from a table whose meaning is unknown.
    pub(super) fn is_unclear(&self, table: &Path) -> bool {
        self.unclear.contains(table)
    }

    /// Whether nothing was removed from a table.
    pub(super) fn is_whole(&self, table: &Path) -> bool {
        !self.tables.contains(table) && !self.is_unclear(table) && !self.has(table)
    }

    /// Whether one of these keys of a table may have been removed.
    pub(super) fn may_have(&self, table: &Path, keys: &[&str]) -> bool {
        self.is_unclear(table) || keys.iter().any(|key| self.has(&table.key(key)))
    }
}
