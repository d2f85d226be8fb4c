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
//!
//! Decisions wait for a window only while it is copied. It is made a text of and written after that, by
//! as much as one commit may have; and where a write fails, the next waits longer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use intended_engine::breakers::Instance;
use intended_engine::{State, keys};
use intended_model::{Name, Timestamp};
use intended_store::{Commit, Write};

use super::Monitor;
use super::written::{Block, Kept, assembled};
use crate::{Runtime, RuntimeError, Tenant};

/// How often.
const EVERY_MS: i64 = 5_000;
/// How long at most until it is tried again after it has failed.
const LONGEST_MS: i64 = 60_000;
/// What was recorded so long ago is in memory. A commit takes no longer than its deadline, or nothing
/// goes ahead.
pub const LAG_MS: i64 = 20_000;
/// How long it is kept beyond what the window looks back.
const MARGIN_MS: i64 = 3_600_000;
/// How many writes one commit has, and how many bytes.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 512 << 10;
const PAGE: usize = 500;

/// What is written down of one tenant, and when that is done next.
#[derive(Debug, Default)]
pub struct Keeping {
    /// The name of this run.
    run: Box<str>,
    due: i64,
    /// How often in a row it has failed.
    failures: u32,
    /// Whether this run's own is complete.
    complete: bool,
    /// Whether the last time ended before everything of it was durable: what is written is not known.
    unsure: bool,
    /// The runs before this one, which are removed when its own is complete.
    before: Vec<Box<str>>,
}

/// What was forgotten and is being removed. Until that is durable it is put back when this is let go,
/// whatever ends it.
struct Forgotten<'a> {
    monitor: &'a Monitor,
    taken: BTreeSet<Instance>,
}

impl<'a> Forgotten<'a> {
    fn take(monitor: &'a Monitor) -> Self {
        let taken = std::mem::take(&mut *monitor.forgotten.lock().unwrap_or_else(PoisonError::into_inner));
        Self { monitor, taken }
    }
    fn removed(mut self) {
        self.taken.clear();
    }
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        self.monitor.forgotten.lock().unwrap_or_else(PoisonError::into_inner).extend(taken);
    }
}

/// What is read of one window.
#[derive(Default)]
struct Pieces {
    head: Option<Kept>,
    blocks: Vec<Block>,
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
        let mut found: HashMap<(Box<str>, Name, Box<str>), Pieces> = HashMap::new();
        let (mut after, mut unreadable) = (String::new(), false);
        loop {
            let page = store.facts(&tenant.id, keys::WINDOWS_PREFIX, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            for (key, fact) in page {
                let mut parts = key.strip_prefix(keys::WINDOWS_PREFIX).unwrap_or_default().split('/');
                let (Some(run), Some(Ok(breaker)), Some(target)) =
                    (parts.next(), parts.next().map(Name::new), parts.next())
                else {
                    continue;
                };
                if !runs.contains_key(run) {
                    continue;
                }
                let pieces = found.entry((run.into(), breaker, target.into())).or_default();
                let read = match parts.next() {
                    None => serde_json::from_slice(&fact.value).map(|head| pieces.head = Some(head)),
                    Some(_) => serde_json::from_slice(&fact.value).map(|block| pieces.blocks.push(block)),
                };
                unreadable |= read.is_err();
            }
        }
        let mut best: BTreeMap<(Name, Box<str>), Kept> = BTreeMap::new();
        for ((run, breaker, _), Pieces { head, blocks }) in found {
            // Blocks without a head: then no window was complete, and the ledger says what is in them.
            let Some(mut kept) = head.map(|head| assembled(head, blocks)) else { continue };
            // It has seen nothing more up to when all of them were complete, or it would be there.
            kept.until = kept.until.max(runs.get(&run).copied().unwrap_or(kept.until));
            let place = (breaker, kept.target.clone());
            if best.get(&place).is_none_or(|other| (other.weight(), other.until) < (kept.weight(), kept.until)) {
                best.insert(place, kept);
            }
        }
        keeping.before = runs.keys().cloned().collect();
        let mut from: Option<i64> = runs.values().copied().max();
        for ((breaker, _), kept) in &best {
            if tenant.breakers.recall(state, breaker, kept) {
                from = Some(from.map_or(kept.until, |from| from.min(kept.until)));
            }
        }
        // What cannot be read the ledger has to say.
        Ok(from.filter(|_| !unreadable))
    }

    /// Writes down what breakers have seen, if it is time to.
    pub(crate) async fn keep_windows(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        let mut keeping = tenant.breakers.keeping.lock().await;
        let now = self.now();
        if now.as_millis() < keeping.due {
            return Ok(());
        }
        // Before anything can fail: a store that takes nothing is not asked each second.
        let wait = EVERY_MS << keeping.failures.min(8);
        keeping.due = now.as_millis().saturating_add(wait.min(LONGEST_MS));
        keeping.failures = keeping.failures.saturating_add(1);
        self.keep_all(tenant, &mut keeping, now).await?;
        keeping.failures = 0;
        keeping.due = now.as_millis().saturating_add(EVERY_MS);
        Ok(())
    }

    async fn keep_all(&self, tenant: &Arc<Tenant>, keeping: &mut Keeping, now: Timestamp) -> Result<(), RuntimeError> {
        let (state, monitor) = (tenant.state(), &tenant.breakers);
        let until = (now.as_millis() - LAG_MS).div_euclid(1000) * 1000;
        let complete = keys::windows_until(&keeping.run);
        // Another server took it for what is left of one that is gone, or it was too long ago.
        let lost = keeping.complete && self.store().fact_now(&tenant.id, &complete)?.is_none();
        if std::mem::replace(&mut keeping.unsure, true) || lost {
            monitor.unkeep(&state, |_, _| true);
        }
        let forgotten = Forgotten::take(monitor);
        let mut pen = Pen { runtime: self, tenant, now, batch: Vec::new(), bytes: 0 };
        for instance in &forgotten.taken {
            let mut under = keys::windows_of(&keeping.run, &instance.breaker);
            let each = state.breakers.defined.get(&instance.breaker).is_none_or(|b| b.on.is_each());
            if instance.target.is_some() || !each {
                let target = instance.target.as_deref().unwrap_or_default();
                under = keys::window(&keeping.run, &instance.breaker, target);
            }
            pen.remove_under(&under).await?;
            // What has begun anew since is not what is removed.
            let of = |target: &str| instance.target.as_deref().is_none_or(|t| t == target);
            monitor.unkeep(&state, |name, target| *name == instance.breaker && of(target));
        }
        let (any, unkept) = monitor.unkept(&state, until);
        for (name, target) in &unkept {
            let Some((written, reach)) = monitor.keep(&state, name, target, until) else { continue };
            let key = keys::window(&keeping.run, name, target);
            let expires_at = Some(now.plus_millis(reach + MARGIN_MS));
            for (part, block) in written.named() {
                let value = serde_json::to_vec(block).map_err(RuntimeError::internal)?;
                pen.write(Write::Put { key: keys::window_part(&key, &part).into(), value, expires_at }).await?;
            }
            // After its blocks: what they have of a later time is not taken without it.
            let value = serde_json::to_vec(&written.head).map_err(RuntimeError::internal)?;
            pen.write(Write::Put { key: key.into(), value, expires_at }).await?;
        }
        let says = any || !forgotten.taken.is_empty() || !keeping.before.is_empty();
        if says {
            let longest = Monitor::reach(&state);
            // Last: all the others are there by then.
            pen.write(Write::Put {
                key: complete.into(),
                value: until.to_string().into_bytes(),
                expires_at: Some(now.plus_millis(longest + MARGIN_MS)),
            })
            .await?;
        }
        pen.flush().await?;
        forgotten.removed();
        keeping.unsure = false;
        keeping.complete |= says;
        for run in &keeping.before {
            pen.write(Write::Delete { key: keys::windows_until(run).into() }).await?;
            pen.remove_under(&format!("{}{run}/", keys::WINDOWS_PREFIX)).await?;
        }
        pen.flush().await?;
        keeping.before.clear();
        Ok(())
    }
}

/// Writes in commits of a bounded size, in order.
struct Pen<'a> {
    runtime: &'a Runtime,
    tenant: &'a Tenant,
    now: Timestamp,
    batch: Vec<Write>,
    bytes: usize,
}

impl Pen<'_> {
    /// The removal of everything whose name begins so.
    async fn remove_under(&mut self, prefix: &str) -> Result<(), RuntimeError> {
        let mut after = String::new();
        loop {
            let page = self.runtime.store().facts(&self.tenant.id, prefix, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after.clone_from(last);
            for (key, _) in page {
                self.write(Write::Delete { key: key.into() }).await?;
            }
        }
    }

    async fn write(&mut self, write: Write) -> Result<(), RuntimeError> {
        let bytes = if let Write::Put { value, .. } = &write { value.len() } else { 0 };
        if self.batch.len() >= BATCH || self.bytes + bytes > BATCH_BYTES {
            self.flush().await?;
        }
        self.bytes += bytes;
        self.batch.push(write);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), RuntimeError> {
        self.bytes = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            tenant: self.tenant.id.clone(),
            now: self.now,
            control_version: None,
            reads: Vec::new(),
            writes: std::mem::take(&mut self.batch),
            entries: Vec::new(),
        };
        self.runtime.follower.commit(commit).await?;
        Ok(())
    }
}
