//! The JSON Schema of routes.toml, for editors and linters: keys and descriptions come from the
//! mirror, how a value is written stands here.
//!
//! It takes every file that `portway check` takes and that is written as docs/routes.md says. What
//! needs more than a pattern to see, or two keys, is left to `check`.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::file::File;

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";

/// Every unit that humantime knows. As there, the parts may stand apart or together.
const DURATION: &str = concat!(
    r"^\s*([0-9][0-9\s]*(\.[0-9\s]+)?(",
    "ns|nsec|nanos|us|µs|usec|ms|msec|millis|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?",
    "|d|days?|w|wks?|weeks?|M|months?|y|yrs?|years?",
    r")\s*)+$",
);

const SIZE: &str = r"^[0-9]+(\.[0-9]+)?\s*([Bb]|[KkMmGg][Ii]?[Bb]?)?$";

const BIND: &str = r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";

/// Names may be in Unicode.
const ENDPOINT: &str = r"^([^\s\[\]:/]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";

const NETWORK: &str = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";

const SERVER_NAME: &str = r"^(\*\*|(\*\*?\.)?[^\s*:/.]+(\.[^\s*:/.]+)*)$";

/// The schema as text.
pub fn schema() -> String {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(tidy));
    let schema = settings.into_generator().into_root_schema_for::<File>();
    format!("{:#}\n", schema.as_value())
}

/// Takes out what is true of the mirror and not of the file: that a key left out is null or an empty
/// list, how wide its numbers are, and where the lines of its comments end.
fn tidy(schema: &mut Schema) {
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    let default = schema.get("default");
    if default.is_some_and(|it| it.is_null() || it.as_array().is_some_and(Vec::is_empty)) {
        schema.remove("default");
    }
    schema.remove("format");
}

/// Tables of one kind under names that the user chooses.
pub(super) fn named<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "pattern": NAME },
        "additionalProperties": generator.subschema_for::<T>(),
    })
}

/// `admin.bind`.
pub(super) fn address_or_false(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "string", "pattern": BIND },
            { "type": "boolean", "enum": [false] },
        ],
    })
}

pub(super) fn duration(_: &mut SchemaGenerator) -> Schema {
    text(DURATION)
}

pub(super) fn size(_: &mut SchemaGenerator) -> Schema {
    text(SIZE)
}

pub(super) fn name(_: &mut SchemaGenerator) -> Schema {
    text(NAME)
}

pub(super) fn names(_: &mut SchemaGenerator) -> Schema {
    list(&text(NAME))
}

pub(super) fn binds(_: &mut SchemaGenerator) -> Schema {
    list(&text(BIND))
}

pub(super) fn endpoints(_: &mut SchemaGenerator) -> Schema {
    list(&text(ENDPOINT))
}

pub(super) fn networks(_: &mut SchemaGenerator) -> Schema {
    list(&text(NETWORK))
}

pub(super) fn server_names(_: &mut SchemaGenerator) -> Schema {
    list(&text(SERVER_NAME))
}

pub(super) fn protocols(_: &mut SchemaGenerator) -> Schema {
    list(&json_schema!({ "type": "string", "minLength": 1, "maxLength": 255 }))
}

/// The words of a closed list.
pub(super) fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

fn text(pattern: &str) -> Schema {
    json_schema!({ "type": "string", "pattern": pattern })
}

fn list(item: &Schema) -> Schema {
    json_schema!({ "type": "array", "items": item, "uniqueItems": true })
}
