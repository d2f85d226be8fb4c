//! The envelope of an entry: what is hashed into the tree.
//!
//! A leaf's bytes are canonical JSON (RFC 8785) with exactly these members:
//! `{"at":<ms>,"body":<canonical JSON>,"index":<n>,"kind":"<kind>","tenant":"<name>","v":1}`.
//! Index, time and tenant are inside what is hashed, so an entry cannot be moved, backdated or
//! carried over to another ledger.

use intended_model::{TenantId, Timestamp};

/// Largest leaf: 4 MiB of policy text plus its escapes and envelope.
pub const MAX_LEAF: usize = 12 * 1024 * 1024;

/// The bytes are not a leaf.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    #[error("the leaf does not have the shape of an entry, near `{0}`")]
    Shape(&'static str),
    #[error("the leaf is not UTF-8")]
    Utf8,
    #[error("the leaf is longer than {MAX_LEAF} bytes")]
    TooLong,
    #[error("the body is not canonical JSON: {0}")]
    NotCanonical(String),
}

/// A leaf, taken apart without copying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf<'a> {
    pub at: Timestamp,
    /// Canonical JSON, as hashed.
    pub body: &'a str,
    pub index: u64,
    pub kind: &'a str,
    pub tenant: &'a str,
}

/// Puts a leaf together. `body` is canonical JSON already; `kind` is one of the product's.
#[must_use]
pub fn encode_leaf(tenant: &TenantId, index: u64, at: Timestamp, kind: &str, body: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut out = Vec::with_capacity(body.len() + kind.len() + tenant.as_str().len() + 96);
    let _ = write!(out, "{{\"at\":{},\"body\":", at.as_millis());
    out.extend_from_slice(body.as_bytes());
    let _ = write!(out, ",\"index\":{index},\"kind\":\"{kind}\",\"tenant\":\"{tenant}\",\"v\":1}}");
    out
}

impl<'a> Leaf<'a> {
    /// Takes a leaf apart. Accepts exactly what [`encode_leaf`] writes; whether the body is
    /// canonical is checked by [`check_canonical`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, LeafError> {
        if bytes.len() > MAX_LEAF {
            return Err(LeafError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| LeafError::Utf8)?;
        let rest = text.strip_prefix("{\"at\":").ok_or(LeafError::Shape("at"))?;
        let (at, rest) = rest.split_once(",\"body\":").ok_or(LeafError::Shape("body"))?;
        // From the end: neither kind nor tenant can hold a quote, so the last of each is the one.
        let rest = rest.strip_suffix("\",\"v\":1}").ok_or(LeafError::Shape("v"))?;
        let (rest, tenant) = rest.rsplit_once("\",\"tenant\":\"").ok_or(LeafError::Shape("tenant"))?;
        let (rest, kind) = rest.rsplit_once(",\"kind\":\"").ok_or(LeafError::Shape("kind"))?;
        let (body, index) = rest.rsplit_once(",\"index\":").ok_or(LeafError::Shape("index"))?;
        let plain =
            |t: &str| !t.is_empty() && t.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'));
        if !plain(kind) {
            return Err(LeafError::Shape("kind"));
        }
        if !plain(tenant) {
            return Err(LeafError::Shape("tenant"));
        }
        let at = decimal(at).and_then(|n| i64::try_from(n).ok()).ok_or(LeafError::Shape("at"))?;
        let index = decimal(index).ok_or(LeafError::Shape("index"))?;
        Ok(Self { at: Timestamp::from_millis(at), body, index, kind, tenant })
    }
}

/// Digits without leading zeros, below 2^53.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && !text.is_empty());
    (canonical && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?.filter(|n| *n < 1 << 53)
}

/// Fails unless the text is strict JSON in its canonical form.
pub fn check_canonical(body: &str) -> Result<intended_model::Value, LeafError> {
    let value =
        intended_model::json::parse_recorded(body.as_bytes()).map_err(|e| LeafError::NotCanonical(e.to_string()))?;
    if value.is_canonically(body) {
        Ok(value)
    } else {
        Err(LeafError::NotCanonical("members out of order, white space, or another spelling of a value".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed_back(index in 0u64..1 << 53, at in 0i64..1 << 50, text in any::<String>()) {
            let tenant = TenantId::new("acme").unwrap();
            let body = intended_model::Value::Object([("a".to_owned(), intended_model::Value::String(text.into()))].into_iter().collect()).to_canonical();
            let bytes = encode_leaf(&tenant, index, Timestamp::from_millis(at), "decision", &body);
            let leaf = Leaf::parse(&bytes).unwrap();
            prop_assert_eq!((leaf.index, leaf.at.as_millis(), leaf.kind, leaf.tenant, leaf.body), (index, at, "decision", "acme", body.as_str()));
            let whole = std::str::from_utf8(&bytes).unwrap();
            prop_assert!(check_canonical(whole).is_ok(), "the envelope is canonical too");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "{}",
            r#"{"at":1,"body":{},"index":01,"kind":"a","tenant":"t","v":1}"#,
            r#"{"at":1,"body":{},"index":1,"kind":"A","tenant":"t","v":1}"#,
            r#"{"at":1,"body":{},"index":1,"kind":"a","tenant":"t","v":2}"#,
            r#" {"at":1,"body":{},"index":1,"kind":"a","tenant":"t","v":1}"#,
            r#"{"at":-1,"body":{},"index":1,"kind":"a","tenant":"t","v":1}"#,
        ] {
            assert!(Leaf::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(check_canonical(r#"{"b":1,"a":2}"#).is_err());
        assert!(check_canonical(r#"{"a": 2}"#).is_err());
        assert!(check_canonical(r#"{"a":1.0}"#).is_err());
    }
}
