//! What breakers have seen, written down from time to time and read again when a server starts: the
//! windows of the time before that are too long ago to be read from the ledger entry by entry.
//!
//! A window is written down as the sums of what was recorded before some second, a little while ago, so
//! that nothing recorded before it is still on its way into memory. What was recorded from then on the
//! ledger says. So a restart adds the two, and neither forgets nor counts anything twice.
//!
//! Each run of a server keeps its own, by a name of its own: several over one store measure each what
//! they decide themselves. Who starts takes over, of each window, the one with the most in it, and
//! removes what was there before once its own is complete. A run that finds its own gone writes it anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};

use intended_engine::State;
use intended_engine::keys;
use intended_model::{Name, Timestamp};
use intended_store::{Commit, Write};

use super::window::{Kept, reach};
use crate::{Runtime, RuntimeError, Tenant};

/// How often.
const EVERY_MS: i64 = 5_000;
/// What was recorded so long ago is in memory. A commit takes no longer than its deadline, or nothing
/// goes ahead.
pub const LAG_MS: i64 = 20_000;
/// How long it is kept beyond what the window looks back.
const MARGIN_MS: i64 = 3_600_000;
/// How many writes one commit has, and how many bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 512 << 10;
const PAGE: usize = 500;

/// What is written down of one tenant, and when that was done last.
#[derive(Debug, Default)]
pub struct Keeping {
    /// The name of this run.
    run: Box<str>,
    at: i64,
    /// The runs before this one, which are removed when its own is complete.
    before: Vec<Box<str>>,
}

impl Runtime {
    /// Reads what was written down. The answer is from when on the ledger has to be read, where anything was.
    pub(super) async fn recall_windows(&self, tenant: &Tenant, state: &State) -> Result<Option<i64>, RuntimeError> {
        let mut keeping = tenant.breakers.keeping.lock().await;
        keeping.run = intended_model::digest::hex(&self.random::<8>()?).into();
        let store = self.store();
        let mut runs: HashMap<Box<str>, i64> = HashMap::new();
        for (key, fact) in store.facts(&tenant.id, keys::WINDOWS_UNTIL_PREFIX, "", PAGE).await? {
            let run = key.strip_prefix(keys::WINDOWS_UNTIL_PREFIX).unwrap_or_default();
            // What cannot be read is as if it were not there: then the ledger is all there is.
            if let Some(until) = std::str::from_utf8(&fact.value).ok().and_then(|t| t.parse().ok()) {
                runs.insert(run.into(), until);
            }
        }
        let mut best: BTreeMap<(Name, Box<str>), Kept> = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = store.facts(&tenant.id, keys::WINDOWS_PREFIX, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, fact) in page {
                let mut parts = key.strip_prefix(keys::WINDOWS_PREFIX).unwrap_or_default().split('/');
                let (Some(run), Some(Ok(breaker))) = (parts.next(), parts.next().map(Name::new)) else { continue };
                let (Some(until), Ok(mut kept)) = (runs.get(run), serde_json::from_slice::<Kept>(&fact.value)) else {
                    continue;
                };
                // It has seen nothing more up to when all of them were complete, or it would be there.
                kept.until = kept.until.max(*until);
                let place = (breaker, kept.target.clone());
                if best.get(&place).is_none_or(|other| (other.weight(), other.until) < (kept.weight(), kept.until)) {
                    best.insert(place, kept);
                }
            }
        }
        keeping.before = runs.keys().cloned().collect();
        let mut from: Option<i64> = runs.values().copied().max();
        for ((breaker, _), kept) in &best {
            if tenant.breakers.recall(state, breaker, kept) {
                from = Some(from.map_or(kept.until, |from| from.min(kept.until)));
            }
        }
        Ok(from)
    }

    /// Writes down what breakers have seen, if it is time to.
    pub(super) async fn keep_windows(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        let mut keeping = tenant.breakers.keeping.lock().await;
        let now = self.now();
        if now.as_millis() < keeping.at.saturating_add(EVERY_MS) {
            return Ok(());
        }
        let state = tenant.state();
        let until = (now.as_millis() - LAG_MS).div_euclid(1000) * 1000;
        let complete = keys::windows_until(&keeping.run);
        if keeping.at > 0 && keeping.before.is_empty() && self.store().fact_now(&tenant.id, &complete)?.is_none() {
            // Another server took it for what is left of one that is gone, or it was too long ago.
            tenant.breakers.each(&state, |_, _, _, window| window.unkeep());
        }
        let mut writes = self.forgotten(tenant, &state, &keeping.run).await?;
        let (mut failed, mut any) = (None, false);
        tenant.breakers.each(&state, |name, breaker, target, window| {
            any = true;
            if !window.is_unkept(until) {
                return;
            }
            let kept = window.keep(target, until);
            match serde_json::to_vec(&kept) {
                Ok(value) => writes.push(Write::Put {
                    key: keys::window(&keeping.run, name, target).into(),
                    value,
                    expires_at: Some(now.plus_millis(reach(breaker.rules.window) + MARGIN_MS)),
                }),
                Err(error) => failed = Some(error),
            }
        });
        if let Some(error) = failed {
            return Err(RuntimeError::internal(error));
        }
        if any || !writes.is_empty() || !keeping.before.is_empty() {
            let longest = super::Monitor::reach(&state);
            // Last: all the others are there by then.
            writes.push(Write::Put {
                key: complete.into(),
                value: until.to_string().into_bytes(),
                expires_at: Some(now.plus_millis(longest + MARGIN_MS)),
            });
        }
        let written = self.write_windows(tenant, now, writes).await;
        if written.is_err() {
            // What of it is written is not known: all of it is, again.
            tenant.breakers.each(&state, |_, _, _, window| window.unkeep());
            return written;
        }
        keeping.at = now.as_millis();
        let before = std::mem::take(&mut keeping.before);
        let mut gone = Vec::new();
        for run in &before {
            gone.push(Write::Delete { key: keys::windows_until(run).into() });
            gone.extend(self.windows_under(tenant, &format!("{}{run}/", keys::WINDOWS_PREFIX)).await?);
        }
        self.write_windows(tenant, now, gone).await
    }

    /// The removal of what is written down of windows that were emptied since.
    async fn forgotten(&self, tenant: &Tenant, state: &State, run: &str) -> Result<Vec<Write>, RuntimeError> {
        let forgotten = std::mem::take(&mut *tenant.breakers.forgotten.lock().unwrap_or_else(PoisonError::into_inner));
        let mut gone = Vec::new();
        for instance in forgotten {
            let each = state.breakers.defined.get(&instance.breaker).is_none_or(|b| b.on.is_each());
            match instance.target {
                None if each => {
                    gone.extend(self.windows_under(tenant, &keys::windows_of(run, &instance.breaker)).await?)
                }
                target => {
                    let key = keys::window(run, &instance.breaker, target.as_deref().unwrap_or_default());
                    gone.push(Write::Delete { key: key.into() });
                }
            }
        }
        Ok(gone)
    }

    /// The removal of everything under a name.
    async fn windows_under(&self, tenant: &Tenant, prefix: &str) -> Result<Vec<Write>, RuntimeError> {
        let (mut gone, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.store().facts(&tenant.id, prefix, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(gone) };
            after.clone_from(last);
            gone.extend(page.into_iter().map(|(key, _)| Write::Delete { key: key.into() }));
        }
    }

    async fn write_windows(&self, tenant: &Tenant, now: Timestamp, writes: Vec<Write>) -> Result<(), RuntimeError> {
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while batch.len() < BATCH
                && bytes < BATCH_BYTES
                && let Some(write) = writes.next()
            {
                bytes += if let Write::Put { value, .. } = &write { value.len() } else { 0 };
                batch.push(write);
            }
            let commit = Commit {
                tenant: tenant.id.clone(),
                now,
                control_version: None,
                reads: Vec::new(),
                writes: batch,
                entries: Vec::new(),
            };
            self.follower.commit(commit).await?;
        }
        Ok(())
    }
}
