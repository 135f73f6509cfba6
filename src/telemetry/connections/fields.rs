//! Writes a line as JSON, as serde_json does, with less work: the names of fields are constants, so nothing in them is
//! escaped, and a text that is plain ASCII is read once. serde_json reads each key and each text twice. Everything that is
//! not plain is left to it.

use std::fmt::{self, Write as _};

use serde::ser::{Error as _, Impossible, SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::{Error, Result};

use super::format::write_json;

/// Writes to the end of these bytes: structs with their fields, lists, texts, numbers. A line has nothing else.
pub(super) struct Fields<'w>(pub(super) &'w mut Vec<u8>);

impl Fields<'_> {
    fn text(self, text: &str) {
        if is_plain(text) {
            self.0.push(b'"');
            self.0.extend_from_slice(text.as_bytes());
            self.0.push(b'"');
        } else {
            write_json(self.0, text);
        }
    }
}

/// Whether JSON has a text as it is.
fn is_plain(text: &str) -> bool {
    // Without an early end, so that the compiler looks at many bytes at a time.
    text.bytes().fold(true, |is_plain, byte| {
        is_plain & matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')
    })
}

/// A text that is made in pieces, as long as all are plain.
struct Plain<'w>(&'w mut Vec<u8>);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if !is_plain(piece) {
            return Err(fmt::Error);
        }
        self.0.extend_from_slice(piece.as_bytes());
        Ok(())
    }
}

/// A number with at most three digits behind the point, as times in milliseconds are: its shortest form is this one.
/// Returns whether it is such a number.
fn thousandths(written: &mut Vec<u8>, number: f64) -> bool {
    const LARGEST: f64 = 1e12;
    let rounded = (number * 1e3).round();
    // The sign counts too: JSON has -0.0.
    if !(number.is_sign_positive() && number < LARGEST && rounded / 1e3 == number) {
        return false;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, not negative, and less than 10^15"
    )]
    let rounded = rounded as u64;
    let (whole, part) = (rounded / 1000, rounded % 1000);
    written.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or_default();
    let digits = [digit(part / 100), digit(part / 10), digit(part)];
    let shown = match digits {
        [_, b'0', b'0'] => 1,
        [_, _, b'0'] => 2,
        [_, _, _] => 3,
    };
    written.push(b'.');
    written.extend(digits.iter().take(shown));
    true
}

macro_rules! whole_numbers {
    ($($method:ident($number:ty)),*) => { $(
        fn $method(self, number: $number) -> Result<()> {
            self.0.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            Ok(())
        }
    )* };
}

/// The kinds of values that no line has.
macro_rules! none_such {
    ($($method:ident($($argument:ty),*) -> $answer:ty;)*) => { $(
        fn $method(self, $(_: $argument),*) -> Result<$answer> {
            Err(Error::custom("a line has no such value"))
        }
    )* };
}

impl<'w> Serializer for Fields<'w> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'w>;
    type SerializeStruct = Struct<'w>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    whole_numbers!(
        serialize_i8(i8),
        serialize_i16(i16),
        serialize_i32(i32),
        serialize_i64(i64),
        serialize_u8(u8),
        serialize_u16(u16),
        serialize_u32(u32),
        serialize_u64(u64)
    );

    none_such! {
        serialize_char(char) -> ();
        serialize_f32(f32) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_bool(self, value: bool) -> Result<()> {
        let name: &[u8] = if value { b"true" } else { b"false" };
        self.0.extend_from_slice(name);
        Ok(())
    }

    fn serialize_f64(self, number: f64) -> Result<()> {
        if !thousandths(self.0, number) {
            write_json(self.0, &number);
        }
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<()> {
        self.text(text);
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<()> {
        let begin = self.0.len();
        self.0.push(b'"');
        if write!(Plain(self.0), "{value}").is_ok() {
            self.0.push(b'"');
        } else {
            self.0.truncate(begin);
            write_json(self.0, &value.to_string());
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<()> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<()> {
        Err(Error::custom("a line has no such value"))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'w>> {
        self.0.push(b'[');
        Ok(List {
            written: self.0,
            is_first: true,
        })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Struct<'w>> {
        self.0.push(b'{');
        Ok(Struct {
            written: self.0,
            is_first: true,
        })
    }
}

/// A list, of which the next value is written.
pub(super) struct List<'w> {
    written: &'w mut Vec<u8>,
    is_first: bool,
}

impl SerializeSeq for List<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        if !std::mem::take(&mut self.is_first) {
            self.written.push(b',');
        }
        value.serialize(Fields(self.written))
    }

    fn end(self) -> Result<()> {
        self.written.push(b']');
        Ok(())
    }
}

/// A struct, of which the next field is written.
pub(super) struct Struct<'w> {
    written: &'w mut Vec<u8>,
    is_first: bool,
}

impl SerializeStruct for Struct<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<()> {
        let before: &[u8] = if std::mem::take(&mut self.is_first) {
            b"\""
        } else {
            b",\""
        };
        self.written.extend_from_slice(before);
        self.written.extend_from_slice(key.as_bytes());
        self.written.extend_from_slice(b"\":");
        value.serialize(Fields(self.written))
    }

    fn end(self) -> Result<()> {
        self.written.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Serialize)]
    struct Sample {
        text: String,
        shown: Shown,
        number: f64,
        whole: u64,
        negative: i32,
        flag: bool,
        none: Option<u8>,
        list: Vec<Inner>,
        empty: Inner,
    }

    #[derive(Clone, Serialize)]
    struct Inner {
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    }

    /// A text in pieces.
    struct Shown(Vec<String>);

    impl fmt::Display for Shown {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.iter().try_for_each(|piece| f.write_str(piece))
        }
    }

    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    fn both<T: Serialize>(value: &T) -> [String; 2] {
        let (mut ours, mut theirs) = (b"before".to_vec(), b"before".to_vec());
        value.serialize(Fields(&mut ours)).unwrap();
        write_json(&mut theirs, value);
        [ours, theirs].map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_time_in_milliseconds_has_its_shortest_form() {
        for (number, shown) in [
            (0.0, "0.0"),
            (1.5, "1.5"),
            (0.033, "0.033"),
            (0.3, "0.3"),
            (12.34, "12.34"),
            (86_400_000.001, "86400000.001"),
            (999_999_999_999.999, "999999999999.999"),
        ] {
            assert_eq!(both(&number), [format!("before{shown}"), format!("before{shown}")]);
        }
        for number in [-0.0, -1.5, 1e12, 1e300, 0.0001, f64::NAN, f64::INFINITY] {
            let [ours, theirs] = both(&number);
            assert_eq!(ours, theirs);
        }
    }

    proptest! {
        #[test]
        fn every_value_is_written_as_serde_json_writes_it(
            text: String,
            pieces in prop::collection::vec(any::<String>(), 0..4),
            plain in "[ -~]{0,30}",
            micros in 0_u64..=u64::MAX,
            number: f64,
            negative: i32,
            flag: bool,
            texts in prop::collection::vec(prop::option::of(any::<String>()), 0..4),
        ) {
            for (text, number) in [(text, number), (plain, ((micros >> 14) as f64) / 1e3)] {
                let list: Vec<_> = texts.iter().map(|text| Inner { text: text.clone() }).collect();
                let sample = Sample {
                    text,
                    shown: Shown(pieces.clone()),
                    number,
                    whole: micros,
                    negative,
                    flag,
                    none: None,
                    list,
                    empty: Inner { text: None },
                };
                let [ours, theirs] = both(&sample);
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
