//! Every key of routes.toml, once: its name, its values, its default, and what it is for. Reading
//! (`section`), the faults of keys and types, and the JSON Schema follow from this table;
//! docs/routes.md and README.md are tested against it.

mod table;

use std::ops::RangeInclusive;
use std::time::Duration;

pub use table::ROOT;

/// The keys of one table.
pub type Table = &'static [Key];

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// Whether it has a value or tables.
    pub under: Under,
    /// Its purpose, which editors show.
    pub about: &'static str,
}

/// A value or the tables that a key may have.
#[derive(Debug)]
pub enum Under {
    /// A value, and its default.
    Value(Kind, Absent),
    /// A table of fixed keys.
    Table(Table),
    /// Tables of the same keys under names that the user chooses, and the word for one of them.
    Named(Table, &'static str),
}

/// The values that a key accepts.
#[derive(Debug)]
pub enum Kind {
    /// A whole number.
    Count(RangeInclusive<i64>),
    /// A string such as `"75m"`.
    Duration(RangeInclusive<Duration>),
    /// The same, or a table with these keys.
    DurationOr(RangeInclusive<Duration>, Table),
    /// A string such as `"64KiB"`, in bytes.
    Size(RangeInclusive<u64>),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// true or false.
    Boolean,
    /// An address in quotes, or false.
    AddressOrFalse,
    /// A string.
    Text(Text),
    /// An array of strings.
    Texts(Text),
    /// The same, or false.
    TextsOrFalse(Text),
    /// An array of these words.
    Choices(&'static [&'static str]),
    /// An array of ports.
    Ports,
    /// An array of endpoints: strings, or tables with these keys.
    Endpoints(Table),
}

/// The meaning of a string.
#[derive(Clone, Copy, Debug)]
pub enum Text {
    /// The name of a listener, backend or route.
    Name,
    /// An address that listens.
    Bind,
    /// `host:port` to dial.
    Endpoint,
    /// The URL of a proxy.
    Via,
    /// A network of clients or servers.
    Network,
    /// The address of a DNS server.
    DnsServer,
    /// An address of this machine, without a port.
    Source,
    /// A pattern of server names.
    ServerName,
    /// A server name that portway itself sends.
    OneName,
    /// A protocol of ALPN.
    Protocol,
    /// The path of another file.
    File,
}

/// The value that applies if a key is left out. The texts are values without quotes and brackets.
#[derive(Debug)]
pub enum Absent {
    /// This value.
    Default(&'static str),
    /// The reference describes it; this is an example of a value.
    Example(&'static str),
    /// The key is required; this is an example.
    Required(&'static str),
    /// The key or the next one is required; this is an example.
    RequiredOrNext(&'static str),
}

/// The value at this path. A name that the user chooses may be any name. The keys of an endpoint are below the list.
pub(super) fn find<'p>(
    path: impl Iterator<Item = &'p str>,
) -> Option<(&'static str, &'static Kind, &'static Absent)> {
    let mut path = path.peekable();
    let mut known = ROOT;
    loop {
        let name = path.next()?;
        let key = known.iter().find(|key| key.name == name)?;
        match &key.under {
            Under::Value(Kind::Endpoints(keys) | Kind::DurationOr(_, keys), _)
                if path.peek().is_some() =>
            {
                known = keys;
            }
            Under::Value(kind, absent) => return Some((key.name, kind, absent)),
            Under::Table(keys) => known = keys,
            Under::Named(keys, _) => {
                path.next()?;
                known = keys;
            }
        }
    }
}

/// The keys of the table at this path, if it is one of fixed keys.
pub(super) fn table<'p>(mut path: impl Iterator<Item = &'p str>) -> Option<Table> {
    let mut known = ROOT;
    while let Some(name) = path.next() {
        let key = known.iter().find(|key| key.name == name)?;
        known = match &key.under {
            Under::Value(..) => return None,
            Under::Table(keys) => keys,
            Under::Named(keys, _) => {
                path.next()?;
                keys
            }
        };
    }
    Some(known)
}

impl Kind {
    /// A value as it is written in the file.
    pub fn written(&self, value: &str) -> String {
        match self {
            Self::Count(_) | Self::Boolean => value.to_owned(),
            Self::Ports => format!("[{value}]"),
            Self::Texts(_) | Self::Choices(_) | Self::Endpoints(_) => format!("[{value:?}]"),
            Self::TextsOrFalse(_) => {
                let values: Vec<_> = list(value).map(|one| format!("{one:?}")).collect();
                format!("[{}]", values.join(", "))
            }
            Self::Duration(_)
            | Self::DurationOr(..)
            | Self::Size(_)
            | Self::Choice(_)
            | Self::AddressOrFalse
            | Self::Text(_) => {
                format!("{value:?}")
            }
        }
    }
}

/// An example of the key and value at a path.
pub(super) fn example<'p>(path: impl Iterator<Item = &'p str>) -> Option<String> {
    let path: Vec<&str> = path.collect();
    let keys = path.iter().copied();
    let Some((name, kind, absent)) = find(keys.clone()) else {
        return example_of_table(&path);
    };
    Some(with_example(name, kind, absent))
}

/// A key with an example of its value. One with the default would be useless.
pub(super) fn with_example(name: &str, kind: &Kind, absent: &Absent) -> String {
    let (Absent::Default(value)
    | Absent::Example(value)
    | Absent::Required(value)
    | Absent::RequiredOrNext(value)) = absent;
    let value: &str = match (kind, absent) {
        (Kind::Boolean, _) => "true",
        (Kind::Choice(words), Absent::Default(_)) => {
            let mut others = words.iter().filter(|word| *word != value);
            others.next().unwrap_or(value)
        }
        _ => value,
    };
    format!("{name} = {}", kind.written(value))
}

/// An example of a table in another one, on one line.
fn example_of_table(path: &[&str]) -> Option<String> {
    let [_, _, name] = path else { return None };
    let keys = table(path.iter().copied())?;
    keys.iter().find_map(|key| match &key.under {
        Under::Value(kind, Absent::Required(value)) => Some(format!(
            "{name} = {{ {} = {} }}",
            key.name,
            kind.written(value)
        )),
        Under::Value(..) | Under::Table(_) | Under::Named(..) => None,
    })
}

/// The values of a default that is a list.
pub(super) fn list(default: &str) -> impl Iterator<Item = &str> {
    default.split(", ")
}

/// The default at a path as it is written in the file; empty if there is none.
pub fn default_of(path: &[&str]) -> String {
    match find(path.iter().copied()) {
        Some((_, kind, Absent::Default(value))) => kind.written(value),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::{Balance, Dialling};
    use crate::config;
    use crate::net::LegOptions;
    use crate::telemetry::LogRules;

    #[test]
    fn a_default_that_a_module_has_itself_is_that_of_the_table() {
        let parsed = config::parse(include_str!("../../routes.toml"), "routes.toml");
        let settings = parsed.map(|loaded| loaded.settings).ok();
        let backends = settings.iter().flat_map(|settings| &settings.backends);
        for backend in backends.clone() {
            assert_eq!(backend.balance, Balance::default());
            assert_eq!(backend.relay.leg, LegOptions::DEFAULT);
            assert_eq!(backend.dialling, Dialling::default());
        }
        assert_eq!(
            settings.as_ref().map(|it| it.log),
            Some(LogRules::default())
        );
        assert!(backends.count() > 0);
    }
}
