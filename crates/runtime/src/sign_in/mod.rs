//! People sign in: with a password or a link, and a code where they have one; or with the word of an
//! identity provider. What comes of it is a session.
//!
//! * [`attempts`]: how often somebody may fail
//! * [`password`], [`totp`], [`link`]: the means
//! * [`session`]: how one begins, is used, and ends
//! * [`oidc`]: identity providers
//!
//! Secrets are facts sealed with the root key, never in the ledger. What begins or ends a session and
//! what changes a means of signing in is an entry, so the verifier sees who could act as whom.
//!
//! **Architecture invariant:** a failure says neither whether the member exists, nor whether they have
//! a password, nor which factor was wrong; it takes the same work.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use intended_engine::State;
use intended_model::entry::SignInMethod;
use intended_model::{Code, Digest, Event, MemberId, Timestamp};
use intended_store::{Commit, Conflict, Fact, StoreError, Write};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::admin::entry_of;
use crate::tenant::Folded;
use crate::{Runtime, RuntimeError, Tenant};

pub mod attempts;
pub mod link;
pub mod oidc;
pub mod password;
pub mod session;
pub mod totp;

pub use link::NewLink;
pub use oidc::{Begun, ProviderSpec};
pub use session::{NewSession, SessionRow};
pub use totp::Enrolment;

/// How often a commit that lost a race is tried again.
pub(crate) const MAX_ATTEMPTS: usize = 16;
/// Passwords that are hashed at once: each takes a core and 19 MiB.
const MAX_HASHING: usize = 4;

/// A text that nobody is to see: a password, a code, a secret.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Secret;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
        }
        // What is no text is not quoted in the refusal: it may be the secret, in the wrong shape.
        from.deserialize_str(Text).map_err(|_| serde::de::Error::custom("this is to be a text"))
    }
}

impl Secret {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The session that a request is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// SHA-256 of its key.
    pub id: Digest,
    pub method: SignInMethod,
    pub expires_at: Timestamp,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRules {
    /// From its start: 1 minute to 24 hours.
    pub absolute_ms: i64,
    /// Without a request: at least 1 minute.
    pub idle_ms: i64,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self { absolute_ms: 8 * 3_600_000, idle_ms: 3_600_000 }
    }
}

/// What signing in needs besides the store.
pub(crate) struct Desk {
    hashing: Arc<tokio::sync::Semaphore>,
    waiting: AtomicUsize,
    absolute_ms: AtomicI64,
    idle_ms: AtomicI64,
    /// Sessions that this node has seen.
    seen: Mutex<HashMap<Digest, session::Seen>>,
    /// Failures at tenants and members that there are not.
    strangers: attempts::Strangers,
    begins: attempts::Begins,
    http: oidc::Http,
}

impl Default for Desk {
    fn default() -> Self {
        let rules = SessionRules::default();
        Self {
            hashing: Arc::new(tokio::sync::Semaphore::new(MAX_HASHING)),
            waiting: AtomicUsize::new(0),
            absolute_ms: AtomicI64::new(rules.absolute_ms),
            idle_ms: AtomicI64::new(rules.idle_ms),
            seen: Mutex::default(),
            strangers: attempts::Strangers::default(),
            begins: attempts::Begins::default(),
            http: oidc::Http::default(),
        }
    }
}

/// What is to go down together.
#[derive(Clone, Default)]
pub(crate) struct Record {
    pub events: Vec<Event>,
    pub reads: Vec<(Box<str>, u64)>,
    pub writes: Vec<Write>,
}

pub(crate) fn put(key: impl Into<Box<str>>, value: impl Into<Vec<u8>>, expires_at: Option<Timestamp>) -> Write {
    Write::Put { key: key.into(), value: value.into(), expires_at }
}
pub(crate) fn delete(key: impl Into<Box<str>>) -> Write {
    Write::Delete { key: key.into() }
}
fn version(fact: Option<&Fact>) -> u64 {
    fact.map_or(0, |f| f.version)
}

/// What every failure says.
fn failed() -> RuntimeError {
    Code::SignInFailed.into()
}

impl Runtime {
    /// How long sessions last from here on. Bounds are kept to.
    pub fn limit_sessions(&self, rules: SessionRules) {
        let absolute = rules.absolute_ms.clamp(60_000, 24 * 3_600_000);
        self.desk.absolute_ms.store(absolute, Ordering::Relaxed);
        self.desk.idle_ms.store(rules.idle_ms.clamp(60_000, absolute), Ordering::Relaxed);
    }
    pub(crate) fn session_rules(&self) -> SessionRules {
        SessionRules {
            absolute_ms: self.desk.absolute_ms.load(Ordering::Relaxed),
            idle_ms: self.desk.idle_ms.load(Ordering::Relaxed),
        }
    }

    /// Commits what was made on a state. `None`: something has changed, and it is to be made again.
    pub(crate) async fn try_record(
        &self,
        tenant: &Arc<Tenant>,
        folded: &Folded,
        now: Timestamp,
        record: Record,
    ) -> Result<Option<u64>, RuntimeError> {
        let mut tried = State::clone(&folded.state);
        for event in record.events.iter().filter(|e| e.kind().is_control()) {
            tried.apply(u64::MAX, event)?;
        }
        let control = record.events.iter().any(|e| e.kind().is_control());
        let commit = Commit {
            tenant: tenant.id.clone(),
            now,
            // What is of no state, a failure that is counted say, waits for no change of state.
            control_version: (!record.events.is_empty()).then_some(folded.state.control),
            reads: record.reads,
            writes: record.writes,
            entries: record.events.iter().map(entry_of).collect::<Result<_, _>>()?,
        };
        let (follower, of) = (self.follower.clone(), Arc::clone(tenant));
        // From here on it does not depend on being waited for.
        let committed = tokio::spawn(async move {
            let committed = follower.commit_here(commit).await?;
            let followed = if control { follower.follow(&of).await } else { Ok(()) };
            Ok::<_, StoreError>((committed.first_index, followed))
        });
        match committed.await.map_err(RuntimeError::internal)? {
            Ok((first, followed)) => {
                followed?;
                Ok(Some(first))
            }
            Err(StoreError::Conflict(Conflict::Late { head })) => {
                self.saw(head);
                Ok(None)
            }
            Err(StoreError::Conflict(Conflict::Control { .. } | Conflict::Fact { .. })) => {
                self.follow(tenant).await?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn fact(&self, tenant: &Tenant, key: &str) -> Result<Option<Fact>, RuntimeError> {
        Ok(self.store().fact_now(&tenant.id, key)?)
    }

    /// Seals something for one tenant, purpose and owner.
    pub(crate) fn seal(
        &self,
        tenant: &Tenant,
        purpose: &str,
        of: &str,
        what: &impl Serialize,
    ) -> Result<Vec<u8>, RuntimeError> {
        let clear = Zeroizing::new(serde_json::to_vec(what).map_err(RuntimeError::internal)?);
        let context = format!("{}/{of}", tenant.id);
        let sealed = self.root_key().seal(purpose, &context, &clear, self.rng()).map_err(RuntimeError::internal)?;
        Ok(sealed.into_bytes())
    }
    pub(crate) fn unseal<T: DeserializeOwned>(
        &self,
        tenant: &Tenant,
        purpose: &str,
        of: &str,
        fact: &Fact,
    ) -> Result<T, RuntimeError> {
        let text = String::from_utf8_lossy(&fact.value);
        let context = format!("{}/{of}", tenant.id);
        let clear = self.root_key().open(purpose, &context, &text);
        let clear = clear.map_err(|e| RuntimeError::new(Code::KeySealed, e.to_string()))?;
        // What does not read is not quoted: it is a secret.
        serde_json::from_slice(&clear).map_err(|_| RuntimeError::internal("a sealed fact does not read"))
    }
}

/// Where a request comes from, as failures are counted: of IPv6 what one customer has.
fn place(from: Option<IpAddr>) -> String {
    match from.map(|a| a.to_canonical()) {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(a)) => a.to_string(),
        Some(IpAddr::V6(a)) => {
            let [a, b, c, d, ..] = a.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// The member that a text names. What is no member's name is nobody.
fn named(text: &str) -> Option<MemberId> {
    MemberId::new(text).ok()
}

/// What changes how a text looks, or does not look at all.
pub(crate) fn unsafe_in_text(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '<' | '>')
}

/// What people are called is shown to others, in terminals and pages: nothing else hides in it.
pub(crate) fn plain(at: &str, text: Option<&str>) -> Result<(), RuntimeError> {
    let good = |t: &str| !t.is_empty() && t.len() <= 256 && !t.chars().any(unsafe_in_text);
    if text.is_none_or(good) {
        return Ok(());
    }
    Err(RuntimeError::at(Code::TextUnsafe, at, "1 to 256 bytes, without markup and without what cannot be seen"))
}
