//! Strict JSON in, canonical JSON out. Every digest of the product is taken over what this module
//! writes, so its one law is: **two different documents never have the same canonical bytes**, and
//! the same document always has the same.
//!
//! Reading refuses what other readers repair: duplicate members, lone surrogates, a byte order mark,
//! more than [`MAX_DEPTH`] levels, member names that a reader gives a meaning of its own, integers from 2^53 on, numbers that a double cannot hold exactly
//! as written, `-0`, and anything not in RFC 8259. Writing is RFC 8785 (JCS): members sorted by
//! UTF-16 code units, shortest escapes, ECMAScript numbers. `1`, `1.0` and `1e0` are one number and
//! are written `1`.
//!
//! A decimal is kept as its canonical text, never as a float, so that nothing downstream can round it.

pub mod compact;
pub mod written;

use std::fmt;
use std::fmt::Write as _;

use serde::de::{self, DeserializeOwned, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Deepest nesting of arrays and objects in what comes from outside.
pub const MAX_DEPTH: usize = 32;
/// Deepest nesting in what was recorded: a value from outside stands at most five levels down in its
/// leaf (leaf, body, decision, obligations, arguments), and three are to spare. Whatever was let in
/// can so be read back.
pub const MAX_RECORDED_DEPTH: usize = MAX_DEPTH + 8;
/// Names under which `serde_json` hides values of its own: a document that uses one reads as another
/// in programs that know it.
const RESERVED: &str = "$serde_json";
/// Largest integer magnitude: 2^53 − 1 (RFC 7493, section 2.2).
pub const MAX_INTEGER: i64 = 9_007_199_254_740_991;
/// Up to so many members an object is looked through, above it searched.
const FEW: usize = 16;

/// A JSON value that has passed the strict reader, or was built by code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(Number),
    String(Box<str>),
    Array(Vec<Value>),
    Object(Object),
}

/// A number: an integer within ±(2^53 − 1), or a decimal fraction as its canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Number {
    Int(i64),
    Decimal(Box<str>),
}

/// An object's members in canonical order (UTF-16 code units), each name once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object(Vec<(Box<str>, Value)>);

/// Why a text was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    pub kind: JsonErrorKind,
    /// Byte offset from the start of the text.
    pub offset: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonErrorKind {
    #[error("the text is not UTF-8")]
    Utf8,
    #[error("the text starts with a byte order mark")]
    ByteOrderMark,
    #[error("the JSON is malformed: {0}")]
    Syntax(&'static str),
    #[error("the member `{0}` stands twice in one object")]
    DuplicateKey(Box<str>),
    #[error("the member name `{0}` is reserved")]
    ReservedName(Box<str>),
    #[error("the JSON is nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("a string holds a lone surrogate")]
    LoneSurrogate,
    #[error("the number `{0}` is outside ±(2^53 − 1) or not finite")]
    NumberRange(Box<str>),
    #[error("the number `{0}` cannot be kept exactly")]
    NumberPrecision(Box<str>),
    #[error("{0}")]
    Shape(Box<str>),
}

impl JsonErrorKind {
    /// The stable code of the refusal.
    #[must_use]
    pub const fn code(&self) -> crate::Code {
        use crate::Code;
        match self {
            Self::Utf8 | Self::ByteOrderMark | Self::Syntax(_) => Code::JsonMalformed,
            Self::DuplicateKey(_) => Code::JsonDuplicateKey,
            Self::ReservedName(_) => Code::JsonReservedName,
            Self::TooDeep(_) => Code::JsonTooDeep,
            Self::LoneSurrogate => Code::JsonLoneSurrogate,
            Self::NumberRange(_) => Code::JsonNumberRange,
            Self::NumberPrecision(_) => Code::JsonNumberPrecision,
            Self::Shape(_) => Code::RequestInvalid,
        }
    }
}

impl Object {
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        if self.0.len() <= FEW {
            return self.0.iter().find(|(n, _)| &**n == name).map(|(_, v)| v);
        }
        let at = self.0.binary_search_by(|(n, _)| utf16_cmp(n, name)).ok()?;
        self.0.get(at).map(|(_, v)| v)
    }
    /// Adds a member that is not there yet; gives its name back if it is. Members that come in
    /// canonical order, as recorded ones do, are appended.
    pub fn add(&mut self, name: Box<str>, value: Value) -> Result<(), Box<str>> {
        if self.0.last().is_none_or(|(last, _)| utf16_cmp(last, &name).is_lt()) {
            self.0.push((name, value));
            return Ok(());
        }
        match self.0.binary_search_by(|(n, _)| utf16_cmp(n, &name)) {
            Ok(_) => Err(name),
            Err(at) => {
                self.0.insert(at, (name, value));
                Ok(())
            }
        }
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(n, v)| (&**n, v))
    }
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Sets a member, keeping the canonical order.
    pub fn insert(&mut self, name: &str, value: Value) {
        match self.0.binary_search_by(|(n, _)| utf16_cmp(n, name)) {
            Ok(at) => {
                if let Some(slot) = self.0.get_mut(at) {
                    slot.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (name.into(), value)),
        }
    }
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(n, _)| &**n == name)?;
        Some(self.0.remove(at).1)
    }
}

impl FromIterator<(String, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let mut object = Self::new();
        for (name, value) in members {
            object.insert(&name, value);
        }
        object
    }
}

impl Value {
    /// An empty object.
    #[must_use]
    pub const fn object() -> Self {
        Self::Object(Object::new())
    }
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }
    #[must_use]
    pub const fn as_int(&self) -> Option<i64> {
        if let Self::Number(Number::Int(n)) = self { Some(*n) } else { None }
    }
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }
    /// The canonical text (RFC 8785).
    #[must_use]
    pub fn to_canonical(&self) -> String {
        let mut out = String::with_capacity(256);
        self.write(&mut out);
        out
    }
    /// Whether this is how it is written.
    #[must_use]
    pub fn is_canonically(&self, text: &str) -> bool {
        let mut out = String::with_capacity(text.len());
        self.write(&mut out);
        out == text
    }
    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(number) => number.write(out),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(object) => {
                out.push('{');
                for (i, (name, value)) in object.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_string(name, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl Number {
    fn write(&self, out: &mut String) {
        match self {
            Self::Int(n) => out.push_str(itoa::Buffer::new().format(*n)),
            Self::Decimal(text) => out.push_str(text),
        }
    }
    /// The number as it is written canonically.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
    /// Reads a JSON number's text under the rules of this module.
    pub fn parse(text: &str) -> Result<Self, JsonErrorKind> {
        let range = || JsonErrorKind::NumberRange(text.into());
        let precision = || JsonErrorKind::NumberPrecision(text.into());
        if !text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            if text == "-0" {
                return Err(precision());
            }
            let n: i64 = text.parse().map_err(|_| range())?;
            return if n.unsigned_abs() <= MAX_INTEGER.unsigned_abs() { Ok(Self::Int(n)) } else { Err(range()) };
        }
        let float: f64 = text.parse().map_err(|_| range())?;
        if !float.is_finite() {
            return Err(range());
        }
        let written = Self::from_f64(float).ok_or_else(range)?;
        let (given, kept) = (decompose(text), decompose(&written.to_text()));
        match (given, kept) {
            (Some(given), Some(kept)) if given == kept && !(given.1.is_empty() && given.0) => Ok(written),
            _ => Err(precision()),
        }
    }
    /// A finite double as a number; `None` when not finite or an integer beyond 2^53 − 1.
    #[must_use]
    pub fn from_f64(float: f64) -> Option<Self> {
        if !float.is_finite() {
            return None;
        }
        let text = ecmascript(float);
        if text.bytes().any(|b| matches!(b, b'.' | b'e')) {
            return (float.abs() < 9_007_199_254_740_992.0).then(|| Self::Decimal(text.into()));
        }
        let n: i64 = text.parse().ok()?;
        (n.abs() <= MAX_INTEGER).then_some(Self::Int(n))
    }
    /// The number times 10^`places` as an integer, if that is exact and fits.
    #[must_use]
    pub fn scaled(&self, places: u32) -> Option<i64> {
        let (negative, digits, exponent) = decompose(&self.to_text())?;
        if digits.is_empty() {
            return Some(0);
        }
        let shift = exponent.checked_add(i64::from(places))?;
        if !(0..=18).contains(&shift) {
            return None;
        }
        let mut n: i64 = digits.parse().ok()?;
        for _ in 0..shift {
            n = n.checked_mul(10)?;
        }
        Some(if negative { -n } else { n })
    }
}

/// ECMAScript's `Number::toString` (ECMA-262, section 6.1.6.1.20), which RFC 8785 section 3.2.2.3 asks for.
#[must_use]
pub fn ecmascript(float: f64) -> String {
    if float == 0.0 {
        return "0".to_owned();
    }
    // Rust's exponent form gives the shortest digits that read back to the same double.
    let text = format!("{float:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let digits = even_on_tie(mantissa.chars().filter(|c| *c != '.').collect(), float);
    let k = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let n = exponent.parse::<i32>().unwrap_or(0) + 1;
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0).min(digits.len()));
    let body = if k <= n && n <= 21 {
        format!("{digits}{}", zeros(n - k))
    } else if 0 < n && n <= 21 {
        let (whole, part) = split(n);
        format!("{whole}.{part}")
    } else if -6 < n && n <= 0 {
        format!("0.{}{digits}", zeros(-n))
    } else {
        let e = n - 1;
        let sign = if e < 0 { '-' } else { '+' };
        let (first, rest) = split(1);
        let point = if rest.is_empty() { "" } else { "." };
        format!("{first}{point}{rest}e{sign}{}", e.abs())
    };
    format!("{sign}{body}")
}

/// Two shortest spellings can be equally near; ECMA-262 (Number::toString, note 2) then takes the
/// even one, Rust's formatter the upper one.
fn even_on_tie(digits: String, float: f64) -> String {
    let Some(last) = digits.bytes().last().filter(|d| digits.len() >= 16 && d % 2 == 1) else { return digits };
    let lower = format!("{}{}", digits.get(..digits.len() - 1).unwrap_or_default(), char::from(last - 1));
    let exact: String =
        format!("{:.800e}", float.abs()).chars().take_while(|c| *c != 'e').filter(|c| *c != '.').collect();
    let is_tie = exact
        .strip_prefix(&lower)
        .and_then(|rest| rest.strip_prefix('5'))
        .is_some_and(|rest| rest.bytes().all(|b| b == b'0'));
    if is_tie { lower } else { digits }
}

/// Sign, significant digits without outer zeros, exponent of the last digit.
fn decompose(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let joined = format!("{whole}{part}");
    let leading = joined.trim_start_matches('0');
    let digits = leading.trim_end_matches('0');
    let dropped = i64::try_from(leading.len() - digits.len()).ok()?;
    let exponent = exponent.checked_sub(i64::try_from(part.len()).ok()?)?.checked_add(dropped)?;
    Some(if digits.is_empty() { (negative, String::new(), 0) } else { (negative, digits.to_owned(), exponent) })
}

/// Writes a JSON string with the escapes of RFC 8785 section 3.2.2.2.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    if is_plain(text.as_bytes()) {
        out.push_str(text);
    } else {
        escape(text, out);
    }
    out.push('"');
}

/// What stands between the quotes of a text that is not plain.
#[cold]
fn escape(text: &str, out: &mut String) {
    let mut rest = text;
    loop {
        let (plain, tail) = rest.split_at(plain(rest.as_bytes()));
        out.push_str(plain);
        let mut signs = tail.chars();
        match signs.next() {
            None => break,
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\u{8}') => out.push_str("\\b"),
            Some('\t') => out.push_str("\\t"),
            Some('\n') => out.push_str("\\n"),
            Some('\u{c}') => out.push_str("\\f"),
            Some('\r') => out.push_str("\\r"),
            Some(sign) => {
                let _ = write!(out, "\\u{:04x}", u32::from(sign));
            }
        }
        rest = signs.as_str();
    }
}

/// Whether there is nothing to escape: of a decision's texts hardly any has something, and there are
/// hundreds. All of it is looked at, the last word again if need be.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let last = if rest.is_empty() {
        0
    } else if let Some(last) = bytes.last_chunk::<8>() {
        special(u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        special(u64::from(u32::from_le_bytes(*last)) << 32 | u64::from(u32::from_le_bytes(*first)))
    } else {
        return !rest.iter().copied().any(is_special);
    };
    words.iter().fold(last, |found, word| found | special(u64::from_le_bytes(*word))) == 0
}

/// How many bytes there are before the first that has to be escaped.
fn plain(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = special(u64::from_le_bytes(*word));
        if found != 0 {
            return 8 * at + found.trailing_zeros() as usize / 8;
        }
    }
    let at = rest.iter().copied().position(is_special).unwrap_or(rest.len());
    bytes.len() - rest.len() + at
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of each byte of a word that has to be escaped, the lowest of them; higher ones may be set
/// for others. Nothing, if there is none.
const fn special(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 255;
    // The high bit of each byte below `n`. Only the lowest that is set is sure: a borrow may set higher ones.
    const fn below(word: u64, n: u64) -> u64 {
        word.wrapping_sub(ONES * n) & !word & (ONES << 7)
    }
    // This swaps `"` and the space, and leaves those below the space below it.
    let quotes = word ^ (ONES * (b'"' ^ b' ') as u64);
    let slash = word ^ (ONES * b'\\' as u64);
    below(quotes, 0x21) | below(slash, 1)
}

/// The order of RFC 8785 section 3.2.3. Differs from byte order only where surrogates meet U+E000…
fn utf16_cmp(a: &str, b: &str) -> std::cmp::Ordering {
    if a.is_ascii() && b.is_ascii() { a.cmp(b) } else { a.encode_utf16().cmp(b.encode_utf16()) }
}

/// Reads one JSON text from outside.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    read(bytes, MAX_DEPTH)
}

/// Reads one JSON text that was recorded. It may stand as deep as recording has put it.
pub fn parse_recorded(bytes: &[u8]) -> Result<Value, JsonError> {
    read(bytes, MAX_RECORDED_DEPTH)
}

/// How deeply the arrays and objects of a text nest that is JSON already.
#[must_use]
pub fn nesting(text: &str) -> usize {
    let (mut deepest, mut depth, mut quoted, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Whether the arrays and objects of a text that is JSON already nest as deeply as `depth` or deeper.
#[must_use]
pub fn nests(text: &str, depth: usize) -> bool {
    // Hardly any text has so many opening signs at all, and counting those is many bytes at a time.
    let openings = |bytes: &[u8]| bytes.iter().fold(0_u8, |n, b| n.wrapping_add(u8::from(*b | 0x20 == b'{')));
    let opening: usize = text.as_bytes().chunks(128).map(|bytes| usize::from(openings(bytes))).sum();
    opening >= depth && nesting(text) >= depth
}

fn read(bytes: &[u8], deepest: usize) -> Result<Value, JsonError> {
    let text =
        std::str::from_utf8(bytes).map_err(|e| JsonError { kind: JsonErrorKind::Utf8, offset: e.valid_up_to() })?;
    if text.starts_with('\u{feff}') {
        return Err(JsonError { kind: JsonErrorKind::ByteOrderMark, offset: 0 });
    }
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, deepest };
    reader.space();
    let value = reader.value(0)?;
    reader.space();
    if reader.at < reader.bytes.len() {
        return Err(reader.syntax("something follows the value"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    deepest: usize,
}

impl<'a> Reader<'a> {
    fn fail(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { kind, offset: self.at }
    }
    fn syntax(&self, what: &'static str) -> JsonError {
        self.fail(JsonErrorKind::Syntax(what))
    }
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, JsonError> {
        if self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.syntax("unknown word"))
        }
    }
    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.syntax("a value was expected")),
            None => Err(self.syntax("the text ends too early")),
        }
    }
    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > self.deepest {
            return Err(self.fail(JsonErrorKind::TooDeep(self.deepest)));
        }
        self.at += 1;
        self.space();
        let mut members: Vec<(Box<str>, Value)> = Vec::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::object());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.syntax("a member name in quotes was expected"));
            }
            let name = self.string()?;
            if name.starts_with(RESERVED) {
                return Err(self.fail(JsonErrorKind::ReservedName(name)));
            }
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.syntax("`:` was expected"));
            }
            self.at += 1;
            self.space();
            let value = self.value(depth)?;
            members.push((name, value));
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                }
                Some(b'}') => {
                    self.at += 1;
                    break;
                }
                _ => return Err(self.syntax("`,` or `}` was expected")),
            }
        }
        members.sort_by(|(a, _), (b, _)| utf16_cmp(a, b));
        if let Some(twice) = members.windows(2).find_map(|w| match w {
            [(a, _), (b, _)] if a == b => Some(a.clone()),
            _ => None,
        }) {
            return Err(self.fail(JsonErrorKind::DuplicateKey(twice)));
        }
        Ok(Value::Object(Object(members)))
    }
    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > self.deepest {
            return Err(self.fail(JsonErrorKind::TooDeep(self.deepest)));
        }
        self.at += 1;
        self.space();
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            self.space();
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    self.space();
                }
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return Err(self.syntax("`,` or `]` was expected")),
            }
        }
    }
    /// A string with nothing to unescape in it; anything else is left where it is.
    fn unescaped(&mut self) -> Option<&'a str> {
        let from = self.at;
        if self.peek() == Some(b'"') {
            self.at += 1;
            let plain = self.plain();
            if self.peek() == Some(b'"') {
                self.at += 1;
                return Some(plain);
            }
        }
        self.at = from;
        None
    }
    fn string(&mut self) -> Result<Box<str>, JsonError> {
        if let Some(plain) = self.unescaped() {
            return Ok(plain.into());
        }
        self.at += 1;
        let mut out = self.plain().to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out.into());
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.push(self.escape()?);
                }
                Some(0..=0x1f) => return Err(self.syntax("a control character stands in a string")),
                Some(_) => out.push_str(self.plain()),
                None => return Err(self.syntax("a string never ends")),
            }
        }
    }
    /// What stands in a string up to its end, or to what stands there as something else.
    fn plain(&mut self) -> &'a str {
        let from = self.at;
        self.at += plain(self.bytes.get(from..).unwrap_or_default());
        self.text.get(from..self.at).unwrap_or_default()
    }
    fn escape(&mut self) -> Result<char, JsonError> {
        let sign = self.peek().ok_or_else(|| self.syntax("a string never ends"))?;
        self.at += 1;
        Ok(match sign {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex4()?;
                let code = match first {
                    0xd800..=0xdbff => {
                        if self.peek() != Some(b'\\') || self.bytes.get(self.at + 1) != Some(&b'u') {
                            return Err(self.fail(JsonErrorKind::LoneSurrogate));
                        }
                        self.at += 2;
                        match self.hex4()? {
                            low @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (low - 0xdc00),
                            _ => return Err(self.fail(JsonErrorKind::LoneSurrogate)),
                        }
                    }
                    other => other,
                };
                char::from_u32(code).ok_or_else(|| self.fail(JsonErrorKind::LoneSurrogate))?
            }
            _ => return Err(self.syntax("unknown escape")),
        })
    }
    fn hex4(&mut self) -> Result<u32, JsonError> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.syntax("`\\u` wants four hex digits"))?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.syntax("`\\u` wants four hex digits"));
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| self.syntax("`\\u` wants four hex digits"))
    }
    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.syntax("a digit was expected")),
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.syntax("a number has a leading zero"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let number = Number::parse(text).map_err(|kind| JsonError { kind, offset: start })?;
        Ok(Value::Number(number))
    }
    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
    fn some_digits(&mut self) -> Result<(), JsonError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.syntax("a digit was expected"));
        }
        self.digits();
        Ok(())
    }
}

/// Canonical text of anything serialisable, whatever the order of its fields.
pub fn canonical<T: Serialize + ?Sized>(value: &T) -> Result<String, JsonError> {
    let shape = |e: &dyn fmt::Display| JsonError { kind: JsonErrorKind::Shape(e.to_string().into()), offset: 0 };
    let text = compact::to_string(value, 256).map_err(|e| shape(&e))?;
    Ok(parse_recorded(text.as_bytes())?.to_canonical())
}

/// A typed value out of a strict one. Errors name the member.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, JsonError> {
    T::deserialize(value).map_err(|e| JsonError { kind: JsonErrorKind::Shape(e.0), offset: 0 })
}

/// Reads a strict JSON text as a typed value.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    from_value(&parse(bytes)?)
}

/// A value whose type has a spelling of its own, out of a text that is not copied for it.
pub fn from_text<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    deserializer: D,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    struct Text<F>(F);
    impl<T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Text<F> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_str<D: de::Error>(self, text: &str) -> Result<T, D> {
            self.0(text).map_err(D::custom)
        }
    }
    deserializer.deserialize_str(Text(read))
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(*b),
            Self::Number(Number::Int(n)) => serializer.serialize_i64(*n),
            Self::Number(Number::Decimal(text)) => {
                // Raw, because serialisers format doubles in their own ways.
                serde_json::value::RawValue::from_string(text.clone().into_string())
                    .map_err(serde::ser::Error::custom)?
                    .serialize(serializer)
            }
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Self::Object(object) => {
                let mut map = serializer.serialize_map(Some(object.len()))?;
                for (name, value) in object.iter() {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
                Value::deserialize(d)
            }
            fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
                Ok(Value::Bool(b))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
                if n.unsigned_abs() <= MAX_INTEGER.unsigned_abs() {
                    Ok(Value::Number(Number::Int(n)))
                } else {
                    Err(E::custom(format_args!("the number `{n}` is outside ±(2^53 − 1)")))
                }
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
                let n = i64::try_from(n).map_err(|_| E::custom("the number is outside ±(2^53 − 1)"))?;
                self.visit_i64(n)
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Value, E> {
                Number::from_f64(n).map(Value::Number).ok_or_else(|| E::custom("the number is outside ±(2^53 − 1)"))
            }
            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::String(text.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut object = Object::new();
                while let Some((name, value)) = map.next_entry::<Box<str>, Value>()? {
                    if let Err(name) = object.add(name, value) {
                        return Err(de::Error::custom(format_args!("the member `{name}` stands twice in one object")));
                    }
                }
                Ok(Value::Object(object))
            }
        }
        deserializer.deserialize_any(V)
    }
}

/// The error of reading a typed value out of a [`Value`].
#[derive(Debug)]
pub struct ShapeError(Box<str>);

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for ShapeError {}
impl de::Error for ShapeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string().into())
    }
}

impl<'de> IntoDeserializer<'de, ShapeError> for &'de Value {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = ShapeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(Number::Int(n)) => match u64::try_from(*n) {
                Ok(n) => visitor.visit_u64(n),
                Err(_) => visitor.visit_i64(*n),
            },
            Value::Number(Number::Decimal(text)) => visitor.visit_f64(text.parse().map_err(de::Error::custom)?),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(de::value::SeqDeserializer::new(items.iter())),
            Value::Object(object) => visitor.visit_map(de::value::MapDeserializer::new(object.iter())),
        }
    }
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ShapeError> {
        if matches!(self, Value::Null) { visitor.visit_none() } else { visitor.visit_some(self) }
    }
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ShapeError> {
        visitor.visit_newtype_struct(self)
    }
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ShapeError> {
        match self {
            Value::String(text) => visitor.visit_enum((&**text).into_deserializer()),
            Value::Object(object) if object.len() == 1 => visitor
                .visit_enum(de::value::MapAccessDeserializer::new(de::value::MapDeserializer::new(object.iter()))),
            _ => Err(de::Error::custom(format_args!("a {name} is a text or an object with one member"))),
        }
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> JsonErrorKind {
        parse(text.as_bytes()).unwrap_err().kind
    }

    /// RFC 8785 appendix B: the bits of a double and how it is written.
    #[test]
    fn rfc_8785_appendix_b_numbers() {
        for (bits, text) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0x41b3_de43_5555_5556, "333333333.3333334"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            assert_eq!(ecmascript(f64::from_bits(bits)), text, "{bits:016x}");
        }
    }

    /// RFC 8785 section 3.2.2: the example object.
    #[test]
    fn rfc_8785_section_3_2_2_example() {
        let given = r#"{"numbers":[333333333.33333329,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
        let wanted = r#"{"literals":[null,true,false],"numbers":[333333333.3333333,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"#;
        // The RFC's first number is not exact in a double, so the strict reader refuses it ...
        assert!(matches!(refused(given), JsonErrorKind::NumberPrecision(_)));
        // ... and takes the one it stands for.
        let exact = given.replace("333333333.33333329", "333333333.3333333");
        assert_eq!(parse(exact.as_bytes()).unwrap().to_canonical(), wanted);
    }

    /// RFC 8785 section 3.2.3: sorting by UTF-16 code units.
    #[test]
    fn rfc_8785_section_3_2_3_sorting() {
        let given = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
        let value = parse(given.as_bytes()).unwrap();
        let names: Vec<&str> = value.as_object().unwrap().iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["\r", "1", "\u{80}", "ö", "€", "😀", "\u{fb33}"]);
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        assert!(matches!(refused(r#"{"a":1,"a":2}"#), JsonErrorKind::DuplicateKey(_)));
        assert!(matches!(refused(r#"{"a":1,"\u0061":2}"#), JsonErrorKind::DuplicateKey(_)));
        assert!(matches!(refused(r#""\ud800""#), JsonErrorKind::LoneSurrogate));
        assert!(matches!(refused(r#""\ud800\u0041""#), JsonErrorKind::LoneSurrogate));
        assert!(matches!(refused(r#""\udc00""#), JsonErrorKind::LoneSurrogate));
        assert!(matches!(refused("9007199254740992"), JsonErrorKind::NumberRange(_)));
        assert!(matches!(refused("-9007199254740993"), JsonErrorKind::NumberRange(_)));
        assert!(matches!(refused("1e400"), JsonErrorKind::NumberRange(_)));
        assert!(matches!(refused("1e20"), JsonErrorKind::NumberRange(_)));
        assert!(matches!(refused("0.1000000000000000055511151231257827"), JsonErrorKind::NumberPrecision(_)));
        assert!(matches!(refused("1e-400"), JsonErrorKind::NumberPrecision(_)));
        assert!(matches!(refused("-0"), JsonErrorKind::NumberPrecision(_)));
        assert!(matches!(refused("-0.0"), JsonErrorKind::NumberPrecision(_)));
        assert!(matches!(refused("\u{feff}1"), JsonErrorKind::ByteOrderMark));
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "NaN",
            "Infinity",
            "'a'",
            "1 2",
            "\"\n\"",
            "// c\n1",
        ] {
            assert!(matches!(refused(text), JsonErrorKind::Syntax(_)), "{text:?}");
        }
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        assert!(matches!(refused(&deep), JsonErrorKind::TooDeep(32)));
        assert!(parse(format!("{}{}", "[".repeat(32), "]".repeat(32)).as_bytes()).is_ok());
        assert_eq!(parse(b"\xff").unwrap_err().kind, JsonErrorKind::Utf8);
    }

    #[test]
    fn what_was_recorded_may_stand_deeper_than_what_comes_in() {
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok() && parse(deep(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse_recorded(deep(MAX_RECORDED_DEPTH).as_bytes()).is_ok());
        let error = parse_recorded(deep(MAX_RECORDED_DEPTH + 1).as_bytes()).unwrap_err();
        assert_eq!(error.kind, JsonErrorKind::TooDeep(MAX_RECORDED_DEPTH));
    }

    /// With `raw_value`, `serde_json` reads this object as the text in it, or refuses the document.
    #[test]
    fn member_names_that_serde_json_gives_a_meaning_are_refused_by_name() {
        for text in [
            r#"{"a":{"$serde_json::private::RawValue":"not json"}}"#,
            r#"{"\u0024serde_json::private::RawValue":"1"}"#,
            r#"[{"$serde_json::private::Number":"1"}]"#,
        ] {
            assert!(matches!(refused(text), JsonErrorKind::ReservedName(_)), "{text}");
            assert_eq!(refused(text).code(), crate::Code::JsonReservedName);
        }
        assert!(parse(br#"{"$schema":"x"}"#).is_ok());
    }

    #[test]
    fn one_number_has_one_spelling() {
        for text in ["1", "1.0", "1e0", "10e-1", "0.1e1"] {
            assert_eq!(parse(text.as_bytes()).unwrap().to_canonical(), "1");
        }
        assert_eq!(parse(b"98.70").unwrap().to_canonical(), "98.7");
        assert_eq!(Number::parse("98.7").unwrap().scaled(4), Some(987_000));
        assert_eq!(Number::parse("0.00001").unwrap().scaled(4), None);
        assert_eq!(Number::parse("-12").unwrap().scaled(2), Some(-1200));
    }

    pub(super) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(|n| Value::Number(Number::Int(n))),
            (-1e15f64..1e15).prop_filter_map("finite", |f| Number::from_f64(f).map(Value::Number)),
            any::<String>().prop_map(|s| Value::String(s.into())),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn writing_then_reading_is_the_identity(value in any_value()) {
            let text = value.to_canonical();
            let read = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(&read, &value);
            prop_assert_eq!(read.to_canonical(), text.clone());
            // Nesting is counted as it is read.
            prop_assert_eq!(super::read(text.as_bytes(), nesting(&text)), Ok(value.clone()));
            prop_assert!(nesting(&text) == 0 || super::read(text.as_bytes(), nesting(&text) - 1).is_err());
            prop_assert!((0..40).all(|depth| super::nests(&text, depth) == (nesting(&text) >= depth)));
            // The serialiser used for ledger entries writes the same bytes.
            prop_assert_eq!(serde_json::to_string(&value).unwrap(), text);
        }

        #[test]
        fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_double_survives(bits in any::<u64>()) {
            let float = f64::from_bits(bits);
            if float.is_finite() {
                let back: f64 = ecmascript(float).parse().unwrap();
                prop_assert_eq!(back.to_bits() & !(1 << 63 & (u64::from(float == 0.0) << 63)), bits & !(1 << 63 & (u64::from(float == 0.0) << 63)));
            }
        }
    }
}
