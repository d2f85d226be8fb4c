//! Reading the ledger: entries, decisions, proofs, receipts, exports, and deciding again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use intended_engine::explain::{Explanation, explain};
use intended_engine::{State, Version, decide, keys};
use intended_ledger::{ExportHeader, NodeHash, leaf_hash, verify_inclusion};
use intended_model::about::{about, intent_class};
use intended_model::decision::{Decision, DecisionRecord, Input, Outcome};
use intended_model::entry::Scope;
use intended_model::{Class, Code, Digest, EnvironmentId, Event, IntentId, Kind, Name, TenantId, Timestamp};
use intended_store::{Commit, StoredEntry, TreeHead, Write};
use tokio::sync::OwnedSemaphorePermit;

use crate::incidents::{Case, Closed};
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
    pub class: Option<Class>,
    pub reason: Option<Code>,
    pub environment: Option<String>,
    /// The decisions of one session, or everything about one intent.
    pub session: Option<String>,
    pub intent: Option<IntentId>,
    /// Made, or asked for, with this credential.
    pub credential: Option<String>,
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
    /// How many entries were looked at.
    pub scanned: usize,
}

/// A decision made again from the ledger.
#[derive(Debug)]
pub struct Replay {
    /// The position whose state it was made on.
    pub at: u64,
    pub recorded: Decision,
    pub again: Decision,
    pub same: bool,
}

/// What a decision is made again with, where it is not what it was made with.
#[derive(Debug, Clone, Default)]
pub struct WhatIf {
    /// On the state before this entry.
    pub at: Option<u64>,
    pub policy: Option<Arc<Version>>,
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
        self.follower.commit(commit).await?;
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

    /// The decision on an intent with its receipt against the current head: the last one, where it was
    /// decided again.
    pub async fn decision(&self, principal: &Principal, id: &IntentId) -> Result<Option<Decided>, RuntimeError> {
        let tenant = &principal.tenant;
        for entry in self.store().entries_of(&tenant.id, *id.as_bytes()).await?.into_iter().rev() {
            if let Event::Decision(record) = event_of(&entry.leaf)? {
                if !principal.sees(&record.input.intent.environment) {
                    return Ok(None);
                }
                let (head, checkpoint) = self.head(tenant).await?;
                let proof = self.store().inclusion_proof(&tenant.id, entry.index, head.size).await?;
                // A token may be signed again from what is read here: it must be what was recorded.
                verify_inclusion(leaf_hash(&entry.leaf), entry.index, head.size, &proof, head.root).map_err(|_| {
                    RuntimeError::new(
                        Code::StoreCorrupt,
                        format!("entry {} is not the one that was recorded", entry.index),
                    )
                })?;
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

    /// Looks through the ledger, newest first. A range of time is found by bisection, and what is about
    /// one intent by its index: nothing else of the ledger is looked at then.
    pub async fn query(&self, principal: &Principal, query: &Query) -> Result<Page, RuntimeError> {
        let tenant = &principal.tenant;
        let limit = query.limit.clamp(1, MAX_PAGE);
        if let Some(intent) = query.intent {
            return self.query_intent(principal, query, intent, limit).await;
        }
        let size = self.store().head(&tenant.id).await?.size;
        let place = async |millis: Option<i64>, otherwise| match millis {
            Some(millis) => self.first_at(tenant, Timestamp::from_millis(millis), size).await,
            None => Ok(otherwise),
        };
        // A cursor of the same query is within the range already.
        let end = place(query.until, size).await?;
        let mut before = query.before.map_or(end, |before| before.min(end));
        let first = place(query.since, 0).await?;
        let mut entries = Vec::new();
        let reach = self.reach(tenant).await?;
        let (mut scanned, mut bytes) = (0, 0);
        while before > first && scanned < MAX_SCAN && bytes < MAX_SCAN_BYTES {
            // Reading a page takes some milliseconds: others come in between.
            tokio::task::yield_now().await;
            let left = usize::try_from(before - first).unwrap_or(usize::MAX);
            let page = self.store().entries_before(&tenant.id, before, left.min(MAX_PAGE)).await?;
            let Some(oldest) = page.last() else { break };
            let oldest = oldest.index;
            for entry in page {
                scanned += 1;
                bytes += entry.leaf.len();
                before = entry.index;
                let event = event_of(&entry.leaf)?;
                let environments = reach.of(&event);
                if environments.seen_by(principal) && matches(query, environments, &entry, &event) {
                    entries.push((entry, event));
                    if entries.len() == limit {
                        return Ok(Page { entries, before: (before > first).then_some(before), scanned });
                    }
                }
            }
            before = oldest;
        }
        Ok(Page { entries, before: (before > first).then_some(before), scanned })
    }

    async fn query_intent(
        &self,
        principal: &Principal,
        query: &Query,
        intent: IntentId,
        limit: usize,
    ) -> Result<Page, RuntimeError> {
        let all = self.store().entries_of(&principal.tenant.id, *intent.as_bytes()).await?;
        let reach = self.reach(&principal.tenant).await?;
        let (mut entries, scanned) = (Vec::new(), all.len());
        for entry in all.into_iter().rev().filter(|e| query.before.is_none_or(|before| e.index < before)) {
            let event = event_of(&entry.leaf)?;
            let environments = reach.of(&event);
            let in_time = query.since.is_none_or(|since| entry.at.as_millis() >= since);
            if in_time && environments.seen_by(principal) && matches(query, environments, &entry, &event) {
                if entries.len() == limit {
                    let before = entries.last().map(|(e, _): &(StoredEntry, Event)| e.index);
                    return Ok(Page { entries, before, scanned });
                }
                entries.push((entry, event));
            }
        }
        Ok(Page { entries, before: None, scanned })
    }

    /// The index of the first entry that is not before `at`.
    pub(crate) async fn first_at(&self, tenant: &Tenant, at: Timestamp, size: u64) -> Result<u64, RuntimeError> {
        crate::simulation::first_at(self.store(), &tenant.id, at, size).await
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
        if !self.reach(&principal.tenant).await?.of(&event_of(&entry.leaf)?).seen_by(principal) {
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

    /// Decides a recorded intent again: on the state that was active at its ledger position, or at
    /// another one, or with another policy version. That folds all control entries before it: a page at
    /// a time, away from the threads that decide, and only a few at once.
    ///
    /// At another position the tool is classified by the catalogue of that state; the time, the session
    /// and the budgets' counters stay as they were recorded, because they are facts of their moment.
    pub async fn replay(
        &self,
        principal: &Principal,
        record: &DecisionRecord,
        index: u64,
        what_if: WhatIf,
    ) -> Result<Replay, RuntimeError> {
        let recorded = record.decision.clone();
        let at = what_if.at.unwrap_or(index);
        let head = self.store().head(&principal.tenant.id).await?.size;
        if at == 0 || at > head {
            return Err(RuntimeError::at(Code::RequestInvalid, "/at", format!("1 to {head}: the ledger's positions")));
        }
        let elsewhere = what_if.at.is_some();
        let again = self.as_of(&principal.tenant, record, at, move |state, input| {
            let mut input = input.clone();
            if elsewhere {
                input.classification = state.classify(input.procedure, &input.intent.action.name);
                input.catalogue = state.catalogue.digest();
                input.control = state.control;
            }
            let Some(version) = what_if.policy else { return Ok(decide(state, &input)) };
            let tried = state.trying(&input.intent.environment, &version).ok_or(Code::EnvironmentUnknown)?;
            Ok::<_, RuntimeError>(decide(&tried, &input))
        });
        let again = again.await??;
        let same = again == recorded;
        Ok(Replay { at, recorded, again, same })
    }

    /// Why a recorded intent was decided as it was, and, for who may read policy there, which single
    /// changes would have allowed it.
    pub async fn explain(
        &self,
        principal: &Principal,
        record: &DecisionRecord,
        index: u64,
    ) -> Result<Explanation, RuntimeError> {
        let environments = principal.access.environments().to_vec();
        let decision = record.decision.clone();
        let place = &record.input.intent.environment;
        // What would be allowed instead says what the policy is, to whoever asks in its place.
        let what_ifs = principal.access.may(Scope::PolicyRead, Some(place));
        let ask = move |state: &State, input: &Input| explain(state, input, &decision, &environments, what_ifs);
        self.as_of(&principal.tenant, record, index, ask).await
    }

    /// The position of the first entry that is not before a time: what was so then is what stands before.
    pub async fn position_at(&self, tenant: &Tenant, at: Timestamp) -> Result<u64, RuntimeError> {
        let size = self.store().head(&tenant.id).await?.size;
        self.first_at(tenant, at, size).await
    }

    /// What each policy that could match said of a recorded intent, on the state of its position.
    pub async fn policy_trace(
        &self,
        principal: &Principal,
        record: &DecisionRecord,
        index: u64,
    ) -> Result<Vec<intended_engine::PolicyTrace>, RuntimeError> {
        self.as_of(&principal.tenant, record, index, intended_engine::policy_trace).await
    }

    /// Asks something of the state that was active at a ledger position.
    pub(crate) async fn as_of<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        record: &DecisionRecord,
        index: u64,
        ask: impl FnOnce(&State, &Input) -> T + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let mut permit = Arc::clone(&self.replays).acquire_owned().await.map_err(RuntimeError::internal)?;
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
        let (_permit, answer) = aside(permit, move || Ok(ask(&state, &input))).await?;
        Ok(answer)
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

/// Which environments an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environments<'a> {
    /// It is about the tenant, and so about every environment.
    Every,
    These(&'a [EnvironmentId]),
}

impl Environments<'_> {
    /// A credential sees what is about one of its environments, and what is about all of them.
    #[must_use]
    pub fn seen_by(self, principal: &Principal) -> bool {
        match self {
            Self::Every => true,
            Self::These(these) => principal.sees_all() || these.iter().any(|e| principal.sees(e)),
        }
    }
    #[must_use]
    pub fn name(self, environment: &str) -> bool {
        matches!(self, Self::These(these) if these.iter().any(|e| e.as_str() == environment))
    }
}

/// What entries say that name no environment themselves but something that does: a resumed halt, a
/// released breaker, a revoked credential, a published pack. Folded from the control entries, as far
/// as somebody asked.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Index after the last control entry that was looked at.
    next: u64,
    /// `None` is the whole tenant.
    halts: HashMap<Name, Option<EnvironmentId>>,
    breakers: HashMap<Name, EnvironmentId>,
    credentials: HashMap<intended_model::CredentialId, Option<Vec<EnvironmentId>>>,
    /// Where a version was ever deployed, or stood in a draft.
    deployed: HashMap<Digest, Vec<EnvironmentId>>,
    drafts: HashMap<Name, EnvironmentId>,
    pub(crate) incidents: HashMap<Name, Case>,
}

/// The reach of every tenant that was asked for.
pub(crate) type Reaches = Mutex<HashMap<TenantId, Arc<Reach>>>;

impl Reach {
    fn fold(&mut self, index: u64, at: Timestamp, event: Event) {
        self.next = index + 1;
        match event {
            Event::HaltThrown(e) => drop(self.halts.insert(e.halt, e.environment)),
            Event::LedgerRestored(e) => drop(self.halts.insert(e.halt, None)),
            Event::BreakerHeld(e) => drop(self.breakers.insert(e.breaker, e.environment)),
            Event::CredentialCreated(e) => {
                drop(self.credentials.insert(e.credential, (!e.whole).then_some(e.environments)));
            }
            Event::PolicyDeployed(e) => self.holds(e.digest, e.environment),
            Event::PolicyDrafted(e) => {
                self.holds(e.digest, e.environment.clone());
                self.drafts.insert(e.draft, e.environment);
            }
            Event::BreakGlassPrepared(e) => {
                drop(self.credentials.insert(e.credential, e.environment.map(|environment| vec![environment])));
            }
            Event::IncidentOpened(e) => drop(self.incidents.insert(e.incident.clone(), Case::opened(index, at, e))),
            Event::IncidentNoted(e) => {
                if let Some(case) = self.incidents.get_mut(&e.incident) {
                    case.notes += 1;
                }
            }
            Event::IncidentClosed(e) => {
                if let Some(case) = self.incidents.get_mut(&e.incident) {
                    case.closed = Some(Closed { index, at, by: e.by, summary: e.reason });
                }
            }
            _ => {}
        }
    }

    /// An environment has, or had, a version deployed or in a draft.
    fn holds(&mut self, digest: Digest, environment: EnvironmentId) {
        let mut all: BTreeSet<_> = self.deployed.remove(&digest).unwrap_or_default().into_iter().collect();
        all.insert(environment);
        self.deployed.insert(digest, all.into_iter().collect());
    }

    /// The environments that an entry is about.
    #[must_use]
    pub fn of<'a>(&'a self, event: &'a Event) -> Environments<'a> {
        use Environments::{Every, These};
        let one = |environment: &'a EnvironmentId| These(slice::from_ref(environment));
        // What is not known is shown to those who see everything.
        let optional = |named: Option<&'a Option<EnvironmentId>>| match named {
            Some(Some(environment)) => one(environment),
            Some(None) => Every,
            None => These(&[]),
        };
        match event {
            Event::Decision(e) => one(&e.input.intent.environment),
            Event::TokenConsumed(e) => one(&e.environment),
            Event::TokenRevoked(e) => one(&e.environment),
            Event::EscalationClosed(e) => one(&e.environment),
            Event::ApprovalGranted(e) => one(&e.environment),
            Event::EnvironmentSet(e) => one(&e.environment),
            Event::PolicyDeployed(e) => one(&e.environment),
            Event::BreakerHeld(e) => one(&e.environment),
            Event::BreakerSet(e) => one(&e.environment),
            Event::BreakerOpened(e) => one(&e.environment),
            Event::BreakerProbing(e) => one(&e.environment),
            Event::BreakerClosed(e) => one(&e.environment),
            Event::IntentOutcome(e) => one(&e.environment),
            Event::KeyAdded(e) => one(&e.environment),
            Event::KeyRetired(e) => one(&e.environment),
            Event::AgentSet(e) => These(&e.environments),
            Event::CredentialCreated(e) if e.whole => Every,
            Event::CredentialCreated(e) => These(&e.environments),
            Event::CredentialRevoked(e) => match self.credentials.get(&e.credential) {
                Some(None) => Every,
                Some(Some(environments)) => These(environments),
                None => These(&[]),
            },
            Event::CapabilitySet(e) => optional(Some(&e.environment)),
            Event::HaltThrown(e) => optional(Some(&e.environment)),
            Event::HaltResumeAsked(e) => optional(self.halts.get(&e.halt)),
            Event::HaltResumed(e) => optional(self.halts.get(&e.halt)),
            Event::TokensRevoked(e) => optional(Some(&e.selector.environment)),
            Event::BreakGlassPrepared(e) => optional(Some(&e.environment)),
            Event::DrillRecorded(e) => one(&e.environment),
            Event::BreakerReleased(e) => self.breakers.get(&e.breaker).map_or(These(&[]), one),
            Event::PolicyDrafted(e) => one(&e.environment),
            Event::PolicySubmitted(e) => self.drafts.get(&e.draft).map_or(These(&[]), one),
            Event::PolicyApproved(e) => self.drafts.get(&e.draft).map_or(These(&[]), one),
            Event::PolicyRejected(e) => self.drafts.get(&e.draft).map_or(These(&[]), one),
            Event::RollbackRequested(e) => one(&e.environment),
            Event::PolicyVerified(e) => one(&e.environment),
            Event::PolicySourced(e) => one(&e.environment),
            Event::IncidentOpened(e) => optional(Some(&e.environment)),
            Event::IncidentNoted(e) => optional(self.incidents.get(&e.incident).map(|c| &c.environment)),
            Event::IncidentClosed(e) => optional(self.incidents.get(&e.incident).map(|c| &c.environment)),
            Event::PolicyPublished(e) => These(self.deployed.get(&e.digest).map_or(&[], Vec::as_slice)),
            Event::CredentialRotated(e) => match self.credentials.get(&e.credential) {
                Some(None) => Every,
                Some(Some(environments)) => These(environments),
                None => These(&[]),
            },
            Event::ApprovalWithdrawn(e) => one(&e.environment),
            Event::ApprovalNote(e) => one(&e.environment),
            Event::AccessSuspended(e) => optional(Some(&e.environment)),
            Event::AccessReinstated(e) => optional(Some(&e.environment)),
            Event::WebhookSet(e) => optional(Some(&e.environment)),
            Event::TenantCreated(_)
            | Event::LedgerRestored(_)
            | Event::MemberSet(_)
            | Event::CatalogueSet(_)
            | Event::SignInSet(_)
            | Event::LinkIssued(_)
            | Event::IdentityProviderSet(_)
            | Event::ReviewMade(_)
            | Event::ReviewSigned(_)
            | Event::SessionStarted(_)
            | Event::SessionEnded(_) => Every,
        }
    }
}

impl Runtime {
    /// What is needed to tell which environments the entries of a tenant are about.
    pub async fn reach(&self, tenant: &Tenant) -> Result<Arc<Reach>, RuntimeError> {
        let known = self.reaches.lock().unwrap_or_else(PoisonError::into_inner).get(&tenant.id).cloned();
        let mut reach = known.unwrap_or_default();
        loop {
            let page = self.store().control_entries(&tenant.id, reach.next, MAX_PAGE).await?;
            if page.is_empty() {
                break;
            }
            let folded = Arc::make_mut(&mut reach);
            for entry in page {
                folded.fold(entry.index, entry.at, event_of(&entry.leaf)?);
            }
        }
        let mut all = self.reaches.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all.entry(tenant.id.clone()).or_default();
        if newest.next < reach.next {
            *newest = Arc::clone(&reach);
        }
        Ok(reach)
    }

    /// How long the oldest entry has been waiting for a kept checkpoint that covers it, in
    /// milliseconds; 0 when all are covered.
    pub async fn checkpoint_age(&self, tenant: &Tenant) -> Result<i64, RuntimeError> {
        let size = self.store().head(&tenant.id).await?.size;
        let mut back = 1_u64;
        let kept = loop {
            let after = keys::checkpoint(size.saturating_sub(back));
            let page = self.store().facts(&tenant.id, keys::CHECKPOINT_PREFIX, &after, MAX_PAGE).await?;
            let last = page.last().and_then(|(key, _)| key.trim_start_matches(keys::CHECKPOINT_PREFIX).parse().ok());
            match last {
                Some(kept) => break kept,
                None if back >= size => break 0,
                None => back = back.saturating_mul(8),
            }
        };
        if kept >= size {
            return Ok(0);
        }
        let waiting = self.store().entry(&tenant.id, kept).await?;
        Ok(waiting.map_or(0, |e| self.now().millis_since(e.at).max(0)))
    }

    /// How long the oldest open escalation or deferral has been waiting, in milliseconds; 0 when none is.
    pub async fn escalation_age(&self, tenant: &Tenant) -> Result<i64, RuntimeError> {
        // Their names begin with the time at which they were submitted.
        let first = self.store().facts(&tenant.id, keys::OPEN_PREFIX, "", 1).await?;
        let id = first.first().and_then(|(key, _)| key.strip_prefix(keys::OPEN_PREFIX)?.parse::<IntentId>().ok());
        Ok(id.map_or(0, |id| self.now().millis_since(id.made_at()).max(0)))
    }

    /// How many escalations and deferrals are open.
    pub async fn open_escalations(&self, tenant: &Tenant) -> Result<u64, RuntimeError> {
        let (mut open, mut after) = (0, String::new());
        loop {
            let page = self.store().facts(&tenant.id, keys::OPEN_PREFIX, &after, 1000).await?;
            let Some((last, _)) = page.last() else { return Ok(open) };
            after = last.to_string();
            open += page.len() as u64;
        }
    }

    /// Entries after an index, oldest first, as far as the caller may see them; and the last index
    /// that was looked at, which is where to go on.
    pub async fn entries_after(
        &self,
        principal: &Principal,
        after: u64,
        limit: usize,
        query: &Query,
    ) -> Result<(Vec<(StoredEntry, Event)>, u64), RuntimeError> {
        let page = self.store().entries(&principal.tenant.id, after.saturating_add(1), limit).await?;
        let last = page.last().map_or(after, |e| e.index);
        let reach = self.reach(&principal.tenant).await?;
        let mut seen = Vec::with_capacity(page.len());
        for entry in page {
            let event = event_of(&entry.leaf)?;
            let environments = reach.of(&event);
            if environments.seen_by(principal) && matches(query, environments, &entry, &event) {
                seen.push((entry, event));
            }
        }
        Ok((seen, last))
    }
}

fn matches(query: &Query, environments: Environments<'_>, entry: &StoredEntry, event: &Event) -> bool {
    let decision = if let Event::Decision(record) = event { Some(record) } else { None };
    query.kind.is_none_or(|k| k == event.kind())
        && query.until.is_none_or(|until| entry.at.as_millis() < until)
        && query.agent.as_ref().is_none_or(|a| decision.is_some_and(|r| *r.input.intent.subject.id == **a))
        && query.tool.as_ref().is_none_or(|t| decision.is_some_and(|r| *r.input.intent.action.name == **t))
        && query.decision.is_none_or(|d| decision.is_some_and(|r| r.decision.decision == d))
        && query.class.is_none_or(|c| intent_class(event) == Some(c))
        && query.reason.is_none_or(|c| decision.is_some_and(|r| r.decision.reason == c))
        && query.environment.as_ref().is_none_or(|e| environments.name(e))
        && query.session.as_ref().is_none_or(|s| decision.is_some_and(|r| r.input.intent.session.as_deref() == Some(s)))
        && query.intent.is_none_or(|i| about(event).intent == Some(i))
        && query.credential.as_ref().is_none_or(|c| about(event).by.is_some_and(|by| by.as_str() == c))
}
