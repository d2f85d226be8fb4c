//! Policies and requests made at random from the whole grammar of scopes, over few names, so that
//! they meet; the names are the same on every side and as awkward as Cedar allows.

use intended_model::Value;
use intended_model::json::Number;
use intended_policy::{Change, Requirement};
use proptest::prelude::*;

use crate::oracle::uid;
use crate::request::{Asked, usual};

/// Ids of agents, teams, tools, categories, domains, capabilities and resources alike.
const IDS: &[&str] = &["x", "X", "y", "", "op:read", "k/x", "é\u{301}", "a\"b\\\n\0"];

/// One side's constraint.
#[derive(Debug, Clone)]
pub enum Scope {
    Any,
    Eq(&'static str, &'static str),
    In(&'static str, &'static str),
    Is(&'static str),
    IsIn(&'static str, &'static str, &'static str),
    List(Vec<(&'static str, &'static str)>),
}

impl Scope {
    pub const fn form(&self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Eq(..) => "==",
            Self::In(..) => "in",
            Self::Is(_) => "is",
            Self::IsIn(..) => "is in",
            Self::List(_) => "in [..]",
        }
    }
    fn text(&self, side: &str) -> String {
        match self {
            Self::Any => side.to_owned(),
            Self::Eq(kind, id) => format!("{side} == {}", uid(kind, id)),
            Self::In(kind, id) => format!("{side} in {}", uid(kind, id)),
            Self::Is(kind) => format!("{side} is {kind}"),
            Self::IsIn(is, kind, id) => format!("{side} is {is} in {}", uid(kind, id)),
            Self::List(all) => {
                let all: Vec<String> = all.iter().map(|(kind, id)| uid(kind, id).to_string()).collect();
                format!("{side} in [{}]", all.join(", "))
            }
        }
    }
}

/// What a permit asks for besides.
#[derive(Debug, Clone)]
pub enum Asks {
    Nothing,
    People(Vec<(u32, &'static str)>),
    Context(&'static str),
    Changes(Vec<(&'static str, i64)>),
}

impl Asks {
    pub fn people(&self) -> Vec<Requirement> {
        let Self::People(all) = self else { return vec![] };
        all.iter().map(|(count, group)| Requirement::of(*count, group)).collect()
    }
    pub fn context(&self) -> Option<Box<str>> {
        if let Self::Context(what) = self { Some((*what).into()) } else { None }
    }
    /// `a` is capped, `b` set, `c` dropped.
    pub fn changes(&self) -> Vec<Change> {
        let Self::Changes(all) = self else { return vec![] };
        let change = |(argument, n): &(&'static str, i64)| match *argument {
            "a" => Change::Cap { argument: "a".into(), at: Number::Int(*n) },
            "b" => Change::Set { argument: "b".into(), value: Value::Number(Number::Int(*n)) },
            other => Change::Drop { argument: other.into() },
        };
        all.iter().map(change).collect()
    }
    fn text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::People(all) => {
                let all: Vec<String> = all.iter().map(|(count, group)| format!("{count} of {group}")).collect();
                format!("@escalate(\"{}\")", all.join("; "))
            }
            Self::Context(what) => format!("@defer(\"{what}\")"),
            Self::Changes(all) => {
                let change = |(argument, n): &(&'static str, i64)| match *argument {
                    "a" => format!("cap a = {n}"),
                    "b" => format!("set b = {n}"),
                    other => format!("drop {other}"),
                };
                format!("@modify(\"{}\")", all.iter().map(change).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// One policy.
#[derive(Debug, Clone)]
pub struct Spec {
    pub permit: bool,
    pub asks: Asks,
    pub principal: Scope,
    pub action: Scope,
    pub resource: Scope,
    pub conditions: Vec<String>,
}

impl Spec {
    pub fn text(&self) -> String {
        format!(
            "{} {} ({}, {}, {}) {};",
            self.asks.text(),
            if self.permit { "permit" } else { "forbid" },
            self.principal.text("principal"),
            self.action.text("action"),
            self.resource.text("resource"),
            self.conditions.join(" ")
        )
    }
}

/// A pack's text: the policies under the ids `p0`, `p1`, ….
pub fn pack(specs: &[Spec]) -> String {
    specs.iter().enumerate().map(|(n, spec)| format!("@id(\"p{n}\") {}\n", spec.text())).collect()
}

fn one(items: &'static [&'static str]) -> impl Strategy<Value = &'static str> + Clone {
    proptest::sample::select(items)
}

/// Half the ids are the most usual one: policies are to match often.
fn id() -> impl Strategy<Value = &'static str> + Clone {
    prop_oneof![Just("x"), one(IDS)]
}

fn scope(
    own: &'static [&'static str],
    groups: &'static [&'static str],
    id: impl Strategy<Value = &'static str> + Clone + 'static,
) -> impl Strategy<Value = Scope> {
    prop_oneof![
        2 => Just(Scope::Any),
        2 => (one(own), id.clone()).prop_map(|(kind, id)| Scope::Eq(kind, id)),
        2 => (one(groups), id.clone()).prop_map(|(kind, id)| Scope::In(kind, id)),
        1 => one(own).prop_map(Scope::Is),
        2 => (one(own), one(groups), id).prop_map(|(is, kind, id)| Scope::IsIn(is, kind, id)),
    ]
}

fn action() -> impl Strategy<Value = Scope> {
    const KINDS: &[&str] = &["Action", "Action", "Action", "Other::Action"];
    prop_oneof![
        2 => Just(Scope::Any),
        2 => (one(KINDS), id()).prop_map(|(kind, id)| Scope::Eq(kind, id)),
        2 => (one(KINDS), id()).prop_map(|(kind, id)| Scope::In(kind, id)),
        2 => proptest::collection::vec((one(KINDS), id()), 0..5).prop_map(Scope::List),
    ]
}

fn changes() -> impl Strategy<Value = Asks> {
    let arguments = proptest::sample::subsequence(vec!["a", "b", "c"], 1..=3);
    (arguments, 1_i64..3).prop_map(|(all, n)| Asks::Changes(all.into_iter().map(|a| (a, n)).collect()))
}

fn asks() -> impl Strategy<Value = Asks> {
    let people = (1_u32..3, one(&["owners", "security"]));
    prop_oneof![
        2 => Just(Asks::Nothing),
        1 => proptest::collection::vec(people, 1..3).prop_map(Asks::People),
        1 => one(&["a ticket", "an owner"]).prop_map(Asks::Context),
        1 => changes(),
    ]
}

/// True, false, either, not a Boolean, or failing. What fails: an attribute or a tag that is not
/// there, a wrong type, an overflow (for some values), a decimal that is none, an entity that is not there.
const LEAVES: &[&str] = &[
    "true",
    "true",
    "false",
    "context.risk < 50",
    "context.risk",
    "principal.trust >= 1",
    "principal has nope",
    "principal.nope == 1",
    "principal has nope && principal.nope == 1",
    "principal.trust * 9223372036854775807 > 0",
    "principal.trust + 9223372036854775807 > 0",
    "-(0 - 9223372036854775807 - principal.trust) > 0",
    "context.risk == \"high\"",
    "context.risk < \"high\"",
    r#"context.text.getTag("a") == "x""#,
    r#"context.text.hasTag("a") && context.text.getTag("a") == "x""#,
    "context.text.hasTag(principal.id)",
    "context.text.getTag(context.tool) == principal.id",
    r#"context.number.getTag("a").lessThan(decimal("10.0"))"#,
    r#"context.number.hasTag("l.length") && context.number.getTag("l.length") == decimal("2.0")"#,
    "decimal(context.environment) == decimal(\"1.0\")",
    r#"context.flag.getTag("a")"#,
    r#"context.list.getTag("l").contains("x")"#,
    r#"context.list.hasTag("l") && context.list.getTag("l").containsAll(["x", "y"])"#,
    r#"context.budgets.getTag("b") > 4"#,
    r#"context.indicators.containsAny(["bulk", "financial"])"#,
    "resource.known",
    "resource.kind like \"*k*\"",
    "principal is Agent",
    "resource is Capability",
    r#"principal in Team::"x""#,
    r#"principal in [Team::"x", Agent::"y"]"#,
    r#"resource in Capability::"x""#,
    r#"action in [Action::"x", Action::"op:read"]"#,
    r#"action == Action::"y""#,
    "action in principal",
    "principal in context.risk",
    r#"Team::"x".id == "x""#,
    r#"Agent::"absent".trust > 1"#,
    "principal == resource",
    "{a: principal}.a.trust > 1",
    "context.session.intents > 40",
    "[principal, resource].contains(principal)",
    r#"Action::"x" in [Action::"y", Action::"op:read"]"#,
    r#"Resource::"x" == resource && resource has known"#,
    r#"Number::"arguments".hasTag("a")"#,
    r#"principal.hasTag("a")"#,
    r#"principal is Agent in Team::"x""#,
    r#"resource is Resource in Capability::"x""#,
    "principal has trust.x",
    "resource has owner.x && resource.known",
    "context has text.a",
    "context.session has tools.x",
    "context.session.allowed < context.session.intents",
    "context.session.declared || context.session.categories.contains(context.category)",
    "context.session",
    "context.session has tools && context.session.tools.contains(\"x\")",
    "context.session.tools.contains(context.tool)",
    "context has session.indicators && context.session.indicators == [\"bulk\"]",
    "context has session.indicators.nope",
    "context.session has nope",
    "context.session.nope == 1",
    "context.session.dataClass >= 3 && context.session.denied == 0",
    "context.session == context.session",
    "[context.session].contains({})",
    "{s: context.session}.s.intents > 40",
    "(if context.risk < 50 then context.session else context).risk == 1",
    "(if context.risk < 50 then context.session else {intents: 1}).intents > 0",
    "action == principal",
    r#"(if context.risk < 50 then action else principal) in Action::"d""#,
    r#"action in Action::"d""#,
    "action has nope",
    "action.nope == 1",
    r#"resource in [Capability::"x", Resource::"k/x"]"#,
    "resource in principal",
];

fn condition() -> impl Strategy<Value = String> {
    one(LEAVES).prop_map(|l| format!("({l})")).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("(!{a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} == {b})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("(if {a} then {b} else {c})")),
        ]
    })
}

pub fn spec() -> impl Strategy<Value = Spec> {
    let clause = (one(&["when", "when", "unless"]), condition()).prop_map(|(w, c)| format!("{w} {{ {c} }}"));
    (
        proptest::bool::weighted(0.7),
        asks(),
        scope(
            &["Agent", "Agent", "Agent", "Team", "Resource", "Other::Agent"],
            &["Team", "Team", "Agent", "Other::Team"],
            id(),
        ),
        action(),
        // A resource's id is `kind/id`.
        scope(
            &["Resource", "Resource", "Resource", "Capability", "Agent"],
            &["Capability", "Capability", "Resource", "Team"],
            prop_oneof![Just("k/x"), Just("x"), one(&["/x", "x/x", "k/y", "/"]), one(IDS)],
        ),
        proptest::collection::vec(clause, 0..3),
    )
        .prop_map(|(permit, asks, principal, action, resource, conditions)| {
            let asks = if permit { asks } else { Asks::Nothing };
            Spec { permit, asks, principal, action, resource, conditions }
        })
}

/// Up to `most` policies. In a fifth of the sets all are permits of anyone that ask for changes, with
/// few conditions: changes that contradict each other would otherwise hardly ever meet.
pub fn specs(most: usize) -> impl Strategy<Value = Vec<Spec>> {
    let changing = (spec(), changes()).prop_map(|(spec, changes)| Spec {
        permit: true,
        asks: changes,
        principal: Scope::Any,
        conditions: spec.conditions.into_iter().skip(1).collect(),
        ..spec
    });
    prop_oneof![
        4 => proptest::collection::vec(spec(), 1..=most),
        1 => proptest::collection::vec(changing, 1..=most),
    ]
}

/// A request and its domain.
pub fn asked() -> impl Strategy<Value = Asked> {
    let who = (id(), proptest::collection::vec(id(), 0..3), prop_oneof![Just(0_i64), Just(1), 0_i64..100]);
    let what = (id(), one(&["y", "c", "op:read", "X"]), one(&["d", "x", "y", "op:read"]), one(&["read", "", "x"]));
    let on = (one(&["k", "", "x"]), id(), proptest::option::of(id()));
    let with = (
        0_i64..100,
        one(&[
            "{}",
            r#"{"a":"x"}"#,
            r#"{"a":9.5,"x":"x"}"#,
            r#"{"a":true,"":"x"}"#,
            r#"{"l":["x","y"],"y":"y"}"#,
            r#"{"l":[],"a":-40}"#,
        ]),
        proptest::sample::subsequence(vec!["financial", "bulk"], 0..=2),
        proptest::option::of(0_i64..10),
    );
    (who, what, on, with).prop_map(
        |((agent, teams, trust), (tool, category, domain, operation), on, (risk, arguments, indicators, budget))| {
            let (kind, id, capability) = on;
            let mut asked = usual();
            asked.agent = agent.to_owned();
            asked.teams = teams.into_iter().map(str::to_owned).collect();
            asked.trust = trust;
            asked.tool = tool.to_owned();
            asked.category = category.to_owned();
            asked.domain = Some(domain.to_owned());
            asked.operation = operation.to_owned();
            asked.kind = kind.to_owned();
            asked.id = id.to_owned();
            asked.capability = capability.map(str::to_owned);
            asked.risk = risk;
            asked.arguments = arguments.to_owned();
            asked.indicators = indicators.into_iter().map(Into::into).collect();
            asked.session.intents = u32::try_from(risk).unwrap();
            asked.session.data_class = risk % 5;
            asked.session.allowed = u32::try_from(100 - risk).unwrap();
            if risk % 2 == 0 {
                asked.session.categories.insert(asked.category.as_str().into());
            }
            asked.session.tools = asked.teams.iter().map(|team| team.as_str().into()).collect();
            asked.budgets = budget.map(|n| ("b".to_owned(), n)).into_iter().collect();
            asked
        },
    )
}
