//! The keys of routes.toml as a tree: for unknown keys with a suggestion, and for the examples
//! that faults of type show. The mirror refuses what this tree has and the mirror has not.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::faults::Fault;
use super::lost::Lost;
use super::path::Path;
use super::values::{self, Wrong};

/// What may stand under a key.
#[derive(Debug)]
pub enum Keys {
    /// A value; the text is an example of one.
    Value(&'static str),
    /// A table of fixed keys.
    Table(Table),
    /// Tables of the same keys under names that the user chooses.
    Named(Table),
}

/// Keys and what stands under them.
pub type Table = &'static [(&'static str, Keys)];

/// Every key of routes.toml. `docs/routes.md` is tested against it.
pub const ROOT: Table = &[
    ("workers", Keys::Value("4")),
    (
        "admin",
        Keys::Table(&[("bind", Keys::Value(r#""127.0.0.1:9355""#))]),
    ),
    (
        "limits",
        Keys::Table(&[
            ("max_connections", Keys::Value("20000")),
            ("max_pending_connections", Keys::Value("5000")),
            ("max_pending_per_client", Keys::Value("1000")),
            ("max_connections_per_client", Keys::Value("2000")),
            ("client_ipv6_prefix", Keys::Value("64")),
            ("client_hello_timeout", Keys::Value(r#""10s""#)),
            ("max_client_hello", Keys::Value(r#""64KiB""#)),
            ("drain_delay", Keys::Value(r#""0s""#)),
            ("drain_timeout", Keys::Value(r#""20s""#)),
        ]),
    ),
    (
        "log",
        Keys::Table(&[("connections", Keys::Value(r#""all""#))]),
    ),
    (
        "listeners",
        Keys::Named(&[
            ("bind", Keys::Value(r#"["[::]:443"]"#)),
            ("allow_clients", Keys::Value(r#"["10.0.0.0/8"]"#)),
            ("deny_clients", Keys::Value(r#"["10.66.0.0/16"]"#)),
        ]),
    ),
    (
        "backends",
        Keys::Named(&[
            ("endpoints", Keys::Value(r#"["fleet-1.internal:8220"]"#)),
            ("balance", Keys::Value(r#""least_connections""#)),
            ("connect_timeout", Keys::Value(r#""4s""#)),
            ("dial_timeout", Keys::Value(r#""9s""#)),
            ("idle_timeout", Keys::Value(r#""75m""#)),
            ("half_close_timeout", Keys::Value(r#""60s""#)),
            ("stall_timeout", Keys::Value(r#""10m""#)),
            ("keepalive", Keys::Value(r#""60s""#)),
            ("max_unsent", Keys::Value(r#""1MiB""#)),
        ]),
    ),
    (
        "routes",
        Keys::Named(&[
            ("server_names", Keys::Value(r#"["fleet.example.com"]"#)),
            ("no_server_name", Keys::Value("true")),
            ("listeners", Keys::Value(r#"["agents"]"#)),
            ("alpn", Keys::Value(r#"["h2"]"#)),
            ("clients", Keys::Value(r#"["10.0.0.0/8"]"#)),
            ("backend", Keys::Value(r#""fleet""#)),
        ]),
    ),
];

/// Takes the unknown keys out of the file, with a fault for each.
pub(super) fn take_unknown(file: &mut DeTable<'_>) -> Lost {
    let mut lost = Lost::default();
    take_from(file, ROOT, &Path::default(), &mut lost);
    lost
}

fn take_from(file: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    let names = known.iter().map(|(name, _)| *name);
    let strange: Vec<String> = (file.keys())
        .filter(|key| !names.clone().any(|name| name == key.get_ref()))
        .map(|key| key.get_ref().to_string())
        .collect();
    for key in &strange {
        if let Some((place, value)) = file.remove_entry(key.as_str()) {
            let meant = nearest(key, names.clone());
            lost.add(path, meant);
            // What refers to a table in it is no fault of its own.
            if let (Some(meant), DeValue::Table(tables)) = (meant, value.get_ref()) {
                let path = path.key(meant);
                for name in tables.keys() {
                    lost.add(&path, Some(name.get_ref()));
                }
            }
            lost.faults
                .add(unknown(path.key(key), place.span(), meant, names.clone()));
        }
    }
    for (key, value) in file.iter_mut() {
        let path = path.key(key.as_ref());
        let under = known.iter().find(|(name, _)| *name == key.as_ref());
        match (under.map(|(_, keys)| keys), value.get_mut()) {
            (Some(Keys::Table(keys)), DeValue::Table(table)) => {
                take_from(table, keys, &path, lost);
            }
            (Some(Keys::Named(keys)), DeValue::Table(tables)) => {
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

/// Takes out tables whose names are too long. Each fault below such a table would repeat its name.
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
            lost.faults.add(Fault {
                span: place.span(),
                path: path.key(name),
                message,
                help: Some(help),
                other: None,
            });
        }
    }
}

/// Takes out what was meant as one name with a dot: `[backends.a.b]` is a table b in a table a.
fn take_dotted(tables: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    let is_dotted = |table: &DeValue<'_>| {
        table.as_table().is_some_and(|table| {
            let is_known = |key: &str| known.iter().any(|(name, _)| *name == key);
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
        let table = tables.remove(name.as_str());
        let under = table.iter().filter_map(|table| table.get_ref().as_table());
        for key in under.flat_map(DeTable::keys) {
            let whole = format!("{name}.{}", key.get_ref());
            lost.add(path, Some(&whole));
            lost.faults.add(Fault {
                span: key.span(),
                path: path.key(name).key(key.as_ref()),
                message: "unknown key".to_owned(),
                help: Some(format!(
                    "write [{}] if the dot is a part of the name",
                    path.key(&whole)
                )),
                other: None,
            });
        }
    }
}

fn unknown(
    path: Path,
    span: Range<usize>,
    meant: Option<&str>,
    known: impl Iterator<Item = &'static str>,
) -> Fault {
    let help = match meant {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("write one of {}", known.collect::<Vec<_>>().join(", ")),
    };
    Fault {
        span,
        path,
        message: "unknown key".to_owned(),
        help: Some(help),
        other: None,
    }
}

/// The known word that was probably meant. A caller with many known words bounds how often it asks.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.len() > values::LONGEST_NAME {
        return None;
    }
    let most = |name: &str| 1.max(name.len() / 3);
    let length = word.chars().count();
    known
        .filter(|name| name.chars().count().abs_diff(length) <= most(name))
        .map(|name| (strsim::osa_distance(word, name), name))
        .filter(|(distance, name)| *distance <= most(name))
        .min()
        .map(|(_, name)| name)
}

/// An example of the value at a path.
pub(super) fn example(path: &Path) -> Option<String> {
    let mut table = ROOT;
    let mut steps = path.keys();
    loop {
        let key = steps.next()?;
        match table
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, keys)| keys)?
        {
            Keys::Value(example) => return Some(format!("{key} = {example}")),
            Keys::Table(keys) => table = keys,
            Keys::Named(keys) => {
                steps.next()?;
                table = keys;
            }
        }
    }
}
