//! I2 by rules of its own: halts and bulk revocations in a list, gone through one by one, in ignorance
//! of how the engine finds them. No allow stands under a halt that covers it, and no use of a token
//! follows the halt or the revocation that killed it.

use intended_engine::State;
use intended_model::decision::DecisionRecord;
use intended_model::emergency::{HaltTarget, TokenSelector};
use intended_model::entry::{HaltResumed, HaltThrown, Scope, TokensRevoked};
use intended_model::{CredentialId, Digest, EnvironmentId, Event, IntentId, MemberId, Name, Timestamp, Value};

use crate::MAX_LAG_MS;

/// No token is good for longer.
const TOKEN_MS: i64 = 300_000;
/// For how long one person's word for lifting a halt is good.
const RESUME_MS: i64 = 3_600_000;
/// For how long a break-glass credential can be good.
const GLASS_MS: i64 = 400 * 86_400_000;

/// What was granted, as far as halts and revocations ask.
pub struct Facts {
    agents: Vec<Box<str>>,
    at: Timestamp,
    category: Option<Box<str>>,
    credential: CredentialId,
    environment: EnvironmentId,
    intent: IntentId,
    member: Option<MemberId>,
    policy: Option<Digest>,
    tool: Box<str>,
}

impl Facts {
    pub fn of(state: &State, record: &DecisionRecord) -> Self {
        let input = &record.input;
        let mut agents = vec![input.intent.subject.id.clone()];
        let mut next = input.intent.subject.properties.get("on_behalf_of");
        while let Some(value) = next.filter(|_| agents.len() < 8) {
            agents.extend(value.get("id").and_then(Value::as_str).map(Box::from));
            next = value.get("on_behalf_of");
        }
        let known = !input.classification.ambiguous;
        Self {
            agents,
            at: input.at,
            category: input.classification.category.as_deref().filter(|_| known).map(Box::from),
            credential: input.credential.clone(),
            environment: input.intent.environment.clone(),
            intent: input.id,
            member: state.member_behind(&input.credential),
            policy: record.decision.policy.as_ref().map(|p| p.digest),
            tool: input.intent.action.name.clone(),
        }
    }

    fn under(&self, halt: &HaltThrown) -> bool {
        let fits = |pattern: &str, text: &str| match pattern.split_once('*') {
            Some((prefix, _)) => text.get(..prefix.len()) == Some(prefix),
            None => pattern == text,
        };
        if halt.environment.as_ref().is_some_and(|only| *only != self.environment) {
            return false;
        }
        match &halt.on {
            None => true,
            Some(HaltTarget::Agent(agent)) => self.agents.contains(agent),
            Some(HaltTarget::Tool(pattern)) => fits(pattern, &self.tool),
            Some(HaltTarget::Connector(system)) => match self.tool.find(['.', '/', ':']) {
                Some(end) => self.tool.get(..end).is_some_and(|s| s.eq_ignore_ascii_case(system)),
                None => true,
            },
            Some(HaltTarget::Category(pattern)) => self
                .category
                .as_deref()
                .is_none_or(|category| fits(pattern, category) || **pattern == *intended_intents::domain_of(category)),
        }
    }

    fn meant(&self, selector: &TokenSelector) -> bool {
        let TokenSelector { agent, credential, environment, from, intent, member, policy, to } = selector;
        agent.as_ref().is_none_or(|a| self.agents.contains(a))
            && credential.as_ref().is_none_or(|c| *c == self.credential)
            && environment.as_ref().is_none_or(|e| *e == self.environment)
            && from.is_none_or(|from| from <= self.at)
            && to.is_none_or(|to| self.at < to)
            && intent.is_none_or(|i| i == self.intent)
            && member.as_ref().is_none_or(|m| self.member.as_ref() == Some(m))
            && policy.is_none_or(|p| self.policy == Some(p))
    }
}

/// The halts and revocations so far.
#[derive(Default)]
pub struct Emergencies {
    /// Every halt that there ever was, oldest first.
    thrown: Vec<(u64, HaltThrown)>,
    in_force: Vec<HaltThrown>,
    revoked: Vec<(u64, TokensRevoked)>,
}

impl Emergencies {
    /// Takes a control entry that could follow.
    pub fn note(&mut self, index: u64, event: &Event) {
        match event {
            Event::HaltThrown(halt) => {
                self.thrown.push((index, halt.clone()));
                self.in_force.push(halt.clone());
            }
            // A halt of everything.
            Event::LedgerRestored(restored) => {
                let halt = HaltThrown {
                    by: restored.by.clone(),
                    environment: None,
                    halt: restored.halt.clone(),
                    on: None,
                    reason: restored.reason.clone(),
                    resume_people: Some(restored.resume_people),
                    v: restored.v,
                };
                self.thrown.push((index, halt.clone()));
                self.in_force.push(halt);
            }
            Event::HaltResumed(HaltResumed { halt, .. }) => self.in_force.retain(|h| h.halt != *halt),
            Event::TokensRevoked(revoked) => self.revoked.push((index, revoked.clone())),
            _ => {}
        }
    }

    /// The halt in force that covers it.
    pub fn halted(&self, facts: &Facts) -> Option<&Name> {
        self.in_force.iter().find(|halt| facts.under(halt)).map(|halt| &halt.halt)
    }

    /// The halt that covers what was granted at `index`, or did since.
    pub fn killed(&self, facts: &Facts, index: u64) -> Option<&Name> {
        let since = self.thrown.iter().rev().take_while(|(at, _)| *at > index).map(|(_, halt)| halt);
        self.halted(facts).or_else(|| since.into_iter().find(|halt| facts.under(halt)).map(|halt| &halt.halt))
    }

    /// Where what was granted at `index` was revoked with others.
    pub fn revoked(&self, facts: &Facts, index: u64) -> Option<u64> {
        let since = self.revoked.iter().rev().take_while(|(at, _)| *at > index);
        since.into_iter().find(|(_, revoked)| facts.meant(&revoked.selector)).map(|(at, _)| *at)
    }
}

fn too_long(at: Timestamp, until: Timestamp, most_ms: i64) -> bool {
    until.millis_since(at) > most_ms + MAX_LAG_MS
}

/// What must hold of the time of an entry about an emergency.
pub fn untimely(state: &State, event: &Event, at: Timestamp) -> Option<String> {
    match event {
        // Two people, within the time that the first one's word is good for.
        Event::HaltResumed(e) => {
            let halt = state.halts.get(&e.halt)?;
            let asked = halt.asked.as_ref().filter(|_| halt.people > 1)?;
            if at >= asked.expires_at.plus_millis(MAX_LAG_MS) {
                return Some(format!("lifting the halt `{}` was asked for too long ago", e.halt));
            }
            let access = state.access(&asked.by, at);
            let may = access.is_ok_and(|access| access.may_in(Scope::EmergencyWrite, halt.environment.as_ref()));
            let who = &asked.by;
            (!may).then(|| format!("`{who}`, who asked for lifting `{}`, had no say in it any more", e.halt))
        }
        Event::HaltResumeAsked(e) => too_long(at, e.expires_at, RESUME_MS)
            .then(|| format!("the word for lifting `{}` is good for longer than an hour", e.halt)),
        Event::BreakGlassPrepared(e) => too_long(at, e.expires_at, GLASS_MS)
            .then(|| format!("the break-glass credential `{}` is good for more than 400 days", e.credential)),
        Event::TokensRevoked(e) => {
            let known = e.until.millis_since(at);
            let good = (TOKEN_MS..=TOKEN_MS + MAX_LAG_MS).contains(&known);
            (!good).then(|| format!("the revocation is remembered for {known} ms, which is not what tokens live for"))
        }
        Event::LedgerRestored(e) => {
            let lag = at.millis_since(e.at);
            (!(0..=MAX_LAG_MS).contains(&lag)).then(|| format!("the ledger was restored {lag} ms before it says so"))
        }
        Event::DrillRecorded(e) => (e.started_at > at).then(|| "the drill began after it was recorded".to_owned()),
        _ => None,
    }
}
