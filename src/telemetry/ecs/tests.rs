//! Compares lines with the published schema.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::VERSION;

/// An extract of the schema: a field in each line, with its type, whether it is an array, and its allowed values.
const SCHEMA: &str = include_str!("../../../tests/ecs/fields.csv");

/// Where portway's own fields are.
const OWN: &str = "portway";

struct Field {
    kind: &'static str,
    is_array: bool,
    values: Vec<&'static str>,
}

fn schema() -> BTreeMap<&'static str, Field> {
    let rows = SCHEMA.lines().filter(|line| !line.starts_with('#'));
    let field = |row: &'static str| {
        let [name, kind, array, values] = row.split(',').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let field = Field {
            kind,
            is_array: array == "array",
            values: values
                .split('|')
                .filter(|value| !value.is_empty())
                .collect(),
        };
        (name, field)
    };
    rows.map(field).collect()
}

/// The values of a line by their whole names.
pub(in crate::telemetry) fn flat(line: &Value) -> BTreeMap<String, Value> {
    fn collect(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        let Value::Object(fields) = value else {
            assert!(
                into.insert(prefix.to_owned(), value.clone()).is_none(),
                "{prefix} is there twice"
            );
            return;
        };
        for (name, value) in fields {
            let dot = if prefix.is_empty() { "" } else { "." };
            collect(&format!("{prefix}{dot}{name}"), value, into);
        }
    }
    let mut values = BTreeMap::new();
    collect("", line, &mut values);
    values
}

/// Fails unless each field of a line is in the schema, with this type, or below the one key of portway.
pub(in crate::telemetry) fn agrees(line: &Value) {
    let schema = schema();
    for (name, value) in flat(line) {
        if name.split('.').next() == Some(OWN) {
            continue;
        }
        let field = schema.get(&*name);
        let Some(field) = field.filter(|field| field.kind != "object") else {
            panic!("{name} is not a field of the schema: {line}");
        };
        let values = value.as_array().filter(|_| field.is_array);
        assert_eq!(
            values.is_some(),
            field.is_array,
            "{name} is an array or not: {line}"
        );
        for value in values.map_or(std::slice::from_ref(&value), Vec::as_slice) {
            assert!(
                has_type(value, field.kind),
                "{name} is of the type {}: {line}",
                field.kind
            );
            let allowed = &field.values;
            assert!(
                allowed.is_empty() || value.as_str().is_some_and(|it| allowed.contains(&it)),
                "{name} has another value than {allowed:?}: {line}"
            );
        }
    }
    for required in ["@timestamp", "log.level", "message", "ecs.version"] {
        assert!(line[required].is_string(), "{required}: {line}");
    }
}

fn has_type(value: &Value, kind: &str) -> bool {
    match kind {
        "keyword" | "match_only_text" => value.is_string(),
        "long" => value.as_i64().is_some(),
        "ip" => value
            .as_str()
            .is_some_and(|it| it.parse::<IpAddr>().is_ok()),
        "date" => value
            .as_str()
            .is_some_and(|it| humantime::parse_rfc3339(it).is_ok()),
        _ => panic!("{kind}"),
    }
}

#[test]
fn the_version_is_that_of_the_extract() {
    assert!(SCHEMA.starts_with(&format!(
        "# Names, types and allowed values of the Elastic Common Schema {VERSION}:"
    )));
}

#[test]
fn the_key_of_portway_is_free() {
    let schema = schema();
    assert!(schema.contains_key("source.nat") && schema.contains_key("event"));
    assert!(!schema.contains_key(OWN));
}

#[test]
fn a_field_of_another_type_is_noticed() {
    let good = serde_json::json!({
        "@timestamp": "2026-01-01T00:00:00.123Z", "log.level": "info", "message": "", "ecs.version": "1",
        "portway": { "anything": 1 },
    });
    agrees(&good);
    for (name, value) in [
        ("client", serde_json::json!("192.0.2.7:50123")),
        ("client", serde_json::json!({ "ip": "192.0.2.7:50123" })),
        ("client", serde_json::json!({ "port": "50123" })),
        ("event", serde_json::json!({ "category": "network" })),
        ("event", serde_json::json!({ "category": ["networks"] })),
        ("outcome", serde_json::json!("closed")),
    ] {
        let mut bad = good.clone();
        bad[name] = value;
        std::panic::catch_unwind(|| agrees(&bad)).unwrap_err();
    }
}
