//! Public keys: JWK (RFC 7517, RFC 8037), each pinned to one algorithm.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{base64url, from_base64url};

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Alg {
    EdDSA,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "RS256")]
    Rs256,
}

impl Alg {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDSA => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::EdDSA, Self::Es256, Self::Rs256].into_iter().find(|a| a.as_str() == text)
    }
}

/// A public key. Unknown members are ignored (RFC 7517 section 4), private ones refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    pub alg: Alg,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    /// Present only in a private key, which is refused.
    #[serde(default, skip_serializing)]
    pub d: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
    pub kid: String,
    pub kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
}

/// A JWK set (RFC 7517 section 5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JwkSet {
    pub keys: Vec<Jwk>,
}

/// A key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    #[error("the key `{0}` lacks a member or has one that does not fit its type")]
    Shape(String),
    #[error("the key `{0}` holds private members")]
    Private(String),
    #[error("the key id `{0}` stands twice")]
    Duplicate(String),
}

impl Jwk {
    fn empty(alg: Alg, kty: &str) -> Self {
        Self {
            alg,
            crv: None,
            d: None,
            e: None,
            kid: String::new(),
            kty: kty.to_owned(),
            n: None,
            usage: Some("sig".to_owned()),
            x: None,
            y: None,
        }
    }
    fn with_kid(mut self) -> Self {
        self.kid = self.thumbprint();
        self
    }
    /// From the 32 bytes of an Ed25519 public key.
    #[must_use]
    pub fn ed25519(public: &[u8]) -> Self {
        Self { crv: Some("Ed25519".to_owned()), x: Some(base64url(public)), ..Self::empty(Alg::EdDSA, "OKP") }
            .with_kid()
    }
    /// From an uncompressed P-256 point: `04`, x, y.
    #[must_use]
    pub fn p256(point: &[u8]) -> Option<Self> {
        let (x, y) = point.strip_prefix(&[4])?.split_at_checked(32)?;
        Some(
            Self {
                crv: Some("P-256".to_owned()),
                x: Some(base64url(x)),
                y: Some(base64url(y)),
                ..Self::empty(Alg::Es256, "EC")
            }
            .with_kid(),
        )
    }
    /// From an RSA modulus and exponent, big-endian.
    #[must_use]
    pub fn rsa(n: &[u8], e: &[u8]) -> Self {
        Self { n: Some(base64url(n)), e: Some(base64url(e)), ..Self::empty(Alg::Rs256, "RSA") }.with_kid()
    }
    /// RFC 7638: SHA-256 over the required members in order, base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let m = |v: &Option<String>| v.clone().unwrap_or_default();
        let text = match self.kty.as_str() {
            "OKP" => format!(r#"{{"crv":"{}","kty":"OKP","x":"{}"}}"#, m(&self.crv), m(&self.x)),
            "EC" => format!(r#"{{"crv":"{}","kty":"EC","x":"{}","y":"{}"}}"#, m(&self.crv), m(&self.x), m(&self.y)),
            _ => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, m(&self.e), m(&self.n)),
        };
        base64url(intended_model::Digest::of(text.as_bytes()).as_bytes())
    }
    fn key(&self) -> Result<Key, JwkError> {
        let shape = || JwkError::Shape(self.kid.clone());
        if self.d.is_some() {
            return Err(JwkError::Private(self.kid.clone()));
        }
        if self.usage.as_deref().is_some_and(|u| u != "sig") {
            return Err(shape());
        }
        let part = |v: &Option<String>| v.as_deref().and_then(from_base64url).ok_or_else(shape);
        match (self.alg, self.kty.as_str(), self.crv.as_deref()) {
            (Alg::EdDSA, "OKP", Some("Ed25519")) => {
                let x = part(&self.x)?;
                if x.len() == 32 { Ok(Key::Ed25519(x)) } else { Err(shape()) }
            }
            (Alg::Es256, "EC", Some("P-256")) => {
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(shape());
                }
                Ok(Key::P256([&[4], x.as_slice(), y.as_slice()].concat()))
            }
            (Alg::Rs256, "RSA", None) => {
                let (n, e) = (part(&self.n)?, part(&self.e)?);
                if n.len() < 256 { Err(shape()) } else { Ok(Key::Rsa { n, e }) }
            }
            _ => Err(shape()),
        }
    }
}

#[derive(Debug, Clone)]
enum Key {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

/// Keys ready for verification, by id.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: BTreeMap<String, (Alg, Key)>,
    retired: BTreeSet<String>,
}

impl KeySet {
    /// From a JWK set. An id that stands twice is refused: which key is meant would be a guess.
    pub fn from_jwks(set: &JwkSet) -> Result<Self, JwkError> {
        let mut out = Self::default();
        for jwk in &set.keys {
            if out.keys.insert(jwk.kid.clone(), (jwk.alg, jwk.key()?)).is_some() {
                return Err(JwkError::Duplicate(jwk.kid.clone()));
            }
        }
        Ok(out)
    }
    /// Refuses tokens of this key by name, instead of as unknown.
    pub fn retire(&mut self, kid: &str) {
        self.keys.remove(kid);
        self.retired.insert(kid.to_owned());
    }
    pub(crate) fn is_retired(&self, kid: &str) -> bool {
        self.retired.contains(kid)
    }
    pub(crate) fn alg(&self, kid: &str) -> Option<Alg> {
        self.keys.get(kid).map(|(alg, _)| *alg)
    }
    pub(crate) fn verify(&self, kid: &str, message: &[u8], signature: &[u8]) -> bool {
        let Some((_, key)) = self.keys.get(kid) else { return false };
        match key {
            Key::Ed25519(public) => UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok(),
            Key::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            Key::Rsa { n, e } => {
                PublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
        }
    }
}
