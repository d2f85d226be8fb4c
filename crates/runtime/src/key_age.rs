//! How old signing keys are, and when policy has them rotated.
//!
//! A signing key does not expire: nothing refuses a token because its key is old. What there is instead
//! is a policy of whoever operates the server, the age at which an active key is to have a successor.
//! Metrics, health and readiness tell how far off that is; rotating is a command of a person's.

use std::sync::atomic::Ordering;

use intended_engine::{Key, KeyStatus};
use intended_model::{Code, EnvironmentId, Timestamp};

use crate::{Runtime, RuntimeError, Tenant};

/// The age at which an active signing key is to have a successor, unless it is said otherwise.
pub const DEFAULT_KEY_DAYS: u32 = 90;

/// From two weeks before on it is worth saying, as the alert does; with a short policy from a sixth of it.
const NEAR_DAYS: i64 = 14;
const NEAR_PART: i64 = 6;
const DAY_SECS: i64 = 86_400;

/// An environment's active signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAge {
    pub kid: Box<str>,
    /// The time of its ledger entry.
    pub made: Timestamp,
    /// When policy has it rotated; `None` without such a policy.
    pub due: Option<Timestamp>,
    /// From when on that is near.
    near: Option<Timestamp>,
}

/// How far off the rotation of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rotation {
    /// There is time, or nothing says when.
    Fine,
    Near,
    Overdue,
}

impl Rotation {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Near => "near",
            Self::Overdue => "overdue",
        }
    }
}

impl KeyAge {
    #[must_use]
    pub fn days(&self, now: Timestamp) -> i64 {
        now.millis_since(self.made).max(0) / (DAY_SECS * 1000)
    }
    #[must_use]
    pub fn rotation(&self, now: Timestamp) -> Rotation {
        match (self.due, self.near) {
            (Some(due), _) if now >= due => Rotation::Overdue,
            (_, Some(near)) if now >= near => Rotation::Near,
            _ => Rotation::Fine,
        }
    }
}

impl Runtime {
    /// Sets the age, in days, at which an active signing key is to have a successor; 0 for no such policy.
    pub fn rotate_keys_within(&self, days: u32) {
        self.key_days.store(days, Ordering::Relaxed);
    }

    /// How old an environment's active signing key is; `None` where there is none.
    pub async fn key_age(&self, tenant: &Tenant, environment: &EnvironmentId) -> Result<Option<KeyAge>, RuntimeError> {
        let state = tenant.state();
        let keys = state.environments.get(environment).map(|e| e.keys.as_slice()).unwrap_or_default();
        let Some(active) = keys.iter().find(|k| k.status == KeyStatus::Active) else { return Ok(None) };
        self.age_of(tenant, active).await.map(Some)
    }

    /// How old a signing key of a tenant's is.
    pub async fn age_of(&self, tenant: &Tenant, key: &Key) -> Result<KeyAge, RuntimeError> {
        let entry = self.store().entry(&tenant.id, key.added).await?;
        let made = entry.ok_or_else(|| RuntimeError::new(Code::StoreCorrupt, "the entry of a key is missing"))?.at;
        let secs = i64::from(self.key_days.load(Ordering::Relaxed)) * DAY_SECS;
        let after = |secs: i64| (secs > 0).then(|| made.plus_secs(secs));
        let near = after(secs - (NEAR_DAYS * DAY_SECS).min(secs / NEAR_PART));
        Ok(KeyAge { kid: key.kid.clone(), made, due: after(secs), near })
    }
}
