//! Signing keys. Made here, sealed by the root key, opened again at start.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use intended_token::{Alg, Jwk, SignError, TokenSigner};
use zeroize::Zeroizing;

use crate::{RngSource, RootKey, SealError};

const PURPOSE: &str = "signing-key";

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A private signing key.
pub struct SigningKey {
    alg: Alg,
    pair: Pair,
    pkcs8: Zeroizing<Vec<u8>>,
    jwk: Jwk,
    rng: SystemRandom,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.jwk.kid).field("alg", &self.alg).finish_non_exhaustive()
    }
}

/// A key cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the key cannot be made")]
    Generate,
    #[error("the sealed text does not hold a signing key")]
    Malformed,
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl SigningKey {
    /// Makes a key. Ed25519 keys come from `rng`; the others from the provider's own generator,
    /// which takes no source.
    pub fn generate(alg: Alg, rng: &dyn RngSource) -> Result<Self, KeyError> {
        let bad = |_| KeyError::Generate;
        let pkcs8 = match alg {
            Alg::EdDSA => {
                let mut seed = Zeroizing::new([0; 32]);
                rng.fill(&mut *seed).map_err(|_| KeyError::Generate)?;
                let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| KeyError::Generate)?;
                pair.to_pkcs8().map_err(|_| KeyError::Generate)?.as_ref().to_vec()
            }
            Alg::Es256 => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(bad)?
                .as_ref()
                .to_vec(),
            Alg::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(bad)?;
                aws_lc_rs::encoding::AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair)
                    .map_err(bad)?
                    .as_ref()
                    .to_vec()
            }
        };
        Self::from_pkcs8(alg, Zeroizing::new(pkcs8))
    }

    fn from_pkcs8(alg: Alg, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let (pair, jwk) = match alg {
            Alg::EdDSA => {
                let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| KeyError::Malformed)?;
                let jwk = Jwk::ed25519(pair.public_key().as_ref());
                (Pair::Ed25519(pair), jwk)
            }
            Alg::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8)
                    .map_err(|_| KeyError::Malformed)?;
                let jwk = Jwk::p256(pair.public_key().as_ref()).ok_or(KeyError::Malformed)?;
                (Pair::P256(pair), jwk)
            }
            Alg::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| KeyError::Malformed)?;
                let public = pair.public_key();
                let jwk = Jwk::rsa(
                    public.modulus().big_endian_without_leading_zero(),
                    public.exponent().big_endian_without_leading_zero(),
                );
                (Pair::Rsa(Box::new(pair)), jwk)
            }
        };
        Ok(Self { alg, pair, pkcs8, jwk, rng: SystemRandom::new() })
    }

    /// Sealed for one tenant: `<alg>:<kid>:<sealed>`.
    pub fn to_sealed(&self, root: &RootKey, tenant: &str, rng: &dyn RngSource) -> Result<String, KeyError> {
        let context = format!("{tenant}/{}", self.jwk.kid);
        Ok(format!("{}:{}:{}", self.alg.as_str(), self.jwk.kid, root.seal(PURPOSE, &context, &self.pkcs8, rng)?))
    }

    pub fn from_sealed(root: &RootKey, tenant: &str, text: &str) -> Result<Self, KeyError> {
        let mut parts = text.splitn(3, ':');
        let (Some(alg), Some(kid), Some(sealed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Malformed);
        };
        let alg = Alg::parse(alg).ok_or(KeyError::Malformed)?;
        let key = Self::from_pkcs8(alg, root.open(PURPOSE, &format!("{tenant}/{kid}"), sealed)?)?;
        if key.jwk.kid == kid { Ok(key) } else { Err(KeyError::Malformed) }
    }

    /// The public half.
    #[must_use]
    pub const fn public_jwk(&self) -> &Jwk {
        &self.jwk
    }
    /// The key id: the JWK thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }
    /// The private key as PKCS #8.
    #[must_use]
    pub fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.pkcs8.clone()
    }
}

impl TokenSigner for SigningKey {
    fn kid(&self) -> &str {
        &self.jwk.kid
    }
    fn alg(&self) -> Alg {
        self.alg
    }
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => Ok(pair.sign(&self.rng, message).map_err(|_| SignError::Key)?.as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &self.rng, message, &mut out).map_err(|_| SignError::Key)?;
                Ok(out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRng;

    #[test]
    fn every_algorithm_seals_opens_and_signs() {
        let rng = SystemRng::default();
        let root = RootKey::generate(&rng).unwrap();
        for alg in [Alg::EdDSA, Alg::Es256, Alg::Rs256] {
            let key = SigningKey::generate(alg, &rng).unwrap();
            let sealed = key.to_sealed(&root, "acme", &rng).unwrap();
            let again = SigningKey::from_sealed(&root, "acme", &sealed).unwrap();
            assert_eq!(again.public_jwk(), key.public_jwk());
            assert!(!again.sign(b"x").unwrap().is_empty());
            assert!(SigningKey::from_sealed(&root, "evil", &sealed).is_err());
            let swapped = sealed.replacen(alg.as_str(), if alg == Alg::EdDSA { "ES256" } else { "EdDSA" }, 1);
            assert!(SigningKey::from_sealed(&root, "acme", &swapped).is_err());
        }
    }
}
