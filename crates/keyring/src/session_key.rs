//! Session keys: `int_sess_`, 43 base64url characters of 256 random bits, six of a checksum, a dot and
//! the tenant: a scanner can find a leaked one, and a server finds the tenant that it is of.

use intended_model::{Digest, TenantId};
use zeroize::Zeroizing;

use crate::api_key::checksum;
use crate::{RngError, RngSource};

const PREFIX: &str = "int_sess_";
const SECRET: usize = 43;
const CHECK: usize = 6;

/// A key in clear.
pub struct SessionKey {
    text: Zeroizing<String>,
    tenant: TenantId,
}

/// The text is not a session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session key starts with `int_sess_`, then its checksum and its tenant")]
pub struct SessionKeyError;

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionKey").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

fn check(secret: &str, tenant: &str) -> String {
    checksum("session-key", &format!("{PREFIX}{secret}.{tenant}"))
}

impl SessionKey {
    pub fn generate(rng: &dyn RngSource, tenant: &TenantId) -> Result<Self, RngError> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rng.fill(&mut *bytes)?;
        let secret = Zeroizing::new(intended_token::base64url(&*bytes));
        let check = check(&secret, tenant.as_str());
        Ok(Self { text: Zeroizing::new(format!("{PREFIX}{}{check}.{tenant}", *secret)), tenant: tenant.clone() })
    }
    /// Whether a text means to be one.
    #[must_use]
    pub fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
    pub fn parse(text: &str) -> Result<Self, SessionKeyError> {
        let rest = text.strip_prefix(PREFIX).ok_or(SessionKeyError)?;
        let (secret, rest) = rest.split_at_checked(SECRET).ok_or(SessionKeyError)?;
        let (given, tenant) = rest.split_once('.').ok_or(SessionKeyError)?;
        if given.len() != CHECK || check(secret, tenant) != given {
            return Err(SessionKeyError);
        }
        let tenant = TenantId::new(tenant).map_err(|_| SessionKeyError)?;
        Ok(Self { text: Zeroizing::new(text.to_owned()), tenant })
    }
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }
    /// What is stored, and looked up by.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(self.text.as_bytes())
    }
    /// The key itself: to be shown once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_single_changed_character_is_a_typing_error_also_in_the_tenant() {
        let tenant = TenantId::new("acme.eu-1").unwrap();
        let key = SessionKey::generate(&crate::SystemRng::default(), &tenant).unwrap();
        let text = key.expose().to_owned();
        let again = SessionKey::parse(&text).unwrap();
        assert_eq!((again.hash(), again.tenant()), (key.hash(), &tenant));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
            assert!(SessionKey::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "at {at}");
        }
        assert!(!format!("{key:?}").contains(&text[9..40]), "{key:?}");
    }
}
