//! Deciding again what waited: when enough people have approved it, when policy has changed under it,
//! when the context that was missing is there, when what it waited for in its session is settled.
//!
//! Whoever causes it, it is the same decision of the same intent for the same credential, made on the
//! state of that moment, and fenced by the fact that it is still open. After a crash in between the
//! housekeeping finds that it is due.

use std::sync::Arc;

use intended_engine::approvals;
use intended_engine::effects::closed;
use intended_engine::{State, keys, needs};
use intended_model::decision::{Input, Outcome, PROCEDURE};
use intended_model::entry::Scope;
use intended_model::{Code, Intent, IntentId, Timestamp, Value};
use intended_store::{Conflict, StoreError, Write};
use tracing::Instrument as _;

use super::people::policy_changed;
use super::{Fence, Open, met, read_session};
use crate::draft::{Asked, Draft, commit_of};
use crate::spans::{self, phase};
use crate::submit::{IDEMPOTENCY_TTL_MS, MAX_ATTEMPTS, answer_of, is_suspended, read_answer};
use crate::{Decided, Principal, Runtime, RuntimeError, Tenant};

/// Most bytes of an intent's context, in canonical form.
const MAX_CONTEXT: usize = 64 << 10;

impl Runtime {
    /// Decides an intent again if that is due, and then what waited for it in its session.
    pub(crate) async fn decide_due(
        &self,
        tenant: &Arc<Tenant>,
        id: &IntentId,
    ) -> Result<Option<Decided>, RuntimeError> {
        let decided = self.settle_one(tenant, id, None, None).await?;
        if let Some(decided) = &decided {
            self.settle_session(tenant, &decided.record.input.intent).await?;
        }
        Ok(decided)
    }

    /// Decides again what is next in line in a session, one after the other.
    pub(crate) async fn settle_session(&self, tenant: &Arc<Tenant>, intent: &Intent) -> Result<(), RuntimeError> {
        let Some(key) = needs(&tenant.state(), PROCEDURE, intent, self.now()).session else { return Ok(()) };
        loop {
            let Some(fact) = self.store().fact_now(&tenant.id, &key)? else { return Ok(()) };
            let Some(next) = read_session(&fact.value)?.context.waiting.first().copied() else { return Ok(()) };
            if self.settle_one(tenant, &next, None, None).await?.is_none() {
                return Ok(());
            }
        }
    }

    /// Adds what was missing to a deferred intent, which is then decided again. Only by the credential
    /// that submitted it, and only what was not there.
    pub async fn add_context(&self, by: &Principal, id: &IntentId, context: &Value) -> Result<Decided, RuntimeError> {
        by.require(Scope::IntentSubmit, None)?;
        let added = context.as_object().filter(|c| !c.is_empty());
        let added =
            added.ok_or_else(|| RuntimeError::at(Code::RequestInvalid, "/context", "an object with members"))?;
        let tenant = &by.tenant;
        let once = by.idempotency_key.as_deref().map(|k| keys::idempotency(&by.credential, k));
        if let Some(key) = &once
            && let Some(fact) = self.store().fact_now(&tenant.id, key)?
        {
            let (of, _) = read_answer(&fact.value).ok_or(Code::IdempotencyMismatch)?;
            let decided = self.decision(by, &of).await?.ok_or(Code::NotFound)?;
            let has = |(name, value): (&str, &Value)| decided.record.input.intent.context.get(name) == Some(value);
            if of != *id || !added.iter().all(has) {
                return Err(Code::IdempotencyMismatch.into());
            }
            return self.with_token(by, decided);
        }
        let open = self.open_intent(tenant, id).await?;
        let Some(open) = open.filter(|o| o.record.input.credential == by.credential) else {
            // Whose it is not does not learn that it is there.
            let known = self.decision(by, id).await?;
            let mine = known.is_some_and(|d| d.record.input.credential == by.credential);
            return Err(if mine { Code::ApprovalClosed.into() } else { Code::NotFound.into() });
        };
        by.require(Scope::IntentSubmit, Some(&open.record.input.intent.environment))?;
        if open.record.decision.decision != Outcome::Defer {
            return Err(RuntimeError::new(Code::Conflict, "it waits for people, not for context"));
        }
        if tenant.state().from_before_a_copy(open.index) {
            let what =
                "it waited when the ledger was restored from a copy and may have been decided since: submit it again";
            return Err(RuntimeError::new(Code::ApprovalClosed, what));
        }
        let before = &open.record.input.intent;
        let mut object = before.context.as_object().cloned().unwrap_or_default();
        for (name, value) in added.iter() {
            if object.get(name).is_some() {
                let pointer = format!("/context{}", crate::pointer_step(name));
                return Err(RuntimeError::at(Code::Conflict, pointer, "what is there already is not changed"));
            }
            object.insert(name, value.clone());
        }
        let intent = Intent { context: Value::Object(object), ..before.clone() };
        if intent.context.to_canonical().len() > MAX_CONTEXT {
            return Err(RuntimeError::at(Code::RequestTooLarge, "/context", "at most 64 KiB of context"));
        }
        let decided = self.settle_one(tenant, id, Some((&open, intent)), once.as_deref()).await?;
        let decided = decided.ok_or(Code::ApprovalClosed)?;
        self.settle_session(tenant, &decided.record.input.intent).await?;
        Ok(decided)
    }

    /// `None`: it is not open, or nothing is new. `with` is the intent with more context, and what it was
    /// made of.
    async fn settle_one(
        &self,
        tenant: &Arc<Tenant>,
        id: &IntentId,
        with: Option<(&Open, Intent)>,
        once: Option<&str>,
    ) -> Result<Option<Decided>, RuntimeError> {
        // What has reached its threshold denies from here on: nothing more is decided before it does.
        self.record_crossings(tenant).await?;
        let jti = self.random_jti()?;
        for _ in 0..MAX_ATTEMPTS {
            let Some(open) = self.open_intent(tenant, id).await? else { return Ok(None) };
            let (state, at) = (tenant.state(), self.now());
            if at >= open.expires_at || !able(&state, &open, at) {
                return Ok(None);
            }
            // It may have been decided, used and carried out in what is lost: it ends by its time.
            if state.from_before_a_copy(open.index) {
                return Ok(None);
            }
            let before = &open.record.input;
            let intent = match &with {
                None => before.intent.clone(),
                // Somebody else added something meanwhile.
                Some((of, _)) if of.version != open.version => return Err(Code::Conflict.into()),
                Some((_, intent)) => intent.clone(),
            };
            let mut asked = Asked {
                id: *id,
                intent_hash: intent.digest().map_err(RuntimeError::internal)?,
                intent,
                credential: &before.credential,
                audience: before.audience.clone(),
                approvals: Vec::new(),
                expires_at: Some(open.expires_at),
            };
            if open.is_escalation() {
                let now = Input { at, ..before.clone() };
                asked.approvals = approvals::counting_references(&state, &now);
                if !policy_changed(&state, &open) && !met(&approvals::progress(&state, &open.record, at)) {
                    return Ok(None);
                }
            } else if with.is_none() && open.record.decision.reason != Code::SessionWaiting {
                return Ok(None);
            }
            let deciding = spans::decide(&tenant.id, &before.intent.environment);
            let draft = || phase!("evaluate").in_scope(|| self.draft(tenant, &state, at, asked, &jti));
            let Draft { record, mut reads, mut writes } = deciding.in_scope(draft)?;
            // Still not its turn.
            if with.is_none() && record.decision.reason == Code::SessionWaiting {
                return Ok(None);
            }
            reads.push((keys::open(id).into(), open.version));
            if let Some(key) = once {
                reads.push((key.into(), 0));
                let expires_at = Some(at.plus_millis(IDEMPOTENCY_TTL_MS));
                writes.push(Write::Put { key: key.into(), value: answer_of(*id, false), expires_at });
            }
            let commit = commit_of(tenant, &record, reads, writes)?;
            let committing = deciding.in_scope(|| phase!("commit"));
            let (record, committed) = self
                .commit_decision(tenant, record, commit, None)
                .instrument(committing)
                .await
                .map_err(RuntimeError::internal)?;
            match committed {
                Ok(committed) => {
                    self.wake();
                    let sign = || phase!("sign").in_scope(|| self.committed(tenant, record, committed));
                    let decided = deciding.in_scope(sign);
                    spans::came_of(&deciding, &decided);
                    let decided = decided?;
                    if let Err(error) = self.record_crossings(tenant).await {
                        tracing::warn!(tenant = %tenant.id, intent = %id, %error, "a breaker is not open yet");
                    }
                    return Ok(Some(decided));
                }
                Err(StoreError::Conflict(conflict)) => {
                    self.metrics().conflict();
                    match &conflict {
                        Conflict::Control { .. } => self.follow(tenant).await?,
                        Conflict::Late { head } => self.saw(*head),
                        Conflict::Fact { .. } | Conflict::Bound { .. } => {}
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// The session without an intent that is closed, as a fence and a write.
    pub(crate) fn leaves_session(&self, tenant: &Tenant, open: &Open) -> Result<Option<(Fence, Write)>, RuntimeError> {
        let Some(key) = needs(&tenant.state(), PROCEDURE, &open.record.input.intent, self.now()).session else {
            return Ok(None);
        };
        let Some(fact) = self.store().fact_now(&tenant.id, &key)? else { return Ok(None) };
        let Some(kept) = closed(&read_session(&fact.value)?, open.record.input.id) else { return Ok(None) };
        let value = serde_json::to_vec(&kept).map_err(RuntimeError::internal)?;
        let write = Write::Put { key: key.as_str().into(), value, expires_at: Some(kept.expires_at) };
        Ok(Some(((key.into(), fact.version), write)))
    }

    /// The decision with its token, for the credential that submitted the intent and as long as it still
    /// stands; for anybody else without.
    pub fn with_token(&self, by: &Principal, mut decided: Decided) -> Result<Decided, RuntimeError> {
        let record = &decided.record;
        // What had to wait gets its token when it is asked for; what had not, got it at once.
        let waited = record.input.expires_at.is_some();
        let environment = &record.input.intent.environment;
        if waited && decided.token.is_none() && record.input.credential == by.credential {
            // As the caller is now: waiting takes a while.
            let state = by.tenant.state();
            let may = self.current(by, &state, self.now())?.access.may(Scope::IntentSubmit, Some(environment));
            let held = state.suspended.is_some() || is_suspended(&state, environment);
            let good = may && !held && state.dead_token(record, decided.index).is_none();
            if good && self.still_stands(by, &state, record)? {
                decided.token = self.authority(&by.tenant, record, decided.index, &decided.head)?;
            }
        }
        Ok(decided)
    }

    /// Tells all who wait that something is settled.
    pub(crate) fn wake(&self) {
        self.settled.notify_waiters();
    }

    /// Waits until something was settled on this node. Whoever waits makes it before they look, so that
    /// nothing that is settled in between is missed.
    pub fn settled(&self) -> tokio::sync::futures::Notified<'_> {
        self.settled.notified()
    }
}

/// Whether the credential that asked for it can still do so. What it cannot have any more is not decided
/// again, and ends with its time.
fn able(state: &State, open: &Open, at: Timestamp) -> bool {
    let input = &open.record.input;
    let access = state.access(&input.credential, at);
    access.is_ok_and(|a| a.may(Scope::IntentSubmit, Some(&input.intent.environment)))
}
