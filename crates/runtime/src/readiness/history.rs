//! The runs that were made, newest first: the last [`KEPT`] of each tenant, as facts. They are an
//! observation, as when a credential was last used is: no ledger says them, and nothing is decided by
//! them.
//!
//! A ring: a counter says how many runs there were, and run `n` stands in place `n` modulo [`KEPT`].
//! Both change in one commit that is fenced by the counter, so two nodes never write one place at once.

use std::sync::Arc;

use intended_engine::keys;
use intended_model::Code;
use intended_model::entry::Scope;
use intended_store::{Commit, Conflict, Fact, StoreError, Write};

use super::{PATIENCE, Run};
use crate::submit::MAX_ATTEMPTS;
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// How many runs of a tenant are kept.
pub const KEPT: u64 = 500;
/// Most runs on one page: each is some kilobytes.
pub const MAX_PAGE: usize = 100;

/// A page of runs, newest first.
#[derive(Debug, Default)]
pub struct Page {
    pub runs: Vec<Run>,
    /// Where to go on, if there may be more: runs before this number.
    pub before: Option<u64>,
}

fn count(fact: Option<&Fact>) -> u64 {
    fact.and_then(|f| std::str::from_utf8(&f.value).ok()).and_then(|t| t.parse().ok()).unwrap_or(0)
}

impl Runtime {
    /// Keeps a run, and says which it is.
    pub(super) async fn keep_run(&self, tenant: &Arc<Tenant>, mut run: Run) -> Result<u64, RuntimeError> {
        for _ in 0..MAX_ATTEMPTS {
            let (store, of) = (Arc::clone(&self.follower.store), tenant.id.clone());
            let known = tokio::task::spawn_blocking(move || store.fact_now(&of, keys::READINESS_COUNT)).await;
            let known = known.map_err(RuntimeError::internal)??;
            let number = count(known.as_ref()) + 1;
            run.run = Some(number);
            let put = |key: String, value: Vec<u8>| Write::Put { key: key.into(), value, expires_at: None };
            let commit = Commit {
                tenant: tenant.id.clone(),
                now: self.now(),
                control_version: None,
                reads: vec![(keys::READINESS_COUNT.into(), known.map_or(0, |f| f.version))],
                writes: vec![
                    put(keys::READINESS_COUNT.to_owned(), number.to_string().into_bytes()),
                    put(keys::readiness_run(number % KEPT), serde_json::to_vec(&run).map_err(RuntimeError::internal)?),
                ],
                entries: Vec::new(),
            };
            match self.follower.commit(commit).await {
                Ok(_) => return Ok(number),
                Err(StoreError::Conflict(Conflict::Late { head })) => self.saw(head),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// The runs before a number, newest first: those about environments that the caller sees all of.
    pub async fn readiness_history(
        &self,
        by: &Principal,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page, RuntimeError> {
        let by = by.clone().reading(Scope::StatusRead)?;
        let (store, tenant) = (Arc::clone(&self.follower.store), by.tenant.id.clone());
        let limit = limit.clamp(1, MAX_PAGE);
        // As many reads as runs that are looked at, up to `KEPT`: on a thread that may wait.
        let read = tokio::task::spawn_blocking(move || -> Result<Page, RuntimeError> {
            let made = count(store.fact_now(&tenant, keys::READINESS_COUNT)?.as_ref());
            let oldest = made.saturating_sub(KEPT) + 1;
            let mut page = Page::default();
            let mut at = before.map_or(made, |b| b.saturating_sub(1).min(made));
            while at >= oldest && at > 0 {
                let fact = store.fact_now(&tenant, &keys::readiness_run(at % KEPT))?;
                // One that a later release wrote, or that was written over meanwhile, is passed over.
                let run = fact.and_then(|f| serde_json::from_slice::<Run>(&f.value).ok());
                let run = run.filter(|r| r.run == Some(at) && sees(&by, r));
                if run.is_some() && page.runs.len() == limit {
                    page.before = Some(at + 1);
                    return Ok(page);
                }
                page.runs.extend(run);
                at -= 1;
            }
            Ok(page)
        });
        let read = tokio::time::timeout(PATIENCE, read).await.map_err(|_| Code::StoreUnavailable)?;
        read.map_err(RuntimeError::internal)?
    }
}

/// Whether all that a run is about is the caller's to see.
fn sees(by: &Principal, run: &Run) -> bool {
    (!run.whole || by.sees_all()) && run.environments.iter().all(|e| by.sees(e))
}
