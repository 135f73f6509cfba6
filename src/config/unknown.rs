//! The keys of a file that routes.toml does not have, each with the key that was probably meant.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::faults::Fault;
use super::keys::{self, Absent, Key, Kind, ROOT, Table, Under};
use super::lost::Lost;
use super::path::Path;
use super::values::{self, Wrong};

/// Removes the unknown keys from the file, with a fault for each.
pub(super) fn take_unknown(file: &mut DeTable<'_>, lost: &mut Lost) {
    take_from(file, ROOT, &Path::default(), lost);
}

fn take_from(file: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    let names = known.iter().map(|key| key.name);
    let strange: Vec<String> = (file.keys())
        .filter(|key| !names.clone().any(|name| name == key.get_ref()))
        .map(|key| key.get_ref().to_string())
        .collect();
    for key in &strange {
        if let Some((place, value)) = file.remove_entry(key.as_str()) {
            let meant = values::nearest(key, names.clone());
            let is_table = value.get_ref().is_table();
            let under = known.iter().find(|known| Some(known.name) == meant);
            match (under, meant) {
                (Some(under), Some(_)) if is_moved(file, &place, value, under) => {}
                _ => lost.add(path, meant),
            }
            // A value with one wrong letter is most likely in its place.
            let is_slip = under.is_some_and(|known| {
                matches!(known.under, Under::Value(..))
                    && strsim::osa_distance(key, known.name) == 1
            });
            lost.faults.add_at(place.span().start, || {
                let help = match (owners(key, known).filter(|_| !is_table && !is_slip), meant) {
                    (Some(owners), _) => format!("`{key}` belongs {owners}"),
                    (None, Some(name)) => format!("did you mean `{name}`?"),
                    (None, None) => format!(
                        "write one of {}",
                        names.clone().collect::<Vec<_>>().join(", ")
                    ),
                };
                unknown(path.key(key), place.span(), help)
            });
        }
    }
    for (key, value) in file.iter_mut() {
        let path = path.key(key.as_ref());
        let known = known.iter().find(|known| known.name == key.as_ref());
        match (known.map(|known| &known.under), value.get_mut()) {
            (
                Some(Under::Table(keys) | Under::Value(Kind::DurationOr(_, keys), _)),
                DeValue::Table(table),
            ) => {
                take_from(table, keys, &path, lost);
            }
            (Some(Under::Value(Kind::Endpoints(keys), _)), DeValue::Array(all)) => {
                for (index, endpoint) in all.iter_mut().enumerate() {
                    if let DeValue::Table(endpoint) = endpoint.get_mut() {
                        take_from(endpoint, keys, &path.index(index), lost);
                    }
                }
            }
            (Some(Under::Named(keys, _)), DeValue::Table(tables)) => {
                take_long(tables, &path, lost);
                take_dotted(tables, keys, &path, lost);
                for (name, table) in tables.iter_mut() {
                    if let DeValue::Table(table) = table.get_mut() {
                        take_from(table, keys, &path.key(name.as_ref()), lost);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Where in a file a key of this name may have a value. `beside` are the keys of the table that it is in.
fn owners(name: &str, beside: Table) -> Option<String> {
    let has = |keys: Table| {
        let mut keys = keys.iter();
        keys.any(|key| key.name == name && matches!(key.under, Under::Value(..)))
    };
    let top = has(ROOT).then(|| "above the first header of the file".to_owned());
    let tables = ROOT.iter().filter_map(|key| match &key.under {
        Under::Table(keys) => has(keys).then(|| format!("in [{}]", key.name)),
        Under::Named(keys, _) => has(keys).then(|| format!("in [{}.NAME]", key.name)),
        Under::Value(..) => None,
    });
    let below = ROOT.iter().flat_map(|key| match &key.under {
        Under::Named(keys, _) => keys.iter().map(|below| (key.name, below)).collect(),
        Under::Table(_) | Under::Value(..) => Vec::new(),
    });
    let below = below.filter_map(|(name, below)| match &below.under {
        Under::Table(keys) | Under::Value(Kind::DurationOr(_, keys), _) => {
            has(keys).then(|| format!("in [{name}.NAME.{}]", below.name))
        }
        Under::Named(..) | Under::Value(..) => None,
    });
    // Only beside the list that has such tables: elsewhere another word is more likely meant than a key of theirs.
    let listed = beside.iter().filter_map(|key| match &key.under {
        Under::Value(Kind::Endpoints(keys), _) => has(keys).then(|| listed(key.name, keys, name)),
        Under::Value(..) | Under::Table(_) | Under::Named(..) => None,
    });
    let owners: Vec<String> = (top.into_iter().chain(tables).chain(below).chain(listed)).collect();
    (!owners.is_empty()).then(|| owners.join(" or "))
}

/// The place of a key in the tables of a list, with an example: such a table has the keys without which it means
/// nothing, and this one.
fn listed(list: &str, table: Table, name: &str) -> String {
    let pairs = table.iter().filter_map(|key| match &key.under {
        Under::Value(kind, absent) => (key.name == name || matches!(absent, Absent::Required(_)))
            .then(|| keys::with_example(key.name, kind, absent)),
        Under::Table(_) | Under::Named(..) => None,
    });
    let pairs: Vec<String> = pairs.collect();
    format!("in a table of {list}, such as {{ {} }}", pairs.join(", "))
}

/// Puts a table under the key that was meant, if there is room. Then its faults are reported too.
fn is_moved<'t>(
    file: &mut DeTable<'t>,
    place: &Spanned<DeString<'t>>,
    value: Spanned<DeValue<'t>>,
    meant: &'static Key,
) -> bool {
    if !value.get_ref().is_table() || matches!(meant.under, Under::Value(..)) {
        return false;
    }
    let Some(there) = file.get_mut(meant.name) else {
        let key = Spanned::new(place.span(), Cow::Borrowed(meant.name));
        file.insert(key, value);
        return true;
    };
    let (DeValue::Table(there), DeValue::Table(tables)) = (there.get_mut(), value.into_inner())
    else {
        return false;
    };
    for (name, table) in tables {
        there.entry(name).or_insert(table);
    }
    true
}

/// Removes tables whose names are too long. Each fault below such a table would repeat its name.
fn take_long(tables: &mut DeTable<'_>, path: &Path, lost: &mut Lost) {
    let long: Vec<String> = (tables.keys())
        .filter(|name| name.get_ref().len() > values::LONGEST_NAME)
        .map(|name| name.get_ref().to_string())
        .collect();
    for name in &long {
        if let Some((place, _)) = tables.remove_entry(name.as_str())
            && let Err(Wrong { message, help }) = values::name(name)
        {
            lost.add(path, Some(name));
            let path = path.key(name);
            (lost.faults).add(Fault::new(place.span(), path, message, Some(help)));
        }
    }
}

/// Removes tables that were meant as one name with a dot: `[backends.a.b]` is a table b in a table a.
fn take_dotted(tables: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    let is_dotted = |table: &DeValue<'_>| {
        table.as_table().is_some_and(|table| {
            let is_known = |key: &str| known.iter().any(|known| known.name == key);
            let mut keys = table.iter();
            !table.is_empty()
                && keys.all(|(key, value)| !is_known(key.as_ref()) && value.get_ref().is_table())
        })
    };
    let dotted = tables
        .iter()
        .filter(|(_, table)| is_dotted(table.get_ref()));
    let dotted: Vec<String> = dotted.map(|(name, _)| name.get_ref().to_string()).collect();
    for name in &dotted {
        let table = tables.remove(name.as_str()).map(Spanned::into_inner);
        let Some(DeValue::Table(under)) = table else {
            continue;
        };
        for (key, value) in under {
            let whole = format!("{name}.{}", key.get_ref());
            let help = path.key(&whole);
            let help = format!("write [{help}] if the dot is a part of the name");
            let at = path.key(name).key(key.as_ref());
            lost.faults.add(unknown(at, key.span(), help));
            if tables.contains_key(whole.as_str()) || is_dotted(value.get_ref()) {
                lost.add(path, Some(&whole));
            } else {
                // Keep it under the name that was meant, so that its faults are reported too.
                tables.insert(Spanned::new(key.span(), Cow::Owned(whole)), value);
            }
        }
    }
}

fn unknown(path: Path, span: Range<usize>, help: String) -> Fault {
    Fault::new(span, path, "unknown key".to_owned(), Some(help))
}
