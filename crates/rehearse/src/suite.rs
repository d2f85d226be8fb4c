//! Test files of a pack: `tests/*.yaml`.
//!
//! A file holds fixtures (who is registered, what targets are, intents by name, what a session has
//! done) and tests. A test is a table: its agents × environments × intents are all decided, and its
//! `expect` rows say what must come out. **What no row names is expected to be denied.**
//!
//! Fixtures in `tests/fixtures.yaml` are shared by the pack's other files; a file's own come on top.

use std::collections::BTreeMap;

use intended_model::decision::{DataClass, SessionContext};
use intended_model::entry::{AgentState, Criticality, Settings, Tier};
use intended_model::{Code, EnvironmentId, Name, Outcome, Timestamp, Value};
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Name of the file with the fixtures that all test files share.
pub const SHARED: &str = "tests/fixtures.yaml";
/// Most cases (agents × environments × intents) of a pack's tests.
pub const MAX_CASES: usize = 100_000;
/// When tests that name no time are decided: a Tuesday at noon, UTC.
pub const NOON: Timestamp = Timestamp::from_millis(1_795_521_600_000);

/// Why a test file cannot be run, with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct SuiteError {
    pub file: String,
    /// From 1.
    pub line: u64,
    pub column: u64,
    pub message: String,
}

impl SuiteError {
    fn new(file: &str, at: (u64, u64), message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: at.0.max(1), column: at.1.max(1), message: message.into() }
    }
}

/// The tests of a pack.
#[derive(Debug, Clone, Default)]
pub struct Suite {
    pub files: Vec<TestFile>,
}

/// One test file, names resolved.
#[derive(Debug, Clone)]
pub struct TestFile {
    pub file: String,
    pub fixtures: Fixtures,
    pub tests: Vec<Test>,
}

/// One test: a table.
#[derive(Debug, Clone)]
pub struct Test {
    pub name: String,
    pub line: u64,
    pub column: u64,
    pub agents: Vec<String>,
    pub environments: Vec<EnvironmentId>,
    /// Intents by name.
    pub intents: Vec<String>,
    pub now: Timestamp,
    pub session: Option<SessionContext>,
    /// What each budget has counted, by budget.
    pub budgets: BTreeMap<String, i64>,
    pub expect: Vec<Expect>,
}

/// One row of the table. What it does not name, it does not ask about.
#[derive(Debug, Clone)]
pub struct Expect {
    pub line: u64,
    pub column: u64,
    pub agent: Option<String>,
    pub environment: Option<EnvironmentId>,
    pub intent: Option<String>,
    pub decision: Outcome,
    pub reason: Option<Code>,
    /// `2 of release-managers` of an escalation, what is missing of a deferral.
    pub obligation: Option<String>,
    /// The transformed arguments of a modify.
    pub arguments: Option<Value>,
    /// Ids of the policies that must have determined it.
    pub policies: Option<Vec<String>>,
}

impl Expect {
    #[must_use]
    pub fn concerns(&self, agent: &str, environment: &EnvironmentId, intent: &str) -> bool {
        self.agent.as_ref().is_none_or(|a| a == agent)
            && self.environment.as_ref().is_none_or(|e| e == environment)
            && self.intent.as_ref().is_none_or(|i| i == intent)
    }
}

/// What a test world has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fixtures {
    pub agents: BTreeMap<String, AgentFixture>,
    pub capabilities: BTreeMap<Name, CapabilityFixture>,
    pub environments: BTreeMap<EnvironmentId, EnvironmentFixture>,
    pub intents: BTreeMap<String, IntentFixture>,
    pub sessions: BTreeMap<String, SessionFixture>,
    /// Own tools, in the form of the tool catalogue (TOML).
    pub catalogue: Option<String>,
}

impl Fixtures {
    /// These on top of `shared`.
    fn over(mut self, shared: &Self) -> Self {
        fn merge<K: Ord + Clone, V: Clone>(own: &mut BTreeMap<K, V>, shared: &BTreeMap<K, V>) {
            for (key, value) in shared {
                own.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        merge(&mut self.agents, &shared.agents);
        merge(&mut self.capabilities, &shared.capabilities);
        merge(&mut self.environments, &shared.environments);
        merge(&mut self.intents, &shared.intents);
        merge(&mut self.sessions, &shared.sessions);
        self.catalogue = self.catalogue.or_else(|| shared.catalogue.clone());
        self
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFixture {
    /// Absent: every environment of the file.
    #[serde(default)]
    pub environments: Option<Vec<EnvironmentId>>,
    #[serde(default = "agent")]
    pub kind: String,
    #[serde(default = "owner")]
    pub owner: String,
    #[serde(default = "active")]
    pub state: AgentState,
    #[serde(default)]
    pub teams: Vec<Name>,
    #[serde(default = "trust")]
    pub trust: u8,
}

fn agent() -> String {
    "agent".to_owned()
}
fn owner() -> String {
    "tests".to_owned()
}
const fn active() -> AgentState {
    AgentState::Active
}
const fn trust() -> u8 {
    70
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityFixture {
    #[serde(rename = "type")]
    pub resource_type: String,
    #[serde(default = "anything")]
    pub pattern: String,
    #[serde(default = "medium")]
    pub criticality: Criticality,
    #[serde(default = "internal")]
    pub data_class: DataClass,
    #[serde(default)]
    pub environment: Option<EnvironmentId>,
    #[serde(default = "owner")]
    pub owner: String,
}

fn anything() -> String {
    "*".to_owned()
}
const fn medium() -> Criticality {
    Criticality::Medium
}
const fn internal() -> DataClass {
    DataClass::Internal
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentFixture {
    pub tier: Tier,
    #[serde(default)]
    pub settings: Settings,
}

/// An intent without its agent and environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntentFixture {
    /// The tool.
    pub action: String,
    #[serde(default)]
    pub arguments: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub context: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    pub goal: Option<String>,
    /// `type/id`.
    pub resource: String,
    /// What the caller says of itself, such as `on_behalf_of`.
    #[serde(default)]
    pub subject: serde_json::Map<String, serde_json::Value>,
}

/// What a session has done before.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionFixture {
    pub allowed: u32,
    pub denied: u32,
    pub intents: u32,
    pub categories: Vec<String>,
    /// The most sensitive class that an allowed action touched.
    pub data_class: Option<DataClass>,
    pub indicators: Vec<String>,
    pub tools: Vec<String>,
}

impl SessionFixture {
    fn context(&self) -> SessionContext {
        let boxed = |items: &[String]| items.iter().map(|i| i.as_str().into()).collect();
        SessionContext {
            allowed: self.allowed,
            categories: boxed(&self.categories),
            data_class: self.data_class.map_or(0, DataClass::level),
            denied: self.denied,
            indicators: boxed(&self.indicators),
            intents: self.intents.max(self.allowed.saturating_add(self.denied)),
            overflow: false,
            tools: boxed(&self.tools),
            waiting: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    #[expect(dead_code, reason = "for people; read so that it is not refused as unknown")]
    name: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "for people; read so that it is not refused as unknown")]
    description: Option<String>,
    #[serde(default)]
    now: Option<Spanned<String>>,
    #[serde(default)]
    fixtures: Fixtures,
    #[serde(default)]
    tests: Vec<Spanned<RawTest>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTest {
    name: String,
    #[serde(default)]
    now: Option<String>,
    /// Absent: all of the fixtures.
    #[serde(default)]
    agents: Option<Vec<String>>,
    #[serde(default)]
    environments: Option<Vec<EnvironmentId>>,
    #[serde(default)]
    intents: Option<Vec<String>>,
    #[serde(default)]
    session: Option<String>,
    #[serde(default)]
    budgets: BTreeMap<String, i64>,
    #[serde(default)]
    expect: Vec<Spanned<RawExpect>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExpect {
    #[serde(default)]
    agent: Option<String>,
    #[serde(default)]
    environment: Option<EnvironmentId>,
    #[serde(default)]
    intent: Option<String>,
    decision: Outcome,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    obligation: Option<String>,
    #[serde(default)]
    arguments: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    policies: Option<Vec<String>>,
}

/// Whether a file of a pack is a test file.
#[must_use]
pub fn is_test_file(name: &str) -> bool {
    name.strip_prefix("tests/").is_some_and(|n| !n.contains('/') && (n.ends_with(".yaml") || n.ends_with(".yml")))
}

impl Suite {
    /// Reads the test files among a pack's files.
    pub fn parse<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)> + Clone) -> Result<Self, SuiteError> {
        let mut shared = Fixtures::default();
        if let Some((name, text)) = files.clone().into_iter().find(|(name, _)| *name == SHARED) {
            let raw = read(name, text)?;
            if let Some(test) = raw.tests.first() {
                return Err(SuiteError::new(name, place(test), "shared fixtures hold no tests"));
            }
            shared = raw.fixtures;
        }
        let mut out = Self::default();
        let mut cases = 0_usize;
        for (name, text) in files.into_iter().filter(|(name, _)| is_test_file(name) && *name != SHARED) {
            let file = resolve(name, read(name, text)?, &shared)?;
            for test in &file.tests {
                let own = test.agents.len().saturating_mul(test.environments.len()).saturating_mul(test.intents.len());
                cases = cases.saturating_add(own);
                if cases > MAX_CASES {
                    let message = format!("the pack's tests come to more than {MAX_CASES} cases");
                    return Err(SuiteError::new(name, (test.line, test.column), message));
                }
            }
            out.files.push(file);
        }
        Ok(out)
    }

    /// How many tests there are.
    #[must_use]
    pub fn tests(&self) -> usize {
        self.files.iter().map(|f| f.tests.len()).sum()
    }
}

fn place<T>(at: &Spanned<T>) -> (u64, u64) {
    (at.referenced.line(), at.referenced.column())
}

fn read(name: &str, text: &str) -> Result<RawFile, SuiteError> {
    if text.len() > intended_policy::pack::MAX_FILE {
        let message =
            format!("the file has {} bytes; at most {} are read", text.len(), intended_policy::pack::MAX_FILE);
        return Err(SuiteError::new(name, (1, 1), message));
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let at = error.location().map_or((1, 1), |l| (l.line(), l.column()));
        // The message without the excerpt that the parser draws: who prints it shows the line itself.
        let message = error.without_snippet().to_string();
        SuiteError::new(name, at, message.lines().next().unwrap_or("not YAML").to_owned())
    })
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| format!("`{text}` is not a time such as 2026-11-24T12:00:00Z"))?;
    Ok(Timestamp::from_millis(time.as_millisecond()))
}

/// A YAML map as exact JSON.
pub(crate) fn exact(map: &serde_json::Map<String, serde_json::Value>) -> Result<Value, String> {
    let text = serde_json::to_string(map).map_err(|e| e.to_string())?;
    intended_model::json::parse(text.as_bytes()).map_err(|e| e.to_string())
}

fn resolve(name: &str, raw: RawFile, shared: &Fixtures) -> Result<TestFile, SuiteError> {
    let now = match &raw.now {
        None => NOON,
        Some(text) => time(&text.value).map_err(|e| SuiteError::new(name, place(text), e))?,
    };
    let mut fixtures = raw.fixtures.over(shared);
    if fixtures.environments.is_empty() {
        for (id, tier) in
            [("production", Tier::Production), ("staging", Tier::Staging), ("development", Tier::Development)]
        {
            if let Ok(id) = EnvironmentId::new(id) {
                fixtures.environments.insert(id, EnvironmentFixture { tier, settings: Settings::default() });
            }
        }
    }
    let mut tests = Vec::with_capacity(raw.tests.len());
    for raw in raw.tests {
        let at = place(&raw);
        tests.push(resolve_test(name, at, raw.value, &fixtures, now)?);
    }
    Ok(TestFile { file: name.to_owned(), fixtures, tests })
}

fn resolve_test(
    file: &str,
    at: (u64, u64),
    raw: RawTest,
    fixtures: &Fixtures,
    now: Timestamp,
) -> Result<Test, SuiteError> {
    let wrong = |message: String| SuiteError::new(file, at, format!("test `{}`: {message}", raw.name));
    let near = |what: &str, id: &str, known: Vec<&str>| {
        let hint = if known.is_empty() { "none is defined".to_owned() } else { format!("known: {}", known.join(", ")) };
        wrong(format!("there is no {what} `{id}` in the fixtures; {hint}"))
    };
    let agents = raw.agents.clone().unwrap_or_else(|| fixtures.agents.keys().cloned().collect());
    let intents = raw.intents.clone().unwrap_or_else(|| fixtures.intents.keys().cloned().collect());
    let environments = raw.environments.clone().unwrap_or_else(|| fixtures.environments.keys().cloned().collect());
    if let Some(unknown) = environments.iter().find(|e| !fixtures.environments.contains_key(*e)) {
        return Err(near(
            "environment",
            unknown.as_str(),
            fixtures.environments.keys().map(EnvironmentId::as_str).collect(),
        ));
    }
    if let Some(unknown) = intents.iter().find(|i| !fixtures.intents.contains_key(*i)) {
        return Err(near("intent", unknown, fixtures.intents.keys().map(String::as_str).collect()));
    }
    if agents.is_empty() || intents.is_empty() || environments.is_empty() {
        return Err(wrong("it decides nothing: it needs agents, environments and intents".to_owned()));
    }
    let session = match &raw.session {
        None => None,
        Some(id) => {
            let found = fixtures.sessions.get(id);
            Some(
                found
                    .ok_or_else(|| near("session", id, fixtures.sessions.keys().map(String::as_str).collect()))?
                    .context(),
            )
        }
    };
    let now = match &raw.now {
        None => now,
        Some(text) => time(text).map_err(wrong)?,
    };
    let mut expect = Vec::with_capacity(raw.expect.len());
    for row in &raw.expect {
        let at = place(row);
        let wrong = |message: String| SuiteError::new(file, at, format!("test `{}`: {message}", raw.name));
        let row = &row.value;
        let reason = row.reason.as_deref().map(str::parse::<Code>).transpose();
        let reason =
            reason.map_err(|_| wrong(format!("`{}` is no reason code", row.reason.as_deref().unwrap_or_default())))?;
        let outside = |what: &str, id: &str| wrong(format!("{what} `{id}` is not decided by this test"));
        if let Some(id) = row.agent.as_ref().filter(|a| !agents.contains(a)) {
            return Err(outside("the agent", id));
        }
        if let Some(id) = row.intent.as_ref().filter(|i| !intents.contains(i)) {
            return Err(outside("the intent", id));
        }
        if let Some(id) = row.environment.as_ref().filter(|e| !environments.contains(e)) {
            return Err(outside("the environment", id.as_str()));
        }
        expect.push(Expect {
            line: at.0,
            column: at.1,
            agent: row.agent.clone(),
            environment: row.environment.clone(),
            intent: row.intent.clone(),
            decision: row.decision,
            reason,
            obligation: row.obligation.clone(),
            arguments: row.arguments.as_ref().map(exact).transpose().map_err(wrong)?,
            policies: row.policies.clone(),
        });
    }
    Ok(Test {
        name: raw.name.clone(),
        line: at.0,
        column: at.1,
        agents,
        environments,
        intents,
        now,
        session,
        budgets: raw.budgets.clone(),
        expect,
    })
}
