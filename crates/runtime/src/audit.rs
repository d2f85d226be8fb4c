//! Reading the ledger: entries, decisions, proofs, receipts, exports, and deciding again.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use intended_engine::{State, Version, decide, keys};
use intended_ledger::{ExportHeader, NodeHash};
use intended_model::decision::{Decision, DecisionRecord, Outcome};
use intended_model::entry::Scope;
use intended_model::{Code, Digest, Event, IntentId, Kind};
use intended_store::{Commit, StoredEntry, TreeHead, Write};
use tokio::sync::OwnedSemaphorePermit;

use crate::tenant::event_of;
use crate::{Decided, Principal, Runtime, RuntimeError, Tenant};

/// Most entries on one page.
pub const MAX_PAGE: usize = 500;
/// Most entries one query looks at before it hands back a cursor: a bound on work, not on results.
pub const MAX_SCAN: usize = 20_000;
/// And most bytes of them.
pub const MAX_SCAN_BYTES: usize = 32 << 20;

/// What to look for in the ledger. Everything given must match.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub kind: Option<Kind>,
    pub agent: Option<String>,
    pub tool: Option<String>,
    pub decision: Option<Outcome>,
    pub reason: Option<Code>,
    pub environment: Option<String>,
    /// Milliseconds; inclusive.
    pub since: Option<i64>,
    /// Milliseconds; exclusive.
    pub until: Option<i64>,
    /// Entries before this index; absent: from the newest.
    pub before: Option<u64>,
    pub limit: usize,
}

/// A page of entries, newest first.
#[derive(Debug)]
pub struct Page {
    pub entries: Vec<(StoredEntry, Event)>,
    /// Where to go on, if there may be more.
    pub before: Option<u64>,
}

/// A decision made again from the ledger.
#[derive(Debug)]
pub struct Replay {
    pub recorded: Decision,
    pub again: Decision,
    pub same: bool,
}

impl Runtime {
    /// The head of the tenant's ledger with a signed checkpoint for it.
    pub async fn head(&self, tenant: &Tenant) -> Result<(Arc<TreeHead>, Arc<str>), RuntimeError> {
        let head = Arc::new(self.store().head(&tenant.id).await?);
        let note = tenant.checkpoint(&head)?;
        Ok((head, note))
    }

    /// Keeps the current checkpoint as a fact, so that later ones can be held against it (I6). Of
    /// each hour the last one stays, and the newest always: an export carries all that are kept.
    pub async fn save_checkpoint(&self, tenant: &Tenant) -> Result<(), RuntimeError> {
        let (head, note) = self.head(tenant).await?;
        let now = self.now();
        let hour = now.as_secs().div_euclid(3_600);
        let before = *tenant.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writes = Vec::with_capacity(3);
        if let Some((size, _)) = before.filter(|(size, kept)| *kept == hour && *size < head.size) {
            writes.push(Write::Delete { key: keys::checkpoint(size).into() });
        }
        writes.push(Write::Put {
            key: keys::checkpoint(head.size).into(),
            value: note.as_bytes().to_vec(),
            expires_at: None,
        });
        writes.push(Write::Put {
            key: keys::CONTROL_COUNT.into(),
            value: tenant.control_count(&head).into_bytes(),
            expires_at: None,
        });
        let commit = Commit {
            tenant: tenant.id.clone(),
            now,
            control_version: None,
            reads: Vec::new(),
            writes,
            entries: Vec::new(),
        };
        self.store().commit(commit).await?;
        *tenant.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((head.size, hour));
        Ok(())
    }

    /// All kept checkpoints, oldest first.
    pub async fn checkpoints(&self, tenant: &Tenant) -> Result<Vec<String>, RuntimeError> {
        let mut out = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.store().facts(&tenant.id, keys::CHECKPOINT_PREFIX, &after, 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(out) };
            after = last.to_string();
            out.extend(page.iter().map(|(_, f)| String::from_utf8_lossy(&f.value).into_owned()));
        }
    }

    /// A recorded decision with its receipt against the current head.
    pub async fn decision(&self, principal: &Principal, id: &IntentId) -> Result<Option<Decided>, RuntimeError> {
        let tenant = &principal.tenant;
        for entry in self.store().entries_of(&tenant.id, *id.as_bytes()).await? {
            if let Event::Decision(record) = event_of(&entry.leaf)? {
                if !principal.environments.contains(&record.input.intent.environment) {
                    return Ok(None);
                }
                let (head, checkpoint) = self.head(tenant).await?;
                let proof = self.store().inclusion_proof(&tenant.id, entry.index, head.size).await?;
                return Ok(Some(Decided {
                    index: entry.index,
                    recorded_at: entry.at,
                    leaf: entry.leaf,
                    proof,
                    head,
                    checkpoint,
                    token: None,
                    record,
                    replayed: false,
                }));
            }
        }
        Ok(None)
    }

    /// Everything the ledger says about one intent, in order.
    pub async fn evidence(
        &self,
        principal: &Principal,
        id: &IntentId,
    ) -> Result<Vec<(StoredEntry, Event)>, RuntimeError> {
        let entries = self.store().entries_of(&principal.tenant.id, *id.as_bytes()).await?;
        entries.into_iter().map(|e| event_of(&e.leaf).map(|event| (e, event))).collect()
    }

    /// Looks through the ledger, newest first.
    pub async fn query(&self, principal: &Principal, query: &Query) -> Result<Page, RuntimeError> {
        let tenant = &principal.tenant;
        let limit = query.limit.clamp(1, MAX_PAGE);
        let mut before = match query.before {
            Some(before) => before,
            None => self.store().head(&tenant.id).await?.size,
        };
        let mut entries = Vec::new();
        let (mut scanned, mut bytes) = (0, 0);
        while before > 0 && scanned < MAX_SCAN && bytes < MAX_SCAN_BYTES {
            // Reading a page takes some milliseconds: others come in between.
            tokio::task::yield_now().await;
            let page = self.store().entries_before(&tenant.id, before, MAX_PAGE).await?;
            let Some(oldest) = page.last() else { break };
            let oldest = oldest.index;
            for entry in page {
                scanned += 1;
                bytes += entry.leaf.len();
                before = entry.index;
                if query.since.is_some_and(|since| entry.at.as_millis() < since) {
                    return Ok(Page { entries, before: None });
                }
                let event = event_of(&entry.leaf)?;
                if matches(query, principal, &entry, &event) {
                    entries.push((entry, event));
                    if entries.len() == limit {
                        return Ok(Page { entries, before: (before > 0).then_some(before) });
                    }
                }
            }
            before = oldest;
        }
        Ok(Page { entries, before: (before > 0).then_some(before) })
    }

    /// Inclusion of an entry in the tree of `size`. What a credential may not find it cannot have
    /// proved either: the proof comes with the entry.
    pub async fn inclusion(
        &self,
        principal: &Principal,
        index: u64,
        size: u64,
    ) -> Result<(StoredEntry, Vec<NodeHash>), RuntimeError> {
        let tenant = &principal.tenant.id;
        let head = self.store().head(tenant).await?;
        if size > head.size || index >= size {
            return Err(RuntimeError::new(Code::NotFound, format!("the ledger has {} entries", head.size)));
        }
        let entry = self.store().entry(tenant, index).await?.ok_or(Code::NotFound)?;
        if !visible(principal, &event_of(&entry.leaf)?) {
            return Err(Code::NotFound.into());
        }
        let proof = self.store().inclusion_proof(tenant, index, size).await?;
        Ok((entry, proof))
    }

    /// That the tree of `to` continues the tree of `from`.
    pub async fn consistency(
        &self,
        tenant: &Tenant,
        from: u64,
        to: Option<u64>,
    ) -> Result<(u64, Vec<NodeHash>), RuntimeError> {
        let head = self.store().head(&tenant.id).await?;
        let to = to.unwrap_or(head.size);
        if to > head.size || from > to || from == 0 {
            return Err(RuntimeError::new(Code::NotFound, format!("the ledger has {} entries", head.size)));
        }
        Ok((to, self.store().consistency_proof(&tenant.id, from, to).await?))
    }

    /// The header of an export of the whole ledger as it is now.
    pub async fn export_header(&self, principal: &Principal) -> Result<ExportHeader, RuntimeError> {
        principal.require(Scope::AuditRead, None)?;
        let tenant = &principal.tenant;
        let (head, note) = self.head(tenant).await?;
        Ok(ExportHeader {
            checkpoint: note.to_string(),
            checkpoints: self.checkpoints(tenant).await?,
            size: head.size,
            tenant: tenant.id.clone(),
            vkey: tenant.state().vkey.to_string(),
        })
    }

    /// Decides a recorded intent again, on the state that was active at its ledger position. That
    /// folds all control entries before it: a page at a time, away from the threads that decide, and
    /// only a few at once.
    pub async fn replay(
        &self,
        principal: &Principal,
        record: &DecisionRecord,
        index: u64,
    ) -> Result<Replay, RuntimeError> {
        let mut permit = Arc::clone(&self.replays).acquire_owned().await.map_err(RuntimeError::internal)?;
        let tenant = &principal.tenant;
        // What is known compiled need not be compiled again.
        let known = Arc::clone(&tenant.state().versions);
        let (mut from, mut state) = (0, None);
        while from < index {
            let page = self.store().control_entries(&tenant.id, from, MAX_PAGE).await?;
            let Some(last) = page.last() else { break };
            from = last.index + 1;
            let known = Arc::clone(&known);
            (permit, state) = aside(permit, move || fold(state, &page, index, &known)).await?;
        }
        let state = state.ok_or(Code::NotFound)?;
        let input = record.input.clone();
        let (_permit, again) = aside(permit, move || Ok(decide(&state, &input))).await?;
        let same = again == record.decision;
        Ok(Replay { recorded: record.decision.clone(), again, same })
    }
}

/// Folds those of a page's control entries that stand before `index`.
fn fold(
    mut state: Option<State>,
    page: &[StoredEntry],
    index: u64,
    known: &BTreeMap<Digest, Arc<Version>>,
) -> Result<Option<State>, RuntimeError> {
    for entry in page.iter().filter(|e| e.index < index) {
        let event = event_of(&entry.leaf)?;
        match &mut state {
            None => state = Some(State::genesis(&event)?),
            Some(state) => state.apply_reusing(entry.index, &event, known)?,
        }
    }
    Ok(state)
}

/// Works on a thread that may block. The permit goes with it: work that nobody waits for any more
/// still counts.
async fn aside<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<(OwnedSemaphorePermit, T), RuntimeError> {
    let (permit, done) = tokio::task::spawn_blocking(move || (permit, work())).await.map_err(RuntimeError::internal)?;
    Ok((permit, done?))
}

/// A credential sees the decisions of its own environments only, and what became of them.
fn visible(principal: &Principal, event: &Event) -> bool {
    let environment = match event {
        Event::Decision(record) => &record.input.intent.environment,
        Event::TokenConsumed(consumed) => &consumed.environment,
        Event::TokenRevoked(revoked) => &revoked.environment,
        Event::EscalationClosed(closed) => &closed.environment,
        _ => return true,
    };
    principal.environments.contains(environment)
}

fn matches(query: &Query, principal: &Principal, entry: &StoredEntry, event: &Event) -> bool {
    let decision = if let Event::Decision(record) = event { Some(record) } else { None };
    if !visible(principal, event) {
        return false;
    }
    query.kind.is_none_or(|k| k == event.kind())
        && query.until.is_none_or(|until| entry.at.as_millis() < until)
        && query.agent.as_ref().is_none_or(|a| decision.is_some_and(|r| *r.input.intent.subject.id == **a))
        && query.tool.as_ref().is_none_or(|t| decision.is_some_and(|r| *r.input.intent.action.name == **t))
        && query.decision.is_none_or(|d| decision.is_some_and(|r| r.decision.decision == d))
        && query.reason.is_none_or(|c| decision.is_some_and(|r| r.decision.reason == c))
        && query.environment.as_ref().is_none_or(|e| decision.is_some_and(|r| r.input.intent.environment.as_str() == e))
}
