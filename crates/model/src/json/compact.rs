//! JSON without white space, of anything that serde knows. What a decision writes (its entry, its
//! token, its answer) is mostly text with nothing to escape in it: it is looked through eight bytes at a
//! time, and copied. Writes what `serde_json` writes, with two exceptions. Floating point is written as RFC
//! 8785 has it, and refused where it is not finite, `-0`, of single precision, or a member's name. Nothing
//! that is recorded or signed has any. And the names of a type's members are written as they stand in the
//! program, unlike those of a map's: no type may have one with anything to escape, which a build with debug
//! assertions, as every test is, refuses.
//!
//! Members stand in the order that the type gives them in.

use std::fmt::Display;

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{ecmascript, is_plain, write_string};

/// Something that JSON has no way to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WriteError(Box<str>);

impl serde::ser::Error for WriteError {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

type Written = Result<(), WriteError>;

/// Writes `value` at the end of `out`. After an error a part of it may be there.
fn write<T: Serialize + ?Sized>(out: &mut String, value: &T) -> Written {
    value.serialize(Writer(out))
}

/// `value` as text, with room for `expected` bytes from the start.
pub fn to_string<T: Serialize + ?Sized>(value: &T, expected: usize) -> Result<String, WriteError> {
    let mut out = String::with_capacity(expected);
    write(&mut out, value)?;
    Ok(out)
}

/// As `serde_json` names a value that is JSON already.
const RAW: &str = "$serde_json::private::RawValue";

fn integer(out: &mut String, number: impl itoa::Integer) {
    out.push_str(itoa::Buffer::new().format(number));
}

fn double(out: &mut String, number: f64) -> Written {
    if !number.is_finite() || (number == 0.0 && number.is_sign_negative()) {
        return Err(WriteError::custom("a number that is not finite, or -0"));
    }
    out.push_str(&ecmascript(number));
    Ok(())
}

struct Writer<'o>(&'o mut String);

impl<'o> Writer<'o> {
    fn open(self, open: char, close: &'static str) -> Members<'o> {
        self.0.push(open);
        Members { out: self.0, first: true, close, raw: false }
    }
    /// `{"variant":`
    fn variant(&mut self, variant: &str) {
        self.0.push('{');
        write_string(variant, self.0);
        self.0.push(':');
    }
}

macro_rules! integers {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name(self, number: $kind) -> Written {
            integer(self.0, number);
            Ok(())
        })*
    };
}

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Members<'o>;
    type SerializeTuple = Members<'o>;
    type SerializeTupleStruct = Members<'o>;
    type SerializeTupleVariant = Members<'o>;
    type SerializeMap = Members<'o>;
    type SerializeStruct = Members<'o>;
    type SerializeStructVariant = Members<'o>;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );
    fn serialize_bool(self, yes: bool) -> Written {
        self.0.push_str(if yes { "true" } else { "false" });
        Ok(())
    }
    fn serialize_f32(self, _: f32) -> Written {
        Err(WriteError::custom("a number of single precision"))
    }
    fn serialize_f64(self, number: f64) -> Written {
        double(self.0, number)
    }
    fn serialize_char(self, sign: char) -> Written {
        write_string(sign.encode_utf8(&mut [0; 4]), self.0);
        Ok(())
    }
    fn serialize_str(self, text: &str) -> Written {
        write_string(text, self.0);
        Ok(())
    }
    fn serialize_bytes(self, bytes: &[u8]) -> Written {
        bytes.serialize(self)
    }
    fn serialize_none(self) -> Written {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Written {
        self.0.push_str("null");
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Written {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Written {
        self.variant(variant);
        write(self.0, value)?;
        self.0.push('}');
        Ok(())
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'o>, WriteError> {
        Ok(self.open('[', "]"))
    }
    fn serialize_tuple(self, _: usize) -> Result<Members<'o>, WriteError> {
        Ok(self.open('[', "]"))
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Members<'o>, WriteError> {
        Ok(self.open('[', "]"))
    }
    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'o>, WriteError> {
        self.variant(variant);
        Ok(self.open('[', "]}"))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Members<'o>, WriteError> {
        Ok(self.open('{', "}"))
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Members<'o>, WriteError> {
        if name == RAW {
            return Ok(Members { out: self.0, first: true, close: "", raw: true });
        }
        Ok(self.open('{', "}"))
    }
    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members<'o>, WriteError> {
        self.variant(variant);
        Ok(self.open('{', "}}"))
    }
}

/// An array or object that is being written.
struct Members<'o> {
    out: &'o mut String,
    first: bool,
    close: &'static str,
    raw: bool,
}

impl Members<'_> {
    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
    }
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.comma();
        write(self.out, value)
    }
    fn member<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
        if self.raw {
            return value.serialize(Text { out: self.out, raw: true });
        }
        // It stands in the program, and nobody else's data is among them: it is looked at in tests.
        debug_assert!(is_plain(name.as_bytes()), "a member called {name:?}");
        if std::mem::take(&mut self.first) {
            self.out.push('"');
        } else {
            self.out.push_str(",\"");
        }
        self.out.push_str(name);
        self.out.push_str("\":");
        write(self.out, value)
    }
    fn finish(self) -> Written {
        self.out.push_str(self.close);
        Ok(())
    }
}

macro_rules! elements {
    ($($kind:ident: $add:ident),*) => {
        $(impl $kind for Members<'_> {
            type Ok = ();
            type Error = WriteError;
            fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
                self.element(value)
            }
            fn end(self) -> Written {
                self.finish()
            }
        })*
    };
}
elements!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field
);

macro_rules! members {
    ($($kind:ident),*) => {
        $(impl $kind for Members<'_> {
            type Ok = ();
            type Error = WriteError;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Written {
                self.member(name, value)
            }
            fn end(self) -> Written {
                self.finish()
            }
        })*
    };
}
members!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Members<'_> {
    type Ok = ();
    type Error = WriteError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Written {
        self.comma();
        key.serialize(Text { out: self.out, raw: false })
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        self.out.push(':');
        write(self.out, value)
    }
    fn end(self) -> Written {
        self.finish()
    }
}

/// What has to be a text: a member's name; or, raw, JSON that is written already.
struct Text<'o> {
    out: &'o mut String,
    raw: bool,
}

fn no_text<T>() -> Result<T, WriteError> {
    Err(WriteError::custom("a member's name is a text"))
}

macro_rules! names {
    ($($name:ident: $kind:ty),*) => {
        $(fn $name(self, number: $kind) -> Written {
            self.out.push('"');
            integer(self.out, number);
            self.out.push('"');
            Ok(())
        })*
    };
}
macro_rules! nameless {
    ($($name:ident($($kind:ty),*) -> $ok:ty;)*) => {
        $(fn $name(self, $(_: $kind),*) -> Result<$ok, WriteError> {
            no_text()
        })*
    };
}

impl Serializer for Text<'_> {
    type Ok = ();
    type Error = WriteError;
    type SerializeSeq = Impossible<(), WriteError>;
    type SerializeTuple = Impossible<(), WriteError>;
    type SerializeTupleStruct = Impossible<(), WriteError>;
    type SerializeTupleVariant = Impossible<(), WriteError>;
    type SerializeMap = Impossible<(), WriteError>;
    type SerializeStruct = Impossible<(), WriteError>;
    type SerializeStructVariant = Impossible<(), WriteError>;

    names!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );
    fn serialize_str(self, text: &str) -> Written {
        if self.raw {
            self.out.push_str(text);
        } else {
            write_string(text, self.out);
        }
        Ok(())
    }
    fn serialize_char(self, sign: char) -> Written {
        self.serialize_str(sign.encode_utf8(&mut [0; 4]))
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Written {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }
    fn serialize_bool(self, yes: bool) -> Written {
        self.serialize_str(if yes { "true" } else { "false" })
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        no_text()
    }
    nameless! {
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    #[serde(rename_all = "snake_case")]
    enum Colour {
        DarkRed,
        Blue,
    }

    #[derive(Debug, Clone, Serialize)]
    struct Unit;
    #[derive(Debug, Clone, Serialize)]
    struct Wrapped(i8);
    #[derive(Debug, Clone, Serialize)]
    struct Pair(u64, String);

    #[derive(Debug, Clone, Serialize)]
    enum Shape {
        Nothing,
        One(String),
        Two(u8, char),
        Named { a: Option<bool>, b: i64 },
    }

    /// Every shape that serde has.
    #[derive(Debug, Clone, Serialize)]
    struct All {
        text: String,
        #[serde(rename = "öd $d/")]
        odd: char,
        #[serde(skip_serializing_if = "Option::is_none")]
        skipped: Option<u32>,
        unit: (),
        nothing: Unit,
        wrapped: Wrapped,
        pair: Pair,
        tuple: (i16, u128, i128),
        shapes: Vec<Shape>,
        names: BTreeMap<String, Vec<u16>>,
        colours: BTreeMap<Colour, bool>,
        numbers: BTreeMap<i32, u32>,
        raw: Box<serde_json::value::RawValue>,
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![
            Just(Shape::Nothing),
            any::<String>().prop_map(Shape::One),
            any::<(u8, char)>().prop_map(|(a, b)| Shape::Two(a, b)),
            any::<(Option<bool>, i64)>().prop_map(|(a, b)| Shape::Named { a, b }),
        ]
    }

    /// Texts in which what is to be escaped stands at every place of a word.
    fn text() -> impl Strategy<Value = String> {
        let sign = prop_oneof![
            6 => proptest::char::range(' ', '~'),
            1 => proptest::char::range('\0', '\u{1f}'),
            1 => Just('"'),
            1 => Just('\\'),
            2 => any::<char>(),
        ];
        proptest::collection::vec(sign, 0..40).prop_map(|signs| signs.into_iter().collect())
    }

    prop_compose! {
        fn all()(
            (text, odd, skipped, wrapped) in (text(), any::<char>(), any::<Option<u32>>(), any::<i8>()),
            (pair, tuple) in ((any::<u64>(), text()), any::<(i16, u128, i128)>()),
            shapes in proptest::collection::vec(shape(), 0..4),
            names in proptest::collection::btree_map(text(), proptest::collection::vec(any::<u16>(), 0..3), 0..4),
            numbers in proptest::collection::btree_map(any::<i32>(), any::<u32>(), 0..3),
            yes in any::<bool>(),
        ) -> All {
            let raw = serde_json::value::RawValue::from_string(r#"{ "as" : [ "it", 1.50 ] }"#.to_owned()).unwrap();
            let colours = BTreeMap::from([(Colour::DarkRed, yes), (Colour::Blue, !yes)]);
            let (wrapped, pair) = (Wrapped(wrapped), Pair(pair.0, pair.1));
            let (unit, nothing) = ((), Unit);
            All { text, odd, skipped, unit, nothing, wrapped, pair, tuple, shapes, names, colours, numbers, raw }
        }
    }

    proptest! {
        #[test]
        fn what_serde_json_writes(all in all()) {
            prop_assert_eq!(to_string(&all, 0).unwrap(), serde_json::to_string(&all).unwrap());
        }

        #[test]
        fn a_text_with_whatever_is_in_it(text in text()) {
            let written = to_string(&text, 0).unwrap();
            prop_assert_eq!(&written, &serde_json::to_string(&text).unwrap());
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }

    #[test]
    fn every_sign_at_every_place_of_a_word() {
        for sign in (0..0x80).map(|b: u8| char::from(b)).chain(['ä', '€', '\u{80}', '\u{10ffff}']) {
            for (before, after) in (0..18).flat_map(|before| (0..10).map(move |after| (before, after))) {
                let text = format!("{}{sign}{}", "x".repeat(before), "~".repeat(after));
                assert_eq!(to_string(&text, 0).unwrap(), serde_json::to_string(&text).unwrap(), "{text:?}");
            }
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "a member called")]
    fn a_name_that_would_have_to_be_escaped_is_seen_where_it_is_tested() {
        #[derive(Serialize)]
        struct Quoted {
            #[serde(rename = "\"")]
            odd: u8,
        }
        let _ = to_string(&Quoted { odd: 1 }, 0);
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
            assert!(to_string(&number, 0).is_err(), "{number}");
        }
        assert!(to_string(&0.1_f32, 0).is_err());
        assert_eq!(to_string(&[0.0, 0.1, 1e21], 0).unwrap(), "[0,0.1,1e+21]");
        assert!(to_string(&BTreeMap::from([((1, 2), 3)]), 0).is_err());
        assert!(to_string(&BTreeMap::from([(None::<u8>, 3)]), 0).is_err());
    }
}
