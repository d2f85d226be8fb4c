//! Why something was decided as it was, in sentences that name what to look at, and which single
//! change would have allowed it. Pure: the same state and input give the same words. Nothing here
//! decides; what would have been is found by deciding again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use intended_model::decision::{
    ApprovalRef, Decision, Gate, GateName, GateOutcome, Input, Outcome, Requirement, SessionContext,
};
use intended_model::entry::{ApprovalGranted, BODY_VERSION, Scope};
use intended_model::json::Number;
use intended_model::{Code, CredentialId, EnvironmentId, MemberId, Timestamp, Value};
use intended_policy::{Effect, Said};

use crate::decide::{decide, policy_trace};
use crate::emergency::{About, covers};
use crate::needs::needs;
use crate::state::State;

/// One thing that stands in the way, and what would have to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub gate: GateName,
    pub code: Code,
    pub what: String,
}

/// A single change, and what would then have been decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    pub change: String,
    pub decision: Outcome,
    pub reason: Code,
    /// What the recorded input does not say and is taken to be so.
    pub assumes: Option<&'static str>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    pub obstacles: Vec<Obstacle>,
    /// Those that would have been allowed, also with changed arguments.
    pub would_allow: Vec<Counterfactual>,
    /// How many changes were tried.
    pub tried: usize,
}

/// Most names in one sentence.
const MAX_NAMES: usize = 5;
/// Most agents, environments, arguments that are tried.
const MAX_AGENTS: usize = 24;
const MAX_ENVIRONMENTS: usize = 8;
const MAX_ARGUMENTS: usize = 4;
/// Steps to a number's bound: enough for hundredths of anything that fits.
const MAX_STEPS: u32 = 48;

/// Explains a decision on the state that it was made on. `environments` are those that the reader
/// sees: no other is named. `what_ifs`: also what would have been allowed instead, which says as much
/// of the policy as its text does.
#[must_use]
pub fn explain(
    state: &State,
    input: &Input,
    decision: &Decision,
    environments: &[EnvironmentId],
    what_ifs: bool,
) -> Explanation {
    let places = places(state, &input.intent.environment);
    let open = |g: &&Gate| !matches!(g.outcome, GateOutcome::Pass | GateOutcome::Modify);
    let obstacles = decision.gates.iter().filter(open).map(|gate| Obstacle {
        gate: gate.gate,
        code: gate.code,
        what: sentence(state, input, decision, gate, &places),
    });
    let obstacles = obstacles.collect();
    if decision.decision.permits() || !what_ifs {
        return Explanation { obstacles, ..Explanation::default() };
    }
    let mut search = Search { would_allow: Vec::new(), tried: 0 };
    search.run(state, input, decision, environments);
    Explanation { obstacles, would_allow: search.would_allow, tried: search.tried }
}

type Places = BTreeMap<String, (String, usize)>;

/// File and line of each policy that the environment decides by.
fn places(state: &State, environment: &EnvironmentId) -> Places {
    let version = state.environments.get(environment).and_then(|e| e.deployed.as_ref());
    let Some(version) = version else { return Places::new() };
    let files = version.files.iter().map(|(n, t)| (n.to_string(), t.to_string())).collect();
    let pack = intended_policy::Pack::parse(&intended_policy::PackSource { files });
    let policies = pack.as_ref().map_or(&[][..], intended_policy::Pack::policies);
    policies.iter().map(|p| (p.id.to_string(), (p.file.clone(), p.line()))).collect()
}

fn at(places: &Places, policy: &str) -> String {
    match places.get(policy) {
        Some((file, line)) => format!("`{policy}` ({file}:{line})"),
        None => format!("`{policy}`"),
    }
}

fn names<T: std::fmt::Display>(all: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = all.take(MAX_NAMES + 1).map(|n| format!("`{n}`")).collect();
    match all.len() {
        0 => "nobody".to_owned(),
        n if n > MAX_NAMES => format!("{} and others", all.get(..MAX_NAMES).unwrap_or_default().join(", ")),
        _ => all.join(", "),
    }
}

/// Members and credentials that have a scope in an environment, or for the whole tenant.
fn who(state: &State, scope: Scope, environment: Option<&EnvironmentId>, now: Timestamp) -> String {
    let able = |access: Result<crate::Access, crate::NoAccess>| access.is_ok_and(|a| a.may_in(scope, environment));
    let members = state.members.keys().filter(|m| able(state.member_access(m, now))).map(MemberId::to_string);
    let services = state.credentials.values().filter(|c| c.member.is_none() && able(state.access(&c.id, now)));
    names(members.chain(services.map(|c| c.id.to_string())))
}

fn list(patterns: &[Box<str>]) -> String {
    if patterns.is_empty() { "any".to_owned() } else { patterns.join(", ") }
}

/// What one gate says, and what would have to change.
#[expect(clippy::too_many_lines, reason = "one sentence for each code")]
fn sentence(state: &State, input: &Input, decision: &Decision, gate: &Gate, places: &Places) -> String {
    let intent = &input.intent;
    let (agent, tool, place) = (&intent.subject.id, &intent.action.name, &intent.environment);
    let environment = state.environments.get(place);
    let registered = state.agents.get(agent);
    let settings = environment.map(|e| &e.settings);
    let detail = if gate.detail.is_empty() { String::new() } else { format!(" ({})", gate.detail) };
    match gate.code {
        Code::HaltTenant
        | Code::HaltEnvironment
        | Code::HaltAgent
        | Code::HaltConnector
        | Code::HaltTool
        | Code::HaltCategory => match state.halt_over(&About::of(intent, &input.classification)) {
            Some((name, halt)) => {
                let lifts = who(state, Scope::EmergencyWrite, halt.environment.as_ref(), input.at);
                let lifts = if halt.people > 1 { format!("{} people of {lifts}", halt.people) } else { lifts };
                let scope = halt.environment.as_ref().map_or("the whole tenant".to_owned(), |e| format!("`{e}`"));
                let scope = halt.on.as_ref().map_or(scope.clone(), |on| format!("{on} in {scope}"));
                format!(
                    "halt `{name}` over {scope}, thrown by `{}` because: {}. It can be lifted by {lifts}",
                    halt.by, halt.reason
                )
            }
            None => format!("{}{detail}", gate.code.title()),
        },
        Code::EnvironmentSuspended => {
            let lifts = who(state, Scope::AccessWrite, Some(place), input.at);
            format!("`{place}` is suspended{detail}. It can be reinstated by {lifts}")
        }
        Code::BreakerOpen => {
            let who = who(state, Scope::EmergencyWrite, Some(place), input.at);
            match state.breakers.over(input).0.first() {
                Some(b) => format!(
                    "breaker `{}` is held on `{}` by `{}` because: {}. It can be released by {who}",
                    b.breaker, b.target, b.by, b.reason
                ),
                None => format!(
                    "{}{detail}. It is tried again by itself; what it opens at can be set by {who}",
                    gate.code.title()
                ),
            }
        }
        Code::AgentUnknown => format!("agent `{agent}` is not registered: register it for `{place}`"),
        Code::AgentKind => {
            let kind = registered.map_or("", |a| &a.kind);
            format!("agent `{agent}` is registered as `{kind}`, the intent says `{}`", intent.subject.kind)
        }
        Code::AgentInactive => {
            format!("agent `{agent}` is not active: its owner `{}` can make it so", registered.map_or("", |a| &a.owner))
        }
        Code::AgentEnvironment => {
            format!("agent `{agent}` is not registered for `{place}`: add the environment to its registration")
        }
        Code::AgentTool => {
            let tools = registered.map_or(String::new(), |a| list(&a.tools));
            format!("agent `{agent}` may use {tools}: add `{tool}` to its registration{detail}")
        }
        Code::AgentCategory => {
            let categories = registered.map_or(String::new(), |a| list(&a.categories));
            let category = input.classification.category.as_deref().unwrap_or("none");
            format!("agent `{agent}` may act in {categories}: `{tool}` is of the category {category}")
        }
        Code::CredentialAgent => {
            let agents = state.credentials.get(&input.credential).map_or(String::new(), |c| list(&c.agents));
            format!("credential `{}` is for the agents {agents}, not for `{agent}`", input.credential)
        }
        Code::CredentialAction => {
            let actions = state.credentials.get(&input.credential).map_or(String::new(), |c| list(&c.actions));
            format!("credential `{}` is for {actions}, not for `{tool}`", input.credential)
        }
        Code::ToolUnknown => {
            format!("the catalogue has no entry for `{tool}`: name it in the tenant's own part of the catalogue")
        }
        Code::ToolAmbiguous => {
            format!("two equally specific entries of the catalogue say different things of `{tool}`")
        }
        Code::ConfidenceLow => format!(
            "`{tool}` is classified with a confidence of {}, and `{place}` asks for {}: name it exactly in the catalogue",
            input.classification.confidence,
            settings.map_or(0, |s| s.confidence_threshold)
        ),
        Code::CapabilityUnknown => format!(
            "nothing in the registry says what {} `{}` is: add a capability for that resource type whose pattern covers it",
            intent.resource.kind, intent.resource.id
        ),
        Code::CapabilityAmbiguous => {
            format!("two equally specific capabilities cover {} `{}`", intent.resource.kind, intent.resource.id)
        }
        Code::CapabilityEnvironment => format!("the target belongs to another environment than `{place}`{detail}"),
        Code::BudgetExceeded => budgets(state, input, &gate.detail),
        Code::RiskAboveLimit => risk(decision, settings.map_or(0, |s| s.risk_deny_at), place),
        Code::PolicyNone => format!("no policy version is deployed in `{place}`: whatever is not permitted is denied"),
        Code::PolicyForbid => {
            let by = decision.policy.as_ref().map(|p| p.determining.iter().map(|d| at(places, d)).collect::<Vec<_>>());
            format!("forbidden by {}: it would have to change, or not match", by.unwrap_or_default().join(", "))
        }
        Code::PolicyNoPermit => no_permit(state, input, places),
        Code::PolicyError => {
            let failed = decision.policy.as_ref().map(|p| p.errors.join("; ")).unwrap_or_default();
            format!("a policy failed while it was evaluated, which denies: {failed}")
        }
        Code::PolicyEscalate => {
            let by = decision.policy.as_ref().map(|p| p.determining.iter().map(|d| at(places, d)).collect::<Vec<_>>());
            format!("{} asks for people's approval", by.unwrap_or_default().join(", "))
        }
        Code::PolicyDefer => {
            format!("context is missing: submit it again with {}", decision.obligations.needs.join(", "))
        }
        Code::ApprovalMissing => approvals(state, decision),
        Code::GateSkipped => "could not be asked, because of what stands above".to_owned(),
        other => {
            let hint = if other.hint().is_empty() { String::new() } else { format!(". {}", other.hint()) };
            format!("{}{detail}{hint}", other.title())
        }
    }
}

/// Which budgets do not have room for it, and when each is free again.
fn budgets(state: &State, input: &Input, detail: &str) -> String {
    let full = needs(state, input.procedure, &input.intent, input.at).budgets.into_iter().filter_map(|b| {
        let seen = input.counters.get(b.key.as_str()).copied().unwrap_or(0);
        let amount = b.amount?;
        let over = seen.saturating_add(amount) > b.limit;
        over.then(|| {
            format!(
                "budget `{}` has {} of {} left and this takes {amount}; its window ends at {}",
                b.id,
                b.limit.saturating_sub(seen).max(0),
                b.limit,
                b.ends
            )
        })
    });
    let full: Vec<String> = full.collect();
    if full.is_empty() { format!("a budget does not have room for it: {detail}") } else { full.join("; ") }
}

/// The factors by what they add to the score.
fn risk(decision: &Decision, limit: u8, place: &EnvironmentId) -> String {
    let Some(risk) = &decision.risk else { return "the risk is not known".to_owned() };
    let total: u64 = risk.factors.iter().map(|f| u64::from(f.weight)).sum();
    let mut parts: Vec<(u64, String)> = risk
        .factors
        .iter()
        .map(|f| {
            let adds = (u64::from(f.value) * u64::from(f.weight) * 10).checked_div(total).unwrap_or(0);
            let text =
                format!("{} {} of 100 with weight {} adds {}.{}", f.name, f.value, f.weight, adds / 10, adds % 10);
            (adds, text)
        })
        .filter(|(adds, _)| *adds > 0)
        .collect();
    parts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let parts: Vec<String> = parts.into_iter().map(|(_, text)| text).collect();
    format!("the risk score {} reaches the limit {limit} of `{place}`: {}", risk.score, parts.join("; "))
}

/// The permits that came near, and what of each does not hold.
fn no_permit(state: &State, input: &Input, places: &Places) -> String {
    let mut near = Vec::new();
    for policy in policy_trace(state, input) {
        if policy.effect != Effect::Permit {
            continue;
        }
        let place = at(places, &policy.id);
        match policy.said {
            Said::Not { part: Some(part) } => near.push(format!("{place}, whose `{part}` does not hold")),
            Said::Stale => near.push(format!("{place}, which names something that is no longer there")),
            Said::Failed { message } => near.push(format!("{place}, which failed: {message}")),
            Said::Not { part: None } | Said::Satisfied => {}
        }
    }
    if near.is_empty() {
        return "no permit is about this agent, tool and resource: one would have to be written".to_owned();
    }
    let more = near.len().saturating_sub(MAX_NAMES);
    near.truncate(MAX_NAMES);
    let mut out = format!("no permit holds. Nearest: {}", near.join("; "));
    if more > 0 {
        let _ = write!(out, "; and {more} more");
    }
    out
}

/// Every group that some way through a requirement names.
fn groups(requirement: &Requirement) -> impl Iterator<Item = (&str, u32)> {
    let first = std::iter::once((&*requirement.group, requirement.count));
    let or = requirement.or.iter().map(|q| (&*q.group, q.count));
    first.chain(or).chain(requirement.then.iter().flatten().map(|q| (&*q.group, q.count)))
}

fn in_group<'s>(state: &'s State, group: &'s str) -> impl Iterator<Item = &'s MemberId> {
    let of = move |m: &crate::Member| m.active && m.groups.iter().any(|g| g.as_str() == group);
    state.members.iter().filter(move |(_, m)| of(m)).map(|(id, _)| id)
}

fn approvals(state: &State, decision: &Decision) -> String {
    let missing = decision
        .obligations
        .approvals
        .iter()
        .flat_map(groups)
        .map(|(group, count)| format!("{count} of {group} ({})", names(in_group(state, group))));
    let until = decision.obligations.expires_at.map_or(String::new(), |t| format!(", until {t}, which denies"));
    format!("it waits for {}{until}", missing.collect::<Vec<_>>().join(", "))
}

struct Search {
    would_allow: Vec<Counterfactual>,
    tried: usize,
}

impl Search {
    /// Decides again with a change, and keeps it if that allows.
    fn try_with(&mut self, state: &State, input: &Input, change: String, assumes: Option<&'static str>) -> bool {
        self.tried += 1;
        let again = decide(state, input);
        let allows = again.decision.permits();
        if allows {
            self.would_allow.push(Counterfactual { change, decision: again.decision, reason: again.reason, assumes });
        }
        allows
    }

    fn run(&mut self, state: &State, input: &Input, decision: &Decision, environments: &[EnvironmentId]) {
        self.without_emergency(state, input);
        self.other_agents(state, input);
        self.other_environments(state, input, environments);
        self.smaller_arguments(state, input);
        self.later(state, input);
        self.approved(state, input, decision);
    }

    fn without_emergency(&mut self, state: &State, input: &Input) {
        let about = About::of(&input.intent, &input.classification);
        let covering = state.halts.iter().filter(|(_, halt)| covers(&halt.scope(), &about));
        let mut what: Vec<String> = covering.map(|(name, _)| format!("halt `{name}` lifted")).collect();
        let (held, open) = state.breakers.over(input);
        what.extend(held.iter().map(|b| format!("breaker `{}` released", b.breaker)));
        what.extend(open.iter().map(|b| format!("breaker `{}` closed", b.breaker)));
        if !what.is_empty() {
            // What else is halted or open does not cover it.
            let mut lifted = state.clone();
            lifted.unhalted();
            Arc::make_mut(&mut lifted.breakers).calm();
            self.try_with(&lifted, input, what.join(" and "), None);
        }
    }

    fn other_agents(&mut self, state: &State, input: &Input) {
        let place = &input.intent.environment;
        let active =
            |a: &crate::Agent| a.state == intended_model::entry::AgentState::Active && a.environments.contains(place);
        let mut others: Vec<_> =
            state.agents.iter().filter(|(id, a)| **id != input.intent.subject.id && active(a)).collect();
        others.sort_by(|a, b| a.0.cmp(b.0));
        for (id, agent) in others.into_iter().take(MAX_AGENTS) {
            let mut changed = input.clone();
            changed.intent.subject.id = id.clone();
            changed.intent.subject.kind = agent.kind.clone();
            anew(state, &mut changed);
            self.try_with(state, &changed, format!("by agent `{id}`"), Some("its budgets unused, its session new"));
        }
    }

    fn other_environments(&mut self, state: &State, input: &Input, seen: &[EnvironmentId]) {
        let others = seen.iter().filter(|e| **e != input.intent.environment && state.environments.contains_key(*e));
        for environment in others.take(MAX_ENVIRONMENTS) {
            let mut changed = input.clone();
            changed.intent.environment = environment.clone();
            anew(state, &mut changed);
            let assumes = Some("its budgets unused, its session new");
            self.try_with(state, &changed, format!("in `{environment}`"), assumes);
        }
    }

    /// Each number of the arguments on its own: the largest smaller one that would have been allowed.
    fn smaller_arguments(&mut self, state: &State, input: &Input) {
        let Some(arguments) = input.intent.action.properties.as_object() else { return };
        let numbers = arguments.iter().filter_map(|(name, value)| match value {
            Value::Number(number) => number.scaled(2).filter(|n| *n > 0).map(|n| (name, n)),
            _ => None,
        });
        for (name, now) in numbers.take(MAX_ARGUMENTS) {
            // Whole units where the number is one.
            let unit = if now % 100 == 0 { 100 } else { 1 };
            let with = |n: i64| {
                let mut changed = input.clone();
                if let Value::Object(object) = &mut changed.intent.action.properties {
                    object.insert(name, Value::Number(hundredths(n * unit)?));
                }
                Some(changed)
            };
            let allows = |search: &mut Self, n: i64| {
                search.tried += 1;
                with(n).is_some_and(|changed| decide(state, &changed).decision.permits())
            };
            let (mut low, mut high) = (0, now / unit);
            // Where nothing at all is allowed, no bound is looked for.
            if !allows(self, 1) && !allows(self, 0) {
                continue;
            }
            for _ in 0..MAX_STEPS {
                if high - low <= 1 {
                    break;
                }
                let middle = low + (high - low) / 2;
                if allows(self, middle) { low = middle } else { high = middle }
            }
            // What is said was decided, whatever lies between.
            if let Some(changed) = with(low) {
                let text = hundredths(low * unit).map_or(String::new(), |n| n.to_text());
                self.try_with(state, &changed, format!("with `{name}` {text}"), None);
            }
        }
    }

    /// After the windows of its budgets, and when people are around.
    fn later(&mut self, state: &State, input: &Input) {
        let ends = needs(state, input.procedure, &input.intent, input.at).budgets.into_iter().map(|b| b.ends).max();
        if let Some(at) = ends {
            let mut changed = Input { at, ..input.clone() };
            changed.counters = unused(state, &changed);
            let assumes = Some("its budgets unused in the new window");
            self.try_with(state, &changed, format!("at {at}, when the budgets' windows have ended"), assumes);
        }
        let hours = state.environments.get(&input.intent.environment).map(|e| &e.settings.hours);
        let Some(hours) = hours else { return };
        let within = |at: Timestamp| {
            let minute = at.minute_of_day(hours.offset_minutes);
            (i64::from(hours.from_minute)..i64::from(hours.to_minute)).contains(&minute)
                && hours.weekdays.iter().any(|d| i64::from(*d) == at.weekday(hours.offset_minutes))
        };
        if within(input.at) {
            return;
        }
        let quarter = (1..=7 * 96).map(|n| input.at.plus_secs(n * 900)).find(|at| within(*at));
        if let Some(at) = quarter {
            let mut changed = Input { at, ..input.clone() };
            // Windows that are the same still hold what they held.
            let held = changed.counters.clone();
            changed.counters = unused(state, &changed);
            changed.counters.iter_mut().for_each(|(key, n)| *n = held.get(key).copied().unwrap_or(0));
            let assumes = Some("its budgets unused in windows that begin until then");
            self.try_with(state, &changed, format!("at {at}, within business hours"), assumes);
        }
    }

    /// With everyone's approval who is in the groups that are asked for.
    fn approved(&mut self, state: &State, input: &Input, decision: &Decision) {
        let Some(policy) = decision.policy.as_ref().filter(|_| decision.decision == Outcome::Escalate) else { return };
        // In the order of the steps, as an approval is taken by the step that is next.
        let mut people: Vec<&MemberId> = Vec::new();
        for (group, _) in decision.obligations.approvals.iter().flat_map(groups) {
            people.extend(in_group(state, group));
        }
        let mut seen = BTreeSet::new();
        people.retain(|m| seen.insert(*m));
        let until = decision.obligations.expires_at.unwrap_or(input.at).plus_millis(1);
        let (mut tried, mut changed, mut given) = (state.clone(), input.clone(), Vec::new());
        changed.approvals.clear();
        // Positions that no entry of a ledger has.
        for (entry, member) in (1_u64 << 60..).zip(people) {
            let Some(by) = CredentialId::of_member(member) else { continue };
            changed.approvals.push(ApprovalRef {
                approver: member.clone(),
                entry,
                expires_at: until,
                intent_hash: input.intent_hash,
                policy: policy.digest,
            });
            let granted = ApprovalGranted {
                approver: member.clone(),
                at: Some(input.at),
                by,
                environment: input.intent.environment.clone(),
                expires_at: until,
                intent: input.id,
                intent_hash: input.intent_hash,
                policy: policy.digest,
                reason: "what if".into(),
                // After everything: who is in the group now was in it by then.
                request: Some((1 << 60) - 1),
                v: BODY_VERSION,
            };
            given.push((entry, granted));
        }
        Arc::make_mut(&mut tried.approvals).insert(input.id, given);
        self.try_with(&tried, &changed, "with the approvals that it waits for".to_owned(), None);
    }
}

/// As if nothing had been done before.
fn anew(state: &State, input: &mut Input) {
    input.approvals.clear();
    input.session = input.intent.session.as_ref().map(|_| SessionContext::default());
    input.counters = unused(state, input);
    // What the bytes would be: nothing is ever recorded of it.
    if let Ok(hash) = input.intent.digest() {
        input.intent_hash = hash;
    }
}

fn unused(state: &State, input: &Input) -> BTreeMap<Box<str>, i64> {
    needs(state, input.procedure, &input.intent, input.at).counters().map(|b| (b.key.as_str().into(), 0)).collect()
}

/// A number of so many hundredths.
fn hundredths(n: i64) -> Option<Number> {
    let text = match (n / 100, n % 100) {
        (whole, 0) => whole.to_string(),
        (whole, cents) if cents % 10 == 0 => format!("{whole}.{}", cents / 10),
        (whole, cents) => format!("{whole}.{cents:02}"),
    };
    Number::parse(&text).ok()
}
