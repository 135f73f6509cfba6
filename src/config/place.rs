//! Finds the place in the file of an address that the system refuses, although the file itself is correct.

use std::net::SocketAddr;

use toml::de::DeTable;

use super::path::Path;
use super::{MAX_FILE, extent, values};
use crate::net;

/// The file and line of an address of a listener, or else of admin, such as `routes.toml:12`. None if the
/// file does not have it any more.
pub fn place_of(
    file: &std::path::Path,
    listener: Option<&str>,
    address: SocketAddr,
) -> Option<String> {
    // A pipe gives its bytes only once.
    let text = String::from_utf8(net::read_regular(file, MAX_FILE).ok()?).ok()?;
    if extent::fault(&text).is_some() {
        return None;
    }
    let (tree, _) = DeTable::parse_recoverable(&text);
    let tree = tree.get_ref();
    let path = match listener {
        None => Path::of(&["admin", "bind"]),
        Some(name) => {
            let binds = tree.get("listeners")?.get_ref().as_table()?;
            let binds = binds.get(name)?.get_ref().as_table()?.get("bind")?;
            let is_it = |bind: &str| values::bind(bind).is_ok_and(|bind| bind == address);
            let mut binds = binds.get_ref().as_array()?.iter();
            let index = binds.position(|bind| bind.get_ref().as_str().is_some_and(is_it))?;
            Path::of(&["listeners", name, "bind"]).index(index)
        }
    };
    let before = text.get(..path.span(tree).start)?;
    let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
    Some(format!("{}:{line}", file.display()))
}
