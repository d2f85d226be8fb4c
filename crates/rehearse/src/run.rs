//! Running a pack's tests: each case goes through the whole decision procedure on a state that is
//! folded from the fixtures, with a clock that stands still.

use std::collections::BTreeSet;
use std::sync::Arc;

use intended_engine::{FoldError, State, Version, decide, needs, policy_trace};
use intended_intents::Catalogue;
use intended_model::decision::{Decision, Gate, PROCEDURE};
use intended_model::entry::{
    AgentSet, BODY_VERSION, CapabilitySet, CatalogueSet, EnvironmentSet, PolicyRules, TenantCreated,
};
use intended_model::{CredentialId, Digest, EnvironmentId, Event, Intent, Outcome, TenantId, Value};
use intended_policy::Said;

use crate::suite::{Expect, Fixtures, IntentFixture, Suite, SuiteError, Test, TestFile, exact};

/// What came of a pack's tests.
#[derive(Debug, Clone, Default)]
pub struct SuiteReport {
    pub cases: Vec<CaseResult>,
    pub coverage: Coverage,
}

impl SuiteReport {
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|c| !c.passed()).count()
    }
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failed() == 0
    }
}

/// One case: one intent of one agent in one environment.
#[derive(Debug, Clone)]
pub struct CaseResult {
    pub file: String,
    /// Of the row that expects it, or of the test where no row does.
    pub line: u64,
    pub column: u64,
    pub test: String,
    pub agent: String,
    pub environment: String,
    pub intent: String,
    pub expected: Outcome,
    pub decision: Decision,
    /// What differs; empty when it passed.
    pub differs: Vec<String>,
    pub gates: Vec<Gate>,
}

impl CaseResult {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.differs.is_empty()
    }
    /// `agent → intent in environment`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}: {} → {} in {}", self.test, self.agent, self.intent, self.environment)
    }
}

/// Which policies some case has satisfied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    pub covered: BTreeSet<Arc<str>>,
    pub uncovered: BTreeSet<Arc<str>>,
}

impl Coverage {
    /// Whole percent, rounded down; 100 for no policies.
    #[must_use]
    pub fn percent(&self) -> u8 {
        let all = self.covered.len() + self.uncovered.len();
        if all == 0 {
            return 100;
        }
        u8::try_from(self.covered.len() * 100 / all).unwrap_or(100)
    }
}

/// Runs the tests that `wanted` names. Coverage is of those that ran.
pub fn run(
    suite: &Suite,
    version: &Arc<Version>,
    wanted: &dyn Fn(&TestFile, &Test) -> bool,
) -> Result<SuiteReport, SuiteError> {
    let mut report = SuiteReport::default();
    let all: BTreeSet<Arc<str>> = version.compiled.ids().cloned().collect();
    for file in &suite.files {
        let tests: Vec<&Test> = file.tests.iter().filter(|t| wanted(file, t)).collect();
        let Some(first) = tests.first() else { continue };
        let world = world(&file.fixtures, version).map_err(|message| SuiteError {
            file: file.file.clone(),
            line: first.line,
            column: first.column,
            message,
        })?;
        for test in tests {
            for environment in &test.environments {
                for agent in &test.agents {
                    for intent in &test.intents {
                        case(file, test, &world, (environment, agent, intent), &mut report)?;
                    }
                }
            }
        }
    }
    report.coverage.uncovered = all.difference(&report.coverage.covered).cloned().collect();
    Ok(report)
}

/// The cases of a suite as they go into the decision procedure: for whoever measures that.
pub fn cases(
    suite: &Suite,
    version: &Arc<Version>,
) -> Result<Vec<(Arc<State>, intended_model::decision::Input)>, SuiteError> {
    let mut out = Vec::new();
    for file in &suite.files {
        let Some(first) = file.tests.first() else { continue };
        let wrong = |test: &Test, message: String| SuiteError {
            file: file.file.clone(),
            line: test.line,
            column: test.column,
            message,
        };
        let world = world(&file.fixtures, version).map_err(|e| wrong(first, e))?;
        let state = Arc::new(world.state.clone());
        for test in &file.tests {
            for environment in &test.environments {
                for agent in &test.agents {
                    let kind = file.fixtures.agents.get(agent).map_or("agent", |a| a.kind.as_str());
                    for fixture in test.intents.iter().filter_map(|i| file.fixtures.intents.get(i)) {
                        let intent = intent(fixture, agent, kind, environment, test.session.is_some());
                        let intent = intent.map_err(|e| wrong(test, e))?;
                        out.push((Arc::clone(&state), input(&world, intent, test)));
                    }
                }
            }
        }
    }
    Ok(out)
}

/// The state that the fixtures describe, and who asks in it.
struct World {
    state: State,
    by: CredentialId,
}

/// The state that the fixtures describe, every environment deciding by `version`.
fn world(fixtures: &Fixtures, version: &Arc<Version>) -> Result<World, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let by = CredentialId::new("tests").map_err(|e| text(&e))?;
    let shipped = Catalogue::builtin().digest();
    let genesis = Event::TenantCreated(TenantCreated {
        catalogue: shipped,
        tenant: TenantId::new("tests").map_err(|e| text(&e))?,
        vkey: "tests".into(),
        v: BODY_VERSION,
    });
    let mut events = Vec::new();
    if let Some(own) = &fixtures.catalogue {
        events.push(Event::CatalogueSet(CatalogueSet {
            by: by.clone(),
            digest: Digest::of(own.as_bytes()),
            shipped,
            text: own.as_str().into(),
            v: BODY_VERSION,
        }));
    }
    for (id, fixture) in &fixtures.environments {
        let mut settings = fixture.settings.clone();
        settings.policy = PolicyRules::default();
        events.push(Event::EnvironmentSet(EnvironmentSet {
            by: by.clone(),
            environment: id.clone(),
            settings,
            tier: fixture.tier,
            v: BODY_VERSION,
        }));
    }
    for (id, fixture) in &fixtures.agents {
        let all = || fixtures.environments.keys().cloned().collect();
        events.push(Event::AgentSet(AgentSet {
            agent: id.as_str().into(),
            by: by.clone(),
            environments: fixture.environments.clone().unwrap_or_else(all),
            kind: fixture.kind.as_str().into(),
            owner: fixture.owner.as_str().into(),
            state: fixture.state,
            teams: fixture.teams.clone(),
            trust: fixture.trust,
            categories: Vec::new(),
            purpose: Box::default(),
            tools: Vec::new(),
            workflow: Vec::new(),
            v: BODY_VERSION,
        }));
    }
    for (id, fixture) in &fixtures.capabilities {
        events.push(Event::CapabilitySet(CapabilitySet {
            active: true,
            by: by.clone(),
            capability: id.clone(),
            criticality: fixture.criticality,
            data_class: fixture.data_class,
            environment: fixture.environment.clone(),
            owner: fixture.owner.as_str().into(),
            pattern: fixture.pattern.as_str().into(),
            resource_type: fixture.resource_type.as_str().into(),
            v: BODY_VERSION,
        }));
    }
    let mut state = State::genesis(&genesis).map_err(|e| text(&e))?;
    for (index, event) in (1_u64..).zip(&events) {
        state.apply(index, event).map_err(|e: FoldError| format!("the fixtures: {e}"))?;
    }
    for environment in fixtures.environments.keys() {
        state = state.trying(environment, version).unwrap_or(state);
    }
    Ok(World { state, by })
}

fn case(
    file: &TestFile,
    test: &Test,
    world: &World,
    (environment, agent, name): (&EnvironmentId, &String, &String),
    report: &mut SuiteReport,
) -> Result<(), SuiteError> {
    let row = test.expect.iter().find(|e| e.concerns(agent, environment, name));
    let (line, column) = row.map_or((test.line, test.column), |r| (r.line, r.column));
    let wrong = |message: String| SuiteError { file: file.file.clone(), line, column, message };
    let Some(fixture) = file.fixtures.intents.get(name) else { return Ok(()) };
    let kind = file.fixtures.agents.get(agent).map_or("agent", |a| a.kind.as_str());
    let intent = intent(fixture, agent, kind, environment, test.session.is_some())
        .map_err(|e| wrong(format!("the intent `{name}`: {e}")))?;
    let input = input(world, intent, test);
    let decision = decide(&world.state, &input);
    let satisfied = policy_trace(&world.state, &input).into_iter().filter(|t| t.said == Said::Satisfied);
    report.coverage.covered.extend(satisfied.map(|t| t.id));
    report.cases.push(CaseResult {
        file: file.file.clone(),
        line,
        column,
        test: test.name.clone(),
        agent: agent.clone(),
        environment: environment.to_string(),
        intent: name.clone(),
        expected: row.map_or(Outcome::Deny, |r| r.decision),
        differs: differs(row, &decision),
        gates: decision.gates.clone(),
        decision,
    });
    Ok(())
}

/// An intent of the fixtures as an agent would submit it.
pub fn intent(
    fixture: &IntentFixture,
    agent: &str,
    kind: &str,
    environment: &EnvironmentId,
    session: bool,
) -> Result<Intent, String> {
    let (resource_type, id) = fixture.resource.split_once('/').ok_or("a resource is written `type/id`")?;
    let string = |text: &str| Value::String(text.into());
    let object = |members: Vec<(&str, Value)>| {
        let mut object = intended_model::json::Object::default();
        for (name, value) in members {
            object.insert(name, value);
        }
        Value::Object(object)
    };
    let mut members = vec![
        ("action", object(vec![("name", string(&fixture.action)), ("properties", exact(&fixture.arguments)?)])),
        ("context", exact(&fixture.context)?),
        ("resource", object(vec![("type", string(resource_type)), ("id", string(id))])),
        (
            "subject",
            object(vec![("type", string(kind)), ("id", string(agent)), ("properties", exact(&fixture.subject)?)]),
        ),
    ];
    if let Some(goal) = &fixture.goal {
        members.push(("goal", string(goal)));
    }
    if session {
        members.push(("session", string("tests")));
    }
    Intent::from_value(&object(members), Some(environment), false).map_err(|e| format!("{}: {e}", e.pointer))
}

fn input(world: &World, intent: Intent, test: &Test) -> intended_model::decision::Input {
    let wanted = needs(&world.state, PROCEDURE, &intent, test.now);
    let mut input = intended_engine::expect::input(&world.state, intent, world.by.clone(), test.now);
    if let Some(session) = &test.session {
        input.session = Some(session.clone());
    }
    for budget in wanted.budgets {
        if let Some(seen) = test.budgets.get(&*budget.id) {
            input.counters.insert(budget.key.as_str().into(), *seen);
        }
    }
    input
}

/// What a decision has that the row does not expect.
fn differs(row: Option<&Expect>, decision: &Decision) -> Vec<String> {
    let mut out = Vec::new();
    let got = format!("{} ({})", decision.decision.as_str(), decision.reason);
    let Some(row) = row else {
        if decision.decision != Outcome::Deny {
            out.push(format!("expected deny, because no row names it; got {got}"));
        }
        return out;
    };
    if decision.decision != row.decision {
        out.push(format!("expected {}, got {got}", row.decision.as_str()));
    }
    if let Some(reason) = row.reason.filter(|r| *r != decision.reason) {
        out.push(format!("expected the reason {reason}, got {}", decision.reason));
    }
    if let Some(wanted) = &row.obligation {
        let written = obligation(decision);
        if !asks(decision, wanted) && spaced(wanted) != spaced(&written) {
            let written = if written.is_empty() { "none".to_owned() } else { format!("`{written}`") };
            out.push(format!("expected the obligation `{wanted}`, got {written}"));
        }
    }
    if let Some(wanted) = &row.arguments {
        let written = decision.obligations.arguments.as_ref().map(Value::to_canonical);
        let wanted = wanted.to_canonical();
        if written.as_ref() != Some(&wanted) {
            out.push(format!("expected the arguments {wanted}, got {}", written.as_deref().unwrap_or("none")));
        }
    }
    if let Some(wanted) = &row.policies {
        let determining: BTreeSet<&str> =
            decision.policy.iter().flat_map(|p| p.determining.iter().map(|d| &**d)).collect();
        let wanted: BTreeSet<&str> = wanted.iter().map(String::as_str).collect();
        if determining != wanted {
            let list = |ids: &BTreeSet<&str>| ids.iter().copied().collect::<Vec<_>>().join(", ");
            let got = if determining.is_empty() { "none".to_owned() } else { list(&determining) };
            out.push(format!("expected the policies {}, got {got}", list(&wanted)));
        }
    }
    out
}

/// The obligation as its annotation writes it.
#[must_use]
pub fn obligation(decision: &Decision) -> String {
    let approvals: Vec<String> = decision.obligations.approvals.iter().map(ToString::to_string).collect();
    if approvals.is_empty() { decision.obligations.needs.join("; ") } else { approvals.join("; ") }
}

/// Whether the approvals are those that an annotation of this text asks for.
fn asks(decision: &Decision, wanted: &str) -> bool {
    let mut approvals = decision.obligations.approvals.clone();
    approvals.sort();
    let wanted = intended_policy::Obligation::parse("escalate", wanted);
    matches!(wanted, Some(Ok(intended_policy::Obligation::Escalate(wanted))) if wanted == approvals)
}

/// The same whatever the order of the requirements and the spaces between them.
fn spaced(obligation: &str) -> BTreeSet<String> {
    obligation
        .split(';')
        .map(|p| p.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|p| !p.is_empty())
        .collect()
}
