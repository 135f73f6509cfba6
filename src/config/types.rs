//! Checks the types of values, and finds all values of a wrong type, not just the first.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::{Fault, Found};
use super::keys::{Kind, ROOT, Table, Under, example, find};
use super::lost::Lost;
use super::path::Path;
use super::section::text;
use super::values;

/// Removes the values of a wrong type from the file, with a fault for each, so that the rest can be read.
pub(super) fn take_wrong(file: &mut DeTable<'_>, lost: &mut Lost) {
    take_from(file, ROOT, &Path::default(), lost);
}

fn take_from(table: &mut DeTable<'_>, known: Table, path: &Path, lost: &mut Lost) {
    for key in known {
        let Some(value) = table.get_mut(key.name) else {
            continue;
        };
        if is_wrong(&key.under, || path.key(key.name), value, &mut lost.faults) {
            table.remove(key.name);
            lost.add(path, Some(key.name));
            continue;
        }
        let path = path.key(key.name);
        match (&key.under, value.get_mut()) {
            (
                Under::Table(known) | Under::Value(Kind::DurationOr(_, known), _),
                DeValue::Table(under),
            ) => take_from(under, known, &path, lost),
            (Under::Named(known, _), DeValue::Table(under)) => {
                take_from_named(under, known, &path, lost);
            }
            (Under::Value(Kind::Endpoints(known), _), DeValue::Array(all)) => {
                for (index, endpoint) in all.iter_mut().enumerate() {
                    if let DeValue::Table(endpoint) = endpoint.get_mut() {
                        take_from(endpoint, known, &path.index(index), lost);
                    }
                }
            }
            _ => {}
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
            continue;
        }
        lost.faults.add_at(value.span().start, || {
            let mut fault = wrong_type(value, TABLE.0, path_of_table);
            if known.iter().any(|key| key.name == name) {
                fault.message = format!("{name} is not in a table with a name");
                fault.help = Some(with_a_name(path));
            }
            fault
        });
        lost.add(path, Some(name));
        gone.push(name.to_owned());
    }
    for name in gone {
        tables.remove(name.as_str());
    }
}

/// Says what to write if a table needs a name.
fn with_a_name(path: &Path) -> String {
    format!("write a table with a name, such as [{}]", path.key("fleet"))
}

/// The name of a type, and which values are of it.
pub(super) type Type = (&'static str, fn(&DeValue<'_>) -> bool);

const TABLE: Type = ("a table", |value| value.is_table());
pub(super) const TEXT: Type = ("text in quotes", |value| value.is_str());

fn type_of(under: &Under) -> Type {
    match under {
        Under::Table(_) | Under::Named(..) => TABLE,
        Under::Value(kind, _) => match kind {
            Kind::Count(_) => ("a whole number", |value| value.is_integer()),
            Kind::Duration(_) => ("a duration in quotes, with its unit", TEXT.1),
            Kind::DurationOr(..) => ("a duration in quotes or a table", |value| {
                value.is_str() || value.is_table()
            }),
            Kind::Size(_) => ("a size in quotes, with its unit", TEXT.1),
            Kind::Choice(_) | Kind::Text(_) => TEXT,
            Kind::Boolean => ("true or false", |value| value.is_bool()),
            Kind::AddressOrFalse => ("an address in quotes, or false", |value| {
                value.is_str() || value.is_bool()
            }),
            Kind::Texts(_) | Kind::Choices(_) | Kind::Ports | Kind::Endpoints(_) => {
                ("a list", |value| value.is_array())
            }
            Kind::TextsOrFalse(_) => ("a list, or false", |value| {
                value.is_array() || value.is_bool()
            }),
        },
    }
}

/// The type of the elements of a list.
pub(super) fn of_element(kind: &Kind) -> Type {
    if matches!(kind, Kind::Ports) {
        ("a whole number", |value| value.is_integer())
    } else if matches!(kind, Kind::Endpoints(_)) {
        ("text in quotes or a table", |value| {
            value.is_str() || value.is_table()
        })
    } else {
        TEXT
    }
}

/// Whether a value is of another type; then with a fault. One in its array has a fault too, and is passed over
/// where the array is read.
fn is_wrong(
    under: &Under,
    path: impl Fn() -> Path,
    value: &Spanned<DeValue<'_>>,
    faults: &mut Found,
) -> bool {
    let (wanted, fits) = type_of(under);
    if !fits(value.get_ref()) {
        faults.add_at(value.span().start, || {
            let mut fault = wrong_type(value, wanted, path());
            if matches!(under, Under::Named(..)) {
                fault.help = Some(with_a_name(&fault.path));
            }
            fault
        });
        return true;
    }
    for (index, value) in (value.get_ref().as_array().into_iter().flatten()).enumerate() {
        let (wanted, fits) = match under {
            Under::Value(kind, _) => of_element(kind),
            Under::Table(_) | Under::Named(..) => TEXT,
        };
        if !fits(value.get_ref()) {
            faults.add_at(value.span().start, || {
                wrong_type(value, wanted, path().index(index))
            });
        }
    }
    false
}

fn wrong_type(value: &Spanned<DeValue<'_>>, wanted: &str, path: Path) -> Fault {
    let message = format!("{}, not {wanted}", shown(value.get_ref()));
    let meant = find(path.keys()).and_then(|(name, kind, _)| {
        Some(format!("write {name} = {}", meant(value.get_ref(), kind)?))
    });
    let for_example =
        || example(path.keys()).map(|example| format!("write, for example, {example}"));
    let help = (meant.or_else(for_example))
        .unwrap_or_else(|| format!("write the header [{path}], with one bracket on each side"));
    Fault::new(value.span(), path, message, Some(help))
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?} is text"),
        DeValue::Integer(number) => format!("{number} is a number"),
        DeValue::Float(number) => format!("{number} is a number with a fraction"),
        DeValue::Boolean(switch) => format!("this is {switch}"),
        DeValue::Datetime(_) => "this is a date or a time".to_owned(),
        DeValue::Array(_) => "this is a list".to_owned(),
        DeValue::Table(_) => "this is a table".to_owned(),
    }
}

/// The value that one of a wrong type most likely means.
fn meant(value: &DeValue<'_>, kind: &Kind) -> Option<String> {
    match (kind, value) {
        (
            Kind::Texts(_) | Kind::TextsOrFalse(_) | Kind::Choices(_) | Kind::Endpoints(_),
            DeValue::String(text),
        ) => {
            let values: Vec<String> = text
                .split(',')
                .map(|one| format!("{:?}", one.trim()))
                .collect();
            Some(format!("[{}]", values.join(", ")))
        }
        (Kind::Ports, DeValue::String(_) | DeValue::Integer(_)) => {
            let text = text(value)?;
            let ports: Result<Vec<u16>, _> =
                text.split(',').map(|one| one.trim().parse()).collect();
            Some(format!("{:?}", ports.ok()?))
        }
        (Kind::Count(_), DeValue::String(text)) => {
            let number: i64 = text.replace(['_', ','], "").parse().ok()?;
            Some(number.to_string())
        }
        (Kind::Duration(_) | Kind::DurationOr(..) | Kind::Size(_), DeValue::Integer(number)) => {
            let decimal = i64::from_str_radix(number.as_str(), number.radix()).ok()?;
            values::with_unit(&decimal.to_string(), kind)
        }
        (Kind::Boolean, DeValue::String(text)) => {
            let switch: bool = text.to_lowercase().parse().ok()?;
            Some(switch.to_string())
        }
        (
            Kind::Text(_)
            | Kind::Choice(_)
            | Kind::Duration(_)
            | Kind::DurationOr(..)
            | Kind::Size(_),
            DeValue::Array(list),
        ) => match list.iter().as_slice() {
            [one] => Some(format!("{:?}", one.get_ref().as_str()?)),
            _ => None,
        },
        _ => None,
    }
}
