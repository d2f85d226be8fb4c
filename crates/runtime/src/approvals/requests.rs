//! What is open, and what there is to know about it before one says yes.

use std::sync::{Arc, PoisonError};

use intended_engine::approvals::{self, RequirementProgress};
use intended_engine::{State, keys};
use intended_ledger::{leaf_hash, verify_inclusion};
use intended_model::decision::DecisionRecord;
use intended_model::entry::{ApprovalGranted, Scope};
use intended_model::{Code, Digest, EnvironmentId, Event, IntentId, MemberId, Outcome, Timestamp, Value};
use intended_store::{Commit, Fact, StoreError, StoredEntry, Write};

use super::{Ended, Given, MAX_CACHED, MayApprove, Note, Open, Similar, tag};
use crate::tenant::event_of;
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// How many facts one read takes.
const PAGE: usize = 1000;
/// Most earlier approvals that are gone through for similar ones, how many of them are read, and how
/// many are shown.
const MAX_LOOK_BACK: usize = 200;
const MAX_READ: usize = 25;
const SIMILAR: usize = 5;

/// Which requests to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub environment: Option<EnvironmentId>,
    pub agent: Option<String>,
    /// Only those that the caller can approve now.
    pub mine: bool,
}

/// A request in a list.
#[derive(Debug)]
pub struct Row {
    pub open: Arc<Open>,
    pub progress: Vec<RequirementProgress>,
    /// Whether the caller may approve it now.
    pub may: MayApprove,
    pub tag: String,
}

/// Everything about one request.
#[derive(Debug)]
pub struct Shown {
    pub record: DecisionRecord,
    /// Ledger position of the decision that first asked for it.
    pub request: u64,
    pub recorded_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub ended: Ended,
    pub progress: Vec<RequirementProgress>,
    pub given: Vec<Given>,
    pub eligible: Vec<MemberId>,
    pub notes: Vec<Note>,
    pub similar: Vec<Similar>,
    pub may: MayApprove,
    /// How many approvals the caller gave in this hour and the last one, and how many one may in an hour.
    pub rate: (u32, u32),
    /// Policy was changed since it was asked for: what was approved before does not count.
    pub policy_changed: bool,
    pub tag: String,
}

impl Runtime {
    /// What is open of one intent. `None`: it is not.
    pub async fn open_intent(&self, tenant: &Tenant, id: &IntentId) -> Result<Option<Arc<Open>>, RuntimeError> {
        match self.store().fact_now(&tenant.id, &keys::open(id))? {
            None => Ok(None),
            Some(fact) => self.opened(tenant, *id, &fact).await.map(Some),
        }
    }

    pub(super) async fn opened(&self, tenant: &Tenant, id: IntentId, fact: &Fact) -> Result<Arc<Open>, RuntimeError> {
        let key = (tenant.id.clone(), id);
        let cached = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = cached().get(&key).filter(|o| o.version == fact.version) {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(self.load_open(tenant, id, fact).await?);
        let mut cache = cached();
        // Another one goes, and not all: a list of more than fit would begin again with each.
        if cache.len() >= MAX_CACHED
            && !cache.contains_key(&key)
            && let Some(other) = cache.keys().next().cloned()
        {
            cache.remove(&other);
        }
        cache.insert(key, Arc::clone(&open));
        Ok(open)
    }

    async fn load_open(&self, tenant: &Tenant, id: IntentId, fact: &Fact) -> Result<Open, RuntimeError> {
        let damaged = |what: &str| RuntimeError::new(Code::StoreCorrupt, format!("intent {id}: {what}"));
        let entries = self.store().entries_of(&tenant.id, *id.as_bytes()).await?;
        let decisions = decisions(&entries)?;
        let (last, record) = decisions.last().ok_or_else(|| damaged("it is open and was never decided"))?;
        // It will be decided again, and a token signed for what is read here: it must be what was recorded.
        let head = self.store().head(&tenant.id).await?;
        let proof = self.store().inclusion_proof(&tenant.id, last.index, head.size).await?;
        verify_inclusion(leaf_hash(&last.leaf), last.index, head.size, &proof, head.root)
            .map_err(|_| damaged("its decision is not the one that was recorded"))?;
        let expires_at = record.decision.obligations.expires_at.ok_or_else(|| damaged("it was not left open"))?;
        let request = approvals::requested_at(decisions.iter().map(|(e, r)| (e.index, r)));
        let (index, recorded_at) = (last.index, last.at);
        let version = fact.version;
        Ok(Open { request: request.unwrap_or(index), record: record.clone(), index, recorded_at, expires_at, version })
    }

    /// How many steps of people of an open request are met, and how many there are; `None` where it is not
    /// open. For whoever asked: who the people are is not in it.
    pub async fn approval_steps(&self, by: &Principal, id: &IntentId) -> Result<Option<(usize, usize)>, RuntimeError> {
        let open = self.open_intent(&by.tenant, id).await?.filter(|o| o.record.input.credential == by.credential);
        let Some(open) = open else { return Ok(None) };
        let progress = approvals::progress(&by.tenant.state(), &open.record, self.now());
        let steps = |of: fn(&RequirementProgress) -> usize| progress.iter().map(of).sum();
        Ok(Some((steps(|r| r.current), steps(|r| r.steps.len()))))
    }

    /// Whether a token was used.
    pub fn is_consumed(&self, tenant: &Tenant, jti: &str) -> Result<bool, RuntimeError> {
        Ok(self.store().fact_now(&tenant.id, &keys::consumed(jti))?.is_some())
    }

    /// Holds a request that changes nothing by itself to its idempotency key: the same body, or none
    /// before it.
    pub async fn same_request(&self, by: &Principal, key: &str, body: &Value) -> Result<(), RuntimeError> {
        let name = keys::idempotency(&by.credential, &format!("access-request {key}"));
        let digest = Digest::of(body.to_canonical().as_bytes()).to_string();
        let now = self.now();
        let put = Write::Put {
            key: name.as_str().into(),
            value: digest.clone().into_bytes(),
            expires_at: Some(now.plus_millis(crate::submit::IDEMPOTENCY_TTL_MS)),
        };
        let commit = Commit {
            tenant: by.tenant.id.clone(),
            now,
            control_version: None,
            reads: vec![(name.as_str().into(), 0)],
            writes: vec![put],
            entries: Vec::new(),
        };
        match self.follower.commit(commit).await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict(_)) => match self.store().fact_now(&by.tenant.id, &name)? {
                Some(fact) if fact.value == digest.as_bytes() => Ok(()),
                _ => Err(Code::RequestDuplicate.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Requests for approval that are open, oldest first, after one of them; and the last that was
    /// looked at, where there may be more.
    pub async fn approvals(
        &self,
        by: &Principal,
        filter: &Filter,
        after: Option<&IntentId>,
        limit: usize,
    ) -> Result<(Vec<Row>, Option<IntentId>), RuntimeError> {
        by.require(Scope::ApprovalRead, filter.environment.as_ref())?;
        let tenant = &by.tenant;
        let mut after = after.map(keys::open).unwrap_or_default();
        let (mut rows, mut seen) = (Vec::new(), None);
        loop {
            let page = self.store().facts(&tenant.id, keys::OPEN_PREFIX, &after, PAGE).await?;
            let Some((last, _)) = page.last() else { return Ok((rows, None)) };
            after = last.clone();
            let whole = page.len() < PAGE;
            for (key, fact) in page {
                let id = intent_of(&key)?;
                if rows.len() == limit {
                    return Ok((rows, seen));
                }
                seen = Some(id);
                let Ok(open) = self.opened(tenant, id, &fact).await else { continue };
                let state = tenant.state();
                if let Some(row) = self.row(&state, by, open, filter) {
                    rows.push(row);
                }
            }
            if whole {
                return Ok((rows, None));
            }
        }
    }

    fn row(&self, state: &State, by: &Principal, open: Arc<Open>, filter: &Filter) -> Option<Row> {
        let intent = &open.record.input.intent;
        let wanted = open.is_escalation()
            && self.now() < open.expires_at
            && by.access.may(Scope::ApprovalRead, Some(&intent.environment))
            && filter.environment.as_ref().is_none_or(|e| *e == intent.environment)
            && filter.agent.as_ref().is_none_or(|a| **a == *intent.subject.id);
        if !wanted {
            return None;
        }
        let progress = approvals::progress(state, &open.record, self.now());
        let may = may(state, by, &open, &progress, self.now());
        if filter.mine && may.is_err() {
            return None;
        }
        let tag = tag(state, &open.record, open.index);
        Some(Row { open, progress, may, tag })
    }

    /// Everything about one request, open or not.
    pub async fn approval(&self, by: &Principal, id: &IntentId) -> Result<Shown, RuntimeError> {
        let tenant = &by.tenant;
        let entries = self.store().entries_of(&tenant.id, *id.as_bytes()).await?;
        let decisions = decisions(&entries)?;
        let asked = decisions.iter().rev().find(|(_, r)| r.decision.decision == Outcome::Escalate);
        let (entry, record) = asked.ok_or(Code::NotFound)?;
        if !by.access.may(Scope::ApprovalRead, Some(&record.input.intent.environment)) {
            return Err(Code::NotFound.into());
        }
        let until = decisions.iter().filter(|(e, _)| e.index <= entry.index).map(|(e, r)| (e.index, r));
        let request = approvals::requested_at(until).unwrap_or(entry.index);
        let state = tenant.state();
        let open = self.open_intent(tenant, id).await?.filter(|o| self.now() < o.expires_at);
        let now = self.now();
        let progress = approvals::progress(&state, record, now);
        let given = given(&state, record, &progress);
        let of = approvals::Request::of(record, request);
        let may_approve =
            open.as_ref().map_or(Err(approvals::Ineligible::Later), |o| may(&state, by, o, &progress, now));
        let eligible = if open.is_some() { approvals::eligible(&state, &of, &progress, now) } else { Vec::new() };
        let environment = state.environments.get(&record.input.intent.environment);
        let deployed = environment.and_then(|e| e.deployed.as_ref()).map(|v| v.digest);
        let last = decisions.last().map(|(_, r)| r);
        Ok(Shown {
            request,
            recorded_at: entry.at,
            expires_at: record.decision.obligations.expires_at,
            ended: if open.is_some() { Ended::Open } else { ended(&state, &entries, last) },
            given,
            eligible,
            notes: notes(&state, &entries)?,
            similar: self.similar(tenant, &state, record).await?,
            may: may_approve,
            rate: self.rate(by, &state, &record.input.intent.environment)?,
            policy_changed: open.is_some() && deployed != of.policy,
            tag: tag(&state, record, entry.index),
            progress,
            record: record.clone(),
        })
    }

    /// How many approvals the caller gave in this hour and the one before, and how many one may in one.
    pub(super) fn rate(
        &self,
        by: &Principal,
        state: &State,
        environment: &EnvironmentId,
    ) -> Result<(u32, u32), RuntimeError> {
        let most = state.environments.get(environment).map_or(0, |e| e.settings.approvals.max_per_person_per_hour);
        let Some(member) = by.member() else { return Ok((0, most)) };
        let (key, _) = keys::approvals(environment, member, self.now());
        let given = self.store().counter_now(&by.tenant.id, &key)?;
        Ok((u32::try_from(given).unwrap_or(u32::MAX), most))
    }

    /// The last times when the same agent asked for the same tool and somebody approved it.
    async fn similar(
        &self,
        tenant: &Tenant,
        state: &State,
        record: &DecisionRecord,
    ) -> Result<Vec<Similar>, RuntimeError> {
        let intent = &record.input.intent;
        let mut out = Vec::new();
        // Ids of intents begin with their time.
        let here = |given: &[(u64, ApprovalGranted)]| given.iter().any(|(_, g)| g.environment == intent.environment);
        let earlier = state.approvals.range(..record.input.id).rev().take(MAX_LOOK_BACK);
        let earlier: Vec<IntentId> =
            earlier.filter(|(_, given)| here(given)).take(MAX_READ).map(|(id, _)| *id).collect();
        for id in earlier {
            let entries = self.store().entries_of(&tenant.id, *id.as_bytes()).await?;
            let decisions = decisions(&entries)?;
            let Some((last, decided)) = decisions.last() else { continue };
            let other = &decided.input.intent;
            if other.subject.id != intent.subject.id
                || other.action.name != intent.action.name
                || other.environment != intent.environment
            {
                continue;
            }
            let open = self.store().fact_now(&tenant.id, &keys::open(&id))?.is_some();
            let ended = if open { Ended::Open } else { ended(state, &entries, Some(decided)) };
            let approvers = state.approvals.get(&id).into_iter().flatten().map(|(_, g)| g.approver.clone()).collect();
            out.push(Similar { intent: id, at: last.at, outcome: ended.as_str(), approvers });
            if out.len() == SIMILAR {
                break;
            }
        }
        Ok(out)
    }
}

/// Whether the caller may approve what is open.
pub(super) fn may(
    state: &State,
    by: &Principal,
    open: &Open,
    progress: &[RequirementProgress],
    now: Timestamp,
) -> MayApprove {
    let member = by.member().ok_or(approvals::Ineligible::Scope)?;
    approvals::may_approve(state, &open.request(), progress, &by.credential, member, now)
}

pub(super) fn intent_of(key: &str) -> Result<IntentId, RuntimeError> {
    let id = key.trim_start_matches(keys::OPEN_PREFIX).parse();
    id.map_err(|_| RuntimeError::internal("an open fact names no intent"))
}

/// The decisions among entries, in order.
pub(super) fn decisions(entries: &[StoredEntry]) -> Result<Vec<(&StoredEntry, DecisionRecord)>, RuntimeError> {
    let mut out = Vec::new();
    for entry in entries {
        if let Event::Decision(record) = event_of(&entry.leaf)? {
            out.push((entry, record));
        }
    }
    Ok(out)
}

/// What was given, and whether it counts for a step now.
fn given(state: &State, record: &DecisionRecord, progress: &[RequirementProgress]) -> Vec<Given> {
    let taken = |m: &MemberId| progress.iter().flat_map(|p| &p.steps).any(|s| s.by.contains(m));
    let recorded = state.approvals.get(&record.input.id).into_iter().flatten();
    let given = recorded.map(|(entry, g)| Given {
        entry: *entry,
        approver: g.approver.clone(),
        at: g.at,
        reason: g.reason.clone(),
        counts: taken(&g.approver),
    });
    given.collect()
}

fn notes(state: &State, entries: &[StoredEntry]) -> Result<Vec<Note>, RuntimeError> {
    let mut out = Vec::new();
    for entry in entries {
        if let Event::ApprovalNote(note) = event_of(&entry.leaf)? {
            let member = state.member_behind(&note.by);
            let (index, at) = (entry.index, entry.at);
            out.push(Note { index, at, by: note.by, member, answer: note.answer, text: note.text });
        }
    }
    Ok(out)
}

/// How what is not open any more ended.
fn ended(state: &State, entries: &[StoredEntry], last: Option<&DecisionRecord>) -> Ended {
    let closed = entries.iter().rev().find_map(|e| match event_of(&e.leaf) {
        Ok(Event::EscalationClosed(closed)) => Some(closed),
        _ => None,
    });
    match (closed, last) {
        (Some(closed), _) => match closed.by {
            Some(by) => {
                let member = state.member_behind(&by);
                Ended::Denied { by, member, note: closed.note.unwrap_or_default() }
            }
            None => Ended::TimedOut,
        },
        // Its time is over, and the closing not yet written.
        (None, Some(record)) if record.decision.obligations.expires_at.is_some() => Ended::TimedOut,
        (None, Some(record)) => Ended::Decided(record.decision.decision),
        (None, None) => Ended::TimedOut,
    }
}
