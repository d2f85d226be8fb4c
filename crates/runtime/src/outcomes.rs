//! What came of an action, as the enforcement point that let it through says: once, of an action whose
//! token was used. It completes the receipt, and it is what breakers go by.

use std::sync::Arc;

use intended_engine::effects::OUTCOME_SECS;
use intended_engine::{State, keys};
use intended_model::decision::DecisionRecord;
use intended_model::entry::{ActionOutcome, BODY_VERSION, IntentOutcome, Scope};
use intended_model::{Code, CredentialId, Digest, Event, IntentId, Timestamp};
use intended_store::{Commit, Conflict, StoreError, Write};
use serde::{Deserialize, Serialize};

use crate::admin::entry_of;
use crate::commit::Came;
use crate::submit::{IDEMPOTENCY_TTL_MS, MAX_ATTEMPTS};
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// How long the fact outlives the time in which it is needed: longer than what is purged lags behind.
const MARGIN_MS: i64 = 3_600_000;

/// What is said of an action.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub outcome: ActionOutcome,
    pub duration_ms: Option<u32>,
    pub detail: Option<Box<str>>,
}

/// How a report is remembered under its idempotency key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    outcome_of: IntentId,
    request: Digest,
}

/// Who let an action through says what came of it, the same credential or the same person. Who asked for
/// it does not, where these are two: an agent would say of itself that all went well, and the first word
/// is the one that stands.
pub(crate) fn answers_for(state: &State, by: &CredentialId, used: &CredentialId, asked: &CredentialId) -> bool {
    let person = |credential| state.member_behind(credential);
    let same = by == used || person(by).is_some_and(|member| person(used) == Some(member));
    same && (by != asked || used == asked)
}

impl Runtime {
    /// Records what came of an action. The answer is the entry's index.
    pub async fn report_outcome(&self, by: &Principal, intent: &IntentId, report: Report) -> Result<u64, RuntimeError> {
        by.require(Scope::TokenVerify, None)?;
        let tenant = &by.tenant;
        let request = serde_json::to_vec(&(intent, &report)).map_err(RuntimeError::internal)?;
        let request = Digest::of(&request);
        let once = by.idempotency_key.as_deref().map(|key| keys::idempotency(&by.credential, key));
        for _ in 0..MAX_ATTEMPTS {
            let state = tenant.state();
            let by = self.current(by, &state, self.now())?;
            let found = self.granted_of(tenant, intent).await?;
            let (record, others) = found.ok_or(Code::NotFound)?;
            let environment = &record.input.intent.environment;
            if !by.sees(environment) {
                return Err(Code::NotFound.into());
            }
            by.require(Scope::TokenVerify, Some(environment))?;
            let said = others.iter().find(|(_, e)| matches!(e, Event::IntentOutcome(_))).map(|(index, _)| *index);
            if let Some(key) = &once
                && let Some(fact) = self.store().fact_now(&tenant.id, key)?
            {
                let kept: Kept = serde_json::from_slice(&fact.value).map_err(|_| Code::IdempotencyMismatch)?;
                return match said {
                    Some(index) if kept.outcome_of == *intent && kept.request == request => Ok(index),
                    _ => Err(Code::IdempotencyMismatch.into()),
                };
            }
            // Nobody acts on a self-test: nothing comes of it.
            let grant = record.grant.as_ref().filter(|_| record.input.class.is_traffic());
            let grant = grant.ok_or(Code::OutcomeNotPermitted)?;
            let used = others.iter().find_map(|(_, e)| match e {
                Event::TokenConsumed(used) if used.jti == grant.jti => Some(&used.by),
                _ => None,
            });
            if !answers_for(&state, &by.credential, used.ok_or(Code::OutcomeUnused)?, &record.input.credential) {
                return Err(Code::OutcomeNotYours.into());
            }
            if said.is_some() {
                return Err(Code::OutcomeReported.into());
            }
            let now = self.now();
            let until = grant.exp + OUTCOME_SECS;
            if now.as_secs() > until {
                return Err(Code::OutcomeLate.into());
            }
            let said = IntentOutcome {
                by: by.credential.clone(),
                detail: report.detail.clone(),
                duration_ms: report.duration_ms,
                environment: environment.clone(),
                intent: *intent,
                outcome: report.outcome,
                v: BODY_VERSION,
            };
            let fact = keys::outcome(intent);
            let mut reads = vec![(fact.as_str().into(), 0)];
            reads.extend(self.session_fence(&by)?);
            let mut writes = vec![Write::Put {
                key: fact.as_str().into(),
                value: report.outcome.as_str().into(),
                expires_at: Some(Timestamp::from_millis(until.saturating_mul(1000)).plus_millis(MARGIN_MS)),
            }];
            // Whoever counts the probes of a half-open breaker at this moment counts again.
            let probes = record.input.counters.keys().filter(|k| k.starts_with(keys::PROBE_PREFIX));
            writes.extend(probes.map(|key| Write::Add { key: key.clone(), n: 0, max: i64::MAX, expires_at: None }));
            if let Some(key) = &once {
                let kept = Kept { outcome_of: *intent, request };
                reads.push((key.as_str().into(), 0));
                writes.push(Write::Put {
                    key: key.as_str().into(),
                    value: serde_json::to_vec(&kept).map_err(RuntimeError::internal)?,
                    expires_at: Some(now.plus_millis(IDEMPOTENCY_TTL_MS)),
                });
            }
            let commit = Commit {
                tenant: tenant.id.clone(),
                now,
                // A credential that is revoked in between reports nothing after it.
                control_version: Some(state.control),
                reads,
                writes,
                entries: vec![entry_of(&Event::IntentOutcome(said.clone()))?],
            };
            let (record, committed) = self.commit_outcome(tenant, record, commit, said).await?;
            match committed {
                Ok(committed) => {
                    self.saw(committed.recorded_at);
                    self.after_outcome(tenant, &record).await;
                    return Ok(committed.first_index);
                }
                Err(StoreError::Conflict(Conflict::Late { head })) => self.saw(head),
                Err(StoreError::Conflict(Conflict::Control { .. })) => self.follow(tenant).await?,
                // Somebody was faster: the next look says what they said.
                Err(StoreError::Conflict(Conflict::Fact { .. } | Conflict::Bound { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// Commits what was said of an action and takes it in, whether or not who said it still waits.
    async fn commit_outcome(
        &self,
        tenant: &Arc<Tenant>,
        record: DecisionRecord,
        commit: Commit,
        said: IntentOutcome,
    ) -> Result<Came, RuntimeError> {
        let (follower, tenant) = (self.follower.clone(), Arc::clone(tenant));
        let committing = tokio::spawn(async move {
            let committed = follower.commit_here(commit).await;
            if let Ok(committed) = &committed {
                let of = (&record.input.intent, &record.input.classification);
                tenant.reported(of, &said, committed.recorded_at);
            }
            (record, committed)
        });
        committing.await.map_err(RuntimeError::internal)
    }
}
