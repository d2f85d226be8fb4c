//! The root key seals private halves: AES-256-GCM-SIV under a key derived for the purpose
//! (HKDF-SHA-256), bound to tenant and key id as associated data. Losing it loses no history: the
//! public halves are in the ledger.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use crate::{RngError, RngSource};

/// 256 bits from a file, an environment variable or a command.
pub struct RootKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootKey(..)")
    }
}

/// Why something cannot be sealed or unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a root key is 64 hex digits")]
    Root,
    #[error("this was sealed with another root key, or for another tenant or purpose, or it is damaged")]
    Unseal,
    #[error("the sealed text is malformed")]
    Malformed,
    #[error(transparent)]
    Rng(#[from] RngError),
}

struct Length;
impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

const VERSION: &str = "v1.";

impl RootKey {
    /// From 64 lower-case hex digits; white space around them is ignored.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let bytes = Zeroizing::new(intended_model::digest::unhex(text.trim()).ok_or(SealError::Root)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| SealError::Root)?;
        Ok(Self(Zeroizing::new(key)))
    }
    pub fn generate(rng: &dyn RngSource) -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill(&mut *key)?;
        Ok(Self(key))
    }
    /// Whether it is the same key. How long that takes tells nothing of either.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
    /// The text that `parse` reads.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(intended_model::digest::hex(&*self.0))
    }
    fn key(&self, purpose: &str) -> Result<LessSafeKey, SealError> {
        let salt = Salt::new(HKDF_SHA256, b"intended-root-v1");
        let derived = salt.extract(&*self.0);
        let mut key = Zeroizing::new([0; 32]);
        let info = [purpose.as_bytes()];
        derived.expand(&info, Length).and_then(|okm| okm.fill(&mut *key)).map_err(|_| SealError::Root)?;
        Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &*key).map_err(|_| SealError::Root)?))
    }
    /// Seals for a purpose and a context; both are needed to unseal.
    pub fn seal(&self, purpose: &str, context: &str, clear: &[u8], rng: &dyn RngSource) -> Result<String, SealError> {
        let mut nonce = [0; 12];
        rng.fill(&mut nonce)?;
        let mut sealed = clear.to_vec();
        self.key(purpose)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context.as_bytes()), &mut sealed)
            .map_err(|_| SealError::Root)?;
        let mut out = nonce.to_vec();
        out.extend_from_slice(&sealed);
        Ok(format!("{VERSION}{}", intended_token::base64url(&out)))
    }
    pub fn open(&self, purpose: &str, context: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let text = sealed.strip_prefix(VERSION).ok_or(SealError::Malformed)?;
        let bytes = intended_token::from_base64url(text).ok_or(SealError::Malformed)?;
        let (nonce, rest) = bytes.split_first_chunk::<12>().ok_or(SealError::Malformed)?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let clear = self
            .key(purpose)?
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context.as_bytes()), &mut buffer)
            .map_err(|_| SealError::Unseal)?
            .len();
        buffer.truncate(clear);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRng;

    #[test]
    fn only_the_same_root_purpose_and_context_unseal() {
        let rng = SystemRng::default();
        let root = RootKey::generate(&rng).unwrap();
        let sealed = root.seal("signing", "acme/k1", b"secret", &rng).unwrap();
        assert_eq!(&**root.open("signing", "acme/k1", &sealed).unwrap(), b"secret");
        assert_eq!(root.open("signing", "evil/k1", &sealed).unwrap_err(), SealError::Unseal);
        assert_eq!(root.open("other", "acme/k1", &sealed).unwrap_err(), SealError::Unseal);
        assert_eq!(
            RootKey::generate(&rng).unwrap().open("signing", "acme/k1", &sealed).unwrap_err(),
            SealError::Unseal
        );
        let again = RootKey::parse(&root.expose()).unwrap();
        assert!(again.is(&root) && !root.is(&RootKey::generate(&rng).unwrap()));
        assert!(again.open("signing", "acme/k1", &sealed).is_ok());
        for at in 3..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(root.open("signing", "acme/k1", std::str::from_utf8(&bytes).unwrap()).is_err());
        }
    }
}
