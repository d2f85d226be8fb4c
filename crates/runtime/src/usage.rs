//! When each credential was last used, and what for.
//!
//! That is counted in memory, on the way of every request, so it is two relaxed atomics and no lock.
//! Every [`FLUSH_MS`] and at the end it goes down as facts: a restart loses at most the last half
//! minute. It is an observation for people who review access; nothing is decided by it, and no ledger
//! says it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use intended_engine::keys;
use intended_model::entry::{Scope, Scopes};
use intended_model::{CredentialId, Timestamp};
use intended_store::{Commit, Store, Write};
use serde::{Deserialize, Serialize};

use crate::{Runtime, RuntimeError, Tenant, rate};

/// How often what was counted is written down.
pub const FLUSH_MS: i64 = 30_000;
/// How many facts one read or commit takes.
const PAGE: usize = 512;
/// Nobody has used it.
const NEVER: i64 = i64::MIN;

/// What a credential was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub last_used: Option<Timestamp>,
    /// Those that it had, and that something was done with.
    pub scopes: Scopes,
}

/// What is counted of one credential, whichever of its keys is used.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) bucket: rate::Bucket,
    last_used: AtomicI64,
    scopes: AtomicU32,
    /// The time that was written down.
    flushed: AtomicI64,
    flushed_scopes: AtomicU32,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            bucket: rate::Bucket::default(),
            last_used: AtomicI64::new(NEVER),
            scopes: AtomicU32::new(0),
            flushed: AtomicI64::new(NEVER),
            flushed_scopes: AtomicU32::new(0),
        }
    }
}

const fn bit(scope: Scope) -> u32 {
    1 << scope as u32
}

fn scopes_of(bits: u32) -> Scopes {
    Scope::ALL.iter().copied().filter(|s| bits & bit(*s) != 0).collect()
}

impl Meter {
    /// Somebody came with it.
    pub(crate) fn seen(&self, at: Timestamp) {
        let at = at.as_millis();
        // Nothing is written where nothing changes: cores do not fight for it.
        if self.last_used.load(Ordering::Relaxed) < at {
            self.last_used.fetch_max(at, Ordering::Relaxed);
        }
    }
    /// Something was asked for that takes this scope, and the caller has it.
    pub(crate) fn used(&self, scope: Scope) {
        if self.scopes.load(Ordering::Relaxed) & bit(scope) == 0 {
            self.scopes.fetch_or(bit(scope), Ordering::Relaxed);
        }
    }
    fn usage(&self) -> Usage {
        let at = self.last_used.load(Ordering::Relaxed);
        Usage {
            last_used: (at != NEVER).then(|| Timestamp::from_millis(at)),
            scopes: scopes_of(self.scopes.load(Ordering::Relaxed)),
        }
    }
    /// Takes in what was written down, here before a restart or by another node.
    fn add(&self, kept: &Kept) {
        self.last_used.fetch_max(kept.last_used.as_millis(), Ordering::Relaxed);
        self.scopes.fetch_or(kept.scopes.iter().fold(0, |all, s| all | bit(*s)), Ordering::Relaxed);
    }
    fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Relaxed) == self.last_used.load(Ordering::Relaxed)
            && self.flushed_scopes.load(Ordering::Relaxed) == self.scopes.load(Ordering::Relaxed)
    }
}

/// The meters of a tenant's credentials.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    all: RwLock<HashMap<CredentialId, Arc<Meter>>>,
    /// When they were last written down.
    flushed_at: AtomicI64,
}

impl Meters {
    /// The meter of a credential, from its first use on.
    pub(crate) fn of(&self, credential: &CredentialId) -> Arc<Meter> {
        if let Some(known) = self.all.read().unwrap_or_else(PoisonError::into_inner).get(credential) {
            return Arc::clone(known);
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(credential.clone()).or_default())
    }

    /// What was written down before.
    pub(crate) async fn load(&self, store: &dyn Store, tenant: &intended_model::TenantId) -> Result<(), RuntimeError> {
        let mut after = String::new();
        loop {
            let page = store.facts(tenant, keys::USAGE_PREFIX, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = last.to_string();
            for (key, fact) in &page {
                let named = key.strip_prefix(keys::USAGE_PREFIX).and_then(|name| CredentialId::new(name).ok());
                // What cannot be read was never counted; no request fails for it.
                let kept = serde_json::from_slice::<Kept>(&fact.value);
                let (Some(credential), Ok(kept)) = (named, kept) else { continue };
                let meter = self.of(&credential);
                meter.add(&kept);
                meter.flushed.store(meter.last_used.load(Ordering::Relaxed), Ordering::Relaxed);
                meter.flushed_scopes.store(meter.scopes.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

/// How a usage is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    last_used: Timestamp,
    scopes: Vec<Scope>,
}

impl Runtime {
    /// When a credential was last used, and what for. What members who are signed in do is counted
    /// under the id that the ledger has for them.
    #[must_use]
    pub fn usage(&self, tenant: &Tenant, credential: &CredentialId) -> Usage {
        let all = tenant.meters.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(credential).map(|m| m.usage()).unwrap_or_default()
    }

    /// Writes down what was counted of every tenant where that is due; `now`: of every tenant.
    pub async fn flush_usage(&self, now: bool) -> Result<(), RuntimeError> {
        for tenant in self.tenants() {
            self.flush_usage_if_due(&tenant, now).await?;
        }
        Ok(())
    }

    pub(crate) async fn flush_usage_if_due(&self, tenant: &Tenant, now: bool) -> Result<(), RuntimeError> {
        let (at, before) = (self.now().as_millis(), tenant.meters.flushed_at.load(Ordering::Relaxed));
        if now || at.saturating_sub(before) >= FLUSH_MS {
            tenant.meters.flushed_at.store(at, Ordering::Relaxed);
            self.flush_usage_of(tenant).await?;
        }
        Ok(())
    }

    async fn flush_usage_of(&self, tenant: &Tenant) -> Result<(), RuntimeError> {
        let due: Vec<(CredentialId, Arc<Meter>)> = {
            let all = tenant.meters.all.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter(|(_, m)| !m.is_flushed()).map(|(c, m)| (c.clone(), Arc::clone(m))).collect()
        };
        for part in due.chunks(PAGE) {
            let mut writes = Vec::with_capacity(part.len());
            let mut written = Vec::with_capacity(part.len());
            for (credential, meter) in part {
                let key = keys::usage(credential);
                // Another node may have seen more.
                if let Some(fact) = self.store().fact_now(&tenant.id, &key)?
                    && let Ok(kept) = serde_json::from_slice::<Kept>(&fact.value)
                {
                    meter.add(&kept);
                }
                let bits = meter.scopes.load(Ordering::Relaxed);
                let at = meter.last_used.load(Ordering::Relaxed);
                if at == NEVER {
                    continue;
                }
                let kept = Kept { last_used: Timestamp::from_millis(at), scopes: scopes_of(bits).iter().collect() };
                let value = serde_json::to_vec(&kept).map_err(RuntimeError::internal)?;
                writes.push(Write::Put { key: key.into(), value, expires_at: None });
                written.push((meter, at, bits));
            }
            let commit = Commit {
                tenant: tenant.id.clone(),
                now: self.now(),
                control_version: None,
                reads: Vec::new(),
                writes,
                entries: Vec::new(),
            };
            self.follower.commit(commit).await?;
            for (meter, at, bits) in written {
                meter.flushed.store(at, Ordering::Relaxed);
                meter.flushed_scopes.store(bits, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_keeps_the_latest_time_and_every_scope() {
        let meter = Meter::default();
        assert_eq!(meter.usage(), Usage::default());
        for at in [5, 9, 7] {
            meter.seen(Timestamp::from_millis(at));
        }
        meter.used(Scope::IntentSubmit);
        meter.used(Scope::ReviewSign);
        let usage = meter.usage();
        assert_eq!(usage.last_used, Some(Timestamp::from_millis(9)));
        assert_eq!(usage.scopes, Scopes::of(&[Scope::IntentSubmit, Scope::ReviewSign]));
        assert!(!meter.is_flushed());
    }
}
