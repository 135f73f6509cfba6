//! The types of values. All values that are of another type are found, not just the first.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::faults::{Fault, Found};
use super::keys::{Kind, ROOT, Table, Under, example};
use super::lost::Lost;
use super::path::Path;

/// Takes the values of another type out of the file, with a fault for each. What is left can be read.
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
        } else if let DeValue::Table(under) = value.get_mut() {
            match &key.under {
                Under::Value(..) => {}
                Under::Table(known) => take_from(under, known, &path.key(key.name), lost),
                Under::Named(known, _) => {
                    take_from_named(under, known, &path.key(key.name), lost);
                }
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
            continue;
        }
        lost.faults.add_at(value.span().start, || {
            let mut fault = wrong_type(value, TABLE.0, path_of_table);
            if known.iter().any(|key| key.name == name) {
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

/// What to write where tables have names.
fn with_a_name(path: &Path) -> String {
    format!("write a table with a name, such as [{}]", path.key("fleet"))
}

/// The name of a type, and which values are of it.
type Type = (&'static str, fn(&DeValue<'_>) -> bool);

const TABLE: Type = ("a table", |value| value.is_table());
const TEXT: Type = ("a string", |value| value.is_str());

fn type_of(under: &Under) -> Type {
    match under {
        Under::Table(_) | Under::Named(..) => TABLE,
        Under::Value(kind, _) => match kind {
            Kind::Count(_) => ("a whole number", |value| value.is_integer()),
            Kind::Duration(_) | Kind::Size(_) | Kind::Choice(_) | Kind::Text(_) => TEXT,
            Kind::Boolean => ("a boolean", |value| value.is_bool()),
            Kind::AddressOrFalse => ("an address in quotes, or false", |value| {
                value.is_str() || value.is_bool()
            }),
            Kind::Texts(_) => ("an array", |value| value.is_array()),
        },
    }
}

/// Whether a value is of another type, or one in its array is: then with a fault for each.
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
    let mut is_wrong = false;
    for (index, value) in (value.get_ref().as_array().into_iter().flatten()).enumerate() {
        let (wanted, fits) = TEXT;
        if !fits(value.get_ref()) {
            is_wrong = true;
            faults.add_at(value.span().start, || {
                wrong_type(value, wanted, path().index(index))
            });
        }
    }
    is_wrong
}

fn wrong_type(value: &Spanned<DeValue<'_>>, wanted: &str, path: Path) -> Fault {
    let found = match value.get_ref() {
        DeValue::String(text) => format!("string {text:?}"),
        DeValue::Integer(number) => format!("integer `{number}`"),
        DeValue::Float(number) => format!("floating point `{number}`"),
        DeValue::Boolean(switch) => format!("boolean `{switch}`"),
        DeValue::Datetime(_) => "date or time".to_owned(),
        DeValue::Array(_) => "array".to_owned(),
        DeValue::Table(_) => "table".to_owned(),
    };
    let help = match example(path.keys()) {
        Some(example) => format!("write, for example, {example}"),
        None => format!("write a table [{path}]"),
    };
    let message = format!("invalid type: {found}, expected {wanted}");
    Fault::new(value.span(), path, message, Some(help))
}
