//! The nine gates, in order, as one pure call.
//!
//! Every gate that can be evaluated is in the trace, also when an earlier one has already denied:
//! an operator sees everything that stands in the way, not the first thing. The first denial
//! settles the decision. A gate that lacks its input (an unknown tool cannot be given to the
//! policy) says `skipped`, and something before it has denied.
//!
//! There is no default that allows: `allow` needs a permit of the deployed policy and nine gates
//! that do not object.

use std::collections::BTreeSet;

use intended_intents::domain_of;
use intended_model::decision::{
    ApprovalRef, DataClass, Decision, Gate, GateName, GateOutcome, Input, Obligations, Outcome, PolicyRef, Risk,
};
use intended_model::entry::{AgentState, Criticality};
use intended_model::synthetic::PERMIT;
use intended_model::{Class, Code, IntentId, MemberId, Value};
pub use intended_policy::PolicyTrace;
use intended_policy::compiled::Full;
use intended_policy::{EvalError, EvalRequest, PolicyDecision, PolicyOutcome, apply_changes};

use crate::access::matches;
use crate::emergency::About;
use crate::needs::{Needs, needs};
use crate::risk;
use crate::state::{Agent, AmbiguousCapability, Capability, Environment, State, Version};
use crate::synthetic;

/// Decides. The same state and input always give the same decision, byte for byte.
#[must_use]
pub fn decide(state: &State, input: &Input) -> Decision {
    let Some(environment) = state.environments.get(&input.intent.environment) else {
        let gate = gate(GateName::Emergency, GateOutcome::Deny, Code::EnvironmentUnknown, "");
        return Decision {
            decision: Outcome::Deny,
            gates: vec![gate],
            obligations: Obligations::default(),
            policy: None,
            reason: Code::EnvironmentUnknown,
            risk: None,
        };
    };
    let found = found(state, environment, input);
    let evaluated = evaluate(&found.asked(state, environment, input));
    let Found { agent, capability, on_behalf, risk, needs, .. } = found;
    let mut obligations = Obligations::default();
    let policy_gate = policy(&evaluated, input, &mut obligations);
    // What policy makes of the arguments must fit the budgets as well: it is what will be counted.
    let changed = obligations.arguments.as_ref().map(|arguments| {
        let mut intent = input.intent.clone();
        intent.action.properties = arguments.clone();
        crate::needs::needs(state, input.procedure, &intent, input.at)
    });
    let gates = vec![
        emergency(state, environment, input),
        breaker(state, input),
        identity(state, input, agent, on_behalf.err()),
        classify(environment, input),
        capability_gate(environment, capability.map_err(|_| ())),
        context(input, agent, &needs, changed.as_ref(), &evaluated),
        risk_gate(environment, &risk),
        policy_gate,
        approval(state, environment, input, &evaluated, &mut obligations),
    ];

    // What waits for another action of its session is asked about by policy once that is settled: what
    // it would say now, it would say of a session that is not yet what it will be.
    let waits = gates.iter().any(|g| g.gate == GateName::Context && g.outcome == GateOutcome::Defer);
    let early = |g: &&Gate| waits && matches!(g.gate, GateName::Policy | GateName::Approval);
    let denied = gates.iter().filter(|g| !early(g)).find(|g| g.outcome == GateOutcome::Deny);
    let (decision, reason) = match (denied, settle(&gates)) {
        (Some(gate), _) => (Outcome::Deny, gate.code),
        (None, Some(settled)) => settled,
        // No gate denied and none permitted: a gate was skipped. Nothing not provably allowed is.
        (None, None) => (Outcome::Deny, Code::PolicyNoPermit),
    };
    if decision == Outcome::Deny {
        obligations = Obligations::default();
    } else if matches!(decision, Outcome::Escalate | Outcome::Defer) {
        obligations.arguments = None;
        let expires_at = input.at.plus_secs(i64::from(environment.settings.escalation_timeout_secs));
        // What is decided again waits no longer than it would have.
        obligations.expires_at = Some(input.expires_at.map_or(expires_at, |first| first.min(expires_at)));
        if let Some(first) = waits_for(input).filter(|_| reason == Code::SessionWaiting) {
            obligations = Obligations {
                needs: vec![first.to_string().into()],
                expires_at: obligations.expires_at,
                ..Obligations::default()
            };
        }
    }
    let policy = environment.deployed.as_ref().map(|version| policy_ref(version, &evaluated));
    Decision { decision, gates, obligations, policy, reason, risk: Some(risk) }
}

/// What the state says of an intent: everything that the gates and the policy go by.
struct Found<'s> {
    agent: Option<&'s Agent>,
    capability: Result<Option<&'s Capability>, AmbiguousCapability>,
    on_behalf: Result<Option<u8>, String>,
    /// Of the agent and of whom it acts for, the lower.
    trust: Option<u8>,
    risk: Risk,
    needs: Needs,
}

impl<'s> Found<'s> {
    fn asked<'a>(&'a self, state: &'a State, environment: &'a Environment, input: &'a Input) -> Asked<'a> {
        let capability = self.capability.ok().flatten();
        let agent = self.agent.zip(self.trust);
        Asked { state, environment, input, agent, capability, risk: &self.risk, needs: &self.needs }
    }
}

fn found<'s>(state: &'s State, environment: &Environment, input: &Input) -> Found<'s> {
    let needs = needs(state, input.procedure, &input.intent, input.at);
    let (agent, capability) = match input.class {
        Class::Synthetic => (Some(synthetic::agent()), Ok(synthetic::target())),
        Class::Traffic => (
            state.agents.get(&input.intent.subject.id).map(|a| &**a),
            state.capability(&input.intent.resource.kind, &input.intent.resource.id),
        ),
    };
    let known = capability.ok().flatten();
    let on_behalf = on_behalf_of(state, input);
    let trust = agent.map(|a| on_behalf.as_ref().ok().and_then(|o| *o).map_or(a.trust, |t| t.min(a.trust)));
    let risk = risk::assess(
        &risk::Subject {
            classification: &input.classification,
            tier: environment.tier,
            criticality: known.map(|c| c.criticality),
            data_class: known.map_or(DataClass::Unknown, |c| c.data_class),
            trust,
            at: input.at,
            hours: &environment.settings.hours,
        },
        &environment.settings.risk_weights,
    );
    Found { agent, capability, on_behalf, trust, risk, needs }
}

/// What the policy and approval gates together come to when nothing denied.
fn settle(gates: &[Gate]) -> Option<(Outcome, Code)> {
    let find = |name| gates.iter().find(|g| g.gate == name);
    let (policy, approval) = (find(GateName::Policy)?, find(GateName::Approval)?);
    if gates.iter().any(|g| g.outcome == GateOutcome::Skipped) {
        return None;
    }
    if let Some(context) = find(GateName::Context).filter(|g| g.outcome == GateOutcome::Defer) {
        return Some((Outcome::Defer, context.code));
    }
    match (policy.outcome, approval.outcome) {
        (GateOutcome::Defer, _) => Some((Outcome::Defer, policy.code)),
        (GateOutcome::Escalate, GateOutcome::Escalate) => Some((Outcome::Escalate, policy.code)),
        (GateOutcome::Escalate, GateOutcome::Pass) => Some((Outcome::Allow, approval.code)),
        (GateOutcome::Modify, GateOutcome::Pass) => Some((Outcome::Modify, policy.code)),
        (GateOutcome::Pass, GateOutcome::Pass) => Some((Outcome::Allow, policy.code)),
        _ => None,
    }
}

fn gate(name: GateName, outcome: GateOutcome, code: Code, detail: impl Into<Box<str>>) -> Gate {
    Gate { code, detail: detail.into(), gate: name, outcome }
}
fn pass(name: GateName) -> Gate {
    gate(name, GateOutcome::Pass, Code::GatePass, "")
}

fn emergency(state: &State, environment: &Environment, input: &Input) -> Gate {
    let deny = |code, why: &str| gate(GateName::Emergency, GateOutcome::Deny, code, why);
    if let Some(why) = &state.suspended {
        return deny(Code::TenantSuspended, why);
    }
    if let Some(why) = &environment.suspended {
        return deny(Code::EnvironmentSuspended, why);
    }
    match state.halt_over(&About::of(&input.intent, &input.classification)) {
        None => pass(GateName::Emergency),
        Some((name, halt)) => gate(GateName::Emergency, GateOutcome::Deny, halt.code(), halt.detail(name)),
    }
}

fn breaker(state: &State, input: &Input) -> Gate {
    match crate::breakers::barrier(state, input) {
        None => pass(GateName::Breaker),
        Some(detail) => gate(GateName::Breaker, GateOutcome::Deny, Code::BreakerOpen, detail),
    }
}

/// Longest chain of those who act for each other.
pub const MAX_DELEGATION: usize = 5;

/// Whom an intent says its agent acts for, then whom that one acts for, and so on.
#[must_use]
pub fn delegation(intent: &intended_model::Intent) -> Vec<&Value> {
    fn next(value: &Value) -> Option<&Value> {
        value.get("on_behalf_of")
    }
    std::iter::successors(next(&intent.subject.properties), |v| next(v)).take(MAX_DELEGATION + 1).collect()
}

/// Whom the agent says it acts for. Delegation only narrows: each one named must be able to act here
/// too and to do what is asked for, and the lowest trust counts. A person ends the chain.
fn on_behalf_of(state: &State, input: &Input) -> Result<Option<u8>, String> {
    let chain = delegation(&input.intent);
    // The first procedure looked at the first one only.
    let chain = if input.procedure == 1 { chain.get(..1.min(chain.len())).unwrap_or_default() } else { &chain[..] };
    if chain.len() > MAX_DELEGATION {
        return Err(format!("more than {MAX_DELEGATION} act for each other"));
    }
    let mut trust = None;
    let mut seen = vec![&*input.intent.subject.id];
    for (at, value) in chain.iter().enumerate() {
        let text = |name| value.get(name).and_then(Value::as_str);
        let (Some(kind), Some(id)) = (text("type"), text("id")) else {
            return Err("`on_behalf_of` names a `type` and an `id`".to_owned());
        };
        if kind == "member" {
            match state.members.get(id) {
                Some(member) if member.active && at + 1 == chain.len() => return Ok(trust),
                Some(member) if member.active => return Err(format!("`{id}` is a person and acts for nobody")),
                _ => return Err(format!("`{id}` is not an active member")),
            }
        }
        if input.procedure > 1 && seen.contains(&id) {
            return Err(format!("`{id}` stands in it twice"));
        }
        seen.push(id);
        match state.agents.get(id) {
            Some(agent)
                if *agent.kind == *kind
                    && agent.state == AgentState::Active
                    && agent.environments.contains(&input.intent.environment) =>
            {
                if let Err((_, what)) = able(agent, input) {
                    return Err(format!("`{id}` may not do this itself: {what}"));
                }
                trust = Some(trust.map_or(agent.trust, |t: u8| t.min(agent.trust)));
            }
            _ => return Err(format!("`{id}` is not an active agent of this environment")),
        }
    }
    Ok(trust)
}

/// Whether the agent's registration has the tool and what kind of thing it does.
fn able(agent: &Agent, input: &Input) -> Result<(), (Code, String)> {
    let tool = &input.intent.action.name;
    if !agent.tools.is_empty() && !agent.tools.iter().any(|p| matches(p, tool)) {
        return Err((Code::AgentTool, format!("tool `{tool}`")));
    }
    // An unknown tool has no category, and is denied for that.
    if let Some(category) = &input.classification.category
        && !agent.categories.is_empty()
        && !agent.categories.iter().any(|p| matches(p, category))
    {
        return Err((Code::AgentCategory, format!("category `{category}`")));
    }
    Ok(())
}

fn identity(state: &State, input: &Input, agent: Option<&Agent>, delegation: Option<String>) -> Gate {
    let deny = |code, detail: String| gate(GateName::Identity, GateOutcome::Deny, code, detail);
    let id = &input.intent.subject.id;
    // First of all: whose name it is not to act in, that is nothing to learn about by it.
    if let Some(credential) = state.credentials.get(&input.credential)
        && !credential.agents.is_empty()
        && !credential.agents.iter().any(|p| matches(p, id))
    {
        return deny(Code::CredentialAgent, format!("agent `{id}`"));
    }
    if let Some((code, detail)) = synthetic::objection(input) {
        return deny(code, detail);
    }
    let Some(agent) = agent else { return deny(Code::AgentUnknown, format!("agent `{id}`")) };
    if agent.kind != input.intent.subject.kind {
        return deny(Code::AgentKind, format!("agent `{id}` is registered as `{}`", agent.kind));
    }
    if agent.state != AgentState::Active {
        return deny(Code::AgentInactive, format!("agent `{id}`"));
    }
    // The self-test is of every environment.
    if input.class.is_traffic() && !agent.environments.contains(&input.intent.environment) {
        return deny(Code::AgentEnvironment, format!("agent `{id}` in `{}`", input.intent.environment));
    }
    // Also one whose patterns were narrowed after it was authenticated.
    if let Some(credential) = state.credentials.get(&input.credential)
        && !credential.actions.is_empty()
        && !credential.actions.iter().any(|p| matches(p, &input.intent.action.name))
    {
        return deny(Code::CredentialAction, format!("tool `{}`", input.intent.action.name));
    }
    if let Err((code, detail)) = able(agent, input) {
        return deny(code, format!("agent `{id}`: {detail}"));
    }
    match delegation {
        Some(why) => deny(Code::DelegationWidens, why),
        None => pass(GateName::Identity),
    }
}

/// How many intents of a session wait for one that is deferred.
pub const MAX_WAITING: usize = 16;

/// The intent of the session that has to be settled first.
fn waits_for(input: &Input) -> Option<&IntentId> {
    let first = input.session.as_ref().filter(|_| input.procedure > 1)?.waiting.first()?;
    (*first != input.id).then_some(first)
}

/// The order of actions that the agent declares, held against what the session was allowed before.
fn workflow(agent: Option<&Agent>, input: &Input) -> Option<(Code, String)> {
    let agent = agent.filter(|a| !a.workflow.is_empty())?;
    let tool = &input.intent.action.name;
    let Some(session) = &input.session else { return Some((Code::WorkflowSession, String::new())) };
    let done = |pattern: &str| session.tools.iter().any(|t| matches(pattern, t));
    let mut why = format!("`{tool}` is no step of it");
    for step in agent.workflow.iter().filter(|s| matches(&s.action, tool)) {
        if !step.after.is_empty() && !step.after.iter().any(|p| done(p)) {
            why = format!("`{tool}` comes after {}", step.after.join(" or "));
        } else if let Some(gone) = step.not_after.iter().find(|p| done(p)) {
            why = format!("`{tool}` does not come after {gone}");
        } else {
            return None;
        }
    }
    Some((Code::WorkflowOrder, why))
}

fn classify(environment: &Environment, input: &Input) -> Gate {
    let c = &input.classification;
    let deny = |code, detail: String| gate(GateName::Classify, GateOutcome::Deny, code, detail);
    let tool = &input.intent.action.name;
    if c.ambiguous {
        return deny(Code::ToolAmbiguous, format!("tool `{tool}`"));
    }
    if c.confidence == 0 || c.category.is_none() || c.operation.is_none() {
        return deny(Code::ToolUnknown, format!("tool `{tool}`"));
    }
    let threshold = environment.settings.confidence_threshold;
    if c.confidence < threshold {
        return deny(Code::ConfidenceLow, format!("{} is below {threshold}", c.confidence));
    }
    pass(GateName::Classify)
}

fn capability_gate(environment: &Environment, found: Result<Option<&Capability>, ()>) -> Gate {
    let deny = |code, detail: String| gate(GateName::Capability, GateOutcome::Deny, code, detail);
    match found {
        Err(()) => deny(Code::CapabilityAmbiguous, String::new()),
        Ok(None) => deny(Code::CapabilityUnknown, String::new()),
        Ok(Some(capability)) => match &capability.environment {
            Some(only) if *only != environment.id => {
                deny(Code::CapabilityEnvironment, format!("`{}` belongs to `{only}`", capability.id))
            }
            _ => gate(GateName::Capability, GateOutcome::Pass, Code::GatePass, capability.id.as_str()),
        },
    }
}

/// `changed` are the needs of the intent as policy changes it.
fn context(
    input: &Input,
    agent: Option<&Agent>,
    needs: &Needs,
    changed: Option<&Needs>,
    evaluated: &Evaluated,
) -> Gate {
    let deny = |code, detail: String| gate(GateName::Context, GateOutcome::Deny, code, detail);
    if let Evaluated::Unrepresentable(argument) = evaluated {
        return deny(Code::ContextUnrepresentable, format!("argument `{argument}`"));
    }
    if input.session.as_ref().is_some_and(|s| s.overflow) {
        return deny(Code::SessionOverflow, String::new());
    }
    if let Some(first) = waits_for(input) {
        let waiting = input.session.as_ref().map_or(&[][..], |s| &s.waiting);
        if waiting.len() > MAX_WAITING && !waiting.contains(&input.id) {
            return deny(Code::SessionWaitingFull, format!("{MAX_WAITING} wait for intent {first}"));
        }
        return gate(GateName::Context, GateOutcome::Defer, Code::SessionWaiting, format!("intent {first}"));
    }
    if let Some((code, detail)) = workflow(agent, input) {
        return deny(code, detail);
    }
    for (needs, of) in [(Some(needs), ""), (changed, " of the transformed arguments")] {
        for budget in needs.into_iter().flat_map(|n| &n.budgets) {
            let Some(amount) = budget.amount else {
                return deny(Code::BudgetUnreadable, format!("budget `{}`{of}", budget.id));
            };
            let seen = input.counters.get(budget.key.as_str()).copied().unwrap_or(0);
            if seen.saturating_add(amount) > budget.limit {
                let detail = format!("budget `{}`{of}: {seen} + {amount} > {}", budget.id, budget.limit);
                return deny(Code::BudgetExceeded, detail);
            }
        }
    }
    pass(GateName::Context)
}

fn risk_gate(environment: &Environment, risk: &Risk) -> Gate {
    let limit = environment.settings.risk_deny_at;
    if risk.score >= limit {
        gate(GateName::Risk, GateOutcome::Deny, Code::RiskAboveLimit, format!("{} reaches {limit}", risk.score))
    } else {
        pass(GateName::Risk)
    }
}

/// What came of asking the policy.
enum Evaluated {
    /// Nothing is deployed.
    None,
    /// The agent or the tool is unknown: there is nothing to ask about.
    Skipped,
    /// An argument cannot be given to the policy exactly.
    Unrepresentable(String),
    Done(PolicyOutcome),
}

/// What the policy is asked about.
struct Asked<'a> {
    state: &'a State,
    environment: &'a Environment,
    input: &'a Input,
    /// With the trust that counts.
    agent: Option<(&'a Agent, u8)>,
    capability: Option<&'a Capability>,
    risk: &'a Risk,
    needs: &'a Needs,
}

fn evaluate(asked: &Asked<'_>) -> Evaluated {
    let Some(version) = asked.environment.deployed.as_ref() else { return Evaluated::None };
    // Of the self-test, the runtime's own permit is one of the permits. It outweighs nothing.
    let own = asked.input.class.is_synthetic().then_some(PERMIT);
    let missing = &asked.environment.missing;
    let outcome = with_request(asked, |request| version.compiled.evaluate_with(request, missing, own));
    match outcome {
        None => Evaluated::Skipped,
        Some(Ok(outcome)) => Evaluated::Done(outcome),
        Some(Err(error)) => Evaluated::Unrepresentable(error.argument().to_owned()),
    }
}

/// What each policy says of a decision whose scope it could match: for people, and for coverage.
/// Empty where the policy cannot be asked.
#[must_use]
pub fn policy_trace(state: &State, input: &Input) -> Vec<PolicyTrace> {
    let Some(environment) = state.environments.get(&input.intent.environment) else { return Vec::new() };
    let Some(version) = environment.deployed.as_ref() else { return Vec::new() };
    let found = found(state, environment, input);
    let trace = with_request(&found.asked(state, environment, input), |request| {
        version.compiled.trace(request, &environment.missing)
    });
    trace.and_then(Result::ok).unwrap_or_default()
}

/// What the deployed version says of an input by its index, and what Cedar's own authorizer says with
/// every policy of it (`full`, made of that version): they must be the same. `None` where the policy
/// cannot be asked.
#[must_use]
pub fn compare_policy(state: &State, input: &Input, full: &Full) -> Option<(Answered, Answered)> {
    let environment = state.environments.get(&input.intent.environment)?;
    let version = environment.deployed.as_ref()?;
    let found = found(state, environment, input);
    // How many were looked at is the one thing in which the two are to differ.
    let said = |outcome: Answered| outcome.map(|o| PolicyOutcome { candidates: 0, ..o });
    with_request(&found.asked(state, environment, input), |request| {
        (said(version.compiled.evaluate(request)), said(full.evaluate(&version.compiled, request)))
    })
}

type Answered = Result<PolicyOutcome, EvalError>;

fn with_request<T>(asked: &Asked<'_>, ask: impl FnOnce(&EvalRequest<'_>) -> T) -> Option<T> {
    let Asked { state, environment, input, agent, capability, risk, needs } = *asked;
    let (Some((agent, trust)), Some(category), Some(operation)) =
        (agent, input.classification.category.as_deref(), input.classification.operation)
    else {
        return None;
    };
    let intent = &input.intent;
    let empty = intended_model::decision::SessionContext::default();
    let session = input.session.as_ref().unwrap_or(&empty);
    let nothing = Value::object();
    let mentions = mentions(intent.goal.as_deref(), &intent.action.properties);
    let hours = &environment.settings.hours;
    let factor = |name: &str| risk.factors.iter().find(|f| f.name == name).map_or(100, |f| i64::from(f.value));
    let budgets: Vec<(&str, i64)> =
        needs.budgets.iter().map(|b| (&*b.id, input.counters.get(b.key.as_str()).copied().unwrap_or(0))).collect();
    let teams: Vec<&str> = agent.teams.iter().map(intended_model::Name::as_str).collect();
    let request = EvalRequest {
        agent: &intent.subject.id,
        agent_kind: &agent.kind,
        trust: i64::from(trust),
        agent_owner: &agent.owner,
        teams: &teams,
        tool: &intent.action.name,
        category,
        domain: domain_of(category),
        operation: operation.as_str(),
        resource_kind: &intent.resource.kind,
        resource_id: &intent.resource.id,
        capability: capability.map(|c| c.id.as_str()),
        resource_known: capability.is_some(),
        criticality: capability.map_or(Criticality::Critical.level(), |c| c.criticality.level()),
        data_class: capability.map_or(DataClass::Unknown.level(), |c| c.data_class.level()),
        resource_owner: capability.map_or("", |c| &c.owner),
        resource_environment: capability.and_then(|c| c.environment.as_ref()).map_or("", |e| e.as_str()),
        environment: environment.id.as_str(),
        tier: environment.tier.as_str(),
        confidence: i64::from(input.classification.confidence),
        indicators: &input.classification.indicators,
        reversible: input.classification.reversible.as_str(),
        risk: i64::from(risk.score),
        risk_factors: [
            factor("base_action"),
            factor("environment"),
            factor("blast_radius"),
            factor("reversibility"),
            factor("data_sensitivity"),
            factor("privilege"),
            factor("actor_trust"),
            factor("time_of_day"),
        ],
        arguments: &intent.action.properties,
        subject_claims: &intent.subject.properties,
        resource_claims: &intent.resource.properties,
        // The first procedure did not ask about it.
        context_claims: if input.procedure > 1 { &intent.context } else { &nothing },
        goal_declared: intent.goal.is_some(),
        goal_mentions: &mentions,
        session_declared: intent.session.is_some(),
        session,
        budgets: &budgets,
        hour: input.at.minute_of_day(hours.offset_minutes) / 60,
        minute: input.at.minute_of_day(hours.offset_minutes) % 60,
        weekday: input.at.weekday(hours.offset_minutes),
        epoch: input.at.as_secs(),
        approvals: i64::try_from(counting(state, environment, input)).unwrap_or(i64::MAX),
    };
    Some(ask(&request))
}

/// The arguments whose value occurs, as written, in the goal (ASCII case ignored).
fn mentions(goal: Option<&str>, arguments: &Value) -> Vec<Box<str>> {
    let Some(goal) = goal else { return Vec::new() };
    let Some(arguments) = arguments.as_object() else { return Vec::new() };
    let goal = goal.to_ascii_lowercase();
    let mentioned = |value: &Value| match value {
        Value::String(text) => !text.trim().is_empty() && goal.contains(&text.to_ascii_lowercase()),
        Value::Number(number) => contains_number(&goal, &number.to_text()),
        _ => false,
    };
    arguments.iter().filter(|(_, v)| mentioned(v)).map(|(n, _)| n.into()).collect()
}

/// Whether `number` stands in `text` as a number of its own, not as part of a longer one.
fn contains_number(text: &str, number: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    text.match_indices(number).any(|(at, found)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let mut after = text.get(at + found.len()..).unwrap_or_default().chars();
        let next = after.next();
        let decimals = next == Some('.') && digit(after.next());
        !digit(before) && before != Some('.') && !digit(next) && !decimals
    })
}

fn policy(evaluated: &Evaluated, input: &Input, obligations: &mut Obligations) -> Gate {
    let say = |outcome, code, detail: String| gate(GateName::Policy, outcome, code, detail);
    let done = match evaluated {
        Evaluated::None => return say(GateOutcome::Deny, Code::PolicyNone, String::new()),
        Evaluated::Skipped | Evaluated::Unrepresentable(_) => {
            return say(GateOutcome::Skipped, Code::GateSkipped, String::new());
        }
        Evaluated::Done(done) => done,
    };
    let determining = || done.determining.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
    match &done.outcome {
        PolicyDecision::Allow => say(GateOutcome::Pass, Code::PolicyPermit, determining()),
        PolicyDecision::Deny => {
            let code = done.code.parse().unwrap_or(Code::PolicyError);
            let detail = match code {
                Code::PolicyError => done.errors.iter().map(|(p, _)| format!("`{p}`")).collect::<Vec<_>>().join(", "),
                _ => determining(),
            };
            say(GateOutcome::Deny, code, detail)
        }
        PolicyDecision::Escalate { requirements } => {
            obligations.approvals.clone_from(requirements);
            say(GateOutcome::Escalate, Code::PolicyEscalate, determining())
        }
        PolicyDecision::Defer { needs } => {
            obligations.needs.clone_from(needs);
            say(GateOutcome::Defer, Code::PolicyDefer, needs.join(", "))
        }
        PolicyDecision::Modify { changes } => match apply_changes(&input.intent.action.properties, changes) {
            Ok(arguments) => {
                obligations.arguments = Some(arguments);
                say(GateOutcome::Modify, Code::PolicyModify, determining())
            }
            Err(error) => say(GateOutcome::Deny, Code::PolicyModifyFailed, error.to_string()),
        },
    }
}

/// How many people's approvals count.
fn counting(state: &State, environment: &Environment, input: &Input) -> usize {
    if input.procedure > 1 {
        crate::approvals::counted(state, input).len()
    } else {
        counting_members(state, environment, input).count()
    }
}

/// The first procedure's: the members whose approvals count, each once: recorded for this intent as it is and in its
/// environment, under the deployed version, not expired, by an active member who is not the requester.
fn counting_members<'i>(
    state: &'i State,
    environment: &'i Environment,
    input: &'i Input,
) -> impl Iterator<Item = &'i MemberId> {
    let digest = environment.deployed.as_ref().map(|v| v.digest);
    let recorded = state.approvals.get(&input.id).map_or(&[][..], Vec::as_slice);
    let is_recorded = move |a: &ApprovalRef| {
        recorded.iter().any(|(entry, given)| {
            *entry == a.entry
                && given.approver == a.approver
                && given.environment == environment.id
                && given.expires_at == a.expires_at
                && given.intent_hash == a.intent_hash
                && given.policy == a.policy
        })
    };
    let requester = state.credentials.get(&input.credential).and_then(|c| c.member.as_ref());
    let counts = input
        .approvals
        .iter()
        .filter(move |a| a.intent_hash == input.intent_hash && Some(a.policy) == digest && a.expires_at > input.at)
        .filter(move |a| is_recorded(a))
        .map(|a| &a.approver)
        .filter(move |m| requester != Some(m) && state.members.get(*m).is_some_and(|m| m.active));
    counts.collect::<BTreeSet<_>>().into_iter()
}

/// I5: an approval counts for exactly this intent, policy version and time, from distinct active
/// members of the group, never from the requester.
fn approval(
    state: &State,
    environment: &Environment,
    input: &Input,
    evaluated: &Evaluated,
    obligations: &mut Obligations,
) -> Gate {
    let Evaluated::Done(PolicyOutcome { outcome: PolicyDecision::Escalate { requirements }, .. }) = evaluated else {
        return gate(GateName::Approval, GateOutcome::Pass, Code::ApprovalNotRequired, "");
    };
    if input.procedure > 1 {
        let missing = crate::approvals::missing(state, input, requirements);
        return if input.expires_at.is_some_and(|until| input.at >= until) {
            gate(GateName::Approval, GateOutcome::Deny, Code::EscalationTimedOut, "")
        } else if missing.is_empty() {
            obligations.approvals.clear();
            gate(GateName::Approval, GateOutcome::Pass, Code::ApprovalMet, "")
        } else {
            gate(GateName::Approval, GateOutcome::Escalate, Code::ApprovalMissing, missing.join(", "))
        };
    }
    let eligible = |group: &str| {
        let of_group =
            |m: &&MemberId| state.members.get(*m).is_some_and(|m| m.groups.iter().any(|g| g.as_str() == group));
        counting_members(state, environment, input).filter(of_group).count()
    };
    let missing: Vec<String> = requirements
        .iter()
        .filter(|r| eligible(&r.group) < usize::try_from(r.count).unwrap_or(usize::MAX))
        .map(|r| format!("{} of {}", r.count, r.group))
        .collect();
    if missing.is_empty() {
        obligations.approvals.clear();
        gate(GateName::Approval, GateOutcome::Pass, Code::ApprovalMet, "")
    } else {
        gate(GateName::Approval, GateOutcome::Escalate, Code::ApprovalMissing, missing.join(", "))
    }
}

fn policy_ref(version: &Version, evaluated: &Evaluated) -> PolicyRef {
    let (determining, errors) = match evaluated {
        Evaluated::Done(done) => (
            done.determining.iter().map(|p| Box::from(&**p)).collect(),
            done.errors.iter().map(|(p, m)| format!("{p}: {m}").into()).collect(),
        ),
        _ => (Vec::new(), Vec::new()),
    };
    PolicyRef {
        determining,
        digest: version.digest,
        errors,
        pack: version.pack.as_str().into(),
        version: version.version.clone(),
    }
}
