//! Names and ids. Every one is parsed once, at the door, and then carried as its own type, so that
//! an agent's name can never be passed where a tenant's is meant.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a tenant, environment, agent, credential, member, pack, capability: 64 bytes.
pub const MAX_NAME: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name must not be empty")]
    Empty,
    #[error("a name has at most {MAX_NAME} bytes")]
    TooLong,
    #[error(
        "a name starts with a lower-case letter or a digit and goes on with lower-case letters, digits, `.`, `_` or `-`"
    )]
    Character,
}

/// A name: 1–64 of `a-z 0-9 . _ -`, starting with a letter or digit. ASCII only, lower case only,
/// so that no two names look alike. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    pub fn new(text: &str) -> Result<Self, NameError> {
        let mut bytes = text.bytes();
        match bytes.next() {
            None => return Err(NameError::Empty),
            Some(b'a'..=b'z' | b'0'..=b'9') => {}
            Some(_) => return Err(NameError::Character),
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if bytes.all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-')) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NameError::Character)
        }
    }
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::json::from_text(deserializer, Self::new)
    }
}

macro_rules! named {
    ($($(#[$doc:meta])* $id:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $id(Name);

        impl $id {
            pub fn new(text: &str) -> Result<Self, NameError> {
                Name::new(text).map(Self)
            }
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
        impl FromStr for $id {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl Borrow<str> for $id {
            fn borrow(&self) -> &str {
                self.0.as_str()
            }
        }
    )+};
}

named! {
    /// An organisation's trust boundary.
    TenantId,
    /// `production`, `staging`, … inside a tenant.
    EnvironmentId,
    /// A registered autonomous actor.
    AgentId,
    /// The public name of an API key (never the key).
    CredentialId,
    /// A person.
    MemberId,
}

/// How the id begins under which a signed-in member acts. No credential is named so.
const MEMBER_PREFIX: &str = "member.";
/// Longest id of a member who can sign in.
pub const MAX_MEMBER: usize = MAX_NAME - MEMBER_PREFIX.len();

impl CredentialId {
    /// What a member who is signed in acts under. `None` for an id longer than [`MAX_MEMBER`].
    #[must_use]
    pub fn of_member(member: &MemberId) -> Option<Self> {
        Self::new(&format!("{MEMBER_PREFIX}{member}")).ok()
    }
    /// The member who acts under it, if it is not a credential's.
    #[must_use]
    pub fn member(&self) -> Option<MemberId> {
        MemberId::new(self.as_str().strip_prefix(MEMBER_PREFIX)?).ok()
    }
}

/// An intent's id: a version 7 UUID, so ids sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IntentId([u8; 16]);

/// The text is not a UUID in its 36-character lower-case form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an intent id is a lower-case UUID, like `0192f0c1-7b1e-7c3a-9f00-1a2b3c4d5e6f`")]
pub struct IntentIdError;

impl IntentId {
    /// When it was made (RFC 9562 version 7: the first 48 bits).
    #[must_use]
    pub const fn made_at(&self) -> crate::Timestamp {
        let [a, b, c, d, e, f, ..] = self.0;
        crate::Timestamp::from_millis(i64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
    /// RFC 9562 version 7 from a time and ten random bytes.
    #[must_use]
    pub const fn v7(at: crate::Timestamp, random: [u8; 10]) -> Self {
        let ms = at.as_millis().cast_unsigned().to_be_bytes();
        let r = random;
        Self([
            ms[2],
            ms[3],
            ms[4],
            ms[5],
            ms[6],
            ms[7],
            0x70 | (r[0] & 0x0f),
            r[1],
            0x80 | (r[2] & 0x3f),
            r[3],
            r[4],
            r[5],
            r[6],
            r[7],
            r[8],
            r[9],
        ])
    }

    /// As it is written. A decision writes several: not digit by digit through a formatter.
    fn written<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
        const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
        buffer.fill(b'-');
        for (byte, at) in self.0.into_iter().zip(PLACES) {
            if let Some(to) = buffer.get_mut(at..at + 2) {
                to.copy_from_slice(&crate::digest::digits(byte));
            }
        }
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

impl fmt::Display for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written(&mut [0; 36]))
    }
}
impl fmt::Debug for IntentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for IntentId {
    type Err = IntentIdError;
    fn from_str(text: &str) -> Result<Self, IntentIdError> {
        let dashes = [8, 13, 18, 23];
        if text.len() != 36 || !text.bytes().enumerate().all(|(i, b)| (b == b'-') == dashes.contains(&i)) {
            return Err(IntentIdError);
        }
        let digits = text.bytes().filter(|b| *b != b'-');
        crate::digest::unhex_exactly(digits).map(Self).ok_or(IntentIdError)
    }
}
impl Serialize for IntentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.written(&mut [0; 36]))
    }
}
impl<'de> Deserialize<'de> for IntentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::json::from_text(deserializer, str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_lower_case_ascii() {
        assert!(TenantId::new("acme").is_ok());
        assert_eq!(TenantId::new(""), Err(NameError::Empty));
        assert_eq!(TenantId::new("Acme"), Err(NameError::Character));
        assert_eq!(TenantId::new("аcme"), Err(NameError::Character), "Cyrillic а");
        assert_eq!(TenantId::new(".acme"), Err(NameError::Character));
        assert_eq!(TenantId::new(&"a".repeat(65)), Err(NameError::TooLong));
    }

    #[test]
    fn a_member_who_is_signed_in_is_known_by_the_id_they_act_under() {
        let alice = MemberId::new("alice").unwrap();
        let acting = CredentialId::of_member(&alice).unwrap();
        assert_eq!((acting.as_str(), acting.member()), ("member.alice", Some(alice)));
        assert_eq!(CredentialId::new("alice").unwrap().member(), None);
        assert_eq!(CredentialId::of_member(&MemberId::new(&"a".repeat(MAX_MEMBER + 1)).unwrap()), None);
    }

    #[test]
    fn an_intent_id_is_a_version_7_uuid_and_reads_back() {
        let id = IntentId::v7(crate::Timestamp::from_millis(0x0192_f0c1_7b1e), [0xff; 10]);
        assert_eq!(id.to_string(), "0192f0c1-7b1e-7fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("0192f0c1-7b1e-7FFF-bfff-ffffffffffff".parse::<IntentId>(), Err(IntentIdError));
    }
}
