//! The files that routes.toml names, such as that of a listener's users. A relative name begins at the directory of
//! routes.toml. Nothing of their content is in a fault: they have secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::extent;
use super::keys::{Kind, ROOT, Table, Text, Under};
use super::lost::Lost;
use super::section::Section;
use super::syntax;
use super::{MAX_FILE, MOST_READ};
use crate::credentials::LineFault;
use crate::net;

/// The most bytes of one file, and of all of them.
const MOST_BYTES: u64 = 1 << 20;
const MOST_BYTES_IN_ALL: u64 = 1 << 24;

/// Permissions that let users read or change a file who are neither its owner nor in its group.
const OTHERS: u32 = 0o006;

/// The key of the file that an attempt to reach a backend needs.
pub(super) const VIA_LOGIN: &str = "via_credentials_file";

/// The files that a routes.toml names, by their names in it.
#[derive(Default)]
pub struct Named {
    files: BTreeMap<String, NamedFile>,
    /// The only key whose files were read; `None` if all were.
    only: Option<&'static str>,
}

struct NamedFile {
    path: PathBuf,
    content: io::Result<Vec<u8>>,
    /// Whether every user of the machine may read or change it, if that has been looked up.
    is_open_to_others: bool,
}

impl Named {
    /// Reads the files that the text of this routes.toml names.
    pub(super) fn read(routes: &Path, text: &str) -> Self {
        Self::read_of(None, routes, text)
    }

    /// Reads those that one key names.
    pub(super) fn read_only(key: &'static str, routes: &Path, text: &str) -> Self {
        Self::read_of(Some(key), routes, text)
    }

    fn read_of(only: Option<&'static str>, routes: &Path, text: &str) -> Self {
        let mut named = Self::contents(routes, &names_in(text, only));
        named.only = only;
        for file in named.files.values_mut() {
            let mode = fs::metadata(&file.path).map(|it| it.permissions().mode());
            file.is_open_to_others = mode.is_ok_and(|mode| mode & OTHERS != 0);
        }
        named
    }

    /// Reads regular files alone: a pipe gives its bytes only once, and a reload needs them again.
    fn contents(routes: &Path, names: &BTreeSet<String>) -> Self {
        let mut left = MOST_BYTES_IN_ALL;
        let file = |name: &String| {
            let path = beside(routes, name);
            let content = net::read_regular(&path, left.min(MOST_BYTES) + 1);
            let size = content.as_ref().map_or(0, |content| content.len() as u64);
            let content = if size > MOST_BYTES {
                Err(too_large("it is larger than 1 MiB"))
            } else if size > left {
                Err(too_large("the files together are larger than 16 MiB"))
            } else {
                left -= size;
                content
            };
            let file = NamedFile {
                path,
                content,
                is_open_to_others: false,
            };
            (name.clone(), file)
        };
        Self {
            files: names.iter().map(file).collect(),
            only: None,
        }
    }

    /// The hash of a routes.toml that has this hash itself, with the content of these files. Any change of them
    /// changes it.
    pub(super) fn fingerprint(&self, text: u32) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(text);
        for (name, file) in &self.files {
            hasher.update(name.as_bytes());
            match &file.content {
                Ok(content) => {
                    hasher.update(&[1]);
                    hasher.update(&crc32fast::hash(content).to_be_bytes());
                }
                Err(_) => hasher.update(&[0]),
            }
        }
        hasher.finalize()
    }
}

fn too_large(text: &str) -> io::Error {
    io::Error::new(ErrorKind::FileTooLarge, text)
}

fn beside(routes: &Path, name: &str) -> PathBuf {
    routes.parent().unwrap_or(Path::new("")).join(name)
}

/// The names of files in a routes.toml; of one key `only`, if there is one.
fn names_in(text: &str, only: Option<&str>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Most files name none, and need not be parsed twice.
    if mentions(text, ROOT) && extent::fault(text).is_none() {
        let (mut readable, mut lost) = (String::new(), Lost::default());
        let tree = syntax::read(text, &mut readable, &mut lost);
        add_names(tree.get_ref(), ROOT, only, &mut names);
    }
    names
}

/// Whether a key that names a file is in the text, if it is written without escapes.
fn mentions(text: &str, known: Table) -> bool {
    known.iter().any(|key| match &key.under {
        Under::Value(Kind::Text(Text::File), _) => text.contains(key.name),
        Under::Value(..) => false,
        Under::Table(known) | Under::Named(known, _) => mentions(text, known),
    })
}

fn add_names(table: &DeTable<'_>, known: Table, only: Option<&str>, names: &mut BTreeSet<String>) {
    for key in known {
        let Some(value) = table.get(key.name).map(toml::Spanned::get_ref) else {
            continue;
        };
        match &key.under {
            Under::Value(Kind::Text(Text::File), _) if only.is_none_or(|only| only == key.name) => {
                names.extend(value.as_str().map(ToOwned::to_owned));
            }
            Under::Value(..) => {}
            Under::Table(known) => {
                if let Some(table) = value.as_table() {
                    add_names(table, known, only, names);
                }
            }
            Under::Named(known, _) => {
                let tables = value.as_table().into_iter().flat_map(DeTable::values);
                for table in tables.filter_map(|table| table.get_ref().as_table()) {
                    add_names(table, known, only, names);
                }
            }
        }
    }
}

impl Section<'_, '_> {
    /// The content of the file that a key names, as `parse` makes it; `None` without the key. It is the default if the
    /// file was not read, because the command needs no secrets, and if it has a fault.
    pub(super) fn file<T: Default>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, Vec<LineFault>>,
    ) -> Option<T> {
        let name = self.text(key)?;
        let path = self.path.key(key);
        if name.is_empty() {
            let help =
                "write the name of a file; a relative one begins at the directory of this file";
            self.notes
                .fault(&path, "the name is empty".to_owned(), help);
        }
        let read = self.notes.named;
        let read = read.filter(|named| named.only.is_none_or(|only| only == key));
        let named = read.and_then(|named| named.files.get(&*name));
        if read.is_some() && named.is_none() && self.notes.faults.is_empty() {
            let help = format!("write the key as {key}, without escapes");
            self.notes
                .fault(&path, "its file was not found".to_owned(), help);
        }
        let Some(file) = named.filter(|_| !name.is_empty()) else {
            return Some(T::default());
        };
        let shown = file.path.display().to_string();
        let parsed = file.text().and_then(parse);
        let faults = match parsed {
            Ok(value) => {
                if file.is_open_to_others {
                    self.notes.warn(
                        &path,
                        format!("every user of this machine can read or change {shown:?}"),
                        "give it to the user or the group of portway, and take it from others: chmod o= FILE",
                    );
                }
                return Some(value);
            }
            Err(faults) => faults,
        };
        for fault in faults {
            if !self.notes.only_counts(&path) {
                let line = fault.line.map(|line| format!("line {line} of "));
                let line = line.unwrap_or_default();
                let message = format!("{line}{shown:?} {}", fault.message);
                self.notes.fault(&path, message, fault.help);
            }
        }
        Some(T::default())
    }
}

impl NamedFile {
    fn text(&self) -> Result<&str, Vec<LineFault>> {
        let fault = |line, message, help| {
            vec![LineFault {
                line,
                message,
                help,
            }]
        };
        let content = self.content.as_ref().map_err(|error| {
            let help = if error.kind() == ErrorKind::NotFound {
                "check the name: a relative one begins at the directory of this file"
            } else if error.kind() == ErrorKind::PermissionDenied {
                "let the user or the group of portway read it, and run `portway check` as that user"
            } else if error.kind() == ErrorKind::FileTooLarge {
                "divide it among several files"
            } else {
                "name a regular file"
            };
            fault(None, format!("cannot be read: {error}"), help)
        })?;
        str::from_utf8(content).map_err(|error| {
            let before = content.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.split(|byte| *byte == b'\n').count();
            fault(
                Some(line),
                "is not UTF-8".to_owned(),
                "save the file as UTF-8",
            )
        })
    }
}

/// The content of a routes.toml and of the files that it names, as `--watch` compares it. It finds the names again
/// only in a text that is new.
#[derive(Debug, Default)]
pub struct Watched {
    /// The hash of the text that has these names.
    text: Option<u32>,
    names: BTreeSet<String>,
}

impl Watched {
    /// The hash that a reload has for this content; `None` if the file cannot be read, or only once.
    pub fn fingerprint(&mut self, routes: &Path) -> Option<u32> {
        let content = net::read_regular(routes, MOST_READ).ok()?;
        let hash = crc32fast::hash(&content);
        if self.text.replace(hash) != Some(hash) {
            let is_small = content.len() as u64 <= MAX_FILE;
            let text = str::from_utf8(&content).ok().filter(|_| is_small);
            self.names = text.map(|text| names_in(text, None)).unwrap_or_default();
        }
        let named = Named::contents(routes, &self.names);
        Some(named.fingerprint(hash))
    }

    /// The paths of the files that the routes.toml names.
    pub fn paths(&self, routes: &Path) -> Vec<PathBuf> {
        let names = self.names.iter();
        names.map(|name| beside(routes, name)).collect()
    }
}
