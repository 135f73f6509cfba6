//! Finds the place in the file of an address that the system refuses, although the file itself is correct.

use std::net::SocketAddr;

use toml::de::DeTable;

use super::path::Path;
use super::{MAX_FILE, extent, values};
use crate::net;

/// Where an address is from.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// The file and line, such as `routes.toml:12`.
    Line(String),
    /// The file does not have the key of admin, so the address is the default.
    Default,
}

/// Where an address of a listener, or else of admin, is from. None if the file does not have it any more.
pub fn place_of(
    file: &std::path::Path,
    listener: Option<&str>,
    address: SocketAddr,
) -> Option<Place> {
    // A pipe gives its bytes only once.
    let text = String::from_utf8(net::read_regular(file, MAX_FILE).ok()?).ok()?;
    if extent::fault(&text).is_some() {
        return None;
    }
    let (tree, _) = DeTable::parse_recoverable(&text);
    let tree = tree.get_ref();
    let path = match listener {
        None if line_of_admin(&text, tree).is_none() => return Some(Place::Default),
        None => admin(),
        Some(name) => {
            let binds = tree.get("listeners")?.get_ref().as_table()?;
            let binds = binds.get(name)?.get_ref().as_table()?.get("bind")?;
            let is_it = |bind: &str| values::bind(bind).is_ok_and(|bind| bind == address);
            let mut binds = binds.get_ref().as_array()?.iter();
            let index = binds.position(|bind| bind.get_ref().as_str().is_some_and(is_it))?;
            Path::of(&["listeners", name, "bind"]).index(index)
        }
    };
    let line = line(&text, path.span(tree).start)?;
    Some(Place::Line(format!("{}:{line}", file.display())))
}

fn admin() -> Path {
    Path::of(&["admin", "bind"])
}

/// The line of `admin.bind`, if the file has it.
pub(super) fn line_of_admin(text: &str, tree: &DeTable<'_>) -> Option<usize> {
    let table = tree.get("admin")?.get_ref().as_table()?;
    table.get("bind")?;
    line(text, admin().span(tree).start)
}

/// The line of a byte, from 1.
fn line(text: &str, byte: usize) -> Option<usize> {
    let before = text.get(..byte)?;
    Some(1 + before.bytes().filter(|byte| *byte == b'\n').count())
}
