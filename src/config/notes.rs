//! Collects faults and warnings while settings are built, so that all are told at once.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use toml::de::DeTable;

use super::faults::{Fault, Found};
use super::lost::Lost;
use super::path::Path;

/// What was found so far in one file.
pub(super) struct Notes<'t> {
    /// What can be read of the file.
    file: &'t DeTable<'t>,
    /// What was taken out of it, with the faults of that.
    pub(super) lost: Rc<Lost>,
    /// Where the values that are left of a list stand in it, if some are not.
    pub(super) left: HashMap<Path, Vec<usize>>,
    pub(super) faults: Found,
    pub(super) warnings: Found,
}

impl<'t> Notes<'t> {
    pub(super) fn new(file: &'t DeTable<'t>, mut lost: Lost) -> Self {
        Self {
            file,
            faults: mem::take(&mut lost.faults),
            lost: Rc::new(lost),
            left: HashMap::new(),
            warnings: Found::default(),
        }
    }

    /// The names of the tables under a key, in their order. That there are none is a fault.
    pub(super) fn names(&mut self, key: &str, help: &str) -> Vec<&'t str> {
        let tables = self.table(&[key]).into_iter().flat_map(DeTable::keys);
        let mut names: Vec<&str> = tables.map(|name| &**name.get_ref()).collect();
        // They are looked for by halves.
        names.sort_unstable();
        if names.is_empty() && self.lost.is_whole(&Path::of(&[key])) {
            self.fault(&Path::default(), format!("there are no {key}"), help);
        }
        names
    }

    pub(super) fn table(&self, path: &[&str]) -> Option<&'t DeTable<'t>> {
        let mut table = self.file;
        for key in path {
            table = table.get(*key)?.get_ref().as_table()?;
        }
        Some(table)
    }

    pub(super) fn fault(&mut self, path: &Path, message: String, help: impl Into<String>) {
        let fault = self.note(path, message, Some(help.into()));
        self.faults.add(fault);
    }

    pub(super) fn warn(&mut self, path: &Path, message: String, help: impl Into<String>) {
        let warning = self.note(path, message, Some(help.into()));
        self.warnings.add(warning);
    }

    /// Counts a fault of this path if it is behind the first, and need not be made.
    pub(super) fn only_counts(&mut self, path: &Path) -> bool {
        self.faults.only_counts(path.span(self.file).start)
    }

    /// A fault of two places.
    pub(super) fn clash(&mut self, places: [&Path; 2], message: String, help: &str) {
        let fault = self.note_of_both(places, message, help);
        self.faults.add(fault);
    }

    /// A warning of two places.
    pub(super) fn warn_of_both(&mut self, places: [&Path; 2], message: String, help: &str) {
        let warning = self.note_of_both(places, message, help);
        self.warnings.add(warning);
    }

    fn note_of_both(&self, [path, other]: [&Path; 2], message: String, help: &str) -> Fault {
        let mut fault = self.note(path, message, Some(help.to_owned()));
        // A default has no place.
        let place = Some(other.span(self.file)).filter(|place| !place.is_empty());
        fault.other = place.map(|place| (place, other.to_string()));
        fault
    }

    /// The path of a value that `Section::list` has left.
    pub(super) fn element(&self, list: &Path, index: usize) -> Path {
        let left = self.left.get(list).and_then(|left| left.get(index));
        list.index(left.copied().unwrap_or(index))
    }

    fn note(&self, path: &Path, message: String, help: Option<String>) -> Fault {
        Fault::new(path.span(self.file), path.clone(), message, help)
    }
}
