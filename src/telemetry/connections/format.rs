//! Writes a line. Text from a client is bounded, and only printable ASCII reaches the log: the rest is
//! escaped, so that a name cannot forge a line or send commands to a terminal.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::fields::Fields;
use crate::outcome::{AttemptFailure, BackendAnswer, ClosedBy, Handshake, Limit, Outcome};
use crate::telemetry::Format;
use crate::tls::{Alpn, Version};

/// Most bytes of a client's text that are shown.
const TEXT_MAX: usize = 256;

/// Protocols of an ALPN list that are shown, and the bytes of each. Those in use have up to ten.
const ALPN_MAX: usize = 8;
const PROTOCOL_MAX: usize = 32;

thread_local! {
    /// The line that this thread writes, so that one which waits in the queue takes no more bytes than it has.
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The whole line with its newline, in this format; `ecs` has the fields of the line in the schema of Elastic.
pub(super) fn line<E: Serialize>(
    format: Format,
    line: &impl Serialize,
    ecs: impl FnOnce() -> E,
) -> Vec<u8> {
    WRITTEN.with_borrow_mut(|written| {
        written.clear();
        match format {
            Format::Json => write_line(written, line),
            Format::Ecs => write_json(written, &ecs()),
            Format::Text => {
                write_line(written, line);
                // This JSON was written here, so it can be read. If it cannot, the line as JSON is better than no line.
                if let Ok(text) = text(written) {
                    *written = text.into_bytes();
                }
            }
        }
        written.push(b'\n');
        written.clone()
    })
}

/// A value as JSON on one line, in printable ASCII, as in a log.
pub fn json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = Vec::new();
    write_json(&mut json, value);
    json.push(b'\n');
    json
}

fn write_line<T: Serialize>(json: &mut Vec<u8>, line: &T) {
    // As below.
    drop(line.serialize(Fields(json)));
}

pub(super) fn write_json<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) {
    let mut serializer = serde_json::Serializer::with_formatter(json, Ascii);
    // Neither the lines nor a `Vec` can fail. If they did, only the end of the line would be missing.
    drop(value.serialize(&mut serializer));
}

/// JSON in which everything except printable ASCII is `\u` and four digits.
struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if matches!(character, ' '..='~') {
                write!(writer, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// Turns JSON into `time key=value key=value`.
fn text(json: &[u8]) -> serde_json::Result<String> {
    let Pairs(pairs) = serde_json::from_slice(json)?;
    let mut text = String::with_capacity(json.len());
    for (key, value) in pairs {
        let value = words(&value);
        let is_plain = |byte| matches!(byte, b'!' | b'#'..=b'<' | b'>'..=b'[' | b']'..=b'~');
        let _ = match key.as_str() {
            "time" => write!(text, "{value}"),
            _ if !value.is_empty() && value.bytes().all(is_plain) => write!(text, " {key}={value}"),
            _ => {
                let mut quoted = Vec::new();
                write_json(&mut quoted, &value);
                write!(text, " {key}={}", String::from_utf8_lossy(&quoted))
            }
        };
    }
    Ok(text)
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        // The only objects inside a line are attempts.
        Value::Object(attempt) => {
            let fields = ["endpoint", "via", "address", "reason", "error", "ms"];
            // An endpoint that is an address is not written twice.
            let is_new = |field: &&&str| {
                **field != "address" || attempt.get("address") != attempt.get("endpoint")
            };
            let present = (fields.iter().filter(is_new)).filter_map(|field| attempt.get(*field));
            let unit = attempt.get("ms").map_or("", |_| " ms");
            present.map(words).collect::<Vec<_>>().join(" ") + unit
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// An object with its fields in the order of the line, which `serde_json::Map` does not keep.
pub(super) struct Pairs(pub(super) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A moment, in UTC and with milliseconds (RFC 3339).
#[derive(Clone, Copy, Debug)]
pub struct Time(pub SystemTime);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The number of a connection, as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(pub u64);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time in milliseconds, always with a fraction: a log store that guesses types from the first line
/// must not map the field to a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0.as_secs_f64() * 1e6).round() / 1e3)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Arbitrary bytes of a client; the first 256 are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientText<'a>(pub &'a [u8]);

impl fmt::Display for ClientText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bounded(self.0, TEXT_MAX))
    }
}

impl Serialize for ClientText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The protocols that a client offers; the first 8 different ones are shown, with 32 bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols<'a>(pub Alpn<'a>);

impl Protocols<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_bytes().is_empty()
    }
}

impl Serialize for Protocols<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_first = |&(at, protocol): &(usize, &[u8])| {
            let mut before = self.0.iter().take(at);
            before.all(|before| before != protocol)
        };
        let each = self.0.iter().enumerate().filter(is_first);
        let shown = each.map(|(_, protocol)| protocol).take(ALPN_MAX);
        serializer.collect_seq(shown.map(|protocol| bounded(protocol, PROTOCOL_MAX)))
    }
}

fn bounded(text: &[u8], max: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(text.get(..max).unwrap_or(text))
}

/// serde writes an `Arc` only with its feature `rc`, which also reads one, as a copy.
pub(super) fn shared<S: Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

macro_rules! serialize_name {
    ($($list:ty),*) => { $(
        impl Serialize for $list {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }
    )* };
}

serialize_name!(
    Outcome,
    ClosedBy,
    AttemptFailure,
    BackendAnswer,
    Handshake,
    Limit
);
