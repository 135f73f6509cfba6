//! The types of values. The mirror stops at the first value that is of another type; here all of them are
//! found.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::{Fault, Found};
use super::keys::{Keys, ROOT, Table, example};
use super::lost::Lost;
use super::path::Path;

/// Takes the values of another type out of the file, with a fault for each.
pub(super) fn take_wrong(file: &mut DeTable<'_>, lost: &mut Lost) {
    take_from(file, ROOT, &Path::default(), lost);
}

fn take_from(table: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    for (name, keys) in known {
        let Some(value) = table.get_mut(*name) else {
            continue;
        };
        let path_of_value = path.key(name);
        if is_wrong(keys, &path_of_value, value, &mut lost.faults) {
            table.remove(*name);
            lost.add(path, Some(name));
        } else if let DeValue::Table(under) = value.get_mut() {
            match keys {
                Keys::Value(_) => {}
                Keys::Table(known) => take_from(under, known, &path_of_value, lost),
                Keys::Named(known) => take_from_named(under, known, &path_of_value, lost),
            }
        }
    }
}

fn take_from_named(tables: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    let mut gone = Vec::new();
    for (name, value) in tables.iter_mut() {
        let name: &str = name.as_ref();
        let path_of_table = path.key(name);
        if let DeValue::Table(table) = value.get_mut() {
            take_from(table, known, &path_of_table, lost);
        } else if let Some(mut fault) = wrong_type(value, Type::Table, || path_of_table) {
            if known.iter().any(|(key, _)| *key == name) {
                fault.help = Some(with_a_name(path));
            }
            lost.faults.add(fault);
            lost.add(path, Some(name));
            gone.push(name.to_owned());
        }
    }
    for name in gone {
        tables.remove(name.as_str());
    }
}

/// What to write where tables have names.
fn with_a_name(path: &Path) -> String {
    format!("write a table with a name, such as [{}]", path.key("fleet"))
}

/// What a value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Table,
    Array,
    Text,
    Number,
    Boolean,
    /// Of `admin.bind`, which takes two types.
    AddressOrFalse,
}

/// Whether a value is of another type, or one in its array is: then with a fault for each.
fn is_wrong(keys: &Keys, path: &Path, value: &Spanned<DeValue<'_>>, faults: &mut Found) -> bool {
    let wanted = match keys {
        Keys::Table(_) | Keys::Named(_) => Type::Table,
        Keys::Value(_) if *path == Path::of(&["admin", "bind"]) => Type::AddressOrFalse,
        Keys::Value(example) => type_of(example),
    };
    let mut is_wrong = false;
    let mut add = |fault: Option<Fault>| {
        is_wrong |= fault.is_some();
        if let Some(fault) = fault {
            faults.add(fault);
        }
    };
    if let (Type::Array, DeValue::Array(values)) = (wanted, value.get_ref()) {
        for (index, value) in values.iter().enumerate() {
            add(wrong_type(value, Type::Text, || path.index(index)));
        }
    } else {
        let mut fault = wrong_type(value, wanted, || path.clone());
        if let (Some(fault), Keys::Named(_)) = (&mut fault, keys) {
            fault.help = Some(with_a_name(path));
        }
        add(fault);
    }
    is_wrong
}

/// The type of an example. An array has strings.
fn type_of(example: &str) -> Type {
    match example.as_bytes().first() {
        Some(b'[') => Type::Array,
        Some(b'"') => Type::Text,
        Some(b't' | b'f') => Type::Boolean,
        _ => Type::Number,
    }
}

fn wrong_type(
    value: &Spanned<DeValue<'_>>,
    wanted: Type,
    path: impl FnOnce() -> Path,
) -> Option<Fault> {
    let is = value.get_ref();
    let (expected, fits) = match wanted {
        Type::Table => ("a table", is.is_table()),
        Type::Array => ("an array", is.is_array()),
        Type::Text => ("a string", is.is_str()),
        Type::Number => ("a whole number", is.is_integer()),
        Type::Boolean => ("a boolean", is.is_bool()),
        Type::AddressOrFalse => (
            "an address in quotes, or false",
            is.is_str() || is.is_bool(),
        ),
    };
    if fits {
        return None;
    }
    let found = match is {
        DeValue::String(text) => format!("string {text:?}"),
        DeValue::Integer(number) => format!("integer `{number}`"),
        DeValue::Float(number) => format!("floating point `{number}`"),
        DeValue::Boolean(switch) => format!("boolean `{switch}`"),
        DeValue::Datetime(_) => "date or time".to_owned(),
        DeValue::Array(_) => "array".to_owned(),
        DeValue::Table(_) => "table".to_owned(),
    };
    let path = path();
    let help = match example(&path) {
        Some(example) => format!("write, for example, {example}"),
        None => format!("write a table [{path}]"),
    };
    Some(Fault {
        span: value.span(),
        message: format!("invalid type: {found}, expected {expected}"),
        help: Some(help),
        path,
        other: None,
    })
}
