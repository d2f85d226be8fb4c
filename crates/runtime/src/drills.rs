//! Drills: a procedure of the emergency done for real, on traffic of its own, outside production. What
//! it did, how long each step took and whether everything is as before is a ledger entry.
//!
//! The traffic is one action that the environment allowed lately (or that the caller names), asked for
//! by an agent that is registered for the drill like the one that had asked, and retired after it.

use std::sync::Arc;

use intended_engine::{Agent, State};
use intended_model::decision::{Outcome, PROCEDURE};
use intended_model::emergency::{DrillKind, DrillStep, HaltScope, TokenSelector};
use intended_model::entry::{AgentState, BODY_VERSION, DrillRecorded, Scope, Tier};
use intended_model::{Code, EnvironmentId, Event, Intent, Name, Timestamp};
use intended_token::{Binding, Expectations, KeySet, Refusal, RevocationList, Verifier};
use serde::Serialize;

use crate::admin::Change;
use crate::agents::AgentSpec;
use crate::audit::MAX_SCAN;
use crate::emergency::Resumed;
use crate::metrics::Stopwatch;
use crate::policy::{RolledBack, previous};
use crate::submit::effective_hash;
use crate::tokens::Verification;
use crate::{Decided, Principal, Runtime, RuntimeError, Submission};

/// Tokens that a revocation drill revokes.
const TOKENS: usize = 3;
/// How often what a drill changed is tried to be put back.
const RESTORES: usize = 5;
/// How far back an action is looked for that was allowed.
const SAMPLE_MS: i64 = 30 * 86_400_000;

/// What a drill did.
#[derive(Debug, Clone, Serialize)]
pub struct DrillReport {
    pub drill: DrillKind,
    pub environment: EnvironmentId,
    pub passed: bool,
    /// Whether everything is as it was before.
    pub restored: bool,
    pub steps: Vec<DrillStep>,
    /// Of the entry that records it; absent when it could not be recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
}

/// A drill that is on.
struct Drill<'d> {
    runtime: &'d Runtime,
    by: &'d Principal,
    environment: &'d EnvironmentId,
    intent: Intent,
    steps: Vec<DrillStep>,
    /// What was thrown and is to be lifted again.
    halts: Vec<Name>,
    /// What was deployed instead of what: the drill's own deployment, and nobody else's, is undone.
    deployed: Option<(intended_model::Digest, intended_model::Digest)>,
}

/// What one step comes to: what was found, and whether it is what must be found.
type Found = Result<(bool, String), RuntimeError>;

fn refuse(why: impl Into<String>) -> RuntimeError {
    RuntimeError::new(Code::DrillRefused, why)
}

impl Runtime {
    /// Holds a drill. What is refused before anything was changed is an error; what fails later is part
    /// of the report. It is not to be dropped half-way: the caller gives it a task of its own.
    pub async fn drill(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        kind: DrillKind,
        sample: Option<Intent>,
    ) -> Result<DrillReport, RuntimeError> {
        let state = by.tenant.state();
        by.require(Scope::EmergencyWrite, Some(environment))?;
        let needs: &[Scope] = match kind {
            DrillKind::Halt => &[Scope::AccessWrite, Scope::IntentSubmit, Scope::TokenVerify],
            DrillKind::Revoke => &[Scope::AccessWrite, Scope::IntentSubmit, Scope::TokenVerify, Scope::TokenRevoke],
            DrillKind::Rollback => &[Scope::AccessWrite, Scope::IntentSubmit, Scope::PolicyWrite],
        };
        needs.iter().try_for_each(|scope| by.require(*scope, Some(environment)))?;
        fits(&state, environment, kind)?;
        let intent = match sample {
            Some(intent) => intent,
            None => self.allowed_lately(by, environment).await?,
        };
        let like = state.agents.get(&intent.subject.id).filter(|a| a.state == AgentState::Active);
        let like = Arc::clone(like.ok_or_else(|| refuse(format!("`{}` is no active agent", intent.subject.id)))?);
        let hex = intended_model::digest::hex(&self.random::<4>()?);
        let agent = format!("drill-{hex}");
        let intent = own(intent, &agent, environment);
        let started_at = self.now();
        let mut drill =
            Drill { runtime: self, by, environment, intent, steps: Vec::new(), halts: Vec::new(), deployed: None };
        self.register(by, environment, &agent, &like, AgentState::Active).await?;
        let went = match kind {
            DrillKind::Halt => drill.halt().await,
            DrillKind::Revoke => drill.revoke(&agent).await,
            DrillKind::Rollback => drill.rollback().await,
        };
        if let Err(error) = went {
            drill.note("went on", 0, (false, format!("{}: {}", error.code, error.detail)));
        }
        let watch = Stopwatch::start();
        let restored = drill.restore(&agent, &like).await;
        let what = restored.as_ref().err().cloned().unwrap_or_else(|| "as it was before".to_owned());
        drill.note("everything is restored", micros(&watch), (restored.is_ok(), what));
        let passed = drill.steps.iter().all(|s| s.passed);
        let mut report = DrillReport {
            drill: kind,
            environment: environment.clone(),
            passed,
            restored: restored.is_ok(),
            steps: drill.steps,
            index: None,
        };
        match self.record_drill(by, &report, started_at).await {
            Ok(index) => report.index = Some(index),
            Err(error) => {
                tracing::error!(code = %error.code, "a drill could not be recorded");
                report.passed = false;
                let detail = format!("{}: {}", error.code, error.detail).into();
                let step = DrillStep { detail, micros: 0, passed: false, step: "it is recorded".into() };
                report.steps.push(step);
            }
        }
        Ok(report)
    }

    async fn record_drill(
        &self,
        by: &Principal,
        report: &DrillReport,
        started_at: Timestamp,
    ) -> Result<u64, RuntimeError> {
        let changed = self.change(by, (), |by, _| {
            by.require(Scope::EmergencyWrite, Some(&report.environment))?;
            let event = Event::DrillRecorded(DrillRecorded {
                by: by.credential.clone(),
                drill: report.drill,
                environment: report.environment.clone(),
                passed: report.passed,
                restored: report.restored,
                started_at,
                steps: report.steps.clone(),
                v: BODY_VERSION,
            });
            Ok(Change::new(event, ()))
        });
        Ok(changed.await?.index)
    }

    async fn register(
        &self,
        by: &Principal,
        environment: &EnvironmentId,
        agent: &str,
        like: &Agent,
        state: AgentState,
    ) -> Result<u64, RuntimeError> {
        let spec = AgentSpec {
            agent: agent.into(),
            categories: Some(like.categories.clone()),
            environments: vec![environment.clone()],
            kind: Some(like.kind.clone()),
            owner: Some("drill".into()),
            purpose: Some("a drill; it acts for nobody".into()),
            state: Some(state),
            teams: Some(like.teams.clone()),
            tools: Some(like.tools.clone()),
            trust: like.trust,
            workflow: Some(Vec::new()),
        };
        self.set_agent(by, spec).await
    }

    /// The action that the environment allowed last, asked for by an agent for itself.
    async fn allowed_lately(&self, by: &Principal, environment: &EnvironmentId) -> Result<Intent, RuntimeError> {
        let state = by.tenant.state();
        let mut found = None;
        let since = self.now().plus_millis(-SAMPLE_MS);
        self.recent(by, since, MAX_SCAN, |_, record| {
            let intent = record.input.intent;
            let itself = intended_engine::delegation(&intent).is_empty();
            let active = state.agents.get(&intent.subject.id).is_some_and(|a| a.state == AgentState::Active);
            let allowed = record.decision.decision == Outcome::Allow && record.input.procedure <= PROCEDURE;
            if found.is_none() && allowed && itself && active && intent.environment == *environment {
                found = Some(intent);
            }
        })
        .await?;
        found.ok_or_else(|| {
            refuse(format!("nothing was allowed in `{environment}` lately: name an intent that it allows"))
        })
    }
}

/// Whether a drill can be held and everything be put back by one person.
fn fits(state: &State, environment: &EnvironmentId, kind: DrillKind) -> Result<(), RuntimeError> {
    let known = state.environments.get(environment).ok_or(Code::EnvironmentUnknown)?;
    if known.tier == Tier::Production {
        return Err(refuse(format!("`{environment}` is production")));
    }
    if state.suspended.is_some() || known.suspended.is_some() {
        return Err(refuse("it is suspended"));
    }
    let whole = |h: &intended_engine::Halt| h.on.is_none() && h.environment.as_ref().is_none_or(|e| e == environment);
    if state.halts.values().any(whole) {
        return Err(refuse(format!("`{environment}` is halted: that is no drill")));
    }
    if kind == DrillKind::Halt && state.resume_people(Some(environment)) > 1 {
        return Err(refuse("lifting a halt there takes two people, and a drill is held by one"));
    }
    if kind == DrillKind::Rollback {
        if state.rollback_people(known) > 1 {
            return Err(refuse("a rollback there takes two people, and a drill is held by one"));
        }
        if previous(known).is_none() {
            return Err(refuse("there is no earlier version to go back to"));
        }
    }
    Ok(())
}

fn deployed(state: &State, environment: &EnvironmentId) -> Option<intended_model::Digest> {
    state.environments.get(environment).and_then(|e| e.deployed.as_ref()).map(|v| v.digest)
}

/// The intent as the drill's own agent asks for it.
fn own(mut intent: Intent, agent: &str, environment: &EnvironmentId) -> Intent {
    intent.subject.id = agent.into();
    intent.environment = environment.clone();
    intent.session = None;
    intent
}

fn micros(watch: &Stopwatch) -> u64 {
    u64::try_from(watch.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Drill<'_> {
    fn note(&mut self, step: &str, micros: u64, (passed, detail): (bool, String)) {
        self.steps.push(DrillStep { detail: detail.into(), micros, passed, step: step.into() });
    }

    /// Does a step and notes it. The first that fails ends the drill.
    async fn step(&mut self, name: &str, does: impl Future<Output = Found>) -> Result<(), RuntimeError> {
        let watch = Stopwatch::start();
        let found = does.await?;
        let passed = found.0;
        let detail = found.1.clone();
        self.note(name, micros(&watch), found);
        if passed { Ok(()) } else { Err(refuse(format!("{name}: {detail}"))) }
    }

    async fn submit(&self, idempotency_key: Option<&str>) -> Result<Decided, RuntimeError> {
        let idempotency_key = idempotency_key.map(Box::from);
        let submission = Submission { intent: self.intent.clone(), idempotency_key, audience: None };
        self.runtime.submit(self.by, submission).await
    }

    async fn allowed(&self, idempotency_key: Option<&str>) -> Result<(Decided, Found), RuntimeError> {
        let decided = self.submit(idempotency_key).await?;
        let decision = &decided.record.decision;
        let found = (
            decided.token.is_some(),
            format!("{} ({}), entry {}", decision.decision.as_str(), decision.reason, decided.index),
        );
        Ok((decided, Ok(found)))
    }

    /// What online verification says of a token.
    async fn verify(&self, decided: &Decided, consume: bool) -> Result<Option<Refusal>, RuntimeError> {
        let token = decided.token.as_ref().ok_or(Code::TokenUnknown)?;
        let audience = decided.record.grant.as_ref().map(|g| g.aud.to_string()).unwrap_or_default();
        let binding = Binding::IntentHash(effective_hash(&decided.record));
        let verified =
            self.runtime.verify_token(self.by, token.as_str(), &audience, self.environment, &binding, consume).await?;
        Ok(match verified {
            Verification::Accepted(_) => None,
            Verification::Refused(refusal) => Some(refusal),
        })
    }

    /// What a verifier without a connection says, with the list of now.
    async fn offline(&self, decided: &Decided) -> Result<Option<Refusal>, RuntimeError> {
        let token = decided.token.as_ref().ok_or(Code::TokenUnknown)?;
        let state = self.by.tenant.state();
        let keys =
            KeySet::from_jwks(&Runtime::key_set(&state, Some(self.environment))?).map_err(RuntimeError::internal)?;
        let list = self.runtime.revocation_list(self.by, self.environment).await?;
        let list = RevocationList::open(&list.text, self.runtime.issuer(), &keys).map_err(RuntimeError::internal)?;
        let verifier = Verifier {
            keys: &keys,
            expect: Expectations {
                issuer: self.runtime.issuer().to_owned(),
                audience: decided.record.grant.as_ref().map(|g| g.aud.to_string()).unwrap_or_default(),
                tenant: self.by.tenant.id.to_string(),
                environment: self.environment.to_string(),
            },
            revocations: Some(&list),
        };
        let binding = Binding::IntentHash(effective_hash(&decided.record));
        Ok(verifier.verify(token.as_str(), &binding, self.runtime.now()).err())
    }

    /// Every path that looks at a token refuses this one.
    async fn refused_everywhere(&mut self, decided: &Decided, with: Refusal) -> Result<(), RuntimeError> {
        let said = |refusal: Option<Refusal>| {
            let found = (refusal == Some(with), refusal.map_or("accepted".to_owned(), |r| r.code().to_owned()));
            Ok(found)
        };
        for (name, consume) in [("verification refuses the token", false), ("consumption refuses the token", true)] {
            let watch = Stopwatch::start();
            let found: Found = said(self.verify(decided, consume).await?);
            let (passed, detail) = found?;
            self.note(name, micros(&watch), (passed, detail.clone()));
            if !passed {
                return Err(refuse(format!("{name}: {detail}")));
            }
        }
        let watch = Stopwatch::start();
        let found: Found = said(self.offline(decided).await?);
        let (passed, detail) = found?;
        self.note("the list for offline verifiers has it", micros(&watch), (passed, detail.clone()));
        if passed { Ok(()) } else { Err(refuse(format!("offline: {detail}"))) }
    }

    async fn accepts_anew(&mut self) -> Result<(), RuntimeError> {
        let watch = Stopwatch::start();
        let (decided, found) = self.allowed(None).await?;
        self.note("it is allowed again", micros(&watch), found?);
        let watch = Stopwatch::start();
        let refusal = self.verify(&decided, true).await?;
        let what = refusal.map_or("accepted".to_owned(), |r| r.code().to_owned());
        self.note("a new token is accepted", micros(&watch), (refusal.is_none(), what));
        Ok(())
    }

    async fn halt(&mut self) -> Result<(), RuntimeError> {
        let watch = Stopwatch::start();
        let (before, found) = self.allowed(None).await?;
        let (passed, detail) = found?;
        self.note("it is allowed before", micros(&watch), (passed, detail));
        if !passed {
            return Err(refuse("the drill's own traffic is not allowed here: name an intent that is"));
        }
        let scope = HaltScope { environment: Some(self.environment.clone()), on: None };
        let thrown = self.runtime.throw(self.by, scope, "drill").await?;
        self.halts.push(thrown.halt.clone());
        let took = thrown.refused.unwrap_or(thrown.committed);
        let what = format!(
            "halt `{}` at entry {}, durable after {} µs, refusing after {} µs",
            thrown.halt,
            thrown.index,
            thrown.committed.as_micros(),
            took.as_micros()
        );
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.note("the halt takes effect", took, (thrown.refused.is_some(), what));
        let watch = Stopwatch::start();
        let under = self.submit(None).await?;
        let reason = under.record.decision.reason;
        let halted = !under.record.decision.decision.permits() && reason == Code::HaltEnvironment;
        self.note("nothing is allowed under it", micros(&watch), (halted, reason.to_string()));
        self.refused_everywhere(&before, Refusal::Halted).await?;
        let (runtime, by) = (self.runtime, self.by);
        self.step("it is lifted", async {
            let resumed = runtime.resume(by, thrown.halt.clone(), "drill is over").await?;
            Ok((matches!(resumed, Resumed::Lifted { .. }), format!("entry {}", resumed.index())))
        })
        .await?;
        self.refused_everywhere(&before, Refusal::Halted).await?;
        self.accepts_anew().await
    }

    async fn revoke(&mut self, agent: &str) -> Result<(), RuntimeError> {
        let key = format!("drill-{agent}");
        let mut tokens = Vec::new();
        for n in 0..TOKENS {
            let watch = Stopwatch::start();
            let (decided, found) = self.allowed((n == 0).then_some(&*key)).await?;
            let (passed, detail) = found?;
            self.note("it is allowed before", micros(&watch), (passed, detail));
            if !passed {
                return Err(refuse("the drill's own traffic is not allowed here: name an intent that is"));
            }
            tokens.push(decided);
        }
        let selector = TokenSelector {
            agent: Some(agent.into()),
            environment: Some(self.environment.clone()),
            ..Default::default()
        };
        let (runtime, by) = (self.runtime, self.by);
        self.step("all of its tokens are revoked", async {
            let revoked = runtime.revoke_tokens(by, selector, "drill").await?;
            let (counted, index) = revoked;
            let count = counted.map_or(0, |c| c.tokens);
            Ok((count >= TOKENS as u64, format!("{count} live tokens, entry {index}")))
        })
        .await?;
        for decided in &tokens {
            self.refused_everywhere(decided, Refusal::Revoked).await?;
        }
        let watch = Stopwatch::start();
        let again = self.submit(Some(&key)).await?;
        let found = (again.replayed && again.token.is_none(), format!("entry {}", again.index));
        self.note("asked again, it is not handed out", micros(&watch), found);
        self.accepts_anew().await
    }

    async fn rollback(&mut self) -> Result<(), RuntimeError> {
        let state = self.by.tenant.state();
        let known = state.environments.get(self.environment).ok_or(Code::EnvironmentUnknown)?;
        let (from, to) = (deployed(&state, self.environment), previous(known));
        let (Some(from), Some(to)) = (from, to) else { return Err(refuse("there is no earlier version")) };
        let watch = Stopwatch::start();
        let before = self.submit(None).await?;
        let outcome = |d: &Decided| (d.record.decision.decision, d.record.decision.reason);
        let digest = |d: &Decided| d.record.decision.policy.as_ref().map(|p| p.digest);
        let what = format!("{} by {}", outcome(&before).0.as_str(), from.short());
        self.note("it is decided before", micros(&watch), (digest(&before) == Some(from), what));
        let (runtime, by, environment) = (self.runtime, self.by, self.environment);
        let go = async |to, reason: &str| {
            let done = runtime.rollback(by, environment, None, Some(to), reason).await?;
            Ok(match done {
                RolledBack::Done(deployed) => (deployed.digest == to, format!("entry {}", deployed.index)),
                RolledBack::Waiting { .. } => (false, "it waits for a second person".to_owned()),
            })
        };
        // Before it is done: a step that is cut short has to be undone too.
        self.deployed = Some((to, from));
        self.step("the version before decides", go(to, "drill")).await?;
        let watch = Stopwatch::start();
        let back = self.submit(None).await?;
        let what = format!("{} by {}", outcome(&back).0.as_str(), to.short());
        self.note("it is decided by that version", micros(&watch), (digest(&back) == Some(to), what));
        self.step("the present version decides again", go(from, "drill is over")).await?;
        let watch = Stopwatch::start();
        let after = self.submit(None).await?;
        let same = outcome(&after) == outcome(&before) && digest(&after) == Some(from);
        let what = format!("{} by {}", outcome(&after).0.as_str(), from.short());
        self.note("it is decided as before", micros(&watch), (same, what));
        Ok(())
    }

    /// Puts everything back, and says what could not be.
    async fn restore(&self, agent: &str, like: &Agent) -> Result<(), String> {
        let mut left = Vec::new();
        for _ in 0..RESTORES {
            left.clear();
            for halt in &self.halts {
                if self.by.tenant.state().halts.contains_key(halt)
                    && let Err(error) = self.runtime.resume(self.by, halt.clone(), "drill is over").await
                {
                    left.push(format!("the halt `{halt}` is in force ({}): lift it", error.code));
                }
            }
            let now = deployed(&self.by.tenant.state(), self.environment);
            if let Some((_, was)) = self.deployed.filter(|(own, _)| now == Some(*own)) {
                let back = self.runtime.rollback(self.by, self.environment, None, Some(was), "drill is over").await;
                if !matches!(back, Ok(RolledBack::Done(_))) {
                    left.push(format!("another version decides: go back to {was}"));
                }
            }
            let active = self.by.tenant.state().agents.get(agent).is_some_and(|a| a.state != AgentState::Retired);
            let retire = self.runtime.register(self.by, self.environment, agent, like, AgentState::Retired);
            if active && let Err(error) = retire.await {
                left.push(format!("the agent `{agent}` is active ({}): retire it", error.code));
            }
            if left.is_empty() {
                return Ok(());
            }
        }
        Err(left.join("; "))
    }
}
