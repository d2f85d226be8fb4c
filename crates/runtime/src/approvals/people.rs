//! What people say of a request: yes, no, not yet, and a question. Each is an entry of the ledger, by a
//! member's own means, of exactly what they have read.

use std::sync::Arc;

use intended_engine::approvals::{self, Ineligible};
use intended_engine::{State, keys};
use intended_model::entry::{ApprovalGranted, ApprovalNote, ApprovalWithdrawn, BODY_VERSION, EscalationClosed, Scope};
use intended_model::{Code, Event, IntentId, MemberId};
use intended_store::Write;
use serde::{Deserialize, Serialize};

use super::{Fence, MAX_BULK, MAX_REASON, Open, tag};
use crate::admin::Change;
use crate::{Principal, Runtime, RuntimeError};

/// One of several that are approved together.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bulk {
    pub id: IntentId,
    pub etag: String,
}

impl Runtime {
    /// One person's yes to exactly what the tag is of. Where it was the last one, the intent is decided
    /// again before this returns.
    pub async fn approve(&self, by: &Principal, id: &IntentId, etag: &str, reason: &str) -> Result<(), RuntimeError> {
        self.approve_one(by, id, etag, reason, false).await
    }

    async fn approve_one(
        &self,
        by: &Principal,
        id: &IntentId,
        etag: &str,
        reason: &str,
        bulk: bool,
    ) -> Result<(), RuntimeError> {
        let reason = text(reason, "/reason")?;
        let asked = ("approval.approve", id, etag, &reason);
        if self.made_before::<()>(by, asked).await?.is_none() {
            let open = self.asked(by, id).await?;
            let changed = self.change(by, asked, |by, state| {
                let (member, key) = self.says(by, state, &open, Scope::ApprovalDecide)?;
                if policy_changed(state, &open) {
                    let why = "the policy was changed since it was asked for; it is being decided by the new one";
                    return Err(RuntimeError::new(Code::ApprovalStale, why));
                }
                if tag(state, &open.record, open.index) != etag {
                    return Err(Code::ApprovalStale.into());
                }
                let progress = approvals::progress(state, &open.record, self.now());
                super::requests::may(state, by, &open, &progress, self.now()).map_err(refused)?;
                let environment = &open.record.input.intent.environment;
                let rules = state.environments.get(environment).map(|e| &e.settings.approvals);
                let rules = rules.ok_or(Code::EnvironmentUnknown)?;
                if bulk && risk(&open) > rules.bulk_max_risk {
                    return Err(too_risky(&open, rules.bulk_max_risk));
                }
                let (given, most) = self.rate(by, state, environment)?;
                if most > 0 && given >= most {
                    return Err(RuntimeError::new(Code::ApprovalRate, format!("{given} of {most} this hour")));
                }
                // The time that is recorded is the one that the verifier judges by.
                let now = self.now();
                if now >= open.expires_at {
                    return Err(Code::ApprovalClosed.into());
                }
                let event = Event::ApprovalGranted(ApprovalGranted {
                    approver: member.clone(),
                    at: Some(now),
                    by: by.credential.clone(),
                    environment: environment.clone(),
                    expires_at: open.expires_at,
                    intent: *id,
                    intent_hash: open.record.input.intent_hash,
                    policy: open.request().policy.ok_or(Code::PolicyNone)?,
                    reason: reason.clone(),
                    request: Some(open.request),
                    v: BODY_VERSION,
                });
                let (counter, until) = keys::approvals(environment, &member, now);
                let max = if most == 0 { i64::MAX } else { i64::from(most) };
                let mut change = Change::new(event, ());
                change.reads.push(key);
                change.writes.push(Write::Add { key: counter.into(), n: 1, max, expires_at: Some(until) });
                Ok(change)
            });
            let changed = changed.await;
            // Also after a refusal: the policy may be another one, and then it is decided by that.
            if changed.as_ref().is_err_and(|e| e.code == Code::ApprovalStale) {
                self.decide_due(&by.tenant, id).await?;
            }
            changed?;
        }
        self.decide_due(&by.tenant, id).await?;
        Ok(())
    }

    /// Several at once, each its own entry: none of them may be risky. What came of each, in order.
    pub async fn approve_bulk(
        &self,
        by: &Principal,
        items: &[Bulk],
        reason: &str,
    ) -> Result<Vec<Result<(), RuntimeError>>, RuntimeError> {
        text(reason, "/reason")?;
        by.require(Scope::ApprovalDecide, None)?;
        if items.is_empty() || items.len() > MAX_BULK {
            let what = format!("1 to {MAX_BULK} at once");
            return Err(RuntimeError::at(Code::RequestInvalid, "/approvals", what));
        }
        let state = by.tenant.state();
        for (at, item) in items.iter().enumerate() {
            if items.iter().take(at).any(|other| other.id == item.id) {
                return Err(RuntimeError::at(Code::RequestInvalid, format!("/approvals/{at}/id"), "it stands twice"));
            }
            // What is not open any more is said of each.
            let Some(open) = self.open_intent(&by.tenant, &item.id).await? else { continue };
            let environment = &open.record.input.intent.environment;
            let rules = state.environments.get(environment).map(|e| &e.settings.approvals);
            if by.access.may(Scope::ApprovalRead, Some(environment))
                && let Some(rules) = rules.filter(|r| risk(&open) > r.bulk_max_risk)
            {
                let mut error = too_risky(&open, rules.bulk_max_risk);
                error.errors.iter_mut().for_each(|e| e.pointer = format!("/approvals/{at}/id"));
                return Err(error);
            }
        }
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let key = by.idempotency_key.as_ref().map(|k| format!("{k}/{}", item.id).into());
            let once = by.clone().once(key);
            out.push(self.approve_one(&once, &item.id, &item.etag, reason, true).await);
        }
        Ok(out)
    }

    /// One person's no, which ends it.
    pub async fn deny(&self, by: &Principal, id: &IntentId, etag: &str, reason: &str) -> Result<(), RuntimeError> {
        let reason = text(reason, "/reason")?;
        let asked = ("approval.deny", id, etag, &reason);
        if self.made_before::<()>(by, asked).await?.is_some() {
            return Ok(());
        }
        let open = self.asked(by, id).await?;
        let changed = self.change(by, asked, |by, state| {
            let (member, key) = self.says(by, state, &open, Scope::ApprovalDecide)?;
            if tag(state, &open.record, open.index) != etag {
                return Err(Code::ApprovalStale.into());
            }
            approvals::may_decide(state, &open.request(), &by.credential, &member, self.now()).map_err(refused)?;
            let event = Event::EscalationClosed(EscalationClosed {
                by: Some(by.credential.clone()),
                environment: open.record.input.intent.environment.clone(),
                expires_at: open.expires_at,
                intent: *id,
                note: Some(reason.clone()),
                reason: Code::EscalationDenied,
                v: BODY_VERSION,
            });
            let mut change = Change::new(event, ());
            change.writes.push(Write::Delete { key: key.0.clone() });
            change.reads.push(key);
            Ok(change)
        });
        changed.await?;
        self.wake();
        Ok(())
    }

    /// Ends what waits for people, by the credential that asked for it.
    pub async fn cancel(&self, by: &Principal, id: &IntentId) -> Result<(), RuntimeError> {
        let open = self.open_intent(&by.tenant, id).await?.filter(|o| o.is_escalation());
        let open = open.filter(|o| o.record.input.credential == by.credential).ok_or(Code::ApprovalClosed)?;
        let changed = self.change(by, ("approval.cancel", id), |by, state| {
            let key = self.fence(by, state, &open, Scope::IntentSubmit)?;
            let event = Event::EscalationClosed(EscalationClosed {
                by: Some(by.credential.clone()),
                environment: open.record.input.intent.environment.clone(),
                expires_at: open.expires_at,
                intent: *id,
                note: None,
                reason: Code::EscalationCancelled,
                v: BODY_VERSION,
            });
            let mut change = Change::new(event, ());
            change.writes.push(Write::Delete { key: key.0.clone() });
            change.reads.push(key);
            Ok(change)
        });
        changed.await?;
        self.wake();
        Ok(())
    }

    /// Takes back what one has said, while it has not come to anything.
    pub async fn withdraw(&self, by: &Principal, id: &IntentId, etag: &str, reason: &str) -> Result<(), RuntimeError> {
        let reason = text(reason, "/reason")?;
        let asked = ("approval.withdraw", id, etag, &reason);
        if self.made_before::<()>(by, asked).await?.is_some() {
            return Ok(());
        }
        let open = self.asked(by, id).await?;
        let changed = self.change(by, asked, |by, state| {
            let (member, key) = self.says(by, state, &open, Scope::ApprovalDecide)?;
            if tag(state, &open.record, open.index) != etag {
                return Err(Code::ApprovalStale.into());
            }
            let given = state.approvals.get(id).is_some_and(|g| g.iter().any(|(_, g)| g.approver == member));
            if !given {
                return Err(RuntimeError::new(Code::NotFound, "there is no approval of yours to take back"));
            }
            let event = Event::ApprovalWithdrawn(ApprovalWithdrawn {
                approver: member,
                by: by.credential.clone(),
                environment: open.record.input.intent.environment.clone(),
                intent: *id,
                reason: reason.clone(),
                v: BODY_VERSION,
            });
            let mut change = Change::new(event, ());
            change.reads.push(key);
            Ok(change)
        });
        changed.await?;
        Ok(())
    }

    /// Asks whoever wants it done. It goes on waiting, no longer than before.
    pub async fn ask(&self, by: &Principal, id: &IntentId, question: &str) -> Result<(), RuntimeError> {
        self.note(by, id, question, false).await
    }

    /// Answers, with the credential that asked for the action.
    pub async fn answer(&self, by: &Principal, id: &IntentId, answer: &str) -> Result<(), RuntimeError> {
        self.note(by, id, answer, true).await
    }

    async fn note(&self, by: &Principal, id: &IntentId, said: &str, answer: bool) -> Result<(), RuntimeError> {
        let said = text(said, "/text")?;
        let asked = ("approval.note", id, &said, answer);
        if self.made_before::<()>(by, asked).await?.is_some() {
            return Ok(());
        }
        let open = self.open_intent(&by.tenant, id).await?.filter(|o| o.is_escalation());
        let open = match open {
            Some(open) if answer && open.record.input.credential == by.credential => open,
            Some(_) if answer => return Err(Code::NotFound.into()),
            _ => self.asked(by, id).await?,
        };
        let changed = self.change(by, asked, |by, state| {
            let scope = if answer { Scope::IntentSubmit } else { Scope::ApprovalDecide };
            let key = self.fence(by, state, &open, scope)?;
            if !answer {
                by.member().ok_or_else(nobody)?;
            }
            let event = Event::ApprovalNote(ApprovalNote {
                answer,
                by: by.credential.clone(),
                environment: open.record.input.intent.environment.clone(),
                intent: *id,
                text: said.clone(),
                v: BODY_VERSION,
            });
            let mut change = Change::new(event, ());
            change.reads.push(key);
            Ok(change)
        });
        changed.await?;
        Ok(())
    }

    /// What is asked about is open, waits for people, and is the caller's to see.
    async fn asked(&self, by: &Principal, id: &IntentId) -> Result<Arc<Open>, RuntimeError> {
        let open = self.open_intent(&by.tenant, id).await?;
        let Some(open) = open.filter(|o| o.is_escalation()) else {
            // Whoever may see it is told that it is closed, and nobody else that there was something.
            self.approval(by, id).await?;
            return Err(Code::ApprovalClosed.into());
        };
        if !by.access.may(Scope::ApprovalRead, Some(&open.record.input.intent.environment)) {
            return Err(Code::NotFound.into());
        }
        Ok(open)
    }

    /// A person with the scope, and the fence of what they speak of.
    fn says(
        &self,
        by: &Principal,
        state: &State,
        open: &Open,
        scope: Scope,
    ) -> Result<(MemberId, Fence), RuntimeError> {
        let fence = self.fence(by, state, open, scope)?;
        Ok((by.member().ok_or_else(nobody)?.clone(), fence))
    }

    /// It is open, still the same, and in time.
    fn fence(&self, by: &Principal, state: &State, open: &Open, scope: Scope) -> Result<Fence, RuntimeError> {
        by.require(scope, Some(&open.record.input.intent.environment))?;
        if let Some(why) = &state.suspended {
            return Err(RuntimeError::new(Code::TenantSuspended, &**why));
        }
        let key = keys::open(&open.record.input.id);
        let fact = self.store().fact_now(&by.tenant.id, &key)?.ok_or(Code::ApprovalClosed)?;
        if self.now() >= open.expires_at {
            return Err(Code::ApprovalClosed.into());
        }
        if fact.version != open.version {
            return Err(Code::ApprovalStale.into());
        }
        Ok((key.into(), fact.version))
    }
}

/// Whether the environment decides by another version than the one that asked.
pub(super) fn policy_changed(state: &State, open: &Open) -> bool {
    let environment = state.environments.get(&open.record.input.intent.environment);
    environment.and_then(|e| e.deployed.as_ref()).map(|v| v.digest) != open.request().policy
}

/// The risk of what waits; unknown is the highest.
fn risk(open: &Open) -> u8 {
    open.record.decision.risk.as_ref().map_or(100, |r| r.score)
}

fn too_risky(open: &Open, most: u8) -> RuntimeError {
    let detail = format!("intent {} has the risk {}; together at most {most}", open.record.input.id, risk(open));
    RuntimeError::at(Code::ApprovalBulkRisk, "/approvals", detail)
}

fn nobody() -> RuntimeError {
    RuntimeError::new(Code::ApprovalIneligible, "this takes a person: somebody who is signed in, or their own key")
}

fn refused(why: Ineligible) -> RuntimeError {
    RuntimeError::new(why.code(), why.why())
}

/// What somebody says: something, and not too much of it.
fn text(said: &str, pointer: &str) -> Result<Box<str>, RuntimeError> {
    let said = said.trim();
    let good = !said.is_empty()
        && said.chars().count() <= MAX_REASON
        && !said.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    let what = || format!("1 to {MAX_REASON} characters, none of them a control character");
    if good { Ok(said.into()) } else { Err(RuntimeError::at(Code::RequestInvalid, pointer, what())) }
}
