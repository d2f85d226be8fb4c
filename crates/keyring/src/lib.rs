//! Secrets: the root key, what it seals, signing keys, API keys,
//! passwords, one-time codes. Clear private keys live in memory
//! only; what is stored is sealed for one tenant and purpose.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)
)]

mod api_key;
pub mod password;
mod root;
mod session_key;
mod signing;
pub mod totp;

pub use api_key::{ApiKey, ApiKeyError, KeyKind, PATTERN as API_KEY_PATTERN};
pub use password::PasswordHash;
pub use root::{RootKey, SealError};
pub use session_key::{SessionKey, SessionKeyError};
pub use signing::{KeyError, SigningKey};

/// HMAC-SHA-256 (RFC 2104).
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    use aws_lc_rs::hmac;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    out
}

/// Where random bytes come from.
pub trait RngSource: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RngError>;
}

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct RngError;

/// The system's generator.
#[derive(Debug, Default)]
pub struct SystemRng(aws_lc_rs::rand::SystemRandom);

impl RngSource for SystemRng {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RngError> {
        use aws_lc_rs::rand::SecureRandom as _;
        self.0.fill(bytes).map_err(|_| RngError)
    }
}
