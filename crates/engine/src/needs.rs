//! What the shell has to read before it can decide: the session's context and the budget windows
//! that apply. The same function tells the verifier which facts a recorded decision depended on.

use intended_model::entry::Budget;
use intended_model::{Class, Intent, Timestamp};

use crate::keys;
use crate::state::State;

/// One budget window that applies to an intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetNeed {
    /// The fact's name.
    pub key: String,
    /// What this intent would add; `None` when the argument cannot be read.
    pub amount: Option<i64>,
    /// Inclusive bound on the sum.
    pub limit: i64,
    /// The budget's id, for people.
    pub id: Box<str>,
    /// When the window's counter is no longer needed.
    pub ends: Timestamp,
}

/// The facts a decision reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    pub session: Option<String>,
    pub budgets: Vec<BudgetNeed>,
    /// Of each half-open breaker that covers it, how many it has let through. Bounded like a budget.
    pub probes: Vec<BudgetNeed>,
}

impl Needs {
    /// Every counter.
    pub fn counters(&self) -> impl Iterator<Item = &BudgetNeed> {
        self.budgets.iter().chain(&self.probes)
    }
}

/// Which facts deciding `intent` at `at`, by a decision procedure, depends on. The self-test has no
/// session, and takes nothing of what is counted: budgets and probes are for what agents do.
#[must_use]
pub fn needs(state: &State, procedure: u32, intent: &Intent, at: Timestamp) -> Needs {
    if Class::of(procedure, &intent.action.name).is_synthetic() {
        return Needs::default();
    }
    let session = intent.session.as_deref().map(|s| keys::session(&intent.environment, &intent.subject.id, s));
    let budgets = state
        .environments
        .get(&intent.environment)
        .map(|environment| {
            environment.settings.budgets.iter().filter(|b| applies(b, intent)).map(|b| need(b, intent, at)).collect()
        })
        .unwrap_or_default();
    Needs { session, budgets, probes: crate::breakers::probes(state, procedure, intent, at) }
}

fn applies(budget: &Budget, intent: &Intent) -> bool {
    budget.agent.as_ref().is_none_or(|agent| *agent == intent.subject.id)
        && budget.tool.as_ref().is_none_or(|tool| *tool == intent.action.name)
}

fn need(budget: &Budget, intent: &Intent, at: Timestamp) -> BudgetNeed {
    let window = i64::from(budget.window_secs.max(1));
    let start = at.as_secs().div_euclid(window) * window;
    let amount = match &budget.amount {
        None => Some(1),
        Some(argument) => match intent.action.properties.get(argument) {
            Some(intended_model::Value::Number(number)) => number.scaled(2).filter(|n| *n >= 0),
            _ => None,
        },
    };
    BudgetNeed {
        key: keys::budget(
            &intent.environment,
            budget.id.as_str(),
            budget.per_agent.then_some(&*intent.subject.id),
            start,
        ),
        amount,
        limit: budget.limit,
        id: budget.id.as_str().into(),
        ends: Timestamp::from_millis((start + window) * 1000),
    }
}
