//! Which keys tokens are signed with, for people who rotate them.

use intended_model::EnvironmentId;
use serde::Serialize;

use crate::{Principal, Runtime, RuntimeError};

/// A key, without any half of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SigningKeyRow {
    pub environment: EnvironmentId,
    pub kid: Box<str>,
    pub alg: Box<str>,
    /// `active` signs, `previous` still verifies, `retired` does neither.
    pub status: &'static str,
    pub added_at: String,
    /// Ledger position of the entry that added it.
    pub index: u64,
}

impl SigningKeyRow {
    /// Its place in the list: by environment, newest first.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{} {:020}", self.environment, u64::MAX - self.index)
    }
}

impl Runtime {
    /// The keys of the environments that the caller sees.
    pub async fn signing_keys(&self, by: &Principal) -> Result<Vec<SigningKeyRow>, RuntimeError> {
        let state = by.tenant.state();
        let mut rows = Vec::new();
        for environment in state.environments.values().filter(|e| by.sees(&e.id)) {
            for key in environment.keys.iter().rev() {
                let entry = self.store().entry(&by.tenant.id, key.added).await?;
                rows.push(SigningKeyRow {
                    environment: environment.id.clone(),
                    kid: key.kid.clone(),
                    alg: key.alg.clone(),
                    status: key.status.as_str(),
                    added_at: entry.map(|e| e.at.to_string()).unwrap_or_default(),
                    index: key.added,
                });
            }
        }
        Ok(rows)
    }
}
