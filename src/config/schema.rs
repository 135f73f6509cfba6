//! The JSON Schema of routes.toml, for editors and linters: from the table of keys.
//!
//! It accepts every file that `portway check` accepts and that is written as docs/routes.md says. It leaves to
//! `check` the rules that need more than a pattern, or two keys.

use serde_json::{Map, Value, json};

use super::keys::{Absent, Key, Kind, ROOT, Table, Text, Under};

const ABOUT: &str = "A routes.toml of portway: where it listens, which connections it takes, and where they \
                     lead. docs/routes.md is the reference; portway check also finds what takes more than \
                     one key to see.";

const ENDPOINT_TABLE: &str = "A server, and its part among those of the backend.";

const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";

/// Every unit that humantime knows. As in humantime, there may be spaces between the parts.
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

/// The URL of a proxy: a scheme before what an endpoint is.
const VIA: &str = r"^(http|socks5)://([^\s\[\]:/@]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";

const NETWORK: &str = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$";

const DNS_SERVER: &str =
    r"^([0-9.]+(:[0-9]{1,5})?|[0-9A-Fa-f:.]+|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?)$";

const SOURCE: &str = "^[0-9A-Fa-f:.]+$";

const SERVER_NAME: &str = r"^(\*\*|(\*\*?\.)?[^\s*:/.]+(\.[^\s*:/.]+)*)$";

const ONE_NAME: &str = r"^[^\s*:/.]+(\.[^\s*:/.]+)*$";

/// The schema as text.
pub fn schema() -> String {
    let mut definitions = Map::new();
    let mut root = table(ROOT, ABOUT, &mut definitions);
    root.extend([
        (
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        ),
        ("title".to_owned(), json!("routes.toml")),
        ("$defs".to_owned(), Value::Object(definitions)),
    ]);
    format!("{:#}\n", Value::Object(root))
}

fn table(known: Table, about: &str, definitions: &mut Map<String, Value>) -> Map<String, Value> {
    let properties: Map<String, Value> = (known.iter())
        .map(|key| (key.name.to_owned(), property(key, definitions)))
        .collect();
    let mut schema = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("description".to_owned(), json!(about)),
        ("additionalProperties".to_owned(), json!(false)),
        ("properties".to_owned(), Value::Object(properties)),
    ]);
    let required = known.iter().filter(|key| {
        matches!(
            key.under,
            Under::Named(..) | Under::Value(_, Absent::Required(_))
        )
    });
    let required: Vec<&str> = required.map(|key| key.name).collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    for pair in known.windows(2) {
        if let [
            Key {
                name,
                under: Under::Value(_, Absent::RequiredOrNext(_)),
                ..
            },
            next,
        ] = pair
        {
            let either = json!([{ "required": [name] }, { "required": [next.name] }]);
            schema.insert("anyOf".to_owned(), either);
        }
    }
    schema
}

fn property(key: &Key, definitions: &mut Map<String, Value>) -> Value {
    let mut refer = |known, about| {
        let name = key.name.strip_suffix('s').filter(|_| about != key.about);
        let (first, rest) = name.unwrap_or(key.name).split_at(1);
        let name = first.to_uppercase() + rest;
        let reference = format!("#/$defs/{name}");
        let definition = table(known, about, definitions);
        definitions.insert(name, Value::Object(definition));
        json!({ "$ref": reference })
    };
    let mut schema = Map::from_iter([("description".to_owned(), json!(key.about))]);
    let of_value = match &key.under {
        Under::Table(known) => refer(known, key.about),
        Under::Named(known, about) => json!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": { "pattern": NAME },
            "additionalProperties": refer(known, about),
        }),
        Under::Value(kind, absent) => {
            if let Absent::Default(default) = absent {
                let written = kind.written(default);
                let default = written.parse().unwrap_or_else(|_| json!(default));
                schema.insert("default".to_owned(), default);
            }
            if let Kind::Endpoints(known) = kind {
                let one = [text(Text::Endpoint), refer(known, ENDPOINT_TABLE)];
                let items = json!({ "anyOf": one });
                json!({ "type": "array", "items": items, "minItems": 1, "uniqueItems": true })
            } else if let Kind::DurationOr(_, known) = kind {
                json!({ "anyOf": [value(kind), refer(known, key.about)] })
            } else {
                value(kind)
            }
        }
    };
    if let Value::Object(of_value) = of_value {
        schema.extend(of_value);
    }
    Value::Object(schema)
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Count(range) => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        // `property` writes the table beside it.
        Kind::Duration(_) | Kind::DurationOr(..) => {
            json!({ "type": "string", "pattern": DURATION })
        }
        Kind::Size(_) => json!({ "type": "string", "pattern": SIZE }),
        Kind::Choice(words) => json!({ "type": "string", "enum": words }),
        Kind::Choices(words) => {
            let word = json!({ "type": "string", "enum": words });
            json!({ "type": "array", "items": word, "minItems": 1, "uniqueItems": true })
        }
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::AddressOrFalse => {
            json!({ "anyOf": [text(Text::Bind), { "type": "boolean", "enum": [false] }] })
        }
        Kind::Text(what) => text(*what),
        Kind::Ports => {
            let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
            json!({ "type": "array", "items": port, "minItems": 1, "uniqueItems": true })
        }
        // `property` writes the table beside the text.
        Kind::Endpoints(_) => text(Text::Endpoint),
        Kind::Texts(what) => texts(*what),
        Kind::TextsOrFalse(what) => {
            json!({ "anyOf": [texts(*what), { "type": "boolean", "enum": [false] }] })
        }
    }
}

fn texts(what: Text) -> Value {
    json!({ "type": "array", "items": text(what), "minItems": 1, "uniqueItems": true })
}

fn text(what: Text) -> Value {
    let pattern = match what {
        Text::Name => NAME,
        Text::Bind => BIND,
        Text::Endpoint => ENDPOINT,
        Text::Via => VIA,
        Text::Network => NETWORK,
        Text::DnsServer => DNS_SERVER,
        Text::Source => SOURCE,
        Text::ServerName => SERVER_NAME,
        Text::OneName => ONE_NAME,
        Text::File => return json!({ "type": "string", "minLength": 1 }),
        Text::Protocol => return json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
    };
    json!({ "type": "string", "pattern": pattern })
}
