//! Requests that own what they say.

use intended_model::Value;
use intended_model::decision::SessionContext;
use intended_policy::{EvalRequest, Pack, PackSource, PolicySetVersion};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub struct Asked {
    pub agent: String,
    pub teams: Vec<String>,
    pub trust: i64,
    pub tool: String,
    pub category: String,
    /// Made from the category if it is not given.
    pub domain: Option<String>,
    pub operation: String,
    pub kind: String,
    pub id: String,
    pub capability: Option<String>,
    pub criticality: i64,
    pub risk: i64,
    pub arguments: String,
    pub indicators: Vec<Box<str>>,
    pub session: SessionContext,
    pub budgets: Vec<(String, i64)>,
    pub goal: bool,
}

impl Asked {
    pub fn with<T>(&self, ask: impl FnOnce(&EvalRequest<'_>) -> T) -> T {
        let teams: Vec<&str> = self.teams.iter().map(String::as_str).collect();
        let budgets: Vec<(&str, i64)> = self.budgets.iter().map(|(b, n)| (b.as_str(), *n)).collect();
        let arguments = intended_model::json::parse(self.arguments.as_bytes()).unwrap();
        let none = Value::object();
        let made = format!("{}00", &self.category.get(..5).unwrap_or("OIL-9"));
        let domain = self.domain.as_ref().unwrap_or(&made);
        ask(&EvalRequest {
            agent: &self.agent,
            agent_kind: "agent",
            trust: self.trust,
            agent_owner: "platform",
            teams: &teams,
            tool: &self.tool,
            category: &self.category,
            domain,
            operation: &self.operation,
            resource_kind: &self.kind,
            resource_id: &self.id,
            capability: self.capability.as_deref(),
            resource_known: self.capability.is_some(),
            criticality: self.criticality,
            data_class: 1,
            resource_owner: "",
            resource_environment: "",
            environment: "production",
            tier: "production",
            confidence: 100,
            indicators: &self.indicators,
            reversible: "yes",
            risk: self.risk,
            risk_factors: [1, 2, 3, 4, 5, 6, 7, self.risk],
            arguments: &arguments,
            subject_claims: &none,
            resource_claims: &none,
            context_claims: &none,
            goal_declared: self.goal,
            goal_mentions: &self.indicators,
            session_declared: true,
            session: &self.session,
            budgets: &budgets,
            hour: self.risk % 24,
            minute: 30,
            weekday: 2,
            epoch: 1_795_521_600,
            approvals: 0,
        })
    }
}

fn of(items: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(items).prop_map(str::to_owned)
}

pub fn asked() -> impl Strategy<Value = Asked> {
    let who = (of(&["a0", "a1", "a2"]), proptest::sample::subsequence(vec!["t0", "t1", "t2"], 0..=3), 0_i64..100);
    let what = (of(&["m.x", "m.y", "n.z"]), of(&["OIL-101", "OIL-102", "OIL-201"]), of(&["read", "delete"]));
    let on = (of(&["order", "page"]), of(&["1", "2"]), proptest::option::of(of(&["c0", "c1"])), 0_i64..4);
    let with = (
        0_i64..100,
        of(&[
            "{}",
            r#"{"to":"x"}"#,
            r#"{"to":"y","amount":40}"#,
            r#"{"amount":9.5,"f":true}"#,
            r#"{"cc":["x","z"],"to":{"name":"x"}}"#,
            r#"{"cc":[],"amount":-0.0001,"f":false}"#,
        ]),
        proptest::sample::subsequence(vec!["financial", "bulk", "secret_access"], 0..=3),
        proptest::option::of(0_i64..10),
        any::<bool>(),
    );
    (who, what, on, with).prop_map(
        |((agent, teams, trust), (tool, category, operation), on, (risk, arguments, indicators, budget, goal))| {
            let (kind, id, capability, criticality) = on;
            let session = SessionContext {
                intents: u32::try_from(risk).unwrap(),
                tools: indicators.iter().map(|i| (*i).into()).collect(),
                ..SessionContext::default()
            };
            Asked {
                agent,
                teams: teams.into_iter().map(str::to_owned).collect(),
                trust,
                tool,
                category,
                domain: None,
                operation,
                kind,
                id,
                capability,
                criticality,
                risk,
                arguments,
                indicators: indicators.into_iter().map(Into::into).collect(),
                session,
                budgets: budget.map(|n| ("b".to_owned(), n)).into_iter().collect(),
                goal,
            }
        },
    )
}

/// One that fits most policies.
pub fn usual() -> Asked {
    Asked {
        agent: "a0".into(),
        teams: vec!["t0".into()],
        trust: 50,
        tool: "m.x".into(),
        category: "OIL-101".into(),
        domain: None,
        operation: "read".into(),
        kind: "order".into(),
        id: "1".into(),
        capability: Some("c0".into()),
        criticality: 1,
        risk: 10,
        arguments: r#"{"amount":40,"to":"x"}"#.into(),
        indicators: vec![],
        session: SessionContext::default(),
        budgets: vec![],
        goal: false,
    }
}

pub fn pack(policies: &str) -> Result<Pack, intended_policy::PackError> {
    let manifest = "name = \"test\"\nversion = \"1\"\n".to_owned();
    Pack::parse(&PackSource {
        files: [("pack.toml".to_owned(), manifest), ("p.cedar".to_owned(), policies.to_owned())].into(),
    })
}

pub fn version(policies: &str) -> PolicySetVersion {
    PolicySetVersion::compile(&pack(policies).unwrap()).unwrap()
}
