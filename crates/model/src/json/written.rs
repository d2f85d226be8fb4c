//! What [`compact`](super::compact) wrote, read straight into its type: no tree of values in between.
//!
//! Two laws. What is read would be written as exactly this text. And the text is in canonical form
//! ([RFC 8785](https://www.rfc-editor.org/rfc/rfc8785)): it is read under the rules of the strict reader,
//! the members of each object stand in their order, and all else of it is as the writer writes it.
//!
//! `None` says nothing of why: who wants to know reads the text as a [`Value`](super::Value).

use std::fmt::Display;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

use super::{MAX_RECORDED_DEPTH, Number, RESERVED, Reader, Value, compact, utf16_cmp};

/// The value that is written as exactly this text, which is canonical; `None` if there is none.
#[must_use]
pub fn read<T: DeserializeOwned + Serialize>(text: &str) -> Option<T> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, deepest: MAX_RECORDED_DEPTH };
    let value = T::deserialize(Inside { reader: &mut reader, depth: 0 }).ok()?;
    (compact::to_string(&value, text.len()).ok()? == text).then_some(value)
}

/// It is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not as it is written")]
struct Other;

impl de::Error for Other {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

impl From<super::JsonError> for Other {
    fn from(_: super::JsonError) -> Self {
        Self
    }
}

/// The value that comes next, inside so many arrays and objects.
struct Inside<'r, 'de> {
    reader: &'r mut Reader<'de>,
    depth: usize,
}

impl<'de> Inside<'_, 'de> {
    /// Goes into an array or an object, which may have nothing in it.
    fn open(&mut self) -> Result<(), Other> {
        self.depth += 1;
        if self.depth > self.reader.deepest {
            return Err(Other);
        }
        self.reader.at += 1;
        Ok(())
    }

    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        match self.reader.number()? {
            Value::Number(Number::Int(n)) => match u64::try_from(n) {
                Ok(n) => visitor.visit_u64(n),
                Err(_) => visitor.visit_i64(n),
            },
            Value::Number(Number::Decimal(text)) => visitor.visit_f64(text.parse().map_err(|_| Other)?),
            _ => Err(Other),
        }
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        match self.reader.unescaped() {
            Some(text) => visitor.visit_borrowed_str(text),
            None => visitor.visit_str(&self.reader.string()?),
        }
    }
}

impl<'de> Deserializer<'de> for Inside<'_, 'de> {
    type Error = Other;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Other> {
        match self.reader.peek() {
            Some(b'"') => self.text(visitor),
            Some(b'{') => {
                self.open()?;
                visitor.visit_map(Members { inside: self, last: None })
            }
            Some(b'[') => {
                self.open()?;
                visitor.visit_seq(Items { inside: self, first: true })
            }
            Some(b'-' | b'0'..=b'9') => self.number(visitor),
            Some(b't') => {
                self.reader.word("true", Value::Null)?;
                visitor.visit_bool(true)
            }
            Some(b'f') => {
                self.reader.word("false", Value::Null)?;
                visitor.visit_bool(false)
            }
            Some(b'n') => {
                self.reader.word("null", Value::Null)?;
                visitor.visit_unit()
            }
            _ => Err(Other),
        }
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Other> {
        if self.reader.peek() == Some(b'n') {
            self.reader.word("null", Value::Null)?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Other> {
        visitor.visit_newtype_struct(self)
    }
    /// Of what is recorded, each variant is a word.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Other> {
        let word = self.reader.unescaped().ok_or(Other)?;
        visitor.visit_enum(StrDeserializer::new(word))
    }
    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'r, 'de> {
    inside: Inside<'r, 'de>,
    first: bool,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Other;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Other> {
        let Inside { reader, depth } = &mut self.inside;
        match reader.peek() {
            Some(b']') => {
                reader.at += 1;
                return Ok(None);
            }
            Some(b',') if !self.first => reader.at += 1,
            _ if self.first => {}
            _ => return Err(Other),
        }
        self.first = false;
        seed.deserialize(Inside { reader, depth: *depth }).map(Some)
    }
}

struct Members<'r, 'de> {
    inside: Inside<'r, 'de>,
    /// The name before.
    last: Option<std::borrow::Cow<'de, str>>,
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = Other;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Other> {
        let reader = &mut *self.inside.reader;
        match reader.peek() {
            Some(b'}') => {
                reader.at += 1;
                return Ok(None);
            }
            Some(b',') if self.last.is_some() => reader.at += 1,
            _ if self.last.is_none() => {}
            _ => return Err(Other),
        }
        if reader.peek() != Some(b'"') {
            return Err(Other);
        }
        let name = match reader.unescaped() {
            Some(name) => std::borrow::Cow::Borrowed(name),
            None => std::borrow::Cow::Owned(reader.string()?.into()),
        };
        let after = self.last.as_ref().is_none_or(|last| utf16_cmp(last, &name).is_lt());
        if !after || name.starts_with(RESERVED) || reader.peek() != Some(b':') {
            return Err(Other);
        }
        reader.at += 1;
        let key = match &name {
            std::borrow::Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
            std::borrow::Cow::Owned(name) => seed.deserialize(StrDeserializer::new(name)),
        };
        self.last = Some(name);
        key.map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Other> {
        let Inside { reader, depth } = &mut self.inside;
        seed.deserialize(Inside { reader, depth: *depth })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decision::DecisionRecord;
    use crate::json::tests::any_value;
    use crate::json::{Object, from_value, parse_recorded};

    /// A decision as it is recorded, with most of what it may have.
    const DECISION: &str = r#"{"decision":{"decision":"modify","gates":[{"code":"gate.pass","gate":"emergency","outcome":"pass"},{"code":"policy.modify","detail":"`a \"b\" ü`","gate":"policy","outcome":"modify"}],"obligations":{"arguments":{"amount":12.5,"draft":true,"n":-3,"none":null,"to":["a","b\n"]}},"policy":{"determining":["support.lookup"],"digest":"sha256:31e82ed8756f1c35c8ce61b1c1c907c9a2b42b6ffefe882e65dd764e3d3cc3e3","pack":"demo","version":"1.0.0"},"reason":"policy.modify","risk":{"factors":[{"name":"base_action","value":5,"weight":20}],"score":36}},"grant":{"aud":"intended","exp":1795666581,"iat":1795666521,"jti":"rxdihawjJ-NWbtLEnAD7W2O0CUPLMqE7GkT9NIMqlWg","kid":"_186xzUnYn3torrFRuwC4wAS9lFl2tjk4hvz9oqmDiU"},"input":{"at":1795666521575,"catalogue":"sha256:a311f14d6803ea05d570366bbb7a166a74025aecba5325aa208cfda7e6cf5e93","classification":{"ambiguous":false,"blast":5,"category":"OIL-901","confidence":100,"indicators":["personal_data"],"operation":"read","reversible":"yes","system":"orders"},"control":19,"counters":{"b/day":3,"b/hour":0},"credential":"agents","id":"01a21610-ade7-7552-9752-3204677657e5","intent":{"action":{"name":"orders.get_order","properties":{"a":{"b":[1,{}]},"order":"1042"}},"environment":"production","resource":{"id":"1042","type":"order"},"subject":{"id":"support-agent","type":"agent"}},"intent_hash":"sha256:618e205d2c59f2ab9777b8b02c2f89fcc2673bc23115f446d306c1c21390dce3","procedure":3,"session":{"allowed":1,"categories":["OIL-901"],"data_class":2,"denied":0,"indicators":[],"intents":1,"overflow":false,"tools":["orders.get_order"]}},"v":1}"#;

    /// The same by way of a tree.
    fn slowly<T: DeserializeOwned + Serialize>(text: &str) -> Option<T> {
        let tree = parse_recorded(text.as_bytes()).ok().filter(|tree| tree.is_canonically(text))?;
        let value = from_value(&tree).ok()?;
        (compact::to_string(&value, 0).ok()? == text).then_some(value)
    }

    /// The text with some of it taken out and something else put in.
    fn altered(text: &str, (at, out, put): (prop::sample::Index, usize, String)) -> String {
        let mut signs: Vec<char> = text.chars().collect();
        let from = at.index(signs.len() + 1);
        let to = signs.len().min(from + out);
        signs.splice(from..to, put.chars());
        signs.into_iter().collect()
    }

    fn alteration() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
        let put = prop_oneof![
            4 => r#"[-+0-9.eE"{}\[\]:, \\ntfu]{0,3}"#,
            1 => prop::sample::select(vec![
                "null", "\"a\":1,", "\"zz\":1,", ",\"$serde_json::private::RawValue\":\"1\"", "\\u0041", "\\ud800",
                "1e3", "0.50", "9007199254740992", "\u{feff}", "\u{fb33}", "😀", "[[", "{}", "[]",
            ]).prop_map(str::to_owned),
        ];
        (any::<prop::sample::Index>(), 0_usize..12, put)
    }

    /// A tree in which one member of one object is another, or gone.
    fn other(tree: &Value, at: &mut usize, with: Option<&Value>) -> Value {
        match tree {
            Value::Array(items) => Value::Array(items.iter().map(|item| other(item, at, with)).collect()),
            Value::Object(members) => {
                let mut object = Object::new();
                for (name, value) in members.iter() {
                    let here = *at == 0;
                    *at = at.wrapping_sub(1);
                    let value = if here { with.cloned() } else { Some(other(value, at, with)) };
                    if let Some(value) = value {
                        object.insert(name, value);
                    }
                }
                Value::Object(object)
            }
            other => other.clone(),
        }
    }

    #[test]
    fn a_decision_is_read_as_by_way_of_a_tree() {
        let record: DecisionRecord = read(DECISION).unwrap();
        assert_eq!(Some(&record), slowly(DECISION).as_ref());
        assert_eq!(compact::to_string(&record, 0).unwrap(), DECISION);
    }

    #[test]
    fn nothing_is_read_that_could_have_been_written_otherwise() {
        assert_eq!(read::<Value>(r#"{"a":1,"b":[]}"#), parse_recorded(br#"{"a":1,"b":[]}"#).ok());
        for text in [
            "",
            " 1",
            "1 ",
            "1 1",
            "[1,]",
            "[,1]",
            "[1 ,2]",
            "[1,2",
            "{\"a\":1,}",
            "{,\"a\":1}",
            "{\"a\" :1}",
            "{\"a\":1",
            "{\"a\"}",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"a\":1}",
            "{\"\u{fb33}\":1,\"😀\":2}",
            "1.0",
            "1e0",
            "-0",
            "01",
            "9007199254740992",
            "\"\\u0041\"",
            "\"\\/\"",
            "\"\\ud800\"",
            "\"\n\"",
            "nul",
            "truex",
            "\u{feff}1",
            "{\"$serde_json::private::RawValue\":\"1\"}",
        ] {
            assert_eq!((read::<Value>(text), slowly::<Value>(text)), (None, None), "{text}");
        }
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read::<Value>(&deep(MAX_RECORDED_DEPTH)).is_some());
        assert!(read::<Value>(&deep(MAX_RECORDED_DEPTH + 1)).is_none());
    }

    proptest! {
        #[test]
        fn any_value_is_read_as_by_way_of_a_tree(value in any_value(), alteration in alteration()) {
            let text = value.to_canonical();
            prop_assert_eq!(read::<Value>(&text), Some(value));
            let text = altered(&text, alteration);
            prop_assert_eq!(read::<Value>(&text), slowly(&text));
        }

        #[test]
        fn an_altered_decision_is_read_as_by_way_of_a_tree(alteration in alteration(), at in 0_usize..90, with in proptest::option::of(any_value())) {
            let text = altered(DECISION, alteration);
            prop_assert_eq!(read::<DecisionRecord>(&text), slowly(&text));
            let tree = parse_recorded(DECISION.as_bytes()).unwrap();
            let text = other(&tree, &mut { at }, with.as_ref()).to_canonical();
            prop_assert_eq!(read::<DecisionRecord>(&text), slowly(&text));
        }
    }
}
