//! What came of actions: said once, of what somebody was let through to do. And what follows from it:
//! a half-open breaker closes by probes that succeeded.

use std::collections::HashMap;
use std::sync::Arc;

use intended_engine::breakers::{Breakers, Instance};
use intended_engine::effects::OUTCOME_SECS;
use intended_engine::keys;
use intended_model::decision::DecisionRecord;
use intended_model::entry::{ActionOutcome, BreakerClosed, IntentOutcome, TokenConsumed};
use intended_model::{EnvironmentId, IntentId, Timestamp};

use crate::MAX_LAG_MS;

/// An action whose token was used.
struct Used {
    environment: EnvironmentId,
    exp: i64,
    outcome: Option<ActionOutcome>,
}

/// What came of the probes of one half-open breaker.
#[derive(Default)]
struct Probed {
    succeeded: u32,
    failed: u32,
}

#[derive(Default)]
pub struct Outcomes {
    used: HashMap<IntentId, Used>,
    /// The half-open breakers that an intent was let through by.
    probes: HashMap<IntentId, Vec<Box<str>>>,
    probed: HashMap<Box<str>, Probed>,
}

impl Outcomes {
    pub fn permitted(&mut self, record: &DecisionRecord) {
        let keys: Vec<_> =
            record.input.counters.keys().filter(|k| k.starts_with(keys::PROBE_PREFIX)).cloned().collect();
        if !keys.is_empty() {
            self.probes.insert(record.input.id, keys);
        }
    }

    pub fn used(&mut self, consumed: &TokenConsumed, exp: i64) {
        let used = Used { environment: consumed.environment.clone(), exp, outcome: None };
        self.used.insert(consumed.intent, used);
    }

    pub fn reported(&mut self, at: Timestamp, said: &IntentOutcome) -> Result<(), &'static str> {
        let used = self.used.get_mut(&said.intent).ok_or("no token of it was used before")?;
        if used.environment != said.environment {
            return Err("it is of another environment");
        }
        if used.outcome.replace(said.outcome).is_some() {
            return Err("it was reported before");
        }
        if at.as_secs() > used.exp + OUTCOME_SECS + MAX_LAG_MS / 1000 {
            return Err("its token had ended more than a day before");
        }
        for key in self.probes.remove(&said.intent).into_iter().flatten() {
            let probed = self.probed.entry(key).or_default();
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
        let Probed { succeeded, failed } = self.probed.remove(key.as_str()).unwrap_or_default();
        if failed > 0 {
            return Err(format!("{failed} of its probes had failed"));
        }
        if closed.succeeded != succeeded {
            return Err(format!("{succeeded} of its probes had succeeded, not {}", closed.succeeded));
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
