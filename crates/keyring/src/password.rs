//! Passwords: Argon2id (RFC 9106) with the parameters that OWASP asks for, and what a password must be.
//! The parameters stand with each hash, so that they can be raised and what was hashed before still
//! verifies.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{RngError, RngSource};

/// KiB of memory, passes, lanes.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Characters of a password.
pub const MIN: usize = 12;
pub const MAX: usize = 128;

/// A hashed password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordHash {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; 16],
    hash: [u8; 32],
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A password cannot be hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    #[error("the password cannot be hashed with these parameters")]
    Parameters,
    #[error(transparent)]
    Rng(#[from] RngError),
}

fn derive(password: &str, salt: &[u8], memory: u32, passes: u32, lanes: u32) -> Result<Zeroizing<[u8; 32]>, HashError> {
    let params = Params::new(memory, passes, lanes, Some(32)).map_err(|_| HashError::Parameters)?;
    let mut out = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut *out)
        .map_err(|_| HashError::Parameters)?;
    Ok(out)
}

impl PasswordHash {
    /// Takes some ten milliseconds of one core and 19 MiB.
    pub fn new(password: &str, rng: &dyn RngSource) -> Result<Self, HashError> {
        let mut salt = [0; 16];
        rng.fill(&mut salt)?;
        let hash = *derive(password, &salt, MEMORY_KIB, PASSES, LANES)?;
        Ok(Self { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt, hash })
    }
    /// A hash that no password has: verifying against it takes as long as against any.
    #[must_use]
    pub const fn of_nobody() -> Self {
        Self { memory_kib: MEMORY_KIB, passes: PASSES, lanes: LANES, salt: [0; 16], hash: [0; 32] }
    }
    /// The same work, whatever the answer.
    #[must_use]
    pub fn verify(&self, password: &str) -> bool {
        derive(password, &self.salt, self.memory_kib, self.passes, self.lanes)
            .is_ok_and(|hash| verify_slices_are_equal(&*hash, &self.hash).is_ok())
    }
}

/// Why a password is not good enough, in words that do not repeat it.
#[must_use]
pub fn weakness(password: &str, member: &str) -> Option<&'static str> {
    let length = password.chars().count();
    if !(MIN..=MAX).contains(&length) {
        return Some("a password has 12 to 128 characters");
    }
    if password.chars().any(char::is_control) {
        return Some("a password has no control characters");
    }
    let plain = password.to_lowercase();
    // A very short name is part of too much to say anything.
    if member.len() >= 3 && plain.contains(member) {
        return Some("a password does not contain the member's name");
    }
    let different: std::collections::BTreeSet<char> = plain.chars().collect();
    if different.len() < 5 {
        return Some("a password has at least five different characters");
    }
    COMMON.contains(&plain.as_str()).then_some("this is one of the passwords that are tried first")
}

/// What is tried first of what is long enough.
const COMMON: &[&str] = &[
    "password1234",
    "password12345",
    "password123456",
    "password123!",
    "passwordpassword",
    "mypassword123",
    "123456789012",
    "1234567890123",
    "12345678901234",
    "0123456789012",
    "123456789abc",
    "1234567890ab",
    "qwertyuiop12",
    "qwertyuiop123",
    "qwertyuiop[]",
    "qwertyqwerty",
    "qwerty123456",
    "qwerty1234567",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "1qaz2wsx3edc4rfv",
    "zaq12wsxcde3",
    "asdfghjkl123",
    "asdfasdfasdf",
    "zxcvbnm12345",
    "abcdefghijkl",
    "abcdefgh1234",
    "abcd12345678",
    "abc123abc123",
    "a1b2c3d4e5f6",
    "letmeinletmein",
    "letmein12345",
    "welcome12345",
    "welcome123456",
    "iloveyou1234",
    "iloveyouforever",
    "administrator",
    "administrator1",
    "admin1234567",
    "adminadmin12",
    "changeme1234",
    "changemenow1",
    "trustno1trustno1",
    "correcthorsebatterystaple",
    "correct horse battery staple",
    "princess1234",
    "football1234",
    "baseball1234",
    "superman1234",
    "dragon123456",
    "monkey123456",
    "sunshine1234",
    "master123456",
    "p@ssw0rd1234",
    "p@ssword1234",
    "passw0rd1234",
    "secret123456",
    "intended1234",
    "intended12345",
    "november2026",
    "december2026",
    "january2027",
    "summer202612",
    "winter202612",
    "unknownunknown",
    "samsung12345",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_verifies_and_no_two_hashes_are_the_same() {
        let rng = crate::SystemRng::default();
        let (one, two) = (PasswordHash::new("a long passphrase", &rng), PasswordHash::new("a long passphrase", &rng));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one.verify("a long passphrase") && two.verify("a long passphrase"));
        assert!(!one.verify("a long passphrasE") && !PasswordHash::of_nobody().verify(""));
        assert_ne!(one.hash, two.hash);
        let kept: PasswordHash = serde_json::from_str(&serde_json::to_string(&one).unwrap()).unwrap();
        assert!(kept.verify("a long passphrase"));
        assert_eq!((MEMORY_KIB, PASSES, LANES), (19_456, 2, 1), "what OWASP asks for");
    }

    /// RFC 9106 section 5.3 has a secret and associated data, which are not used here; this is the
    /// vector of the reference implementation for version 0x13.
    #[test]
    fn it_is_the_argon2id_of_the_reference_implementation() {
        let hash = derive("password", b"somesalt", 65_536, 2, 1).unwrap();
        let hex = intended_model::digest::hex(&*hash);
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
    }

    #[test]
    fn short_common_and_obvious_passwords_are_refused() {
        for bad in [
            "eleven-char",
            "passwordPassword",
            "Correct Horse Battery Staple",
            "aaaaaaaaaaaaaaaa",
            "abababababababab",
            "alice-is-my-name",
            "has\u{0}a control",
            "P@ssw0rd1234",
        ] {
            assert!(weakness(bad, "alice").is_some(), "{bad}");
        }
        assert!(weakness(&"long pässwörd ".repeat(10), "alice").is_some());
        for good in ["tortoise under the lamp", "ünïcödé wörds äre fine", "x9$kQ!m2Lp0z"] {
            assert_eq!(weakness(good, "alice"), None, "{good}");
        }
        assert!(COMMON.iter().all(|c| *c == c.to_lowercase()), "compared in lower case");
    }
}
