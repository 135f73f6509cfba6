//! The address of the admin pages, whatever else is wrong with the file.

use std::net::SocketAddr;
use std::path::Path;

use super::faults::{Faults, Found};
use super::lost::Lost;
use super::{build, extent, notes, place, read, syntax, types, unknown};

/// Where the admin pages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `None` is off.
    pub address: Option<SocketAddr>,
    /// The line of `admin.bind` in the file; `None` if the file does not have the key.
    pub line: Option<usize>,
}

/// The address of the admin pages in the file. Faults elsewhere are ignored, so a portway that still runs on the
/// last good file can be probed.
pub fn admin(path: &Path) -> Result<Admin, Faults> {
    let name = path.display().to_string();
    let text = read(path)?;
    extent::fault(&text).map_or(Ok(()), |fault| Err(Faults::one(&name, &text, fault)))?;
    let mut lost = Lost::default();
    lost.faults = Found::of("admin");
    let mut readable = String::new();
    let mut tree = syntax::read(&text, &mut readable, &mut lost);
    let tree = tree.get_mut();
    *tree = tree.remove_entry("admin").into_iter().collect();
    unknown::take_unknown(tree, &mut lost);
    types::take_wrong(tree, &mut lost);
    let mut notes = notes::Notes::new(tree, lost);
    let address = build::admin(&mut notes);
    if notes.faults.is_empty() {
        let line = place::line_of_admin(&text, tree);
        Ok(Admin { address, line })
    } else {
        Err(Faults::new(&name, &text, [notes.faults, Found::default()]))
    }
}
