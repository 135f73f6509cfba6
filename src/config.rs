//! routes.toml: the file, its faults, and the settings that the program runs on.
//!
//! The file has two shapes: its mirror (`file`), and [`Settings`], in which everything is checked
//! and every default filled in. A fault of syntax or type ends the reading at the first; unknown
//! keys and faults of meaning are collected and reported all at once.

use std::io::{ErrorKind::NotFound, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use crate::{admission, backend, control, dial, relay, routing, snapshot, telemetry};

mod build;
mod checks;
mod faults;
mod file;
pub mod keys;
mod notes;
mod schema;
mod values;

use faults::Fault;
pub use faults::Faults;
pub use schema::schema;

/// The largest routes.toml, in bytes: a device or a log given by mistake must not fill the memory.
const MAX_FILE: u64 = 1 << 20;

/// A checked routes.toml.
#[derive(Debug)]
pub struct Settings {
    /// `workers`; `None` takes the count that the machine allows.
    pub workers: Option<NonZeroUsize>,
    /// `admin.bind`; `None` is off.
    pub admin: Option<SocketAddr>,
    /// Limits of admission.
    pub limits: admission::Limits,
    /// Limits of the hello.
    pub hello: snapshot::HelloLimits,
    /// Limits of the drain.
    pub drain: control::drain::Limits,
    /// `log.connections`.
    pub log: telemetry::Logged,
    /// `[listeners]`, sorted by name.
    pub listeners: Vec<Listener>,
    /// `[backends]`, sorted by name.
    pub backends: Vec<Backend>,
    /// `[routes]`.
    pub routes: routing::Table,
}

/// One `[listeners.N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// Addresses; port 0 lets the kernel choose.
    pub bind: Vec<SocketAddr>,
    /// Who may connect.
    pub clients: admission::Networks,
}

/// One `[backends.N]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The name in routes.toml.
    pub name: Arc<str>,
    /// At least one.
    pub endpoints: Vec<backend::Target>,
    /// The choice among them.
    pub balance: backend::Balance,
    /// Limits of the dial.
    pub dial: dial::Limits,
    /// Limits of the relay.
    pub relay: relay::Limits,
}

/// A routes.toml that is fine.
#[derive(Debug)]
pub struct Loaded {
    /// What the program runs on.
    pub settings: Settings,
    /// What is allowed and probably not meant; `check --strict` makes errors of them.
    pub warnings: Faults,
    /// CRC-32 of the file: the same wherever the same file is in force.
    pub hash: u32,
}

/// Reads and checks a file. Asks no DNS and opens no socket.
pub fn load(path: &Path) -> Result<Loaded, Faults> {
    let name = path.display().to_string();
    parse(&read(path, &name)?, &name)
}

/// Where the admin pages of the file answer; `None` is off. Of the rest no fault is told: whoever
/// runs on the last good version of the file can still be asked how it is.
pub fn admin(path: &Path) -> Result<Option<SocketAddr>, Faults> {
    let name = path.display().to_string();
    let text = read(path, &name)?;
    let (tree, _) = DeTable::parse_recoverable(&text);
    let mut known = tree.clone();
    let known_table = known.get_mut();
    *known_table = known_table.remove_entry("admin").into_iter().collect();
    keys::take_unknown(known_table);
    let tree = tree.into_inner();
    let file = file::File::deserialize(Deserializer::from(known))
        .map_err(|error| Faults::new(&name, &text, vec![fault(&error, &tree)]))?;
    let mut notes = notes::Notes::new(&tree, Vec::new());
    let admin = build::admin(&file, &mut notes);
    if notes.faults.is_empty() {
        Ok(admin)
    } else {
        Err(Faults::new(&name, &text, notes.faults))
    }
}

/// The text of a file that the user knows as `name`.
fn read(path: &Path, name: &str) -> Result<String, Faults> {
    let unreadable = |message: String, help: Option<&str>| {
        Faults::unreadable(name, message, help.map(str::to_owned))
    };
    let io = |error: std::io::Error| {
        let help = (error.kind() == NotFound).then_some("name the file with --config FILE");
        unreadable(format!("cannot be read: {error}"), help)
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(io)?;
    (file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable("is larger than 1 MiB".to_owned(), None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..valid).unwrap_or_default();
        let line = before.split(|byte| *byte == b'\n').count();
        unreadable(
            format!("line {line} is not UTF-8"),
            Some("save the file as UTF-8"),
        )
    })
}

/// Checks the text of a file that the user knows as `file_name`.
pub fn parse(text: &str, file_name: &str) -> Result<Loaded, Faults> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        return Err(Faults::new(
            file_name,
            text,
            vec![fault(error, tree.get_ref())],
        ));
    }
    let mut known = tree.clone();
    let mut unknown = keys::take_unknown(known.get_mut());
    let tree = tree.into_inner();
    let file = match file::File::deserialize(Deserializer::from(known)) {
        Ok(file) => file,
        Err(error) => {
            unknown.push(fault(&error, &tree));
            return Err(Faults::new(file_name, text, unknown));
        }
    };
    let mut notes = notes::Notes::new(&tree, unknown);
    let settings = build::settings(&file, &mut notes);
    checks::settings(&settings, &mut notes);
    let (faults, warnings) = (notes.faults, notes.warnings);
    if faults.is_empty() {
        Ok(Loaded {
            settings,
            warnings: Faults::new(file_name, text, warnings),
            hash: crc32fast::hash(text.as_bytes()),
        })
    } else {
        Err(Faults::new(file_name, text, faults))
    }
}

/// An error of syntax or type.
fn fault(error: &toml::de::Error, tree: &DeTable<'_>) -> Fault {
    let span = error.span().unwrap_or_default();
    let path = faults::Path::at(tree, &span);
    Fault {
        help: keys::example(&path).map(|example| format!("write, for example, {example}")),
        span,
        path,
        message: plain(error.message()),
        other: None,
    }
}

/// The words of TOML's documentation instead of those of Rust.
fn plain(message: &str) -> String {
    (message.replace("expected a sequence", "expected an array"))
        .replace("expected a map", "expected a table")
        .replace("expected i64", "expected a whole number")
}
