//! The endpoints of a backend: where they are, and their roles.

use toml::de::DeValue;

use crate::backend::{EndpointState, Role, Target};
use crate::config::section::Section;
use crate::config::values;

/// The endpoints that are correct, and the role of each.
pub(super) fn endpoints(section: &mut Section<'_, '_>) -> (Vec<Target>, Vec<Role>) {
    let targets = section.list("endpoints", values::endpoint);
    let list = section.path.key("endpoints");
    let written = section.value("endpoints").and_then(DeValue::as_array);
    let mut roles = Vec::new();
    for (index, endpoint) in written.into_iter().flatten().enumerate() {
        roles.push(role(&mut Section {
            table: endpoint.get_ref().as_table(),
            path: list.index(index),
            notes: section.notes,
        }));
    }
    let roles = match section.notes.left.get(&list) {
        Some(left) => left
            .iter()
            .filter_map(|index| roles.get(*index).copied())
            .collect(),
        None => roles,
    };
    (targets, roles)
}

fn role(section: &mut Section<'_, '_>) -> Role {
    if section.table.is_none() {
        return Role::default();
    }
    section.require("address", "it has no address");
    let state: Option<EndpointState> = section.read("state", values::choice);
    Role {
        weight: section.read("weight", values::count),
        state: state.unwrap_or_default(),
        is_backup: section.read("backup", values::boolean).unwrap_or_default(),
    }
}
