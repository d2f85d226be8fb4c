//! API keys: `int_live_` or `int_test_`, 43 base64url characters of 256 random bits, and six of a
//! checksum, so that a typing error is told from an unknown key, and a scanner can find a leaked one.

use intended_model::Digest;
use zeroize::Zeroizing;

use crate::{RngError, RngSource};

const SECRET: usize = 43;
const CHECK: usize = 6;

/// A key in clear.
pub struct ApiKey(Zeroizing<String>);

/// The text is not an API key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key starts with `int_live_` or `int_test_` and ends in its checksum")]
pub struct ApiKeyError;

pub(crate) fn checksum(kind: &str, head: &str) -> String {
    let digest = Digest::of(format!("intended-{kind}-v1\n{head}").as_bytes());
    intended_token::base64url(digest.as_bytes()).chars().filter(|c| c.is_ascii_alphanumeric()).take(CHECK).collect()
}

impl ApiKey {
    pub fn generate(rng: &dyn RngSource, live: bool) -> Result<Self, RngError> {
        let mut secret = Zeroizing::new([0_u8; 32]);
        rng.fill(&mut *secret)?;
        let head = format!("int_{}_{}", if live { "live" } else { "test" }, intended_token::base64url(&*secret));
        let check = checksum("api-key", &head);
        Ok(Self(Zeroizing::new(head + &check)))
    }
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let rest = text.strip_prefix("int_live_").or_else(|| text.strip_prefix("int_test_")).ok_or(ApiKeyError)?;
        let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if rest.len() != SECRET + CHECK || !plain {
            return Err(ApiKeyError);
        }
        let (head, check) = text.split_at_checked(text.len() - CHECK).ok_or(ApiKeyError)?;
        if checksum("api-key", head) == check { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(ApiKeyError) }
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
    fn every_single_changed_character_is_a_typing_error() {
        let key = ApiKey::generate(&crate::SystemRng::default(), true).unwrap();
        let text = key.expose().to_owned();
        assert_eq!(ApiKey::parse(&text).unwrap().hash(), key.hash());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(ApiKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "at {at}");
        }
    }
}
