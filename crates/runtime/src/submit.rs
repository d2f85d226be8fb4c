//! The decision point: one intent in, one durable decision out, and a token only after that.
//!
//! The order is the product's promise. Inputs are read, the pure core decides, the decision commits
//! fenced by everything it relied on, and only a committed allow can be made into a token:
//! [`Authority`] has no other constructor. A commit that lost is decided again on the new state, a
//! bounded number of times; then nothing was decided.

use std::borrow::Cow;
use std::sync::Arc;

use intended_engine::{About, Dead, KeyStatus, State, decide, delegation, effective, keys};
use intended_ledger::NodeHash;
use intended_model::decision::{Decision, DecisionRecord, Grant, Input, Outcome, PROCEDURE};
use intended_model::entry::Scope;
use intended_model::{Class, Code, Digest, Intent, IntentId, Timestamp, Value};
use intended_store::{Committed, Conflict, StoreError, TreeHead, Write};
use intended_token::claims::Actor;
use intended_token::{Action, Claims, LedgerPosition};
use tracing::Instrument as _;

use crate::draft::{Asked, Draft, commit_of};
use crate::metrics::{Phases, Stopwatch};
use crate::spans::{self, phase};
use crate::{Principal, Runtime, RuntimeError, Tenant};

/// How often a decision that lost its commit is decided again. Sixteen concurrent writers of one
/// session each lose at most to every other once.
pub const MAX_ATTEMPTS: usize = 16;
/// A decision whose commit took longer than this is not made into a token.
pub const DEADLINE_MS: i64 = 10_000;
/// How long the answer to an idempotency key is kept.
pub const IDEMPOTENCY_TTL_MS: i64 = 24 * 3_600_000;

/// What to decide.
#[derive(Debug, Clone)]
pub struct Submission {
    pub intent: Intent,
    pub idempotency_key: Option<Box<str>>,
    /// Who will verify the token; absent: the environment's audience.
    pub audience: Option<Box<str>>,
}

/// A decision that is durable in the ledger.
#[derive(Debug, Clone)]
pub struct Decided {
    pub record: DecisionRecord,
    pub index: u64,
    pub recorded_at: Timestamp,
    /// The leaf, bytes exactly as hashed.
    pub leaf: Vec<u8>,
    pub head: Arc<TreeHead>,
    /// Inclusion of the leaf in `head`.
    pub proof: Vec<NodeHash>,
    pub checkpoint: Arc<str>,
    /// Only for a decision that permits, and only after it is durable.
    pub token: Option<Authority>,
    /// Whether an earlier answer to the same idempotency key was given again.
    pub replayed: bool,
}

/// A signed authority token. Made from a committed decision, and from nothing else (I1).
#[derive(Clone)]
pub struct Authority {
    token: String,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Authority {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.token
    }
}

impl Runtime {
    /// Decides an intent. An `Err` means that nothing was decided and nothing is allowed.
    pub async fn submit(&self, principal: &Principal, submission: Submission) -> Result<Decided, RuntimeError> {
        let class = Class::of(PROCEDURE, &submission.intent.action.name);
        let span = spans::decide(&principal.tenant.id, &submission.intent.environment);
        // On the heap at once: whoever handles the request moves what it waits for several times.
        let decided = Box::pin(self.decide_one(principal, submission)).instrument(span.clone()).await;
        spans::came_of(&span, &decided);
        // The self-test is no traffic, nor are its failures.
        if let Err(error) = &decided
            && class.is_traffic()
        {
            self.metrics().undecided(error.code);
        }
        decided
    }

    async fn decide_one(&self, principal: &Principal, submission: Submission) -> Result<Decided, RuntimeError> {
        let total = Stopwatch::start();
        may_submit(principal, &submission.intent)?;
        let intent_hash = submission.intent.digest().map_err(RuntimeError::internal)?;
        let idempotency = submission.idempotency_key.as_deref().map(|k| keys::idempotency(&principal.credential, k));
        if let Some(key) = &idempotency
            && let Some(decided) = Box::pin(self.answered(principal, key, &submission, intent_hash)).await?
        {
            return Ok(decided);
        }
        let tenant = &principal.tenant;
        // What has reached its threshold denies from here on: nothing more is decided before it does.
        self.record_crossings(tenant).await?;
        let (id, jti) = self.random_names()?;
        let mut intent = submission.intent;
        for _ in 0..MAX_ATTEMPTS {
            let mut watch = Stopwatch::start();
            let evaluating = phase!("evaluate");
            let state = tenant.state();
            let at = self.now();
            // What the verifier will hold the decision against is the state that it is fenced by.
            may_submit(&self.current(principal, &state, at)?, &intent)?;
            let asked = Asked {
                id,
                intent,
                intent_hash,
                credential: &principal.credential,
                audience: submission.audience.clone(),
                approvals: Vec::new(),
                expires_at: None,
            };
            let Draft { record, mut reads, mut writes } =
                evaluating.in_scope(|| self.draft(tenant, &state, at, asked, &jti))?;
            reads.extend(self.session_fence(principal)?);
            if let Some(key) = &idempotency {
                reads.push((key.as_str().into(), 0));
                writes.push(Write::Put {
                    key: key.as_str().into(),
                    value: answer_of(id, false),
                    expires_at: Some(at.plus_millis(IDEMPOTENCY_TTL_MS)),
                });
            }
            let commit = commit_of(tenant, &record, reads, writes)?;
            drop(evaluating);
            let evaluate = watch.lap();
            let committing = phase!("commit");
            let committing =
                self.commit_decision(tenant, record, commit, idempotency.as_deref()).instrument(committing);
            let (record, committed) = committing.await.map_err(RuntimeError::internal)?;
            match committed {
                Ok(committed) => {
                    let commit = watch.lap();
                    let decided = phase!("sign").in_scope(|| self.committed(tenant, record, committed))?;
                    if let Err(error) = self.record_crossings(tenant).await {
                        tracing::warn!(tenant = %tenant.id, intent = %id, %error, "a breaker is not open yet");
                    }
                    if decided.record.input.class.is_traffic() {
                        let took = Phases { evaluate, commit, sign: watch.lap(), total: total.elapsed() };
                        self.metrics().took(&tenant.id, &decided.record.input.intent.environment, took);
                    }
                    return Ok(decided);
                }
                Err(StoreError::Conflict(conflict)) => {
                    if record.input.class.is_traffic() {
                        self.metrics().conflict();
                    }
                    match &conflict {
                        Conflict::Control { .. } => Box::pin(self.follow(tenant)).await?,
                        Conflict::Fact { key } if idempotency.as_deref() == Some(&**key) => {
                            let submission = Submission {
                                intent: record.input.intent,
                                idempotency_key: submission.idempotency_key.clone(),
                                audience: submission.audience.clone(),
                            };
                            let answered = Box::pin(self.answered(principal, key, &submission, intent_hash)).await?;
                            return answered.ok_or_else(|| Code::ConflictExhausted.into());
                        }
                        Conflict::Late { head } => self.saw(*head),
                        Conflict::Fact { .. } | Conflict::Bound { .. } => {}
                    }
                    intent = record.input.intent;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::ConflictExhausted.into())
    }

    /// What the caller may do can have become less since it was authenticated.
    pub(crate) fn check_current(&self, principal: &Principal, state: &State) -> Result<(), RuntimeError> {
        self.current(principal, state, self.now()).map(drop)
    }

    /// The decision is durable: now, and only now, a token can be made of it.
    pub(crate) fn committed(
        &self,
        tenant: &Tenant,
        record: DecisionRecord,
        mut c: Committed,
    ) -> Result<Decided, RuntimeError> {
        self.saw(c.recorded_at);
        let class = record.input.class;
        // The disk stood still, say: what was allowed then need not be right now.
        if record.decision.decision.permits() && self.now().millis_since(record.input.at) > DEADLINE_MS {
            return Err(Code::DecisionLate.into());
        }
        // A halt that came right after it: the token would be dead, and is not handed out.
        let state = tenant.state();
        if record.grant.is_some()
            && let Some(dead) = state.dead_token(&record, c.first_index)
        {
            return Err(match dead {
                Dead::Halted(code) => code.into(),
                Dead::Revoked => Code::ConflictExhausted.into(),
            });
        }
        let token = self.authority(tenant, &record, c.first_index, &c.head)?;
        let checkpoint = tenant.checkpoint(&c.head)?;
        if token.is_some() && class.is_traffic() {
            self.metrics().token_issued();
        }
        Ok(Decided {
            index: c.first_index,
            recorded_at: c.recorded_at,
            leaf: c.leaves.pop().unwrap_or_default(),
            proof: c.proofs.pop().unwrap_or_default(),
            head: c.head,
            checkpoint,
            token,
            record,
            replayed: false,
        })
    }

    /// Signs the token of a committed, permitting decision.
    pub(crate) fn authority(
        &self,
        tenant: &Tenant,
        record: &DecisionRecord,
        index: u64,
        head: &TreeHead,
    ) -> Result<Option<Authority>, RuntimeError> {
        let Some(grant) = record.grant.as_ref().filter(|_| record.decision.decision.permits()) else { return Ok(None) };
        let signer = tenant.signer(&record.input.intent.environment)?;
        if signer.kid() != &*grant.kid {
            // The key was rotated between decision and signature: its successor may sign.
            tracing::debug!(kid = %grant.kid, "signing with the successor of the recorded key");
        }
        let claims = claims_of(self.issuer(), tenant.id.as_str(), record, grant, index, head);
        let token = intended_token::issue(&claims, &*signer).map_err(RuntimeError::internal)?;
        Ok(Some(Authority { token, expires_at: Timestamp::from_millis(grant.exp * 1000) }))
    }

    /// The stored answer to an idempotency key, or `None` when it is new.
    async fn answered(
        &self,
        principal: &Principal,
        key: &str,
        submission: &Submission,
        intent_hash: Digest,
    ) -> Result<Option<Decided>, RuntimeError> {
        let Some(fact) = self.store().fact_now(&principal.tenant.id, key)? else { return Ok(None) };
        // Anything else under this key is a change of state.
        let (id, late) = read_answer(&fact.value).ok_or(Code::IdempotencyMismatch)?;
        let mut decided = self.decision(principal, &id).await?.ok_or(Code::NotFound)?;
        let same_audience =
            decided.record.grant.as_ref().is_none_or(|g| submission.audience.as_ref().is_none_or(|a| *a == g.aud));
        // What was deferred may have got its context since.
        let asked = Intent { context: submission.intent.context.clone(), ..decided.record.input.intent.clone() };
        let same = decided.record.input.intent_hash == intent_hash
            || (decided.record.input.expires_at.is_some() && asked == submission.intent);
        if !same || !same_audience {
            return Err(Code::IdempotencyMismatch.into());
        }
        let state = principal.tenant.state();
        self.check_current(principal, &state)?;
        // What was allowed before the halt is not handed out under it, nor after it.
        if decided.record.grant.is_some()
            && let Some((_, halt)) =
                state.halt_over(&About::of(&decided.record.input.intent, &decided.record.input.classification))
        {
            return Err(halt.code().into());
        }
        if decided.record.grant.is_some() && is_suspended(&state, &decided.record.input.intent.environment) {
            return Err(Code::EnvironmentSuspended.into());
        }
        if !late
            && state.dead_token(&decided.record, decided.index).is_none()
            && self.still_stands(principal, &state, &decided.record)?
        {
            decided.token = self.authority(&principal.tenant, &decided.record, decided.index, &decided.head)?;
        }
        decided.replayed = true;
        Ok(Some(decided))
    }

    /// Whether the token of a decision may be handed out again: it has not expired and was not
    /// revoked, the key that was to sign it is not retired, and if the state has changed since, the
    /// same input would still be decided the same way.
    pub(crate) fn still_stands(
        &self,
        principal: &Principal,
        state: &State,
        record: &DecisionRecord,
    ) -> Result<bool, RuntimeError> {
        let Some(grant) = record.grant.as_ref().filter(|g| g.exp > self.now().as_secs()) else { return Ok(false) };
        let environment = state.environments.get(&record.input.intent.environment);
        let signs = |k: &intended_engine::Key| k.kid == grant.kid && k.status != KeyStatus::Retired;
        if !environment.is_some_and(|e| e.keys.iter().any(signs))
            || self.store().fact_now(&principal.tenant.id, &keys::revoked(&grant.jti))?.is_some()
        {
            return Ok(false);
        }
        if record.input.control == state.control {
            return Ok(true);
        }
        let input = Input {
            catalogue: state.catalogue.digest(),
            classification: state.classify(record.input.procedure, &record.input.intent.action.name),
            control: state.control,
            ..record.input.clone()
        };
        let again = decide(state, &input);
        let recorded = &record.decision;
        Ok(again.decision == recorded.decision && again.obligations.arguments == recorded.obligations.arguments)
    }
}

/// Whether an environment takes part in nothing.
pub(crate) fn is_suspended(state: &State, environment: &intended_model::EnvironmentId) -> bool {
    state.environments.get(environment).is_some_and(|e| e.suspended.is_some())
}

pub(crate) fn may_submit(principal: &Principal, intent: &Intent) -> Result<(), RuntimeError> {
    // The self-test takes a scope that is good for nothing else.
    let scope = match Class::of(PROCEDURE, &intent.action.name) {
        Class::Synthetic => Scope::TokenTest,
        Class::Traffic => Scope::IntentSubmit,
    };
    principal.require(scope, Some(&intent.environment))?;
    if principal.access.acts(&intent.action.name) {
        return Ok(());
    }
    Err(RuntimeError::new(Code::CredentialAction, format!("`{}`", intent.action.name)))
}

/// The answer to an idempotency key: an intent's id, and whether it was decided too late for a token.
pub(crate) fn answer_of(id: IntentId, late: bool) -> Vec<u8> {
    if late { format!("{id} late").into_bytes() } else { id.to_string().into_bytes() }
}

pub(crate) fn read_answer(value: &[u8]) -> Option<(IntentId, bool)> {
    let text = std::str::from_utf8(value).ok()?;
    let (id, late) = text.strip_suffix(" late").map_or((text, false), |id| (id, true));
    Some((id.parse().ok()?, late))
}

/// The arguments that the token is bound to: the transformed ones of a `modify`.
#[must_use]
pub fn bound_arguments<'r>(decision: &'r Decision, intent: &'r Intent) -> &'r Value {
    match (decision.decision, &decision.obligations.arguments) {
        (Outcome::Modify, Some(arguments)) => arguments,
        _ => &intent.action.properties,
    }
}

/// The hash of the intent as it may be carried out. For a `modify` that is another than the one that
/// was submitted: a token bound to the submitted one would let exactly what policy changed go ahead.
#[must_use]
pub fn effective_hash(record: &DecisionRecord) -> Digest {
    let submitted = record.input.intent_hash;
    match effective(record) {
        Cow::Borrowed(_) => submitted,
        // An intent that has no hash matches no call.
        Cow::Owned(intent) => intent.digest().unwrap_or_else(|_| Digest::of(submitted.to_string().as_bytes())),
    }
}

/// Whom the agent acts for, and whom that one acts for, as the claim says it (RFC 8693). A permitted
/// decision has found that each of them may.
pub(crate) fn acts_for(intent: &Intent) -> Option<Actor> {
    let named = |value: &&Value| value.get("id").and_then(Value::as_str).map(str::to_owned);
    let chain: Vec<String> = delegation(intent).iter().map_while(named).collect();
    chain.into_iter().rev().fold(None, |act, sub| Some(Actor { sub, act: act.map(Box::new) }))
}

/// The claims are a function of the recorded decision and its ledger position.
#[must_use]
pub fn claims_of(
    issuer: &str,
    tenant: &str,
    record: &DecisionRecord,
    grant: &Grant,
    index: u64,
    head: &TreeHead,
) -> Claims {
    let intent = &record.input.intent;
    Claims {
        iss: issuer.to_owned(),
        sub: (*intent.subject.id).to_owned(),
        aud: (*grant.aud).to_owned(),
        iat: grant.iat,
        nbf: grant.iat,
        exp: grant.exp,
        jti: (*grant.jti).to_owned(),
        tid: tenant.to_owned(),
        env: intent.environment.as_str().to_owned(),
        txn: record.input.id.to_string(),
        act: acts_for(intent),
        class: record.input.class,
        action: Action {
            tool: (*intent.action.name).to_owned(),
            operation: record.input.classification.operation.map(|o| o.as_str().to_owned()).unwrap_or_default(),
            resource_type: (*intent.resource.kind).to_owned(),
            resource_id: (*intent.resource.id).to_owned(),
            arguments_digest: intended_model::intent::arguments_digest(bound_arguments(&record.decision, intent)),
        },
        intent_hash: effective_hash(record),
        policy: record.decision.policy.as_ref().map(|p| p.digest.to_string()).unwrap_or_default(),
        ledger: LedgerPosition { index, size: head.size, root: head.root.to_string() },
    }
}
