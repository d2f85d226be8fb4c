//! What a recorded decision does to the working facts. The decision point commits exactly these
//! with the decision; the verifier applies them while it walks the ledger. One function, so that
//! the two cannot differ.

use std::borrow::Cow;

use intended_model::decision::{DecisionRecord, Input, Outcome, SessionContext};
use intended_model::entry::Settings;
use intended_model::{Intent, IntentId, Timestamp};

use crate::keys;
use crate::needs::needs;
use crate::state::State;

/// How many different tools a session tracks before it counts as overflowing: 64 names of at most
/// 128 bytes keep the context under 8 KiB.
pub const MAX_SESSION_TOOLS: usize = 64;
/// How long after its token's time it can be said what came of an action.
pub const OUTCOME_SECS: i64 = 86_400;
/// How long a session is remembered after its last intent: from then on it is a new one, by the
/// time of the decision, whether or not its fact has been removed.
pub const SESSION_TTL_MS: i64 = 24 * 3_600_000;

/// A session as its fact holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeptSession {
    pub context: SessionContext,
    /// From then on it is a new session.
    pub expires_at: Timestamp,
}

/// The intent as it may be carried out: with the transformed arguments of a `modify`.
#[must_use]
pub fn effective(record: &DecisionRecord) -> Cow<'_, Intent> {
    let intent = &record.input.intent;
    match (record.decision.decision, &record.decision.obligations.arguments) {
        (Outcome::Modify, Some(arguments)) => {
            let mut intent = intent.clone();
            intent.action.properties = arguments.clone();
            Cow::Owned(intent)
        }
        _ => Cow::Borrowed(intent),
    }
}

/// One change to one fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The session's context becomes this. Fenced: the fact must be as the decision saw it.
    Session { key: String, context: SessionContext, expires_at: Timestamp },
    /// A counter grows, and must stay within `max` when it commits.
    Count { key: String, n: i64, max: i64, expires_at: Timestamp },
    /// What was open is answered. Fenced: it must have been open when it commits, so that approvals
    /// are used at most once.
    Close { key: String },
    /// An escalation or deferral is open from now on.
    Open { key: String, expires_at: Timestamp },
}

/// The effects of `record`, decided on `state`.
#[must_use]
pub fn effects(state: &State, record: &DecisionRecord) -> Vec<Effect> {
    // Budgets count what may be done, not what was asked for.
    let wanted = needs(state, record.input.procedure, &effective(record), record.input.at);
    let mut out = Vec::with_capacity(2);
    if let Some(key) = wanted.session {
        let seen = record.input.session.clone().unwrap_or_default();
        out.push(Effect::Session {
            key,
            context: after(state, seen, record),
            expires_at: record.input.at.plus_millis(SESSION_TTL_MS),
        });
    }
    if record.decision.decision.permits() {
        for budget in wanted.budgets.into_iter().chain(wanted.probes) {
            out.push(Effect::Count {
                key: budget.key,
                n: budget.amount.unwrap_or(i64::MAX),
                max: budget.limit,
                expires_at: budget.ends.plus_millis(SESSION_TTL_MS),
            });
        }
    }
    if let Some(expires_at) = record.decision.obligations.expires_at {
        out.push(Effect::Open { key: keys::open(&record.input.id), expires_at });
    } else if !record.input.approvals.is_empty() || record.input.expires_at.is_some() {
        // Decided again with what people said of it or what was missing, and for good.
        out.push(Effect::Close { key: keys::open(&record.input.id) });
    }
    out
}

/// The first in line waits for context, and the others for it.
fn wait(waiting: &mut Vec<IntentId>, id: IntentId, waits: bool) {
    match waiting.iter().position(|w| *w == id) {
        None if waits => waiting.push(id),
        Some(at) if !waits => {
            waiting.remove(at);
        }
        _ => {}
    }
}

/// A session in which an intent no longer waits, because it was closed: `None` when it did not.
#[must_use]
pub fn closed(kept: &KeptSession, id: IntentId) -> Option<KeptSession> {
    kept.context.waiting.contains(&id).then(|| {
        let mut kept = kept.clone();
        wait(&mut kept.context.waiting, id, false);
        kept
    })
}

/// How long the token of what is allowed is good for: what had to wait gets one that waits as well.
#[must_use]
pub fn token_ttl_secs(settings: &Settings, input: &Input) -> u32 {
    if input.expires_at.is_some() { settings.approvals.token_ttl_secs } else { settings.token_ttl_secs }
}

/// The session's context after this decision.
fn after(state: &State, mut context: SessionContext, record: &DecisionRecord) -> SessionContext {
    let input = &record.input;
    if input.expires_at.is_none() {
        context.intents = context.intents.saturating_add(1);
    }
    if input.procedure > 1 {
        wait(&mut context.waiting, input.id, record.decision.decision == Outcome::Defer);
    }
    match record.decision.decision {
        Outcome::Deny => context.denied = context.denied.saturating_add(1),
        outcome if outcome.permits() => {
            context.allowed = context.allowed.saturating_add(1);
            let resource = &input.intent.resource;
            let class = state
                .capability(&resource.kind, &resource.id)
                .map_or(intended_model::decision::DataClass::Unknown, |found| {
                    found.map_or(intended_model::decision::DataClass::Unknown, |c| c.data_class)
                });
            context.data_class = context.data_class.max(class.level());
            if let Some(category) = &input.classification.category {
                context.categories.insert(category.clone());
            }
            context.indicators.extend(input.classification.indicators.iter().cloned());
            if context.tools.len() < MAX_SESSION_TOOLS || context.tools.contains(&input.intent.action.name) {
                context.tools.insert(input.intent.action.name.clone());
            } else {
                context.overflow = true;
            }
        }
        _ => {}
    }
    context
}
