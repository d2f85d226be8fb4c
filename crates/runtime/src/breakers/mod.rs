//! Circuit breakers: measuring what was decided and what came of it, and recording that one opens,
//! is tried again, or closes. What is lawful, and what it denies, is in `intended_engine::breakers`.
//!
//! * [`window`]: what is measured, as time goes on, in the sums of a `ring`
//! * [`monitor`]: which breakers see what
//! * `probes`: half-open, and what follows
//! * [`keep`]: what was measured, written down (as what: `written`)
//! * `recall`: what was measured, after a restart
//! * `manage`: thresholds and holds, by people
//!
//! A threshold that is reached is recorded before the decision that reached it is answered, and no
//! further decision of this node is begun before it is. Several nodes measure each what they decide.

use std::sync::Arc;

use intended_engine::breakers::{Breaker, Instance};
use intended_engine::covers::Acting;
use intended_engine::{State, effective};
use intended_model::decision::{Classification, DecisionRecord, GateName, GateOutcome, Outcome};
use intended_model::emergency::connector_of;
use intended_model::entry::{ActionOutcome, BODY_VERSION, BreakerOpened, BreakerSpend, IntentOutcome};
use intended_model::{Code, EnvironmentId, Event, Intent, IntentId, Timestamp, Value};
use intended_store::{Commit, Conflict, StoreError, Write};

use crate::admin::entry_of;
use crate::tenant::event_of;
use crate::{Runtime, RuntimeError, Tenant};

pub mod keep;
mod manage;
pub mod monitor;
mod probes;
mod recall;
mod ring;
pub mod window;
mod written;

pub use manage::{BreakerRow, BreakerSpec, HoldRow, HoldSpec, InstanceRow};
pub use monitor::{Monitor, Seen};
pub use recall::MAX_RECALLED;
pub use window::Sample;

/// How often a step that lost the race against another change is tried again.
const MAX_ATTEMPTS: usize = 16;

/// What a halt or a breaker denied says nothing of whom it denied, and would keep a breaker open for
/// ever. Nor does it say anything of an agent that somebody has named it and may not: only what an agent
/// asks for that is not its to do is its own doing. Whoever can submit at all would otherwise be a switch
/// that turns off whom they name.
fn counts(record: &DecisionRecord) -> bool {
    let first = record.decision.gates.iter().find(|g| g.outcome == GateOutcome::Deny);
    match first.map(|g| (g.gate, g.code)) {
        Some((GateName::Emergency | GateName::Breaker, _)) => false,
        Some((GateName::Identity, code)) => {
            matches!(code, Code::AgentTool | Code::AgentCategory | Code::DelegationWidens)
        }
        _ => true,
    }
}

/// What a decision is to a breaker.
fn sample(record: &DecisionRecord, breaker: &Breaker) -> Sample {
    let allowed = record.decision.decision.permits();
    let spend = breaker.rules.spend.as_ref().filter(|_| allowed);
    Sample::Decision {
        denied: record.decision.decision == Outcome::Deny,
        allowed,
        spent: spend.map_or(0, |spend| spent(&effective(record).action.properties, spend)),
    }
}

/// What an action moves. An amount that cannot be read counts as all that there may be.
fn spent(arguments: &Value, spend: &BreakerSpend) -> i64 {
    match arguments.get(&spend.argument) {
        None => 0,
        Some(Value::Number(number)) => number.scaled(2).filter(|n| *n >= 0).unwrap_or(spend.limit),
        Some(_) => spend.limit,
    }
}

impl Tenant {
    /// Takes in a decision that is durable.
    pub(crate) fn decided(&self, record: &DecisionRecord, at: Timestamp) {
        let state = self.state();
        if record.input.class.is_synthetic() || !counts(record) {
            return;
        }
        let intent = &record.input.intent;
        let connector = connector_of(&intent.action.name);
        let acting = Acting::with(intent, &record.input.classification, connector.as_deref());
        let seen = Seen { environment: &intent.environment, acting, at };
        self.breakers.saw(&state, seen, |breaker| sample(record, breaker));
    }

    /// Takes in what came of an action.
    pub(crate) fn reported(&self, of: (&Intent, &Classification), said: &IntentOutcome, at: Timestamp) {
        let connector = connector_of(&of.0.action.name);
        let acting = Acting::with(of.0, of.1, connector.as_deref());
        let seen = Seen { environment: &said.environment, acting, at };
        let (failed, millis) = (said.outcome != ActionOutcome::Succeeded, said.duration_ms);
        self.breakers.saw(&self.state(), seen, |_| Sample::Outcome { failed, millis });
    }
}

impl Runtime {
    /// Records what has reached its threshold. From then on it denies.
    pub(crate) async fn record_crossings(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        // Rare, and large: every decision would carry the room for it.
        if tenant.breakers.is_waiting() { Box::pin(self.record_waiting(tenant)).await } else { Ok(()) }
    }

    async fn record_waiting(&self, tenant: &Arc<Tenant>) -> Result<(), RuntimeError> {
        let _one_at_a_time = tenant.breakers.recording.lock().await;
        let mut attempts = 0;
        while let Some(crossing) = tenant.breakers.first() {
            let (state, now) = (tenant.state(), self.now());
            let breaker = state.breakers.defined.get(&crossing.instance.breaker);
            // Opened elsewhere, set to something else or gone: then there is nothing to record.
            let current = breaker.filter(|b| {
                b.active
                    && b.rules.threshold(crossing.measured.metric) == Some(crossing.measured.threshold)
                    && b.rules.window == crossing.measured.window
                    && u64::from(b.rules.minimum_calls) <= crossing.measured.calls
                    && !state.breakers.standing.contains_key(&crossing.instance)
            });
            let Some(breaker) = current else {
                tenant.breakers.done(&crossing.instance);
                continue;
            };
            let event = Event::BreakerOpened(BreakerOpened {
                at: now,
                breaker: crossing.instance.breaker.clone(),
                environment: crossing.environment.clone(),
                measured: crossing.measured,
                retry_at: now.plus_secs(breaker.rules.open_secs.into()),
                target: crossing.instance.target.clone(),
                v: BODY_VERSION,
            });
            // It watches something else now: what was reached is not its own any more.
            if State::clone(&state).apply(u64::MAX, &event).is_err() {
                tenant.breakers.done(&crossing.instance);
                continue;
            }
            if self.record_transition(tenant, &state, now, &event, Default::default()).await? {
                tenant.breakers.forget(&tenant.state(), &crossing.instance);
                tenant.breakers.done(&crossing.instance);
            } else {
                attempts += 1;
                if attempts >= MAX_ATTEMPTS {
                    return Err(Code::ConflictExhausted.into());
                }
            }
        }
        Ok(())
    }

    /// Records one step of the runtime's own, if the state is still the one that it was made on.
    async fn record_transition(
        &self,
        tenant: &Arc<Tenant>,
        state: &State,
        now: Timestamp,
        event: &Event,
        fence: (Vec<(Box<str>, u64)>, Vec<Write>),
    ) -> Result<bool, RuntimeError> {
        let (reads, writes) = fence;
        State::clone(state).apply(u64::MAX, event)?;
        let commit = Commit {
            tenant: tenant.id.clone(),
            now,
            control_version: Some(state.control),
            reads,
            writes,
            entries: vec![entry_of(event)?],
        };
        // Whoever waits for it may go: what is committed is seen all the same.
        let (follower, of) = (self.follower.clone(), Arc::clone(tenant));
        let committed = tokio::spawn(async move {
            follower.commit_here(commit).await?;
            Ok::<_, StoreError>(follower.follow(&of).await)
        });
        match committed.await.map_err(RuntimeError::internal)? {
            Ok(followed) => followed.map(|()| true),
            Err(StoreError::Conflict(Conflict::Late { head })) => {
                self.saw(head);
                Ok(false)
            }
            Err(StoreError::Conflict(_)) => self.follow(tenant).await.map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    /// What follows from an outcome: a threshold is reached, or a half-open breaker closes or opens
    /// again. The outcome is recorded, whatever comes of this; what fails here is done a second later.
    pub(crate) async fn after_outcome(&self, tenant: &Arc<Tenant>, record: &DecisionRecord) {
        let state = tenant.state();
        let probed = |i: &&Instance| {
            state.breakers.probes_of(i).is_some_and(|key| record.input.counters.contains_key(key.as_str()))
        };
        let mut done = self.record_crossings(tenant).await;
        for instance in state.breakers.standing.keys().filter(probed) {
            done = done.and(self.tend_breaker(tenant, instance).await);
        }
        if let Err(error) = done {
            tracing::warn!(tenant = %tenant.id, %error, "a breaker stays as it is for now");
        }
    }

    /// The decision that granted an intent's token, and everything else that the ledger says of it.
    pub(crate) async fn granted_of(
        &self,
        tenant: &Tenant,
        intent: &IntentId,
    ) -> Result<Option<(DecisionRecord, Vec<(u64, Event)>)>, RuntimeError> {
        let (mut granted, mut others) = (None, Vec::new());
        for entry in self.store().entries_of(&tenant.id, *intent.as_bytes()).await? {
            match event_of(&entry.leaf)? {
                // Of those that were decided again, the one that permits.
                Event::Decision(record) if granted.is_none() || record.grant.is_some() => granted = Some(record),
                other => others.push((entry.index, other)),
            }
        }
        Ok(granted.map(|record| (record, others)))
    }
}

/// The environment of a request that names one, or of what it is about, or the caller's only one.
fn environment_of(
    by: &crate::Principal,
    named: Option<&EnvironmentId>,
    known: Option<&EnvironmentId>,
) -> Result<EnvironmentId, RuntimeError> {
    let one = named.or(known).or_else(|| by.only_environment()).cloned();
    one.ok_or_else(|| RuntimeError::at(Code::RequestInvalid, "/environment", "say in which environment"))
}
