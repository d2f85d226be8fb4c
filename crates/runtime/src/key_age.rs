//! How old signing keys are, and when policy has them rotated.
//!
//! A signing key does not expire: nothing refuses a token because its key is old. What there is instead
//! is a policy of whoever operates the server, the age at which an active key is to have a successor.
//! Metrics, health and readiness tell how far off that is; rotating is a command of a person's.

use std::sync::atomic::Ordering;

use intended_engine::KeyStatus;
use intended_model::{Code, EnvironmentId, Timestamp};

use crate::{Runtime, RuntimeError, Tenant};

/// The age at which an active signing key is to have a successor, unless it is said otherwise.
pub const DEFAULT_KEY_DAYS: u32 = 90;

/// An environment's active signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAge {
    pub kid: Box<str>,
    /// The time of its ledger entry.
    pub made: Timestamp,
    /// When policy has it rotated; `None` without such a policy.
    pub due: Option<Timestamp>,
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
        let entry = self.store().entry(&tenant.id, active.added).await?;
        let made = entry.ok_or_else(|| RuntimeError::new(Code::StoreCorrupt, "the entry of a key is missing"))?.at;
        let days = self.key_days.load(Ordering::Relaxed);
        let due = (days > 0).then(|| made.plus_secs(i64::from(days) * 86_400));
        Ok(Some(KeyAge { kid: active.kid.clone(), made, due }))
    }
}
