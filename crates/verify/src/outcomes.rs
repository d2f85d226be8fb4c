//! What came of actions: said once, of what somebody was let through to do. And what follows from it:
//! a half-open breaker closes by probes that succeeded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use intended_engine::breakers::{Breakers, Instance};
use intended_engine::effects::OUTCOME_SECS;
use intended_engine::{State, keys};
use intended_model::decision::DecisionRecord;
use intended_model::entry::{ActionOutcome, BreakerClosed, IntentOutcome, TokenConsumed};
use intended_model::{CredentialId, EnvironmentId, IntentId, Timestamp};

use crate::MAX_LAG_MS;

/// An action whose token was used.
struct Used {
    environment: EnvironmentId,
    exp: i64,
    outcome: Option<ActionOutcome>,
    /// Who let it through.
    by: CredentialId,
    /// Who asked for it, from the third procedure on: before that nobody looked.
    asked: Option<CredentialId>,
}

/// The first decision procedure of whose actions only who let them through says what came of them.
const REPORTED_BY_CONSUMER: u32 = 3;

/// What came of the probes of one half-open breaker.
#[derive(Default)]
struct Probed {
    succeeded: u32,
    failed: u32,
    /// Of which nobody has said anything yet, with when the token of each ends.
    open: HashMap<IntentId, i64>,
}

#[derive(Default)]
pub struct Outcomes {
    used: HashMap<IntentId, Used>,
    /// The half-open breakers that an intent was let through by.
    probes: HashMap<IntentId, Vec<Box<str>>>,
    probed: HashMap<Box<str>, Probed>,
    /// Who asked for what was permitted and not used yet, while its token is good.
    asked: HashMap<IntentId, CredentialId>,
    ends: VecDeque<(i64, IntentId)>,
}

impl Outcomes {
    pub fn permitted(&mut self, record: &DecisionRecord) {
        let keys: Vec<_> =
            record.input.counters.keys().filter(|k| k.starts_with(keys::PROBE_PREFIX)).cloned().collect();
        let exp = record.grant.as_ref().map_or(0, |grant| grant.exp);
        if record.input.procedure >= REPORTED_BY_CONSUMER {
            let now = record.input.at.as_secs();
            while let Some((_, gone)) = self.ends.pop_front_if(|(exp, _)| *exp + 2 * MAX_LAG_MS / 1000 < now) {
                self.asked.remove(&gone);
            }
            self.asked.insert(record.input.id, record.input.credential.clone());
            self.ends.push_back((exp, record.input.id));
        }
        for key in &keys {
            self.probed.entry(key.clone()).or_default().open.insert(record.input.id, exp);
        }
        if !keys.is_empty() {
            self.probes.insert(record.input.id, keys);
        }
    }

    pub fn used(&mut self, consumed: &TokenConsumed, exp: i64) {
        let used = Used {
            environment: consumed.environment.clone(),
            exp,
            outcome: None,
            by: consumed.by.clone(),
            asked: self.asked.remove(&consumed.intent),
        };
        self.used.insert(consumed.intent, used);
    }

    pub fn reported(&mut self, state: Option<&State>, at: Timestamp, said: &IntentOutcome) -> Result<(), &'static str> {
        let used = self.used.get_mut(&said.intent).ok_or("no token of it was used before")?;
        if used.environment != said.environment {
            return Err("it is of another environment");
        }
        if let Some(asked) = &used.asked {
            let own = |by| state.and_then(|s| s.member_behind(by));
            let same = said.by == used.by || own(&said.by).is_some_and(|member| own(&used.by) == Some(member));
            if !same || (said.by == *asked && used.by != *asked) {
                return Err("it was said by somebody else than who let the action through");
            }
        }
        if used.outcome.replace(said.outcome).is_some() {
            return Err("it was reported before");
        }
        if at.as_secs() > used.exp + OUTCOME_SECS + MAX_LAG_MS / 1000 {
            return Err("its token had ended more than a day before");
        }
        for key in self.probes.remove(&said.intent).into_iter().flatten() {
            let probed = self.probed.entry(key).or_default();
            probed.open.remove(&said.intent);
            match said.outcome {
                ActionOutcome::Succeeded => probed.succeeded += 1,
                ActionOutcome::Failed | ActionOutcome::Unknown => probed.failed += 1,
            }
        }
        Ok(())
    }

    pub fn closed(&mut self, breakers: Option<&Arc<Breakers>>, closed: &BreakerClosed) -> Result<(), String> {
        let instance = Instance { breaker: closed.breaker.clone(), target: closed.target.clone() };
        // One that is not half-open does not close: the fold says so.
        let Some(key) = breakers.and_then(|b| b.probes_of(&instance)) else { return Ok(()) };
        let timeout = breakers.and_then(|b| b.defined.get(&closed.breaker)).map_or(0, |b| b.rules.probe_timeout_secs);
        let Probed { succeeded, failed, open } = self.probed.remove(key.as_str()).unwrap_or_default();
        let over = open.values().filter(|exp| closed.at.as_secs() > **exp + i64::from(timeout)).count();
        if failed > 0 {
            return Err(format!("{failed} of its probes had failed"));
        }
        if closed.succeeded != succeeded {
            return Err(format!("{succeeded} of its probes had succeeded, not {}", closed.succeeded));
        }
        if u32::try_from(over) != Ok(closed.unreported) {
            return Err(format!("of {over} of its probes nobody had said anything, not {}", closed.unreported));
        }
        Ok(())
    }

    /// The facts that follow from it, with the time until which each is needed.
    pub fn facts(&self, expected: &mut HashMap<String, (Vec<u8>, Timestamp)>) {
        for (intent, used) in &self.used {
            if let Some(outcome) = used.outcome {
                let until = Timestamp::from_millis((used.exp + OUTCOME_SECS).saturating_mul(1000));
                expected.insert(keys::outcome(intent), (outcome.as_str().as_bytes().to_vec(), until));
            }
        }
    }
}
