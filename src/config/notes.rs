//! Collects faults and warnings while settings are built, so that all are reported at once.

use std::collections::HashMap;
use std::mem;
use std::rc::Rc;

use toml::de::DeTable;

use super::faults::{Fault, Found};
use super::lost::Lost;
use super::named::Named;
use super::path::Path;

/// The faults and warnings that were found so far in one file.
pub(super) struct Notes<'t> {
    /// The readable part of the file.
    file: &'t DeTable<'t>,
    /// The parts that were removed from it, with their faults.
    pub(super) lost: Rc<Lost>,
    /// The positions in a list of the values that are left, if some were removed.
    pub(super) left: HashMap<Path, Vec<usize>>,
    /// The files that it names; `None` if they are not read.
    pub(super) named: Option<&'t Named>,
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
            named: None,
            warnings: Found::default(),
        }
    }

    /// The names of the tables under a key, in their order. It is a fault if there are none.
    pub(super) fn names(&mut self, key: &str, help: &str) -> Vec<&'t str> {
        let tables = self.table(&[key]).into_iter().flat_map(DeTable::keys);
        let mut names: Vec<&str> = tables.map(|name| &**name.get_ref()).collect();
        // Routes look for names by binary search.
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

    /// Counts a fault of this path if it is behind those that are shown, and returns whether it did.
    pub(super) fn only_counts(&mut self, path: &Path) -> bool {
        self.faults.only_counts(path.span(self.file).start)
    }

    /// Adds a fault of two places.
    pub(super) fn clash(&mut self, places: [&Path; 2], message: String, help: &str) {
        let fault = self.note_of_both(places, message, help);
        self.faults.add(fault);
    }

    /// Adds a warning of two places.
    pub(super) fn warn_of_both(&mut self, places: [&Path; 2], message: String, help: &str) {
        let warning = self.note_of_both(places, message, help);
        self.warnings.add(warning);
    }

    fn note_of_both(&self, [path, other]: [&Path; 2], message: String, help: &str) -> Fault {
        let mut fault = self.note(path, message, Some(help.to_owned()));
        // A default has no place in the file.
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
