//! One-time codes by time (RFC 6238): SHA-1, six digits, 30 seconds, as every authenticator knows them.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use intended_model::Timestamp;
use zeroize::Zeroizing;

use crate::{RngError, RngSource};

/// Seconds of a step.
const STEP_SECS: i64 = 30;
/// How many steps a clock may be off, either way.
const WINDOW: i64 = 1;
/// What RFC 4226 section 4 asks for: 160 bits.
const SECRET: usize = 20;

/// A shared secret.
pub struct TotpSecret(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for TotpSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TotpSecret(..)")
    }
}

/// The step of a time.
#[must_use]
pub const fn step(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1000 * STEP_SECS)
}

impl TotpSecret {
    pub fn generate(rng: &dyn RngSource) -> Result<Self, RngError> {
        let mut secret = Zeroizing::new(vec![0; SECRET]);
        rng.fill(&mut secret)?;
        Ok(Self(secret))
    }
    #[must_use]
    pub fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// RFC 4226 section 5.3.
    fn truncated(&self, step: i64) -> u32 {
        let tag = sign(&Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0), &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0x0f);
        let four = tag.get(offset..).and_then(<[u8]>::first_chunk::<4>).copied().unwrap_or_default();
        u32::from_be_bytes(four) & 0x7fff_ffff
    }
    /// The code of a step.
    #[must_use]
    pub fn code(&self, step: i64) -> Zeroizing<String> {
        Zeroizing::new(format!("{:06}", self.truncated(step) % 1_000_000))
    }
    /// The step that a code is of, around a time and after `last`: each code is good once, and none
    /// from before one that was used.
    #[must_use]
    pub fn verify(&self, code: &str, at: Timestamp, last: Option<i64>) -> Option<i64> {
        let now = step(at);
        let mut found = None;
        for candidate in now - WINDOW..=now + WINDOW {
            let same = verify_slices_are_equal(self.code(candidate).as_bytes(), code.as_bytes()).is_ok();
            if same && last.is_none_or(|last| candidate > last) {
                found = Some(candidate);
            }
        }
        found
    }
    /// For an authenticator to take by hand (RFC 4648 base 32, without padding).
    #[must_use]
    pub fn base32(&self) -> Zeroizing<String> {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut out = Zeroizing::new(String::new());
        let (mut bits, mut held) = (0_u32, 0_u32);
        for byte in self.0.iter() {
            bits = (bits << 8) | u32::from(*byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                let at = usize::try_from((bits >> held) & 31).unwrap_or_default();
                out.push(char::from(ALPHABET.get(at).copied().unwrap_or_default()));
            }
        }
        if held > 0 {
            let at = usize::try_from((bits << (5 - held)) & 31).unwrap_or_default();
            out.push(char::from(ALPHABET.get(at).copied().unwrap_or_default()));
        }
        out
    }
    /// For an authenticator to scan. Tenant and member are names: nothing in them needs encoding.
    #[must_use]
    pub fn uri(&self, tenant: &str, member: &str) -> Zeroizing<String> {
        let secret = self.base32();
        Zeroizing::new(format!(
            "otpauth://totp/Intended%20{tenant}:{member}?secret={}&issuer=Intended%20{tenant}&algorithm=SHA1&digits=6&period=30",
            *secret
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rfc() -> TotpSecret {
        TotpSecret::from_bytes(Zeroizing::new(b"12345678901234567890".to_vec()))
    }
    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// RFC 6238 appendix B, SHA-1; the last six of its eight digits.
    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        for (seconds, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(format!("{:08}", rfc().truncated(step(at(seconds))) % 100_000_000), code);
            assert_eq!(*rfc().code(step(at(seconds))), code[2..]);
        }
    }

    /// RFC 4226 appendix D.
    #[test]
    fn the_vectors_of_rfc_4226_hold() {
        let codes =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(*rfc().code(counter), code);
        }
    }

    #[test]
    fn a_code_is_good_one_step_around_its_own_and_once() {
        let (now, secret) = (at(1_234_567_890), rfc());
        let own = step(now);
        for off in -3..=3 {
            let used = secret.verify(&secret.code(own + off), now, None);
            assert_eq!(used, (-1..=1).contains(&off).then_some(own + off), "{off}");
        }
        assert_eq!(secret.verify(&secret.code(own), now, Some(own)), None, "used");
        assert_eq!(secret.verify(&secret.code(own - 1), now, Some(own)), None, "older than one that was used");
        assert_eq!(secret.verify(&secret.code(own + 1), now, Some(own)), Some(own + 1));
        for wrong in ["", "12345", "0000000", "９４２８７０"] {
            assert_eq!(secret.verify(wrong, now, None), None);
        }
    }

    #[test]
    fn an_authenticator_is_told_the_secret_in_base_32() {
        assert_eq!(*rfc().base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(*TotpSecret::from_bytes(Zeroizing::new(b"foob".to_vec())).base32(), "MZXW6YQ");
        assert!(rfc().uri("acme", "alice").starts_with("otpauth://totp/Intended%20acme:alice?secret=GEZDGNBV"));
    }
}
