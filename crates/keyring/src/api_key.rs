//! API keys: `int_live_`, `int_test_` or `int_ops_`, 43 base64url characters of 256 random bits, and six
//! of a checksum, so that a typing error is told from an unknown key, and a scanner can find a leaked
//! one: [`PATTERN`].

use intended_model::Digest;
use zeroize::Zeroizing;

use crate::{RngError, RngSource};

const SECRET: usize = 43;
const CHECK: usize = 6;

/// What every key looks like, as a regular expression for secret scanners.
pub const PATTERN: &str = r"\bint_(live|test|ops)_[A-Za-z0-9_-]{43}[A-Za-z0-9]{6}\b";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Of a tenant.
    Live,
    /// Of a tenant, and never good for production.
    Test,
    /// Of who operates the server, and of no tenant.
    Operator,
}

impl KeyKind {
    pub const ALL: [Self; 3] = [Self::Live, Self::Test, Self::Operator];
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Live => "int_live_",
            Self::Test => "int_test_",
            Self::Operator => "int_ops_",
        }
    }
}

/// A key in clear.
pub struct ApiKey(Zeroizing<String>, KeyKind);

/// The text is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key starts with `int_live_`, `int_test_` or `int_ops_` and ends in its checksum")]
pub struct ApiKeyError;

pub(crate) fn checksum(kind: &str, head: &str) -> String {
    let digest = Digest::of(format!("intended-{kind}-v1\n{head}").as_bytes());
    intended_token::base64url(digest.as_bytes()).chars().filter(|c| c.is_ascii_alphanumeric()).take(CHECK).collect()
}

impl ApiKey {
    pub fn generate(rng: &dyn RngSource, kind: KeyKind) -> Result<Self, RngError> {
        let mut secret = Zeroizing::new([0_u8; 32]);
        rng.fill(&mut *secret)?;
        let head = format!("{}{}", kind.prefix(), intended_token::base64url(&*secret));
        let check = checksum("api-key", &head);
        Ok(Self(Zeroizing::new(head + &check), kind))
    }
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let named = |kind: KeyKind| text.strip_prefix(kind.prefix()).map(|rest| (kind, rest));
        let (kind, rest) = KeyKind::ALL.into_iter().find_map(named).ok_or(ApiKeyError)?;
        let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if rest.len() != SECRET + CHECK || !plain {
            return Err(ApiKeyError);
        }
        let (head, check) = text.split_at_checked(text.len() - CHECK).ok_or(ApiKeyError)?;
        let known = checksum("api-key", head) == check;
        if known { Ok(Self(Zeroizing::new(text.to_owned()), kind)) } else { Err(ApiKeyError) }
    }
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.1
    }
    /// What is stored, and looked up by.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
    /// The key itself: to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_is_for_and_is_not_good_for_another() {
        for kind in KeyKind::ALL {
            let key = ApiKey::generate(&crate::SystemRng::default(), kind).unwrap();
            assert!(key.expose().starts_with(kind.prefix()));
            assert_eq!(ApiKey::parse(key.expose()).unwrap().kind(), kind);
            for other in KeyKind::ALL.into_iter().filter(|o| *o != kind) {
                let renamed = key.expose().replacen(kind.prefix(), other.prefix(), 1);
                assert!(ApiKey::parse(&renamed).is_err(), "the checksum is over the prefix as well");
            }
        }
    }

    #[test]
    fn every_single_changed_character_is_a_typing_error() {
        let key = ApiKey::generate(&crate::SystemRng::default(), KeyKind::Live).unwrap();
        let text = key.expose().to_owned();
        assert_eq!(ApiKey::parse(&text).unwrap().hash(), key.hash());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(ApiKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "at {at}");
        }
    }
}
